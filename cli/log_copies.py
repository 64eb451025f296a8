"""`pairing log export`, `import` and `backup`: copies of the log, each checked whole before it has its name."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Reach, json_option, reaching
from .running import answer
from .voice import Failure, Told, fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from typing import BinaryIO

    from pairing.log.copies import Copied
    from pairing.log.export import Chunk

    from .log_door import Progress, _Here, _There


@click.command("export", short_help="Write lines of JSON that anybody can check.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--from", "first", type=click.IntRange(min=1), metavar="POSITION", help="The first row (1).")
@click.option("--to", "last", type=click.IntRange(min=1), metavar="POSITION", help="The last row (the log's last).")
@click.option("--redact", is_flag=True, help="A support bundle: the same history with every device, name and address made up.")
@reaching
def export(file: Path, first: int | None, last: int | None, redact: bool, reach: Reach) -> None:
    """Write the log to FILE as lines of JSON that anybody can check (docs/log.md); "-" is standard output.

    The same rows give the same bytes. It holds names and addresses unless --redact is given, and never a secret.
    """
    answer(lambda: _free(_export(reach, file, first, last, redact)), reach.as_json)


@click.command("import", short_help="Make a new state folder of a backup or an export.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--into", "folder", required=True, type=click.Path(path_type=Path), help="The new state folder; empty, or not there."
)
@click.option("--with-key", is_flag=True, help="Take the gateway key that stands beside a backup as FILE.key.")
@json_option
def bring_in(file: Path, folder: Path, with_key: bool, as_json: bool) -> None:
    """Make a new state folder from FILE, a backup or a whole export: the same rows, the same hashes.

    Everything is checked before the folder has its name. Nothing that exists is changed.
    """
    answer(lambda: _free(_import(file, folder, with_key)), as_json)


@click.command("backup", short_help="Copy the log beside its writers, checked whole.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--with-key", is_flag=True, help="Write the gateway key beside it, to FILE.key. Whoever has both can make tokens.")
@reaching
def backup(file: Path | None, with_key: bool, reach: Reach) -> None:
    """Copy the log to FILE while it is being written, and check the copy whole before it has its name.

    One SQLite file, 0600, without the gateway key. A gateway named with --url keeps it in `backups` of its own state folder
    instead, and says where. `pairing log import FILE --into FOLDER` makes a state folder of it.
    """
    answer(lambda: _free(_backup(reach, file, with_key)), reach.as_json)


async def _free(work: "Awaitable[Told]") -> Told:
    """Do it, and where something is in the way say how to make the path free."""
    from pairing.log.copies import InTheWay
    from pairing.refusals import Exit

    try:
        return await work
    except InTheWay as taken:
        path = shlex.quote(str(taken.path))
        hint = f"Name a path that is free, or make it free: mv {path} {path}.old"
        raise Failure(Exit.REFUSED, "in-the-way", str(taken), hint) from None


async def _export(reach: Reach, file: Path, first: int | None, last: int | None, redact: bool) -> Told:
    from .log_door import _There, lent

    if redact and first not in {None, 1}:
        raise click.UsageError("A redacted export begins with the first row: leave --from out.")
    async with lent(reach, doing="Exporting") as door:
        end = (await door.call("log.status"))["position"]
        span = first or 1, last or end
        if span[1] > end or (span[0] > span[1] and span != (1, 0)):
            raise _beyond(span, end)
        if not isinstance(door, _There):
            return await _written(door, file, span, redact)
        if redact:
            raise click.UsageError("Only the log's own host can redact: leave --redact out, or run it there.")
        return await _fetched(door, file, span)


def _beyond(span: tuple[int, int], end: int) -> Failure:
    from pairing.refusals import Exit

    said = f"there are no rows from {span[0]} to {span[1]}: the log ends at position {end}"
    return Failure(Exit.NOT_FOUND, "unknown-position", said, "See how far it goes: pairing log status")


async def _written(door: "_Here", file: Path, span: tuple[int, int], redact: bool) -> Told:
    import secrets
    from functools import partial

    import anyio.to_thread

    from pairing.log import export as exporting
    from pairing.log.redact import Redactor

    from .log_door import Progress

    chunks = exporting.write(door.custody.path, *span, Redactor(secrets.token_bytes(32)) if redact else None)
    await anyio.to_thread.run_sync(partial(_save, file, chunks, Progress("Exporting"), span[1]))
    return _wrote(file, span, redact=redact)


def _wrote(file: Path, span: tuple[int, int], *, redact: bool) -> Told:
    count = span[1] - span[0] + 1
    document = {"path": str(file), "first": span[0], "last": span[1], "rows": count, "redacted": redact}
    if str(file) == "-":
        return Told(document)
    kind = "redacted rows" if redact else "rows"
    note = () if redact else ("It holds names and addresses; for somebody else use --redact.",)
    return Told(document, f"Wrote {count} {kind} to {file}", note)


async def _fetched(door: "_There", file: Path, span: tuple[int, int]) -> Told:
    """Write an export from a gateway's pages, and check it whole before it has its name."""
    import tempfile

    import msgspec

    from pairing.log.chain import GENESIS
    from pairing.log.export import Making, Reader, Row
    from pairing.log.port import Mark

    from .log_door import Progress

    progress, mark = Progress("Exporting"), Mark(span[0] - 1, b"")
    with tempfile.TemporaryFile() as draft:
        page = await door.call("log.export", {"after": mark.position, "limit": min(500, max(1, span[1] - mark.position))})
        making = Making(*span, bytes.fromhex(page["previous"]))
        draft.write(making.begin())
        while mark.position < span[1]:
            lines = [(text.encode(), bytes.fromhex(msgspec.json.decode(text, type=Row).hash)) for text in page["rows"]]
            mark = Mark(mark.position + len(lines), lines[-1][1])
            draft.write(making.add(lines))
            progress(mark.position, span[1])
            if mark.position < span[1]:
                page = await door.call("log.export", {"after": mark.position, "limit": min(500, span[1] - mark.position)})
        draft.write(making.end(mark if mark.hash else GENESIS))
        draft.seek(0)
        for _ in Reader(draft).rows():
            pass
        draft.seek(0)
        _save(file, _pieces(draft), Progress("Writing"), span[1])
    return _wrote(file, span, redact=False)


