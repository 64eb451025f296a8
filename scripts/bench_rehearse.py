"""What rehearsing other settings costs on a long log: all of it, and what is recent. Prints one line a figure."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from bench_history import START, Command, history
from bench_views import fill
from msgspec.structs import replace

from pairing import methods
from pairing.authority import OPERATOR_SCOPES
from pairing.commands import Caller
from pairing.desk import Desk
from pairing.events import Actor
from pairing.following import Following
from pairing.log.sqlite import SqliteLog
from pairing.service import Service
from pairing.tokens import GatewayKey, Keyring
from projections.views import Views

HOST = Caller(actor=Actor("local"), scopes=OPERATOR_SCOPES, method="local", origin="local")
ASKED: dict[str, dict[str, Any]] = {
    "nothing differs": {},
    "trusted addresses": {"gateway.nodes.pairing.autoApproveCidrs": ["10.0.0.0/8"]},
    "all that is judged": {
        "gateway.pairing.localCeiling": ["operator.read"],
        "gateway.nodes.pairing.autoApproveCidrs": ["10.0.0.0/8"],
        "gateway.pairing.approval.votes": ["operator.write=2"],
        "gateway.pairing.requestTtlMs": 60_000,
        "gateway.pairing.maxPendingPerAddress": 1,
        "gateway.pairing.maxRequestsPerDevice": 2,
    },
}


def placed(commands: Iterable[Command]) -> Iterator[Command]:
    """Say of each command that it came straight from an address."""
    for stream, events, meta, personal in commands:
        yield stream, events, replace(meta, origin="direct"), personal


async def ask(service: Service, name: str, params: dict[str, Any]) -> None:
    raw = msgspec.Raw(msgspec.json.encode(params))
    wall, cpu = time.perf_counter(), time.process_time()
    found = await methods.call(service, HOST, "rehearse.run", raw)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    judged = f"{found.commands} commands of {found.devices} devices after {found.since}"
    print(f"{name}: {wall:.2f} s, {cpu:.2f} s CPU, {judged}, {sum(found.counts.values())} lines")


async def main(events: int, devices: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = await SqliteLog.open(Path(folder) / "log.db")
        await fill(log, placed(history(devices)), events)
        views = await Views.open(log, Path(folder) / "views.db")
        head = await views.catch_up()
        keyring = Keyring(GatewayKey(b"k" * 32))
        service = Service(
            desk=Desk(log, version="bench"),
            views=views,
            following=Following(log),
            keyring=keyring,
            clock=lambda: START,
            version="1",
        )
        print(f"{head} events of {devices} devices")
        for name, settings in ASKED.items():
            await ask(service, name, {"settings": settings})
        await ask(service, "the last 10 000", {"settings": ASKED["all that is judged"], "since": head - 10_000})
        await views.close()
        await log.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=15_000)
    given = parser.parse_args()
    asyncio.run(main(given.events, given.devices))
