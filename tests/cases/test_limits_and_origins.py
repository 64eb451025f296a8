"""Limits on wrong secrets, and the pages that may open a connection, on a real socket (groups RL and OR)."""

import pytest

UI = {"id": "openclaw-control-ui", "mode": "webchat"}
CLI = {"id": "cli", "mode": "cli"}
PAGE = {"Origin": "http://localhost:5173"}
STRICT = {
    "gateway.auth.rateLimit.maxAttempts": 3,
    "gateway.auth.rateLimit.windowMs": 60_000,
    "gateway.auth.rateLimit.lockoutMs": 20_000,
}
WRONG = {"token": "wrong"}


@pytest.mark.parametrize("proven", [True, False])
async def test_after_too_many_wrong_secrets_an_address_must_wait_even_with_the_right_one(world, proven):
    """RL-01: the third mistake is still called one; then AUTH_RATE_LIMITED until the lockout is over, device or not."""
    w = await world(STRICT)

    def who():
        return w.device() if proven else None

    for _ in range(3):
        assert (await w.outside(who(), auth=WRONG, remote=True)).details["code"] == "AUTH_TOKEN_MISMATCH"
    locked = await w.outside(who(), remote=True)
    text = "unauthorized: too many failed authentication attempts (retry later)"
    assert (locked.error["code"], locked.message) == ("INVALID_REQUEST", text)
    assert locked.told == {
        "code": "AUTH_RATE_LIMITED",
        "authReason": "rate_limited",
        "canRetryWithDeviceToken": False,
        "recommendedNextStep": "wait_then_retry",
    }
    assert set(locked.error) == {"code", "message", "details"}
    assert (locked.code, locked.reason) == (1008, text)
    w.clock.ahead += 20_001
    if proven:
        assert (await w.outside(who(), remote=True)).details["code"] == "PAIRING_REQUIRED"
    else:
        await w.inside(None, remote=True)


async def test_protocol_4_learns_how_long_to_wait(world):
    """RL-01 in protocol 4 (protocol §4.6): the same refusal, with retryable and retryAfterMs."""
    w = await world(STRICT)
    for _ in range(3):
        await w.outside(w.device(), auth=WRONG, remote=True)
    locked = await w.outside(w.device(), remote=True, protocol=(4, 4))
    assert locked.error["retryable"] is True
    assert 0 < locked.error["retryAfterMs"] <= 20_000


async def test_the_own_host_is_exempt(world):
    """RL-03: six wrong ones from loopback, then the right one is accepted; unless the settings say otherwise."""
    w = await world(STRICT)
    for _ in range(6):
        await w.outside(w.device(), auth=WRONG)
    await w.inside(w.device())
    strict = await world(STRICT | {"gateway.auth.rateLimit.exemptLoopback": False}, home="strict")
    for _ in range(3):
        await strict.outside(strict.device(), auth=WRONG)
    assert (await strict.outside(strict.device())).details["code"] == "AUTH_RATE_LIMITED"


async def test_limits_hold_without_being_configured(world):
    """RL-05 as newer versions have it, N10: no setting is needed; the eleventh contact of a guesser waits."""
    w = await world()
    for _ in range(10):
        assert (await w.outside(None, auth=WRONG, remote=True)).details["code"] == "AUTH_TOKEN_MISMATCH"
    assert (await w.outside(None, remote=True)).details["code"] == "AUTH_RATE_LIMITED"


async def test_a_page_that_guesses_locks_out_itself_and_no_other_page(world):
    """RL-07: on the own host browsers are counted by their page; another page and the command line are not concerned."""
    w = await world(STRICT)
    for _ in range(3):
        await w.outside(w.device(), auth=WRONG, client=UI, headers=PAGE)
    assert (await w.outside(w.device(), client=UI, headers=PAGE)).details["code"] == "AUTH_RATE_LIMITED"
    await w.inside(w.device(), client=UI, headers={"Origin": "http://localhost:9999"})
    await w.inside(w.device(), client=CLI)


