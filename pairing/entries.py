"""What the answers of methods are made of: the wire's forms of requests, devices, sessions (protocol §5.4, §6.3, §10.2).

Keys that have nothing to say are absent, never null. Nothing here holds a token.
"""

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from .authority import NODE
from .device import Device
from .events import Personal, RequestOpened
from .listing import Fate, PairedRow, PendingRow, RefusedContact, Reuse, TokenRow
from .verdict import Step


class Entry(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An object of the wire: camelCase keys, absent where there is nothing to say."""


class PendingEntry(Entry, frozen=True, kw_only=True):
    """An open request. `ts` is when it was opened, in ms."""

    request_id: str
    device_id: str
    public_key: str
    display_name: str | None = None
    platform: str | None = None
    device_family: str | None = None
    client_id: str | None = None
    client_mode: str | None = None
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    remote_ip: str | None = None
    silent: bool
    is_repair: bool
    ts: int


class PendingView(PendingEntry, frozen=True, kw_only=True):
    """An open request with what a reviewer needs besides: why, until when, what stands for it, where it is recorded."""

    reason: str
    expires_at_ms: int
    digest: str
    position: int
    approvals_needed: int = 1
    approvals: tuple["VoteEntry", ...] = ()

    def voted(self, needed: int, votes: tuple["VoteEntry", ...]) -> "PendingView":
        """Return the same with who has approved it, of how many who must."""
        return replace(self, approvals_needed=needed, approvals=votes)


class VoteEntry(Entry, frozen=True, kw_only=True):
    """One of several approvals: whose, and when."""

    voter: str
    at_ms: int


class VoidedEntry(Entry, frozen=True, kw_only=True):
    """An approval that counts no longer: whose, of which request, and why."""

    request_id: str
    voter: str
    why: str
    at_ms: int


class TokenEntry(Entry, frozen=True, kw_only=True):
    """A token of one role: everything but the token."""

    role: str
    scopes: tuple[str, ...]
    created_at_ms: int
    rotated_at_ms: int | None = None
    revoked_at_ms: int | None = None
    expires_at_ms: int | None = None
    expired_at_ms: int | None = None
    last_used_at_ms: int | None = None
    handoff_until_ms: int | None = None


class PairedEntry(Entry, frozen=True, kw_only=True):
    """A device with a grant. `tokens` is absent where there is none."""

    device_id: str
    public_key: str
    display_name: str | None = None
    operator_label: str | None = None
    platform: str | None = None
    device_family: str | None = None
    client_id: str | None = None
    client_mode: str | None = None
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    remote_ip: str | None = None
    created_at_ms: int
    approved_at_ms: int
    approved_via: str
    last_seen_at_ms: int | None = None
    connected: bool = False
    tokens: tuple[TokenEntry, ...] | None = None


class ClosedEntry(Entry, frozen=True, kw_only=True):
    """A request that has ended, and how."""

    request_id: str
    outcome: str
    at_ms: int
    superseded_by: str | None = None


class ReuseEntry(Entry, frozen=True, kw_only=True):
    """A token that was shown after it had ended, and the last known use of the one in its place."""

    issue: str
    how: str
    retired_at_ms: int
    present_ip: str | None = None
    present_at_ms: int | None = None


class RefusedEntry(Entry, frozen=True, kw_only=True):
    """A contact that was turned away, under its reference: how often, the rules that were tried, and what each compared."""

    reference: str
    reason: str
    code: str
    at_ms: int
    first_at_ms: int
    count: int
    role: str | None = None
    scopes: tuple[str, ...] = ()
    remote_ip: str | None = None
    trace: tuple[Step, ...] = ()
    reuse: ReuseEntry | None = None


class Presence(Entry, frozen=True, kw_only=True):
    """One live session (protocol §2.5); only `ts` is always there."""

    ts: int
    host: str | None = None
    ip: str | None = None
    version: str | None = None
    platform: str | None = None
    device_family: str | None = None
    mode: str | None = None
    reason: str | None = None
    device_id: str | None = None
    roles: tuple[str, ...] | None = None
    scopes: tuple[str, ...] | None = None
    instance_id: str | None = None
    text: str | None = None


def self_entry(now: int, host: str, version: str) -> Presence:
    """Return the gateway's own entry of the presence list."""
    return Presence(
        ts=now, host=host, version=version, platform=sys.platform, mode="gateway", reason="self", text=f"Gateway: {host}"
    )


class Node(Entry, frozen=True, kw_only=True):
    """A node: paired, connected, or both."""

    node_id: str
    display_name: str | None = None
    platform: str | None = None
    version: str | None = None
    device_family: str | None = None
    remote_ip: str | None = None
    caps: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    paired: bool = field(default=False)
    connected: bool = field(default=False)
    connected_at_ms: int | None = None


class NodeList(Struct, frozen=True):
    """The answer to `node.list`."""

    ts: int
    nodes: list[dict[str, Any]]


class Health(Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer to `health`, in the form that clients print."""

    ok: bool = True
    ts: int
    duration_ms: int = 0
    channels: dict[str, Any] = field(default_factory=dict)
    channel_order: list[str] = field(default_factory=list)
    channel_labels: dict[str, str] = field(default_factory=dict)
    heartbeat_seconds: int = 0
    default_agent_id: str = "main"
    agents: list[Any] = field(default_factory=list)
    sessions: dict[str, Any] = field(default_factory=lambda: {"path": "", "count": 0, "recent": []})


class Status(Entry, frozen=True, kw_only=True):
    """The answer to `status`."""

    ts: int
    runtime_version: str
    uptime_ms: int
    position: int
    pending: int
    paired: int
    sessions_live: int


class Config(Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer to `config.get`: where the settings are, what may be shown of them, and a hash to compare."""

    path: str
    config: dict[str, Any]
    hash: str
    exists: bool
    valid: bool = True
    issues: list[str] = field(default_factory=list)
    legacy_issues: list[str] = field(default_factory=list)


def config_hash(config: Mapping[str, Any]) -> str:
    """Return 16 hex characters that stand for some settings."""
    return hashlib.sha256(msgspec.json.encode(dict(config), order="deterministic")).hexdigest()[:16]


def pending(row: PendingRow) -> PendingEntry:
    """Return an open request as the protocol lists it."""
    return PendingEntry(**_pending(row))


def pending_view(row: PendingRow) -> PendingView:
    """Return an open request as our own lists show it."""
    return PendingView(**_pending(row), reason=row.need, expires_at_ms=row.expires_at, digest=row.digest, position=row.position)


def _pending(row: PendingRow) -> dict[str, Any]:
    return {
        "request_id": row.request,
        "device_id": row.device,
        "public_key": row.key,
        "display_name": row.name,
        "platform": row.platform,
        "device_family": row.family,
        "client_id": row.client_id,
        "client_mode": row.client_mode,
        "role": row.role,
        "roles": row.roles,
        "scopes": row.scopes,
        "remote_ip": row.address,
        "silent": row.silent,
        "is_repair": row.repair,
        "ts": row.opened_at,
    }


def requested(event: RequestOpened, personal: Personal | None) -> PendingEntry:
    """Return a request as it is announced, from the event that opened it."""
    return PendingEntry(
        request_id=event.request,
        device_id=event.device,
        public_key=event.key,
        display_name=personal.name if personal else None,
        platform=event.platform,
        device_family=event.family,
        client_id=event.client_id,
        client_mode=event.client_mode,
        role=event.role,
        roles=event.roles,
        scopes=event.scopes,
        remote_ip=personal.address if personal else None,
        silent=event.silent,
        is_repair=event.repair,
        ts=event.at,
    )


def paired(row: PairedRow, connected: bool) -> PairedEntry:
    """Return a paired device as the protocol lists it."""
    return PairedEntry(
        device_id=row.device,
        public_key=row.key,
        display_name=row.name,
        operator_label=row.label,
        platform=row.platform,
        device_family=row.family,
        client_id=row.client_id,
        client_mode=row.client_mode,
        role=row.role,
        roles=row.roles,
        scopes=row.scopes,
        remote_ip=row.address,
        created_at_ms=row.created_at,
        approved_at_ms=row.approved_at,
        approved_via=row.means,
        last_seen_at_ms=row.last_seen_at,
        connected=connected,
        tokens=tuple(token(t) for t in row.tokens) or None,
    )


def token(row: TokenRow) -> TokenEntry:
    """Return a token's entry."""
    return TokenEntry(
        role=row.role,
        scopes=row.scopes,
        created_at_ms=row.created_at,
        rotated_at_ms=row.rotated_at,
        revoked_at_ms=row.revoked_at,
        expires_at_ms=row.expires_at,
        expired_at_ms=row.expired_at,
        last_used_at_ms=row.last_used_at,
        handoff_until_ms=row.handoff_until,
    )


def closed(state: Device) -> tuple[ClosedEntry, ...]:
    """Return the requests of a device that have ended, latest first, as far as its state remembers."""
    return tuple(
        ClosedEntry(request_id=c.request, outcome=c.ending, at_ms=c.at, superseded_by=c.by) for c in reversed(state.closed)
    )


def refused(contact: RefusedContact) -> RefusedEntry:
    """Return a refused contact as an operator sees it."""
    return RefusedEntry(
        reference=contact.reference,
        reason=contact.reason,
        code=contact.code,
        at_ms=contact.at,
        first_at_ms=contact.first_at,
        count=contact.count,
        role=contact.role,
        scopes=contact.scopes,
        remote_ip=contact.address,
        trace=contact.trace,
        reuse=_reuse(contact.reuse),
    )


def _reuse(found: Reuse | None) -> ReuseEntry | None:
    if found is None:
        return None
    return ReuseEntry(
        issue=found.issue,
        how=found.how,
        retired_at_ms=found.retired_at,
        present_ip=found.present_address,
        present_at_ms=found.present_at,
    )


def fate(found: Fate) -> dict[str, Any]:
    """Return the truth about a request for the details of a refusal."""
    truth: dict[str, Any] = {"outcome": found.outcome, "atMs": found.at, "position": found.position}
    if found.actor is not None:
        truth["by"] = {"kind": found.actor.kind, **({"id": found.actor.id} if found.actor.id else {})}
    if found.by is not None:
        truth["supersededBy"] = found.by
    return truth


def ran_out(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the truth about a request whose expiry nobody has recorded yet, from what the decision said of it."""
    return {"outcome": details.get("outcome", "expired"), "atMs": details.get("at", 0)}


def node(row: PairedRow, live: Node | None) -> dict[str, Any]:
    """Return a paired node's entry, with what its session declared where it is connected."""
    token_live = any(t.role == NODE and t.revoked_at is None and t.expired_at is None for t in row.tokens)
    shown: dict[str, Any] = {
        "nodeId": row.device,
        "displayName": row.label or row.name,
        "platform": row.platform,
        "deviceFamily": row.family,
        "clientId": row.client_id,
        "clientMode": row.client_mode,
        "remoteIp": row.address,
        "caps": list(live.caps) if live else [],
        "commands": list(live.commands) if live else [],
        "version": live.version if live else None,
        "paired": token_live,
        "connected": live is not None,
        "connectedAtMs": live.connected_at_ms if live else None,
        "approvedAtMs": row.approved_at,
        "lastSeenAtMs": row.last_seen_at,
    }
    return {key: value for key, value in shown.items() if value is not None}
