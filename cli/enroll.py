"""`pairing enroll`: setup codes and join keys, which let new devices in without a review of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .durations import DURATION
from .moments import Params, as_of, at_option
from .options import Reach, Words, reaching, recorded
from .running import answer
from .voice import Failure, Told, age, clock, duration, fields, moment, plain, table

if TYPE_CHECKING:
    from .door import Door

_SHORTEST = 4
_PROFILES = ("default", "limited", "node", "voice-node")
_STEPS = {
    "bound": "waits for approval",
    "redeemed": "let in",
    "delivered": "sent its tokens",
    "acknowledged": "uses its tokens",
}


@click.group("enroll", invoke_without_command=True)
@click.pass_context
def enroll(context: click.Context) -> None:
    """Mint, list, show and revoke setup codes.

    Whoever holds a code can have a new device let in, with exactly what the code gives and no review. CODE is a code's id, its
    first 4 or more characters, or its label; never the setup code itself.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@enroll.command("new", short_help="Mint a setup code, or a join key for several devices.")
@click.option("--profile", type=click.Choice(_PROFILES), help="What it gives (default): see below.")
@click.option("--role", "roles", multiple=True, type=click.Choice(["operator", "node"]), help="Instead of a profile; repeatable.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Instead of a profile; may be repeated.")
@click.option("--ceiling", "ceiling", multiple=True, metavar="SCOPE", help="Of the profile, give only what this covers.")
@click.option("--uses", type=click.IntRange(1, 1_000), default=1, show_default=True, help="How many devices may redeem it.")
@click.option("--expires", "expires_in", type=DURATION, metavar="SPAN", help="How long it lives, like 1h or 7d (10m).")
@click.option("--approves", is_flag=True, help="Let operators in without a review too, not only nodes.")
@click.option("--label", metavar="TEXT", help="What to call it in lists.")
@click.option("--gateway-url", metavar="URL", help="Where devices reach the gateway, like wss://gateway.example.net.")
@click.option("--setup-code-only", is_flag=True, help="Print the setup code and nothing else.")
@click.option("--no-qr", is_flag=True, help="Draw no QR picture.")
@recorded
@reaching
def new(
    profile: str | None,
    roles: tuple[str, ...],
    scopes: tuple[str, ...],
    ceiling: tuple[str, ...],
    uses: int,
    expires_in: int | None,
    approves: bool,
    label: str | None,
    gateway_url: str | None,
    setup_code_only: bool,
    no_qr: bool,
    words: Words,
    reach: Reach,
) -> None:
    """Mint a setup code and show it once, with a QR picture on a terminal.

    \b
    default     node and operator, to read, write, approve and talk
    limited     node and operator, to read
    voice-node  node and operator, to read and talk
    node        node alone
    """
    if profile is not None and (roles or scopes):
        raise click.UsageError("--profile does not go with --role and --scope.")
    if setup_code_only and reach.as_json:
        raise click.UsageError("--setup-code-only does not go with --json.")
    wanted: dict[str, Any] = {"uses": uses, "approves": approves, "label": label, "url": gateway_url}
    wanted |= {"profile": profile, "roles": roles or None, "scopes": scopes or None, "ceiling": ceiling or None}
    wanted |= {"expiresInMs": expires_in}
    if roles and not scopes:
        wanted["scopes"] = ()
    chosen = {key: value for key, value in wanted.items() if value is not None}
    answer(lambda: _new(reach, chosen, words, setup_code_only, not no_qr), reach.as_json)


@enroll.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that can be used no more.")
@at_option
@reaching
def list_(everything: bool, at: Params | None, reach: Reach) -> None:
    """List the setup codes that can be used, or could be then."""
    answer(lambda: _list(reach, everything, at), reach.as_json)


@enroll.command("show")
@click.argument("code")
@reaching
def show(code: str, reach: Reach) -> None:
    """Show a setup CODE and the devices that hold its uses. The setup code itself is shown at its minting alone."""
    answer(lambda: _show(reach, code), reach.as_json)


