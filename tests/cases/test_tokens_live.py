"""Rotating and revoking tokens on a real socket (group TK)."""

import pytest

from pairing.events import TokenWidened

PAIRING, READ, WRITE, ADMIN = ("operator.pairing",), ("operator.read",), ("operator.write",), ("operator.admin",)
GONE = (4001, "device removed")


def rotation(device, role="operator", **more):
    return {"deviceId": device.device, "role": role, **more}


def refusal(answer):
    return answer.error["code"], answer.message


async def paired(w, scopes=READ, role="operator"):
    """Return a device and its token."""
    device = w.device()
    return device, (await w.inside(device, scopes=scopes, role=role)).token


async def test_a_rotation_ends_the_old_token_and_who_lives_by_it(world):
    """TK-01, T1, T4, V2: the answer has no token, the old one is dead, every operator session of the device closes 4001."""
    w = await world()
    admin = await w.admin()
    device, token = await paired(w)
    by_token, by_secret = await w.session(device, token, scopes=READ), await w.inside(device, scopes=READ)
    before = w.clock()
    answer = await admin.call("device.token.rotate", rotation(device))
    assert before <= answer.payload.pop("rotatedAtMs") <= w.clock()
    assert answer.payload == {
        "deviceId": device.device,
        "role": "operator",
        "scopes": ["operator.read"],
        "tokenDelivery": "withheld-cross-device",
    }
    assert await by_token.closed() == GONE
    assert await by_secret.closed() == GONE
    dead = await w.by_token(device, token, scopes=READ)
    assert dead.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    new = await w.inside(device, scopes=READ)
    assert new.token != token


async def test_a_device_that_rotates_its_own_token_is_given_the_next(world):
    """T5: over its own device-token session, before that session closes; no lock-out."""
    w = await world()
    device, token = await paired(w, PAIRING)
    mine = await w.session(device, token, scopes=PAIRING)
    answer = await mine.call("device.token.rotate", rotation(device))
    assert answer.payload["tokenDelivery"] == "in-band"
    assert answer.payload["token"] not in {"", token}
    assert await mine.closed() == GONE
    await w.session(device, answer.payload["token"], scopes=PAIRING)


async def test_a_session_by_the_shared_secret_is_given_no_token(world):
    """TK-03: also for its own device; it finds the new one in its next hello."""
    w = await world()
    device = w.device()
    mine = await w.inside(device, scopes=PAIRING)
    answer = await mine.call("device.token.rotate", rotation(device))
    assert answer.ok
    assert "token" not in answer.payload
    assert await mine.closed() == GONE


async def test_a_bound_session_touches_no_other_token(world):
    """TK-05, A7: a device without admin, for a device that is there and one that never was."""
    w = await world()
    mine = await w.session(*await paired(w, PAIRING), scopes=PAIRING)
    other, token = await paired(w, PAIRING)
    for device in (other, w.device()):
        rotate = await mine.call("device.token.rotate", rotation(device))
        revoke = await mine.call("device.token.revoke", rotation(device))
        assert refusal(rotate) == ("INVALID_REQUEST", "device token rotation denied")
        assert refusal(revoke) == ("INVALID_REQUEST", "device token revocation denied")
    await w.session(other, token, scopes=PAIRING)


async def test_a_rotation_may_narrow(world):
    """TK-07 with difference 1, A4: narrowed to read; write is then called too wide, not a wrong token, and read goes on."""
    w = await world()
    admin = await w.admin()
    device, _ = await paired(w, ADMIN)
    answer = await admin.call("device.token.rotate", rotation(device, scopes=["operator.read"]))
    assert answer.payload["scopes"] == ["operator.read"]
    key, state = w.opened.service.keyring, await w.opened.service.desk.device(device.device)
    token = key.token_of(state, device.device, "operator")
    await w.session(device, token, scopes=READ)
    refused = await w.by_token(device, token, scopes=WRITE, remote=True)
    assert refused.details["code"] == "AUTH_SCOPE_MISMATCH"


async def test_a_rotation_needs_what_the_next_token_can_do_and_what_the_last_one_could(world):
    """TK-09 by difference 4, A3, A6: pairing rights from elsewhere neither issue nor end an admin's token, whatever they ask."""
    w = await world()
    admin = await w.admin()
    weak = await w.grant(admin, w.device(), scopes=PAIRING)
    device, token = await paired(w, ADMIN)
    for more in ({}, {"scopes": ["operator.pairing"]}, {"scopes": []}):
        denied = await weak.call("device.token.rotate", rotation(device, **more))
        assert refusal(denied) == ("INVALID_REQUEST", "device token rotation denied")
    denied = await weak.call("device.token.revoke", rotation(device))
    assert refusal(denied) == ("INVALID_REQUEST", "device token revocation denied")
    await w.session(device, token, scopes=ADMIN)
    even, _ = await paired(w, PAIRING)
    for more in ({}, {"scopes": []}):
        assert (await weak.call("device.token.rotate", rotation(even, **more))).ok


async def test_on_the_own_host_pairing_rights_rotate_anything_below_the_ceiling(world):
    """TK-09 by difference 3: all three of its rotations are fine for a local session by the shared secret."""
    w = await world()
    local = await w.inside(w.device(), scopes=PAIRING)
    device, _ = await paired(w, ADMIN)
    for more in ({}, {"scopes": ["operator.pairing"]}, {"scopes": []}):
        assert (await local.call("device.token.rotate", rotation(device, **more))).ok


