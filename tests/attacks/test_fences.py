"""Racing a revocation, and breaking whoever is to carry it out."""

from pathlib import Path

import anyio
import pytest

from pairing import ids
from pairing.commands import Approve, Caller, Remove, Revoke, Rotate, Standing
from pairing.events import Actor, device_stream
from pairing.gateway import expiry, herald
from pairing.log.errors import LogUnavailable, StreamDamaged
from pairing.log.port import Appended, Draft, Slice
from pairing.refusals import Reason, Refused

LOG = Path("log.db")
REMOVED = (4001, "device removed")
AGAIN = (1012, "service restart")


async def _pair(w, *scopes):
    """An admin, and a second operator's session by device token."""
    boss, device = await w.admin(), w.device()
    token = (await w.grant(boss, device, scopes=scopes)).token
    return boss, device, token


async def _fail(w, monkeypatch, kinds=("token.revoked", "token.rotated", "device.removed")):
    """Let the disk be full for some events."""
    log = w.opened.service.desk._log
    append = log.append

    async def full(slices, **more):
        if any(draft.kind in kinds for part in slices for draft in part.drafts):
            raise LogUnavailable(LOG, "disk full")
        return await append(slices, **more)

    monkeypatch.setattr(log, "append", full)


async def test_an_approval_in_flight_dies_with_a_session_of_the_shared_secret_too(world):
    """R8, V1: a session of the shared secret rests on its device's token being alive; what it decides afterwards is void."""
    w = await world()
    _, clerk, _ = await _pair(w, "operator.admin")
    request = await w.ask(w.device(), scopes=("operator.admin",))
    owner = (await w.opened.service.views.request(request)).device
    by = Caller(
        actor=Actor("shared-secret", clerk.device),
        scopes=("operator.admin",),
        standing=Standing(clerk.device, "operator", None),
        method="token",
    )
    await w.behind(Revoke(device=clerk.device, role="operator", **w.stamp()))
    key = w.opened.service.keyring.current.id
    late = Approve(device=owner, request=request, issue=ids.issue_id(), key=key, **(w.stamp() | {"by": by}))
    with pytest.raises(Refused) as refused:
        await w.opened.service.desk.handle(late)
    assert refused.value.reason is Reason.FENCED


@pytest.mark.parametrize("end", ["device.token.revoke", "device.token.rotate", "device.pair.remove"])
async def test_what_could_not_be_stored_is_refused_meanwhile(world, monkeypatch, end):
    """V6: with the disk full a revocation fails, says so, and the device is out all the same until one is stored."""
    w = await world()
    boss, device, token = await _pair(w, "operator.read")
    session = await w.session(device, token)
    params = {"deviceId": device.device} | ({} if end == "device.pair.remove" else {"role": "operator"})
    with monkeypatch.context() as patch:
        await _fail(w, patch)
        answer = await boss.call(end, params)
        assert answer.error["code"] == "UNAVAILABLE"
        assert await session.closed() == AGAIN
        assert "error" not in (await w.outside(device, remote=True)).details
        await w.outside(device, remote=True, auth={"deviceToken": token})
    assert (await boss.call(end, params)).ok
    if end == "device.token.rotate":
        await w.inside(device, remote=True)


