"""A rotation that leaves the old token a while, on a real socket: who is let in by which token, and when it ends."""

import anyio
import msgspec

from pairing import methods
from pairing.gateway import handoffs
from tests.cases.conftest import Client, Refusal

READ = "operator.read"
WINDOW = 600_000


async def _handed_over(w, **more):
    """A device whose token an admin has just rotated with a window; its old token, and the admin."""
    admin, phone = await w.admin(), w.device()
    old = (await w.grant(admin, phone, scopes=(READ,))).token
    answer = await _rotate(admin, phone, handoffMs=WINDOW, **more)
    assert answer.ok, answer.error
    return admin, phone, old


async def _rotate(admin, device, **more):
    return await admin.call("device.token.rotate", {"deviceId": device.device, "role": "operator", **more})


async def _kinds(w, device):
    return [row.kind for row in await w.opened.log.stream(f"device:{device.device}")]


async def test_the_old_token_is_handed_the_new_one_whose_first_use_ends_it(world):
    """T1, T4: the device collects by the token it has; once it uses the next, the old one is dead, and what rested on it ends."""
    w = await world()
    _, phone, old = await _handed_over(w)
    by_old = await w.session(phone, old, scopes=(READ,))
    new = by_old.token
    assert new != old
    assert (await by_old.call("health", {})).ok
    assert (await w.session(phone, old, scopes=(READ,))).token == new
    assert "handoff.closed" not in await _kinds(w, phone)
    by_new = await w.session(phone, new, scopes=(READ,))
    assert await by_old.closed() == (4001, "device removed")
    assert (await _kinds(w, phone))[-1] == "handoff.closed"
    refused = await w.by_token(phone, old, scopes=(READ,), remote=True)
    assert isinstance(refused, Refusal)
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    assert (await by_new.call("health", {})).ok


async def test_a_session_by_the_old_token_goes_on_until_its_time_is_up(world):
    """T1, V1: it is not ended by the rotation; it is called in shortly before the end, and at the end there is nothing left."""
    w = await world()
    admin, phone = await w.admin(), w.device()
    old = (await w.grant(admin, phone, scopes=(READ,))).token
    here = await w.session(phone, old, scopes=(READ,))
    assert (await _rotate(admin, phone, handoffMs=WINDOW)).payload["handoffUntilMs"] > w.clock()
    assert (await here.call("health", {})).ok
    w.clock.ahead += WINDOW - handoffs.NOTICE_MS + 1_000
    assert await here.closed() == (1012, "service restart")
    again = await w.session(phone, old, scopes=(READ,))
    assert again.token != old
    w.clock.ahead += handoffs.NOTICE_MS
    assert await again.closed() == (4001, "device removed")
    assert isinstance(await w.by_token(phone, old, scopes=(READ,), remote=True), Refusal)
    assert isinstance(await w.by_token(phone, again.token, scopes=(READ,), remote=True), Client)
    (closed,) = await w.records("handoff.closed")
    assert b'"how":"expired"' in closed.body


async def test_any_end_of_access_ends_the_window(world):
    """T1: a revocation, a second rotation, and one for compromise; a session of an older generation ends with its own."""
    w = await world()
    for end in ({}, {"compromised": True}, {"handoffMs": WINDOW}, None):
        admin, phone, old = await _handed_over(w)
        here = await w.session(phone, old, scopes=(READ,))
        if end is None:
            assert (await admin.call("device.token.revoke", {"deviceId": phone.device, "role": "operator"})).ok
        else:
            assert (await _rotate(admin, phone, **end)).ok
        assert await here.closed() == (4001, "device removed")
        assert isinstance(await w.by_token(phone, old, scopes=(READ,), remote=True), Refusal)


async def test_a_device_that_rotates_itself_with_a_window_keeps_its_session(world):
    """T5: the successor comes in the answer, and the session goes on by the old one until the new one is used."""
    w = await world()
    admin, phone = await w.admin(), w.device()
    old = (await w.grant(admin, phone, scopes=("operator.pairing",))).token
    mine = await w.session(phone, old, scopes=("operator.pairing",))
    answer = await _rotate(mine, phone, handoffMs=WINDOW)
    assert answer.payload["tokenDelivery"] == "in-band"
    assert (await mine.call("device.pair.list", {})).ok
    assert isinstance(await w.session(phone, answer.payload["token"], scopes=("operator.pairing",)), Client)
    assert await mine.closed() == (4001, "device removed")


async def test_a_window_is_bounded_and_excluded_for_compromise(world):
    """T1: longer than the setting allows is refused, and so is a window for a token that others may have."""
    w = await world({"gateway.pairing.maxHandoffMs": 1_000})
    admin, phone = await w.admin(), w.device()
    await w.grant(admin, phone, scopes=(READ,))
    refused = await _rotate(admin, phone, handoffMs=1_001)
    assert (refused.message, refused.error["details"]["longestMs"]) == ("handoff longer than 1000 ms", 1_000)
    assert "handoffMs" in (await _rotate(admin, phone, handoffMs=1, compromised=True)).message
    (entry,) = await admin.paired(phone)
    assert "handoffUntilMs" not in entry["tokens"][0]
    assert (await _rotate(admin, phone, handoffMs=1_000)).ok
    (entry,) = await admin.paired(phone)
    assert entry["tokens"][0]["handoffUntilMs"] > 0


