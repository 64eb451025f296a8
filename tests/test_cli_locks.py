"""Transcripts of locks, bans and labels from the command line, through a gateway and on the log alone."""

import json
from pathlib import Path

import pytest

from cli.ahead import span, until
from pairing.refusals import Exit
from tests.houses import House, started, stopped

STRANGER = "ab" * 32


def test_a_device_is_locked_listed_and_unlocked(house: House) -> None:
    """V1, V2, D6: the lock is recorded, the device told, the list shows why; afterwards everything is as it was."""
    house.pair("phone")
    id = house.device("phone")
    house.say("devices", "rename", id, "Lobby phone")
    said = house.say("devices", "lock", "lobby phone", "--for", "2h", "--message", "see Ada", "--reason", "lost")
    assert said.startswith(f"Locked Lobby phone {id} until ")
    assert "recorded as device.locked at position" in said
    refused = house.knock("phone")["error"]
    assert refused["reason"] == "device-locked"
    assert refused["message"].endswith(": see Ada")
    (lock,) = house.json("devices", "list", "--locked")["locked"]
    assert (lock["operatorLabel"], lock["reason"], lock["banned"]) == ("Lobby phone", "lost", False)
    table = house.say("devices", "list", "--locked")
    assert "Lobby phone" in table
    assert "see Ada" in table
    assert "Locked (1)" in house.say("devices", "list")
    assert house.json("devices", "show", id)["locked"]["message"] == "see Ada"
    assert "see Ada" in house.say("devices", "show", id)
    assert house.say("devices", "unlock", "lobby phone").startswith(f"Unlocked Lobby phone {id}")
    house.knock("phone", exit=0)
    assert "Nothing was changed" in house.say("devices", "unlock", id)
    assert "No device is locked." in house.say("devices", "list", "--locked")


def test_a_ban_outlives_removal_and_so_does_the_label(house: House) -> None:
    """V7: a banned device stays banned and keeps its name, through removal and back."""
    request = house.request("guest")
    id = house.device("guest")
    assert "and banned it until it is unlocked" in house.say("devices", "reject", request, "--ban", "--reason", "unknown person")
    house.say("devices", "rename", id, "Unwanted")
    assert house.knock("guest")["error"]["details"]["banned"] is True
    assert house.json("devices", "list", "--locked")["locked"][0]["operatorLabel"] == "Unwanted"
    assert house.json("devices", "unlock", "unwanted")["deviceId"] == id
    house.pair("guest")
    house.say("devices", "remove", "unwanted")
    house.pair("guest")
    (entry,) = [entry for entry in house.json("devices", "list")["paired"] if entry["deviceId"] == id]
    assert entry["operatorLabel"] == "Unwanted"


def test_a_key_nobody_has_seen_can_be_banned_by_its_full_id(house: House) -> None:
    """Locking an unpaired key is a ban; anything shorter than an id must be known."""
    assert house.say("devices", "lock", STRANGER).startswith(f"Banned {STRANGER}")
    assert "Already banned" in house.say("devices", "lock", STRANGER)
    assert house.json("devices", "lock", "nobody", exit=Exit.NOT_FOUND)["error"]["reason"] == "unknown-device"
    house.say("devices", "unlock", STRANGER[:8])


@pytest.mark.parametrize(
    "typed", [("--for", "soon"), ("--until", "2001-01-01"), ("--for", "1h", "--until", "23:59"), ("--for", "0s")]
)
def test_an_end_that_makes_no_sense_is_a_usage_error(house: House, typed: tuple[str, ...]) -> None:
    """Nothing is locked by mistake."""
    assert house.run("devices", "lock", STRANGER, *typed).exit_code == Exit.USAGE


def test_locks_work_on_the_log_alone(tmp_path: Path) -> None:
    """L12: what one door can do, the other can."""
    house = House(tmp_path)
    process = started(house)
    house.pair("phone")
    stopped(process)
    id = house.device("phone")
    assert house.json("devices", "lock", id)["recorded"]["kind"] == "device.locked"
    assert [lock["deviceId"] for lock in house.json("devices", "list", "--locked")["locked"]] == [id]
    assert house.json("devices", "unlock", id)["recorded"]["kind"] == "device.unlocked"


def test_spans_and_times_are_what_people_mean() -> None:
    """A clock time alone is its next coming; a span of nothing is none."""
    assert (span("1h30m"), span("90d"), span("2w")) == (5_400_000, 7_776_000_000, 1_209_600_000)
    assert [span(text) for text in ("", "h", "1x", "-1h", "0m", "1h soon")] == [None] * 6
    now = 1_777_000_000_000
    assert 0 < (until("12:00", now) or 0) - now <= 86_400_000
    assert (until("tomorrow 12:00", now) or 0) > now
    assert until("2027-03-01T14:00:00Z", now) == 1_803_909_600_000
    assert [until(text, now) for text in ("", "25:00", "then")] == [None] * 3
    assert json.dumps(until("2027-03-01", now))


def test_what_expires_soon_is_shown(tmp_path: Path) -> None:
    """R12: `due` names the device, the end and why; where nothing ends it says so."""
    house = House(tmp_path)
    house.home.mkdir(mode=0o700)
    (house.home / "config.toml").write_text('[gateway.tokens.operator]\nlifetime = "10d"\n')
    process = started(house)
    house.pair("phone")
    said = house.say("devices", "due")
    assert house.device("phone")[:12] in said
    assert "end of its lifetime" in said
    assert house.say("devices", "due", "--within", "1h") == "No token expires within 1h.\n"
    stopped(process)
    assert [entry["how"] for entry in house.json("devices", "due")["due"]] == ["lifetime"]


def test_pruning_is_planned_reviewed_and_applied(tmp_path: Path) -> None:
    """Two steps with a file between; a plan that cannot be read removes nothing."""
    house = House(tmp_path)
    process = started(house)
    house.pair("phone")
    plan = tmp_path / "plan.json"
    said = house.say("devices", "prune", "--idle", "90d", "--plan", str(plan))
    assert "nothing is written" in said
    assert not plan.exists()
    stopped(process)
    assert house.run("devices", "prune", "--idle", "90d").exit_code == Exit.USAGE
    for text in ("", "{}", '{"kind":"pairing-prune-plan","version":1,"lines":[]}'):
        plan.write_text(text)
        assert house.json("devices", "prune", "--apply", str(plan), exit=Exit.USAGE)["error"]["reason"] == "bad-plan"
    line = {"deviceId": house.device("phone"), "digest": "0" * 32}
    plan.write_text(json.dumps({"kind": "pairing-prune-plan", "version": 1, "lines": [line, {**line, "deviceId": STRANGER}]}))
    found = json.loads(house.run("devices", "prune", "--apply", str(plan), "--json").stdout)
    assert [entry["reason"] for entry in found["refused"]] == ["device-changed", "unknown-device"]
    assert house.run("devices", "prune", "--apply", str(plan)).exit_code == Exit.REFUSED
    assert [entry["deviceId"] for entry in house.json("devices", "list")["paired"]] == [house.device("phone")]
