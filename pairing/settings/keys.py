"""Every setting: its place in the typed tree, default, kind, meaning, and the variable and flag that override it.

The annotations of the tree are the one table; `KEYS` is the same table by dotted name. Nothing here reads anything.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Struct

from pairing.authority import NODE, OPERATOR, OPERATOR_SCOPES
from pairing.commands import Quorum, Terms

from .kinds import Choice, Flag, Integer, Kind, Limit, ListOf, SecretText, Span
from .secret import Secret
from .words import BIND, GRANTED, NETWORK, ORIGIN, PATH, QUORUM, RECEIVER, SCOPE, SPAN, URL, Network

AuthMode = Literal["token", "password", "none"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

_DAY_MS = 86_400_000


class Setting(Struct, frozen=True):
    """Describe one setting. `admits` marks what decides who gets in, and so belongs to the policy digest."""

    kind: Kind
    meaning: str
    env: str | None = None
    flag: str | None = None
    admits: bool = False


class RateLimit(Struct, frozen=True, kw_only=True, rename="camel"):
    """How many wrong secrets an address may present (protocol §4.6)."""

    max_attempts: Annotated[
        int, Setting(Limit(1, 1_000), "Wrong secrets from one address before it is locked out.", admits=True)
    ] = 10
    window_ms: Annotated[
        int, Setting(Limit(1_000, _DAY_MS), "Time in which wrong secrets are counted together, in ms.", admits=True)
    ] = 60_000
    lockout_ms: Annotated[int, Setting(Limit(1_000, _DAY_MS), "How long an address stays locked out, in ms.", admits=True)] = (
        300_000
    )
    exempt_loopback: Annotated[
        bool,
        Setting(Flag(), "Do not count loopback connections that carry no browser origin.", admits=True),
    ] = True


class Auth(Struct, frozen=True, kw_only=True, rename="camel"):
    """The gateway's shared secrets (protocol §4.1)."""

    mode: Annotated[
        AuthMode,
        Setting(
            Choice(("token", "password", "none")),
            "Which shared secret admits. Unset: `password` when a password is configured, else `token`."
            " `none` is accepted on loopback only.",
            flag="--auth",
            admits=True,
        ),
    ] = "token"
    token: Annotated[
        Secret | None,
        Setting(
            SecretText(),
            "The shared token. Unset: the random one made at first start, in `shared-token` of the state folder.",
            env="PAIRING_GATEWAY_TOKEN",
            flag="--token",
        ),
    ] = None
    password: Annotated[
        Secret | None,
        Setting(SecretText(), "The shared password.", env="PAIRING_GATEWAY_PASSWORD", flag="--password"),
    ] = None
    rate_limit: RateLimit = RateLimit()

    @property
    def secret(self) -> Secret | None:
        """The secret that counts in this mode, None where none is configured or the mode is `none`."""
        return {"token": self.token, "password": self.password, "none": None}[self.mode]


class Remote(Struct, frozen=True, kw_only=True, rename="camel"):
    """The gateway that commands on this host talk to in remote mode (protocol §8.2)."""

    url: Annotated[
        str | None,
        Setting(URL, "Where the remote gateway listens.", env="PAIRING_GATEWAY_URL", flag="--url"),
    ] = None
    token: Annotated[Secret | None, Setting(SecretText(), "The remote gateway's shared token.")] = None
    password: Annotated[Secret | None, Setting(SecretText(), "The remote gateway's shared password.")] = None


class NodePairing(Struct, frozen=True, kw_only=True, rename="camel"):
    """Automatic approval of nodes (protocol §5.3)."""

    auto_approve_cidrs: Annotated[
        tuple[Network, ...],
        Setting(
            ListOf(NETWORK, "IP addresses or CIDRs"),
            "Addresses from which a new node without scopes is approved at first contact.",
            admits=True,
        ),
    ] = ()


class Nodes(Struct, frozen=True, kw_only=True, rename="camel"):
    """What holds for nodes alone."""

    pairing: NodePairing = NodePairing()


