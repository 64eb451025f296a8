"""What a refused credential and missing access tell a client beside the message: the `details` of protocol §4.3 and §5.7.

Owns the two shapes. The words come from refusals.py; a reference leads the operator, and nobody else, to the evidence.
No secret can be put in.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

from pairing.gateway.connect import Auth
from pairing.refusals import SAYINGS, Reason

Mode: TypeAlias = Literal["token", "password", "none"]


class AuthDetails(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Why a credential was refused, and what to do (protocol §4.3)."""

    code: str
    auth_reason: str | None = None
    can_retry_with_device_token: bool
    recommended_next_step: str
    reference: str | None = None


class PairingDetails(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Which access is missing and which request asks for it (protocol §5.7)."""

    code: str
    reason: str
    request_id: str | None = None
    remediation_hint: str
    device_id: str
    requested_role: str
    requested_scopes: tuple[str, ...]
    approved_roles: tuple[str, ...] | None = None
    approved_scopes: tuple[str, ...] | None = None
    recommended_next_step: str | None = None
    reference: str | None = None


def auth_details(reason: Reason, auth: Auth, *, device: bool, reference: str | None = None) -> AuthDetails:
    """Return the details of a refused credential; `device` says whether a device object was sent."""
    retry = reason is Reason.TOKEN_MISMATCH and device and _token_alone(auth)
    return AuthDetails(
        code=_code(reason),
        auth_reason=None if reason is Reason.AUTH_REQUIRED else reason.value,
        can_retry_with_device_token=retry,
        recommended_next_step="retry_with_device_token" if retry else SAYINGS[reason].step or "review_auth_configuration",
        reference=reference,
    )


def pairing_details(
    reason: Reason,
    *,
    device: str,
    role: str,
    scopes: tuple[str, ...],
    request: str | None,
    approved_roles: tuple[str, ...] = (),
    approved_scopes: tuple[str, ...] = (),
    reference: str | None = None,
) -> PairingDetails:
    """Return the details of `pairing required`: role and scopes of this connect, and what the device already has."""
    saying = SAYINGS[reason]
    return PairingDetails(
        code=_code(reason),
        reason=reason.value,
        request_id=request,
        remediation_hint=saying.hint,
        device_id=device,
        requested_role=role,
        requested_scopes=scopes,
        approved_roles=approved_roles or None,
        approved_scopes=approved_scopes or None,
        recommended_next_step=saying.step,
        reference=reference,
    )


def unauthorized(mode: Mode, auth: Auth) -> str:
    """Return the message of reasons that have none of their own; it tells holders of a dead device token apart."""
    if mode == "token" and auth.presented("device_token") and not auth.presented("token"):
        return "unauthorized: device token rejected (pair/repair this device, or provide gateway token)"
    return "unauthorized"


def _token_alone(auth: Auth) -> bool:
    return bool(auth.presented("token")) and not (auth.presented("password") or auth.presented("device_token"))


def _code(reason: Reason) -> str:
    saying = SAYINGS[reason]
    return saying.detail or saying.code
