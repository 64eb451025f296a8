"""Figures of replay: rows into state beside PyPI `eventsourcing`, rows into views, one device at any of many positions.

Import `into_state`, `into_aggregates`, `into_views`, `verified` and `at`; `large` makes the log they read. Rates are events in a
second of CPU, all threads together, so that a busy machine does not change them.
"""

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_desk import build
from bench_history import device_id, history, records

from pairing.device import INITIAL, Device
from pairing.evolve import evolve
from pairing.log import chain
from pairing.log.codec import decode
from pairing.log.sqlite import SqliteLog
from projections.views import Views


def large(path: Path, events: int, devices: int) -> int:
    """Write a log with the made-up life of many devices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return build(path, records(history(devices), events))


async def into_state(path: Path, batch: int = 4_096) -> float:
    """Return the events a second that are read, decoded and folded into the states of their devices."""
    log = await SqliteLog.open(path, readonly=True)
    states: dict[str, Device] = {}
    position, began = 0, time.process_time()
    while lines := await log.replay(after=position, limit=batch):
        for line in lines:
            states[line.stream] = evolve(states.get(line.stream, INITIAL), decode(line))  # type: ignore[arg-type]
        position = lines[-1].position
    took = time.process_time() - began
    await log.close()
    assert states
    return position / took


async def verified(path: Path, batch: int = 4_096) -> float:
    """Return the events a second whose hashes, versions and times are checked."""
    log, verifier = await SqliteLog.open(path, readonly=True), chain.Verifier()
    began = time.process_time()
    while rows := await log.scan(after=verifier.mark.position, limit=batch):
        assert next(verifier.faults(rows), None) is None
    took = time.process_time() - began
    await log.close()
    return verifier.mark.position / took


def into_aggregates(folder: Path, events: int, each: int = 10) -> float | None:
    """Return the events a second that the library `eventsourcing` reads and folds into aggregates as small, from its SQLite."""
    try:
        from bench_aggregate import Paired
        from eventsourcing.application import Application
    except ImportError:
        return None
    app: Any = Application(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "aggregates.db")})
    ids = []
    for number in range(events // each):
        device = Paired("k" * 43, "operator", ["operator.read"], f"{number:032x}")
        for turn in range(1, each):
            device.rotate(f"{turn:032x}") if turn % 2 else device.rename(f"label {turn}")
        app.save(device)
        ids.append(device.id)
    began = time.process_time()
    for id in ids:
        app.repository.get(id)
    took = time.process_time() - began
    app.close()
    return len(ids) * each / took


async def into_views(path: Path, views: Path) -> float:
    """Return the events a second that the views follow from nothing."""
    log = await SqliteLog.open(path, readonly=True)
    followed = await Views.open(log, views)
    began = time.process_time()
    position = await followed.catch_up()
    took = time.process_time() - began
    await followed.close()
    await log.close()
    return position / took


async def at(path: Path, views: Path, devices: int, asks: int) -> dict[str, float]:
    """Return p50 and p99 in ms of a device, and of the open requests, at positions chosen at random."""
    log = await SqliteLog.open(path, readonly=True)
    followed, dice = await Views.open(log, views), random.Random(5)
    head = await followed.catch_up()
    waits = []
    for turn in range(asks):
        position, asked = dice.randint(1, head), time.perf_counter()
        device = device_id(dice.randrange(devices))
        await (followed.paired(device=device, at=position) if turn % 2 else followed.pending(device=device, at=position))
        waits.append((time.perf_counter() - asked) * 1e3)
    await followed.close()
    await log.close()
    waits.sort()
    return {"p50_ms": waits[len(waits) // 2], "p99_ms": waits[int(len(waits) * 0.99)]}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(large(target, int(sys.argv[2]), int(sys.argv[3])), asyncio.run(into_state(target)))
