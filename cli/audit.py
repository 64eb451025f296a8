"""`pairing audit`: what happened, by whom, by what right, from where, why, and what it changed. It reads and changes nothing."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from .moments import MOMENT
from .options import Reach, reaching
from .voice import moment, plain, remark

if TYPE_CHECKING:
    pass

_PAGE = 200

Say = Callable[[dict[str, Any]], str]


@click.command("audit", short_help="Show what happened, by whom, why, and what it changed.")
@click.option("--device", metavar="DEVICE", help="What happened to this device: its id, the start of it, or its label.")
@click.option("--actor", metavar="WHO", help="What was done by a device, or by local, local:UID, timer, policy, shared-secret.")
@click.option("--address", metavar="IP", help="What came from this address.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Events of this kind, or family: token.rotated, 'token.*'.")
@click.option(
    "--reason", metavar="WORD", help="A reason or ticket, whole, or how access came to be: owner, silent, scope-upgrade."
)
@click.option("--command", "command", metavar="ID", help="All events of one command.")
@click.option("--since", type=MOMENT, metavar="TIME", help="From then on: 2h, yesterday, 2026-03-01T14:00Z, or a position.")
@click.option("--until", type=MOMENT, metavar="TIME", help="Up to then.")
@click.option("--from", "start", type=click.IntRange(0, 2**53), metavar="POSITION", help="After this position.")
@click.option("--to", "end", type=click.IntRange(0, 2**53), metavar="POSITION", help="Up to this position.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many events (50; with --follow, no end).")
@click.option("--refusals", is_flag=True, help="Also the connections that were turned away.")
@click.option("--follow", is_flag=True, help="Show events as they happen, oldest first, until Ctrl-C.")
@click.option("--csv", "form", flag_value="csv", help="Rows for a spreadsheet; no cell can be taken for a formula.")
@click.option("--cef", "form", flag_value="cef", help="Lines in the Common Event Format, for collectors.")
@reaching
def audit(
    device: str | None,
    actor: str | None,
    address: str | None,
    kinds: tuple[str, ...],
    reason: str | None,
    command: str | None,
    since: dict[str, int] | None,
    until: dict[str, int] | None,
    start: int | None,
    end: int | None,
    limit: int | None,
    refusals: bool,
    follow: bool,
    form: str | None,
    reach: Reach,
) -> None:
    """Show what happened, newest first: who did it, by what right, from where, to whom, why, and what it changed.

    All that is asked for must fit. With --json each event is one line of JSON (not one document), and a failure the last one.
    --follow goes on after --from, or after the present end, and loses and repeats nothing: it says where to go on.
    """
    from .running import run

    sought = {"device": device, "actor": actor, "address": address, "reason": reason, "commandId": command}
    params: dict[str, Any] = {key: text for key, text in sought.items() if text is not None}
    params |= {"kind": list(kinds)} if kinds else {}
    if reach.as_json and form:
        raise click.UsageError("Give one of --json, --csv and --cef.")
    say = _saying("json" if reach.as_json else form)
    if follow:
        if since or until or end is not None or refusals:
            raise click.UsageError("--follow goes with --from and the filters, not with --since, --until, --to or --refusals.")
        _follow(reach, params, start, limit, say)
        return
    params |= _bounds(since, until, start, end) | ({"refusals": True} if refusals else {})
    run(lambda: _list(reach, params, limit or 50, say))


def _bounds(since: dict[str, int] | None, until: dict[str, int] | None, start: int | None, end: int | None) -> dict[str, int]:
    """Return the ends of what is asked for: a time begins with its second, and ends with all of it."""
    after = max(
        (given for given in (start, since["at"] - 1 if since and "at" in since else None) if given is not None), default=None
    )
    to = min((given for given in (end, (until or {}).get("at")) if given is not None), default=None)
    found = {"from": after, "to": to}
    if since and "atMs" in since:
        found["sinceMs"] = since["atMs"] // 1000 * 1000
    if until and "atMs" in until:
        found["untilMs"] = until["atMs"] + 1
    return {key: value for key, value in found.items() if value is not None}


def _saying(form: str | None) -> Say:
    if form == "json":
        return json.dumps
    if form == "csv":
        from .audit_forms import columns, csv_head, csv_line

        click.echo(csv_head())
        return lambda event: csv_line(columns(event))
    if form == "cef":
        from importlib.metadata import version

        from .audit_forms import cef_line

        ours = version("pairing-gateway")
        return lambda event: cef_line(event, ours)
    return card


async def _list(reach: Reach, params: dict[str, Any], limit: int, say: Say) -> None:
    from .door import open_door

    told = 0
    async with open_door(reach, fallback=True) as door:
        cursor: dict[str, Any] = {}
        while told < limit:
            page = await door.call("audit.list", {**params, **cursor, "limit": min(_PAGE, limit - told)})
            for event in _merged(page):
                click.echo(say(event))
                told += 1
            if "next" not in page:
                break
            cursor = {"cursor": page["next"]}
    if not told and say is card:
        click.echo("Nothing of that is on record.")


def _merged(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Put refused contacts between the events, newest first."""
    contacts = [{"kind": "contact.refused", **contact} for contact in page.get("refused", ())]
    both = [*page.get("events", ()), *contacts]
    return iter(sorted(both, key=lambda e: (e.get("recordedAtMs", e.get("atMs", 0)), e.get("position", 0)), reverse=True))


