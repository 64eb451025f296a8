"""`pairing hooks`: where events are sent as they happen, and how far each receiver has got."""

from typing import TYPE_CHECKING, Any

import click

from .options import Reach, Words, reaching, recorded
from .running import answer
from .voice import Failure, Told, age, clock, duration, fields, plain

if TYPE_CHECKING:
    from .door import Door

_SHORTEST = 4


@click.group("hooks", invoke_without_command=True)
@click.pass_context
def hooks(context: click.Context) -> None:
    """Send events to other programs as they happen.

    Each event is posted as JSON, signed by the Standard Webhooks scheme, at least once and in its device's order. HOOK is a
    hook's id or its first 4 or more characters. All of it needs operator.admin.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@hooks.command("add", short_help="Send events to a URL from now on.")
@click.argument("receiver", metavar="URL")
@click.option("--kinds", "kinds", multiple=True, metavar="KIND[,KIND…]", help="Only these: request.opened, or a family: token.*")
@click.option("--people", is_flag=True, help="Send names, labels and addresses, too.")
@recorded
@reaching
def add(receiver: str, kinds: tuple[str, ...], people: bool, words: Words, reach: Reach) -> None:
    """Send events to a URL from now on: all about devices, nodes and setup codes, unless --kinds names others.

    The secret that its receiver checks signatures with is shown now and never again. The URL is recorded for ever: it must hold
    no secret. It is https, and of the public internet, unless gateway.hooks.allowPrivate is set.
    """
    named = [kind.strip() for given in kinds for kind in given.split(",") if kind.strip()]
    answer(lambda: _add(reach, receiver, named, people, words), reach.as_json)


@hooks.command("list")
@reaching
def list_(reach: Reach) -> None:
    """List the hooks, how far each is behind, and what was last wrong with it."""
    answer(lambda: _list(reach), reach.as_json)


@hooks.command("pause", short_help="Stop sending for a while.")
@click.argument("hook")
@recorded
@reaching
def pause(hook: str, words: Words, reach: Reach) -> None:
    """Stop sending to a HOOK until it is resumed. Nothing is lost meanwhile."""
    answer(lambda: _change(reach, "hooks.pause", hook, words, "Paused", "Paused before"), reach.as_json)


@hooks.command("resume", short_help="Go on sending where it stopped.")
@click.argument("hook")
@recorded
@reaching
def resume(hook: str, words: Words, reach: Reach) -> None:
    """Go on sending to a HOOK where it stopped."""
    answer(lambda: _change(reach, "hooks.resume", hook, words, "Resumed", "Not paused"), reach.as_json)


@hooks.command("replay", short_help="Send the past once more.")
@click.argument("hook")
@click.option("--from", "start", type=click.IntRange(0, 2**53), required=True, metavar="POSITION", help="After this position.")
@recorded
@reaching
def replay(hook: str, start: int, words: Words, reach: Reach) -> None:
    """Send everything after a position to a HOOK once more, under the ids that it had before; a paused hook goes on with it."""
    answer(lambda: _change(reach, "hooks.replay", hook, words, f"Replaying from {start}", "", **{"from": start}), reach.as_json)


@hooks.command("remove", short_help="Send nothing more there.")
@click.argument("hook")
@recorded
@reaching
def remove(hook: str, words: Words, reach: Reach) -> None:
    """Send nothing more to a HOOK; what was not delivered never will be."""
    answer(lambda: _change(reach, "hooks.remove", hook, words, "Removed", ""), reach.as_json)


async def _add(reach: Reach, url: str, kinds: list[str], people: bool, words: Words) -> Told:
    from pairing.authority import ADMIN

    from .door import open_door
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        await door.ask_for((ADMIN,))
        result = await door.call("hooks.add", params(words, url=url, kinds=kinds, people=people))
    hook = plain(result.get("hookId", "?"))
    said = recorded_as(result, f"Added hook {hook}", "Added before")
    secret = ("signing secret", plain(result.get("secret", "none came"), 128))
    return Told(result, f"{said}\n{fields([secret])}", ("Keep the secret with the receiver now: it is not shown again.",))


async def _list(reach: Reach) -> Told:
    from pairing.authority import ADMIN

    from .door import open_door

    async with open_door(reach) as door:
        await door.ask_for((ADMIN,))
        result = await door.call("hooks.list", {})
    held = _entries(result)
    if not held:
        return Told(result, "There is no hook.")
    now = clock()
    return Told(result, "\n\n".join(_card(entry, now) for entry in held))


def _card(entry: dict[str, Any], now: int) -> str:
    paused, retry = entry.get("paused"), entry.get("retryAtMs")
    status = f"paused ({plain(paused)})" if paused else "sending"
    if not paused and isinstance(retry, int) and retry > now:
        status = f"tries again in {duration(retry - now)}"
    since, error, at = entry.get("owedSinceMs"), entry.get("lastError"), entry.get("lastErrorAtMs")
    lag = f"{plain(entry.get('lag', '?'))} positions" + (f", {duration(now - since)}" if isinstance(since, int) else "")
    delivered = entry.get("lastDeliveredAtMs")
    rows = [
        ("to", plain(entry.get("url", "?"), 200)),
        ("events", ", ".join(plain(kind) for kind in entry.get("kinds", ())) or "all about devices"),
        ("people", "sent" if entry.get("people") else "left out"),
        ("status", status),
        ("behind", lag + (f"; {plain(entry['waiting'])} devices wait" if entry.get("waiting") else "")),
        ("attempts", f"{plain(entry.get('attempts', 0))}, {plain(entry.get('failures', 0))} failed"),
        ("last delivered", age(delivered if isinstance(delivered, int) else None, now)),
    ]
    if error:
        rows.append(("last error", plain(error, 120) + (f" ({age(at, now)})" if isinstance(at, int) else "")))
    return f"{plain(entry.get('hookId', '?'))}\n" + fields(rows)


async def _change(reach: Reach, method: str, text: str, words: Words, done: str, again: str, **more: Any) -> Told:
    from pairing.authority import ADMIN

    from .door import open_door
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        await door.ask_for((ADMIN,))
        hook = await _find(door, text.strip())
        result = await door.call(method, params(words, hookId=hook, **more))
    return Told(result, recorded_as(result, f"{done}: hook {plain(hook)}", again))


async def _find(door: "Door", text: str) -> str:
    """Return the hook that an id or its start means; one that is not there goes to the gateway, which says so."""
    from pairing.refusals import Exit

    if not text:
        raise Failure(Exit.USAGE, "hook-required", "a hook is required", "See which there are: pairing hooks list")
    ids = [str(entry.get("hookId")) for entry in _entries(await door.call("hooks.list", {}))]
    found = [id for id in ids if id == text] or [id for id in ids if len(text) >= _SHORTEST and id.startswith(text.lower())]
    if len(found) < 2:
        return found[0] if found else text
    lines = [f"  {plain(id)}" for id in found]
    message = f"ambiguous hook: {plain(text)} means {len(found)}"
    raise Failure(Exit.AMBIGUOUS, "ambiguous-hook", message, "Give more of the id.", details={"candidates": found}, lines=lines)


def _entries(result: dict[str, Any]) -> list[dict[str, Any]]:
    found = result.get("hooks")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