@enroll.command("revoke")
@click.argument("code")
@recorded
@reaching
def revoke(code: str, words: Words, reach: Reach) -> None:
    """Take a setup CODE back. Devices that it let in stay: remove them with `pairing devices remove`."""
    answer(lambda: _revoke(reach, code, words), reach.as_json)


async def _new(reach: Reach, wanted: dict[str, Any], words: Words, bare: bool, picture: bool) -> Told:
    from .door import open_door
    from .receipts import params, recorded_as
    from .voice import on_terminal

    async with open_door(reach, fallback=True) as door:
        await door.ask_for(_needed(wanted.get("roles") or ("operator",), wanted.get("scopes"), "scopes" not in wanted))
        result = await door.call("enroll.new", params(words, **wanted))
    code, entry = str(result.get("setupCode")), _entry(result.get("enrolment"))
    if bare:
        return Told(result, code)
    drawn = _picture(code) if picture and on_terminal() and not reach.as_json else ""
    what = f"Minted {_kind(entry)} {_id(entry)}, for {plain(result.get('gatewayUrl', '?'), 256)}"
    about = fields(_about(entry), "  ")
    text = f"{recorded_as(result, what, 'Already minted')}\n{about}\n{drawn}\n{code}"
    return Told(result, text, ("The setup code is shown this once: whoever reads it can let a device in.",))


async def _list(reach: Reach, everything: bool, at: Params | None) -> Told:
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        result = await door.call("enroll.list", {"all": everything, **(at or {})})
    held, then = _entries(result), result.get("recordedAtMs")
    said = f"\n\n{as_of(result.get('position'), then, True)}" if at else ""
    if not held:
        none = "No setup code." if everything else "No setup code can be used. See the others: pairing enroll list --all"
        return Told(result, none + said)
    now = then if isinstance(then, int) else clock()
    rows = [
        (
            str(entry.get("enrolmentId", "?"))[:12],
            plain(entry.get("label") or "", 24),
            plain(entry.get("state", "?")),
            _gives(entry),
            f"{plain(entry.get('redeemed', '?'))} of {plain(entry.get('uses', '?'))}",
            _left(entry, now),
            plain(entry.get("mintedBy") or "", 24),
        )
        for entry in held
    ]
    return Told(result, table(("Id", "Label", "State", "Gives", "Redeemed", "Expires", "Minted by"), rows) + said)


async def _show(reach: Reach, text: str) -> Told:
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        found = await _find(door, text)
        result = await door.call("enroll.show", {"enrolmentId": found.get("enrolmentId")})
    entry, now = _entry(result.get("enrolment")), clock()
    holders = [held for held in entry.get("holders") or [] if isinstance(held, dict)]
    rows = [
        (
            plain(held.get("deviceId", "?"))[:12],
            plain(held.get("displayName") or "", 32),
            _STEPS.get(str(held.get("step")), plain(held.get("step", "?"))),
            ", ".join(plain(role) for role in held.get("roles") or []) or "none",
            age(_number(held.get("boundAtMs")), now),
        )
        for held in holders
    ]
    shown = f"{_kind(entry).capitalize()} {_id(entry)}\n" + fields(
        [*_about(entry), ("state", plain(entry.get("state", "?")))], "  "
    )
    who = table(("Device", "Name", "Now", "Tokens", "First seen"), rows) if rows else "Nobody has used it."
    return Told(result, f"{shown}\n\n{who}")


async def _revoke(reach: Reach, text: str, words: Words) -> Told:
    from .door import open_door
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        entry = await _find(door, text)
        await door.ask_for(_needed(entry.get("roles") or (), entry.get("scopes"), False))
        code = str(entry.get("enrolmentId"))
        result = await door.call("enroll.revoke", params(words, enrolmentId=code))
    return Told(result, recorded_as(result, f"Revoked setup code {plain(code, 64)}", "Already revoked"))