class Approval(Struct, frozen=True, kw_only=True, rename="camel"):
    """On what terms people approve requests; what falls under any of these is never approved silently."""

    votes: Annotated[
        tuple[Quorum, ...],
        Setting(
            ListOf(QUORUM, "rules"),
            "How many different operators must approve: a scope, a role or `*`, then `=` and their number,"
            ' as in "operator.admin=2". The device that asks never counts; what a node may run takes one operator.',
            admits=True,
        ),
    ] = ()
    require_reason: Annotated[
        tuple[str, ...],
        Setting(
            ListOf(GRANTED, "scopes, roles or *"),
            "Scopes or roles whose approval must say why, `*` for every approval; `node` means what a node may run as well.",
            admits=True,
        ),
    ] = ()

    @property
    def terms(self) -> Terms:
        """The same as commands carry it."""
        return Terms(self.votes, self.require_reason)


class Pairing(Struct, frozen=True, kw_only=True, rename="camel"):
    """What holds for every pairing."""

    local_ceiling: Annotated[
        tuple[str, ...],
        Setting(
            ListOf(SCOPE, "operator scopes"),
            "The most that a local connection with the right shared secret is given, or may give, without review.",
            admits=True,
        ),
    ] = OPERATOR_SCOPES
    approval: Approval = Approval()
    keep_last_operator: Annotated[
        bool,
        Setting(
            Flag(),
            "Refuse to end the access of the last device that can approve, unless told to break the glass, with a reason.",
            admits=True,
        ),
    ] = True
    max_handoff_ms: Annotated[
        int,
        Setting(
            Integer(0, 30 * _DAY_MS),
            "The longest that a rotation may leave the token before it accepted, in ms; 0 allows no handoff.",
            admits=True,
        ),
    ] = _DAY_MS
    max_pending: Annotated[int, Setting(Limit(1, 100_000), "Pending requests that are kept in all.", admits=True)] = 1_000
    max_pending_per_address: Annotated[
        int, Setting(Limit(1, 100_000), "Pending requests that are kept for one address.", admits=True)
    ] = 50
    max_requests_per_device: Annotated[
        int,
        Setting(
            Limit(1, 30),
            "New requests of one device that may come to nothing (superseded, expired, rejected) within an hour.",
            admits=True,
        ),
    ] = 20
    request_ttl_ms: Annotated[
        int,
        Setting(Limit(1_000, 7 * _DAY_MS), "Life of a pending request after its last contact, in ms.", admits=True),
    ] = 300_000


class TokenAge(Struct, frozen=True, kw_only=True, rename="camel"):
    """How long a role's tokens live."""

    lifetime: Annotated[
        Span | None,
        Setting(SPAN, "How long a token lives from its issue on; for tokens issued from now on. Unset: for ever.", admits=True),
    ] = None
    idle: Annotated[
        Span | None,
        Setting(SPAN, "How long a token may go unused before it expires. Unset: for ever.", admits=True),
    ] = None


class Tokens(Struct, frozen=True, kw_only=True, rename="camel"):
    """How long device tokens live, by role, and when somebody is warned."""

    operator: TokenAge = TokenAge()
    node: TokenAge = TokenAge()
    warn_at: Annotated[
        tuple[Span, ...],
        Setting(ListOf(SPAN, "spans of time"), "How long before a token's lifetime ends it is warned of."),
    ] = (Span(7 * _DAY_MS), Span(_DAY_MS))

    @property
    def lifetimes(self) -> tuple[tuple[str, int], ...]:
        """Return the lifetimes that are set, in ms by role."""
        return tuple((role, int(age.lifetime)) for role, age in self._ages() if age.lifetime is not None)

    @property
    def idle(self) -> tuple[tuple[str, int], ...]:
        """Return the idle times that are set, in ms by role."""
        return tuple((role, int(age.idle)) for role, age in self._ages() if age.idle is not None)

    def _ages(self) -> tuple[tuple[str, TokenAge], ...]:
        return ((OPERATOR, self.operator), (NODE, self.node))


