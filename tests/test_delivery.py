"""Where the two lanes of a delivery meet: an event that passes while the other lane looks is not left out."""

from typing import Any, cast

from pairing.gateway.delivery import Delivery, Patience
from pairing.gateway.post import Outcome, Postman
from pairing.hooks import Sending
from pairing.log.memory import MemoryLog
from pairing.log.port import Draft, Record, Slice
from pairing.outbox import Blocked, Progress

WAITING = Blocked(1, 1, 1, 0, 0, "HTTP 500")
SENDING = Sending("https://example.org/in", (), False, "g", 0, 0)


class Kept:
    """An outbox that remembers the last of what it was given."""

    def __init__(self) -> None:
        self.last: Progress | None = None

    async def keep(self, hook: str, progress: Progress) -> None:
        self.last = progress


class Taking:
    """A postman to a receiver that takes everything."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    async def post(self, record: Record, *, people: bool, now: int) -> Outcome:
        self.sent.append(record.position)
        return Outcome("delivered")


class Busy(MemoryLog):
    """A log in which the device's next event is recorded, and passed by the other lane, right after it was read."""

    delivery: Delivery | None = None

    async def write(self, version: int) -> None:
        draft = Draft("token.revoked", b"{}", b"{}")
        command = f"0199c6a0-0000-7000-8000-00000000000{version}"
        await self.append([Slice("device:d", version - 1, (draft,))], command=command, now=1)

    async def stream(self, name: str, *, after: int = 0) -> tuple[Record, ...]:
        rows = await super().stream(name, after=after)
        if after == 1 and len(self._rows) == 1 and self.delivery is not None:
            await self.write(2)
            assert await self.delivery._take(self._rows[1])
        return rows


async def test_an_event_that_passes_while_its_device_is_let_go_is_sent_next() -> None:
    """D4: it was passed because its device waited, and its device waits no more: somebody must still send it."""
    log, postman, kept = Busy(), Taking(), Kept()
    await log.write(1)
    progress = Progress(1, 1, blocked={"device:d": WAITING})
    delivery = Delivery("h", SENDING, progress, cast(Postman, postman), log, cast(Any, kept), Patience(1_000), lambda: 5)
    log.delivery = delivery
    await delivery._retry("device:d", WAITING)
    assert postman.sent == [1]
    assert delivery.progress.blocked["device:d"].position == 2
    assert kept.last == delivery.progress
    await delivery._retry("device:d", delivery.progress.blocked["device:d"])
    assert postman.sent == [1, 2]
    assert delivery.progress.blocked == {}
    assert delivery.progress.owed == 2
