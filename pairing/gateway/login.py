"""May this connection speak, and as whom: the checks of the handshake in their order (protocol §2.4), without a socket.

`examine` takes a connect as far as it goes without a device's state; `present` and `asking` take it on from there. The verdict
itself is `pairing.verdict`'s, the pairing decision `pairing.decide`'s.
"""

from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from pairing import verdict
from pairing.authority import OPERATOR, ROLES, covers, tidy
from pairing.device import Device
from pairing.identity import Proof, b64url, check, public_key
from pairing.refusals import Reason, Refused
from pairing.settings import Gateway
from pairing.tokens import Keyring
from pairing.verdict import Method, Offered, Presented

from . import details
from .address import origin_verdict
from .clients import hints, is_backend_self, is_browser_ui, is_cli, is_control_ui, is_webchat
from .connect import ConnectParams, given, mismatch, negotiate
from .connect import Proof as Signed
from .contact import Contact, Facts, wanted
from .details import auth_details, pairing_details
from .limits import DEVICE_TOKEN, SETUP_CODE, SHARED_SECRET, RateLimiter

WRONG_SECRET: Final = frozenset({Reason.TOKEN_MISMATCH, Reason.PASSWORD_MISMATCH})


def examine(rules: Gateway, limiter: RateLimiter, facts: Facts, params: ConnectParams, now: int) -> Contact:
    """Check a connect: protocol, role, browser origin, shared secret, need of a device, proof of its key. Raises `Refused`."""
    protocol = negotiate(params.min_protocol, params.max_protocol)
    if protocol is None:
        truth = msgspec.to_builtins(mismatch(params.min_protocol, params.max_protocol))
        raise Refused(Reason.PROTOCOL_MISMATCH, details=truth)
    role = params.role
    if role not in ROLES:
        raise Refused(Reason.INVALID_ROLE)
    _page(rules, facts, params)
    method, shared = _shared_secret(rules, limiter, facts, params, protocol, now)
    scopes = tidy(params.scopes)
    device = given(params.device)
    if device is None:
        kept = _without_device(rules, facts, params, protocol, role, method, shared)
        return Contact(
            facts=facts,
            params=params,
            protocol=protocol,
            role=role,
            scopes=kept,
            method=method,
            shared=shared,
            device=None,
            key="",
            exempt=True,
        )
    if reason := check(_proof(params, device), nonce=facts.nonce, now=now):
        raise Refused(reason)
    raw = public_key(device.public_key)
    return Contact(
        facts=facts,
        params=params,
        protocol=protocol,
        role=role,
        scopes=scopes,
        method=method,
        shared=shared,
        device=device.id,
        key=b64url(raw or b""),
        exempt=False,
    )


def _page(rules: Gateway, facts: Facts, params: ConnectParams) -> None:
    """Check the browser page behind the connection, whatever client it claims to be (protocol §5.9)."""
    ui = rules.control_ui
    client = params.client
    required = is_webchat(client.id, client.mode) or is_browser_ui(client.id)
    why = origin_verdict(
        facts.browser,
        facts.host,
        local=facts.origin.local,
        allowed=ui.allowed_origins,
        host_fallback=ui.dangerously_allow_host_header_origin_fallback,
        required=required,
    )
    if why is not None:
        raise Refused(Reason.ORIGIN_NOT_ALLOWED, details={"reason": why})


def _shared_secret(
    rules: Gateway, limiter: RateLimiter, facts: Facts, params: ConnectParams, protocol: int, now: int
) -> tuple[Method | None, Reason | None]:
    """Compare the gateway's own secret: its method where it is right, otherwise why not (protocol §4.1, §4.6)."""
    mode = rules.auth.mode
    if mode == "none":
        return ("none", None) if given(params.device) is not None else (None, Reason.AUTH_REQUIRED)
    configured = rules.auth.secret
    missing, wrong, unset = {
        "token": (Reason.TOKEN_MISSING, Reason.TOKEN_MISMATCH, Reason.TOKEN_NOT_CONFIGURED),
        "password": (Reason.PASSWORD_MISSING, Reason.PASSWORD_MISMATCH, Reason.PASSWORD_NOT_CONFIGURED),
    }[mode]
    if configured is None:
        return None, unset
    shown = _shown(rules, params, protocol)
    if not shown:
        return None, missing
    if limiter.locked(SHARED_SECRET, facts.source, now):
        return None, Reason.RATE_LIMITED
    right = [configured.matches(value) for value in shown]
    return (mode, None) if any(right) else (None, wrong)