@pytest.mark.parametrize(
    "spoil", [{"role": None}, {"role": ""}, {"scopes": "x"}, {"scopes": [""]}, {"extra": 1}, {"deviceId": ""}]
)
async def test_params_of_a_rotation_are_named_where_they_do_not_fit(world, spoil):
    """TK-11."""
    w = await world()
    admin = await w.admin()
    params = {key: value for key, value in (rotation(w.device()) | spoil).items() if value is not None}
    code, message = refusal(await admin.call("device.token.rotate", params))
    assert code == "INVALID_REQUEST"
    assert message.startswith("invalid device.token.rotate params: ")


async def test_revoking_may_be_repeated(world):
    """TK-13: with a new time; the record shows the token as revoked."""
    w = await world()
    admin = await w.admin()
    device, _ = await paired(w)
    first = await admin.call("device.token.revoke", rotation(device))
    w.clock.ahead += 50
    second = await admin.call("device.token.revoke", rotation(device))
    assert second.payload["revokedAtMs"] > first.payload["revokedAtMs"]
    assert set(second.payload) == {"deviceId", "role", "revokedAtMs"}


async def test_a_rotation_is_of_one_role(world):
    """TK-15: the node's session closes, the operator's stays."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.inside(device, role="node")
    operator = await w.inside(device, scopes=READ)
    node = await w.inside(device, role="node")
    assert (await admin.call("device.token.rotate", rotation(device, "node"))).ok
    assert await node.closed() == GONE
    assert (await operator.call("status")).ok


async def test_a_nodes_token_is_an_admins_to_rotate(world):
    """TK-17 by difference 4: pairing rights from elsewhere do not touch another role; on the own host difference 3 lends them."""
    w = await world()
    admin = await w.admin()
    weak, local = await w.grant(admin, w.device(), scopes=PAIRING), await w.inside(w.device(), scopes=PAIRING)
    device, _ = await paired(w, (), "node")
    for method, denied in (("rotate", "rotation"), ("revoke", "revocation")):
        answer = await weak.call(f"device.token.{method}", rotation(device, "node"))
        assert refusal(answer) == ("INVALID_REQUEST", f"device token {denied} denied")
        assert (await local.call(f"device.token.{method}", rotation(device, "node"))).ok


async def test_who_revokes_itself_is_answered_first(world):
    """TK-19, V1: ok, then 4001; the token does not come in again."""
    w = await world()
    await w.admin()
    device, token = await paired(w, PAIRING)
    mine = await w.session(device, token, scopes=PAIRING)
    answer = await mine.call("device.token.revoke", rotation(device))
    assert answer.ok
    assert await mine.closed() == GONE
    dead = await w.by_token(device, token, scopes=PAIRING)
    assert dead.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


@pytest.mark.parametrize("wanted", [READ, ADMIN])
async def test_a_token_outside_its_baseline_is_dead_as_a_whole(world, wanted):
    """TK-21, A16: somebody edited the store to make it an admin's; it is no reader's any more either."""
    w = await world()
    device, token = await paired(w)
    issue = (await w.opened.service.desk.device(device.device)).token("operator").issue
    wide = ("operator.admin", "operator.read", "operator.write")
    await w.smuggle(device, TokenWidened(at=w.clock(), role="operator", issue=issue, scopes=wide, under=None))
    refused = await w.by_token(device, token, scopes=wanted, remote=True)
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


async def test_letters_of_many_bytes_are_just_a_wrong_token(world):
    """TK-23, T3: as many characters, more bytes; the next right one comes in."""
    w = await world()
    device, token = await paired(w)
    for shown in ("", " ", token[:-1], f"{token}A", token.swapcase()):
        assert (await w.by_token(device, shown, scopes=READ, remote=True)).code == 1008
    refused = await w.by_token(device, "é" * 43, scopes=READ, remote=True)
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    await w.session(device, token, scopes=READ)


async def test_a_rotation_that_is_denied_changes_nothing(world):
    """TK-25, A4, A5: scopes outside what was approved, a role that never was; the old token and its sessions live on."""
    w = await world()
    admin = await w.admin()
    device, token = await paired(w)
    live = await w.session(device, token, scopes=READ)
    for params in (rotation(device, scopes=["operator.write"]), rotation(device, "node"), rotation(device, "nobody")):
        assert refusal(await admin.call("device.token.rotate", params)) == ("INVALID_REQUEST", "device token rotation denied")
    assert (await live.call("status")).ok
    await w.session(device, token, scopes=READ)


async def test_a_token_value_is_nowhere_but_in_its_own_hands(world, capfd):
    """T4, L7: after a whole life it is in no list, no event, no log line, no row and no file."""
    w = await world()
    admin = await w.admin()
    device, token = await paired(w, PAIRING)
    mine = await w.session(device, token, scopes=PAIRING)
    answer = await mine.call("device.token.rotate", rotation(device))
    secrets = (token, answer.payload["token"], "example-shared-token")
    await w.by_token(device, token, scopes=PAIRING)
    told = [str((await admin.call(method, {})).payload) for method in ("device.pair.list", "device.list", "config.get")]
    told += [str(admin.events), *capfd.readouterr()]
    files = [path.read_bytes() for path in w.rules.home.iterdir() if path.is_file()]
    for secret in secrets:
        assert not any(secret in text for text in told)
        assert not any(secret.encode() in raw for raw in files)
