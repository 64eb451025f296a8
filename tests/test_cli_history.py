"""Transcripts of looking back: over a real gateway, and on the log where none runs."""

import re
from pathlib import Path
from typing import get_args

import pytest

from cli.explain import _FINDINGS
from pairing.explain import Finding
from pairing.refusals import Exit
from tests.houses import House, started, stopped


class Told:
    """One story told over a gateway, which is then stopped: the positions at which it turned, and what was said meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.house = House(folder)
        process = started(self.house)
        try:
            self.device = self.house.pair("laptop", "--scope", "operator.read")
            self.node = self.house.pair("camera", "--role", "node")
            self.paired = self.position()
            self.house.knock("laptop", "--scope", "operator.read", exit=0)
            self.token = self.stored("laptop")
            self.house.say("devices", "rename", self.device, "Hall")
            self.house.say("devices", "revoke", "--device", self.device, "--role", "operator", "--reason", "lost")
            self.revoked = self.position()
            self.house.say("devices", "remove", self.device)
            self.over = self.looks()
        finally:
            stopped(process)

    def stored(self, who: str) -> str:
        """The token that a device keeps."""
        texts = re.findall(r'"([A-Za-z0-9_-]{43})"', (self.house.folder / who / "identity" / "device-auth.json").read_text())
        assert len(texts) == 1
        return texts[0]

    def position(self) -> int:
        return int(self.house.json("devices", "list")["position"])

    def looks(self) -> dict[tuple[str, ...], str]:
        """What every look back says, at this door."""
        at = str(self.paired)
        asked = (
            ("devices", "list", "--at", at),
            ("devices", "show", self.device[:8], "--at", str(self.revoked)),
            ("nodes", "status", "--at", at),
            ("history", "hall", "--steps", "--at", str(self.revoked)),
            ("diff", "1", str(self.revoked)),
            ("diff", at, str(self.revoked), "--device", self.device),
            ("could", self.device, "operator", "operator.read", "--at", at),
            ("explain", self.device, "--at", str(self.revoked)),
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


def test_a_life_is_told_in_lines(told: Told) -> None:
    """Every event with its position, its time and who; with --steps what it changed and the states around it."""
    lines = told.house.say("history", told.device).splitlines()
    assert lines[0] == told.device
    assert re.fullmatch(r" +\d+  \S+ \S+ UTC  .* asked to be let in as operator with operator\.read", lines[2])
    revoked = next(line for line in lines if "was revoked by" in line)
    assert revoked.endswith(", reason: lost")
    assert f"{told.revoked}  " in revoked
    steps = told.house.say("history", told.device, "--steps", "--at", str(told.revoked))
    assert "        - operator token covers operator.read\n" in steps
    assert "        after   roles: operator; scopes: operator.read; operator token: revoked\n" in steps
    assert f"As of position {told.revoked}, recorded" in steps


def test_a_right_is_proved_or_its_end_is_named(told: Told) -> None:
    """Yes or no, and by which events."""
    yes = told.house.say("could", told.device[:8], "operator", "operator.read", "--at", str(told.paired))
    assert yes.startswith(f"Yes: {told.device} could use operator.read as operator, by its own token.")
    assert "was paired as operator" in yes
    no = told.house.say("could", told.device[:8], "operator", "operator.read", "--at", str(told.revoked))
    assert no.startswith(f"No: {told.device} could not use operator.read as operator.")
    assert re.search(rf"since +{told.revoked}  .* was revoked by", no)
    assert "it never had it" in told.house.say("could", told.device[:8], "node")


def test_a_difference_names_devices_facts_and_events(told: Told) -> None:
    """Nothing came of nothing; else by device, what and by whom."""
    said = told.house.say("diff", str(told.paired), str(told.revoked))
    assert f"({told.device})" in said
    assert "  - operator token covers operator.read\n" in said
    assert "  + label Hall\n" in said
    assert "was revoked by" in said
    assert told.node not in said
    assert told.house.say("diff", str(told.revoked), str(told.revoked)).startswith("Nobody gained or lost anything.")
    assert told.house.json("diff", "1", "--most", "1")["more"] is True
    assert "--most" in told.house.run("diff", "1", "--most", "1").stderr


def test_a_token_is_explained_and_never_shown(told: Told) -> None:
    """L7, L9: what it was, who ended it, one next command; the token itself is in no output, nor taken as an argument."""
    for door in (told.device[:8], None):
        args = ("explain", *([door] if door else []), "--token-stdin")
        result = told.house.run(*args, stdin=f"{told.token}\n")
        assert result.exit_code == 0, result.output
        assert told.token not in result.output
        assert "its token was revoked (AUTH_DEVICE_TOKEN_MISMATCH)" in result.stdout
        assert re.search(rf"ended +{told.revoked}  .* was revoked by .*, reason: lost", result.stdout)
        assert "Next, on the device:\n\n  pairing connect --role operator" in result.stdout
    shown = told.house.run("explain", told.node, "--token-stdin", stdin=f"{told.token}\n")
    assert "the token is another device's" in shown.stdout
    assert told.house.run("explain", "--token-stdin", stdin="hunter2\n").stdout.startswith("that has not the form of a token")
    assert told.house.run("explain", told.device, told.token).exit_code == Exit.USAGE
    assert told.house.run("explain").exit_code == Exit.USAGE
    assert told.house.run("explain", "--token-stdin", stdin="\n").exit_code == Exit.USAGE
    assert told.house.json("explain", "--ref", "NOSUCH00", exit=Exit.NOT_FOUND)["error"]["reason"] == "unknown-reference"


def test_every_finding_has_its_words() -> None:
    """What the service can find, the command line can say."""
    assert set(get_args(Finding)) == set(_FINDINGS)


def test_what_a_hint_speaks_of_is_read_from_the_gateways_details() -> None:
    """L9: through the gateway's door a hint says as much as at the log's."""
    from cli.failures import explained
    from pairing.client.errors import CallRefused

    failure = explained(CallRefused("INVALID_REQUEST", "no such moment: never", {"code": "NO_SUCH_MOMENT", "head": 8}))
    assert failure is not None
    assert "to 8." in failure.hint
