"""What an append promises, whatever stores it."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from pairing.log.chain import GENESIS, verify
from pairing.log.errors import LogUnavailable
from pairing.log.port import Appended, Conflict, Draft, EventLog, Mark, Slice


async def test_rows_come_back_as_they_were_written(log: EventLog, words: Any) -> None:
    """An append answers with its rows: positions from 1 without gaps, versions from 1 in the stream, bytes untouched."""
    answer = await log.append([words.slice("device:a", 0, "x", "y")], command=words.command(1), now=1_000)
    assert isinstance(answer, Appended)
    assert [(row.position, row.stream, row.version, row.recorded_at) for row in answer.records] == [
        (1, "device:a", 1, 1_000),
        (2, "device:a", 2, 1_000),
    ]
    assert answer.records[0].body == words.draft("x").body
    assert answer.position == 2
    assert await log.stream("device:a") == answer.records
    assert await log.scan() == answer.records
    assert await log.head() == Mark(2, answer.records[1].hash)


async def test_an_empty_log_begins_at_genesis(log: EventLog) -> None:
    """A log without rows has the genesis mark, no streams and nothing to scan."""
    assert await log.head() == GENESIS
    assert await log.mark(0) == GENESIS
    assert await log.mark(1) is None
    assert await log.scan() == ()
    assert await log.stream("device:a") == ()
    assert await log.examine() == ()


async def test_a_wrong_version_is_a_conflict_and_writes_nothing(log: EventLog, words: Any) -> None:
    """A conflict is a value that names the stream, what was expected and what is; the log is as it was (D4)."""
    await log.append([words.slice("device:a", 0, "x")], command=words.command(1), now=1)
    for expected in (0, 2):
        answer = await log.append([words.slice("device:a", expected, "y")], command=words.command(2), now=1)
        assert answer == Conflict("device:a", expected, 1)
    assert await log.append([words.slice("device:b", 3, "y")], command=words.command(2), now=1) == Conflict("device:b", 3, 0)
    assert len(await log.scan()) == 1
    assert await log.command(words.command(2)) == ()


async def test_slices_are_stored_all_or_none(log: EventLog, words: Any) -> None:
    """A command over two streams cannot tear: one wrong version and neither stream gets a row."""
    await log.append([words.slice("device:a", 0, "x")], command=words.command(1), now=1)
    torn = [words.slice("enrolment:e", 0, "y"), words.slice("device:a", 0, "z")]
    assert await log.append(torn, command=words.command(2), now=1) == Conflict("device:a", 0, 1)
    assert await log.stream("enrolment:e") == ()
    whole = [words.slice("enrolment:e", 0, "y"), words.slice("device:a", 1, "z")]
    answer = await log.append(whole, command=words.command(3), now=1)
    assert isinstance(answer, Appended)
    assert [(row.stream, row.version) for row in answer.records] == [("enrolment:e", 1), ("device:a", 2)]


async def test_a_later_slice_sees_the_earlier_one(log: EventLog, words: Any) -> None:
    """Two slices of one stream in one append count on from each other."""
    slices = [words.slice("device:a", 0, "x"), words.slice("device:a", 1, "y")]
    assert isinstance(await log.append(slices, command=words.command(1), now=1), Appended)
    assert [row.version for row in await log.stream("device:a")] == [1, 2]


async def test_a_slice_without_drafts_is_a_condition(log: EventLog, words: Any) -> None:
    """A slice may write nothing and still hold its stream to a version."""
    await log.append([words.slice("policy", 0, "x")], command=words.command(1), now=1)
    wrong = [words.slice("policy", 0), words.slice("device:a", 0, "y")]
    assert await log.append(wrong, command=words.command(2), now=1) == Conflict("policy", 0, 1)
    right = [words.slice("policy", 1), words.slice("device:a", 0, "y")]
    answer = await log.append(right, command=words.command(2), now=1)
    assert isinstance(answer, Appended)
    assert len(answer.records) == 1


async def test_the_same_command_gets_its_first_answer(log: EventLog, words: Any) -> None:
    """Asked again with the same id, a command gets the rows it stored, also after others wrote, and nothing is written (T16)."""
    first = await log.append([words.slice("device:a", 0, "x", "y")], command=words.command(5), now=1)
    await log.append([words.slice("device:a", 2, "z")], command=words.command(9), now=1)
    again = await log.append([words.slice("device:a", 0, "other")], command=words.command(5), now=7)
    assert again == first
    assert isinstance(first, Appended)
    assert await log.command(words.command(5)) == first.records
    assert len(await log.scan()) == 3


async def test_a_command_that_races_itself_is_stored_once(log: EventLog, words: Any) -> None:
    """Sent many times at once, in one group or several, one command writes once and everybody gets the same rows (T16)."""
    asked = [log.append([words.slice("device:a", 0, "x", "y")], command=words.command(1), now=1) for _ in range(20)]
    answers = await asyncio.gather(*asked)
    assert isinstance(answers[0], Appended)
    assert all(answer == answers[0] for answer in answers)
    assert len(await log.scan()) == 2


async def test_a_command_refused_for_a_conflict_may_try_again(log: EventLog, words: Any) -> None:
    """A conflict stores nothing under the command's id, so the retry with the right version is judged anew."""
    asked = [log.append([words.slice("device:a", expected, "x")], command=words.command(1), now=1) for expected in (3, 0)]
    refused, stored = await asyncio.gather(*asked)
    assert refused == Conflict("device:a", 3, 0)
    assert isinstance(stored, Appended)


