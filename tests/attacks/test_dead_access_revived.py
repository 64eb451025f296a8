"""What was revoked stays revoked: nobody brings it back by asking for, or granting, less."""

from pairing import ids
from pairing.commands import Approve, Revoke

OPERATOR = ("operator.pairing", "operator.read")


async def _admin_revoked(w):
    """A device that had operator.admin until its token was revoked."""
    boss, device = await w.admin(), w.device()
    session = await w.grant(boss, device, scopes=("operator.admin",))
    assert (await boss.call("device.token.revoke", {"deviceId": device.device, "role": "operator"})).ok
    assert (await session.closed())[0] == 4001
    return boss, device


async def _limited(w, boss):
    """An operator without admin rights, from afar."""
    return await w.grant(boss, w.device(), scopes=OPERATOR)


async def test_a_small_request_of_a_revoked_admin_does_not_bring_back_the_rest(world):
    """A1, R2, V7: who approves operator.read for a device whose admin token was revoked grants that, not its old baseline."""
    w = await world()
    boss, device = await _admin_revoked(w)
    clerk = await _limited(w, boss)
    answer = await clerk.approve(await w.ask(device, scopes=("operator.read",)))
    assert answer.ok, answer.error
    assert answer.payload["device"]["scopes"] == ["operator.read"]
    await w.inside(device, remote=True, scopes=("operator.read",))
    refused = await w.outside(device, remote=True, scopes=("operator.admin",))
    assert refused.details["reason"] == "scope-upgrade"


async def test_a_rotation_to_nothing_does_not_raise_a_revoked_admin_from_the_dead(world):
    """A3, A6, V7: who may not grant operator.admin may not revive its token under smaller scopes either."""
    w = await world()
    boss, device = await _admin_revoked(w)
    clerk = await _limited(w, boss)
    for scopes in ([], ["operator.read"]):
        params = {"deviceId": device.device, "role": "operator", "scopes": scopes}
        assert not (await clerk.call("device.token.rotate", params)).ok, scopes
    refused = await w.outside(device, remote=True, scopes=("operator.admin",))
    assert refused.details["reason"] == "role-upgrade"


async def test_silence_gives_a_revoked_admin_no_more_than_its_ceiling(world):
    """N7, V7: under a narrow ceiling a local device that lost operator.admin gets the ceiling back, in however many steps."""
    w = await world({"gateway.pairing.localCeiling": ["operator.read", "operator.pairing"]})
    device = w.device()
    request = await w.ask(device, remote=True, scopes=("operator.admin",))
    key = w.opened.service.keyring.current.id
    await w.behind(Approve(device=device.device, request=request, issue=ids.issue_id(), key=key, **w.stamp()))
    await w.behind(Revoke(device=device.device, role="operator", break_glass=True, **w.stamp(reason="lost")))
    await w.inside(device, scopes=("operator.read",))
    assert (await w.outside(device, scopes=("operator.admin",))).details["reason"] == "scope-upgrade"
    assert (await w.outside(device, remote=True, scopes=("operator.admin",))).details["reason"] == "scope-upgrade"


async def test_a_repair_without_scopes_still_gives_back_what_the_token_had(world):
    """A10: asking for nothing in particular gives back the last token's scopes, and then takes an approver who holds them."""
    w = await world()
    boss, device = await _admin_revoked(w)
    clerk = await _limited(w, boss)
    request = await w.ask(device, scopes=())
    assert (await clerk.approve(request)).message == "missing scope: operator.admin"
    assert (await boss.approve(request)).ok
    await w.inside(device, remote=True, scopes=("operator.admin",))


async def test_what_a_leaked_secret_added_dies_with_the_secret(world):
    """T6: a device that a person let read, and that made itself admin by the shared secret, is no admin under the next secret."""
    w = await world({"gateway.auth.token": "the leaked secret"})
    leaked = {"token": "the leaked secret"}
    boss, device = await w.admin(auth=leaked), w.device()
    assert (await boss.approve(await w.ask(device, auth=leaked, scopes=("operator.read",)))).ok
    token = (await w.inside(device, auth=leaked, scopes=("operator.admin",))).token
    later = await world({"gateway.auth.token": "the next secret"})
    refused = await later.by_token(device, token, remote=True, scopes=("operator.admin",))
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    refused = await later.outside(device, remote=True, auth={"token": "the next secret"}, scopes=("operator.admin",))
    assert refused.details["reason"] == "role-upgrade"
