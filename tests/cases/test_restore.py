"""Going back: a restore that remembers, and the undoing of one command, over a gateway with live devices."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from .conftest import Client, World

Make = Callable[..., Awaitable[World]]
READ, BOTH = ("operator.read",), ("operator.read", "operator.write")


async def position(w: World) -> int:
    return (await w.opened.log.head()).position


async def restore(by: Client, to: int, **more: Any) -> dict[str, Any]:
    answer = await by.call("history.restore", {"to": to, **more})
    assert answer.ok, answer.error
    payload: dict[str, Any] = answer.payload
    return payload


async def undo(by: Client, place: int, **more: Any) -> dict[str, Any]:
    answer = await by.call("history.undo", {"position": place, "apply": True, **more})
    assert answer.ok, answer.error
    payload: dict[str, Any] = answer.payload
    return payload


def told(answer: dict[str, Any]) -> dict[str, str]:
    return {line["id"]: line["outcome"] for line in answer["lines"]}


async def done(admin: Client, method: str, **params: Any) -> None:
    answer = await admin.call(method, params)
    assert answer.ok, answer.error


async def recorded(w: World, kind: str, count: int) -> None:
    """Wait until so many events of a kind are in the log."""
    for _ in range(2_000):
        if len(await w.records(kind)) >= count:
            return
        await anyio.sleep(0.005)
    raise AssertionError(f"{kind} was not recorded {count} times")


async def test_a_clearing_by_mistake_is_taken_back_without_what_was_revoked_on_purpose(world: Make) -> None:
    """V7: both devices were removed; the one whose token had been revoked stays out, and no token that was dead works."""
    w = await world()
    admin, kept, lost = await w.admin(), w.device(), w.device()
    tokens = {device: (await w.grant(admin, device, scopes=READ)).token for device in (kept, lost)}
    then = await position(w)
    await done(admin, "device.token.revoke", deviceId=lost.device, role="operator")
    for device in (kept, lost):
        await done(admin, "device.pair.remove", deviceId=device.device)
    before = await position(w)
    plan = await restore(admin, then)
    assert (told(plan), plan["applied"], await position(w)) == ({kept.device: "returns", lost.device: "stays-out"}, False, before)
    assert "revoked on purpose" in next(line["why"] for line in plan["lines"] if line["id"] == lost.device)
    assert plan["counts"] == {"returns": 1, "goes": 0, "changes": 0, "staysOut": 1, "refused": 0}
    did = await restore(admin, then, apply=True, reason="cleared by mistake")
    assert (told(did), did["applied"], did["epoch"], did["collects"]) == (told(plan), True, 1, 1)
    assert {entry["deviceId"] for entry in await admin.paired()} & {kept.device, lost.device} == {kept.device}
    for device, token in tokens.items():
        refused = await w.by_token(device, token, remote=True, scopes=READ)
        assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    fresh = await w.inside(kept, remote=True, scopes=READ)
    assert fresh.token != tokens[kept]
    await w.session(kept, fresh.token, scopes=READ)
    again = await restore(admin, then, apply=True)
    assert (again["applied"], told(again)) == (False, {lost.device: "stays-out"})


async def test_who_was_paired_since_is_out_and_is_told_why(world: Make) -> None:
    """T12: its token is of a timeline that was left; its live session ends, and the refusal names that."""
    w = await world()
    admin, late = await w.admin(), w.device()
    then = await position(w)
    session = await w.grant(admin, late, scopes=READ)
    did = await restore(admin, then, apply=True)
    assert told(did)[late.device] == "goes"
    assert await session.closed() == (4001, "device removed")
    refused = await w.by_token(late, session.token, remote=True, scopes=READ)
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    assert "timeline that a restore has left" in refused.message
    assert (await w.ask(late, scopes=READ)) is not None


async def test_a_restore_narrows_what_was_widened(world: Make) -> None:
    """A16: the upgrade is gone at once; the device goes on with the same token and what it had."""
    w = await world()
    admin, device = await w.admin(), w.device()
    first = await w.grant(admin, device, scopes=READ)
    then = await position(w)
    await w.grant(admin, device, scopes=BOTH)
    did = await restore(admin, then, apply=True)
    (line,) = [line for line in did["lines"] if line["id"] == device.device]
    assert (line["outcome"], line["lost"]) == ("changes", ["operator.write"])
    session = await w.session(device, first.token, scopes=READ)
    assert session.token == first.token
    refused = await w.by_token(device, first.token, remote=True, scopes=BOTH)
    assert refused.details["code"] == "AUTH_SCOPE_MISMATCH"


async def test_a_lock_stays_in_force_and_a_restore_can_be_of_one_device(world: Make) -> None:
    """V7: what is not named stays as it is."""
    w = await world()
    admin, one, other = await w.admin(), w.device(), w.device()
    for device in (one, other):
        await w.grant(admin, device, scopes=READ)
    then = await position(w)
    await done(admin, "device.lock", deviceId=one.device)
    for device in (one, other):
        await done(admin, "device.pair.remove", deviceId=device.device)
    did = await restore(admin, then, apply=True, deviceId=one.device)
    assert told(did) == {one.device: "returns"}
    assert (await w.outside(one, remote=True, scopes=READ)).details["code"] != "PAIRING_REQUIRED"
    assert {entry["deviceId"] for entry in await admin.paired()} & {one.device, other.device} == {one.device}


async def test_only_an_administrator_restores(world: Make) -> None:
    """A1, A2: pairing rights are not enough, and the plan is no way to look around."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.grant(admin, device, scopes=READ)
    pairer = await w.grant(admin, w.device(), scopes=("operator.pairing",))
    for apply in (False, True):
        answer = await pairer.call("history.restore", {"to": 1, "apply": apply})
        assert (answer.ok, answer.error["details"]["code"]) == (False, "RESTORE_DENIED")