def _needed(roles: Sequence[str], scopes: Sequence[str] | None, profile: bool) -> tuple[str, ...]:
    """Return what an operator must hold to mint or take back a code: what it gives, or operator.admin (protocol §6.9)."""
    from pairing.enrolment import HANDED_OUT

    given = tuple(scopes or ())
    if profile or "node" in roles or not set(given) <= set(HANDED_OUT):
        return ("operator.admin",)
    return given


async def _find(door: "Door", text: str) -> dict[str, Any]:
    """Return the code that an id, its start or a label means. Raises `Failure` where that is ambiguous (L14)."""
    from pairing.refusals import Exit

    text = text.strip()
    if len(text) > 64:
        said = "that is longer than any id or label; a setup code itself is never given as an argument"
        raise Failure(Exit.USAGE, "setup-code-in-arguments", said, "See the ids: pairing enroll list --all")
    held = _entries(await door.call("enroll.list", {"all": True}))
    exact = [entry for entry in held if entry.get("enrolmentId") == text]
    others = [
        entry
        for entry in held
        if (len(text) >= _SHORTEST and str(entry.get("enrolmentId")).startswith(text.lower()))
        or (text and str(entry.get("label") or "").casefold() == text.casefold())
    ]
    found = exact or others
    if len(found) > 1:
        lines = [f"  {plain(entry.get('enrolmentId', '?'), 64)}  {plain(entry.get('label') or '')}" for entry in found]
        details = {"candidates": [{"enrolmentId": entry.get("enrolmentId"), "label": entry.get("label")} for entry in found]}
        message = f"ambiguous setup code: {plain(text)} means {len(found)}"
        raise Failure(Exit.AMBIGUOUS, "ambiguous-setup-code", message, "Give more of the id.", details=details, lines=lines)
    return found[0] if found else {"enrolmentId": text}


def _entry(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _entries(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in result.get("enrolments") or [] if isinstance(entry, dict)]


def _about(entry: dict[str, Any]) -> list[tuple[str, str]]:
    expires, by = _number(entry.get("expiresAtMs")), plain(entry.get("mintedBy") or "", 80)
    rows = [
        ("label", plain(entry.get("label") or "")),
        ("gives", _gives(entry, full=True)),
        ("review", "none, operators included" if entry.get("approves") else "none for nodes; operators wait for approval"),
        ("redeemed", f"{plain(entry.get('redeemed', '?'))} of {plain(entry.get('uses', '?'))}"),
        ("expires", moment(expires) if expires is not None else "at an unknown time"),
        ("minted by", by),
    ]
    if entry.get("overuses"):
        rows.append(("tried in vain", f"recorded {plain(entry.get('overuses'))} times after its last use"))
    return [row for row in rows if row[1]]


def _gives(entry: dict[str, Any], *, full: bool = False) -> str:
    roles = " and ".join(plain(role) for role in entry.get("roles") or []) or "nothing"
    scopes = [plain(scope) for scope in entry.get("scopes") or []]
    if full:
        return f"{roles}, with {', '.join(scopes) or 'no scopes'}"
    return roles if entry.get("profile") == "custom" else f"{plain(entry.get('profile', '?'))} ({roles})"


def _left(entry: dict[str, Any], now: int) -> str:
    expires = _number(entry.get("expiresAtMs"))
    if expires is None:
        return "?"
    return f"in {duration(expires - now)}" if expires > now else age(expires, now)


def _kind(entry: dict[str, Any]) -> str:
    return "setup code" if entry.get("uses") == 1 else "join key"


def _id(entry: dict[str, Any]) -> str:
    return plain(entry.get("enrolmentId", "?"), 64)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _picture(code: str) -> str:
    """Return a QR picture in half blocks, light on dark as terminals mostly are; readers take it either way."""
    from io import StringIO

    import segno

    drawn = StringIO()
    segno.make(code, error="l").terminal(out=drawn, compact=True)
    return "\n" + drawn.getvalue()
