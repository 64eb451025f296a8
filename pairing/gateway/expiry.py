"""The task that records what ran out: requests, setup codes, and tokens handed over."""

from collections.abc import Awaitable
from typing import Final

import anyio
import structlog

from pairing import ids
from pairing.commands import Caller, Expire, ExpireCode
from pairing.events import Actor
from pairing.refusals import PairingError, Refused
from pairing.service import Service

from .handoffs import wind_up
from .session import Registry

REAP_S: Final = 1.0
log = structlog.get_logger("pairing.gateway")


async def reap(service: Service, registry: Registry) -> None:
    """Record the requests and setup codes that ran out, so that listeners are told and replay needs no clock."""
    timer = Caller(actor=Actor("timer"), scopes=None)
    while True:
        await anyio.sleep(REAP_S)
        now = service.clock()
        try:
            await wind_up(service, registry)
            overdue = await service.views.overdue(now)
            codes = await service.views.overdue_codes(now)
        except PairingError as error:
            log.warning("expiry not looked for", error=str(error))
            continue
        for device, request in overdue:
            command = Expire(id=ids.uuid7(now), now=now, by=timer, device=device, request=request)
            await _expired(service.desk.handle(command), device)
        for code in codes:
            ran_out = ExpireCode(id=ids.uuid7(now), now=now, by=timer, code=code)
            await _expired(service.desk.handle_enrolment(ran_out), code)


async def _expired(work: Awaitable[object], what: str) -> None:
    try:
        await work
    except (Refused, PairingError) as error:
        # One stream that takes no decisions must not keep the others' requests open (D2).
        log.warning("expiry not recorded", of=what, error=str(error))
