"""Device proof and credentials on a real socket (groups ID and AU)."""

import base64

import pytest

UI = {"id": "openclaw-control-ui", "mode": "webchat"}
CLI = {"id": "cli", "mode": "cli"}
PAGE = {"Origin": "http://localhost:5173"}


def auth(code, reason, retry, step):
    return {"code": code, "authReason": reason, "canRetryWithDeviceToken": retry, "recommendedNextStep": step}


async def test_a_fresh_device_with_a_v3_signature_is_accepted(world):
    """ID-01, and v2 besides."""
    w = await world()
    await w.inside(w.device(), version="v3")
    await w.inside(w.device(), version="v2")


async def test_platform_and_family_are_trimmed_and_lowered_in_what_is_signed(world):
    """ID-03."""
    w = await world()
    await w.inside(w.device(), client={"platform": "  Linux "}, sign=lambda f: f.update(platform="linux"))


@pytest.mark.parametrize(
    ("how", "message", "code", "reason"),
    [
        (
            {"tamper": lambda p: p["device"].update(signature=base64.urlsafe_b64encode(bytes(64)).decode().rstrip("="))},
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            "device-signature",
        ),
        (
            {"tamper": lambda p: p["device"].update(id=p["device"]["id"].upper())},
            "device identity mismatch",
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            "device-id-mismatch",
        ),
        (
            {"tamper": lambda p: p["device"].update(nonce="00000000-0000-4000-8000-000000000000")},
            "device nonce mismatch",
            "DEVICE_AUTH_NONCE_MISMATCH",
            "device-nonce-mismatch",
        ),
        (
            {"tamper": lambda p: p["device"].update(nonce="   ")},
            "device nonce required",
            "DEVICE_AUTH_NONCE_REQUIRED",
            "device-nonce-missing",
        ),
        (
            {"scopes": ("operator.read", "operator.write"), "sign": lambda f: f.update(scopes=f["scopes"][::-1])},
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            "device-signature",
        ),
        (
            {"sign": lambda f: f.update(client_id="cli")},
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            "device-signature",
        ),
        (
            {"sign": lambda f: f.update(client_mode="cli")},
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            "device-signature",
        ),
        (
            {"auth": {"token": "wrong"}, "sign": lambda f: f.update(token="other")},
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            "device-signature",
        ),
    ],
)
async def test_a_proof_that_does_not_hold_is_refused_before_anything_else_is_reported(world, how, message, code, reason):
    """ID-05, ID-07, ID-13, ID-17, ID-19, ID-25: INVALID_REQUEST, closed 1008 with the message; nothing is stored (N3)."""
    w = await world()
    before = len(await w.records())
    refused = await w.outside(w.device(), **how)
    assert (refused.error["code"], refused.message) == ("INVALID_REQUEST", message)
    assert refused.told == {"code": code, "reason": reason}
    assert (refused.code, refused.reason) == (1008, message)
    assert len(await w.records()) == before


async def test_a_proof_is_fresh_for_two_minutes_of_the_servers_clock(world):
    """ID-09, ID-11, N4: 121 s are too old, 118 s in either direction are not."""
    w = await world()
    stale = await w.outside(w.device(), signed_at=w.clock() - 121_000)
    assert stale.message == "device signature expired"
    assert stale.told == {"code": "DEVICE_AUTH_SIGNATURE_EXPIRED", "reason": "device-signature-stale"}
    assert stale.code == 1008
    await w.inside(w.device(), signed_at=w.clock() - 118_000)
    await w.inside(w.device(), signed_at=w.clock() + 118_000)


@pytest.mark.parametrize("spoil", [lambda p: p["device"].update(nonce=""), lambda p: p["device"].pop("nonce")])
async def test_a_missing_nonce_is_an_error_of_the_schema(world, spoil):
    """ID-15."""
    w = await world()
    refused = await w.outside(w.device(), tamper=spoil)
    assert refused.message.startswith("invalid connect params: ")
    assert "/device" in refused.message


