#!/usr/bin/env python3
"""Have many devices redeem one join key at once, from several processes, and see that exactly as many get in as it has uses.

scripts/campaign_enrol.py [--rounds 10] [--processes 4] [--devices 1000] [--uses 10] [--kill]

With `--kill` one of the processes is ended with SIGKILL on the way: nobody may be half in. Prints the times taken.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pairing import ids
from pairing.authority import OPERATOR_SCOPES
from pairing.commands import Caller, Knock, Mint, Redeem, Wanted
from pairing.desk import Desk
from pairing.events import Actor, device_stream, enrolment_stream
from pairing.log.chain import Verifier
from pairing.log.sqlite import SqliteLog
from pairing.refusals import Reason, Refused

HOST = Caller(actor=Actor("local", "0"), scopes=OPERATOR_SCOPES)
HALF_IN = ("request.opened", "request.approved", "device.paired", "token.issued", "token.issued")


class Round(NamedTuple):
    """What came of one round: how many got in by the log, what is wrong, and how long it took in seconds."""

    redeemed: int
    overused: int
    faults: tuple[str, ...]
    seconds: float


def now() -> int:
    """Return the time in ms since the epoch."""
    return time.time_ns() // 1_000_000


def redemption(code: str, device: str) -> Redeem:
    """Return the command with which a device redeems a code."""
    at = now()
    base = {"id": ids.uuid7(at), "now": at, "by": Caller(actor=Actor("device", device), scopes=())}
    knock = Knock(
        **base,
        device=device,
        wanted=Wanted(key=f"key of {device}", role="node", scopes=()),
        client_id="node-host",
        client_mode="node",
        request=ids.request_id(),
        issue=ids.issue_id(),
        key="k",
        seen="s",
        named="n",
        ttl=300_000,
    )
    return Redeem(**base, code=code, knock=knock)


async def come(path: Path, code: str, name: str, devices: int) -> None:
    """Redeem as many devices at once; says `ready`, waits for a line, and prints how many fared how."""
    log = await SqliteLog.open(path)
    desk = Desk(log, version="1")
    await desk.enrolment(code)
    fates: Counter[str] = Counter()

    async def one(number: int) -> None:
        device = hashlib.sha256(f"{name} {number}".encode()).hexdigest()
        while True:
            try:
                crossed = await desk.handle_redemption(redemption(code, device))
            except Refused as refused:
                if refused.reason is Reason.BUSY:
                    fates["busy"] += 1
                    continue
                fates[refused.reason.value] += 1
            else:
                fates["in" if crossed.states[1].grant else "overused"] += 1
            return

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(one(number) for number in range(devices)))
    print(json.dumps(fates), flush=True)
    await log.close()


async def minted(path: Path, code: str, uses: int) -> None:
    """Make a log with one join key."""
    log = await SqliteLog.open(path)
    at = now()
    command = Mint(
        id=ids.uuid7(at),
        now=at,
        by=HOST,
        code=code,
        secret="s",
        key="k",
        profile="default",
        roles=("node", "operator"),
        scopes=("operator.read",),
        uses=uses,
        approves=False,
        expires_at=at + 600_000,
    )
    await Desk(log, version="1").handle_enrolment(command)
    await log.close()


async def examine(path: Path, code: str, uses: int, told: Counter[str], killed: bool) -> tuple[int, int, tuple[str, ...]]:
    """Return how many were redeemed and overused by the log, and what is wrong."""
    log = await SqliteLog.open(path)
    rows = await log.scan(limit=1_000_000)
    faults = [f"chain: {fault}" for fault in Verifier().faults(rows)]
    kinds = [row.kind for row in await log.stream(enrolment_stream(code))]
    redeemed = [json.loads(row.body)["device"] for row in rows if row.kind == "enrolment.redeemed"]
    paired = {row.stream for row in rows if row.kind == "device.paired"}
    if {device_stream(device) for device in redeemed} != paired or len(set(redeemed)) != len(redeemed):
        faults.append(f"{len(redeemed)} redeemed, {len(paired)} paired")
    for stream in paired:
        if tuple(row.kind for row in rows if row.stream == stream) != HALF_IN:
            faults.append(f"{stream} is half in")
    if len(redeemed) != uses or (told["in"] != uses and not killed) or told["in"] > uses:
        faults.append(f"{uses} uses, {len(redeemed)} redeemed by the log, {told['in']} told so")
    if kinds.count("enrolment.overused") > 1:
        faults.append("a flood of attempts was recorded")
    await log.close()
    return len(redeemed), kinds.count("enrolment.overused"), tuple(faults)


async def attempt(folder: Path, *, processes: int, devices: int, uses: int, kill: bool) -> Round:
    """Run one round in a folder of its own."""
    path, code = folder / "log.db", "c" * 32
    await minted(path, code, uses)
    each = max(1, devices // processes)
    children = [_child(path, code, each, str(number)) for number in range(processes)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    began = time.perf_counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    if kill:
        await asyncio.sleep(random.uniform(0, 0.05))
        children[0].kill()
    told: Counter[str] = Counter()
    for child in children:
        said, _ = await asyncio.to_thread(child.communicate)
        with contextlib.suppress(json.JSONDecodeError):
            told.update(json.loads((said.splitlines() or ["{}"])[-1]))
    seconds = time.perf_counter() - began
    redeemed, overused, faults = await examine(path, code, uses, told, kill)
    return Round(redeemed, overused, faults, seconds)


def _child(path: Path, code: str, devices: int, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(Path(__file__).resolve()), "--come", str(path), code, str(devices), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def campaign(folder: Path, *, rounds: int, processes: int, devices: int, uses: int, kill: bool = False) -> list[Round]:
    """Run rounds, each on a log of its own."""
    found = []
    for number in range(rounds):
        here = folder / f"round-{number}"
        here.mkdir(mode=0o700)
        found.append(await attempt(here, processes=processes, devices=devices, uses=uses, kill=kill))
    return found


def main() -> None:
    """Run the campaign, or be one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("rounds", 10), ("processes", 4), ("devices", 1000), ("uses", 10)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--come", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.come:
        path, code, devices, name = given.come
        asyncio.run(come(Path(path), code, name, int(devices)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = campaign(
            Path(folder),
            rounds=given.rounds,
            processes=given.processes,
            devices=given.devices,
            uses=given.uses,
            kill=given.kill,
        )
        for number, found in enumerate(asyncio.run(work)):
            rate = round(given.devices / found.seconds)
            print(f"round {number}: {found.redeemed} in, {found.overused} over-use recorded, {found.seconds:.2f} s, {rate}/s")
            for fault in found.faults:
                print(f"  FAULT {fault}")
            if found.faults:
                sys.exit(1)


if __name__ == "__main__":
    main()