async def test_a_locked_shared_secret_does_not_touch_device_tokens(world):
    """RL-09, N11: the address is locked for the shared secret; a device comes in with its token all the same."""
    w = await world(STRICT)
    device = w.device()
    token = (await w.inside(device, scopes=("operator.read",))).token
    for _ in range(3):
        await w.outside(w.device(), auth=WRONG, remote=True)
    assert (await w.outside(device, scopes=("operator.read",), remote=True)).details["code"] == "AUTH_RATE_LIMITED"
    await w.session(device, token, scopes=("operator.read",))


async def test_a_device_that_guesses_tokens_locks_out_itself_and_no_neighbour(world):
    """N12, N9: wrong device tokens are counted by address and device, whatever else the frame carries."""
    w = await world(STRICT)
    device, neighbour = w.device(), w.device()
    token = (await w.inside(device, scopes=("operator.read",))).token
    other = (await w.inside(neighbour, scopes=("operator.read",))).token
    for _ in range(3):
        await w.outside(device, auth={"deviceToken": "wrong", "password": "decoy"}, remote=True)
    locked = await w.by_token(device, token, scopes=("operator.read",), remote=True)
    assert locked.details["code"] == "AUTH_RATE_LIMITED"
    await w.session(neighbour, other, scopes=("operator.read",))


async def test_a_missing_secret_counts_as_none(world):
    """Protocol §4.6: only wrong secrets are counted."""
    w = await world(STRICT)
    for _ in range(6):
        assert (await w.outside(w.device(), auth=None, remote=True)).details["code"] == "AUTH_TOKEN_MISSING"
    assert (await w.outside(w.device(), remote=True)).details["code"] == "PAIRING_REQUIRED"


async def test_a_page_on_the_own_host_may_open_a_control_ui(world):
    """OR-01: any loopback origin, for a local client."""
    w = await world()
    for page in ("http://localhost:5173", "http://127.0.0.1:18789", "http://[::1]:80"):
        await w.inside(w.device(), client=UI, headers={"Origin": page})


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Origin": "https://evil.example"}, "origin not allowed"),
        ({"Origin": "http://localhost.evil.example"}, "origin not allowed"),
        ({"Origin": "null"}, "origin missing or invalid"),
        ({}, "origin missing or invalid"),
    ],
)
async def test_any_other_page_may_not(world, headers, why):
    """OR-03, and protocol §5.9 for an origin that is missing or none."""
    w = await world()
    refused = await w.outside(w.device(), client=UI, headers=headers)
    assert refused.error["code"] == "INVALID_REQUEST"
    assert refused.message.startswith("origin not allowed (")
    assert refused.told == {"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": why}
    assert (refused.code, refused.reason) == (1008, refused.message[:120])
    assert await w.records("request.opened") == []


async def test_an_allowed_page_is_known_in_any_case_and_lends_no_locality(world):
    """OR-05: the origin passes whatever its case; the device is remote, so a person decides."""
    w = await world({"gateway.controlUi.allowedOrigins": ["https://ui.example"]})
    refused = await w.outside(w.device(), client=UI, headers={"Origin": "https://UI.example"}, remote=True)
    assert (refused.error["code"], refused.details["reason"]) == ("NOT_PAIRED", "not-paired")
    stranger = await w.outside(w.device(), client=UI, headers={"Origin": "http://localhost:1"}, remote=True)
    assert stranger.details["code"] == "CONTROL_UI_ORIGIN_NOT_ALLOWED"


async def test_a_page_behind_another_client_keeps_a_person_in_the_way(world):
    """OR-07: a browser's Origin with cli/cli on the own host: not paired, and its request is not a silent one."""
    w = await world()
    admin, device = await w.admin(), w.device()
    refused = await w.outside(device, client=CLI, headers=PAGE)
    assert (refused.error["code"], refused.details["reason"]) == ("NOT_PAIRED", "not-paired")
    (pending,) = await admin.pending(device)
    assert pending["silent"] is False
