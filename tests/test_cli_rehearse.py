"""Transcripts of rehearsing other settings: over a gateway, and on the log alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pairing.refusals import Exit
from tests.houses import House, started, stopped


class Rehearsed:
    """A house with a past, its gateway running, and policies beside it."""

    def __init__(self, folder: Path) -> None:
        self.house = House(folder)
        self.process = started(self.house)
        self.phone = self.house.pair("phone", "--scope", "operator.read")
        self.request = self.house.request("camera", "--role", "node")

    def policy(self, text: str, mode: int = 0o600) -> str:
        path = self.house.folder / "policy.toml"
        path.write_text(text)
        path.chmod(mode)
        return str(path)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    past = Rehearsed(tmp_path_factory.mktemp("rehearsed"))
    yield past
    stopped(past.process)


def test_the_settings_in_force_change_nothing(past: Rehearsed) -> None:
    """L13: an empty file is every default, as in force here."""
    said = past.house.say("rehearse", "--policy", past.policy(""))
    assert "decides as the settings in force do." in said
    assert "Nothing of it would have gone otherwise." in said
    assert "Not checked" not in said


def test_other_settings_say_who_is_concerned_and_by_which(past: Rehearsed) -> None:
    """L10: what is not checked stands below."""
    policy = past.policy(
        '[gateway]\ntrustedProxies = ["192.0.2.1"]\n[gateway.pairing.approval]\nrequireReason = ["operator.read"]\n'
        '[gateway.tokens.operator]\nlifetime = "90d"\n'
    )
    said = past.house.say("rehearse", "--policy", policy)
    assert '  gateway.pairing.approval.requireReason  [] -> ["operator.read"]' in said
    assert "refused for want of a reason  1" in said
    assert f"{past.phone[:12]} phone" in said
    assert "gateway.trustedProxies: the headers of a connection are not recorded" in said
    assert "For tokens issued from now on: gateway.tokens.operator.lifetime" in said
    found = past.house.json("rehearse", "--policy", policy)
    (line,) = found["lines"]
    assert (line["what"], line["deviceId"]) == ("reason", past.phone)
    later = past.house.json("rehearse", "--policy", policy, "--since", str(line["position"]))
    assert "lines" not in later


def test_another_secret_is_tagged_here_and_never_sent(past: Rehearsed) -> None:
    """T6: on the gateway's own host its key tells whether the secret is another one; elsewhere that is said to be unknown."""
    policy = past.policy('[gateway.auth]\ntoken = "another-shared-secret"\n')
    local = past.house.json("rehearse", "--policy", policy)
    assert {"setting": "gateway.auth"} in local["settings"]
    assert "another-shared-secret" not in json.dumps(local)
    same = past.house.json("rehearse", "--policy", past.policy(f'[gateway.auth]\ntoken = "{past.house.token}"\n'))
    assert "settings" not in same
    away = ("--url", past.house.url, "--token", past.house.token)
    past.house.run("devices", "list", *away)
    asked = past.house.json("devices", "list")["pending"]
    for request in asked:
        if request.get("clientId") == "cli":
            past.house.say("devices", "approve", request["requestId"])
    told = past.house.json("rehearse", "--policy", policy, *away)
    assert "rehearse on its host" in told["notChecked"][-1]["why"]
    assert "settings" not in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gateway.pairing]\nrequestTtl = 5\n", "unknown key gateway.pairing.requestTtl"),
        ('[gateway.pairing]\nkeepLastOperator = "no"\n', "gateway.pairing.keepLastOperator must be true or false"),
        ("not toml", "not TOML"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_by_line(past: Rehearsed, text: str, said: str) -> None:
    """D1: unreadable is never taken for empty."""
    error = past.house.json("rehearse", "--policy", past.policy(text), exit=Exit.USAGE)["error"]
    assert said in error["message"]
    assert "policy.toml" in error["message"]
    assert "pairing rehearse --policy" in error["hint"]


def test_a_missing_file_and_one_with_a_secret_for_all_to_read_are_refused(past: Rehearsed) -> None:
    """D1: a file that is not there is no policy of defaults."""
    error = past.house.json("rehearse", "--policy", str(past.house.folder / "none.toml"), exit=Exit.USAGE)["error"]
    assert "there is no" in error["message"]
    open_ = past.policy('[gateway.auth]\ntoken = "another-shared-secret"\n', mode=0o644)
    error = past.house.json("rehearse", "--policy", open_, exit=Exit.USAGE)["error"]
    assert "chmod 600" in error["message"]
    assert "another-shared-secret" not in json.dumps(error)


def test_both_doors_say_the_same(tmp_path: Path) -> None:
    """A gateway and the log itself judge alike, and neither writes anything."""
    past = Rehearsed(tmp_path)
    try:
        policy = past.policy('[gateway.pairing]\nmaxPending = 1\n[gateway.pairing.approval]\nvotes = ["*=2"]\n')
        over = past.house.json("rehearse", "--policy", policy)
    finally:
        stopped(past.process)
    head = past.house.json("devices", "list")["position"]
    here = past.house.json("rehearse", "--policy", policy)
    assert past.house.json("devices", "list")["position"] == head
    assert here["lines"] == over["lines"]
    assert here["counts"] == over["counts"] == {"approvers": 1}