async def test_the_signed_token_is_the_first_one_sent(world):
    """ID-21: token, else deviceToken, else bootstrapToken, else nothing."""
    w = await world()
    await w.inside(w.device(), auth={"token": "example-shared-token", "deviceToken": "d", "bootstrapToken": "b"})
    missing = await w.outside(w.device(), auth={"deviceToken": "d", "bootstrapToken": "b"})
    assert missing.details["code"].startswith("AUTH_")


async def test_a_public_key_may_come_in_other_clothes_and_is_kept_in_one(world):
    """ID-23: padded standard base64 and PEM are accepted; what is listed is base64url without padding."""
    w = await world()
    admin = await w.admin()
    for dress in (_padded, _pem):
        device = w.device()
        await w.inside(device, tamper=lambda p, dress=dress: p["device"].update(publicKey=dress(p["device"]["publicKey"])))
        listed = (await admin.call("device.pair.list")).payload["paired"]
        assert device.key in {entry["publicKey"] for entry in listed}


def _raw(key):
    return base64.urlsafe_b64decode(key + "=")


def _padded(key):
    return base64.b64encode(_raw(key)).decode()


def _pem(key):
    der = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + _raw(key)).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n"


async def test_a_device_without_a_credential_is_told_which_one_is_missing(world):
    """AU-01: four details, no more, and the close frame says the same."""
    w = await world()
    refused = await w.outside(w.device(), auth=None, client=CLI)
    text = "unauthorized: gateway token missing (set gateway.remote.token to match gateway.auth.token)"
    assert (refused.error["code"], refused.message) == ("INVALID_REQUEST", text)
    assert refused.told == auth("AUTH_TOKEN_MISSING", "token_missing", False, "update_auth_configuration")
    assert (refused.code, refused.reason) == (1008, text)


async def test_a_web_page_is_told_where_to_paste_the_token(world):
    """AU-03."""
    w = await world()
    refused = await w.outside(w.device(), auth=None, client={"id": "webchat-ui", "mode": "webchat"}, headers=PAGE)
    assert refused.details["code"] == "AUTH_TOKEN_MISSING"
    assert "(open the dashboard URL and paste the token in Control UI settings)" in refused.message


async def test_a_wrong_token_without_a_device_can_not_be_retried_with_one(world):
    """AU-05."""
    w = await world()
    refused = await w.outside(None, auth={"token": "wrong"})
    assert refused.told == auth("AUTH_TOKEN_MISMATCH", "token_mismatch", False, "update_auth_credentials")


async def test_a_wrong_token_with_a_device_can_be_retried_with_its_own(world):
    """Protocol §4.3: retry_with_device_token where a token alone was wrong, paired or not."""
    w = await world()
    refused = await w.outside(w.device(), auth={"token": "wrong"})
    assert refused.told == auth("AUTH_TOKEN_MISMATCH", "token_mismatch", True, "retry_with_device_token")


async def test_a_wrong_device_token_is_blamed_where_it_was_given_as_such(world):
    """AU-07, T10."""
    w = await world()
    refused = await w.outside(w.device(), auth={"token": "wrong", "deviceToken": "wrong"})
    text = "unauthorized: device token mismatch (rotate/reissue device token)"
    assert refused.message == text
    assert refused.told == auth("AUTH_DEVICE_TOKEN_MISMATCH", "device_token_mismatch", False, "update_auth_credentials")
    assert (refused.code, refused.reason) == (1008, text)


async def test_in_protocol_3_the_secret_in_the_wrong_field_is_missing_and_since_4_it_is_found(world):
    """AU-09 and V9-19."""
    w = await world()
    refused = await w.outside(w.device(), auth={"password": "example-shared-token"})
    assert refused.details["code"] == "AUTH_TOKEN_MISSING"
    await w.inside(w.device(), auth={"password": "example-shared-token"}, protocol=(4, 4))


async def test_a_password_admits_in_password_mode(world):
    """AU-11, AU-13."""
    w = await world({"gateway.auth.mode": "password", "gateway.auth.password": "example-password"})
    client = await w.inside(w.device(), auth={"password": "example-password"})
    assert client.token
    refused = await w.outside(w.device(), auth={"password": "wrong"}, client=CLI)
    assert refused.message.startswith("unauthorized: gateway password mismatch (")
    assert refused.told == auth("AUTH_PASSWORD_MISMATCH", "password_mismatch", False, "update_auth_credentials")


