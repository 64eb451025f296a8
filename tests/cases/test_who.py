"""Who let a device be what it is: each right by its giver, with the request as that giver was shown it."""

VIA = {"X-Forwarded-For": "203.0.113.77"}
ADMIN, PAIRING, READ, WRITE = ("operator.admin",), ("operator.pairing",), ("operator.read",), ("operator.write",)
PROXIED = {"gateway.trustedProxies": ["127.0.0.1"]}


async def who(client, name):
    answer = await client.call("device.who", {"device": name})
    assert answer.ok, answer.error
    return answer.payload


async def ask(w, device, scopes, name="Phone", **more):
    return await w.ask(device, scopes=scopes, client={"displayName": name}, headers=VIA, remote=False, **more)


async def test_each_right_has_its_giver_and_what_they_saw(world):
    """L2, R2: two gifts by two people, each with means, authority, reason, and name and address as they were at that digest."""
    w = await world(PROXIED)
    admin, laptop, phone = await w.admin(), w.device(), w.device()
    owner = await w.grant(admin, laptop, scopes=ADMIN)
    request = await ask(w, phone, READ)
    again = await ask(w, phone, READ, name="Telephone")
    assert again == request
    assert (await owner.call("device.pair.approve", {"requestId": request, "reason": "new phone"})).ok
    assert (await admin.approve(await ask(w, phone, WRITE))).ok
    found = await who(admin, phone.device)
    assert (found["deviceId"], found["paired"]) == (phone.device, True)
    first, second = found["origins"]
    assert (first["roles"], first["scopes"], first["token"], first["means"]) == (["operator"], [*READ], [*READ], "owner")
    assert first["event"]["kind"] == "request.approved"
    assert first["event"]["by"]["id"] == laptop.device
    assert first["event"]["reason"] == "new phone"
    assert "operator.admin" in first["event"]["authority"]
    assert first["seen"]["personal"] == {"name": "Telephone", "address": "203.0.113.77"}
    assert first["seen"]["digest"] == first["event"]["event"]["digest"]
    assert first["seen"]["requestId"] == request
    assert (second["roles"], second["scopes"]) == ([], [*WRITE])
    assert second["event"]["by"]["id"] != laptop.device


async def test_what_was_lost_and_given_again_came_with_the_later_gift(world):
    """V7: a removal ends every right; what no live token covers is not said to be covered."""
    w = await world()
    admin, phone = await w.admin(), w.device()
    await w.grant(admin, phone, scopes=READ)
    assert (await admin.call("device.pair.remove", {"deviceId": phone.device})).ok
    gone = await who(admin, phone.device)
    assert (gone["paired"], gone["origins"]) == (False, [])
    await w.grant(admin, phone, scopes=READ)
    (origin,) = (await who(admin, phone.device))["origins"]
    removed = next(row.position for row in await w.records("device.removed"))
    assert origin["event"]["position"] > removed
    assert (await admin.call("device.token.revoke", {"deviceId": phone.device, "role": "operator"})).ok
    (origin,) = (await who(admin, phone.device))["origins"]
    assert (origin["scopes"], origin["token"]) == ([*READ], [])


async def test_a_silent_pairing_says_so(world):
    """A19: what nobody was asked about has the policy's means, and the device's own address."""
    w = await world()
    admin, phone = await w.admin(), w.device()
    await w.inside(phone, scopes=READ)
    (origin,) = (await who(admin, phone.device))["origins"]
    assert origin["means"] == "silent"


async def test_a_bound_session_learns_of_itself_alone(world):
    """A8: another device is unknown to it."""
    w = await world()
    admin, device, other = await w.admin(), w.device(), w.device()
    first = await w.grant(admin, device, scopes=PAIRING)
    await w.grant(admin, other, scopes=READ)
    bound = await w.session(device, first.token, scopes=PAIRING)
    assert (await who(bound, device.device))["paired"]
    assert (await bound.call("device.who", {"device": other.device})).message == "unknown deviceId"


async def test_what_was_forgotten_is_not_shown(world):
    """L6: the digest still stands for what was approved; whom it pointed at is gone."""
    w = await world(PROXIED)
    admin, phone = await w.admin(), w.device()
    assert (await admin.approve(await ask(w, phone, READ))).ok
    assert (await admin.call("device.forget", {"deviceId": phone.device, "reason": "x"})).ok
    (origin,) = (await who(admin, phone.device))["origins"]
    assert "personal" not in origin["seen"]
    assert origin["seen"]["digest"] == origin["event"]["event"]["digest"]