async def test_two_logins_at_once_close_a_window_once(world):
    """T1: the successor is used by several at the same moment; the end is recorded once, and all are in."""
    w = await world()
    _, phone, old = await _handed_over(w)
    new = (await w.session(phone, old, scopes=(READ,))).token
    inside = []

    async def come():
        inside.append(await w.session(phone, new, scopes=(READ,)))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(come)
    assert len(inside) == 5
    assert (await _kinds(w, phone)).count("handoff.closed") == 1


# --- the same call again -------------------------------------------------------------------------------------------


async def test_rotating_twice_with_one_key_gives_one_generation(world):
    """T16: the second call gets the first answer; another key, caller or device makes it another."""
    w = await world()
    admin, phone, other = await w.admin(), w.device(), w.device()
    for device in (phone, other):
        await w.grant(admin, device, scopes=(READ,))
    first = await _rotate(admin, phone, idempotencyKey="deploy-7", receipt=True)
    again = await _rotate(admin, phone, idempotencyKey="deploy-7", receipt=True)
    assert again.payload["rotatedAtMs"] == first.payload["rotatedAtMs"]
    assert again.payload["recorded"] == first.payload["recorded"] | {"changed": False}
    assert (await _kinds(w, phone)).count("token.rotated") == 1
    assert (await _rotate(admin, other, idempotencyKey="deploy-7")).ok
    assert (await _kinds(w, other)).count("token.rotated") == 1
    assert (await _rotate(await w.admin(), phone, idempotencyKey="deploy-7")).ok
    assert (await _rotate(admin, phone, idempotencyKey="deploy-8")).ok
    assert (await _kinds(w, phone)).count("token.rotated") == 3


async def test_a_key_survives_a_restart(world):
    """T16: the log remembers, not the process."""
    w = await world()
    admin, phone = await w.admin(), w.device()
    await w.grant(admin, phone, scopes=(READ,))
    command = {"deviceId": phone.device, "role": "operator", "idempotencyKey": "k"}
    one = (await admin.call("device.token.rotate", command)).payload
    async with w.beside() as process:
        raw = msgspec.Raw(msgspec.json.encode(command))
        two = await methods.call(process.service, _caller_of(w, admin), "device.token.rotate", raw)
    assert two.rotated_at_ms == one["rotatedAtMs"]
    assert (await _kinds(w, phone)).count("token.rotated") == 1


def _caller_of(w, client):
    devices = w.gateway.registry.devices()
    sessions = [session for device in devices for session in w.gateway.registry.of_device(device)]
    return next(session.caller for session in sessions if session.id == client.hello["server"]["connId"])


async def test_a_key_is_not_for_another_wish(world):
    """T16: what was asked under a key cannot be asked differently under it; the first answer stays what it was."""
    w = await world()
    admin, phone = await w.admin(), w.device()
    await w.grant(admin, phone, scopes=(READ,))
    assert (await _rotate(admin, phone, idempotencyKey="k", scopes=[READ])).ok
    for other in ({"scopes": []}, {"compromised": True}):
        refused = await _rotate(admin, phone, idempotencyKey="k", **({"scopes": [READ]} | other))
        assert refused.message == "idempotency key was used for something else"
    assert (await _rotate(admin, phone, idempotencyKey="")).message.startswith("invalid device.token.rotate params")
    assert (await _kinds(w, phone)).count("token.rotated") == 1


async def test_a_repeated_answer_does_not_hand_out_a_token_that_was_replaced(world):
    """T5, T16: while it is the present one, its device is given it again; a generation that has gone is nobody's."""
    w = await world()
    admin, phone = await w.admin(), w.device()
    old = (await w.grant(admin, phone, scopes=("operator.pairing",))).token
    mine = await w.session(phone, old, scopes=("operator.pairing",))
    one = (await _rotate(mine, phone, handoffMs=WINDOW, idempotencyKey="k")).payload
    assert (await _rotate(mine, phone, handoffMs=WINDOW, idempotencyKey="k")).payload["token"] == one["token"]
    assert (await _rotate(mine, phone, handoffMs=WINDOW, idempotencyKey="other")).ok
    late = await w.session(phone, one["token"], scopes=("operator.pairing",))
    answer = (await _rotate(late, phone, handoffMs=WINDOW, idempotencyKey="k")).payload
    assert (answer.get("token"), answer["tokenDelivery"]) == (None, "superseded")


async def test_approving_removing_and_revoking_again_with_a_key_get_the_first_answer(world):
    """T16: a removal whose answer was lost is no unknown device, and a revocation is not recorded twice."""
    w = await world()
    admin, phone = await w.admin(), w.device()
    request = await w.ask(phone, scopes=(READ,))
    calls = (
        ("device.pair.approve", {"requestId": request}),
        ("device.token.revoke", {"deviceId": phone.device, "role": "operator"}),
        ("device.pair.remove", {"deviceId": phone.device}),
    )
    for method, params in calls:
        asked = params | {"idempotencyKey": "k", "receipt": True}
        first = (await admin.call(method, asked)).payload["recorded"]
        before = len(await w.records())
        again = (await admin.call(method, asked)).payload["recorded"]
        assert (again["position"], again["changed"]) == (first["position"], False), method
        assert len(await w.records()) == before
