"""Any interleaving of appends against a model of twenty lines, and storms of cancellation."""

import asyncio
import random
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairing.log.chain import verify
from pairing.log.port import Appended, Conflict, EventLog, Slice


class Part(NamedTuple):
    stream: str
    off: int
    many: int


class Ask(NamedTuple):
    command: int
    now: int
    parts: tuple[Part, ...]


class Model:
    """Streams as lists of words, commands as the words they stored. Knows nothing of hashes, groups or files."""

    def __init__(self) -> None:
        self.streams: dict[str, list[str]] = {}
        self.commands: dict[int, list[tuple[str, int]]] = {}
        self.rows: list[tuple[str, int]] = []

    def append(self, command: int, slices: list[tuple[str, int, int]]) -> list[tuple[str, int]] | tuple[str, int, int]:
        if command in self.commands:
            return self.commands[command]
        lengths = {name: len(words) for name, words in self.streams.items()}
        added: list[tuple[str, int]] = []
        for stream, expected, count in slices:
            if lengths.get(stream, 0) != expected:
                return stream, expected, lengths.get(stream, 0)
            added += [(stream, expected + 1 + n) for n in range(count)]
            lengths[stream] = expected + count
        for stream, _ in added:
            self.streams.setdefault(stream, []).append("x")
        self.rows += added
        self.commands[command] = added
        return added


_parts = st.builds(Part, st.sampled_from(["d:a", "d:b", "d:c"]), st.sampled_from([0, 0, 0, 1, -1]), st.integers(0, 3))
_asks = st.builds(Ask, st.integers(0, 12), st.integers(0, 50), st.lists(_parts, min_size=1, max_size=3).map(tuple))
_groups = st.lists(st.lists(_asks, min_size=1, max_size=6), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(groups=_groups)
def test_any_interleaving_answers_like_the_model(opener: Any, words: Any, groups: list[list[Ask]]) -> None:
    """Right and wrong versions, several slices, repeated ids, in groups: answers and rows are the model's (D4, D9)."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(opener, Path(folder) / "log.db", words, groups))


async def _play(opener: Any, path: Path, words: Any, groups: list[list[Ask]]) -> None:
    log: EventLog = await opener(path)
    model = Model()
    for group in groups:
        asked, expected = [], []
        for ask in group:
            plain = _plain(ask, model)
            if not any(count for _, _, count in plain):
                continue
            expected.append(model.append(ask.command, plain))
            slices = [words.slice(stream, version, *"x" * count) for stream, version, count in plain]
            asked.append(log.append(slices, command=words.command(ask.command), now=ask.now))
        assert [_shape(answer) for answer in await asyncio.gather(*asked)] == expected
    rows = await log.scan()
    assert [(row.stream, row.version) for row in rows] == model.rows
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    assert all(before.recorded_at <= after.recorded_at for before, after in pairwise(rows))
    assert verify(rows) is None
    for stream, held in model.streams.items():
        assert [row.version for row in await log.stream(stream)] == list(range(1, len(held) + 1))
    assert await log.examine() == ()
    await log.close()


def _plain(ask: Ask, model: Model) -> list[tuple[str, int, int]]:
    """Turn offsets into expected versions, counting on through the slices of one ask."""
    ahead: dict[str, int] = {}
    plain = []
    for part in ask.parts:
        version = max(0, ahead.get(part.stream, len(model.streams.get(part.stream, []))) + part.off)
        plain.append((part.stream, version, part.many))
        ahead[part.stream] = version + part.many
    return plain


def _shape(answer: Appended | Conflict) -> object:
    if isinstance(answer, Conflict):
        return answer.stream, answer.expected, answer.actual
    return [(row.stream, row.version) for row in answer.records]


async def test_cancelled_callers_tear_nothing(log: EventLog, words: Any) -> None:
    """Callers cancelled at any moment: each command is whole or absent, the answered are all there, and asking again answers."""
    chance = random.Random(7)
    answered: dict[int, Appended] = {}

    async def ask(number: int) -> None:
        slices = [Slice(f"d:{number}", 0, (words.draft(), words.draft())), words.slice(f"e:{number}", 0, "x")]
        answer = await log.append(slices, command=words.command(number), now=number)
        assert isinstance(answer, Appended)
        answered[number] = answer

    for storm in range(20):
        tasks = [asyncio.create_task(ask(storm * 20 + number)) for number in range(20)]
        for task in chance.sample(tasks, 15):
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(chance.choice([0, 0, 0.0003]))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for number, answer in answered.items():
        assert await log.command(words.command(number)) == answer.records
    for number in range(400):
        before = await log.command(words.command(number))
        assert len(before) in (0, 3)
        await ask(number)
        assert not before or answered[number].records == before
    rows = await log.scan(limit=5_000)
    assert len(rows) == 1_200
    assert verify(rows) is None


async def test_a_cancelled_caller_holds_up_nobody(log: EventLog, words: Any) -> None:
    """Those who wait behind a cancelled caller are answered."""
    first = asyncio.create_task(log.append([words.slice("d:1", 0, "x")], command=words.command(1), now=1))
    await asyncio.sleep(0)
    rest = [
        asyncio.create_task(log.append([words.slice(f"d:{n}", 0, "x")], command=words.command(n), now=1)) for n in range(2, 9)
    ]
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*rest)
    assert all(isinstance(answer, Appended) for answer in answers)