async def test_of_many_that_expect_one_version_one_wins(log: EventLog, words: Any) -> None:
    """Of N writers that saw the same version exactly one is stored, the others are told the version there is (B1, D4)."""
    asked = [log.append([words.slice("device:a", 0, "x")], command=words.command(n), now=1) for n in range(30)]
    answers = await asyncio.gather(*asked)
    assert sum(isinstance(answer, Appended) for answer in answers) == 1
    assert all(answer == Conflict("device:a", 0, 1) for answer in answers if isinstance(answer, Conflict))


async def test_time_never_goes_back(log: EventLog, words: Any) -> None:
    """`recorded_at` never decreases along positions, whatever the clocks of the writers say."""
    for number, now in enumerate([1_000, 400, 1_500, 0]):
        await log.append([words.slice("device:a", number, "x")], command=words.command(number), now=now)
    times = [row.recorded_at for row in await log.scan()]
    assert times == [1_000, 1_000, 1_500, 1_500]
    assert all(before <= after for before, after in pairwise(times))


async def test_the_chain_of_what_was_written_verifies(log: EventLog, words: Any) -> None:
    """The rows of any log chain from genesis, and from any mark on (L5)."""
    for number in range(10):
        await log.append([words.slice(f"device:{number % 3}", number // 3, "x")], command=words.command(number), now=number)
    rows = await log.scan()
    assert verify(rows) is None
    for row in rows:
        mark = await log.mark(row.position)
        assert mark == Mark(row.position, row.hash)
        assert verify(await log.scan(after=row.position), mark) is None


async def test_reading_goes_in_pages(log: EventLog, words: Any) -> None:
    """`scan` and `replay` page over the whole log, `stream` goes on after a version."""
    for number in range(7):
        await log.append([words.slice(f"device:{number % 2}", number // 2, "x")], command=words.command(number), now=1)
    rows = await log.scan()
    assert [row.position for row in await log.scan(after=2, limit=3)] == [3, 4, 5]
    assert await log.scan(after=7) == ()
    lines = await log.replay(after=2, limit=3)
    assert [(line.position, line.stream, line.version, line.kind, line.body) for line in lines] == [
        (row.position, row.stream, row.version, row.kind, row.body) for row in rows[2:5]
    ]
    assert [row.version for row in await log.stream("device:0", after=2)] == [3, 4]
    assert await log.stream("device:0", after=4) == ()


@pytest.mark.parametrize(
    "slices",
    [
        [],
        [Slice("device:a", 0, ())],
        [Slice("", 0, (Draft("k", b"{}", b"{}"),))],
        [Slice("device:a", -1, (Draft("k", b"{}", b"{}"),))],
        [Slice("device:\udcff", 0, (Draft("k", b"{}", b"{}"),))],
        [Slice("device:a", 0, (Draft("k", b"\xff", b"{}"),))],
        [Slice("device:a", 0, (Draft("k", b"{}", b"\xff"),))],
        [Slice("device:a", 0, (Draft("k", b"{}", b"{}", b"\xff"),))],
    ],
)
async def test_what_no_log_could_hold_is_an_error_of_the_caller(log: EventLog, words: Any, slices: list[Slice]) -> None:
    """Nothing to write, or text that is not text, is a ValueError of its caller alone: others in the same group are stored."""
    bad = log.append(slices, command=words.command(1), now=1)
    good = log.append([words.slice("device:good", 0, "x")], command=words.command(2), now=1)
    answers = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(answers[0], ValueError)
    assert isinstance(answers[1], Appended)


@pytest.mark.parametrize(
    "command", ["", "x", "0190163d8694739baea5966c26f8ad91", "0190163d-8694-739b-aea5-966c26f8ad9g", "0" * 36]
)
async def test_a_command_id_is_a_uuid(log: EventLog, words: Any, command: str) -> None:
    """A command id that is not a hyphenated UUID is refused before anything is written."""
    with pytest.raises(ValueError, match=r"UUID|hex"):
        await log.append([words.slice("device:a", 0, "x")], command=command, now=1)
    assert await log.scan() == ()


async def test_a_closed_log_takes_and_gives_nothing(log: EventLog, words: Any) -> None:
    """Closing twice is fine; afterwards every verb says that the log is closed rather than answer from memory (D1)."""
    await log.append([words.slice("device:a", 0, "x")], command=words.command(1), now=1)
    await log.close()
    await log.close()
    for asked in (
        log.append([words.slice("device:a", 1, "x")], command=words.command(2), now=1),
        log.stream("device:a"),
        log.scan(),
        log.replay(),
        log.command(words.command(1)),
        log.head(),
        log.mark(1),
        log.forget("device:a"),
        anext(log.follow(after=GENESIS)),
    ):
        with pytest.raises(LogUnavailable, match="closed"):
            await asked


async def test_closing_finishes_what_was_asked(log: EventLog, words: Any) -> None:
    """Appends that wait when the log is closed are written and answered."""
    asked = [asyncio.create_task(log.append([words.slice(f"d:{n}", 0, "x")], command=words.command(n), now=1)) for n in range(9)]
    await asyncio.sleep(0)
    await log.close()
    assert all(isinstance(answer, Appended) for answer in await asyncio.gather(*asked))
