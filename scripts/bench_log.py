#!/usr/bin/env python3
"""Measure the log beside bare sqlite3 in one run: appends, groups, durability, replay, verification, several processes.

scripts/bench_log.py [--json] [--quick] [--dir FOLDER]
"""

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pairing.events import Actor, Meta, Personal, RequestOpened, TokenIssued
from pairing.log import chain
from pairing.log.codec import decode, draft
from pairing.log.port import Appended, Draft, Slice
from pairing.log.sqlite import SqliteLog

NOW = 1_760_000_000_000
META = Meta(
    actor=Actor(kind="device", id="a" * 64),
    command=str(uuid.UUID(int=1)),
    authority=("operator.admin", "operator.pairing"),
    origin="local",
    policy="p" * 12,
    gateway="0.1.0",
)
ISSUED = TokenIssued(at=NOW, role="operator", scopes=("operator.admin",), issue="i" * 22, key="k" * 12, under=None)
OPENED = RequestOpened(
    at=NOW,
    request=str(uuid.UUID(int=2)),
    device="b" * 64,
    key="k" * 43,
    need="not-paired",
    role="operator",
    roles=("operator",),
    scopes=("operator.admin", "operator.pairing"),
    platform="darwin",
    family=None,
    client_id="cli",
    client_mode="cli",
    silent=False,
    repair=False,
    replaces=None,
    expires_at=NOW,
    seen="s" * 22,
    named="n" * 22,
    digest="d" * 43,
)
PERSON = Personal(salt="0" * 32, name="a laptop", address="192.0.2.7")
DRAFT = draft(ISSUED, META)


def command_id() -> str:
    """Return a UUIDv7 (RFC 9562)."""
    value = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    value[6] = 0x70 | value[6] & 0x0F
    value[8] = 0x80 | value[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(value)))


def stream_name(number: int) -> str:
    return f"device:{number:064x}"


def bare(folder: Path, count: int) -> float:
    """Insert rows one by one with sqlite3 alone: same row, same indexes, same durability, no checks. Rows per second."""
    path = folder / "bare.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(files("pairing.log").joinpath("schema.sql").read_text())
    for trigger in ("events_in_order", "events_kept", "events_unchanged", "streams_new"):
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.executemany("INSERT INTO streams VALUES (?, ?)", [(key, stream_name(key)) for key in range(1, 101)])
    meta, body, digest = DRAFT.meta.decode(), DRAFT.body.decode(), bytes(32)
    began = time.perf_counter()
    for position in range(1, count + 1):
        key, version = position % 100 + 1, position // 100 + 1
        row = (position, key, version, DRAFT.kind, NOW, uuid.UUID(command_id()).bytes, meta, body, None, None, digest)
        connection.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", row)
    took = time.perf_counter() - began
    connection.close()
    return count / took


