"""The courier: has every webhook's events delivered, while this process holds the lease to do so.

Does nothing at all where there is no hook. What it sends rests on the log alone: rebuilding views and folding states send nothing
(L13), only a person's `hooks.replay` has the past sent once more.
"""

from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup
from msgspec import Struct
from msgspec.structs import replace

from pairing import ids
from pairing.commands import Caller, GiveUpHook
from pairing.events import Actor
from pairing.hooks import Sending
from pairing.log.port import EventLog, Record
from pairing.outbox import Outbox, Progress
from pairing.refusals import PairingError, Refused
from pairing.service import Service

from .delivery import Delivery, GaveUp, Patience

LEASE_S: Final = 2.0
AGAIN_S: Final = 5.0
log = structlog.get_logger("pairing.hooks")


class Terms(Struct, frozen=True):
    """How deliveries are made: patience with failures, seconds an attempt may take, whether addresses inside may be contacted."""

    patience: Patience
    timeout_s: float
    private_allowed: bool


class HookFigures(Struct, frozen=True):
    """What a hook's delivery looks like at the moment of asking."""

    hook: str
    lag: int
    lag_s: float
    tried: int
    failed: int
    paused: bool


class _Round:
    """One hook that is being delivered by this process."""

    def __init__(self, sending: Sending) -> None:
        self.sending = sending
        self.scope = anyio.CancelScope()
        self.delivery: Delivery | None = None


