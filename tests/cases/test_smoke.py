"""The main path once, over a real socket: ask, approve, return, rotate, refuse."""


async def test_a_device_asks_an_operator_approves_and_it_returns_with_its_token(world):
    w = await world()
    operator = await w.admin()
    phone = w.device()

    refused = await w.outside(phone, scopes=("operator.read",), remote=True)
    assert refused.details["code"] == "PAIRING_REQUIRED"
    request = refused.details["requestId"]
    announced = await operator.event("device.pair.requested")
    assert announced["payload"]["requestId"] == request

    approved = await operator.call("device.pair.approve", {"requestId": request})
    assert approved.ok, approved.error
    resolved = await operator.event("device.pair.resolved")
    assert resolved["payload"]["decision"] == "approved"

    first = await w.inside(phone, scopes=("operator.read",), remote=True)
    token = first.token
    again = await w.by_token(phone, token, scopes=("operator.read",), remote=True)
    assert again.token == token

    rotated = await operator.call("device.token.rotate", {"deviceId": phone.device, "role": "operator"})
    assert rotated.ok
    assert "token" not in rotated.payload
    assert await again.closed() == (4001, "device removed")
    dead = await w.by_token(phone, token, scopes=("operator.read",), remote=True)
    assert dead.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"

    assert (await operator.call("device.token.revoke", {"deviceId": phone.device, "role": "operator"})).ok
    assert (await operator.call("device.pair.remove", {"deviceId": phone.device})).ok
    listed = await operator.call("device.pair.list", {})
    assert [entry["deviceId"] for entry in listed.payload["paired"]] != [phone.device]


async def test_a_connected_node_is_listed_as_connected_and_a_gone_one_as_gone(world):
    """Protocol §10.2: `node.list` names every paired node, connected or not; so does `device.pair.list`."""
    w = await world()
    admin = await w.admin()
    node = await w.inside(w.device(), role="node", tamper=lambda p: p.update(caps=["system"], commands=["system.run"]))
    (listed,) = (await admin.call("node.list", {})).payload["nodes"]
    assert (listed["paired"], listed["connected"], listed["caps"], listed["commands"]) == (True, True, ["system"], ["system.run"])
    await node.close()
    for _ in range(50):
        (listed,) = (await admin.call("node.list", {})).payload["nodes"]
        if not listed["connected"]:
            break
    assert (listed["paired"], listed["connected"], listed["caps"]) == (True, False, [])


async def test_an_operator_sees_why_a_known_device_was_turned_away_and_the_device_does_not(world):
    """L8: the refusal carries a reference; the rules tried, and what each compared, are kept under it, folded into one."""
    w = await world()
    operator, phone = await w.admin(), w.device()
    token = (await w.inside(phone, scopes=("operator.read",))).token
    assert (await operator.call("device.token.rotate", {"deviceId": phone.device, "role": "operator"})).ok
    for _ in range(3):
        dead = await w.by_token(phone, token, scopes=("operator.read",), remote=True)
    listed = (await operator.call("device.list", {"device": phone.device})).payload
    (kept,) = listed["refused"]
    assert (kept["reference"], kept["reason"], kept["count"]) == (dead.details["reference"], "device_token_mismatch", 3)
    failed = [step["rule"] for step in kept["trace"] if not step["passed"]]
    assert failed == ["shared-secret", "token-current"]
    assert token not in str(listed)


async def test_a_reference_leads_the_operator_to_the_evidence_and_nobody_else(world):
    """L8: looked up by its reference, or in the list of the latest; the device itself is told of neither."""
    w = await world()
    operator, phone = await w.admin(), w.device()
    token = (await w.inside(phone, scopes=("operator.pairing",))).token
    dead = await w.by_token(phone, "x" * 43, scopes=("operator.pairing",), remote=True)
    reference = dead.details["reference"]
    found = (await operator.call("contact.find", {"reference": f"{reference[:4].lower()}-{reference[4:]}"})).payload
    assert (found["deviceId"], found["proven"], found["reason"]) == (phone.device, True, "device_token_mismatch")
    assert (await operator.call("contact.list", {"device": phone.device})).payload["contacts"] == [found]
    assert (await operator.call("contact.list", {})).payload["contacts"] == [found]
    assert (await operator.call("contact.find", {"reference": "NOTHING0"})).message == "unknown reference"
    mine = await w.session(phone, token, scopes=("operator.pairing",))
    assert (await mine.call("contact.find", {"reference": reference})).message == "unknown reference"
    assert (await mine.call("contact.list", {})).payload["contacts"] == []