class ControlUi(Struct, frozen=True, kw_only=True, rename="camel"):
    """What browsers may do (protocol §4.4, §5.9)."""

    allowed_origins: Annotated[
        tuple[str, ...],
        Setting(
            ListOf(ORIGIN, "origins"),
            "Browser origins that may connect, besides loopback ones on this host. `*` admits every page.",
            admits=True,
        ),
    ] = ()
    allow_insecure_auth: Annotated[
        bool,
        Setting(Flag(), "Let a local Control UI in by shared secret without a device identity.", admits=True),
    ] = False
    dangerously_disable_device_auth: Annotated[
        bool,
        Setting(Flag(), "Let any Control UI in without a device identity and without pairing.", admits=True),
    ] = False
    dangerously_allow_host_header_origin_fallback: Annotated[
        bool,
        Setting(Flag(), "Accept an origin that equals the Host header the client sent.", admits=True),
    ] = False


class Tls(Struct, frozen=True, kw_only=True, rename="camel"):
    """The gateway's own certificate; both files or neither."""

    cert: Annotated[Path | None, Setting(PATH, "PEM file with the certificate chain.", flag="--tls-cert")] = None
    key: Annotated[Path | None, Setting(PATH, "PEM file with the private key.", flag="--tls-key")] = None


class Hooks(Struct, frozen=True, kw_only=True, rename="camel"):
    """How webhooks are delivered; there are none until one is added."""

    allow_private: Annotated[
        bool,
        Setting(Flag(), "Let webhooks go to private, loopback and link-local addresses, and over plain HTTP."),
    ] = False
    timeout_ms: Annotated[int, Setting(Limit(100, 120_000), "Time for one attempt to deliver an event, in ms.")] = 10_000
    give_up_ms: Annotated[
        int,
        Setting(Limit(1_000, 30 * _DAY_MS), "Time after which a webhook that fails again and again is paused, in ms."),
    ] = _DAY_MS


class LogCheckpoint(Struct, frozen=True, kw_only=True, rename="camel"):
    """Signed words about the event log, for a place that this host cannot write anew (docs/log.md)."""

    file: Annotated[
        Path | None,
        Setting(PATH, "Where the gateway writes a checkpoint of its log. Unset: it writes none by itself."),
    ] = None
    url: Annotated[
        str | None,
        Setting(RECEIVER, "Where the gateway posts a checkpoint of its log, under the rules for webhooks. Unset: nowhere."),
    ] = None
    every_ms: Annotated[
        int, Setting(Limit(1_000, 30 * _DAY_MS), "Time between two checkpoints that the gateway writes or posts, in ms.")
    ] = 3_600_000


