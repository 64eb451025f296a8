"""`pairing log`: the event log itself. Reads only, beside a running gateway or without one; never makes a log (A20, D1)."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import json_option
from .running import answer
from .voice import Failure, Told, age, clock, fields, moment, plain

if TYPE_CHECKING:
    from pairing.log.chain import Fault
    from pairing.log.port import Mark, Record
    from pairing.log.sqlite import SqliteLog

_BATCH = 2_000
_SHOWN = 20
_UNANCHORED = "Not checked: whether rows are missing after the last one; that needs a mark that was kept elsewhere."


@click.group("log", invoke_without_command=True)
@click.pass_context
def log(context: click.Context) -> None:
    """Look at the event log itself."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@log.command("status")
@json_option
def status(as_json: bool) -> None:
    """Say where the log is, how far it goes and what its last row is."""
    answer(_status, as_json)


@log.command("verify")
@json_option
def verify(as_json: bool) -> None:
    """Check every row: hashes, positions, versions of every stream, times.

    Exit code 7 where something is wrong; every fault is named by its position.
    """
    answer(_verify, as_json)


@asynccontextmanager
async def _opened() -> "AsyncIterator[tuple[Path, SqliteLog]]":
    from pairing.log.sqlite import SqliteLog
    from pairing.refusals import Exit
    from pairing.settings.home import default_home

    from .logs import configure

    path = default_home(os.environ) / "log.db"
    if not _there(path):
        raise Failure(Exit.NOT_FOUND, "no-log", f"there is no log at {path}", "Start the gateway once: pairing serve")
    configure("error", "console")
    events = await SqliteLog.open(path, readonly=True)
    try:
        yield path, events
    finally:
        await events.close()


def _there(path: Path) -> bool:
    return os.path.lexists(path)


async def _status() -> Told:
    async with _opened() as (path, events):
        head = await events.head()
        last = await events.scan(after=head.position - 1, limit=1) if head.position else ()
        streams: set[str] = set()
        async for batch in _batches(events, head.position, "Counting streams"):
            streams.update(record.stream for record in batch)
    at = last[0].recorded_at if last else None
    size = sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists())
    document = {
        "path": str(path),
        "position": head.position,
        "streams": len(streams),
        "bytes": size,
        "hash": head.hash.hex(),
        "lastRecordedAtMs": at,
    }
    rows = [
        ("path", str(path)),
        ("position", str(head.position)),
        ("streams", str(len(streams))),
        ("size", f"{size} bytes"),
        ("hash", head.hash.hex()),
        ("last", "no event yet" if at is None else f"{moment(at)} ({age(at, clock())})"),
    ]
    return Told(document, fields(rows, ""))


async def _verify() -> Told:
    from pairing.log.chain import Verifier

    verifier = Verifier()
    faults: list[Fault] = []
    checked = 0
    async with _opened() as (path, events):
        head = await events.head()
        async for batch in _batches(events, head.position, "Verifying"):
            checked += len(batch)
            faults.extend(verifier.faults(batch))
        # The chain proves the rows; this the ways to them.
        structure = await events.examine()
    return _verdict(path, checked, head, faults, structure)


def _verdict(path: Path, checked: int, head: "Mark", faults: "list[Fault]", structure: tuple[str, ...]) -> Told:
    from pairing.refusals import Exit

    document: dict[str, Any] = {
        "path": str(path),
        "position": head.position,
        "rows": checked,
        "hash": head.hash.hex(),
        "faults": [{"position": f.position, "stream": f.stream, "why": f.why} for f in faults],
        "structure": list(structure),
        "notChecked": ["truncation"],
    }
    if not faults and not structure:
        said = f"Verified {checked} {'row' if checked == 1 else 'rows'} of {path}: every hash, version, time and index fits."
        return Told(document, f"{said}\n  last hash  {head.hash.hex()}", (_UNANCHORED,))
    lines = [f"  position {f.position}  {plain(f.stream, 128)}  {f.why}" for f in faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        lines.append(f"  and {len(faults) - _SHOWN} more")
    lines += [f"  storage  {plain(line, 256)}" for line in structure[:_SHOWN]]
    count = f"{len(faults)} {'fault' if len(faults) == 1 else 'faults'}"
    where = f" at position {faults[0].position}: {count} in {checked} rows" if faults else " in its indexes; every row is whole"
    raise Failure(
        Exit.BROKEN,
        "log-damaged",
        f"{path} is damaged{where}",
        "Keep this file, and put a copy back that verifies. Streams without a fault go on working.",
        details=document,
        lines=lines,
    )


async def _batches(events: "SqliteLog", end: int, doing: str) -> "AsyncIterator[tuple[Record, ...]]":
    """Yield the rows up to a position, with progress where a person watches."""
    after, shown = 0, sys.stderr.isatty() and end > _BATCH
    while after < end and (batch := await events.scan(after=after, limit=min(_BATCH, end - after))):
        yield batch
        after = batch[-1].position
        if shown:
            click.echo(f"\r{doing}: {after} of {end}", err=True, nl=after >= end)
