"""`pairing log`: the event log itself. Reads and copies, beside a running gateway or without one; never makes a log (A20, D1)."""

from pathlib import Path
from typing import Any

import click

from .log_copies import backup, bring_in, export
from .log_door import lent
from .log_proofs import checkpoint, key, receipt
from .options import Reach, reaching
from .running import answer
from .voice import Failure, Told, age, clock, fields, moment, plain

_SHOWN = 20
_PLACE = {
    "truncation": "whether rows are missing after the last one; that needs a checkpoint that was kept elsewhere: "
    "pairing log verify --checkpoint FILE",
    "commands": "the command column of {unnamed} rows, whose meta names no command",
    "forgotten": "the personal part of {forgotten} rows, which was erased; its hash is in the chain",
    "unknownKinds": "what {unknown} events mean whose kinds this version does not know; their bytes are whole",
}


@click.group("log", invoke_without_command=True)
@click.pass_context
def log(context: click.Context) -> None:
    """Look at the event log itself: whether it is whole, proofs of that, and copies.

    It is read where it lies, beside a running gateway or without one. With --url the gateway there is asked.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (checkpoint, receipt, key, export, bring_in, backup):
    log.add_command(_command)


@log.command("status", short_help="Say where it is and how far it goes.")
@reaching
def status(reach: Reach) -> None:
    """Say where the log is, how far it goes, what its last row is, and by which key it is signed for."""
    answer(lambda: _status(reach), reach.as_json)


@log.command("verify", short_help="Check every row, and the end by a checkpoint.")
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), metavar="FILE", help='One that was kept elsewhere; "-" is standard input.'
)
@click.option("--key", "vkey", metavar="VKEY", help="The verifier key it is signed with, where that is not this gateway's.")
@reaching
def verify(checkpoint: Path | None, vkey: str | None, reach: Reach) -> None:
    """Check every row: hashes, positions, versions, times, commands, and the tables, indexes and triggers around them.

    With a checkpoint that was kept elsewhere a cut-off end shows, too. Exit code 7 where something is wrong; every fault is
    named by its position, and what could not be checked is said.
    """
    answer(lambda: _verify(reach, checkpoint, vkey), reach.as_json)


async def _status(reach: Reach) -> Told:
    async with lent(reach) as door:
        found = await door.call("log.status")
    at = found.get("lastRecordedAtMs")
    rows = [
        ("path", plain(found["path"], 4096)),
        ("position", str(found["position"])),
        ("streams", str(found["streams"])),
        ("size", f"{found['bytes']} bytes"),
        ("hash", plain(found["hash"])),
        ("last", "no event yet" if at is None else f"{moment(at)} ({age(at, clock())})"),
    ]
    rows += [("verifier key", plain(one, 200)) for one in found["verifiers"]]
    return Told(found, fields(rows, ""))


async def _verify(reach: Reach, checkpoint: Path | None, vkey: str | None) -> Told:
    from .log_door import anchored, text_of

    note = None if checkpoint is None else text_of(checkpoint)
    async with lent(reach, doing="Verifying") as door:
        if note is not None and vkey is not None:
            found = await anchored(door, note, vkey)
        else:
            found = await door.call("log.verify", {} if note is None else {"checkpoint": note})
        path = door.path
    return _verdict(path, found)


def _verdict(path: str, found: dict[str, Any]) -> Told:
    from pairing.refusals import Exit

    document = {"path": path, **found}
    anchor = found["anchor"]
    notes = tuple(f"Not checked: {_PLACE[gap].format(**_figures(found))}." for gap in found["notChecked"])
    missed = anchor["why"] if anchor else None
    if not (found["faultCount"] or found["structure"] or missed):
        count = found["rows"]
        said = f"Verified {count} {'row' if count == 1 else 'rows'} of {path}: every hash, version, time and index fits."
        if anchor:
            said += f"\n  checkpoint  its first {anchor['size']} rows are those that were signed for"
        return Told(document, f"{said}\n  last hash  {found['hash']}", notes)
    faults = found["faults"]
    lines = [f"  position {f['position']}  {plain(f['stream'], 128)}  {f['why']}" for f in faults[:_SHOWN]]
    if found["faultCount"] > len(lines):
        lines.append(f"  and {found['faultCount'] - len(lines)} more")
    lines += [f"  storage  {plain(line, 256)}" for line in found["structure"][:_SHOWN]]
    lines += [f"  checkpoint  {missed}"] if missed else []
    raise Failure(
        Exit.BROKEN,
        "log-damaged",
        f"{path} is damaged{_where(found)}",
        "Keep this file, and put a copy back that verifies. Streams without a fault go on working.",
        details=document,
        lines=[*lines, *notes],
    )


def _where(found: dict[str, Any]) -> str:
    if count := found["faultCount"]:
        words = f"{count} {'fault' if count == 1 else 'faults'} in {found['rows']} rows"
        return f" at position {found['faults'][0]['position']}: {words}"
    return " in its indexes; every row is whole" if found["structure"] else ": it is not what was signed for"


def _figures(found: dict[str, Any]) -> dict[str, int]:
    return {"unnamed": found["unnamed"], "forgotten": found["forgotten"], "unknown": sum(found["unknownKinds"].values())}
