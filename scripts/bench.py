#!/usr/bin/env python
"""Measure everything the service promises to hold, side by side in one run, and print one table.

    scripts/bench [--quick] [--json] [--only WORD] [--dir FOLDER] [--log FOLDER]

Ratios are medians of rounds in which both sides took turns. Each row carries the load of the machine while it was taken.
"""

import argparse
import asyncio
import json
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import structlog

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Row:
    """One promise and what became of it. `held` None: it was not measured, and the figure says why."""

    what: str
    target: str
    figure: str
    ratio: float | None
    held: bool | None
    load: float = 0.0

    @property
    def verdict(self) -> str:
        return {True: "held", False: "MISSED", None: "not measured"}[self.held]


@dataclass
class Run:
    """How much is measured, and where."""

    folder: Path
    quick: bool
    rounds: int
    log: Path | None = None

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def path(self, name: str) -> Path:
        return self.folder / name / "log.db"

    def median(self, measure: Callable[[], float]) -> float:
        return statistics.median(measure() for _ in range(self.rounds))


def commands(run: Run) -> Iterator[Row]:
    """Durable commands through the desk."""
    import bench_desk
    import bench_log

    fresh = iter(range(1_000_000))

    def ours(callers: int, each: int, *, full: bool = True) -> dict[str, float]:
        return bench_desk.run(bench_desk.commands(run.path(f"desk-{next(fresh)}"), callers, each, full=full))

    pairs = []
    for _ in range(run.rounds):
        alone = bench_log.bare(run.folder, run.size(3000, 200))
        (run.folder / "bare.db").unlink()
        pairs.append((ours(1, run.size(3000, 200))["rate"], alone))
    ratio = statistics.median(mine / alone for mine, alone in pairs)
    rate, alone = (statistics.median(side) for side in zip(*pairs, strict=True))
    yield Row(
        "durable commands, one by one", ">= 0.7 x bare sqlite3", f"{rate:,.0f}/s beside {alone:,.0f}/s", ratio, ratio >= 0.7
    )
    told = [ours(64, run.size(500, 10)) for _ in range(run.rounds)]
    rate = statistics.median(one["rate"] for one in told)
    yield Row("durable commands, 64 callers", ">= 15,000/s", f"{rate:,.0f}/s", rate / 15_000, rate >= 15_000)
    told = [ours(256, run.size(200, 4)) for _ in range(run.rounds)]
    rate, p99 = (statistics.median(one[key] for one in told) for key in ("rate", "p99_ms"))
    yield Row("durable commands, 256 callers", ">= 25,000/s", f"{rate:,.0f}/s", rate / 25_000, rate >= 25_000)
    yield Row("  their p99", "<= 40 ms", f"{p99:.1f} ms", p99 / 40, p99 <= 40)
    each = run.size(500, 10)
    ratio = run.median(lambda: ours(64, each)["rate"] / ours(64, each, full=False)["rate"])
    yield Row("FULL beside NORMAL, 64 callers", ">= 0.85", "", ratio, ratio >= 0.85)
    told = [bench_log.processes(run.path(f"processes-{next(fresh)}"), 3, run.size(20, 5) / 10) for _ in range(run.rounds)]
    ratio, rate = (statistics.median(one[key] for one in told) for key in ("slowest_to_fastest", "rate"))
    yield Row("three writing processes", "slowest >= 0.5 x fastest", f"{rate:,.0f}/s together", ratio, ratio >= 0.5)


def many_devices(run: Run) -> Iterator[Row]:
    """A token check and a command, at few and at many devices."""
    import bench_desk

    few, many = 100, run.size(100_000, 1_000)
    small, large = run.folder / "few", run.folder / "many"
    rings = {count: bench_desk.home_with(home, bench_desk.many(count)) for count, home in ((few, small), (many, large))}
    homes = {few: small, many: large}
    for cold in (False, True):

        def check(count: int, cold: bool = cold) -> float:
            return bench_desk.run(
                bench_desk.token_check(homes[count], rings[count], count, cold=cold, checks=run.size(1000, 100))
            )

        pairs = [(check(few), check(many)) for _ in range(2 * run.rounds)]
        least, most = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(right / left for left, right in pairs)
        how = "read anew" if cold else "in memory"
        figure = f"{least:.0f} us and {most:.0f} us at {few} and {many:,} devices"
        yield Row(f"a token check, device {how}", "<= 1.10", figure, ratio, ratio <= 1.1)
    for cold in (False, True):

        def turn(count: int, cold: bool = cold) -> float:
            return bench_desk.run(bench_desk.command_p50(homes[count], count, cold=cold, turns=run.size(400, 50)))

        pairs = [(turn(few), turn(many)) for _ in range(2 * run.rounds)]
        least, most = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(right / left for left, right in pairs)
        how = "read anew" if cold else "in memory"
        yield Row(f"p50 of a command, device {how}", "<= 1.3", f"{least:.2f} ms and {most:.2f} ms", ratio, ratio <= 1.3)


