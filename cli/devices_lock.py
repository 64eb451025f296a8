"""`pairing devices lock` and `unlock`: keep a key out, paired or not, and let it in again."""

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .ahead import SpanType, UntilType
from .glass import breaking
from .options import Reach, Words, reaching, recorded, repeatable
from .running import answer
from .voice import Told, clock, duration, moment, plain

if TYPE_CHECKING:
    from .door import Door
    from .naming import Named

F = TypeVar("F", bound=Callable[..., Any])
_ID = re.compile(r"[0-9a-f]{64}")


def bounded(command: F) -> F:
    """Give a command `--for`, `--until` and `--message`, as one `terms`: the params of a lock."""

    @functools.wraps(command)
    def asked(*args: Any, span: int | None, until: int | None, message: str | None, **rest: Any) -> Any:
        if span is not None and until is not None:
            raise click.UsageError("Give --for or --until, not both.")
        given = {"forMs": span, "untilMs": until, "message": message}
        return command(*args, terms={key: value for key, value in given.items() if value is not None}, **rest)

    for option in (
        click.option("--message", metavar="TEXT", help="What whoever holds the device is told when it is refused."),
        click.option("--until", type=UntilType(), metavar="TIME", help="When it ends: '2027-03-01 14:00', 18:00."),
        click.option("--for", "span", type=SpanType(), metavar="SPAN", help="How long: 30m, 2h, 90d."),
    ):
        asked = option(asked)
    return asked  # type: ignore[return-value]


@click.command("lock", short_help="Keep a device out, for a time or until unlocked.")
@click.argument("device")
@bounded
@breaking
@repeatable
@reaching
def lock(device: str, terms: dict[str, Any], words: Words, reach: Reach) -> None:
    """Keep a DEVICE out until it is unlocked, or for a time.

    Its sessions end at once, and it can neither log in nor ask to be paired; its access and tokens stay as they are for
    afterwards. A key that was never paired can be banned in the same way, by its full id.
    """
    answer(lambda: _lock(reach, device, terms, words), reach.as_json)


@click.command("unlock", short_help="Let a locked device in again.")
@click.argument("device")
@recorded
@repeatable
@reaching
def unlock(device: str, words: Words, reach: Reach) -> None:
    """Let a locked DEVICE in again: what it had before works as it did."""
    answer(lambda: _unlock(reach, device, words), reach.as_json)


async def _lock(reach: Reach, name: str, terms: dict[str, Any], words: Words) -> Told:
    from .access import to_end
    from .door import open_door
    from .failures import about
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        found = await _find(door, name)
        await door.ask_for(to_end(found.paired) if found.paired else ())
        with about(device=found.id[:12]):
            result = await door.call("device.lock", params(words, deviceId=found.id, **terms))
    what = "Banned" if result.get("banned") else "Locked"
    return Told(result, recorded_as(result, f"{what} {found.words}{till(result)}", f"Already {what.lower()}"))


async def _unlock(reach: Reach, name: str, words: Words) -> Told:
    from .access import to_end
    from .door import open_door
    from .failures import about
    from .naming import find_device
    from .receipts import params, recorded_as

    async with open_door(reach) as door:
        found = await find_device(door, name)
        await door.ask_for(to_end(found.paired) if found.paired else ())
        with about(device=found.id[:12]):
            result = await door.call("device.unlock", params(words, deviceId=found.id))
    return Told(result, recorded_as(result, f"Unlocked {found.words}", "Already not locked"))


async def _find(door: "Door", name: str) -> "Named":
    """A full id need not be known: a key can be banned before it ever comes."""
    from pairing.client.errors import CallRefused
    from pairing.refusals import Reason, Refused

    from .naming import Named, find_device

    try:
        return await find_device(door, name)
    except (Refused, CallRefused) as error:
        if error.reason is not Reason.UNKNOWN_DEVICE or not _ID.fullmatch(name.strip()):
            raise
        return Named(name.strip(), 0, None, None, (), (), (), ())


def till(entry: Any) -> str:
    """Say until when something is locked."""
    end = entry.get("lockedUntilMs")
    return f" until {moment(end)} (for {duration(end - clock())})" if isinstance(end, int) else " until it is unlocked"


def locks(entries: Any, now: int) -> str:
    """Lay out the keys that are kept out."""
    from .access import called, short
    from .voice import age, table

    rows = []
    for entry in entries:
        by, at = entry.get("by") or {}, entry.get("lockedAtMs")
        name = called(entry)
        rows.append(
            (
                short(entry),
                "" if name == short(entry) else name,
                ("banned" if entry.get("banned") else "locked") + ("" if entry.get("paired") else ", not paired"),
                till(entry).strip(),
                age(at if isinstance(at, int) else None, now),
                plain(f"{by.get('kind', '')} {str(by.get('id', ''))[:12]}".strip()),
                plain(entry.get("reason") or "", 40),
                plain(entry.get("message") or "", 40),
            )
        )
    return table(("Id", "Device", "Lock", "Until", "Since", "By", "Reason", "Message"), rows)
