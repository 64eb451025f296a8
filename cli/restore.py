"""`pairing restore` and `pairing undo`: going back. Both say first what that comes to, and do it only with `--yes`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .glass import breaking
from .moments import MOMENT, Params
from .options import Reach, Words, patience, reaching
from .running import answer
from .voice import Told, fields, moment, plain, table

if TYPE_CHECKING:
    from pairing.log.copies import Copied

_SHOWN = 100
_OUTCOMES = {
    "returns": "returns",
    "goes": "goes",
    "changes": "changes",
    "stays-out": "stays out",
    "refused": "refused",
}


@click.command("restore", short_help="Go back to how everything stood, bringing no dead secret to life.")
@click.option("--to", "then", type=MOMENT, required=True, metavar="POSITION|TIME", help="1234, 2h, 'yesterday 14:00'.")
@click.option("--device", metavar="DEVICE", help="Of this device alone.")
@click.option("--yes", is_flag=True, help="Do it; without it the plan is shown and nothing is done.")
@click.option("--into", type=click.Path(path_type=Path), help="Change nothing: make a new state FOLDER whose log ends there.")
@breaking
@reaching
def restore(then: Params, device: str | None, yes: bool, into: Path | None, words: Words, reach: Reach) -> None:
    """Take devices, what nodes may run, and setup codes back to how they stood at a position or a time.

    Nothing is rewritten: what differs is recorded as new events on a new timeline. What was revoked, rotated, locked or spent
    since then stays so; a device that returns must collect a new token, and one that was paired since then must ask again.
    The plan alone ends with exit code 1.
    """
    if into is not None:
        if yes or device:
            raise click.UsageError("--into makes a log that ends there, of all devices: leave --yes and --device out.")
        answer(lambda: _cut(reach, then, into), reach.as_json)
        return
    answer(lambda: _restore(reach, then, device, yes, words), reach.as_json)


@click.command("undo", short_help="Take one command back.")
@click.argument("what", metavar="POSITION|COMMAND")
@click.option("--bulk", is_flag=True, help="And everything else of one bulk: a prune, an import, a restore.")
@click.option("--yes", is_flag=True, help="Do it; without it the plan is shown and nothing is done.")
@breaking
@reaching
def undo(what: str, bulk: bool, yes: bool, words: Words, reach: Reach) -> None:
    """Take back what one command did: a removal, an approval, a label, a lock, a rejection, a code, what a node may run.

    It is named by the position of any of its events, or by its id. What came later stays: an act that was overtaken is not
    undone, and a token that is dead stays dead. The plan alone ends with exit code 1.
    """
    answer(lambda: _undo(reach, what, bulk, yes, words), reach.as_json)


async def _restore(reach: Reach, then: Params, device: str | None, yes: bool, words: Words) -> Told:
    from pairing.authority import ADMIN

    from .door import open_door
    from .naming import find_device
    from .receipts import params

    async with open_door(reach) as door:
        found = await find_device(door, device) if device else None
        await door.ask_for((ADMIN,))
        asked = {"to": then.get("at"), "toMs": then.get("atMs"), "deviceId": found.id if found else None}
        given = {key: value for key, value in asked.items() if value is not None}
        result = await door.call("history.restore", {**_said(params(words)), **given, "apply": yes}, within_ms=patience(reach))
    return _told_restore(result, yes, device)


def _said(words: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in words.items() if key != "receipt"}


def _told_restore(result: dict[str, Any], yes: bool, device: str | None) -> Told:
    counts, to = result.get("counts") or {}, result.get("to")
    when = result.get("toMs")
    place = f"position {to}" + (f", recorded {moment(when)}" if isinstance(when, int) else "")
    if not any(counts.values()):
        return Told(result, f"Nothing would change: {'the device' if device else 'everything'} stands as at {place}.")
    verbs = ("Taken back", "") if result.get("applied") else ("Going back", " would come to this")
    summary = fields(
        [
            ("returns", f"{counts.get('returns', 0)}, of which {result.get('collects', 0)} must collect a new token"),
            ("goes", f"{counts.get('goes', 0)}, paired or allowed since then"),
            ("changes", str(counts.get("changes", 0))),
            ("stays out", f"{counts.get('staysOut', 0)}, ended on purpose since then"),
            *((("refused", str(counts["refused"])),) if counts.get("refused") else ()),
        ]
    )
    text = f"{verbs[0]} to {place}{verbs[1]}:\n{summary}\n\n{_lines(result)}"
    if result.get("applied"):
        notes = (f"Timeline {result.get('epoch')} began at position {result.get('position')}. To take this back: "
                 f"pairing undo {result.get('position')} --bulk",)  # fmt: skip
        return Told(result, text, notes, 3 if counts.get("refused") else 0)
    if yes:
        return Told(result, text, ("Nothing of it can return, so nothing was done.",), 1)
    again = f"pairing restore --to {to}" + (f" --device {device}" if device else "") + " --yes"
    return Told(result, text, (f"Nothing was done. To do it: {again}",), 1)


def _lines(result: Mapping[str, Any]) -> str:
    lines = [line for line in result.get("lines") or () if isinstance(line, dict)]
    rows = [
        (
            str(line.get("family")),
            plain(line.get("id", "?"))[:12],
            _OUTCOMES.get(str(line.get("outcome")), "?"),
            _turned(line),
            plain(line.get("why") or "", 200) or _collects(line),
        )
        for line in lines[:_SHOWN]
    ]
    drawn = table(("What", "Id", "Outcome", "Access", "Note"), rows)
    return drawn if len(lines) <= _SHOWN else f"{drawn}\nand {len(lines) - _SHOWN} more: see --json"


def _turned(line: Mapping[str, Any]) -> str:
    gained = [f"+{plain(word)}" for word in line.get("gained") or ()]
    return " ".join((*gained, *(f"-{plain(word)}" for word in line.get("lost") or ())))


def _collects(line: Mapping[str, Any]) -> str:
    roles = [plain(role) for role in line.get("collects") or ()]
    return f"must collect a new {' and '.join(roles)} token" if roles else ""


async def _undo(reach: Reach, what: str, bulk: bool, yes: bool, words: Words) -> Told:
    from pairing.authority import ADMIN

    from .door import open_door
    from .receipts import params

    given: dict[str, Any] = {"commandId": what}
    number = what.strip().lstrip("#")
    if number.isascii() and number.isdecimal():
        given = {"position": int(number)}
    async with open_door(reach) as door:
        await door.ask_for((ADMIN,))
        result = await door.call(
            "history.undo", {**_said(params(words)), **given, "bulk": bulk, "apply": yes}, within_ms=patience(reach)
        )
    return _told_undo(result, what, bulk)


def _told_undo(result: dict[str, Any], what: str, bulk: bool) -> Told:
    left = [one for one in result.get("left") or () if isinstance(one, dict)]
    lines = result.get("lines") or ()
    parts = []
    if lines:
        parts.append(f"{'Undone' if result.get('applied') else 'Undoing it would come to this'}:\n{_lines(result)}")
    if left:
        said = [
            f"  position {one.get('position')} ({plain(one.get('kind', '?'))}): {plain(one.get('why', ''), 300)}" for one in left
        ]
        parts.append("\n".join(("What cannot be undone:", *said[:_SHOWN])))
    if not parts:
        parts.append("Nothing is left of it to undo.")
    text = "\n\n".join(parts)
    if result.get("applied"):
        refused = any(line.get("outcome") == "refused" for line in lines if isinstance(line, dict))
        return Told(result, text, (), 3 if refused else 0)
    again = f"pairing undo {plain(what)}{' --bulk' if bulk else ''} --yes"
    return Told(result, text, (f"Nothing was done. To do it: {again}",) if lines else (), 1)


async def _cut(reach: Reach, then: Params, folder: Path) -> Told:
    """Copy the rows up to a position, checked on the way, into a state folder of its own."""
    import tempfile
    from functools import partial

    import anyio.to_thread

    from pairing import moments
    from pairing.service import Call
    from pairing.settings import load

    from .compose import LOG, local_caller, open_service
    from .logs import configure

    if reach.url is not None:
        raise click.UsageError("--into works on the log of this host: leave --url out.")
    configure("error", "console")
    settings = load(env=os.environ, flags={})
    async with open_service(settings) as service:
        place = await moments.moment(Call(service, local_caller(), None), then.get("at"), then.get("atMs"))
        with tempfile.TemporaryDirectory(prefix="pairing-restore-") as draft:
            made = await anyio.to_thread.run_sync(partial(_ending_at, settings.home / LOG, place.position, Path(draft), folder))
    document = {"path": str(folder), "position": place.position, "rows": made.rows, "hash": made.mark.hash.hex()}
    notes = (
        f"Look at it: PAIRING_HOME={folder} pairing devices list",
        "It has no gateway key: put gateway-key there, or every token is void (pairing serve --new-key).",
    )
    return Told(document, f"Made {folder}, whose log ends at position {place.position}; every row of it was checked.", notes)


def _ending_at(path: Path, last: int, draft: Path, folder: Path) -> "Copied":
    """An export of the rows up to there, and a state folder made of it."""
    from pairing.log.copies import bring_in
    from pairing.log.export import write

    from .log_door import Progress

    progress, file = Progress("Copying"), draft / "log.jsonl"
    with file.open("wb") as out:
        for chunk in write(path, 1, last):
            out.write(chunk.text)
            progress(chunk.position, last)
    return bring_in(file, folder, progress=Progress("Checking"))