class EventLog(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the gateway does about its event log."""

    checkpoint: LogCheckpoint = LogCheckpoint()


class Gateway(Struct, frozen=True, kw_only=True, rename="camel"):
    """The gateway: where it listens, whom it admits, what it bounds."""

    port: Annotated[
        int,
        Setting(
            Integer(1, 65_535),
            "TCP port for HTTP and WebSocket.",
            env="PAIRING_GATEWAY_PORT",
            flag="--port",
        ),
    ] = 18_789
    bind: Annotated[
        str,
        Setting(
            BIND,
            "Where it listens: `loopback` is 127.0.0.1, `lan` every IPv4 address of this host (0.0.0.0).",
            flag="--bind",
        ),
    ] = "loopback"
    mode: Annotated[
        Literal["local", "remote"],
        Setting(
            Choice(("local", "remote")),
            "Whether commands on this host talk to the gateway here or to `gateway.remote.url`.",
        ),
    ] = "local"
    auth: Auth = Auth()
    remote: Remote = Remote()
    nodes: Nodes = Nodes()
    pairing: Pairing = Pairing()
    hooks: Hooks = Hooks()
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Setting(
            ListOf(NETWORK, "IP addresses or CIDRs"),
            "Proxies whose forwarded headers name the client.",
            admits=True,
        ),
    ] = ()
    allow_real_ip_fallback: Annotated[
        bool,
        Setting(Flag(), "Believe X-Real-IP of a trusted proxy that sends no X-Forwarded-For.", admits=True),
    ] = False
    control_ui: ControlUi = ControlUi()
    handshake_timeout_ms: Annotated[
        int, Setting(Limit(100, 600_000), "Time from accept to a successful login, in ms.", admits=True)
    ] = 15_000
    max_preauth_per_address: Annotated[
        int, Setting(Limit(1, 10_000), "Sockets of one address that are not logged in yet.", admits=True)
    ] = 32
    max_connections: Annotated[int, Setting(Limit(1, 1_000_000), "Sockets in all.", admits=True)] = 10_000
    tls: Tls = Tls()
    public_url: Annotated[
        str | None,
        Setting(URL, "Where devices reach the gateway; setup codes name it. Plain `ws://` is for private addresses alone."),
    ] = None
    log: EventLog = EventLog()
    tokens: Tokens = Tokens()

    @property
    def host(self) -> str:
        """The address to listen on."""
        return {"loopback": "127.0.0.1", "lan": "0.0.0.0"}.get(self.bind, self.bind)  # noqa: S104

    @property
    def on_loopback(self) -> bool:
        """Whether only this host can reach the gateway directly."""
        return ip_address(self.host).is_loopback


class Log(Struct, frozen=True, kw_only=True, rename="camel"):
    """The operator's log lines, which are not the event log."""

    level: Annotated[
        LogLevel,
        Setting(
            Choice(("debug", "info", "warning", "error")),
            "The least serious lines that are written.",
            flag="--log-level",
        ),
    ] = "info"
    format: Annotated[
        LogFormat,
        Setting(
            Choice(("auto", "console", "json")),
            "`auto` is readable on a terminal and JSON lines otherwise.",
            flag="--log-format",
        ),
    ] = "auto"


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting, the state folder they belong to, and where each came from.

    `sources` maps each dotted name to `default`, `file <path>:<line>`, `env NAME`, `flag --name` or
    `generated <path>`. `warnings` are sentences for the operator about values that were ignored or are dangerous.
    """

    gateway: Gateway = Gateway()
    log: Log = Log()
    home: Path
    sources: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def source(self, key: str) -> str:
        """Return where the value of a dotted name came from; raises KeyError for an unknown name."""
        return self.sources[key]

    def value(self, key: str) -> Any:
        """Return the typed value of a dotted name; raises KeyError for an unknown name."""
        found: Any = self
        for attribute in KEYS[key].attributes:
            found = getattr(found, attribute)
        return found


class Key(Struct, frozen=True):
    """One row of the table: a setting with its dotted name, its attributes in the tree, and its default."""

    name: str
    attributes: tuple[str, ...]
    default: Any
    setting: Setting

    @property
    def path(self) -> tuple[str, ...]:
        """The name as keys of nested tables."""
        return tuple(self.name.split("."))

    @property
    def secret(self) -> bool:
        """Whether the value is a Secret."""
        return isinstance(self.setting.kind, SecretText)


def _rows(tree: type[Struct], names: tuple[str, ...] = (), attributes: tuple[str, ...] = ()) -> Iterator[Key]:
    hints = get_type_hints(tree, include_extras=True)
    for field in msgspec.structs.fields(tree):
        hint, here = hints[field.name], (*names, field.encode_name)
        (setting,) = getattr(hint, "__metadata__", (None,))
        if isinstance(setting, Setting):
            yield Key(".".join(here), (*attributes, field.name), field.default, setting)
        elif isinstance(hint, type) and issubclass(hint, Struct):
            yield from _rows(hint, here, (*attributes, field.name))


def _sections(keys: Mapping[str, Key]) -> frozenset[tuple[str, ...]]:
    return frozenset(key.path[:depth] for key in keys.values() for depth in range(1, len(key.path)))


KEYS: Mapping[str, Key] = MappingProxyType({key.name: key for key in _rows(Settings)})
SECTIONS = _sections(KEYS)


def assemble(tree: type[Any], values: Mapping[str, Any], names: tuple[str, ...] = ()) -> Any:
    """Return a part of the tree holding the values given by dotted name, and defaults for all others."""
    given = {}
    for field in msgspec.structs.fields(tree):
        here = (*names, field.encode_name)
        name = ".".join(here)
        if name in values:
            given[field.name] = values[name]
        elif here in SECTIONS:
            given[field.name] = assemble(field.type, values, here)
    return tree(**given)
