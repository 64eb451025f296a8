"""Copies of a log: a backup made beside the writers, and a new state folder made from a backup or an export.

Nothing appears under its name before it was checked whole, and nothing that exists is ever written over.
"""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias
from uuid import UUID

from msgspec import Struct

from pairing.refusals import PairingError

from . import rows
from .errors import LogError
from .export import Reader
from .file import create, flush, opened, recognise, unavailable
from .port import Mark, Record
from .sweep import sweep

Progress: TypeAlias = Callable[[int, int], None]
_SQLITE = b"SQLite format 3\0"
_BATCH = 2_000
LOG = "log.db"


class InTheWay(PairingError):
    """Something is already where a copy was to be made; it was left as it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is there already and was left as it is")


class CopyDamaged(LogError):
    """A copy did not verify, and was not put in its place."""

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"the copy of {path} does not verify and was thrown away: {why}. Try: pairing log verify")


class Copied(Struct, frozen=True):
    """A copy that was checked whole: where it is, its last row, how many rows it has, and whether it was redacted."""

    path: Path
    mark: Mark
    rows: int
    redacted: bool = False


def back_up(path: Path, target: Path, *, key: str | None = None, progress: Progress | None = None) -> Copied:
    """Copy the log at `path`, while it is being written, to the new file `target`, 0600, and check all of it.

    `key`: the text of the gateway key, to be put beside it as `<target>.key`.
    Raises `InTheWay`, `CopyDamaged`, `LogError`, OSError.
    """
    beside = Path(f"{target}.key")
    for taken in (target, *((beside,) if key is not None else ())):
        if os.path.lexists(taken):
            raise InTheWay(taken)
    with _draft(target) as draft:
        try:
            with closing(opened(path, readonly=True)) as source, closing(sqlite3.connect(draft, isolation_level=None)) as copy:
                source.execute("BEGIN")
                source.backup(copy)
                # One file that is whole by itself, without a journal beside it.
                copy.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            raise unavailable(path, error) from error
        copied = _checked(draft, path, target, progress)
        flush(draft)
        if key is not None:
            with _draft(beside) as written:
                written.write_text(key, "ascii")
                flush(written)
                _publish(written, beside)
        _publish(draft, target)
    return copied


def bring_in(source: Path, folder: Path, *, key: str | None = None, progress: Progress | None = None) -> Copied:
    """Make a new state folder whose log is what a backup or a whole export holds, every byte and hash of it.

    `key`: the text of the gateway key it is to have. Raises `InTheWay`, `ExportUnusable`, `CopyDamaged`, `LogError`, OSError.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())):
        raise InTheWay(folder)
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    draft.mkdir(mode=0o700)
    try:
        with source.open("rb") as file:
            whole = file.read(len(_SQLITE)) == _SQLITE
        try:
            copied = _from_backup(source, draft, progress) if whole else _from_export(source, draft, progress)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise CopyDamaged(source, str(error)) from error
        if key is not None:
            with os.fdopen(os.open(draft / "gateway-key", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
        flush(draft)
        try:
            os.rename(draft, folder)  # takes the place of an empty folder only
        except OSError as error:
            if os.path.lexists(folder):
                raise InTheWay(folder) from error
            raise
        flush(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Copied(folder, copied.mark, copied.rows, copied.redacted)


def _from_backup(source: Path, draft: Path, progress: Progress | None) -> Copied:
    path = draft / LOG
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    shutil.copyfile(source, path)
    copied = _checked(path, source, path, progress)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
    flush(path)
    return copied


def _from_export(source: Path, draft: Path, progress: Progress | None) -> Copied:
    path = draft / LOG
    create(path)
    with source.open("rb") as file, closing(sqlite3.connect(path, isolation_level=None)) as database:
        reader = Reader(file)
        if reader.header.first != 1:
            raise CopyDamaged(source, f"it begins at position {reader.header.first}: only a whole export can become a log")
        database.execute("PRAGMA synchronous=OFF")
        database.execute("BEGIN")
        keys: dict[str, int] = {}
        for batch in _batches(reader.rows()):
            _insert(database, batch, keys)
            if progress is not None:
                progress(batch[-1][0].position, reader.header.last)
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        trailer = reader.trailer
    assert trailer is not None
    flush(path)
    mark = Mark(trailer.head.position, bytes.fromhex(trailer.head.hash))
    return Copied(path, mark, trailer.rows, reader.header.redacted)


def _batches(pairs: Iterator[tuple[Record, str]]) -> Iterator[list[tuple[Record, str]]]:
    batch: list[tuple[Record, str]] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _insert(database: sqlite3.Connection, batch: list[tuple[Record, str]], keys: dict[str, int]) -> None:
    fresh = [record.stream for record, _ in batch if record.stream not in keys]
    for stream in dict.fromkeys(fresh):
        keys[stream] = len(keys) + 1
        database.execute("INSERT INTO streams VALUES (?, ?)", (keys[stream], stream))
    database.executemany(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                record.position,
                keys[record.stream],
                record.version,
                record.kind,
                record.recorded_at,
                UUID(command).bytes,
                record.meta.decode(),
                record.body.decode(),
                None if record.personal is None else record.personal.decode(),
                record.personal_hash,
                record.hash,
            )
            for record, command in batch
        ],
    )


def _checked(path: Path, of: Path, shown: Path, progress: Progress | None) -> Copied:
    """Check a copy whole: pages, indexes, schema, and every row. Raises `CopyDamaged`, `LogError`."""
    recognise(path)
    with closing(opened(path, readonly=True)) as database:
        head = rows.head(database)
        if wrong := rows.examine(database):
            raise CopyDamaged(of, wrong[0])
    swept = sweep(path, head.position, progress=progress)
    if swept.faults:
        first = swept.faults[0]
        raise CopyDamaged(of, f"position {first.position}, {first.stream}: {first.why}")
    return Copied(shown, head, swept.rows)


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Lend a file, 0600, that has its name once all of it is written and durable. Raises `InTheWay`, OSError."""
    if os.path.lexists(target):
        raise InTheWay(target)
    with _draft(target) as draft:
        with draft.open("wb") as file:
            yield file
        flush(draft)
        _publish(draft, target)


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Lend a new, empty file, 0600, beside the target; whatever is left of it is gone afterwards."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        yield draft
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            Path(f"{draft}{end}").unlink(missing_ok=True)


def _publish(draft: Path, target: Path) -> None:
    try:
        os.link(draft, target)  # fails where a rename would take the place of something
    except FileExistsError:
        raise InTheWay(target) from None
    flush(target.parent)
