"""`pairing restore` and `pairing undo`: what they print, that a plan does nothing, and a log that ends where it was asked to."""

import json
from pathlib import Path

import pytest

from pairing.identity import Identity
from pairing.refusals import Exit
from tests.folders import begun, bring, positions, run

DEVICE = Identity((9).to_bytes(32, "big"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder with one device, which was brought in from elsewhere."""
    folder = begun(tmp_path / "home", **{"gateway.pairing.keepLastOperator": False})
    bring(folder, tmp_path / "theirs", DEVICE)
    return folder


def test_a_plan_does_nothing_and_names_the_command_that_does(home: Path) -> None:
    """D11, L12: exit code 1 for what was only shown, 0 for what was done; doing it again says that nothing would change."""
    assert run(home, "devices", "remove", DEVICE.device[:8]).exit_code == 0
    before = positions(home)
    plan = run(home, "restore", "--to", "2")
    assert (plan.exit_code, positions(home)) == (Exit.FAILED, before)
    assert "pairing restore --to 2 --yes" in plan.stderr
    assert ("returns" in plan.stdout, "must collect a new operator token" in plan.stdout) == (True, True)
    done = json.loads(run(home, "restore", "--to", "2", "--yes", "--reason", "by mistake", "--json").stdout)
    assert (done["ok"], done["applied"], done["epoch"], done["counts"]["returns"]) == (True, True, 1, 1)
    again = run(home, "restore", "--to", "2")
    assert (again.exit_code, "Nothing would change" in again.stdout) == (Exit.OK, True)


def test_an_undo_shows_first_and_then_does(home: Path) -> None:
    """The position of any of a command's events names it, and so does the command's id."""
    assert run(home, "devices", "rename", DEVICE.device[:8], "front desk").exit_code == 0
    place = positions(home)
    plan = run(home, "undo", str(place))
    assert (plan.exit_code, positions(home)) == (Exit.FAILED, place)
    assert f"pairing undo {place} --yes" in plan.stderr
    done = json.loads(run(home, "undo", f"#{place}", "--yes", "--json").stdout)
    assert (done["ok"], done["applied"], positions(home)) == (True, True, place + 1)
    again = run(home, "undo", done["commandId"], "--yes")
    assert (again.exit_code, "came after it" in again.stdout) == (Exit.FAILED, True)


def test_a_log_can_be_made_that_ends_there(home: Path, tmp_path: Path) -> None:
    """Nothing here is changed, and what exists is never written over."""
    assert run(home, "devices", "rename", DEVICE.device[:8], "front desk").exit_code == 0
    before, folder = positions(home), tmp_path / "then"
    made = json.loads(run(home, "restore", "--to", "2", "--into", str(folder), "--json").stdout)
    assert (made["position"], positions(folder), positions(home)) == (2, 2, before)
    assert run(folder, "log", "verify").exit_code == 0
    taken = run(home, "restore", "--to", "2", "--into", str(folder))
    assert (taken.exit_code != 0, "is there already" in taken.stderr, positions(folder)) == (True, True, 2)


def test_a_position_that_there_is_not_is_named(home: Path) -> None:
    """The refusal says how far the log goes."""
    result = run(home, "restore", "--to", "9999")
    assert (result.exit_code != 0, "9999" in result.stderr) == (True, True)
