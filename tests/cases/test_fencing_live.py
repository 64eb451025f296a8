"""What ends a session, and what a session can do no more once its ground is gone (invariants V1, V2, V4, V5, R8)."""

import json
from contextlib import suppress

import anyio
import pytest
from websockets.exceptions import ConnectionClosed

from pairing import methods
from pairing.commands import Remove, Revoke, Rotate
from pairing.refusals import Reason, Refused

PAIRING, READ, ADMIN = ("operator.pairing",), ("operator.read",), ("operator.admin",)
GONE = (4001, "device removed")
ENDINGS = ("remove", "rotate", "revoke")


async def victim(w, scopes=PAIRING):
    """Return a device, its token, and its live remote session by it; there is another operator besides."""
    await w.admin()
    device = w.device()
    token = (await w.inside(device, scopes=scopes)).token
    return device, token, await w.session(device, token, scopes=scopes)


def frame(device, ending):
    method = "device.pair.remove" if ending == "remove" else f"device.token.{ending}"
    return method, {"deviceId": device.device} | ({} if ending == "remove" else {"role": "operator"})


def command(w, device, ending):
    """Return the same as the other process would decide it."""
    if ending == "remove":
        return Remove(device=device.device, **w.stamp())
    if ending == "revoke":
        return Revoke(device=device.device, role="operator", **w.stamp())
    key = w.opened.service.keyring.current.id
    return Rotate(device=device.device, role="operator", scopes=None, issue="elsewhere", key=key, **w.stamp())


async def renames(socket, device, count, start=0):
    """Pipeline calls that each leave a row in the log."""
    for number in range(start, start + count):
        params = {"deviceId": device.device, "label": f"label {number}"}
        await socket.send(json.dumps({"type": "req", "id": f"r{number}", "method": "device.pair.rename", "params": params}))


async def after_the_end(w, device):
    """Return the kinds of what the log holds of a device after the event that ended its access."""
    rows = [row.kind for row in await w.records() if row.stream == f"device:{device.device}"]
    last = max(rows.index(kind) for kind in ("device.removed", "token.rotated", "token.revoked") if kind in rows)
    return rows[last + 1 :]


@pytest.mark.parametrize("ending", ENDINGS)
async def test_when_the_answer_is_there_the_session_is_over(world, ending):
    """V1, V2, V5: an operator ends a device's access; the live session closes 4001, and what it sends afterwards is not heard."""
    w = await world()
    admin = await w.admin()
    device, token, live = await victim(w)
    sessions = w.gateway.registry.of_device(device.device)
    assert (await admin.call(*frame(device, ending))).ok
    assert [session.begin() for session in sessions] == [False] * len(sessions)
    with suppress(ConnectionClosed):
        await renames(live.socket, device, 5)
    assert await live.closed() == GONE
    assert [event for event in live.events if event["type"] == "res"] == []
    assert await after_the_end(w, device) == []
    dead = await w.by_token(device, token, scopes=PAIRING)
    assert dead.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


@pytest.mark.parametrize("ending", ENDINGS)
async def test_frames_that_wait_behind_the_end_are_not_accepted(world, ending):
    """V4, V1: two hundred calls are on their way while access ends; those that the log has come before it, those answered too."""
    w = await world()
    admin = await w.admin()
    device, _, live = await victim(w)
    ended = []

    async def end():
        await anyio.sleep(0.02)
        ended.append((await admin.call(*frame(device, ending))).ok)

    answered = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        await renames(live.socket, device, 200)
        assert await live.closed() == GONE
        answered = [event["id"] for event in live.events if event["type"] == "res" and event["ok"]]
    assert ended == [True]
    assert await after_the_end(w, device) == []
    assert len(await w.records("device.renamed")) == len(answered)
    assert len(answered) < 200


@pytest.mark.parametrize("ending", ENDINGS)
async def test_the_end_of_ones_own_making_is_the_last_thing_that_is_answered(world, ending):
    """TK-19, V4: a device ends its own access with two calls right behind it: the answer, the close, and nothing in between."""
    w = await world()
    device, _, live = await victim(w)
    method, params = frame(device, ending)
    await live.socket.send(json.dumps({"type": "req", "id": "end", "method": method, "params": params}))
    await renames(live.socket, device, 2)
    assert await live.closed() == GONE
    assert [(event["id"], event["ok"]) for event in live.events if event["type"] == "res"] == [("end", True)]
    assert await after_the_end(w, device) == []