async def callers(path: Path, many: int, each: int, *, full: bool = True, rest: float = 0.0) -> dict[str, float]:
    """Append from `many` callers at once, each on its own streams. Returns rate, p50 and p99 in ms."""
    log = await SqliteLog.open(path)
    if not full:
        group: Any = log._group
        await group._writing.run(lambda db: db.execute("PRAGMA synchronous=NORMAL"))
    waits: list[float] = []

    async def caller(number: int) -> None:
        versions = [0, 0, 0, 0]
        for turn in range(each):
            own = turn % 4
            asked = time.perf_counter()
            answer = await log.append(
                [Slice(stream_name(number * 4 + own), versions[own], (DRAFT,))], command=command_id(), now=NOW + turn
            )
            waits.append(time.perf_counter() - asked)
            assert isinstance(answer, Appended), answer
            versions[own] += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(many)))
    took = time.perf_counter() - began
    await log.close()
    waits.sort()
    return {"rate": many * each / took, "p50_ms": waits[len(waits) // 2] * 1e3, "p99_ms": waits[int(len(waits) * 0.99)] * 1e3}


async def fill(path: Path, count: int) -> None:
    """Write `count` events as devices leave them: a request, an approval's tokens."""
    log = await SqliteLog.open(path)
    mix: tuple[Draft, ...] = (draft(OPENED, META, PERSON), DRAFT, DRAFT)
    many = count // 3

    async def device(number: int) -> None:
        answer = await log.append([Slice(stream_name(number), 0, mix)], command=command_id(), now=NOW + number)
        assert isinstance(answer, Appended), answer

    for first in range(0, many, 256):
        await asyncio.gather(*(device(number) for number in range(first, min(many, first + 256))))
    await log.close()


async def replay(path: Path, batch: int = 2_000) -> dict[str, float]:
    """Read everything back: rows alone, rows with events, rows with their hashes checked. Events per second."""
    log = await SqliteLog.open(path, readonly=True)

    async def through(work: Callable[[Any], object], read: Callable[..., Any] = log.scan) -> float:
        position, began = 0, time.perf_counter()
        while records := await read(after=position, limit=batch):
            work(records)
            position = records[-1].position
        return position / (time.perf_counter() - began)

    verifier = chain.Verifier()

    def decoded(records: Any) -> None:
        for record in records:
            decode(record)

    def checked(records: Any) -> None:
        assert next(verifier.faults(records), None) is None

    rates = {"scan": await through(lambda records: None), "scan_decode": await through(decoded)}
    rates["lines"] = await through(lambda lines: None, log.replay)
    rates["lines_decode"] = await through(decoded, log.replay)
    rates["scan_verify"] = await through(checked)
    await log.close()
    return rates


async def writer(path: Path, number: int, seconds: float) -> None:
    """Append for some seconds from one process; print turns and the p99 of the waits in ms."""
    log = await SqliteLog.open(path)
    try:
        start = float(sys.stdin.readline())
        await asyncio.sleep(max(0.0, start - time.time()))
        end, version, waits = time.perf_counter() + seconds, 0, []
        while (asked := time.perf_counter()) < end:
            answer = await log.append([Slice(stream_name(number), version, (DRAFT,))], command=command_id(), now=NOW)
            assert isinstance(answer, Appended), answer
            waits.append(time.perf_counter() - asked)
            version += 1
    finally:
        await log.close()
    waits.sort()
    print(json.dumps({"turns": version, "p99_ms": waits[int(len(waits) * 0.99)] * 1e3, "max_ms": waits[-1] * 1e3}))


def processes(path: Path, many: int, seconds: float) -> dict[str, float]:
    """Let several processes write one by one at the same time. Returns the rate of all and the share of the slowest."""
    asyncio.run(callers(path, 1, 1))
    arguments = [sys.executable, __file__, "--writer", str(path), "--seconds", str(seconds), "--number"]
    running = [
        subprocess.Popen([*arguments, str(1000 + number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(many)
    ]
    start = f"{time.time() + 0.3 + 0.3 * many}\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write(start)
        process.stdin.flush()
    try:
        told = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    finally:
        for process in running:
            process.kill()
    turns = [one["turns"] for one in told]
    return {
        "rate": sum(turns) / seconds,
        "slowest_to_fastest": min(turns) / max(turns),
        "p99_ms": max(one["p99_ms"] for one in told),
        "max_ms": max(one["max_ms"] for one in told),
    }


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    """Run everything and return the figures."""
    size = 3 if quick else 1
    fresh = iter(range(1000))

    def path() -> Path:
        return folder / f"{next(fresh)}" / "log.db"

    def one() -> float:
        return asyncio.run(callers(path(), 1, 3_000 // size))["rate"]

    rounds = []
    for _ in range(3):
        alone = bare(folder, 3_000 // size)
        (folder / "bare.db").unlink()
        rounds.append((alone, one()))
    ratio = statistics.median(ours / alone for alone, ours in rounds)
    many = {count: asyncio.run(callers(path(), count, 60_000 // size // count)) for count in (64, 256)}
    durable = []
    for _ in range(3):
        full = asyncio.run(callers(path(), 64, 500 // size))["rate"]
        normal = asyncio.run(callers(path(), 64, 500 // size, full=False))["rate"]
        durable.append(full / normal)
    filled = path()
    asyncio.run(fill(filled, 300_000 // size))
    return {
        "bare sqlite3, one by one": {"rate": statistics.median(alone for alone, _ in rounds)},
        "log, one by one": {"rate": statistics.median(ours for _, ours in rounds), "to_bare": ratio},
        "log, 64 callers": many[64],
        "log, 256 callers": many[256],
        "64 callers, FULL to NORMAL": {"ratio": statistics.median(durable)},
        "replay": asyncio.run(replay(filled)),
        "2 processes": processes(path(), 2, 2.0),
        "4 processes": processes(path(), 4, 2.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="a third of the work")
    parser.add_argument("--dir", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--writer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=2.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer:
        asyncio.run(writer(options.writer, options.number, options.seconds))
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-log-", dir=options.dir))
    try:
        figures = measure(folder, options.quick)
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        print(f"{name:30}", "  ".join(f"{key} {value:,.2f}" for key, value in values.items()))


if __name__ == "__main__":
    main()
