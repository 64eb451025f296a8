"""Transcripts of looking back: over a real gateway, and on the log where none runs."""

from pathlib import Path

import pytest

from pairing.refusals import Exit
from tests.test_cli_devices import House, started, stopped


class Told:
    """One story told over a gateway, which is then stopped: the positions at which it turned, and what was said meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.house = House(folder)
        process = started(self.house)
        try:
            self.device = self.house.pair("laptop", "--scope", "operator.read")
            self.node = self.house.pair("camera", "--role", "node")
            self.paired = self.position()
            self.house.say("devices", "rename", self.device, "Hall")
            self.house.say("devices", "revoke", "--device", self.device, "--role", "operator", "--reason", "lost")
            self.revoked = self.position()
            self.house.say("devices", "remove", self.device)
            self.over = self.looks()
        finally:
            stopped(process)

    def position(self) -> int:
        return int(self.house.json("devices", "list")["position"])

    def looks(self) -> dict[tuple[str, ...], str]:
        """What every look back says, at this door."""
        at = str(self.paired)
        asked = (
            ("devices", "list", "--at", at),
            ("devices", "show", self.device[:8], "--at", str(self.revoked)),
            ("nodes", "status", "--at", at),
        )
        return {args: self.house.say(*args, "--json") for args in asked}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(tmp_path_factory.mktemp("told"))


def test_both_doors_say_the_same_of_the_past(told: Told) -> None:
    """A gateway and the log itself give the same document for the same moment."""
    assert told.looks() == told.over


def test_a_device_that_is_gone_is_shown_as_it_was(told: Told) -> None:
    """Its access, label and tokens at the position named, under ages that count from then."""
    shown = told.house.say("devices", "show", told.device[:8], "--at", str(told.revoked))
    assert "label           Hall" in shown
    assert "revoked" in shown
    assert f"As of position {told.revoked}, recorded " in shown
    assert "not paired" in told.house.say("devices", "show", told.device[:8])
    assert "Hall" in told.house.say("devices", "show", "hall", "--at", str(told.revoked))


def test_a_time_names_the_position_that_it_means(told: Told) -> None:
    """`--at` takes a time as people say it, and the answer says for which position it was given."""
    now = told.house.json("devices", "list", "--at", "now")
    assert now["position"] == told.position()
    assert now["recordedAtMs"] > 0
    refused = told.house.run("devices", "list", "--at", "2 days ago")
    assert refused.exit_code == Exit.NOT_FOUND
    assert "no such moment: nothing was recorded by" in refused.stderr
    assert "hint: This log goes from position 1 (" in refused.stderr


def test_what_is_no_moment_is_not_understood(told: Told) -> None:
    """The forms that are known are listed."""
    said = told.house.run("devices", "list", "--at", "soonish")
    assert said.exit_code == Exit.USAGE
    assert "'soonish' is no moment. Give a position (1234), a time" in said.stderr
    beyond = told.house.json("devices", "list", "--at", "99999", exit=Exit.NOT_FOUND)["error"]
    assert beyond["reason"] == "no-such-moment"
    assert beyond["details"]["head"] == told.position()
