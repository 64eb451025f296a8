"""Details of refusals: exactly the keys that clients act on, and never a secret."""

import msgspec
import pytest

from pairing.gateway.connect import Auth
from pairing.gateway.details import Mode, auth_details, pairing_details, unauthorized
from pairing.refusals import Reason

TOKEN = Auth(token="t")


@pytest.mark.parametrize(
    ("auth", "device", "retry"),
    [
        (TOKEN, True, True),
        (TOKEN, False, False),
        (Auth(token=" "), True, False),
        (Auth(token="t", device_token=""), True, True),
        (Auth(token="t", device_token="d"), True, False),
        (Auth(token="t", password="p"), True, False),
        (Auth(), True, False),
    ],
)
def test_a_device_may_retry_with_its_own_token_when_only_the_shared_one_was_wrong(auth: Auth, device: bool, retry: bool) -> None:
    """AU-04 to AU-07: the retry is offered for one wrong shared token, sent alone, by a client that has a device."""
    found = msgspec.to_builtins(auth_details(Reason.TOKEN_MISMATCH, auth, device=device))
    assert found == {
        "code": "AUTH_TOKEN_MISMATCH",
        "authReason": "token_mismatch",
        "canRetryWithDeviceToken": retry,
        "recommendedNextStep": "retry_with_device_token" if retry else "update_auth_credentials",
    }


@pytest.mark.parametrize(
    ("reason", "code", "step"),
    [
        (Reason.TOKEN_MISSING, "AUTH_TOKEN_MISSING", "update_auth_configuration"),
        (Reason.TOKEN_NOT_CONFIGURED, "AUTH_TOKEN_NOT_CONFIGURED", "update_auth_configuration"),
        (Reason.PASSWORD_MISSING, "AUTH_PASSWORD_MISSING", "update_auth_configuration"),
        (Reason.PASSWORD_MISMATCH, "AUTH_PASSWORD_MISMATCH", "update_auth_credentials"),
        (Reason.PASSWORD_NOT_CONFIGURED, "AUTH_PASSWORD_NOT_CONFIGURED", "update_auth_configuration"),
        (Reason.BOOTSTRAP_INVALID, "AUTH_BOOTSTRAP_TOKEN_INVALID", "review_auth_configuration"),
        (Reason.DEVICE_TOKEN_MISMATCH, "AUTH_DEVICE_TOKEN_MISMATCH", "update_auth_credentials"),
        (Reason.SCOPE_MISMATCH, "AUTH_SCOPE_MISMATCH", "review_auth_configuration"),
        (Reason.RATE_LIMITED, "AUTH_RATE_LIMITED", "wait_then_retry"),
        (Reason.UNAUTHORIZED, "AUTH_UNAUTHORIZED", "review_auth_configuration"),
        (Reason.AUTH_REQUIRED, "AUTH_REQUIRED", "review_auth_configuration"),
    ],
)
def test_every_refused_credential_has_its_code_and_step(reason: Reason, code: str, step: str) -> None:
    """The table of protocol §4.3; without a known reason `authReason` is absent. Only a wrong shared token offers a retry."""
    found = msgspec.to_builtins(auth_details(reason, TOKEN, device=True))
    named = {} if reason is Reason.AUTH_REQUIRED else {"authReason": reason.value}
    assert found == {"code": code, "canRetryWithDeviceToken": False, "recommendedNextStep": step} | named


def test_details_hold_no_secret_and_the_reference_that_was_given() -> None:
    """L7, L8: an outsider gets a coarse reason and a reference."""
    auth = Auth(token="s3cret", device_token="s3cret", password="s3cret", bootstrap_token="s3cret")
    found = msgspec.json.encode(auth_details(Reason.TOKEN_MISMATCH, auth, device=True, reference="R1"))
    assert b"s3cret" not in found
    assert b'"reference":"R1"' in found


def test_missing_access_is_described_and_nothing_else() -> None:
    """PL-03: a new device learns its request, what it asked for, and what happens next."""
    found = pairing_details(
        Reason.NOT_PAIRED, device="d", role="operator", scopes=("operator.read",), request="r"
    )  # fmt: skip
    assert msgspec.to_builtins(found) == {
        "code": "PAIRING_REQUIRED",
        "reason": "not-paired",
        "requestId": "r",
        "remediationHint": "Approve this device from the pending pairing requests.",
        "deviceId": "d",
        "requestedRole": "operator",
        "requestedScopes": ("operator.read",),
    }


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        (Reason.ROLE_UPGRADE, "Review the requested role upgrade, then approve the pending request."),
        (Reason.SCOPE_UPGRADE, "Review the requested scopes, then approve the pending upgrade."),
        (Reason.METADATA_UPGRADE, "Review the refreshed device details, then approve the pending request."),
    ],
)
def test_an_upgrade_says_what_is_approved_already(reason: Reason, hint: str) -> None:
    """Approved roles and scopes are there when not empty; requested scopes also when empty (protocol §5.7)."""
    found = msgspec.to_builtins(
        pairing_details(reason, device="d", role="node", scopes=(), request="r", approved_roles=("operator",))
    )
    assert found["reason"] == reason.value
    assert found["remediationHint"] == hint
    assert found["requestedScopes"] == ()
    assert found["approvedRoles"] == ("operator",)
    assert "approvedScopes" not in found


def test_a_request_that_could_not_be_opened_has_no_id() -> None:
    """Where too many requests are open the device is told to wait, and no id is made up."""
    found = msgspec.to_builtins(pairing_details(Reason.TOO_MANY_PENDING, device="d", role="node", scopes=(), request=None))
    assert found["recommendedNextStep"] == "wait_then_retry"
    assert "requestId" not in found


@pytest.mark.parametrize(
    ("mode", "auth", "told"),
    [("token", Auth(device_token="d"), True), ("token", Auth(token="t", device_token="d"), False), ("token", Auth(), False),
     ("password", Auth(device_token="d"), False)],
)  # fmt: skip
def test_holders_of_nothing_but_a_dead_device_token_are_told_so(mode: Mode, auth: Auth, told: bool) -> None:
    """The message of reasons without one of their own (protocol §4.3)."""
    assert unauthorized(mode, auth).startswith("unauthorized: device token rejected") is told