def _shown(rules: Gateway, params: ConnectParams, protocol: int) -> list[str]:
    """Return what was presented as the gateway's own secret."""
    token, password = params.auth.presented("token"), params.auth.presented("password")
    # Protocol 3 has one field for each mode; since 4 the secret may come in either.
    fields = (token, password) if protocol >= 4 else (token,) if rules.auth.mode == "token" else (password,)
    return [value for value in fields if value is not None]


def _without_device(
    rules: Gateway,
    facts: Facts,
    params: ConnectParams,
    protocol: int,
    role: str,
    method: Method | None,
    shared: Reason | None,
) -> tuple[str, ...]:
    """Return the scopes that an operator without a device keeps, usually none (protocol §4.4). Raises `Refused`."""
    ui, local, client = rules.control_ui, facts.origin.local, params.client
    page = is_control_ui(client.id)
    trusted_page = page and (ui.dangerously_disable_device_auth or (ui.allow_insecure_auth and local))
    if page and not trusted_page:
        raise Refused(Reason.UI_DEVICE_REQUIRED)
    if role == OPERATOR and method is not None:
        asked, here = tidy(params.scopes), local and facts.browser is None
        backend = here and is_backend_self(client.id, client.mode)
        # Since protocol 4 the command line sends no device on its own host, and keeps what it asks for.
        command_line = here and is_cli(client.id, client.mode) and protocol >= 4
        if not (trusted_page or backend or command_line):
            return ()
        return _lent(rules, facts, asked)
    if method is None and (params.auth.presented("token") or params.auth.presented("password")):
        raise unauthorized(rules, params, shared or Reason.AUTH_REQUIRED)
    raise Refused(Reason.DEVICE_REQUIRED)


