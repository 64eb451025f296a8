"""Values that no client sends: each call is answered, the gateway goes on, and the views still follow the log."""

import pytest
from structlog.testing import capture_logs

from pairing.commands import Rename

READ, PAIR = "operator.read", "operator.pairing"
STRANGE = [2**63, 2**70, -1, 1e308, "a\x00b", "%", '[99999999999999999999,[0,""]]', '[1,[99999999999999999999,""]]']


async def bound(w, boss):
    device = w.device()
    token = (await w.grant(boss, device, scopes=(PAIR, READ))).token
    return device, await w.session(device, token, scopes=(PAIR, READ))


@pytest.mark.parametrize("strange", STRANGE)
async def test_numbers_and_cursors_out_of_all_bounds_are_refused_one_by_one(world, strange):
    """N13, D2: none of them ends the session of who sends it, let alone anything else."""
    w = await world()
    boss = await w.admin()
    device, session = await bound(w, boss)
    about = {"device": device.device}
    for client in (boss, session):
        for method, params in {
            "device.watch": {"from": strange},
            "audit.list": {"cursor": strange},
            "audit.follow": {"from": strange},
            "history.story": {**about, "after": strange},
            "history.diff": {"from": 1, "cursor": strange},
            "history.at": {"at": strange},
            "history.undo": {"position": strange},
            "blast.find": {"what": device.device, "from": strange},
            "log.export": {"after": strange},
            "log.receipt": {"position": strange},
            "device.due": {"withinMs": strange},
            "device.token.rotate": {"deviceId": device.device, "role": "node", "handoffMs": strange},
        }.items():
            answer = await client.call(method, params)
            assert answer.ok or answer.error["code"] == "INVALID_REQUEST", (method, answer.error)
    assert (await boss.call("health")).ok


@pytest.mark.parametrize("field", ["reason", "ticket"])
async def test_a_reason_cannot_break_the_views(world, field):
    """D2, N13: a text with a NUL in it is refused at the door of every method that takes a reason, whoever sends it."""
    w = await world()
    boss = await w.admin()
    device, session = await bound(w, boss)
    for label in ("one", "two", "three"):
        answer = await session.call("device.pair.rename", {"deviceId": device.device, "label": label, field: "a\x00b"})
        assert not answer.ok
    assert (await boss.entry(device))["deviceId"] == device.device
    for method, params in {
        "node.pair.request": {"nodeId": "a\x00b"},
        "device.forget": {"deviceId": device.device, "reason": "a\x00b"},
    }.items():
        assert not (await boss.call(method, params)).ok, method


async def test_what_is_recorded_with_a_nul_is_still_followed(world):
    """D2, D3: rows that are in a log already, or that another version wrote, fold like any other, time and again."""
    w = await world()
    boss = await w.admin()
    device, _ = await bound(w, boss)
    with capture_logs() as said:
        for label in ("one", "two", "three"):
            async with w.beside() as other:
                await other.service.desk.handle(Rename(device=device.device, labelled=label, **w.stamp(reason="a\x00b")))
                await other.service.views.paired()
            assert (await boss.entry(device))["deviceId"] == device.device
    assert not [line for line in said if "damaged" in line["event"]]
    assert await w.opened.service.views.position() == (await w.opened.log.head()).position
    assert (await boss.call("views.verify", {})).payload["differences"] == []
