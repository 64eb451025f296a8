"""The methods that only a node host calls, answered so that it goes on."""

from typing import Any

from .authority import NODE
from .service import AnyParams, Call, Method


async def skills_bins(call: Call[AnyParams]) -> dict[str, list[str]]:
    """Answer a node host's question for helper programs: there are none here."""
    return {"bins": []}


async def node_event(call: Call[AnyParams]) -> dict[str, bool]:
    """Take a node's own event; nothing here listens for it."""
    return {"ok": True}


METHODS: tuple[Method[Any], ...] = (
    Method("skills.bins", AnyParams, skills_bins, None, (NODE,)),
    Method("node.event", AnyParams, node_event, None, (NODE,)),
)
