"""`pairing nodes`: what nodes ask to be allowed to do, and every decision about that. Their devices are in `pairing devices`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .moments import Params, as_of, at_option
from .options import Reach, Words, reaching, recorded, repeatable
from .running import answer
from .voice import Failure, Told, age, clock, fields, plain, table

if TYPE_CHECKING:
    from .access import Entry
    from .door import Door

_SHORTEST = 4


@click.group("nodes", invoke_without_command=True)
@click.pass_context
def nodes(context: click.Context) -> None:
    """Show, approve and manage what nodes may do.

    A node is let in as a device; what it may do is approved here. NODE is a node's id, its first 4 or more characters, or its
    name. What would be ambiguous is listed, and nothing is changed.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@nodes.command("pending")
@at_option
@reaching
def pending(at: Params | None, reach: Reach) -> None:
    """List the nodes that wait for approval, with what each declares and what its approver must hold."""
    answer(lambda: _pending(reach, at), reach.as_json)


@nodes.command("status")
@at_option
@reaching
def status(at: Params | None, reach: Reach) -> None:
    """List the approved nodes, and whether each is connected; or those that were approved at a moment."""
    answer(lambda: _status(reach, at), reach.as_json)


@nodes.command("approve", short_help="Approve exactly one node's request.")
@click.argument("request")
@recorded
@repeatable
@reaching
def approve(request: str, words: Words, reach: Reach) -> None:
    """Approve what exactly one REQUEST declares, named by its id or the start of it."""
    answer(lambda: _approve(reach, request, words), reach.as_json)


@nodes.command("reject", short_help="Say no to exactly one node's request.")
@click.argument("request")
@recorded
@repeatable
@reaching
def reject(request: str, words: Words, reach: Reach) -> None:
    """Say no to exactly one REQUEST, by its id or the start of it. What was approved before stays approved."""
    answer(lambda: _reject(reach, request, words), reach.as_json)


@nodes.command("remove", short_help="End the approval of a node.")
@click.argument("node")
@recorded
@repeatable
@reaching
def remove(node: str, words: Words, reach: Reach) -> None:
    """End the approval of a NODE. It stays paired and connected as a device."""
    answer(lambda: _remove(reach, node, words), reach.as_json)


@nodes.command("rename", short_help="Give an approved node a name.")
@click.argument("node")
@click.argument("name")
@recorded
@reaching
def rename(node: str, name: str, words: Words, reach: Reach) -> None:
    """Give an approved NODE a NAME of 1 to 64 characters."""
    answer(lambda: _rename(reach, node, name, words), reach.as_json)


async def _pending(reach: Reach, at: Params | None) -> Told:
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        held, when = await _listing(door, "pending", at)
    if not held:
        return _told("pending", held, when, "No node waits for approval.")
    now = clock() if when is None else when["recordedAtMs"]
    cards = "\n\n".join(_card(entry, now) for entry in held)
    return _told("pending", held, when, f"Pending ({len(held)})\n\n{cards}")


def _told(key: str, held: list[dict[str, Any]], when: dict[str, int] | None, text: str) -> Told:
    if when is None:
        return Told({key: held}, text)
    return Told({key: held, **when}, f"{text}\n\n{as_of(when['position'], when['recordedAtMs'], True)}")


def _card(entry: "Entry", now: int) -> str:
    from .access import texts

    asked, runs = entry.get("ts"), plain(entry.get("platform") or "")
    rows = [
        ("node", plain(entry.get("nodeId", "?"), 128)),
        ("commands", _words(texts(entry, "commands"))),
        ("capabilities", _words(texts(entry, "caps"))),
        ("from", ", ".join(text for text in (plain(entry.get("remoteIp") or "unknown address"), runs) if text)),
        ("asked", age(asked, now) if isinstance(asked, int) else "at an unknown time"),
        ("approver needs", _words(texts(entry, "requiredApproveScopes"))),
        ("request", plain(entry.get("requestId", "?"), 128)),
    ]
    return f"  {_called(entry)}{': approved for something else' if entry.get('isRepair') else ''}\n" + fields(rows, "    ")


async def _status(reach: Reach, at: Params | None) -> Told:
    from .access import texts
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        held, when = await _listing(door, "paired", at)
    if not held:
        return _told("nodes", held, when, "No node is approved.")
    now = clock() if when is None else when["recordedAtMs"]
    rows = []
    for entry in held:
        then = entry.get("approvedAtMs")
        rows.append(
            (
                plain(entry.get("nodeId", "?"))[:12],
                _called(entry),
                "-" if when else "connected" if entry.get("connected") else "away",
                age(then if isinstance(then, int) else None, now),
                _words(texts(entry, "commands")),
                _words(texts(entry, "caps")),
            )
        )
    shown = table(("Id", "Node", "Now", "Approved", "Commands", "Capabilities"), rows)
    return _told("nodes", held, when, shown)