def _lent(rules: Gateway, facts: Facts, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a session keeps that rests on no grant: being local lends up to its ceiling, and no more (N7, A15)."""
    ceiling = rules.pairing.local_ceiling
    return tuple(scope for scope in asked if not facts.origin.local or covers(OPERATOR, ceiling, (scope,)))


def without_record(rules: Gateway, contact: Contact) -> Contact:
    """Return an exempt contact with the scopes that it keeps: nobody has approved any."""
    return replace(contact, scopes=_lent(rules, contact.facts, contact.scopes), exempt=True)


def _proof(params: ConnectParams, device: Signed) -> Proof:
    return Proof(
        device=device.id,
        key=device.public_key,
        signature=device.signature,
        signed_at=device.signed_at,
        nonce=device.nonce,
        client_id=params.client.id,
        client_mode=params.client.mode,
        role=params.role,
        scopes=params.scopes,
        token=params.auth.signed,
        platform=params.client.platform,
        family=given(params.client.device_family),
    )


def present(
    contact: Contact, state: Device, keyring: Keyring, limiter: RateLimiter, now: int, offered: Offered | None = None
) -> Presented:
    """Return what a contact showed, its possible device token named by the generation it equals (protocol §4.5)."""
    auth, device = contact.params.auth, contact.device
    shared, candidate = contact.shared, contact.candidate
    if contact.method is not None or candidate is None or device is None:
        method = None if contact.method == "device-token" or contact.method == "bootstrap-token" else contact.method
        return Presented(method=method, shared=shared, offered=offered)
    locked = limiter.locked(DEVICE_TOKEN, contact.facts.source, now, device, paired=state.grant is not None)
    issue = None if locked else keyring.recognise(state, device, contact.role, candidate)
    field: Literal["deviceToken", "token"] = "deviceToken" if auth.presented("device_token") else "token"
    return Presented(shared=shared, candidate=field, issue=issue, locked=locked, offered=offered)


def note_failure(limiter: RateLimiter, contact: Contact, presented: Presented, now: int, *, paired: bool = False) -> None:
    """Count the wrong secrets of a login that failed as a whole, each against its own class (protocol §4.6).

    What was presented counts, not what the refusal blames: a decoy in another field changes nothing (N9). A device token travels
    in the shared secret's field as well, so only a failed login may be counted, or healthy devices would lock their address.
    """
    if contact.shared in WRONG_SECRET:
        limiter.failed(SHARED_SECRET, contact.facts.source, now)
    if presented.candidate is not None and presented.issue is None and not presented.locked:
        limiter.failed(DEVICE_TOKEN, contact.facts.source, now, contact.device, paired=paired)
    if (offered := presented.offered) is not None and offered.code is None and not offered.locked:
        limiter.failed(SETUP_CODE, contact.facts.source, now, contact.device)


def note_guess(rules: Gateway, limiter: RateLimiter, contact: Contact, method: Method, now: int) -> None:
    """Count a wrong shared secret that came beside a right device token: a paired device may not guess for free (N9).

    The device token itself in that field is no guess; healthy devices send it there.
    """
    shown = _shown(rules, contact.params, contact.protocol)
    if method == "device-token" and contact.shared in WRONG_SECRET and set(shown) - {contact.candidate}:
        limiter.failed(SHARED_SECRET, contact.facts.source, now)


def note_success(limiter: RateLimiter, contact: Contact, method: Method) -> None:
    """Forget the failures of the class that was right, and of no other."""
    if method == "device-token":
        limiter.succeeded(DEVICE_TOKEN, contact.facts.source, contact.device)
    elif method == "bootstrap-token":
        limiter.succeeded(SETUP_CODE, contact.facts.source, contact.device)
    elif method != "none":
        limiter.succeeded(SHARED_SECRET, contact.facts.source)


def unauthorized(rules: Gateway, params: ConnectParams, reason: Reason, reference: str | None = None) -> Refused:
    """Build the refusal of a credential with the details that clients act on (protocol §4.3)."""
    client, auth = params.client, params.auth
    hint = hints(client.id, client.mode)
    told = auth_details(reason, auth, device=given(params.device) is not None, reference=reference)
    return Refused(
        reason,
        token_hint=hint.token_hint,
        password_hint=hint.password_hint,
        unauthorized=details.unauthorized(rules.auth.mode, auth),
        details=msgspec.to_builtins(told),
    )


def pairing_required(contact: Contact, state: Device, reason: Reason) -> Refused:
    """Build the refusal that tells a device what it waits for (protocol §5.7)."""
    grant, pending = state.grant, state.pending
    told = pairing_details(
        reason,
        device=contact.device or "",
        role=contact.role,
        scopes=contact.scopes,
        request=pending.request if pending else None,
        approved_roles=grant.roles if grant else (),
        approved_scopes=grant.scopes if grant else (),
    )
    return Refused(reason, details=msgspec.to_builtins(told))


def exempt(rules: Gateway, contact: Contact, method: Method, state: Device) -> bool:
    """Say whether a proven device is let in without record or token (protocol §5)."""
    client, facts = contact.params.client, contact.facts
    if is_backend_self(client.id, client.mode) and facts.origin.local and facts.browser is None and state.grant is None:
        return method in {"token", "password"}
    page = is_control_ui(client.id) and contact.role == OPERATOR
    return page and (rules.control_ui.dangerously_disable_device_auth or rules.auth.mode == "none")


def judge(contact: Contact, state: Device, presented: Presented, under: str | None, now: int) -> verdict.Verdict:
    """Judge a contact against a device's state."""
    return verdict.judge(state, presented, wanted(contact, under), now)
