"""Looking back over the wire: what was true, what a device could do and why, who gained and lost what, and a whole life."""

from itertools import pairwise
from typing import Any

import pytest

from pairing.authority import bound_device
from pairing.commands import Caller, Silence, Standing
from pairing.events import Actor
from pairing.refusals import Reason, Refused
from tests.history.pasts import DEVICES, Past

OURS, OTHERS = DEVICES


def told() -> Past:
    """Two devices; ours is upgraded, rotated, labelled, revoked."""
    past = Past().pair("operator.read", name="laptop").pair("operator.write", device=OTHERS, name="desk")
    past.now += 60_000
    past.pair("operator.write")
    past.rotate()
    past.rename("Hall")
    past.revoke()
    return past


def at_kind(past: Past, kind: str, which: int = 0) -> int:
    return [record.position for record in past.rows(f"device:{OURS}") if record.kind == kind][which]


async def test_a_right_is_proved_by_the_events_that_gave_it(house: Any) -> None:
    """Pairing, upgrade, first token, rotation: with them alone it could, and none can be left out."""
    past = told()
    inside = await house(past)
    rotated = at_kind(past, "token.rotated")
    found = await inside.call("history.could", device=OURS, role="operator", scope="operator.write", at=rotated)
    assert (found["could"], found["way"], found["position"]) == (True, "device-token", rotated)
    assert [one["kind"] for one in found["proof"]] == ["device.paired", "token.issued", "device.upgraded", "token.rotated"]
    assert found["proof"][0]["by"] == {"kind": "local", "id": "1000"}
    assert all(one["says"] for one in found["proof"])
    read = await inside.call(
        "history.could", device=OURS, role="operator", scope="operator.read", at=at_kind(past, "token.issued")
    )
    assert [one["kind"] for one in read["proof"]] == ["device.paired", "token.issued"]


async def test_a_right_that_is_gone_names_the_event_and_one_that_never_was_names_none(house: Any) -> None:
    """Who took it, and by which rule the gateway says no now."""
    past = told()
    inside = await house(past)
    gone = await inside.call("history.could", device="hall", role="operator", scope="operator.read")
    assert (gone["could"], gone["since"]["position"], gone["rule"]["rule"]) == (False, past.position, "token-live")
    never = await inside.call("history.could", device=OURS, role="operator", scope="operator.admin", at=past.position - 1)
    assert (never["could"], "since" in never, never["rule"]["rule"]) == (False, False, "token-scopes")
    assert (await inside.call("history.could", device=OURS, role="node"))["could"] is False


async def test_what_the_token_does_not_cover_the_shared_secret_may_reach(house: Any) -> None:
    """A narrowed token is widened again within the baseline for who shows the shared secret: that is said."""
    past = Past().pair("operator.write")
    past.rotate(scopes=("operator.read",))
    found = await (await house(past)).call("history.could", device=OURS, role="operator", scope="operator.write")
    assert (found["could"], found["way"]) == (True, "shared-secret")


async def test_a_right_under_the_shared_secret_rests_on_that_secret(house: Any) -> None:
    """T6: the event that put the secret in force is part of the proof."""
    past = Past().swap_secret("S1")
    past.knock("operator.read", silence=Silence("silent", ("not-paired",), ("operator.read",)))
    inside = await house(past, under="S1")
    found = await inside.call("history.could", device=OURS, role="operator", scope="operator.read")
    assert [one["kind"] for one in found["proof"]] == ["policy.changed", "device.paired", "token.issued"]


async def test_a_difference_says_who_gained_and_lost_what_by_whom(house: Any) -> None:
    """Devices to which nothing happened are not named; a label is shown as it was given."""
    past = told()
    inside = await house(past)
    before = at_kind(past, "token.issued") + 4
    found = await inside.call("history.diff", **{"from": before, "to": past.position})
    (ours,) = found["devices"]
    assert (found["from"], found["to"], ours["deviceId"], ours["name"]) == (before, past.position, OURS, "Hall")
    gained = {(one["what"], one["value"]): one["by"] for one in ours["gained"]}
    assert set(gained) == {("scope", "operator.write"), ("label", "Hall")}
    lost = {(one["what"], one.get("role")) for one in ours["lost"]}
    assert lost == {("token", "operator"), ("token-scope", "operator")}
    assert {one["by"]["kind"] for one in ours["lost"]} == {"token.rotated", "token.revoked"}
    assert gained["label", "Hall"]["by"] == {"kind": "local", "id": "1000"}