def _pieces(draft: "BinaryIO") -> "Iterator[Chunk]":
    from pairing.log.export import Chunk

    while text := draft.read(1 << 20):
        yield Chunk(text, 0)


def _save(file: Path, chunks: "Iterator[Chunk]", progress: "Progress", end: int) -> None:
    from pairing.log.copies import new_file

    if str(file) == "-":
        out = sys.stdout.buffer
        for chunk in chunks:
            out.write(chunk.text)
        out.flush()
        return
    with new_file(file) as out:
        for chunk in chunks:
            out.write(chunk.text)
            progress(chunk.position, end)


async def _import(file: Path, folder: Path, with_key: bool) -> Told:
    from functools import partial

    import anyio.to_thread

    from pairing.log.copies import bring_in as bringing_in

    from .log_door import Progress

    key = _key_of(Path(f"{file}.key")) if with_key else None
    if not _is_file(file):
        raise Failure(4, "no-file", f"there is no file {file}", "Name a backup or an export.")
    work = partial(bringing_in, file, folder, key=key, progress=Progress("Checking"))
    copied = await anyio.to_thread.run_sync(work)
    notes = [f"Look at it: PAIRING_HOME={folder} pairing log verify"]
    if key is None:
        notes.append("It has no gateway key: put gateway-key there, or every token is void (pairing serve --new-key).")
    if copied.redacted:
        notes.append("It is a redacted history: its devices are made up, and none of them exists.")
    return Told(_document(copied, redacted=copied.redacted), _said(copied, "Made"), tuple(notes))


async def _backup(reach: Reach, file: Path | None, with_key: bool) -> Told:
    from functools import partial

    import anyio.to_thread

    from pairing.log.copies import back_up

    from .log_door import Progress, _There, lent

    async with lent(reach, doing="Checking") as door:
        if isinstance(door, _There):
            if file is not None or with_key:
                raise click.UsageError(
                    "A gateway elsewhere chooses the place, and gives its key to nobody: leave FILE and --with-key out."
                )
            found = await door.call("log.backup")
            return Told(found, f"The gateway wrote {found['path']} on its host, {found['rows']} rows, checked whole.")
        if file is None:
            raise click.UsageError("Missing argument 'FILE'.")
        key = _own_key() if with_key else None
        copied = await anyio.to_thread.run_sync(partial(back_up, door.custody.path, file, key=key, progress=Progress("Checking")))
    notes = ("The gateway key is not in it; keep that elsewhere, or tokens are void with a new one.",)
    if key is not None:
        notes = (f"{file}.key is the gateway key: whoever has it can make tokens.",)
    return Told(_document(copied, withKey=with_key), _said(copied, "Wrote"), notes)


def _is_file(path: Path) -> bool:
    return path.is_file()


def _own_key() -> str:
    from pairing import keyring as keys
    from pairing.settings.home import default_home

    found = keys.load(default_home(os.environ), os.environ.get(keys.ENV))
    if found is None:
        raise Failure(7, "no-key", "there is no gateway key to put beside the backup", "Leave --with-key out.")
    return keys.text(found)


def _key_of(path: Path) -> str:
    from pairing import keyring as keys

    if not path.is_file():
        raise Failure(4, "no-key", f"there is no gateway key at {path}", "Leave --with-key out.")
    return keys.text(keys.read(path))


def _document(copied: "Copied", **more: object) -> dict[str, Any]:
    return {
        "path": str(copied.path),
        "position": copied.mark.position,
        "hash": copied.mark.hash.hex(),
        "rows": copied.rows,
        **more,
    }


def _said(copied: "Copied", verb: str) -> str:
    rows = [("rows", f"{copied.rows}, every one checked"), ("last hash", copied.mark.hash.hex())]
    return f"{verb} {copied.path}\n{fields(rows)}"
