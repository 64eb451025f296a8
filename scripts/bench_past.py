"""Looking back on a long log: lists --at, could, diff, history and explain at random moments, with times and memory.

The log is made once in a folder of its own, which is deleted at the end. Arguments: events and devices, 1000000 and 100000 unless
given; --json prints one document.
"""

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_history import device_id, history, records

from pairing import methods
from pairing.authority import OPERATOR_SCOPES
from pairing.commands import Caller
from pairing.desk import Desk
from pairing.events import Actor
from pairing.following import Following
from pairing.log.codec import decode_meta
from pairing.log.port import Draft, Slice
from pairing.log.sqlite import SqliteLog
from pairing.service import Service
from pairing.tokens import GatewayKey, Keyring
from projections.views import Views

OWNER = Caller(actor=Actor("local", "1000"), scopes=OPERATOR_SCOPES, method="local", origin="local")
KEYS = Keyring(GatewayKey(b"k" * 32))


async def fill(log: SqliteLog, events: int, devices: int) -> int:
    """Write the history, many rows to a transaction; return the time of the last."""
    slices: list[Slice] = []
    last, count = 0, 0
    busy = max(1, events // devices - 3)
    for record in records(history(devices, busy=busy), events):
        draft = Draft(record.kind, record.meta, record.body, record.personal)
        slices.append(Slice(record.stream, record.version - 1, (draft,)))
        last, count = record.recorded_at, count + 1
        if len(slices) == 5_000:
            await log.append(slices, command=_command(record.position, decode_meta(record).command), now=last)
            slices = []
    if slices:
        await log.append(slices, command=_command(count + 1, decode_meta(record).command), now=last)
    return last


def _command(number: int, like: str) -> str:
    return f"{like[:24]}{number:012x}"


async def timed(name: str, times: int, ask: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """Return the median and the 99th percentile of some calls, in ms, and the peak memory of the process by then, in MiB."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        spent.append((time.perf_counter() - began) * 1000)
    spent.sort()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"what": name, "p50": spent[len(spent) // 2], "p99": spent[int(len(spent) * 0.99)], "calls": times, "peak": peak}


async def measure(events: int, devices: int) -> list[dict[str, Any]]:
    """Make the log, follow it once, and ask."""
    dice = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        log = await SqliteLog.open(Path(folder) / "log.db")
        last = await fill(log, events, devices)
        views = await Views.open(log, Path(folder) / "views.db")
        try:
            began = time.perf_counter()
            await views.catch_up()
            print(f"made and followed ({time.perf_counter() - began:.0f} s)", file=sys.stderr)
            service = Service(
                desk=Desk(log, version="bench"),
                views=views,
                following=Following(log),
                keyring=KEYS,
                clock=lambda: last,
                version="bench",
            )
            known = [
                device for device in (device_id(n) for n in range(min(devices, 2_000))) if await log.stream(f"device:{device}")
            ]
            first = {device: (await log.stream(f"device:{device}"))[0].position for device in known}

            async def call(name: str, **params: Any) -> Any:
                return await methods.call(service, OWNER, name, msgspec.Raw(json.dumps(params).encode()))

            def one() -> tuple[str, int]:
                device = dice.choice(list(first))
                return device, dice.randint(first[device], events)

            def there(name: str, **params: Any) -> Callable[[], Awaitable[Any]]:
                async def ask() -> Any:
                    device, at = one()
                    return await call(name, device=device, at=at, **params)

                return ask

            async def wide() -> Any:
                start = dice.randint(1, max(1, events - 100))
                return await call("history.diff", **{"from": start, "to": min(events, start + 100)})

            async def own() -> Any:
                device, at = one()
                return await call("history.diff", **{"from": max(1, at // 2), "to": at, "device": device})

            async def early() -> Any:
                return await call("device.list", at=dice.randint(1, min(events, 2_000)))

            async def by_time() -> Any:
                return await call("history.at", atMs=last - dice.randint(0, 10**6))

            async def token() -> Any:
                return await call("history.explain", token="A" * 43)

            return [
                await timed("a device --at", 400, there("device.list")),
                await timed("a time to its position", 400, by_time),
                await timed("a list --at one of the first 2,000 positions", 50, early),
                await timed("could --at", 400, there("history.could", role="operator", scope="operator.read")),
                await timed("diff of 100 events", 50, wide),
                await timed("diff of a device", 400, own),
                await timed("history of a device --steps", 400, there("history.story", steps=True)),
                await timed("explain a device --at", 400, there("history.explain")),
                await timed("explain a token that is nobody's", 3, token),
            ]
        finally:
            await views.close()
            await log.close()


def main() -> None:
    """Measure and print."""
    numbers = [int(text) for text in sys.argv[1:] if text.isdecimal()]
    events, devices = numbers if len(numbers) == 2 else (1_000_000, 100_000)
    rows = anyio.run(measure, events, devices)
    if "--json" in sys.argv:
        print(json.dumps({"events": events, "devices": devices, "rows": rows}, indent=2))
        return
    print(f"{events:,} events, {devices:,} devices")
    for row in rows:
        print(f"  {row['what']:<45} p50 {row['p50']:>8.2f} ms  p99 {row['p99']:>8.2f} ms  peak {row['peak']:>5.0f} MiB")


if __name__ == "__main__":
    main()