async def test_a_restore_leaves_somebody_who_can_approve(world: Make) -> None:
    """A22: the last operator does not go unless the glass is broken, with a reason."""
    w = await world()
    admin = await w.admin()
    did = await restore(admin, 1, apply=True)
    assert set(told(did).values()) == {"refused"}
    assert len(await admin.paired()) == 1


async def test_a_removal_is_undone(world: Make) -> None:
    """The device is back with what it had, and must collect a new token."""
    w = await world()
    admin, device = await w.admin(), w.device()
    token = (await w.grant(admin, device, scopes=READ)).token
    await done(admin, "device.pair.remove", deviceId=device.device)
    did = await undo(admin, await position(w))
    assert (told(did), did["applied"]) == ({device.device: "returns"}, True)
    assert (await w.by_token(device, token, remote=True, scopes=READ)).details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    assert (await w.inside(device, remote=True, scopes=READ)).token != token


async def test_an_approval_is_undone(world: Make) -> None:
    """An upgrade is taken back; a first pairing ends."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.grant(admin, device, scopes=READ)
    first = await position(w)
    request = await w.ask(device, scopes=BOTH)
    await admin.approve(request)
    await undo(admin, await position(w))
    assert (await admin.entry(device))["scopes"] == list(READ)
    answer = await admin.call("history.undo", {"position": first, "apply": True})
    assert (answer.payload["applied"], "came after it" in answer.payload["left"][0]["why"]) == (False, True)


async def test_a_label_a_lock_and_a_rejection_are_undone(world: Make) -> None:
    """Each by the act that takes it back; what was rejected waits under a new id."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.grant(admin, device, scopes=READ)
    await done(admin, "device.pair.rename", deviceId=device.device, label="front desk")
    await done(admin, "device.pair.rename", deviceId=device.device, label="back office")
    await undo(admin, await position(w))
    assert (await admin.entry(device))["operatorLabel"] == "front desk"
    await done(admin, "device.lock", deviceId=device.device)
    await undo(admin, await position(w))
    await w.inside(device, remote=True, scopes=READ)
    asked = await w.ask(device, scopes=BOTH)
    await done(admin, "device.pair.reject", requestId=asked)
    await undo(admin, await position(w))
    (waiting,) = await admin.pending(device)
    assert (waiting["requestId"] != asked, waiting["scopes"]) == (True, list(BOTH))
    assert (await admin.approve(waiting["requestId"])).ok


