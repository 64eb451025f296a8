"""Ends what a rotation left: once a handoff's time is up it is recorded, and the herald then ends what still rests on it.

Sessions that were there before the rotation are asked to come again shortly before: they are let in by the token they have and
are handed the next one, or they would lose both at the end.
"""

from typing import Final

import structlog

from pairing import ids
from pairing.commands import Caller, CloseHandoff
from pairing.events import Actor
from pairing.listing import HandedOver
from pairing.refusals import PairingError, Refused
from pairing.service import Service

from .herald import CHANGED
from .session import Registry, Session

NOTICE_MS: Final = 60_000
log = structlog.get_logger("pairing.gateway")
_TIMER: Final = Caller(actor=Actor("timer"), scopes=None)


async def wind_up(service: Service, registry: Registry) -> None:
    """Record the handoffs whose time is up, and call in whoever still has to collect the next token. Raises `PairingError`."""
    for left in await service.views.handed_over():
        now = service.clock()
        if now > left.until:
            await _close(service, left, now)
        elif now > left.until - notice(left):
            _call_in(registry, left)


def notice(left: HandedOver) -> int:
    """Return how long before its end (ms) a handoff's sessions are called in: a quarter of it, and at most a minute."""
    return min(NOTICE_MS, (left.until - left.rotated_at) // 4)


async def _close(service: Service, left: HandedOver, now: int) -> None:
    command = CloseHandoff(
        id=ids.uuid7(now), now=now, by=_TIMER, device=left.device, role=left.role, issue=left.issue, used=False
    )
    try:
        await service.desk.handle(command)
    except (Refused, PairingError) as error:
        # One stream that takes no decisions must not keep the others' handoffs open (D2). A login is judged by the clock anyway.
        log.warning("end of a handoff not recorded", device=left.device, error=str(error))


def _call_in(registry: Registry, left: HandedOver) -> None:
    def came_before(session: Session) -> bool:
        standing = session.caller.standing
        return standing is not None and standing.issue == left.predecessor and session.since <= left.rotated_at

    registry.fence(left.device, *CHANGED, which=came_before)
