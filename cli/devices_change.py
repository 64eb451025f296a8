"""`pairing devices reject`, `remove`, `rename` and `clear`: what ends or names a device's access."""

from typing import TYPE_CHECKING, Any

import click

from .devices_lock import bounded
from .glass import breaking
from .options import Reach, Words, reaching, recorded, repeatable
from .running import answer
from .voice import Failure, Told, plain

if TYPE_CHECKING:
    from .door import Door
    from .naming import Listing

LAST = "last-operator"


@click.command("reject", short_help="Say no to exactly one open request.")
@click.argument("request")
@click.option("--ban", is_flag=True, help="Lock the device's key as well: it cannot ask again, nor come in.")
@bounded
@breaking
@repeatable
@reaching
def reject(request: str, ban: bool, terms: dict[str, Any], words: Words, reach: Reach) -> None:
    """Say no to exactly one open REQUEST, by its id or the start of it; with --ban also to whatever its device asks later."""
    if terms and not ban:
        raise click.UsageError("--for, --until and --message are for --ban.")
    answer(lambda: _reject(reach, request, {"ban": True, **terms} if ban else {}, words), reach.as_json)


@click.command("remove", short_help="End a device's access.")
@click.argument("device")
@breaking
@repeatable
@reaching
def remove(device: str, words: Words, reach: Reach) -> None:
    """End a DEVICE's access: its grant, its tokens, its open request and its live sessions."""
    answer(lambda: _remove(reach, device, words), reach.as_json)


@click.command("rename", short_help="Give a device a label.")
@click.argument("device")
@click.argument("label", required=False)
@click.option("--clear", "cleared", is_flag=True, help="Take the label away.")
@recorded
@reaching
def rename(device: str, label: str | None, cleared: bool, words: Words, reach: Reach) -> None:
    """Give a DEVICE a LABEL of 1 to 64 characters, by which it can be named."""
    if (label is None) != cleared:
        raise click.UsageError("Give a label, or --clear to take it away.")
    answer(lambda: _rename(reach, device, label, words), reach.as_json)


@click.command("clear")
@click.option("--yes", is_flag=True, help="Do it; without this nothing happens.")
@click.option("--pending", "also_pending", is_flag=True, help="Reject every open request as well.")
@breaking
@reaching
def clear(yes: bool, also_pending: bool, words: Words, reach: Reach) -> None:
    """Remove every paired device, but for the last one that can approve.

    That one stays, so that somebody is left to let others in; with --break-glass it goes too.
    """
    if not yes:
        raise Failure(2, "usage", "refusing to remove every paired device without --yes", "pairing devices list   shows them")
    answer(lambda: _clear(reach, also_pending, words), reach.as_json)


async def _reject(reach: Reach, text: str, ban: dict[str, Any], words: Words) -> Told:
    from .access import to_end
    from .devices_lock import till
    from .door import open_door
    from .naming import find_request
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        request, held = await find_request(door, text)
        if ban:
            asked = next((entry.get("deviceId") for entry in held.pending if entry.get("requestId") == request), None)
            paired = held.device(asked)
            await door.ask_for(to_end(paired) if paired else ())
        result = await door.call("device.pair.reject", params(words, requestId=request, **ban))
    device = plain(result.get("deviceId", "?"), 128)
    done = f"Rejected {device} ({plain(request, 128)})" + (f" and banned it{till(result)}" if ban else "")
    return Told(result, recorded_as(result, done, "Already rejected"))


async def _remove(reach: Reach, name: str, words: Words) -> Told:
    from .access import to_end
    from .door import open_door
    from .failures import about
    from .naming import find_device
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        found = await find_device(door, name)
        await door.ask_for(to_end(found.paired))
        with about(device=found.id[:12]):
            result = await door.call("device.pair.remove", params(words, deviceId=found.id))
    return Told(result, recorded_as(result, f"Removed {found.words}", "Already removed"))


async def _rename(reach: Reach, name: str, label: str | None, words: Words) -> Told:
    from .door import open_door
    from .naming import find_device
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        found = await find_device(door, name)
        result = await door.call("device.pair.rename", params(words, deviceId=found.id, label=label))
    if label is None:
        return Told(result, recorded_as(result, f"Unlabelled {found.id}", "Already without a label"))
    said = recorded_as(result, f"Renamed {found.id} to {plain(result.get('label', label))}", "Already named so")
    return Told(result, said)


async def _clear(reach: Reach, also_pending: bool, words: Words) -> Told:
    from .access import to_end
    from .door import open_door
    from .naming import listing

    async with open_door(reach) as door:
        held = await listing(door)
        await door.ask_for({scope for entry in held.paired for scope in to_end(entry)})
        removed, failed = await _remove_all(door, held, words)
        kept = [failure.lines[0] for failure in failed if failure.reason == LAST]
        failed = [failure for failure in failed if failure.reason != LAST]
        rejected: list[str] = []
        if also_pending:
            rejected, more = await _reject_all(door, await listing(door), words)
            failed += more
    document: dict[str, Any] = {"removedDevices": removed, "rejectedPending": rejected, "keptDevices": kept}
    if not (removed or rejected or failed or kept):
        return Told(document, "Nothing to clear.")
    lines = [f"Cleared {_count(len(removed), 'paired device')}"]
    lines += [f"Kept {plain(id, 128)}: no other device could approve after it" for id in kept]
    if also_pending:
        lines.append(f"Rejected {_count(len(rejected), 'pending request')}")
    if failed:
        raise _partly(lines, failed, document)
    notes = ("hint: to remove that one too: pairing devices clear --yes --break-glass --reason TEXT",) if kept else ()
    return Told(document, "\n".join(lines), notes)


async def _remove_all(door: "Door", held: "Listing", words: Words) -> tuple[list[str], list[Failure]]:
    # The caller's own device goes last: its removal ends the session.
    ids = sorted((str(entry.get("deviceId")) for entry in held.paired), key=lambda id: id == door.own)
    return await _each(door, "device.pair.remove", "deviceId", ids, words)


async def _reject_all(door: "Door", held: "Listing", words: Words) -> tuple[list[str], list[Failure]]:
    ids = [str(entry.get("requestId")) for entry in held.pending]
    said = {name: word for name, word in words.items() if name != "breakGlass"}
    return await _each(door, "device.pair.reject", "requestId", ids, said)


async def _each(door: "Door", method: str, key: str, ids: list[str], words: Words) -> tuple[list[str], list[Failure]]:
    """Call a method for each id. One that somebody else has dealt with in the meantime is no failure."""
    from pairing.client.errors import CallRefused
    from pairing.refusals import Exit, Refused

    from .failures import explained
    from .receipts import params

    done, failed = [], []
    for id in ids:
        try:
            await door.call(method, params(words, **{key: id}))
            done.append(id)
        except (Refused, CallRefused) as error:
            failure = explained(error)
            if failure is not None and failure.exit != Exit.NOT_FOUND:
                failure.lines = (id,)
                failed.append(failure)
    return done, failed


def _partly(lines: list[str], failed: list[Failure], document: dict[str, Any]) -> Failure:
    first = failed[0]
    notes = [f"  {plain(failure.lines[0], 128)}: {failure.message}" for failure in failed]
    refused = [{"id": failure.lines[0], "reason": failure.reason, "message": failure.message} for failure in failed]
    message = f"{'; '.join(lines)}; {_count(len(failed), 'refusal')}"
    return Failure(first.exit, first.reason, message, first.hint, details={**document, "refused": refused}, lines=notes)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
