"""A look at the views' file from outside: how far it has followed the log, and whether SQLite finds it whole. Changes nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

from .store import VERSION


def reached(path: Path) -> int | None:
    """Return the position that the views stand at; None where they will be begun anew anyway. Raises `sqlite3.Error`."""
    if not path.exists():
        return None
    with closing(_opened(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return int(db.execute("SELECT position FROM mark").fetchone()[0]) if version == VERSION else None


def flaws(path: Path) -> tuple[str, ...]:
    """Return what SQLite finds wrong with the file, or nothing. Raises `sqlite3.Error`."""
    if not path.exists():
        return ()
    with closing(_opened(path)) as db:
        return tuple(text for (text,) in db.execute("PRAGMA quick_check(5)") if text != "ok")


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)
