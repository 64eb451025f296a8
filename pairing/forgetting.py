"""Forgetting a device: what points at a person leaves the log, the views and the notes; what was done, and by whom, stays.

The fact comes first and says how many rows it is about; only then are bytes erased. Cut short at any point, the same call again
ends it. It decides nothing: see `decide` and `nodes`.
"""

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Struct

from .authority import PAIRING
from .commands import Forget, ForgetNode
from .events import device_stream, node_stream
from .service import Call, Method, Params, Receipt
from .shapes import Name

Why: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1000, pattern="^[^\\x00]*$")]


class ForgetParams(Params, frozen=True, kw_only=True):
    """One device by its full id. `reason` is kept for ever: it must not itself point at anybody."""

    device_id: Name
    reason: Why
    ticket: Why | None = None


class Forgotten(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.forget`: in how many rows of the log something was erased, and which event says so.

    `kept` are the positions at which this device named others: what it called them stays, and with it the address it did so from.
    `scrubbed` false: another process was reading, and erased bytes may be left in a `-wal` file until this is asked again.
    """

    device_id: str
    rows: int
    recorded: Receipt
    scrubbed: bool
    kept: tuple[int, ...] = ()


async def device_forget(call: Call[ForgetParams]) -> Forgotten:
    """Erase what points at a person in everything that is known of a device. Raises `Refused`."""
    service, device = call.service, call.params.device_id.strip()
    log, own, node = service.desk.log, device_stream(device), node_stream(device)
    acted = await service.views.acted(device)
    said, declared = await _personal(call, own), await _personal(call, node)
    rows = said + declared + acted.known
    handled = await service.desk.handle(Forget(device=device, rows=rows, **call.stamp()))
    receipt = Receipt(0, "", changed=False)
    if handled.records:
        event = handled.records[0]
        receipt = Receipt(event.position, event.kind)
        await log.forget(own, below=event.position)
        await log.forget_at((await service.views.acted(device, below=event.position)).positions)
        if declared:
            asked = ForgetNode(node=device, rows=declared, cause=event.position, **call.stamp())
            await log.forget(node, below=(await service.desk.handle_node(asked)).position)
    scrubbed = await service.views.forget(device)
    return Forgotten(device_id=device, rows=rows, recorded=receipt, scrubbed=scrubbed, kept=acted.kept)


async def _personal(call: Call[Any], stream: str) -> int:
    return sum(record.personal is not None for record in await call.service.desk.log.stream(stream))


METHODS = (Method("device.forget", ForgetParams, device_forget, PAIRING),)
