"""Guessing secrets for free, and locking others out with wrong ones."""

import pytest

FEW = {"gateway.auth.rateLimit.maxAttempts": 3}


@pytest.mark.parametrize("protocol", [(3, 3), (4, 4)])
async def test_a_right_device_token_does_not_make_guesses_free(world, protocol):
    """N9: a paired device that tries passwords beside its good token is counted, and then no password is compared any more."""
    w = await world(FEW | {"gateway.auth.mode": "password", "gateway.auth.password": "correct horse battery"})
    right = {"password": "correct horse battery"}
    boss = await w.admin(auth=right)
    device = w.device()
    assert (await boss.approve(await w.ask(device, auth=right))).ok
    token = (await w.inside(device, remote=True, auth=right)).token
    for guess in ("a", "b", "c"):
        await w.inside(device, remote=True, protocol=protocol, auth={"deviceToken": token, "password": guess})
    locked = await w.outside(w.device(), remote=True, protocol=protocol, auth=right)
    assert locked.details["code"] == "AUTH_RATE_LIMITED"
    # The device itself is none the worse: its own token was right all along.
    await w.inside(device, remote=True, auth={"deviceToken": token})


async def test_a_healthy_device_that_sends_its_token_in_both_fields_is_not_counted(world):
    """N11, N12: the usual form of a login by device token is no guess at the shared secret."""
    w = await world(FEW)
    boss, device = await w.admin(), w.device()
    token = (await w.grant(boss, device)).token
    for _ in range(5):
        await w.session(device, token)

    assert (await w.outside(w.device(), remote=True)).details["code"] == "PAIRING_REQUIRED"


async def test_a_crowd_of_made_up_devices_locks_out_no_paired_one_behind_their_address(world):
    """N12: keys are free; wrong device tokens of ten of them must not cost a neighbour its right one."""
    w = await world({"gateway.auth.rateLimit.maxAttempts": 1})
    boss, device = await w.admin(), w.device()
    token = (await w.grant(boss, device)).token
    for _ in range(10):
        await w.outside(w.device(), remote=True, auth={"deviceToken": "made up"})
    stranger = await w.outside(w.device(), remote=True, auth={"deviceToken": "made up"})
    assert stranger.details["code"] == "AUTH_RATE_LIMITED"
    await w.session(device, token)