@pytest.mark.parametrize("ending", ENDINGS)
async def test_another_process_ends_a_session_here(world, ending):
    """V1, V2, V5, D4: written past this gateway on the same log; its session closes, and its token is refused at once."""
    w = await world()
    device, token, live = await victim(w)
    async with w.beside() as other:
        await other.service.desk.handle(command(w, device, ending))
        dead = await w.by_token(device, token, scopes=PAIRING)
        assert dead.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
        assert await live.closed() == GONE
    assert await after_the_end(w, device) == []


@pytest.mark.parametrize("ending", ENDINGS)
async def test_nothing_is_committed_on_ground_that_another_process_took_away(world, ending):
    """R8, V1: calls that run while another process ends the access are either before it in the log or not in it."""
    w = await world()
    device, _, live = await victim(w)
    async with w.beside() as other, anyio.create_task_group() as tasks:
        tasks.start_soon(renames, live.socket, device, 40)
        await anyio.sleep(0.03)
        await other.service.desk.handle(command(w, device, ending))
    assert await live.closed() == GONE
    assert await after_the_end(w, device) == []


@pytest.mark.parametrize("scopes", [("operator.pairing", "operator.read"), ADMIN])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_approval_in_flight_dies_with_its_approver(world, ending, scopes):
    """R8: the session has not been told yet; its approval, of its own request or another's, is refused where it commits."""
    w = await world()
    device, _, _ = await victim(w, scopes)
    target = w.device() if scopes == ADMIN else device
    request = await w.ask(target, scopes=("operator.pairing", "operator.read", "operator.questions"))
    (session,) = [s for s in w.gateway.registry.of_device(device.device) if s.caller.method == "device-token"]
    service = w.opened.service
    await service.desk.device(device.device)
    # Nobody tells this process: what it knows of the approver is stale until it reads again.
    async with w.beside() as other:
        await other.service.desk.handle(command(w, device, ending))
        with pytest.raises(Refused) as refused:
            await methods.call(service, session.caller, "device.pair.approve", json.dumps({"requestId": request}).encode())
    expected = {Reason.FENCED} if scopes == ADMIN or ending != "remove" else {Reason.FENCED, Reason.UNKNOWN_REQUEST}
    assert refused.value.reason in expected
    approved = [row for row in await w.records("request.approved") if request.encode() in row.body]
    assert approved == []


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_login_that_was_overtaken_is_judged_again(world, monkeypatch, ending):
    """V1, R8: between the judgement of a login and its session another process ends the access, and everybody else was told."""
    w = await world()
    device, token, _ = await victim(w)
    ask, overtaken = w.gateway._admission._ask, []

    async def slow(*more):
        judged = await ask(*more)
        if not overtaken:
            overtaken.append(ending)
            await w.behind(command(w, device, ending))
            await w.gateway.herald.reached((await w.opened.log.head()).position)
        return judged

    monkeypatch.setattr(w.gateway._admission, "_ask", slow)
    refused = await w.by_token(device, token, scopes=PAIRING, remote=True)
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    assert w.gateway.registry.of_device(device.device) == ()


async def test_sessions_of_others_live_on(world):
    """V2: only those of the device and role concerned."""
    w = await world()
    admin = await w.admin()
    device, _, live = await victim(w)
    _, _, neighbour = await victim(w)
    assert (await admin.call(*frame(device, "revoke"))).ok
    assert await live.closed() == GONE
    assert (await neighbour.call("health")).ok
    assert (await admin.call("health")).ok


async def test_a_login_on_its_way_does_not_outlive_the_end(world):
    """V1: devices come in while their access is ended; whoever is in afterwards came after, and with nothing that ended."""
    w = await world()
    admin = await w.admin()
    device = w.device()
    await w.inside(device, scopes=READ)
    for _ in range(5):
        token = (await w.inside(device, scopes=READ)).token
        sessions = []

        async def enter(token=token, sessions=sessions):
            sessions.append(await w.by_token(device, token, scopes=READ, remote=True))

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(enter)
            tasks.start_soon(admin.call, *frame(device, "rotate"))
        for session in sessions:
            if hasattr(session, "hello"):
                assert await session.closed() == GONE
            else:
                assert session.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
