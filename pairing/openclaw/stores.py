"""Finding and opening the stores of OpenClaw's gateway: the JSON files of 2026.4, the SQLite file of 2026.9. Read-only.

A store that is there and cannot be read ends the import before anything is written; it is never taken for an empty one (D1).
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from pairing.refusals import PairingError

DATABASE = Path("state", "openclaw.sqlite")
JSON_SOURCE, SQLITE_SOURCE = "OpenClaw 2026.4", "OpenClaw 2026.9"
_LARGEST = 512 * 1024 * 1024
_CODES = "SELECT count(*) FROM device_bootstrap_tokens"
_TABLES = {"device_pairing_paired", "device_pairing_pending"}


class NoStore(PairingError):
    """There is nothing of OpenClaw's gateway in this folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} holds neither devices/paired.json nor {DATABASE}; name the state folder of OpenClaw's gateway, "
            f"usually ~/.openclaw"
        )


class StoreUnreadable(PairingError):
    """A store is there and cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be read: {why}. Nothing was imported")


class Store(Struct, frozen=True):
    """What a state folder holds: records by id, not yet looked at. `aside` names what was there and was not read."""

    source: str
    path: Path
    paired: dict[str, Raw]
    pending: dict[str, Raw]
    nodes: dict[str, Raw]
    codes: int
    aside: tuple[Path, ...] = ()


def read(folder: Path) -> Store:
    """Read the store of a state folder. Raises `NoStore`, `StoreUnreadable`."""
    database, paired = folder / DATABASE, folder / "devices" / "paired.json"
    if _there(database):
        return _database(database, (paired,) if _there(paired) else ())
    if _there(paired) or _there(folder / "devices" / "pending.json"):
        return _files(folder)
    raise NoStore(folder)


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StoreUnreadable(path, error.strerror or type(error).__name__) from None


def _files(folder: Path) -> Store:
    devices = folder / "devices"
    return Store(
        source=JSON_SOURCE,
        path=devices,
        paired=_mapping(devices / "paired.json"),
        pending=_mapping(devices / "pending.json"),
        nodes=_mapping(folder / "nodes" / "paired.json"),
        codes=len(_mapping(devices / "bootstrap.json")),
    )


def _mapping(path: Path) -> dict[str, Raw]:
    if not _there(path):
        return {}
    try:
        if path.stat().st_size > _LARGEST:
            raise StoreUnreadable(path, f"it is larger than {_LARGEST} bytes")
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Raw])
    except OSError as error:
        raise StoreUnreadable(path, error.strerror or type(error).__name__) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise StoreUnreadable(path, "it is no JSON object of records") from None


def _database(path: Path, aside: tuple[Path, ...]) -> Store:
    try:
        with _copy(path) as database:
            found = {str(name) for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not found >= _TABLES:
                raise StoreUnreadable(path, f"it has no table {min(_TABLES - found)}")
            if (flaw := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise StoreUnreadable(path, f"it is damaged ({flaw})")
            return Store(
                source=SQLITE_SOURCE,
                path=path,
                paired=_rows(database, "SELECT device_id AS id, * FROM device_pairing_paired"),
                pending=_rows(database, "SELECT request_id AS id, * FROM device_pairing_pending"),
                nodes={},
                codes=database.execute(_CODES).fetchone()[0] if "device_bootstrap_tokens" in found else 0,
                aside=aside,
            )
    except sqlite3.Error as error:
        raise StoreUnreadable(path, str(error)) from None
    except OSError as error:
        raise StoreUnreadable(path, error.strerror or type(error).__name__) from None


@contextmanager
def _copy(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy, the write-ahead file included: the original is not touched, not even by SQLite's own bookkeeping."""
    with tempfile.TemporaryDirectory(prefix="pairing-import-") as place:
        copy = Path(place, "store.sqlite")
        for suffix in ("", "-wal"):
            if (part := Path(f"{path}{suffix}")).exists():
                shutil.copyfile(part, f"{copy}{suffix}")
        with closing(sqlite3.connect(copy)) as database:
            database.row_factory = sqlite3.Row
            yield database


def _rows(database: sqlite3.Connection, statement: str) -> dict[str, Raw]:
    return {str(row["id"]): _record(row) for row in database.execute(statement)}


def _record(row: sqlite3.Row) -> Raw:
    """Return a row as the JSON files spell it: `device_id` is `deviceId`, and what `tokens_json` holds is `tokens`."""
    record: dict[str, Any] = {}
    for name in row.keys():  # noqa: SIM118
        value = row[name]
        if value is None:
            continue
        if name.endswith("_json"):
            name, value = name.removesuffix("_json"), Raw(str(value).encode())
        head, *rest = name.split("_")
        record[head + "".join(part.capitalize() for part in rest)] = value
    return Raw(msgspec.json.encode(record))
