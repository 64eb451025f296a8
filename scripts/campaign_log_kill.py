#!/usr/bin/env python3
"""Kill writers of a log with SIGKILL at random moments and see that nothing answered is lost and nothing is half done.

scripts/campaign_log_kill.py [--rounds 200] [--writers 2] [--seed N] [--dir FOLDER]
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pairing.log.chain import Verifier
from pairing.log.port import Appended, Conflict, Draft, Record, Slice
from pairing.log.sqlite import SqliteLog

CALLERS = 6


def command_id() -> str:
    """Return a UUIDv7 (RFC 9562)."""
    value = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    value[6] = 0x70 | value[6] & 0x0F
    value[8] = 0x80 | value[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(value)))


async def write(path: Path, name: str) -> None:
    """Append for ever; print one line for each answered command, after its answer."""
    log = await SqliteLog.open(path)

    async def caller(number: int) -> None:
        own = f"own:{name}:{number}"
        version = len(await log.stream(own))
        shared = 0
        while True:
            count, command = random.randint(1, 3), command_id()
            draft = Draft("token.issued", b'{"of":%d}' % (count + 1), b'{"pad":"%s"}' % (b"x" * random.randint(0, 3_000)))
            slices = [Slice("shared", shared, (draft,)), Slice(own, version, (draft,) * count)]
            answer = await log.append(slices, command=command, now=time.time_ns() // 1_000_000)
            if isinstance(answer, Conflict):
                shared = answer.actual
                continue
            shared, version = shared + 1, version + count
            print(json.dumps([command, answer.position, answer.records[-1].hash.hex()]), flush=True)

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))


async def examine(path: Path, answered: list[list[object]]) -> int:
    """Check everything that must hold after a kill. Returns the number of rows; raises AssertionError."""
    log = await SqliteLog.open(path)
    verifier, position = Verifier(), 0
    rows: dict[int, Record] = {}
    while page := await log.scan(after=position, limit=5_000):
        assert not (faults := list(verifier.faults(page))), faults
        rows |= {row.position: row for row in page}
        position = page[-1].position
    for command, last, digest in answered:
        assert rows[int(str(last))].hash.hex() == digest, f"the answered command {command} is not at {last}"
        stored = await log.command(str(command))
        assert len(stored) == json.loads(stored[0].meta)["of"], f"{command} is stored by half"
    whole = 1
    while whole <= position:
        of = json.loads(rows[whole].meta)["of"]
        assert all(json.loads(rows[at].meta)["of"] == of for at in range(whole, whole + of)), f"the command at {whole} is torn"
        whole += of
    assert await log.examine() == ()
    again = await log.append([Slice(f"after:{position}", 0, (Draft("k", b'{"of":1}', b"{}"),))], command=command_id(), now=0)
    assert isinstance(again, Appended)
    await log.close()
    return position


def campaign(folder: Path, *, rounds: int, writers: int, seed: int) -> tuple[int, int]:
    """Run the rounds on one log. Returns how many commands were answered and how many rows there are."""
    chance, path = random.Random(seed), folder / "log.db"
    answered: list[list[object]] = []
    position = 0
    for _ in range(rounds):
        began = len(answered)
        running = [
            subprocess.Popen(
                [sys.executable, __file__, "--write", str(path), "--name", str(number)], stdout=subprocess.PIPE, text=True
            )
            for number in range(writers)
        ]
        for process in running:
            assert process.stdout is not None
            answered.append(json.loads(process.stdout.readline()))
        time.sleep(chance.uniform(0.0, 0.15))
        for process in chance.sample(running, writers):
            os.kill(process.pid, signal.SIGKILL)
            time.sleep(chance.choice([0.0, 0.01]))
        for process in running:
            with process:  # not communicate(), which would lose what readline() has buffered
                assert process.stdout is not None
                answered += [json.loads(line) for line in process.stdout if line.endswith("]\n")]
        position = asyncio.run(examine(path, answered[began:] if len(answered) > 5_000 else answered))
    asyncio.run(examine(path, answered))
    return len(answered), position


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--dir", type=Path, help="a folder on the disk to try")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        asyncio.run(write(options.write, options.name))
        return
    folder = Path(tempfile.mkdtemp(prefix="campaign-", dir=options.dir))
    try:
        answered, rows = campaign(folder, rounds=options.rounds, writers=options.writers, seed=options.seed)
    finally:
        shutil.rmtree(folder)
    kills = f"{options.rounds} times {options.writers} writers killed (seed {options.seed})"
    print(f"{kills}: {answered} answered commands, {rows} rows, all there")


if __name__ == "__main__":
    main()
