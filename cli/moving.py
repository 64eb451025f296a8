"""`pairing import`: devices of another gateway go on here, with the tokens that they have.

It works on this host's log itself, beside a running gateway or without one: the values of tokens leave no file for a wire.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Words, json_option, recorded
from .running import answer
from .voice import Failure, Told, plain, table

if TYPE_CHECKING:
    from pairing.openclaw.moving import Line, Report
    from pairing.openclaw.stores import Store

_SHOWN = 50
_SAID = {"imported": "imported", "already-here": "already here", "not-placed": "not placed"}


@click.group("import", invoke_without_command=True)
@click.pass_context
def imports(context: click.Context) -> None:
    """Take over the devices of another gateway."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@imports.command("openclaw", short_help="Take over the devices of OpenClaw's own gateway.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would come of it, and store nothing.")
@recorded
@json_option
def openclaw(folder: Path, dry_run: bool, words: Words, as_json: bool) -> None:
    """Take over what FOLDER, the state folder of OpenClaw's gateway (usually ~/.openclaw), holds: paired devices with their
    tokens, labels, and what nodes may run. It is read and left as it is: JSON files of 2026.4, the database of 2026.9.

    Stop that gateway first: what it changes later is not seen. Devices keep the tokens that they have; here only a keyed hash of
    each is stored, until its first rotation. What cannot be placed is listed with its reason; then, and after --dry-run, the exit
    code is 1. It can be repeated: what is here already is left as it is, and what was removed here does not come back.
    """
    answer(lambda: _import(folder, dry_run, words), as_json)


async def _import(folder: Path, dry: bool, words: Words) -> Told:
    from pairing.openclaw.moving import move
    from pairing.openclaw.stores import NoStore, StoreUnreadable, read
    from pairing.refusals import Exit
    from pairing.settings import load

    from .compose import local_caller, open_service
    from .logs import configure

    configure("error", "console")
    try:
        store = read(folder)
    except NoStore as error:
        raise Failure(Exit.NOT_FOUND, "no-store", str(error), f"pairing import openclaw {Path('~/.openclaw')}") from None
    except StoreUnreadable as error:
        hint = "Put a copy back that can be read, and try again; nothing was changed."
        raise Failure(Exit.BROKEN, "store-unreadable", str(error), hint) from None
    async with open_service(load(env=os.environ, flags={})) as service:
        report = await move(service, local_caller(), store, words, dry=dry, watch=_progress)
    return _told(store, report, dry)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 100 == 0 or done == total) and total > 500:
        click.echo(f"\rImporting: {done} of {total}", err=True, nl=done == total)


def _told(store: "Store", report: "Report", dry: bool) -> Told:
    import msgspec

    document: dict[str, Any] = {
        "source": store.source,
        "path": str(store.path),
        "dryRun": dry,
        "imported": report.count("imported"),
        "alreadyHere": report.count("already-here"),
        "notPlaced": report.count("not-placed"),
        "nodes": report.count("imported", "node"),
        "lines": msgspec.to_builtins(report.lines),
        "unplaced": msgspec.to_builtins(report.unplaced),
        "left": msgspec.to_builtins(report.left),
    }
    would = "would be imported" if dry else "imported"
    text = [
        f"{store.source}, {store.path}: {document['imported']} devices {would}, {document['alreadyHere']} already here, "
        f"{document['notPlaced']} not placed; {document['nodes']} nodes' approvals {would}."
    ]
    if report.lines:
        text.append(table(("What", "Id", "Name", "Outcome", "Holds"), [_row(line, dry) for line in report.lines[:_SHOWN]]))
    if len(report.lines) > _SHOWN:
        text.append(f"and {len(report.lines) - _SHOWN} more: see --json")
    for title, left in (("Could not be placed:", report.unplaced), ("Left behind:", report.left)):
        if left:
            text += [title, *(f"  {plain(one.what, 128)}: {plain(one.why, 256)}" for one in left[:_SHOWN])]
        if len(left) > _SHOWN:
            text.append(f"  and {len(left) - _SHOWN} more: see --json")
    notes = tuple(f"{path} is there too and was not read: the database is newer." for path in store.aside)
    if dry:
        notes += ("Nothing was stored. To do it, leave --dry-run out.",)
    return Told(document, "\n".join(text), notes, 1 if dry or report.unplaced else 0)


def _row(line: "Line", dry: bool) -> tuple[str, ...]:
    said = "would be imported" if dry and line.outcome == "imported" else _SAID[line.outcome]
    runs = ", ".join(line.commands) or "nothing"
    holds = ", ".join((*line.roles, *line.scopes)) if line.kind == "device" else f"may run {runs}"
    return (line.kind, line.id[:12], plain(line.name or "", 40), said, plain(holds, 100))
