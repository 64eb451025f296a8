"""Several processes and one file, and processes that die in the middle."""

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pairing.log.chain import verify
from pairing.log.sqlite import SqliteLog

CAMPAIGN = Path(__file__).parent.parent / "scripts" / "campaign_log_kill.py"

WRITER = """
import asyncio, json, sys, uuid
from pathlib import Path
from pairing.log.port import Appended, Conflict, Draft, Slice
from pairing.log.sqlite import SqliteLog

async def main(path, name, count):
    log = await SqliteLog.open(Path(path))
    answered = []
    async def caller(own):
        version = shared = done = 0
        while done < count:
            draft = Draft("token.issued", b"{}", b"{}")
            slices = [Slice("shared", shared, (draft,)), Slice(own, version, (draft, draft))]
            answer = await log.append(slices, command=str(uuid.uuid4()), now=done)
            if isinstance(answer, Conflict):
                shared = answer.actual
                continue
            shared, version, done = shared + 1, version + 2, done + 1
            answered.append([answer.position, answer.records[-1].hash.hex()])
    await asyncio.gather(*(caller(f"own:{name}:{n}") for n in range(3)))
    await log.close()
    print(json.dumps(answered))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.mark.parametrize("many", [2, 4])
async def test_no_event_is_lost_and_no_version_used_twice(tmp_path: Path, many: int) -> None:
    """Processes write to one file at once, on streams of their own and on a shared one: every answered event is there (D4)."""
    path, each = tmp_path / "log.db", 12
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(path), str(n), str(each), stdout=subprocess.PIPE)
        for n in range(many)
    ]
    told = [(await process.communicate())[0] for process in running]
    assert [process.returncode for process in running] == [0] * many
    answered = [tuple(one) for part in told for one in json.loads(part)]
    log = await SqliteLog.open(path)
    rows = await log.scan(limit=10_000)
    assert len(answered) == many * 3 * each
    assert len(rows) == len(answered) * 3
    assert verify(rows) is None
    assert set(answered) <= {(row.position, row.hash.hex()) for row in rows}
    assert max(Counter((row.stream, row.version) for row in rows).values()) == 1
    assert [row.version for row in await log.stream("shared")] == list(range(1, len(answered) + 1))
    assert await log.examine() == ()
    await log.close()


@pytest.mark.parametrize("writers", [1, 2])
def test_a_killed_writer_loses_nothing_it_answered(tmp_path: Path, writers: int) -> None:
    """SIGKILL at random moments: every answered command is there whole, the chain verifies, and the log goes on (D6, D9)."""
    spec = importlib.util.spec_from_file_location("campaign_log_kill", CAMPAIGN)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answered, rows = module.campaign(tmp_path, rounds=5, writers=writers, seed=writers)
    assert rows >= answered >= 5 * writers