async def test_in_mode_none_a_device_is_enough_and_nothing_else_is(world):
    """AU-15, and protocol §4.1 for those without a device."""
    w = await world({"gateway.auth.mode": "none"})
    client = await w.inside(w.device(), auth=None, client=CLI)
    assert client.token
    refused = await w.outside(None, auth=None, client=CLI)
    assert refused.error["code"] == "NOT_PAIRED"


async def test_an_operator_without_a_device_gets_in_with_nothing(world):
    """AU-17, AU-21, A14, A15: no scopes, no record, wherever it comes from."""
    w = await world()
    for remote in (False, True):
        client = await w.inside(None, scopes=("operator.admin",), client=CLI, remote=remote)
        assert (await client.call("status")).message == "missing scope: operator.read"
    assert await w.records("device.paired") == []


async def test_the_command_line_of_protocol_4_keeps_its_scopes_on_its_own_host(world):
    """V9-09: cli/cli, the right shared token, local; and nobody else."""
    w = await world()
    client = await w.inside(None, scopes=("operator.pairing",), client=CLI, protocol=(4, 4))
    assert (await client.call("device.pair.list")).ok
    for other in ({"remote": True, "client": CLI}, {"client": {"id": "test", "mode": "test"}}, {"client": CLI, "headers": PAGE}):
        bare = await w.inside(None, scopes=("operator.pairing",), protocol=(4, 4), **other)
        assert (await bare.call("device.pair.list")).message == "missing scope: operator.pairing"


async def test_the_backend_on_the_same_host_keeps_its_scopes(world):
    """Protocol §4.4: gateway-client/backend, local, no Origin; remote it loses them."""
    w = await world()
    backend = {"id": "gateway-client", "mode": "backend"}
    assert (await (await w.inside(None, scopes=("operator.read",), client=backend)).call("status")).ok
    remote = await w.inside(None, scopes=("operator.read",), client=backend, remote=True)
    assert (await remote.call("status")).message == "missing scope: operator.read"
    device = w.device()
    exempt = await w.inside(device, scopes=("operator.read",), client=backend)
    assert "deviceToken" not in exempt.hello["auth"]
    assert await w.records("device.paired") == []


async def test_a_node_always_needs_a_device(world):
    """AU-19."""
    w = await world()
    refused = await w.outside(None, role="node")
    assert (refused.error["code"], refused.message) == ("NOT_PAIRED", "device identity required")
    assert refused.told == {"code": "DEVICE_IDENTITY_REQUIRED"}
    assert refused.code == 1008


async def test_a_control_ui_needs_a_device(world):
    """AU-23."""
    w = await world()
    refused = await w.outside(None, client=UI, headers=PAGE)
    text = "control ui requires device identity (use HTTPS or localhost secure context)"
    assert (refused.error["code"], refused.message) == ("INVALID_REQUEST", text)
    assert refused.told == {"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"}
    assert (refused.code, refused.reason) == (1008, text)


async def test_insecure_auth_exempts_a_local_control_ui_and_only_that(world):
    """AU-25, AU-45."""
    w = await world({"gateway.controlUi.allowInsecureAuth": True, "gateway.controlUi.allowedOrigins": ["https://ui.example"]})
    page = await w.inside(None, client=UI, headers=PAGE, scopes=("operator.read",))
    assert (await page.call("status")).ok
    tui = await w.inside(None, client={"id": "openclaw-tui", "mode": "ui"}, scopes=("operator.read",))
    assert (await tui.call("status")).ok
    refused = await w.outside(None, client=UI, headers={"Origin": "https://ui.example"}, remote=True)
    assert refused.details["code"] == "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"
    strict = await world(home="strict")
    refused = await strict.outside(None, client={"id": "openclaw-tui", "mode": "ui"})
    assert refused.details["code"] == "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"


