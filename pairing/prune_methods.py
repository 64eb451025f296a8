"""The methods that clear out devices nobody uses: a plan to review, and its lines carried out one by one.

The plan is evidence, not authority: every line is an ordinary removal, refused where its device was used or has changed since.
The removals stand in one line of cause: all but the first name the first, so that the whole can be found by it, and taken back.
"""

from typing import Annotated

from msgspec import Meta

from .authority import PAIRING
from .commands import Remove
from .device import imprint
from .entries import Entry
from .listing import PairedRow
from .log.codec import decode_meta
from .refusals import Reason, Refused
from .service import Call, Method, Params, Reasoned, Service
from .shapes import Name
from .standing import lapsed

MOST = 2_000
_TEN_YEARS = 3650 * 86_400_000


class PlanParams(Params, frozen=True, kw_only=True):
    """Devices that were not used for `idle_ms`, by id, after `after`; at most 2000 in one answer."""

    idle_ms: Annotated[int, Meta(ge=60_000, le=_TEN_YEARS)]
    after: str = ""


class PlanLine(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device to remove: `digest` stands for all that is known of it, `last_seen_at_ms` is absent where no use is known."""

    device_id: Name
    digest: Name
    last_seen_at_ms: int | None = None
    approved_at_ms: int = 0
    roles: tuple[str, ...] = ()
    display_name: str | None = None
    operator_label: str | None = None


class Plan(Entry, frozen=True, kw_only=True):
    """The answer to `device.prune.plan`: true at `position`. `known_since_ms`: from when on uses were noted. `more`: ask on."""

    position: int
    made_at_ms: int
    idle_ms: int
    known_since_ms: int
    lines: tuple[PlanLine, ...]
    more: bool = False


class ApplyParams(Reasoned, frozen=True, kw_only=True):
    """Lines of a plan; `cause` is the position of the first removal of the same plan, where an earlier call has made it."""

    lines: Annotated[tuple[PlanLine, ...], Meta(min_length=1, max_length=MOST)]
    cause: Annotated[int, Meta(ge=1, le=2**53)] | None = None


class PrunedEntry(Entry, frozen=True, kw_only=True):
    """A device that was removed, and the event that says so."""

    device_id: str
    position: int


class SparedEntry(Entry, frozen=True, kw_only=True):
    """A device that was not removed, and why."""

    device_id: str
    reason: str
    message: str


class Applied(Entry, frozen=True, kw_only=True):
    """The answer to `device.prune.apply`: what became of each line; `cause` leads to all of them."""

    removed: tuple[PrunedEntry, ...] = ()
    refused: tuple[SparedEntry, ...] = ()
    cause: int | None = None


async def prune_plan(call: Call[PlanParams]) -> Plan:
    """Plan to remove the devices that nobody has used for so long; nothing is changed."""
    service, p = call.service, call.params
    now = service.clock()
    paired = await service.views.paired(device=call.caller.own)
    since = service.notes.since if service.notes is not None else now
    idle = [row for row in paired.rows if row.device > p.after and _unused(service, row, since) <= now - p.idle_ms]
    idle.sort(key=lambda row: row.device)
    lines = []
    for row in idle[:MOST]:
        state = lapsed(await service.desk.device(row.device), now)
        lines.append(
            PlanLine(
                device_id=row.device,
                digest=imprint(state),
                last_seen_at_ms=row.last_seen_at,
                approved_at_ms=row.approved_at,
                roles=row.roles,
                display_name=row.name,
                operator_label=row.label,
            )
        )
    return Plan(
        position=paired.position,
        made_at_ms=now,
        idle_ms=p.idle_ms,
        known_since_ms=since,
        lines=tuple(lines),
        more=len(idle) > MOST,
    )


def _unused(service: Service, row: PairedRow, since: int) -> int:
    """Return since when a device is not known to have been used, in ms. What was used before the notes begin is not known."""
    return service.clock() if service.sessions.connected(row.device) else max(row.approved_at, row.last_seen_at or 0, since)


async def prune_apply(call: Call[ApplyParams]) -> Applied:
    """Carry out lines of a plan, each as a removal of its own; a line whose device was used or has changed is refused."""
    removed: list[PrunedEntry] = []
    refused: list[SparedEntry] = []
    cause = await _began(call)
    for line in call.params.lines:
        try:
            position = await _remove(call, line, cause)
        except Refused as no:
            refused.append(SparedEntry(device_id=line.device_id, reason=no.reason.value, message=no.message))
            continue
        removed.append(PrunedEntry(device_id=line.device_id, position=position))
        cause = cause or position
    return Applied(removed=tuple(removed), refused=tuple(refused), cause=cause)


async def _began(call: Call[ApplyParams]) -> int | None:
    """Return the removal that an earlier call began with. Raises `Refused` where it is none of this caller's."""
    cause = call.params.cause
    if cause is None:
        return None
    rows = await call.service.desk.log.pick((cause,)) if cause <= await call.service.views.position() else ()
    if not any(row.kind == "device.removed" and decode_meta(row).actor == call.caller.actor for row in rows):
        raise Refused(Reason.INVALID_PARAMS, method="device.prune.apply", problems="at /cause: is no removal of yours")
    return cause


async def _remove(call: Call[ApplyParams], line: PlanLine, cause: int | None) -> int:
    service = call.service
    if call.caller.own not in {None, line.device_id}:
        # What becomes of others is not even refused for a reason that tells of them (A8).
        raise Refused(Reason.REMOVAL_DENIED, rule="foreign")
    rows = (await service.views.paired(device=line.device_id)).rows
    if rows and ((rows[0].last_seen_at or 0) > (line.last_seen_at_ms or 0) or service.sessions.connected(line.device_id)):
        raise Refused(Reason.DEVICE_USED)
    handled = await service.desk.handle(Remove(device=line.device_id, seen=line.digest, **(call.stamp() | {"cause": cause})))
    return handled.records[-1].position


METHODS = (
    Method("device.prune.plan", PlanParams, prune_plan, PAIRING),
    Method("device.prune.apply", ApplyParams, prune_apply, PAIRING),
)
