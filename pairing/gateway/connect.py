"""What is said on connecting: the params of `connect`, the choice of a protocol, and hello-ok (protocol §2.2, §2.3, §2.5).

Owns shapes and the one number negotiated. Believes nothing of what a client says of itself. Secrets are in `Auth` alone,
which never shows them.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from pairing.entries import Presence
from pairing.gateway.clients import ClientId, ClientMode
from pairing.gateway.frames import StateVersion
from pairing.shapes import Name, decode_params

T = TypeVar("T")
# What is said of oneself is stored for ever and shown to reviewers.
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Listed: TypeAlias = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(max_length=512)]
Scopes: TypeAlias = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(max_length=64)]
Version: TypeAlias = Annotated[int, Meta(ge=1)]
# The largest integer that JavaScript, which prints it into the signed bytes, holds exactly.
Millis: TypeAlias = Annotated[int, Meta(ge=0, le=2**53 - 1)]
AuthField: TypeAlias = Literal["token", "device_token", "bootstrap_token", "password"]

PROTOCOLS: Final = (3, 4)


def given(value: T | UnsetType) -> T | None:
    """Return an optional value, None where its key was absent."""
    return None if isinstance(value, UnsetType) else value


class Client(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a client says it is."""

    id: ClientId
    version: Text
    platform: Text
    mode: ClientMode
    display_name: Text | UnsetType = UNSET
    device_family: Text | UnsetType = UNSET
    model_identifier: Text | UnsetType = UNSET
    instance_id: Text | UnsetType = UNSET
    build_id: Annotated[str, Meta(max_length=96)] | UnsetType = UNSET
    time_zone: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET


class Proof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A device's proof of its key, as sent (protocol §3.1): nothing in it has been checked."""

    id: Name
    public_key: Name
    signature: Name
    signed_at: Millis
    nonce: Name


class Auth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The secrets a client presents. Its repr names which were given and shows none."""

    token: str | UnsetType = UNSET
    bootstrap_token: str | UnsetType = UNSET
    device_token: str | UnsetType = UNSET
    password: str | UnsetType = UNSET
    approval_runtime_token: str | UnsetType = UNSET
    agent_runtime_identity_token: str | UnsetType = UNSET

    def presented(self, field: AuthField) -> str | None:
        """Return one secret, trimmed; None where it is absent or blank."""
        value: str | UnsetType = getattr(self, field)
        return (given(value) or "").strip() or None

    @property
    def signed(self) -> str:
        """The token inside the signed bytes: the first sent, as sent, an empty one included (protocol §3.2)."""
        sent = (self.token, self.device_token, self.bootstrap_token)
        return next((value for value in sent if not isinstance(value, UnsetType)), "")

    def __repr__(self) -> str:
        named = ", ".join(f"{name}=…" for name in self.__struct_fields__ if getattr(self, name) is not UNSET)
        return f"Auth({named})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, "…") for name in self.__struct_fields__ if getattr(self, name) is not UNSET]


class ConnectParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The params of `connect`. `scopes` are as sent, in the order sent, because that is what was signed."""

    min_protocol: Version
    max_protocol: Version
    client: Client
    role: Name = "operator"
    scopes: Scopes = ()
    caps: Listed = ()
    commands: Listed = ()
    permissions: dict[Name, bool] | UnsetType = UNSET
    path_env: str | UnsetType = UNSET
    device: Proof | UnsetType = UNSET
    auth: Auth = Auth()
    locale: str | UnsetType = UNSET
    user_agent: Annotated[str, Meta(max_length=1024)] | UnsetType = UNSET
    computer_use: Any = UNSET
    worker_runs: Any = UNSET
    model_catalog: Any = UNSET


def decode_connect(raw: Raw | UnsetType) -> ConnectParams:
    """Decode the params of `connect`; a client that speaks protocol 4 may send keys we do not know. Raises BadParams."""
    return decode_params("connect", ConnectParams, raw, forgiving=_newer)


def negotiate(minimum: int, maximum: int) -> int | None:
    """Return the highest protocol that both sides speak, None where there is none."""
    return max((number for number in PROTOCOLS if minimum <= number <= maximum), default=None)


class ProtocolMismatch(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Details of `protocol mismatch`: the short form for clients older than protocol 4, the long one from there on."""

    expected_protocol: int
    code: str | None = None
    client_min_protocol: int | None = None
    client_max_protocol: int | None = None
    minimum_probe_protocol: int | None = None


def mismatch(minimum: int, maximum: int) -> ProtocolMismatch:
    """Say what would have been understood: the nearest protocol to the client's range (protocol §2.3)."""
    if maximum < PROTOCOLS[-1]:
        return ProtocolMismatch(PROTOCOLS[0])
    return ProtocolMismatch(PROTOCOLS[-1], "PROTOCOL_MISMATCH", minimum, maximum, PROTOCOLS[0])


class ServerInfo(Struct, frozen=True, rename="camel"):
    """Which server answers, and what it calls this connection."""

    version: str
    conn_id: str


class Features(Struct, frozen=True):
    """What the server serves and announces."""

    methods: tuple[str, ...]
    events: tuple[str, ...]


class SessionDefaults(Struct, frozen=True, rename="camel"):
    """Names that clients of a whole assistant expect; a pairing service has one of each."""

    default_agent_id: str = "main"
    main_key: str = "main"
    main_session_key: str = "agent:main:main"
    scope: str = "per-sender"


class Snapshot(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The state at login. The last three are for sessions with operator.admin alone; `uptime_ms` in ms."""

    presence: tuple[Presence, ...]
    health: Any
    state_version: StateVersion
    uptime_ms: int
    session_defaults: SessionDefaults
    config_path: str | None = None
    state_dir: str | None = None
    auth_mode: str | None = None


class IssuedToken(Struct, frozen=True, rename="camel"):
    """A device token of another role, handed over with a bootstrap; `issued_at_ms` in ms."""

    device_token: str
    role: str
    scopes: tuple[str, ...]
    issued_at_ms: int

    def __repr__(self) -> str:
        return f"IssuedToken(role={self.role!r}, scopes={self.scopes!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("role", self.role), ("scopes", self.scopes)]


class HelloAuth(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What the session is, and the device's token where there is one. Its repr shows no token."""

    role: str
    scopes: tuple[str, ...]
    device_token: str | None = None
    issued_at_ms: int | None = None
    expires_at_ms: int | None = None
    device_tokens: tuple[IssuedToken, ...] | None = None
    method: str | None = None

    def __repr__(self) -> str:
        return f"HelloAuth(role={self.role!r}, scopes={self.scopes!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("role", self.role), ("scopes", self.scopes)]


class Policy(Struct, frozen=True, rename="camel"):
    """Limits of the session: bytes, bytes, ms."""

    max_payload: int
    max_buffered_bytes: int
    tick_interval_ms: int = 30_000


class HelloOk(Struct, frozen=True, tag_field="type", tag="hello-ok", rename="camel"):
    """The payload of a successful `connect`."""

    protocol: int
    server: ServerInfo
    features: Features
    snapshot: Snapshot
    auth: HelloAuth
    policy: Policy


def _newer(sent: dict[str, Any]) -> bool:
    highest = sent.get("maxProtocol")
    return type(highest) is int and highest >= PROTOCOLS[-1]
