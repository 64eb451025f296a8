"""How fast the views follow a log, and what an answer costs: a device at any position, the gateway's questions small and large.

Prints one line a figure. CPU time stands beside the clock's, since other work on the machine stretches the latter.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from bench_history import Command, device_id, history

from pairing.events import RequestOpened
from pairing.ids import uuid7
from pairing.log.codec import draft
from pairing.log.port import Appended, Draft, Slice
from pairing.log.sqlite import SqliteLog
from projections.views import Views

_AT_ONCE = 2_000
_ROUNDS = 300
_ASKED = 5_000


async def fill(log: SqliteLog, commands: Iterable[Command], count: int) -> list[str]:
    """Store the first `count` events or a few more, many in one append, and return some ids of their requests."""
    versions: dict[str, int] = {}
    requests: list[str] = []
    stored, waiting, parts = 0, 0, list[Slice]()
    for stream, events, meta, personal in commands:
        drafts: tuple[Draft, ...] = tuple(draft(event, meta, personal) for event in events)
        parts.append(Slice(stream, versions.get(stream, 0), drafts))
        versions[stream] = versions.get(stream, 0) + len(drafts)
        waiting += len(drafts)
        if len(requests) < _ASKED and isinstance(events[0], RequestOpened):
            requests.append(events[0].request)
        if waiting >= _AT_ONCE or stored + waiting >= count:
            answer = await log.append(parts, command=uuid7(events[-1].at), now=events[-1].at)
            assert isinstance(answer, Appended)
            stored, waiting, parts = stored + waiting, 0, []
        if stored >= count:
            return requests
    return requests


async def spread(what: Callable[[], Awaitable[object]], rounds: int = _ROUNDS) -> str:
    """Return the middle and the 99th percentile of a call, in ms."""
    times: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        await what()
        times.append((time.perf_counter() - start) * 1_000)
    times.sort()
    return f"p50 {times[len(times) // 2]:7.2f} ms   p99 {times[len(times) * 99 // 100]:7.2f} ms"


async def following(log: SqliteLog, folder: Path) -> Views:
    """Measure a rebuild from nothing."""
    views = await Views.open(log, folder / "views.db")
    count = (await log.head()).position
    wall, cpu = time.perf_counter(), time.process_time()
    await views.catch_up()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    size = (folder / "views.db").stat().st_size / 1e6
    print(f"follow {count} events: {count / wall:,.0f}/s, {cpu / count * 1e6:.1f} us CPU an event, views.db {size:.0f} MB")
    wall, cpu = time.perf_counter(), time.process_time()
    after = 0
    while rows := await log.scan(after=after, limit=8_192):
        after = rows[-1].position
    print(f"  of that, reading the log: {count / (time.perf_counter() - wall):,.0f}/s")
    return views


async def looking_back(views: Views, devices: int) -> None:
    """Measure one device, and the lists, at random positions."""
    dice, head = random.Random(7), await views.position()

    async def one() -> None:
        await views.paired(device=device_id(dice.randrange(devices)), at=dice.randrange(1, head))

    async def open_then() -> None:
        await views.pending(device=device_id(dice.randrange(devices)), at=dice.randrange(1, head))

    print(f"a device at any of {head} positions:    {await spread(one)}")
    print(f"its open request at any position:      {await spread(open_then)}")
    for label, at in (("early", head // 100), ("now", None)):
        start = time.perf_counter()
        rows = len((await views.paired(at=at)).rows)
        print(f"list of paired, {label}: {rows} rows in {(time.perf_counter() - start) * 1_000:.0f} ms")
        start = time.perf_counter()
        rows = len((await views.pending(at=at)).rows)
        print(f"list of pending, {label}: {rows} rows in {(time.perf_counter() - start) * 1_000:.0f} ms")


async def asking(views: Views, devices: int, requests: list[str]) -> None:
    """Measure what the gateway asks while it works."""
    dice = random.Random(9)
    asks: dict[str, Callable[[], Awaitable[object]]] = {
        "nothing new": views.position,
        "crowd": lambda: views.crowd("10.0.0.1"),
        "matches": lambda: views.matches(device_id(dice.randrange(devices))[:12]),
        "request": lambda: views.request(dice.choice(requests)),
        "paired of one": lambda: views.paired(device=device_id(dice.randrange(devices))),
        "overdue": lambda: views.overdue(0),
    }
    for label, ask in asks.items():
        print(f"{devices:>7} devices, {label:<14} {await spread(ask)}")


async def measure(folder: Path, devices: int, events: int) -> None:
    """Measure a history of one size."""
    async with AsyncExitStack() as stack:
        log = await SqliteLog.open(folder / "log.db")
        stack.push_async_callback(log.close)
        requests = await fill(log, history(devices, busy=9), events)
        views = await following(log, folder)
        stack.push_async_callback(views.close)
        await asking(views, devices, requests)
        await looking_back(views, devices)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=100_000)
    options = parser.parse_args()
    for devices, events in ((100, 1_000), (options.devices, options.events)):
        with tempfile.TemporaryDirectory() as name:
            await measure(Path(name), devices, events)


if __name__ == "__main__":
    asyncio.run(main())