def _follow(reach: Reach, params: dict[str, Any], start: int | None, limit: int | None, say: Say) -> None:
    from .following import Place, follow
    from .running import run

    reached, told = start, 0

    def tell(page: dict[str, Any]) -> bool:
        nonlocal reached, told
        for event in page.get("events", ()):
            click.echo(say(event))
            reached, told = event.get("position"), told + 1
            if told == limit:
                return True
        reached = page["position"]
        return False

    try:
        run(lambda: follow(reach, "audit.follow", {**params, "limit": min(limit or _PAGE, _PAGE)}, Place(start), tell))
    except KeyboardInterrupt:
        if reached is not None:
            remark(f"Go on with: pairing audit --follow --from {reached}")
        raise


def card(event: dict[str, Any]) -> str:
    """Return an event for a person: what happened on one line; below it by what right, from where, why, and what it changed."""
    from .audit_forms import access, columns

    told = columns(event)
    place = f"#{plain(told['position'])}" if told["position"] else "refused"
    at = event.get("recordedAtMs", event.get("atMs"))
    lines = [f"{place}  {moment(at) if isinstance(at, int) else 'at an unknown time'}  {plain(told['says'], 400)}"]
    by = [plain(told["actor"], 100), f"from {plain(told['address'])}" if told["address"] else "", plain(told["origin"])]
    lines.append("    " + plain(told["kind"]) + "".join(f", {part}" for part in by if part))
    if told["authority"]:
        lines.append(f"    by right of {plain(told['authority'], 200)}")
    because = [("reason", plain(told["reason"], 200)), ("ticket", plain(told["ticket"])), ("cause", plain(told["cause"]))]
    if why := ", ".join(f"{name}: {text}" for name, text in because if text):
        lines.append(f"    {why}")
    lines += [f"    {change}" for change in map(_changed, event.get("changes", ())) if change]
    for sign, key in (("+", "gained"), ("-", "lost")):
        if held := access(event.get(key)):
            lines.append(f"    {sign} {plain(held, 400)}")
    return "\n".join(lines)


def _changed(change: dict[str, Any]) -> str:
    """Return what a change did to a thing, field by field, where it had been and went on being."""
    before, after, what = change.get("before"), change.get("after"), plain(change.get("what", "?"))
    if before is None or after is None:
        return f"{what} {'came to be' if before is None else 'ended'}"
    differ = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    moved = [f"{plain(key)}: {_value(before.get(key))} → {_value(after.get(key))}" for key in differ]
    return f"{what} {'; '.join(moved)}" if moved else ""


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(plain(item) for item in value) or "none"
    return "none" if value is None else plain(value)
