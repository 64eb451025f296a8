"""Delivery of one webhook's events: in the order of the log, each device's in its own order, again until they are taken.

Two lanes: one goes on with what is new, the other comes back to devices whose event was not taken; only those wait. What was
delivered is kept after it was answered, so that a crash repeats an event, under the same id, and never leaves one out.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio
import structlog
from msgspec import Struct
from msgspec.structs import replace

from pairing.events import HookPause
from pairing.hooks import Sending
from pairing.log.errors import StreamDamaged
from pairing.log.port import EventLog, Record
from pairing.outbox import Blocked, Outbox, Progress

if TYPE_CHECKING:
    from .post import Outcome, Postman

FIRST_PAUSE_MS: Final = 1_000
LONGEST_PAUSE_MS: Final = 3_600_000
MOST_BLOCKED: Final = 64
_BATCH: Final = 200
_LOOK_S: Final = 1.0
# In a burst not every delivery is kept by itself: this much of it a crash may repeat.
_KEEP_S: Final = 0.1
log = structlog.get_logger("pairing.hooks")


class GaveUp(Exception):
    """Delivery ends by itself: since when is for the caller to record."""

    def __init__(self, why: HookPause, position: int, error: str) -> None:
        super().__init__(error)
        self.why, self.position, self.error = why, position, error


class Patience(Struct, frozen=True):
    """How long failures are borne, in ms, and how soon the first of them is tried again."""

    give_up_ms: int
    first_pause_ms: int = FIRST_PAUSE_MS


class Delivery:
    """One hook on its way. `progress` is as far as it has got."""

    def __init__(
        self,
        hook: str,
        sending: Sending,
        progress: Progress,
        postman: "Postman",
        events: EventLog,
        outbox: Outbox,
        patience: Patience,
        clock: Callable[[], int],
    ) -> None:
        self.hook, self.sending, self.progress = hook, sending, progress
        self._postman, self._log, self._outbox = postman, events, outbox
        self._patience, self._clock = patience, clock
        self._news = anyio.Event()
        self._kept_at = 0.0

    def wake(self) -> None:
        """Say that there may be something new."""
        self._news.set()
        self._news = anyio.Event()

    async def onward(self) -> None:
        """Deliver what is new, for ever. Raises `GaveUp`, `LogUnavailable`."""
        while True:
            await self._rest()
            news, before = self._news, self.progress.position
            rows = await self._log.scan(after=before, limit=_BATCH)
            for row in rows:
                if not await self._take(row):
                    break
            if rows:
                await self._keep()
            elif not news.is_set():
                with anyio.move_on_after(_LOOK_S):
                    await news.wait()

    async def back(self) -> None:
        """Come back to the devices whose event was not taken, for ever. Raises `GaveUp`, `LogUnavailable`."""
        while True:
            await self._rest()
            news, now = self._news, self._clock()
            due = min(self.progress.blocked.items(), key=lambda item: item[1].retry_at, default=None)
            if due is not None and due[1].retry_at <= now:
                await self._retry(*due)
                continue
            left = _LOOK_S if due is None else min(_LOOK_S, (due[1].retry_at - now) / 1000)
            with anyio.move_on_after(left):
                await news.wait()

    async def _take(self, row: Record) -> bool:
        """Deliver a row, or pass it where nobody wants it or its device waits; False where nothing goes on behind it."""
        if not self.sending.wants(row.stream, row.kind) or row.stream in self.progress.blocked:
            self._set(position=row.position)
            return True
        if len(self.progress.blocked) >= MOST_BLOCKED:
            self._set(owed_at=row.recorded_at)
            await anyio.sleep(_LOOK_S)
            return False
        outcome = await self._attempt(row)
        if outcome.what == "unreachable":
            self._set(owed_at=row.recorded_at)
            await self._keep()
            return False
        if outcome.what == "unfit":
            self._block(row, outcome, attempts=1, since=self._clock())
        self._set(position=row.position, owed_at=None)
        if outcome.what == "unfit" or anyio.current_time() - self._kept_at > _KEEP_S:
            await self._keep()
        return True

    async def _retry(self, stream: str, blocked: Blocked) -> None:
        try:
            rows = await self._log.stream(stream, after=blocked.version - 1)
        except StreamDamaged as error:
            log.error("events of a device cannot be read and are not delivered", hook=self.hook, error=str(error))
            rows = ()
        if not rows:
            self._unblock(stream)
            return
        outcome = await self._attempt(rows[0])
        if outcome.what == "delivered":
            await self._next(stream, blocked.version)
        elif outcome.what == "unfit":
            self._block(rows[0], outcome, attempts=blocked.attempts + 1, since=blocked.since)
            self._bear(blocked.since, blocked.position, outcome)
        await self._keep()

    async def _next(self, stream: str, version: int) -> None:
        """Go on with a device's next event, or let it be an ordinary one again once none was passed over."""
        while True:
            passed = self.progress.position
            for row in await self._log.stream(stream, after=version):
                if row.position <= passed and self.sending.wants(row.stream, row.kind):
                    now = self._clock()
                    self._set(blocked={**self.progress.blocked, stream: Blocked(row.version, row.position, 0, now, 0, "")})
                    return
            if self.progress.position == passed:
                self._unblock(stream)
                return

    async def _attempt(self, row: Record) -> "Outcome":
        outcome = await self._postman.post(row, people=self.sending.people, now=self._clock())
        now, before = self._clock(), self.progress
        if outcome.what == "delivered":
            self._set(tried=before.tried + 1, delivered_at=now)
        else:
            self._set(tried=before.tried + 1, failed=before.failed + 1, error=outcome.error, error_at=now)
            log.info("not delivered", hook=self.hook, position=row.position, error=outcome.error)
        if outcome.what == "gone":
            raise GaveUp("gone", row.position, outcome.error or "")
        if outcome.what == "unreachable":
            since, attempts = before.since or now, before.attempts + 1
            self._set(attempts=attempts, since=since, retry_at=now + self._pause(attempts, outcome))
            self._bear(since, row.position, outcome)
        else:
            self._set(attempts=0, since=None, retry_at=0)
        return outcome

    def _block(self, row: Record, outcome: "Outcome", *, attempts: int, since: int) -> None:
        retry_at = self._clock() + self._pause(attempts, outcome)
        blocked = Blocked(row.version, row.position, attempts, since, retry_at, outcome.error or "")
        self._set(blocked={**self.progress.blocked, row.stream: blocked})

    def _unblock(self, stream: str) -> None:
        self._set(blocked={name: held for name, held in self.progress.blocked.items() if name != stream})

    def _bear(self, since: int, position: int, outcome: "Outcome") -> None:
        if self._clock() - since >= self._patience.give_up_ms:
            raise GaveUp("failing", position, outcome.error or "")

    def _pause(self, attempts: int, outcome: "Outcome") -> int:
        """Return how long to wait, in ms: twice as long each time, spread so that receivers are not hit by all at once."""
        pause = min(LONGEST_PAUSE_MS, self._patience.first_pause_ms * 2 ** min(attempts - 1, 30))
        spread = int(pause * random.uniform(0.5, 1.0))  # noqa: S311  spread, not secrecy
        return max(spread, int((outcome.wait_s or 0) * 1000))

    async def _rest(self) -> None:
        while (left := self.progress.retry_at - self._clock()) > 0:  # noqa: ASYNC110  the clock may be set
            await anyio.sleep(min(left / 1000, _LOOK_S))

    def _set(self, **changed: object) -> None:
        self.progress = replace(self.progress, **changed)

    async def _keep(self) -> None:
        await self._outbox.keep(self.hook, self.progress)
        self._kept_at = anyio.current_time()