async def test_a_difference_of_one_device_by_times(house: Any) -> None:
    """Times and positions mix, in either order."""
    past = told()
    inside = await house(past, now=past.now)
    found = await inside.call("history.diff", device="hall", fromMs=past.now, to=1)
    assert (found["from"], found["to"]) == (1, past.position)
    assert {one["what"] for one in found["devices"][0]["gained"]} == {"paired", "role", "scope", "label"}


async def test_a_difference_of_many_comes_in_pages(house: Any) -> None:
    """Every device once, whatever the page, nodes with their devices."""
    devices = [f"{n:064x}" for n in range(7)]
    past = Past()
    past.rename("start")
    for device in devices:
        past.pair("operator.read", device=device)
    for device in reversed(devices):
        past.surface("camera.snap", device=device)
    inside = await house(past)
    whole = await inside.call("history.diff", **{"from": 1})
    assert [one["deviceId"] for one in whole["devices"]] == devices
    assert {one["what"] for one in whole["devices"][0]["gained"]} == {
        "paired",
        "role",
        "scope",
        "token",
        "token-scope",
        "node-command",
    }
    seen: list[str] = []
    cursor = 0
    while True:
        page = await inside.call("history.diff", **{"from": 1}, limit=2, cursor=cursor)
        seen += [one["deviceId"] for one in page["devices"]]
        if (cursor := page.get("next", 0)) == 0:
            break
    assert seen == devices


async def test_a_life_is_told_event_by_event(house: Any) -> None:
    """Each with its position, time, who, what it changed, and where asked the state before and after."""
    past = told()
    inside = await house(past)
    found = await inside.call("history.story", device=OURS)
    events = found["events"]
    assert [one["event"]["position"] for one in events] == [r.position for r in past.rows(f"device:{OURS}")]
    assert events[0]["event"]["says"] == '"Hall" (aaaaaaaa) asked to be let in as operator with operator.read'
    assert "before" not in events[0]
    pages: list[Any] = []
    after = 0
    while True:
        page = await inside.call("history.story", device=OURS, steps=True, after=after, limit=3)
        pages += page["events"]
        if (after := page.get("next", 0)) == 0:
            break
    assert [one["event"] for one in pages] == [one["event"] for one in events]
    for one, later in pairwise(pages):
        assert one["after"] == later["before"]
    assert pages[0]["before"] == {"paired": False}
    assert pages[-1]["after"]["tokens"][0]["revokedAtMs"] == past.now
    assert pages[-1]["lost"] == [
        {"aspect": "token", "value": pages[-1]["lost"][0]["value"], "role": "operator"},
        {"aspect": "token-scope", "value": "operator.read", "role": "operator"},
        {"aspect": "token-scope", "value": "operator.write", "role": "operator"},
    ]


async def test_a_moment_is_resolved_and_a_state_folded(house: Any) -> None:
    """L11: what the streams say of a device then is what the list says."""
    past = told()
    inside = await house(past)
    upgraded = at_kind(past, "device.upgraded")
    found = await inside.call("history.at", device=OURS, at=upgraded)
    (entry,) = (await inside.call("device.list", device=OURS, at=upgraded))["paired"]
    assert (found["position"], found["head"]) == (upgraded, past.position)
    assert found["state"]["scopes"] == entry["scopes"]
    assert "state" not in await inside.call("history.at")


async def test_a_session_bound_to_its_device_looks_back_at_nothing_else(house: Any) -> None:
    """A8, L8: neither at others, nor at the evidence of refusals, nor for whose a token is."""
    past = told()
    inside = await house(past)
    scopes = ("operator.pairing",)
    bound = Caller(
        actor=Actor("device", OTHERS),
        scopes=scopes,
        own=bound_device(method="device-token", device=OTHERS, scopes=scopes),
        standing=Standing(OTHERS, "operator", None),
        method="device-token",
    )
    everything = await inside.call("history.diff", bound, **{"from": 1})
    assert [one["deviceId"] for one in everything["devices"]] == [OTHERS]
    for method, params in (
        ("history.diff", {"from": 1, "device": OURS}),
        ("history.could", {"device": OURS, "role": "operator"}),
        ("history.story", {"device": OURS}),
        ("history.at", {"device": OURS}),
        ("history.explain", {"device": OURS}),
    ):
        with pytest.raises(Refused) as refused:
            await inside.call(method, bound, **params)
        assert refused.value.reason is Reason.UNKNOWN_DEVICE
    assert (await inside.call("history.explain", bound, token=past.token()))["finding"] == "foreign"
    with pytest.raises(Refused) as refused:
        await inside.call("history.explain", bound, reference="ABCD1234")
    assert refused.value.reason is Reason.UNKNOWN_REFERENCE
