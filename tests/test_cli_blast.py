"""`pairing blast`: what it prints, and that it shuts out only what it was told to."""

import json
from pathlib import Path

import pytest

from pairing.identity import Identity
from pairing.refusals import Exit
from tests.folders import begun, bring, run

ONE, TWO = (Identity(number.to_bytes(32, "big")) for number in (11, 12))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder into which its owner has brought two devices."""
    folder = begun(tmp_path / "home")
    bring(folder, tmp_path / "theirs", ONE, TWO)
    return folder


def locked(home: Path) -> set[str]:
    listed = json.loads(run(home, "devices", "list", "--locked", "--json").stdout)
    return {entry["deviceId"] for entry in listed["locked"]}


def test_what_follows_is_shown_with_the_command_that_ends_it(home: Path) -> None:
    """L9: the command that is named does what it says, and nothing happens before it is given."""
    shown = run(home, "blast", "local")
    assert (shown.exit_code, ONE.device[:12] in shown.stdout, TWO.device[:12] in shown.stdout) == (0, True, True)
    assert "pairing blast local --lock --yes" in shown.stderr
    only = run(home, "blast", "local", "--lock")
    assert (only.exit_code, locked(home)) == (Exit.FAILED, set())
    done = run(home, "blast", "local", "--lock", "--yes", "--reason", "a stolen laptop")
    assert (done.exit_code, "Shut out 2 of 2" in done.stdout, locked(home)) == (0, True, {ONE.device, TWO.device})
    again = run(home, "blast", "local")
    assert "Nothing of it still stands" in again.stderr


def test_one_device_is_shut_out_alone(home: Path) -> None:
    """Who follows from nobody stays."""
    done = json.loads(run(home, "blast", ONE.device[:8], "--lock", "--yes", "--for", "2h", "--reason", "x", "--json").stdout)
    assert ([one["why"] for one in done["done"]], locked(home)) == ([None], {ONE.device})


def test_yes_without_lock_is_a_mistake(home: Path) -> None:
    """Nothing is meant by it."""
    assert run(home, "blast", "local", "--yes").exit_code == Exit.USAGE
