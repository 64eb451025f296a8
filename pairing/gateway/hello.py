"""What a gateway says of itself, and of a session, to who has just been let in (protocol §2.5)."""

from typing import Final

from pairing.methods import METHODS

from .admission import Admitted
from .connect import Features, HelloAuth, HelloOk, Policy, ServerInfo, SessionDefaults, Snapshot
from .frames import StateVersion
from .house import House
from .session import Session
from .site import TransportLimits

MAX_PAYLOAD: Final = 1024 * 1024
TICK_MS: Final = 30_000
EVENTS: Final = (
    "connect.challenge",
    "device.pair.changed",
    "device.pair.requested",
    "device.pair.resolved",
    "device.token.due",
    "node.pair.requested",
    "node.pair.resolved",
    "shutdown",
    "tick",
)
_FEATURES: Final = Features(tuple(METHODS), EVENTS)
_DEFAULTS: Final = SessionDefaults()
_UNCOUNTED: Final = StateVersion()
_POLICY: Final = Policy(MAX_PAYLOAD, TransportLimits().buffered_bytes, TICK_MS)


def hello(house: House, session: Session, admitted: Admitted, now: int, uptime: int) -> HelloOk:
    """Build the answer to a login that succeeded."""
    contact, service = session.contact, house.service
    token = value = None
    if admitted.state is not None and contact.device is not None:
        token = admitted.state.token(contact.role)
        # Who came by the present token has just shown it; who came by its predecessor is handed the present one.
        present = admitted.method == "device-token" and token is not None and admitted.issue == token.issue
        shown = contact.candidate if present else None
        value = shown or service.keyring.token_of(admitted.state, contact.device, contact.role)
    scopes = token.scopes if token and value and contact.protocol < 4 else contact.scopes
    admin = "operator.admin" in contact.scopes
    told = house.describe() if admin else {}
    return HelloOk(
        protocol=contact.protocol,
        server=ServerInfo(service.version, session.id),
        features=_FEATURES,
        snapshot=Snapshot(
            presence=(),
            health={},
            state_version=_UNCOUNTED,
            uptime_ms=uptime,
            session_defaults=_DEFAULTS,
            config_path=told.get("configPath"),
            state_dir=told.get("stateDir"),
            auth_mode=house.rules.auth.mode if admin else None,
        ),
        auth=HelloAuth(
            role=contact.role,
            scopes=scopes,
            device_token=value,
            issued_at_ms=token.issued_at if token and value else None,
            device_tokens=admitted.handed or None,
            expires_at_ms=token.expires_at if token and value else None,
            method=admitted.method if contact.protocol >= 4 else None,
        ),
        policy=_POLICY,
    )
