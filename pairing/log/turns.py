"""Turns between processes that write to one log: a lock file to queue on until the write transaction has begun.

SQLite's own waiting is a matter of luck when others write all the time. Who holds the lock file is next; whoever has just
written must queue again. It is about order alone: what keeps writers apart is SQLite's lock.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAP_S = 0.0001
_LONG_NAP_S = 0.002


class Turn:
    """One process's place in the queue of writers. Not for use by several threads at once."""

    def __init__(self, path: Path, *, patience_s: float = 10.0) -> None:
        self._file = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._patience_s = patience_s

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock file. Who waited in vain for long goes on without: a stopped process must not stop the others."""
        self._wait(time.monotonic() + self._patience_s / 2)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a write transaction when it is this process's turn. Raises sqlite3.OperationalError after long waiting."""
        with self.held():
            began = time.monotonic()
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as error:
                    waited = time.monotonic() - began
                    if code(error) != sqlite3.SQLITE_BUSY or waited > self._patience_s:
                        raise
                    time.sleep(_nap(waited))

    def close(self) -> None:
        """Leave the queue; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _wait(self, deadline: float) -> None:
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                now = time.monotonic()
                if now > deadline:
                    return
                time.sleep(_nap(now - began))


def code(error: Exception) -> int:
    """Return SQLite's primary result code of an error, 0 where it has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _nap(waited: float) -> float:
    return _NAP_S if waited < 0.05 else _LONG_NAP_S
