"""The method that says what will expire: the tokens with a lifetime, and those that nobody uses, the next first.

It reads views and notes; the ends themselves are decided by `device` and `aging`.
"""

from typing import Annotated

from msgspec import Meta

from .authority import PAIRING
from .entries import Entry
from .listing import PairedRow
from .service import Call, Method, Params

MOST = 1_000
_TEN_YEARS = 3650 * 86_400_000


class DueParams(Params, frozen=True, kw_only=True):
    """`within_ms` is how far ahead to look, at most ten years."""

    within_ms: Annotated[int, Meta(ge=1, le=_TEN_YEARS)] = 14 * 86_400_000


class DueEntry(Entry, frozen=True, kw_only=True):
    """A token that will expire: at the end of its lifetime, or (`idle`) if nobody uses it until then."""

    device_id: str
    display_name: str | None = None
    operator_label: str | None = None
    role: str
    how: str
    expires_at_ms: int
    issued_at_ms: int
    last_used_at_ms: int | None = None


class DueList(Entry, frozen=True, kw_only=True):
    """The answer to `device.due`: the next first, at most 1000."""

    position: int
    due: tuple[DueEntry, ...]


async def device_due(call: Call[DueParams]) -> DueList:
    """List the tokens that will expire within a time; a session bound to its device sees its own."""
    service, own = call.service, call.caller.own
    now = service.clock()
    until = now + call.params.within_ms
    aging = await service.views.due(after=now, until=until, most=MOST, device=own)
    found = [
        DueEntry(
            device_id=row.device,
            display_name=row.name,
            operator_label=row.label,
            role=row.role,
            how="lifetime",
            expires_at_ms=row.expires_at,
            issued_at_ms=row.issued_at,
        )
        for row in aging.rows
        if row.expires_at is not None
    ]
    if service.idle and service.notes is not None:
        since = service.notes.since
        rows = (await service.views.paired(device=own)).rows
        idle = [entry for row in rows if not service.sessions.connected(row.device) for entry in _idle(row, call, since)]
        found += [entry for entry in idle if entry.expires_at_ms <= until]
    found.sort(key=lambda entry: (entry.expires_at_ms, entry.device_id, entry.role))
    return DueList(position=aging.position, due=tuple(found[:MOST]))


def _idle(row: PairedRow, call: Call[DueParams], since: int) -> list[DueEntry]:
    limits = dict(call.service.idle)
    found = []
    for token in row.tokens:
        if token.role in limits and token.revoked_at is None and token.expired_at is None:
            issued = token.rotated_at or token.created_at
            last = max(issued, since, row.last_seen_at or 0)
            found.append(
                DueEntry(
                    device_id=row.device,
                    display_name=row.name,
                    operator_label=row.label,
                    role=token.role,
                    how="idle",
                    expires_at_ms=last + limits[token.role],
                    issued_at_ms=issued,
                    last_used_at_ms=token.last_used_at,
                )
            )
    return found


METHODS = (Method("device.due", DueParams, device_due, PAIRING),)
