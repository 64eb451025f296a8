"""Transcripts of `pairing devices watch` and `wait`: through a gateway, through its restart, and on the log where none runs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.following import passes
from pairing.client.errors import ConnectRefused, Disconnected, Unreachable
from pairing.refusals import Exit
from tests.houses import NOBODY, House, started, stopped


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.gateway = started(house)  # type: ignore[attr-defined]
    yield house
    stopped(house.gateway)  # type: ignore[attr-defined]


@contextmanager
def running(house: House, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that waits, in a process of its own; it is there once it has said something."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAIRING_")}
    env |= {"PAIRING_HOME": str(house.home), "PAIRING_GATEWAY_PORT": str(house.port)}
    command = [sys.executable, "-m", "cli.main", *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    with process:
        try:
            yield process
        finally:
            process.kill()


def waiting(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    while "Waiting until" not in process.stderr.readline():
        assert process.poll() is None


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_watching_goes_on_through_a_restart_without_gap_or_repeat(house: House) -> None:
    """D4: by WebSocket alone (--url): the gateway is killed and comes back; each event is shown once, in order, with who."""
    watching = ("devices", "watch", "--from", "0", "--url", house.url, "--token", house.token, "--json")
    first = house.pair("phone")
    with running(house, *watching) as process:
        assert process.stdout is not None
        heard = [json.loads(process.stdout.readline()) for _ in range(4)]
        house.gateway.kill()  # type: ignore[attr-defined]
        house.gateway.communicate()  # type: ignore[attr-defined]
        house.say("devices", "remove", first)  # on the log, while nobody serves
        house.gateway = started(house)  # type: ignore[attr-defined]
        second = house.pair("laptop")
        while heard[-1].get("deviceId") != second or heard[-1]["kind"] != "token.issued":
            heard.append(json.loads(process.stdout.readline()))
    with running(house, *watching, "--count", str(len(heard))) as process:
        code, out, _ = ended(process)
    assert code == 0
    positions = [event["position"] for event in heard]
    assert positions == sorted(set(positions)) == [json.loads(line)["position"] for line in out.splitlines()]
    mine = [event["kind"] for event in heard if event.get("deviceId") == first]
    assert mine == ["request.opened", "request.approved", "device.paired", "token.issued", "device.removed"]


def test_events_are_sentences_with_position_time_and_who(house: House) -> None:
    """L2: on the log itself where no gateway answers, and of one device where one is named."""
    phone, laptop = house.pair("phone"), house.request("laptop")
    stopped(house.gateway)  # type: ignore[attr-defined]
    lines = house.say("devices", "watch", "--from", "0", "--count", "5").splitlines()
    first = int(lines[0][1:].split()[0])
    assert [line.split("  ")[0] for line in lines] == [f"#{first + number}" for number in range(5)]
    assert f'"phone" ({phone[:8]}) asked to be let in' in lines[0]
    assert " UTC  " in lines[0]
    assert f'"phone" ({phone[:8]}) was approved by' in lines[1]
    only = house.say("devices", "watch", phone, "--from", "0", "--count", "4")
    assert "laptop" not in only
    with running(house, "devices", "wait", laptop, "--within", "30s") as process:
        waiting(process)
        house.say("devices", "reject", laptop)
        code, out, err = ended(process)
    assert (code, out) == (Exit.REFUSED, "")
    assert "was rejected by local user" in err


def test_a_wait_ends_when_the_request_is_answered_and_says_by_whom(house: House) -> None:
    """L2: 0 for what was waited for, 3 for another end, and what has happened before counts as well."""
    request = house.request("phone")
    with running(house, "devices", "wait", request[:8], "--within", "30s") as process:
        waiting(process)
        house.say("devices", "approve", request)
        code, out, _ = ended(process)
    assert code == 0
    assert '"phone"' in out
    assert "was approved by" in out
    again = house.json("devices", "wait", request)
    assert (again["outcome"], again["requestId"], again["deviceId"]) == ("approved", request, house.device("phone"))
    assert again["event"]["by"]["kind"]
    other = house.json("devices", "wait", request, "--for", "rejected", exit=Exit.REFUSED)
    assert other["error"]["reason"] == "request-approved"
    assert "is paired already" in house.say("devices", "wait", house.device("phone"))


def test_a_wait_that_is_in_vain_says_so(house: House) -> None:
    """L12: the time that ran out, what nobody knows, and what cannot be are told apart by exit code."""
    request = house.request("phone")
    late = house.json("devices", "wait", request, "--within", "200ms", exit=Exit.FAILED)
    assert late["error"]["reason"] == "time-ran-out"
    assert house.json("devices", "wait", NOBODY, "--within", "200ms", exit=Exit.FAILED)["error"]["reason"] == "time-ran-out"
    assert house.json("devices", "wait", "nobody", exit=Exit.NOT_FOUND)["error"]["reason"] == "unknown-subject"
    assert house.json("devices", "wait", request, "--for", "removed", exit=Exit.USAGE)["error"]["reason"] == "usage"
    assert house.json("devices", "wait", request, "--within", "soon", exit=Exit.USAGE)["error"]["reason"] == "usage"
    beyond = house.json("devices", "watch", "--from", "5000", exit=Exit.NOT_FOUND)
    assert beyond["error"]["reason"] == "history-changed"


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (Disconnected("ws://x", 1006, ""), True),
        (Disconnected("ws://x", 1001, ""), True),
        (Disconnected("ws://x", 1012, "service restart"), True),
        (Disconnected("ws://x", 4001, "device removed"), False),
        (Disconnected("ws://x", 1008, "repeated unauthorized calls"), False),
        (Unreachable("ws://x", "connection refused", refused=True), True),
        (ConnectRefused("UNAVAILABLE", "later", {}, 1008, ""), True),
        (ConnectRefused("INVALID_REQUEST", "unauthorized", {}, 1008, ""), False),
    ],
)
def test_who_was_sent_away_does_not_come_back_by_itself(error: Exception, again: bool) -> None:
    """V1: not through the same door, and not through the other one."""
    assert passes(error) is again  # type: ignore[arg-type]
