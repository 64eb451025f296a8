#!/usr/bin/env python
"""Measure webhooks: the time from an event's commit to its receipt, with a real gateway and a real receiver on loopback.

    scripts/bench_hooks.py [--events 1000] [--rate 100]

`--rate`: events a second, evenly spread; 0 commits them all at once and gives the throughput instead of a lag.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cli.compose import local_caller
from pairing import ids, methods
from pairing.commands import Knock, Wanted
from pairing.identity import Identity
from tests.cases.conftest import World, running
from tests.receiver import receiving


def knock(number: int, now: int) -> Knock:
    """Return a new device's asking: one event."""
    device = Identity(number.to_bytes(32, "big"))
    wanted = Wanted(key=device.key, role="operator", scopes=("operator.read",))
    base = {"id": ids.uuid7(now), "now": now, "by": local_caller(), "device": device.device, "wanted": wanted}
    more = {"client_id": "cli", "client_mode": "cli", "seen": "s", "named": "n", "ttl": 3_600_000, "key": "k"}
    return Knock(**base, **more, request=ids.request_id(), issue=ids.issue_id())


async def commit(world: World, events: int, rate: float, committed: dict[int, float]) -> None:
    """Commit events at a rate, and note when each was."""
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(1, events + 1):
            if rate:
                await anyio.sleep(max(0.0, began + number / rate - time.perf_counter()))

            async def one(number: int) -> None:
                handled = await world.opened.service.desk.handle(knock(number, world.clock()))
                committed[handled.position] = time.perf_counter()

            tasks.start_soon(one, number)


async def measure(events: int, rate: float) -> None:
    """Print the lag of each event, or the throughput of all."""
    committed: dict[int, float] = {}
    received: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder) / "home", {"gateway.hooks.allowPrivate": True}) as world, receiving() as receiver:
            params = methods.msgspec.Raw(methods.msgspec.json.encode({"url": receiver.url}))
            await methods.call(world.opened.service, local_caller(), "hooks.add", params)
            receiver.heard = lambda message: received.setdefault(message.content["position"], time.perf_counter())
            began = time.perf_counter()
            await commit(world, events, rate, committed)
            with anyio.fail_after(120):
                while len(received) < events:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
    lags = sorted((received[position] - at) * 1000 for position, at in committed.items())
    took = max(received.values()) - began
    cut = statistics.quantiles(lags, n=100)
    how = f"{rate:g} events/s" if rate else "all at once"
    print(f"{events} events, {how}: p50 {cut[49]:.1f} ms, p99 {cut[98]:.1f} ms, {events / took:.0f} delivered/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=100)
    options = parser.parse_args()
    anyio.run(measure, options.events, options.rate)


if __name__ == "__main__":
    main()