async def test_a_paired_device_returns_with_its_token_and_is_given_it_again(world):
    """AU-27."""
    w = await world()
    device = w.device()
    token = (await w.inside(device, scopes=("operator.read",))).token
    assert len(token) == 43
    again = await w.by_token(device, token, scopes=("operator.read",))
    assert again.token == token


async def test_a_token_is_its_devices_alone(world):
    """AU-29, T12."""
    w = await world()
    one, other = w.device(), w.device()
    token = (await w.inside(one, scopes=("operator.read",))).token
    await w.inside(other, scopes=("operator.read",))
    refused = await w.by_token(other, token, scopes=("operator.read",))
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


async def test_a_good_token_that_is_too_narrow_is_not_called_a_wrong_one(world):
    """AU-31 with difference 1: AUTH_SCOPE_MISMATCH, no pending request, and the token stays good (T8)."""
    w = await world()
    device = w.device()
    token = (await w.inside(device, scopes=("operator.read",))).token
    refused = await w.by_token(device, token, scopes=("operator.write",), remote=True)
    assert refused.message == "unauthorized: device token scope mismatch (re-pair or approve scope upgrade)"
    assert len(refused.details["reference"]) == 8
    assert refused.told == auth("AUTH_SCOPE_MISMATCH", "scope_mismatch", False, "review_auth_configuration")
    assert (await w.opened.service.views.pending()).rows == ()
    await w.inside(device, auth={"token": token, "deviceToken": token}, scopes=("operator.read",))


async def test_write_covers_read(world):
    """AU-33."""
    w = await world()
    device = w.device()
    token = (await w.inside(device, scopes=("operator.write",))).token
    again = await w.by_token(device, token, scopes=("operator.read",))
    assert again.token == token


async def test_a_token_is_its_roles_alone(world):
    """AU-35."""
    w = await world()
    device = w.device()
    token = (await w.inside(device, scopes=("operator.read",))).token
    refused = await w.by_token(device, token, role="node")
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


async def test_a_revoked_token_is_dead(world):
    """AU-37, V1."""
    w = await world()
    device, admin = w.device(), await w.admin()
    token = (await w.inside(device, scopes=("operator.read",))).token
    assert (await admin.call("device.token.revoke", {"deviceId": device.device, "role": "operator"})).ok
    refused = await w.by_token(device, token, scopes=("operator.read",))
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


async def test_a_device_token_without_the_key_is_worthless(world):
    """AU-39: without a device object it is just a wrong shared token."""
    w = await world()
    token = (await w.inside(w.device(), scopes=("operator.read",))).token
    refused = await w.outside(None, auth={"token": token})
    assert refused.told == auth("AUTH_TOKEN_MISMATCH", "token_mismatch", False, "update_auth_credentials")


async def test_a_right_token_does_not_excuse_another_platform(world):
    """AU-41, N5: paired on linux, now on a mac."""
    w = await world()
    device = w.device()
    token = (await w.inside(device, scopes=("operator.read",))).token
    refused = await w.by_token(device, token, scopes=("operator.read",), client={"platform": "darwin"})
    assert (refused.error["code"], refused.details["reason"]) == ("NOT_PAIRED", "metadata-upgrade")


async def test_last_use_is_of_the_token_not_of_the_device(world):
    """AU-43, T13: set by a login with the token, unchanged by one with the shared secret."""
    w = await world()
    device, admin = w.device(), await w.admin()
    token = (await w.inside(device, scopes=("operator.read",))).token
    assert "lastUsedAtMs" not in await _token(admin, device)
    await w.by_token(device, token, scopes=("operator.read",))
    used = (await _token(admin, device))["lastUsedAtMs"]
    w.clock.ahead = 1_000
    await w.inside(device, scopes=("operator.read",))
    assert (await _token(admin, device))["lastUsedAtMs"] == used
    listed = (await admin.call("device.pair.list")).payload["paired"]
    assert next(entry for entry in listed if entry["deviceId"] == device.device)["lastSeenAtMs"] > used
    assert [row.kind for row in await w.records()].count("token.issued") == 2


async def _token(admin, device):
    listed = (await admin.call("device.pair.list")).payload["paired"]
    return next(entry["tokens"][0] for entry in listed if entry["deviceId"] == device.device)