async def test_a_dead_token_stays_dead_whatever_is_undone(world: Make) -> None:
    """V7: a revocation and a rotation are not undone; what would work instead is named."""
    w = await world()
    admin, device = await w.admin(), w.device()
    token = (await w.grant(admin, device, scopes=READ)).token
    for method in ("device.token.rotate", "device.token.revoke"):
        await done(admin, method, deviceId=device.device, role="operator")
        before = await position(w)
        did = await undo(admin, before)
        assert (did["applied"], await position(w)) == (False, before)
        assert "pairing devices rotate" in did["left"][0]["why"]
    assert (await w.by_token(device, token, remote=True, scopes=READ)).details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


async def test_a_restore_is_taken_back_as_a_whole(world: Make) -> None:
    """Undoing it in bulk puts every device where it was before."""
    w = await world()
    admin, one, other = await w.admin(), w.device(), w.device()
    then = await position(w)
    for device in (one, other):
        await w.grant(admin, device, scopes=READ)
    did = await restore(admin, then, apply=True)
    back = await undo(admin, did["position"], bulk=True)
    assert told(back) == {one.device: "returns", other.device: "returns"}
    assert {entry["deviceId"] for entry in await admin.paired()} >= {one.device, other.device}


async def test_what_was_never_recorded_cannot_be_undone(world: Make) -> None:
    """The refusal says how far the log goes."""
    w = await world()
    admin = await w.admin()
    missing = await admin.call("history.undo", {"position": 9_999})
    assert (missing.ok, "9999" in missing.message) == (False, True)
    unknown = await admin.call("history.undo", {"commandId": "0199c6a0-0000-7000-8000-000000000002"})
    assert (unknown.ok, unknown.error["details"]["code"]) == (False, "UNKNOWN_COMMAND")


async def test_what_a_node_may_run_goes_back_too(world: Make) -> None:
    """A11: an approval that was given since ends; one that was removed returns."""
    w = await world()
    admin, node = await w.admin(), w.device()
    before = await position(w)
    asked = await admin.call("node.pair.request", {"nodeId": node.device, "commands": ["camera.snap"], "caps": []})
    await done(admin, "node.pair.approve", requestId=asked.payload["request"]["requestId"])
    approved = await position(w)
    did = await restore(admin, before, apply=True)
    assert ("node", "goes") in {(line["family"], line["outcome"]) for line in did["lines"]}
    assert (await admin.call("node.pair.list", {})).payload["paired"] == []
    await restore(admin, approved, apply=True)
    (entry,) = (await admin.call("node.pair.list", {})).payload["paired"]
    assert entry["commands"] == ["camera.snap"]


async def test_a_restore_that_has_begun_is_carried_through_when_its_caller_goes_away(world: Make) -> None:
    """D9: half a restore would be a state that nobody asked for."""
    w = await world()
    admin, devices = await w.admin(), [w.device() for _ in range(12)]
    for device in devices:
        await w.grant(admin, device, scopes=READ)
    then = await position(w)
    for device in devices:
        await done(admin, "device.pair.remove", deviceId=device.device)
    other = await w.admin()
    request = {"type": "req", "id": "r", "method": "history.restore", "params": {"to": then, "apply": True}}
    await other.socket.send(json.dumps(request))
    await recorded(w, "device.restored", 1)
    other.socket.transport.abort()
    await recorded(w, "device.restored", len(devices))
    assert {entry["deviceId"] for entry in await admin.paired()} >= {device.device for device in devices}
