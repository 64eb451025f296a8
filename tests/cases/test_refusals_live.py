"""What a refusal leaves behind, on a real socket: a reference for who was refused, the evidence for the operator."""

from tests.cases.conftest import Client, Refusal

READ = "operator.read"


async def test_every_refusal_says_whether_to_come_again_and_under_which_reference(world):
    """L8: of strangers too; pairing is the exception, whose request is the reference."""
    w = await world()
    admin = await w.admin()
    wrong = await w.outside(w.device(), auth={"token": "wrong"})
    unsigned = await w.outside(w.device(), tamper=lambda p: p["device"].update(signature="x"))
    nobody = await w.outside(None, role="node", auth=None)
    for refused in (wrong, unsigned, nobody):
        assert refused.details["terminal"] is True
        found = (await admin.call("contact.find", {"reference": refused.details["reference"]})).payload
        assert (found["code"], found["proven"]) == (refused.details["code"], False)
    waiting = await w.outside(w.device(), remote=True)
    assert not {"terminal", "reference"} & set(waiting.details)


async def test_a_token_that_was_rotated_away_is_known_when_it_comes_back(world):
    """T17: recorded on its lineage with both addresses; its present holder and other devices go on."""
    w = await world({"gateway.trustedProxies": ["127.0.0.1"]})
    admin, phone, other = await w.admin(), w.device(), w.device()
    here, there = {"via": "203.0.113.5", "remote": False}, {"via": "198.51.100.66"}
    old = (await w.grant(admin, phone, scopes=(READ,), **here)).token
    bystander = await w.grant(admin, other, scopes=(READ,), **here)
    for how in ("rotated", "compromised"):
        issue = (await w.opened.service.desk.device(phone.device)).token("operator").issue
        rotate = {"deviceId": phone.device, "role": "operator", "compromised": how == "compromised"}
        assert (await admin.call("device.token.rotate", rotate)).ok
        new = (await w.inside(phone, scopes=(READ,), **here)).token
        present = await w.session(phone, new, scopes=(READ,), **here)
        for _ in range(3):
            reused = await w.by_token(phone, old, scopes=(READ,), **there)
            assert isinstance(reused, Refusal)
        found = (await admin.call("contact.find", {"reference": reused.details["reference"]})).payload
        reuse = found["reuse"]
        assert (reuse["issue"], reuse["how"]) == (issue, how)
        assert (found["remoteIp"], reuse["presentIp"]) == ("198.51.100.66", "203.0.113.5")
        assert reuse["retiredAtMs"] <= reuse["presentAtMs"] <= found["atMs"]
        assert (found["count"], found["reason"]) == (3, "device_token_mismatch")
        assert (await present.call("health", {})).ok
        old = new
    assert (await bystander.call("health", {})).ok
    assert isinstance(await w.by_token(other, bystander.token, scopes=(READ,), **here), Client)


async def test_a_revoked_token_that_comes_back_says_when_it_ended(world):
    """T17: also where nothing has taken its place."""
    w = await world()
    admin, phone = await w.admin(), w.device()
    old = (await w.grant(admin, phone, scopes=(READ,))).token
    revoked = await admin.call("device.token.revoke", {"deviceId": phone.device, "role": "operator"})
    reused = await w.by_token(phone, old, scopes=(READ,), remote=True)
    found = (await admin.call("contact.find", {"reference": reused.details["reference"]})).payload
    assert (found["reuse"]["how"], found["reuse"]["retiredAtMs"]) == ("revoked", revoked.payload["revokedAtMs"])
    assert "presentIp" not in found["reuse"]
