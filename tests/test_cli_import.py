"""`pairing import openclaw`: what it prints, and how it ends when there is nothing, or nothing readable, to import."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import pairing
from pairing.identity import Identity
from pairing.refusals import Exit
from tests.folders import begun, positions

DEVICE = Identity((7).to_bytes(32, "big"))
TOKEN = "made-up-laptop-token-abcdefghijklmnopqrstuv"


def run(home: Path, *args: str) -> Result:
    return CliRunner().invoke(pairing, ["import", "openclaw", *args], env={"PAIRING_HOME": str(home)})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder in which a gateway has run once."""
    return begun(tmp_path / "home")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """The state folder of OpenClaw 2026.4 with one paired device."""
    folder = tmp_path / "theirs"
    (folder / "devices").mkdir(parents=True)
    token = {"token": TOKEN, "role": "operator", "scopes": ["operator.read"], "createdAtMs": 1}
    record = {"deviceId": DEVICE.device, "publicKey": DEVICE.key, "displayName": "Ada", "role": "operator"}
    record |= {"scopes": ["operator.read"], "tokens": {"operator": token}}
    (folder / "devices" / "paired.json").write_text(json.dumps({DEVICE.device: record}))
    return folder


def test_an_import_is_told_and_can_be_tried_first(home: Path, theirs: Path) -> None:
    """L12, D11: the dry run stores nothing, the second run changes nothing, and neither shows a token."""
    tried = run(home, str(theirs), "--dry-run")
    assert (tried.exit_code, "1 devices would be imported" in tried.stdout, positions(home)) == (Exit.FAILED, True, 0)
    done = run(home, str(theirs))
    assert (done.exit_code, "1 devices imported" in done.stdout, positions(home)) == (0, True, 2)
    again = json.loads(run(home, str(theirs), "--json").stdout)
    assert (again["ok"], again["imported"], again["alreadyHere"], positions(home)) == (True, 0, 1, 2)
    assert TOKEN not in tried.output + done.output + json.dumps(again)


def test_what_cannot_be_placed_is_listed_and_shows_in_the_exit_code(home: Path, theirs: Path) -> None:
    """L12: something is left to look at, so the exit code is not 0."""
    paired = theirs / "devices" / "paired.json"
    paired.write_text(json.dumps(json.loads(paired.read_text()) | {"f" * 64: {"deviceId": "f" * 64}}))
    result = run(home, str(theirs))
    assert (result.exit_code, "Could not be placed:" in result.stdout) == (Exit.FAILED, True)
    assert f"device {'f' * 64}: it is no such record" in result.stdout


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": }', "null"])
def test_a_store_that_cannot_be_read_is_never_taken_for_an_empty_one(home: Path, theirs: Path, content: str) -> None:
    """D1: it ends before anything is stored, and says which file it is."""
    (theirs / "devices" / "paired.json").write_text(content)
    result = run(home, str(theirs), "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["reason"]) == (Exit.BROKEN, "store-unreadable")
    assert str(theirs / "devices" / "paired.json") in error["message"]
    assert positions(home) == 0


def test_a_damaged_database_is_named(home: Path, theirs: Path) -> None:
    """D1: the same for the database of 2026.9, which is asked first."""
    (theirs / "state").mkdir()
    (theirs / "state" / "openclaw.sqlite").write_bytes(b"no database at all" * 100)
    result = run(home, str(theirs), "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]["reason"]) == (Exit.BROKEN, "store-unreadable")


def test_a_folder_without_a_store_is_not_found(home: Path, tmp_path: Path) -> None:
    """The message says what was looked for, and where it usually is."""
    result = run(home, str(tmp_path), "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["reason"]) == (Exit.NOT_FOUND, "no-store")
    assert "~/.openclaw" in error["message"]


def test_an_import_makes_no_log(tmp_path: Path, theirs: Path) -> None:
    """Nobody has set this gateway up yet: the hint says how."""
    result = run(tmp_path / "nowhere", str(theirs))
    assert (result.exit_code, "pairing serve" in result.output) == (Exit.BROKEN, True)