def beside_node(run: Run) -> Iterator[Row]:
    """Handshakes and calls beside Node's `ws`, and the memory of connections."""
    import bench_gateway as gateway

    fleet = gateway.Fleet(run.folder / "fleet", gateway.CLIENTS)
    if run.quick and not gateway.node_there():
        yield Row("a handshake with proof", "<= 0.85 x Node's ws", "Node or ws is not installed", None, None)
        yield Row("a small call, 50 connections", "<= 1.2 x Node's ws", "Node or ws is not installed", None, None)
    else:
        with gateway.ours(fleet) as mine, gateway.theirs(fleet) as node:
            count, each = run.size(2500, 100), run.size(150, 10)
            promises: list[tuple[str, str, float, Callable[[gateway.Running], float]]] = [
                ("a handshake with proof", "<= 0.85 x Node's ws", 0.85, lambda one: gateway.handshakes(one, fleet, count)),
                ("a small call, 50 connections", "<= 1.2 x Node's ws", 1.2, lambda one: gateway.calls(one, fleet, each)),
            ]
            for what, target, most, measure in promises:
                pairs = [(measure(mine), measure(node)) for _ in range(run.rounds + 1)][1:]
                ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
                # A few clock ticks in a quick run can be none at all.
                ratio = statistics.median(left / max(right, 1) for left, right in pairs)
                yield Row(what, target, f"{ours:.0f} us and {theirs:.0f} us of CPU", ratio, ratio <= most)
    with gateway.ours(fleet) as mine:
        size = gateway.idle(mine, fleet, run.size(2000, 100)) / 1024
        yield Row("an idle connection, logged in", "<= 12 KB", f"{size:.1f} KB", size / 12, size <= 12)
    if run.quick:
        return
    with gateway.ours(fleet) as mine:
        worst, gone = gateway.hostile(mine)
        worst /= 1024 * 1024
        yield Row("one unauthenticated peer", "<= 2 MB", f"{worst:.2f} MB", worst / 2, worst <= 2)
        yield Row("  until the last is gone", "<= 10 s after 15 s allowed", f"{gone:.1f} s", None, gone <= 25)


def revocation(run: Run) -> Iterator[Row]:
    """Sockets closed by a removal while thousands are connected."""
    import bench_gateway as gateway

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200
    fleet = gateway.Fleet(run.folder / "crowd", min(run.size(5000, 100), most))
    with gateway.ours(fleet) as mine:
        told = gateway.revocation(mine, fleet, run.size(300, 20))
    p99 = told["p99_ms"]
    figure = f"{p99:.1f} ms, p50 {told['p50_ms']:.1f} ms, {told['connected']:,.0f} connected"
    yield Row("removed: from asking to closed, p99", "<= 100 ms", figure, p99 / 100, p99 <= 100)
    yield Row("  rows by a device after its removal", "0", f"{told['late']:.0f}", None, told["late"] == 0)
    removals = run.size(200, 10)
    told = gateway.revocation_elsewhere(gateway.Fleet(run.folder / "two", removals), removals)
    p99 = told["p99_ms"]
    yield Row(
        "  removed at another gateway, p99", "<= 100 ms", f"{p99:.1f} ms, p50 {told['p50_ms']:.1f} ms", p99 / 100, p99 <= 100
    )


def replay(run: Run) -> Iterator[Row]:
    """Everything read back: into state, into views, past the verifier, at any position."""
    import bench_replay

    events = run.size(1_000_000, 10_000)
    devices = events // 10
    log, views = run.path("large"), run.folder / "views.db"
    bench_replay.large(log, events, devices)
    each = run.size(100_000, 2_000)
    pairs = []
    for _ in range(run.rounds):
        theirs = bench_replay.into_aggregates(run.folder, each)
        (run.folder / "aggregates.db").unlink(missing_ok=True)
        pairs.append((asyncio.run(bench_replay.into_state(log)), theirs))
    rate = statistics.median(mine for mine, _ in pairs)
    yield Row("replay into state", ">= 300,000/s", f"{rate:,.0f}/s", rate / 300_000, rate >= 300_000)
    if pairs[0][1] is None:
        yield Row("  beside eventsourcing", ">= 4 x", "eventsourcing is not installed", None, None)
    else:
        ratio = statistics.median(mine / theirs for mine, theirs in pairs if theirs)
        yield Row("  beside eventsourcing", ">= 4 x", f"theirs {pairs[0][1]:,.0f}/s", ratio, ratio >= 4)
    rate = run.median(lambda: asyncio.run(bench_replay.verified(log)))
    yield Row("chain verified", ">= 200,000/s", f"{rate:,.0f}/s", rate / 200_000, rate >= 200_000)
    rate = asyncio.run(bench_replay.into_views(log, views))
    yield Row("replay into views", ">= 60,000/s", f"{rate:,.0f}/s of {events:,}", rate / 60_000, rate >= 60_000)
    told = asyncio.run(bench_replay.at(log, views, devices, run.size(2000, 100)))
    figure = f"{told['p99_ms']:.2f} ms, p50 {told['p50_ms']:.2f} ms, of {events:,}"
    yield Row("one device --at, p99", "<= 50 ms", figure, told["p99_ms"] / 50, told["p99_ms"] <= 50)