async def _approve(reach: Reach, text: str, words: Words) -> Told:
    from .access import texts
    from .door import open_door
    from .receipts import params, recorded_as

    async with open_door(reach, fallback=True) as door:
        entry = await _find_request(door, text)
        await door.ask_for(texts(entry, "requiredApproveScopes"))
        request = str(entry.get("requestId"))
        with _said():
            result = await door.call("node.pair.approve", params(words, requestId=request))
    # The token is for whoever asks the gateway itself for it: a terminal keeps what it shows.
    node = {key: value for key, value in (result.get("node") or entry).items() if key != "token"}
    document = {**result, "node": node}
    said = recorded_as(result, f"Approved {_named(node)} ({plain(request, 128)})", "Already approved")
    return Told(document, f"{said}\n  commands: {_words(texts(node, 'commands'))}")


async def _reject(reach: Reach, text: str, words: Words) -> Told:
    from .door import open_door
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        entry = await _find_request(door, text)
        request = str(entry.get("requestId"))
        with _said():
            result = await door.call("node.pair.reject", params(words, requestId=request))
    done = f"Rejected {plain(result.get('nodeId', '?'), 128)} ({plain(request, 128)})"
    return Told(result, recorded_as(result, done, "Already rejected"))


async def _remove(reach: Reach, text: str, words: Words) -> Told:
    from .door import open_door
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        entry = await _find_node(door, text)
        result = await door.call("node.pair.remove", params(words, nodeId=entry.get("nodeId")))
    return Told(result, recorded_as(result, f"Removed {_named(entry)}", "Already removed"))


async def _rename(reach: Reach, text: str, name: str, words: Words) -> Told:
    from .door import open_door
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        entry = await _find_node(door, text)
        result = await door.call("node.rename", params(words, nodeId=entry.get("nodeId"), displayName=name))
    done = f"Renamed {plain(entry.get('nodeId', '?'), 128)} to {plain(result.get('displayName', name))}"
    return Told(result, recorded_as(result, done, "Already named so"))


async def _listing(door: "Door", key: str, at: Params | None = None) -> tuple[list[dict[str, Any]], dict[str, int] | None]:
    """Return the entries of one kind, and of the past which position they were true at and when that was recorded."""
    answered = await door.call("node.pair.list", at or {})
    found = answered.get(key)
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    when = {name: int(answered.get(name) or 0) for name in ("position", "recordedAtMs")}
    return entries, when if at else None


async def _find_request(door: "Door", text: str) -> "Entry":
    """Return the open request that an id or its start names; one that is not open goes to the gateway, which knows its end."""
    text = text.strip()
    held, _ = await _listing(door, "pending")
    exact = [entry for entry in held if entry.get("requestId") == text]
    begun = [entry for entry in held if len(text) >= _SHORTEST and str(entry.get("requestId")).startswith(text.lower())]
    return _one("request", text, exact or begun) or {"requestId": text}


async def _find_node(door: "Door", text: str) -> "Entry":
    """Return the approved node that an id, its start or a name means."""
    text = text.strip()
    held, _ = await _listing(door, "paired")
    exact = [entry for entry in held if entry.get("nodeId") == text]
    low = text.lower()
    others = [
        entry
        for entry in held
        if (len(text) >= _SHORTEST and str(entry.get("nodeId")).lower().startswith(low))
        or (low and str(entry.get("displayName") or "").casefold() == text.casefold())
    ]
    return _one("node", text, exact or others) or {"nodeId": text}


def _one(what: str, text: str, found: list[dict[str, Any]]) -> "Entry | None":
    from pairing.refusals import Exit

    if not text:
        raise Failure(Exit.USAGE, f"{what}-required", f"a {what} is required", "See which there are: pairing nodes status")
    if len(found) < 2:
        return found[0] if found else None
    lines = [f"  {plain(entry.get(f'{what}Id', '?'), 128)}  {_called(entry)}" for entry in found]
    details = {"candidates": [{f"{what}Id": entry.get(f"{what}Id"), "nodeId": entry.get("nodeId")} for entry in found]}
    message = f"ambiguous {what}: {plain(text)} means {len(found)}"
    raise Failure(Exit.AMBIGUOUS, f"ambiguous-{what}", message, "Give more of the id.", details=details, lines=lines)


@contextmanager
def _said() -> Iterator[None]:
    """Point a refusal at the requests of nodes, where the same words are used for those of devices."""
    from pairing.client.errors import WireRefusal
    from pairing.refusals import Refused

    from .failures import explained

    try:
        yield
    except (Refused, WireRefusal) as error:
        failure = explained(error)
        if failure is None:
            raise
        failure.hint = failure.hint.replace("pairing devices list", "pairing nodes pending")
        raise failure from None


def _called(entry: "Entry") -> str:
    return plain(entry.get("displayName") or "", 40) or plain(entry.get("nodeId", "?"))[:12]


def _named(entry: "Entry") -> str:
    node, name = plain(entry.get("nodeId", "?"), 128), plain(entry.get("displayName") or "", 40)
    return f"{name} {node}" if name else node


def _words(texts: tuple[str, ...]) -> str:
    return ", ".join(plain(text) for text in texts) or "none"
