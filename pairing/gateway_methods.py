"""The methods about the gateway itself: that it lives, what there is, who is connected, and the settings that may be shown."""

from typing import Any

from . import entries, node_entries
from .authority import NODE, OPERATOR, READ
from .entries import Presence
from .service import AnyParams, Call, Method


async def health(call: Call[AnyParams]) -> entries.Health:
    """Say that the gateway lives; needs neither role nor scope."""
    return entries.Health(ts=call.service.clock())


async def status(call: Call[AnyParams]) -> entries.Status:
    """Count what there is."""
    service = call.service
    pending, paired = await service.views.pending(), await service.views.paired()
    now = service.clock()
    return entries.Status(
        ts=now,
        runtime_version=service.version,
        uptime_ms=max(0, now - service.started_at) if service.started_at else 0,
        position=paired.position,
        pending=len(pending.rows),
        paired=len(paired.rows),
        sessions_live=len(service.sessions.presence()),
    )


async def presence(call: Call[AnyParams]) -> list[Presence]:
    """List this gateway and its live sessions."""
    service = call.service
    return [entries.self_entry(service.clock(), service.host, service.version), *service.sessions.presence()]


async def node_list(call: Call[AnyParams]) -> entries.NodeList:
    """List the nodes: those paired, and whether each is connected."""
    rows = (await call.service.views.paired()).rows
    live = call.service.sessions.nodes()
    approved = {row.node: row for row in (await call.service.views.nodes()).rows}
    nodes = []
    for row in rows:
        if NODE in row.roles:
            shown, mine = entries.node(row, live.get(row.device)), approved.pop(row.device, None)
            nodes.append(node_entries.merged(shown, mine, live.get(row.device)) if mine else shown)
    nodes += [node_entries.alone(row) for row in approved.values()]
    return entries.NodeList(ts=call.service.clock(), nodes=nodes)


async def config_get(call: Call[AnyParams]) -> entries.Config:
    """Show the settings that may be shown; a secret never is."""
    service = call.service
    shown = dict(service.config)
    return entries.Config(path=service.config_path, config=shown, hash=entries.config_hash(shown), exists=bool(shown))


METHODS: tuple[Method[Any], ...] = (
    Method("health", AnyParams, health, None, (OPERATOR, NODE)),
    Method("status", AnyParams, status, READ),
    Method("system-presence", AnyParams, presence, READ),
    Method("node.list", AnyParams, node_list, READ),
    Method("config.get", AnyParams, config_get, READ),
)