class Courier:
    """Delivers the hooks of one log. `outbox` None: it has nowhere to keep how far it got, and delivers nothing."""

    def __init__(self, service: Service, events: EventLog, outbox: Outbox | None, terms: Terms) -> None:
        self._service, self._log, self._outbox, self._terms = service, events, outbox, terms
        self._changed = anyio.Event()
        self._rounds: dict[str, _Round] = {}
        self._paused: tuple[str, ...] = ()

    def heard(self, record: Record) -> None:
        """Take note of an event that somebody has committed."""
        if record.kind.startswith("hook."):
            self._changed.set()
        for round in self._rounds.values():
            if round.delivery is not None:
                round.delivery.wake()

    def figures(self, head: int, now: int) -> tuple[HookFigures, ...]:
        """Return how far every hook is that this process delivers, and which are paused; `now` in ms."""
        busy = [_figures(hook, round.delivery.progress, head, now) for hook, round in self._rounds.items() if round.delivery]
        return (*busy, *(HookFigures(hook, 0, 0.0, 0, 0, True) for hook in self._paused))

    async def run(self) -> None:
        """Deliver, until cancelled."""
        if self._outbox is None:
            return
        self._changed.set()
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    await self._changed.wait()
                    self._changed = anyio.Event()
                    try:
                        await self._settle(tasks, self._outbox)
                    except (PairingError, OSError) as error:
                        log.warning("hooks not looked at", error=str(error))
                        tasks.start_soon(self._look_again, AGAIN_S)
        finally:
            self._outbox.give_lease()

    async def _settle(self, tasks: TaskGroup, outbox: Outbox) -> None:
        """Let exactly the hooks that are there and not paused be delivered by exactly one process."""
        hooks = await self._hooks()
        self._paused = tuple(hook for hook, sending in hooks.items() if sending and sending.paused)
        active = {hook: sending for hook, sending in hooks.items() if sending and not sending.paused}
        for hook, round in tuple(self._rounds.items()):
            if active.get(hook) != round.sending:
                round.scope.cancel()
                del self._rounds[hook]
        if not active:
            outbox.give_lease()
        elif not outbox.take_lease():
            tasks.start_soon(self._look_again, LEASE_S)
            return
        for hook, sending in active.items():
            if hook not in self._rounds:
                self._rounds[hook] = round = _Round(sending)
                tasks.start_soon(self._deliver, hook, round, outbox)

    async def _hooks(self) -> dict[str, Sending | None]:
        desk, found = self._service.desk, dict[str, Sending | None]()
        for hook in await self._service.views.hooks():
            state = await desk.hook(hook)
            # A newer version may have ended or narrowed it: what cannot be read sends nothing.
            found[hook] = None if state.newer is not None else state.sending
        return found

    async def _deliver(self, hook: str, round: _Round, outbox: Outbox) -> None:
        with round.scope:
            try:
                await self._go(hook, round, outbox)
            except* GaveUp as group:
                if isinstance(end := _first(group), GaveUp):
                    await self._give_up(hook, round, outbox, end)
            except* PairingError as group:
                log.warning("delivery interrupted", hook=hook, error=str(_first(group)))
            except* Exception as group:
                # One hook that cannot be delivered ends neither the others nor the gateway (D2).
                log.error("delivery failed", hook=hook, error=type(_first(group)).__name__)
            if self._rounds.get(hook) is round:
                del self._rounds[hook]
                await self._look_again(AGAIN_S)

    async def _go(self, hook: str, round: _Round, outbox: Outbox) -> None:
        # Not before the first hook is there: the HTTP client costs as much to load as the rest of the gateway.
        from .post import Postman

        service, sending = self._service, round.sending
        key = service.keyring.find(sending.key)
        progress = await self._progress(hook, sending, outbox)
        if key is None:
            raise GaveUp("key-lost", progress.position + 1, f"gateway key {sending.key} is not here")
        postman = Postman(
            hook,
            sending.url,
            key.hook_secret(hook),
            timeout_s=self._terms.timeout_s,
            private_allowed=self._terms.private_allowed,
            agent=f"pairing/{service.version}",
        )
        async with postman:
            round.delivery = delivery = Delivery(
                hook, sending, progress, postman, self._log, outbox, self._terms.patience, service.clock
            )
            async with anyio.create_task_group() as lanes:
                lanes.start_soon(delivery.onward)
                lanes.start_soon(delivery.back)

    async def _progress(self, hook: str, sending: Sending, outbox: Outbox) -> Progress:
        """Return where to go on: where it stopped, or at the beginning of a new turn."""
        known, head = await outbox.progress(hook), (await self._log.head()).position
        if known is not None and known.turn == sending.turn and known.position <= head:
            return known
        if known is not None and known.position > head:
            log.warning("the log is shorter than what was delivered of it", hook=hook, delivered=known.position, head=head)
        tried, failed = (known.tried, known.failed) if known else (0, 0)
        return Progress(sending.turn, min(sending.after, head), tried=tried, failed=failed)

    async def _give_up(self, hook: str, round: _Round, outbox: Outbox, end: GaveUp) -> None:
        """Record that delivery stops; who resumes it later finds failures counted from then on."""
        log.error("webhook paused", hook=hook, why=end.why, position=end.position, error=end.error)
        service, delivery, now = self._service, round.delivery, self._service.clock()
        command = GiveUpHook(
            id=ids.uuid7(now),
            now=now,
            by=Caller(actor=Actor("timer"), scopes=None),
            hook=hook,
            why=end.why,
            undelivered=end.position,
            error=end.error,
        )
        try:
            if delivery is not None:
                await outbox.keep(hook, _afresh(delivery.progress, now))
            await service.desk.handle_hook(command)
        except (Refused, PairingError) as error:
            log.warning("pause not recorded", hook=hook, error=str(error))

    async def _look_again(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        self._changed.set()


def _afresh(progress: Progress, now: int) -> Progress:
    """Return how far a hook has got, with nothing held against its receiver any more."""
    blocked = {name: replace(held, attempts=0, since=now, retry_at=0) for name, held in progress.blocked.items()}
    return replace(progress, blocked=blocked, attempts=0, since=None, retry_at=0)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _figures(hook: str, progress: Progress, head: int, now: int) -> HookFigures:
    since = progress.owed_since
    lag_s = 0.0 if since is None else max(0, now - since) / 1000
    return HookFigures(hook, max(0, head - progress.owed), lag_s, progress.tried, progress.failed, False)


def terms(*, timeout_ms: int, give_up_ms: int, private_allowed: bool) -> Terms:
    """Return the terms of some settings."""
    return Terms(Patience(give_up_ms), timeout_ms / 1000, private_allowed)
