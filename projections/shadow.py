"""Verifying the views: they are built anew beside those in use, and every row of both is compared. Those in use stay as they are.

The copy holds names and addresses as the views do; it lies in the same folder, for its owner alone, and is deleted at the end.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import anyio.to_thread

from pairing.listing import Difference
from pairing.log.port import EventLog

from .follow import Follower, Progress
from .store import Store

_FIRST = 3
_TRIES = 20
_PREFIX = ".views-verify-"


async def compare(source: EventLog, path: Path, progress: Progress | None = None) -> tuple[int, tuple[Difference, ...]]:
    """Return the position at which the views in a file were compared, and what differs, table by table.

    Raises `sqlite3.Error`, and TimeoutError where others write faster than the copy can follow.
    """
    with _folder(path) as folder:
        copy = await Store.open(folder / path.name)
        try:
            for _ in range(_TRIES):
                mark = await Follower(source, copy).follow(progress)
                found = await anyio.to_thread.run_sync(_differences, path, folder / path.name)
                if found is not None:
                    return mark.position, found
        finally:
            await copy.close()
    raise TimeoutError(f"the views went on {_TRIES} times while they were compared")


def sweep(path: Path) -> None:
    """Delete copies that a process left behind as it died."""
    for left in path.parent.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if not (pid.isdecimal() and Path(f"/proc/{pid}").exists()):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    sweep(path)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=path.parent))
    try:
        yield folder
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def _differences(path: Path, copy: Path) -> tuple[Difference, ...] | None:
    """Compare two files in one snapshot; None where the views in use stand elsewhere by now."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0)) as db:
        db.execute("ATTACH ? AS anew", (f"{copy.absolute().as_uri()}?mode=ro",))
        db.execute("BEGIN")
        used, built = (db.execute(f"SELECT position, hash FROM {where}.mark").fetchone() for where in ("main", "anew"))  # noqa: S608
        if used != built:
            return None
        tables = [name for (name,) in db.execute(_TABLES)]
        found = [difference for name in tables if (difference := _table(db, name)) is not None]
        flaws = tuple(text for (text,) in db.execute(f"PRAGMA main.integrity_check({_FIRST})") if text != "ok")
        if flaws:
            found.append(Difference("(file)", len(flaws), flaws))
        return tuple(found)


_TABLES = "SELECT name FROM anew.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"


def _table(db: sqlite3.Connection, name: str) -> Difference | None:
    columns = [column for _, column, *_ in db.execute(f'PRAGMA anew.table_info("{name}")')]
    ((keyed,),) = db.execute("SELECT wr FROM pragma_table_list WHERE schema = 'anew' AND name = ?", (name,)).fetchall()
    return _keyed(db, name) if keyed else _numbered(db, name, columns)


def _keyed(db: sqlite3.Connection, name: str) -> Difference | None:
    """Compare a table whose rows have no number: what one has and the other has not."""
    count, first = 0, list[str]()
    for one, other, words in (("anew", "main", "is missing"), ("main", "anew", "should not be there")):
        rows = f'SELECT * FROM {one}."{name}" EXCEPT SELECT * FROM {other}."{name}"'  # noqa: S608
        count += db.execute(f"SELECT count(*) FROM ({rows})").fetchone()[0]  # noqa: S608
        first += [f"{' '.join(map(str, row))} {words}" for row in db.execute(f"{rows} LIMIT {_FIRST}")]
    return Difference(name, count, tuple(first[:_FIRST])) if count else None


def _numbered(db: sqlite3.Connection, name: str, columns: list[str]) -> Difference | None:
    used, built = (", ".join(f'{alias}."{column}"' for column in columns) for alias in ("u", "b"))
    pairs = f'anew."{name}" b {{0}} JOIN main."{name}" u ON u.rowid = b.rowid'
    beyond = f'main."{name}" u LEFT JOIN anew."{name}" b ON b.rowid = u.rowid WHERE b.rowid IS NULL'
    wrong = (
        (f"SELECT b.rowid FROM {pairs.format('LEFT')} WHERE u.rowid IS NULL", "is missing"),  # noqa: S608
        (f"SELECT u.rowid FROM {beyond}", "should not be there"),  # noqa: S608
        (f"SELECT b.rowid FROM {pairs.format('')} WHERE ({used}) IS NOT ({built})", "says something else"),  # noqa: S608
    )
    count, first = 0, list[str]()
    for rows, words in wrong:
        count += db.execute(f"SELECT count(*) FROM ({rows})").fetchone()[0]  # noqa: S608
        for (number,) in db.execute(f"{rows} LIMIT {_FIRST}"):
            first.append(f"row {number} {words}{_which(db, name, number, columns) if words.startswith('says') else ''}")
    return Difference(name, count, tuple(first[:_FIRST])) if count else None


def _which(db: sqlite3.Connection, name: str, number: int, columns: list[str]) -> str:
    """Name the columns; what stands in them may be somebody's name."""
    rows = [db.execute(f'SELECT * FROM {where}."{name}" WHERE rowid = ?', (number,)).fetchone() for where in ("main", "anew")]  # noqa: S608
    return ": " + ", ".join(column for column, one, other in zip(columns, *rows, strict=True) if one != other)
