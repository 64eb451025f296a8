"""Locks on a live gateway: sessions end at once, nothing comes in, and the lock ends when it said it would."""

from pathlib import Path

import anyio
import pytest

from pairing.commands import Ban, Lock
from pairing.gateway import aging
from pairing.log.errors import LogUnavailable

READ, PAIRING = ("operator.read",), ("operator.pairing",)
LOCKED = (4001, "device locked")
HOUR = 3_600_000
LOG = Path("log.db")


async def paired(w, admin, scopes=READ):
    device = w.device()
    token = (await w.grant(admin, device, scopes=scopes)).token
    return device, token


async def listed(admin):
    return (await admin.call("device.list", {})).payload["locked"]


async def test_a_lock_ends_live_sessions_and_every_later_login(world):
    """V1, V2: the answer means that the sessions are over; the good token is refused as locked, and is good again afterwards."""
    w = await world()
    admin = await w.admin()
    device, token = await paired(w, admin)
    live = await w.session(device, token, scopes=READ)
    sessions = w.gateway.registry.of_device(device.device)
    answer = await admin.call("device.lock", {"deviceId": device.device, "message": "see Ada", "reason": "lost", "receipt": True})
    assert answer.payload["recorded"]["kind"] == "device.locked"
    assert [session.begin() for session in sessions] == [False] * len(sessions)
    assert await live.closed() == LOCKED
    refused = await w.by_token(device, token, scopes=READ, remote=True)
    assert refused.error["code"] == "INVALID_REQUEST"
    assert refused.message == "device locked: see Ada"
    assert refused.reason == "device locked"
    assert {key: refused.details[key] for key in ("code", "banned", "message")} == {
        "code": "DEVICE_LOCKED",
        "banned": False,
        "message": "see Ada",
    }
    (lock,) = await listed(admin)
    assert (lock["deviceId"], lock["reason"], lock["message"], lock["paired"]) == (device.device, "lost", "see Ada", True)
    assert (await admin.call("device.unlock", {"deviceId": device.device})).ok
    assert (await w.by_token(device, token, scopes=READ)).hello["auth"]["scopes"] == list(READ)
    assert await listed(admin) == []


async def test_a_locked_key_leaves_a_trace_and_no_request(world):
    """R9, L3, L8: whoever comes with a locked key is turned away with a reference; nothing is opened, silently or otherwise."""
    w = await world()
    admin = await w.admin()
    stranger = w.device()
    assert (await admin.call("device.lock", {"deviceId": stranger.device})).payload["banned"]
    for more in ({}, {"remote": True}, {"role": "node", "scopes": ()}):
        refused = await w.outside(stranger, **more)
        assert refused.details["code"] == "DEVICE_LOCKED"
    found = await admin.call("contact.find", {"reference": refused.details["reference"]})
    assert (found.payload["deviceId"], found.payload["reason"]) == (stranger.device, "device-locked")
    assert await admin.pending(stranger) == []
    assert [row.kind for row in await w.records() if row.stream.endswith(stranger.device)] == ["device.locked"]


async def test_a_lock_ends_by_itself(world, monkeypatch):
    """R12, L3: at its end the device may in at once, and the clock writes down that it ended."""
    w = await world()
    admin = await w.admin()
    device, token = await paired(w, admin)
    locked = await admin.call("device.lock", {"deviceId": device.device, "forMs": HOUR})
    refused = await w.by_token(device, token, scopes=READ)
    assert refused.details["lockedUntilMs"] == locked.payload["lockedUntilMs"]
    w.clock.ahead += HOUR
    assert (await w.by_token(device, token, scopes=READ)).hello
    assert await listed(admin) == []
    await w.gateway.aging.look()
    (ended,) = await w.records("device.unlocked")
    assert b'"ended"' in ended.body
    await w.gateway.aging.look()
    assert len(await w.records("device.unlocked")) == 1


async def test_removal_and_asking_again_do_not_open_a_lock(world):
    """V7: the lock is the key's."""
    w = await world()
    admin = await w.admin()
    device, token = await paired(w, admin)
    assert (await admin.call("device.lock", {"deviceId": device.device})).ok
    assert (await admin.call("device.pair.remove", {"deviceId": device.device})).ok
    assert (await w.outside(device)).details["code"] == "DEVICE_LOCKED"
    assert (await w.by_token(device, token)).details["code"] == "DEVICE_LOCKED"


