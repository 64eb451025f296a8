"""What the answers about nodes are made of: the wire's forms of their requests and approvals (protocol §6.7).

Keys that have nothing to say are absent, never null. No list holds a token.
"""

from typing import Any

from .entries import Entry, Node
from .events import NodeRequested, Personal
from .listing import NodeAskedRow, NodeRow
from .nodes import required_scopes


class NodeEntry(Entry, frozen=True, kw_only=True):
    """What is known of a node, asked or approved."""

    node_id: str
    display_name: str | None = None
    platform: str | None = None
    version: str | None = None
    core_version: str | None = None
    ui_version: str | None = None
    device_family: str | None = None
    model_identifier: str | None = None
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    remote_ip: str | None = None


class NodePendingEntry(NodeEntry, frozen=True, kw_only=True):
    """An open request. `required_approve_scopes` is what its approver must hold; `ts` when it was made, in ms."""

    request_id: str
    silent: bool
    is_repair: bool
    ts: int
    required_approve_scopes: tuple[str, ...]


class NodePairedEntry(NodeEntry, frozen=True, kw_only=True):
    """An approved node. `token` is in the answer to its approval alone."""

    token: str | None = None
    created_at_ms: int
    approved_at_ms: int
    connected: bool = False


def asked(row: NodeAskedRow) -> NodePendingEntry:
    """Return an open request as it is listed."""
    return NodePendingEntry(
        node_id=row.node,
        display_name=row.name,
        platform=row.platform,
        version=row.version,
        core_version=row.core_version,
        ui_version=row.ui_version,
        device_family=row.family,
        model_identifier=row.model,
        caps=row.caps,
        commands=row.commands,
        remote_ip=row.address,
        request_id=row.request,
        silent=row.silent,
        is_repair=row.repair,
        ts=row.asked_at,
        required_approve_scopes=required_scopes(row.commands),
    )


def announced(event: NodeRequested, personal: Personal | None) -> NodePendingEntry:
    """Return a request as it is announced, from the event that made it."""
    return NodePendingEntry(
        node_id=event.node,
        display_name=personal.name if personal else None,
        platform=event.platform,
        version=event.version,
        core_version=event.core_version,
        ui_version=event.ui_version,
        device_family=event.family,
        model_identifier=event.model,
        caps=event.caps,
        commands=event.commands,
        remote_ip=personal.address if personal else None,
        request_id=event.request,
        silent=event.silent,
        is_repair=event.repair,
        ts=event.at,
        required_approve_scopes=required_scopes(event.commands),
    )


def approved(row: NodeRow, connected: bool, token: str | None = None) -> NodePairedEntry:
    """Return an approved node as it is listed; with its token, in the answer to its approval."""
    return NodePairedEntry(
        node_id=row.node,
        display_name=row.label or row.name,
        platform=row.platform,
        version=row.version,
        core_version=row.core_version,
        ui_version=row.ui_version,
        device_family=row.family,
        model_identifier=row.model,
        caps=row.caps,
        commands=row.commands,
        remote_ip=row.address,
        token=token,
        created_at_ms=row.created_at,
        approved_at_ms=row.approved_at,
        connected=connected,
    )


def merged(shown: dict[str, Any], row: NodeRow, live: Node | None) -> dict[str, Any]:
    """Return a node's entry of `node.list` with the name that it was given here, and its approved surface while it is away."""
    named = {"displayName": row.label} if row.label else {}
    surface = {} if live else {"caps": list(row.caps), "commands": list(row.commands)}
    return {**shown, **named, **surface}


def alone(row: NodeRow) -> dict[str, Any]:
    """Return the entry of `node.list` for an approved node that is no paired device."""
    shown: dict[str, Any] = {
        "nodeId": row.node,
        "displayName": row.label or row.name,
        "platform": row.platform,
        "deviceFamily": row.family,
        "remoteIp": row.address,
        "caps": list(row.caps),
        "commands": list(row.commands),
        "version": row.version,
        "paired": True,
        "connected": False,
        "approvedAtMs": row.approved_at,
    }
    return {key: value for key, value in shown.items() if value is not None}