async def test_a_removal_that_was_stored_after_all_leaves_no_doubt_behind(world, monkeypatch):
    """V6: an append that failed may be stored all the same; a device that is gone by the log is a stranger, and may ask again."""
    w = await world()
    boss, device, _ = await _pair(w, "operator.read")
    log = w.opened.service.desk._log
    append = log.append

    async def stored_yet_failed(slices, **more):
        await append(slices, **more)
        raise LogUnavailable(LOG, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", stored_yet_failed)
        assert not (await boss.call("device.pair.remove", {"deviceId": device.device})).ok
    assert (await boss.call("device.pair.remove", {"deviceId": device.device})).message == "unknown deviceId"
    await w.grant(boss, device, scopes=("operator.read",))


async def test_only_who_may_end_access_can_put_it_in_doubt(world, monkeypatch):
    """V6, A6: a full disk is no way for a small operator to shut an admin out."""
    w = await world()
    boss, device, _ = await _pair(w, "operator.admin")
    clerk = await w.grant(boss, w.device(), scopes=("operator.pairing",))
    await _fail(w, monkeypatch)
    answer = await clerk.call("device.token.revoke", {"deviceId": device.device, "role": "operator"})
    assert answer.error["code"] == "INVALID_REQUEST"
    await w.inside(device, remote=True, scopes=("operator.admin",))


async def test_a_herald_that_is_late_costs_everybody_their_session_and_nobody_their_safety(world, monkeypatch):
    """V1: a revocation is not answered as done while the session it ended may still speak."""
    monkeypatch.setattr(herald, "PATIENCE_S", 0.1)
    w = await world()
    boss, device, token = await _pair(w, "operator.read")
    session = await w.session(device, token)
    stuck = anyio.Event()

    async def never(_record):
        await stuck.wait()

    monkeypatch.setattr(w.gateway.herald, "_take", never)
    assert (await boss.call("device.token.revoke", {"deviceId": device.device, "role": "operator"})).ok
    assert await session.closed() == AGAIN
    stuck.set()


async def test_one_row_that_cannot_be_taken_ends_one_devices_sessions_and_no_others(world, monkeypatch):
    """D2, V5: whatever goes wrong over one device's row, its sessions are ended and the gateway goes on."""
    w = await world()
    boss, device, token = await _pair(w, "operator.read")
    session, take = await w.session(device, token), w.gateway.herald._take

    async def stumble(record):
        if record.stream == device_stream(device.device):
            raise StreamDamaged(record.stream, record.position, "a test says so")
        await take(record)

    monkeypatch.setattr(w.gateway.herald, "_take", stumble)
    assert (await boss.call("device.pair.rename", {"deviceId": device.device, "label": "x"})).ok
    assert await session.closed() == AGAIN
    monkeypatch.undo()
    assert (await boss.call("device.pair.remove", {"deviceId": device.device})).ok


async def test_a_log_that_cannot_be_followed_for_a_moment_ends_sessions_not_the_service(world, monkeypatch):
    """V1, D7: nobody stays in who may have been revoked unheard; everybody comes again, and what came meanwhile is taken."""
    monkeypatch.setattr(herald, "AGAIN_S", 0.05)
    w = await world()
    boss, device, token = await _pair(w, "operator.read")
    session, log, follow = await w.session(device, token), w.opened.log, type(w.opened.log).follow
    failed = anyio.Event()

    async def broken(self, *, after):
        if not failed.is_set():
            failed.set()
            raise LogUnavailable(LOG, "input/output error")
        async for record in follow(self, after=after):
            yield record

    # The follower that runs now is stopped by the next row; the one after it cannot read at first.
    async def stop(_record):
        monkeypatch.undo()
        monkeypatch.setattr(type(log), "follow", broken)
        raise LogUnavailable(LOG, "input/output error")

    monkeypatch.setattr(w.gateway.herald, "_take", stop)
    await boss.call("device.pair.rename", {"deviceId": device.device, "label": "x"})
    assert await session.closed() == AGAIN
    monkeypatch.undo()
    again = await w.session(device, token)
    boss = await w.admin()
    assert (await boss.call("device.token.revoke", {"deviceId": device.device, "role": "operator"})).ok
    assert await again.closed() == REMOVED


async def _from_the_future(w, device):
    """Write an event of a kind that only a newer version knows."""
    stream = device_stream(device.device)
    rows = await w.opened.log.stream(stream)
    drafts = (Draft(kind="device.quarantined", body=b'{"at":1}', meta=rows[-1].meta, personal=None),)
    outcome = await w.opened.log.append([Slice(stream, len(rows), drafts)], command=ids.uuid7(w.clock()), now=w.clock())
    assert isinstance(outcome, Appended)


async def test_a_lock_that_only_a_newer_version_knows_ends_the_sessions_here(world):
    """D3, V5: an event of an unknown kind may end access, so whoever lives by that stream comes again, and is refused."""
    w = await world()
    boss, device, token = await _pair(w, "operator.read")
    session = await w.session(device, token)
    await _from_the_future(w, device)
    assert await session.closed() == AGAIN
    await w.outside(device, remote=True)
    assert (await boss.call("health")).ok


async def test_one_stream_without_decisions_keeps_nobody_elses_request_open(world, monkeypatch):
    """R5, R10, D2: expiry is recorded for everybody behind a stream that a newer version has closed."""
    monkeypatch.setattr(expiry, "REAP_S", 0.05)
    w = await world({"gateway.pairing.requestTtlMs": 1_000})
    boss, blocked, other = await w.admin(), w.device(), w.device()
    await w.ask(blocked)
    await _from_the_future(w, blocked)
    await w.ask(other)
    w.clock.ahead += 60_000
    assert (await boss.event("device.pair.resolved"))["payload"]["deviceId"] == other.device
    (expired,) = await w.records("request.expired")
    assert expired.stream == device_stream(other.device)


async def test_a_token_rotated_during_its_own_login_is_not_exchanged_for_the_next(world, monkeypatch):
    """T1, V1: a login that is decided after the rotation is judged by the rotation, and is handed no successor."""
    w = await world()
    _, device, token = await _pair(w, "operator.read")
    desk, decided = w.gateway.service.desk, []
    handle = desk.handle

    async def late(command):
        if not decided and type(command).__name__ == "Knock":
            decided.append(command)
            key = w.opened.service.keyring.current.id
            rotate = Rotate(device=device.device, role="operator", scopes=None, issue=ids.issue_id(), key=key, **w.stamp())
            await handle(rotate)
        return await handle(command)

    monkeypatch.setattr(desk, "handle", late)
    refused = await w.by_token(device, token, remote=True, client={"displayName": "another name"})
    assert decided
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


async def test_a_removal_during_a_silent_approval_is_not_undone_by_it(world, monkeypatch):
    """V7, R9: a device removed while it waits for its own silent upgrade is a stranger again when that is decided."""
    w = await world()
    device = w.device()
    token = (await w.inside(device, scopes=("operator.read",))).token
    desk, decided = w.gateway.service.desk, []
    handle = desk.handle

    async def late(command):
        if not decided and type(command).__name__ == "Knock":
            decided.append(command)
            await handle(Remove(device=device.device, **w.stamp()))
        return await handle(command)

    monkeypatch.setattr(desk, "handle", late)
    refused = await w.outside(device, auth={"deviceToken": token}, client={"displayName": "another name"})
    assert decided
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    assert not await (await w.admin()).paired(device)