async def test_a_ban_comes_with_the_rejection(world):
    """R5: the protocol's own form of reject still works, and ours bans in the same step."""
    w = await world()
    admin = await w.admin()
    first, second = w.device(), w.device()
    assert (await admin.call("device.pair.reject", {"requestId": await w.ask(first)})).ok
    assert await w.ask(first)
    request = await w.ask(second)
    answer = await admin.call("device.pair.reject", {"requestId": request, "ban": True, "forMs": HOUR, "message": "no"})
    assert (answer.payload["deviceId"], answer.payload["banned"]) == (second.device, True)
    assert (await w.outside(second)).message.endswith(": no")
    assert (await admin.approve(request)).message.startswith("device locked until ")


async def test_a_lock_by_another_process_ends_sessions_here(world):
    """V1, D4: whoever wrote the lock, the sessions here end."""
    w = await world()
    admin = await w.admin()
    device, token = await paired(w, admin)
    live = await w.session(device, token, scopes=READ)
    await w.behind(Lock(device=device.device, terms=Ban(), **w.stamp()))
    assert await live.closed() == LOCKED


async def test_a_lock_needs_the_access_it_ends(world):
    """A6: an operator that may pair but holds less cannot lock, nor unlock."""
    w = await world()
    admin = await w.admin()
    device, _ = await paired(w, admin, ("operator.write",))
    helper, badge = await paired(w, admin, PAIRING)
    weak = await w.session(helper, badge, scopes=PAIRING)
    refused = await weak.call("device.lock", {"deviceId": device.device})
    assert refused.error["details"]["code"] == "LOCK_DENIED"
    assert (await admin.call("device.lock", {"deviceId": device.device})).ok
    assert (await weak.call("device.unlock", {"deviceId": device.device})).error["details"]["code"] == "UNLOCK_DENIED"


@pytest.mark.parametrize("known", [True, False])
async def test_a_lock_that_could_not_be_stored_keeps_the_key_out_meanwhile(world, monkeypatch, known):
    """V6: the call fails, and the key is refused all the same, also one that nobody has paired."""
    w = await world()
    admin = await w.admin()
    device = w.device()
    token = (await w.grant(admin, device, scopes=READ)).token if known else "x"

    async def down(*args, **more):
        raise LogUnavailable(LOG, "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(w.gateway.service.desk._log, "append", down)
        assert not (await admin.call("device.lock", {"deviceId": device.device})).ok
    refused = await (w.by_token(device, token, scopes=READ) if known else w.dial(device))
    assert refused.error["message"] == "too many writers are changing this device at once"
    admin = await w.admin()
    assert (await admin.call("device.lock", {"deviceId": device.device})).ok
    assert (await w.outside(device)).details["code"] == "DEVICE_LOCKED"
    assert (await admin.call("device.unlock", {"deviceId": device.device})).ok
    assert not w.gateway.service.desk.doubted


async def test_terms_that_make_no_sense_are_refused_by_name(world):
    """A lock in the past, two ends at once, a message that draws on the screen, an id that is none."""
    w = await world()
    admin = await w.admin()
    id = w.device().device
    for params, code in (
        ({"untilMs": 1}, "LOCK_PAST"),
        ({"untilMs": w.clock() + HOUR, "forMs": 1}, "LOCK_TERMS"),
        ({"message": "\x1b[2J"}, "LOCK_TERMS"),
        ({"forMs": 0}, "INVALID_PARAMS"),
        ({"deviceId": "phone"}, "UNKNOWN_DEVICE"),
    ):
        refused = await admin.call("device.lock", {"deviceId": id, **params})
        assert refused.error["details"]["code"] == code
    assert await w.records("device.locked") == []


async def test_a_damaged_stream_does_not_hold_up_the_ends_of_others(world, monkeypatch):
    """D2: the clock goes on past a stream that takes no decision."""
    w = await world()
    admin = await w.admin()
    one, two = w.device(), w.device()
    for device in (one, two):
        assert (await admin.call("device.lock", {"deviceId": device.device, "forMs": 1_000})).ok
    desk, handle = w.gateway.service.desk, w.gateway.service.desk.handle

    async def damaged(command):
        if command.device == one.device:
            raise LogUnavailable(LOG, "unreadable")
        return await handle(command)

    monkeypatch.setattr(desk, "handle", damaged)
    monkeypatch.setattr(aging, "EVERY_S", 0.01)
    w.clock.ahead += 2_000
    with anyio.fail_after(5):
        while not await w.records("device.unlocked"):  # noqa: ASYNC110
            await anyio.sleep(0.02)
    (ended,) = await w.records("device.unlocked")
    assert ended.stream.endswith(two.device)
