"""`pairing log`: where it is, and whether it is what was written."""

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import pairing
from pairing import ids
from pairing.log.port import Draft, Slice
from pairing.log.sqlite import SqliteLog
from pairing.refusals import Exit

NOW = 1_777_000_000_000


def run(home: Path, *args: str) -> Result:
    return CliRunner().invoke(pairing, ["log", *args], env={"PAIRING_HOME": str(home)})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder whose log holds seven rows of two streams."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)

    async def write() -> None:
        log = await SqliteLog.open(folder / "log.db")
        for version in range(6):
            draft = Draft("request.opened", b"{}", b'{"n":%d}' % version)
            await log.append([Slice("device:a", version, (draft,))], command=ids.uuid7(NOW + version), now=NOW + version)
        await log.append([Slice("gateway", 0, (Draft("gateway.started", b"{}", b"{}"),))], command=ids.uuid7(NOW), now=NOW + 9)
        await log.close()

    asyncio.run(write())
    return folder


def tamper(home: Path, statement: str) -> None:
    """Change a row behind the back of the file's own guards."""
    database = sqlite3.connect(home / "log.db")
    guards = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        database.execute(f"DROP TRIGGER {name}")
    database.execute(statement)
    for _, guard in guards:
        database.execute(guard)
    database.commit()
    database.close()


def test_status_says_how_far_the_log_goes(home: Path) -> None:
    """Path, last position, streams, size, hash and time of the last row."""
    found = json.loads(run(home, "status", "--json").stdout)
    assert (found["path"], found["position"], found["streams"], found["lastRecordedAtMs"]) == (
        str(home / "log.db"),
        7,
        2,
        NOW + 9,
    )
    shown = run(home, "status").stdout
    assert found["hash"] in shown
    assert "position  7" in shown


def test_a_good_log_verifies_and_says_what_was_not_checked(home: Path) -> None:
    """A chain alone cannot show that its end was cut off; that is said, not hidden (L5, L10)."""
    result = run(home, "verify")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Verified 7 rows of {home / 'log.db'}")
    assert "Not checked: whether rows are missing after the last one" in result.stderr
    found = json.loads(run(home, "verify", "--json").stdout)
    assert (found["position"], found["faults"], found["notChecked"]) == (7, [], ["truncation", "commands"])
    assert found["hash"] == json.loads(run(home, "status", "--json").stdout)["hash"]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE events SET body = '{\"n\":9}' WHERE position = 3", "hash"),
        ("UPDATE events SET recorded_at = 5 WHERE position = 3", "hash"),
        ("DELETE FROM events WHERE position = 3", "version 4 follows version 2"),
    ],
)
def test_a_changed_row_is_found_at_its_position(home: Path, statement: str, why: str) -> None:
    """Alteration and deletion are exit 7 and name the exact place (L5)."""
    tamper(home, statement)
    result = run(home, "verify")
    at = 4 if "DELETE" in statement else 3
    assert result.exit_code == Exit.BROKEN
    assert f"is damaged at position {at}:" in result.stderr
    assert why in result.stderr
    error = json.loads(run(home, "verify", "--json").stdout)["error"]
    assert error["reason"] == "log-damaged"
    assert error["details"]["faults"][0]["position"] == at
    assert error["details"]["faults"][0]["stream"] == "device:a"


def test_a_log_without_a_log_is_not_made(tmp_path: Path) -> None:
    """Looking at the log makes none (A20, D1)."""
    for command in ("status", "verify"):
        result = run(tmp_path / "home", command)
        assert result.exit_code == Exit.NOT_FOUND
        assert "pairing serve" in result.stderr
    assert not (tmp_path / "home").exists()


def test_what_is_no_log_is_left_as_it_is(tmp_path: Path) -> None:
    """A file that is none of ours is broken, with the next step as the hint."""
    (tmp_path / "log.db").write_text("hello")
    result = run(tmp_path, "verify", "--json")
    assert result.exit_code == Exit.BROKEN
    assert json.loads(result.stdout)["error"]["reason"] == "not-a-log"
    assert (tmp_path / "log.db").read_text() == "hello"


def test_reading_changes_nothing(home: Path) -> None:
    """Status and verify leave the file byte for byte."""
    before = (home / "log.db").read_bytes()
    run(home, "status")
    run(home, "verify")
    assert (home / "log.db").read_bytes() == before
