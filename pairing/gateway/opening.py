"""Whether one more request may be opened: the caps by address and in all, counted one at a time over all gateways of a log.

What is counted stays so until the request is stored, because whoever opens one holds the lock file meanwhile (R10).
"""

import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import anyio
import structlog

from pairing.refusals import Reason, Refused
from pairing.service import Service
from pairing.settings.keys import Pairing

from .crowding import full, source

T = TypeVar("T")
PATIENCE_S: Final = 5.0
_NAP_S: Final = 0.002
log = structlog.get_logger("pairing.gateway")


class Opening:
    """Opens requests, one after another. `lock` is a file that all gateways of one log share; None where there is one gateway."""

    def __init__(self, service: Service, caps: Pairing, lock: Path | None = None) -> None:
        self._service = service
        self._caps = caps
        self._here = anyio.Lock()
        self._file = -1 if lock is None else os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    async def handle(self, write: Callable[[bool], Awaitable[T]], *, address: str | None, local: bool, opens: bool) -> T:
        """Have a wish decided; `write` is told whether no more requests may be open, `opens` says that one is expected to be.

        One that was not expected, and would be opened all the same, is counted after all. Raises `Refused` for one too many.
        """
        if not opens:
            try:
                return await write(True)
            except Refused as refused:
                if refused.reason is not Reason.TOO_MANY_PENDING:
                    raise
        async with self._here, self._everywhere():
            return await write(await self._full(address, local))

    def close(self) -> None:
        """Let go of the lock file; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    async def _full(self, address: str | None, local: bool) -> bool:
        crowd = await self._service.views.crowd(address)
        # Those whose address a header hides count as one source, or hiding it would be the way round the cap.
        near = await self._neighbours(address) if address and ":" in address else crowd.here
        return full(self._caps, crowd.total, near, local=local)

    async def _neighbours(self, address: str) -> int:
        """Count the open requests from an IPv6 network: one host has all of its addresses."""
        place, rows = source(address), (await self._service.views.pending()).rows
        return sum(row.address is not None and source(row.address) == place for row in rows)

    @asynccontextmanager
    async def _everywhere(self) -> AsyncIterator[None]:
        """Hold the lock file. Who waited in vain for long goes on without: a stopped process must not stop the others."""
        if self._file < 0:
            yield
            return
        held = self._taken()
        for _ in range(round(PATIENCE_S / _NAP_S)):
            if held:
                break
            await anyio.sleep(_NAP_S)
            held = self._taken()
        if not held:
            log.warning("requests are counted without the other gateways", waited_s=PATIENCE_S)
        try:
            yield
        finally:
            if held:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