def past(run: Run) -> Iterator[Row]:
    """Every way of looking back, on a long log beside one of a hundred events, and every work on the whole of it."""
    import bench_past

    events = run.size(1_000_000, 2_000)
    long, short = bench_past.logs(run.log or run.folder / "past", events)
    files = run.folder / "files"
    files.mkdir()
    # A log that was kept has its tree already.
    for old in long.glob("merkle.db*"):
        old.unlink()
    for what, within, command in bench_past.works(files, events):
        took, cpu, peak = bench_past.worked(long, command)
        # A part of it is the start of the program, however short the log is.
        most = 1 + within * events / 1_000_000
        yield Row(what, f"<= {within:g} s a million", f"{took:.1f} s, {cpu:.1f} s of CPU, {peak:.0f} MB", None, took <= most)
    shutil.rmtree(files)
    for question, much, little in bench_past.answers(long, short, quick=run.quick):
        figure = f"p50 {much['p50']:,.1f} ms, p99 {much['p99']:,.1f} ms, {much['mb']:.0f} MB"
        ratio = much["p50"] / max(little["p50"], 0.01)
        yield Row(question.what, f"p99 <= {question.within:,.0f} ms", figure, ratio, much["p99"] <= question.within)
    ready = {}
    for home in (short, long):
        with bench_past.copy(home, run.folder) as copied:
            ready[home] = bench_past.started(copied)
    took, peak = ready[long]
    figure = f"{took:.2f} s, {peak:.0f} MB; {ready[short][0]:.2f} s, {ready[short][1]:.0f} MB at {bench_past.SHORT} events"
    yield Row("the gateway until /readyz", "<= 3 s", figure, took / ready[short][0], took <= 3)


def starting(run: Run) -> Iterator[Row]:
    """What the command line costs before it does anything."""
    programs = {
        "click": [sys.executable, "-c", "import click"],
        "help": [str(Path(sys.executable).with_name("pairing")), "--help"],
    }
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(run.size(15, 3)):
        for name, command in programs.items():
            told[name].append(_cost(command))
    ratio = statistics.median(mine[0] / alone[0] for mine, alone in zip(told["help"], told["click"], strict=True))
    ours, theirs = (statistics.median(cpu for cpu, _ in told[name]) * 1e3 for name in ("help", "click"))
    yield Row("pairing --help", "<= 2 x import click", f"{ours:.0f} ms and {theirs:.0f} ms of CPU", ratio, ratio <= 2)
    size = max(rss for _, rss in told["help"])
    yield Row("  its memory", "<= 40 MB", f"{size:.0f} MB", size / 40, size <= 40)


_COST = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
process.returncode = status
print(json.dumps([status, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def _cost(command: list[str]) -> tuple[float, float]:
    """Return CPU seconds and MB of a program from its start to its end.

    A process of its own starts it: a program is charged for the memory of whoever it was forked from.
    """
    told = subprocess.run([sys.executable, "-S", "-c", _COST, *command], cwd=ROOT, check=True, capture_output=True)
    status, cpu, size = json.loads(told.stdout)
    assert status == 0
    return cpu, size


SECTIONS: dict[str, Callable[[Run], Iterator[Row]]] = {
    "commands": commands,
    "devices": many_devices,
    "gateway": beside_node,
    "revocation": revocation,
    "replay": replay,
    "past": past,
    "starting": starting,
}


def measure(run: Run, chosen: list[str], say: Callable[[Row], None]) -> list[Row]:
    """Run the chosen sections, each in a folder of its own that is gone afterwards."""
    rows: list[Row] = []
    for name in chosen:
        run.folder.mkdir(parents=True)
        for row in SECTIONS[name](run):
            row.load = round(os.getloadavg()[0], 1)
            rows.append(row)
            say(row)
        shutil.rmtree(run.folder)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="a smoke run: everything once, small; its verdicts mean little")
    parser.add_argument("--only", choices=list(SECTIONS), action="append", help="one section; may be repeated")
    parser.add_argument("--dir", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--log", type=Path, help="where the logs of `past` are, or are to be made and left")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    top = Path(tempfile.mkdtemp(prefix="bench-", dir=options.dir))
    began = time.monotonic()

    def say(row: Row) -> None:
        if not options.json:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            print(f"{row.what:38} {row.target:26} {row.figure:48} {ratio:>6}  {row.verdict:13} load {row.load}", flush=True)

    try:
        run = Run(top / "run", options.quick, 1 if options.quick else 3, options.log)
        rows = measure(run, options.only or list(SECTIONS), say)
    finally:
        shutil.rmtree(top, ignore_errors=True)
    if options.json:
        print(json.dumps([{**asdict(row), "verdict": row.verdict} for row in rows]))
    else:
        held, missed = (sum(row.held is want for row in rows) for want in (True, False))
        print(f"{held} held, {missed} missed, in {time.monotonic() - began:.0f} s on {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
