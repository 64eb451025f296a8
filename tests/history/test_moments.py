"""Moments: what a person types, which position it means, and what is said where the log has no such moment."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from cli.moments import parse
from pairing.refusals import Reason, Refused
from tests.history.pasts import DEVICES, START, Past

NOW = int(datetime(2026, 3, 11, 15, 30, 20).astimezone().timestamp() * 1000)  # a Wednesday


def local(*parts: int) -> int:
    return int(datetime(*parts).astimezone().timestamp() * 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2h", NOW - 7_200_000),
        ("2h ago", NOW - 7_200_000),
        ("1h30m", NOW - 5_400_000),
        ("3 days ago", NOW - int(timedelta(days=3).total_seconds()) * 1000),
        ("90s", NOW - 90_000),
        ("now", NOW),
        ("2026-03-01", local(2026, 3, 1)),
        ("2026-03-01 14:00", local(2026, 3, 1, 14)),
        ("2026-03-01T14:00:05", local(2026, 3, 1, 14, 0, 5) + 999),
        ("2026-03-01T14:00:05Z", 1_772_373_605_999),
        ("2026-03-01T16:00+02:00", 1_772_373_600_000),
        ("14:00", local(2026, 3, 11, 14)),
        ("today 9:30", local(2026, 3, 11, 9, 30)),
        ("Yesterday 14:00", local(2026, 3, 10, 14)),
        ("yesterday", local(2026, 3, 10)),
        ("tuesday 14:00", local(2026, 3, 10, 14)),
        ("wednesday", local(2026, 3, 4)),
    ],
)
def test_times_are_read_as_people_say_them(typed: str, meant: int) -> None:
    """A time without a zone is this host's own."""
    assert parse(typed, NOW) == {"atMs": meant}


@pytest.mark.parametrize(("typed", "position"), [("1", 1), ("#41", 41), ("1234567", 1234567)])
def test_a_bare_number_is_a_position(typed: str, position: int) -> None:
    """Positions are what every answer names."""
    assert parse(typed, NOW) == {"at": position}


@pytest.mark.parametrize(
    "typed", ["", "soon", "0", "-1", "2x", "ago", "25:00", "yesterday noon", "2026-13-01", "9" * 40, "9" * 20 + "h"]
)
def test_what_means_no_moment_is_none(typed: str) -> None:
    """Nothing is guessed."""
    assert parse(typed, NOW) is None


async def test_a_time_is_the_last_position_recorded_by_then(house: Any) -> None:
    """The answer says for which position it is given, and when that was recorded."""
    past = Past().pair("operator.read")
    past.now += 60_000
    past.rename("Hall")
    inside = await house(past, now=past.now)
    renamed, before = past.position, past.position - 1
    for at_ms, position in ((START, before), (past.now - 1, before), (past.now, renamed), (past.now + 100_000, renamed)):
        found = await inside.call("device.list", atMs=at_ms)
        assert found["position"] == position
        assert found["recordedAtMs"] == past.records[position - 1].recorded_at
    assert "operatorLabel" not in (await inside.call("device.list", at=before))["paired"][0]
    assert (await inside.call("device.list", device="hall", at=renamed))["deviceId"] == DEVICES[0]
    with pytest.raises(Refused) as refused:
        await inside.call("device.list", device="hall", at=before)
    assert refused.value.reason is Reason.UNKNOWN_DEVICE


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"at": 99}, "position 99 has not been recorded"),
        ({"atMs": START - 1}, "nothing was recorded by 2026-04-24 03:06:39 UTC"),
        ({"atMs": START + 10**9}, "2026-05-05 16:53:20 UTC has not come yet"),
        ({"at": 1, "atMs": START}, "not both"),
    ],
)
async def test_a_moment_that_the_log_has_not_is_refused(house: Any, asked: dict[str, int], why: str) -> None:
    """Nothing is answered for another moment than the one asked for; the refusal says how far the log goes."""
    past = Past().pair("operator.read")
    inside = await house(past, now=START)
    for method in ("device.list", "node.pair.list"):
        with pytest.raises(Refused) as refused:
            await inside.call(method, **asked)
        assert refused.value.reason is Reason.NO_SUCH_MOMENT
        assert why in refused.value.message
        assert f"position 1 (2026-04-24 03:06:40 UTC) to {past.position}." in refused.value.hint


async def test_an_empty_log_has_no_moments(house: Any) -> None:
    """Before the first event there is nothing to look back at."""
    with pytest.raises(Refused) as refused:
        await (await house(Past())).call("device.list", at=1)
    assert refused.value.hint.startswith("This log goes from position 1 to 0.")


async def test_who_was_connected_is_only_told_of_now(house: Any) -> None:
    """What is no authority is not in the log."""
    past = Past().pair("operator.read")

    class Everybody:
        def presence(self) -> list[Any]:
            return []

        def nodes(self) -> dict[str, Any]:
            return {}

        def connected(self, device: str) -> bool:
            return True

    inside = await house(past, sessions=Everybody())
    assert (await inside.call("device.list"))["paired"][0]["connected"] is True
    assert "connected" not in (await inside.call("device.list", at=past.position))["paired"][0]
