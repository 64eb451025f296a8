"""What an answer costs does not grow with the log: no statement reads a table from end to end."""

import random

import pytest

from pairing.log.memory import MemoryLog
from projections import devices, questions, requests, tokens
from projections.spans import OPEN, at, fork, forks
from projections.views import Views

STATEMENTS = {
    "pending": questions.PENDING,
    "pending of one": questions.PENDING_OF,
    "paired": questions.PAIRED,
    "paired of one": questions.PAIRED_OF,
    "fate": questions.FATE,
    "matches": questions.MATCHES,
    "overdue": questions.OVERDUE,
    "crowd": questions.CROWD,
    "position at a time": questions.POSITION_AT,
    "last requests": requests.LOAD_LAST,
    "open requests": requests.LOAD_OPEN,
    "devices": devices.LOAD_DEVICES,
    "labels": devices.LOAD_LABELS,
    "tokens": tokens.LOAD,
}
BIG = ("events", "words", "requests", "devices", "labels", "tokens", "e", "w", "r", "d", "l", "t")
ANYTHING = dict.fromkeys(("stream", "request", "exact", "low", "high", "folded", "most", "now", "address", "time"), 1)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_answer_scans_a_table(name: str, views: Views) -> None:
    """Same cost with 100 and 100,000 devices: every big table is entered by an index."""
    plan = await views._store.rows(f"EXPLAIN QUERY PLAN {STATEMENTS[name]}", at(5, keys="[]", **ANYTHING))
    scans = [detail for *_, detail in plan if detail.startswith("SCAN") and detail.split()[1] in BIG]
    assert plan
    assert scans == []


def test_every_span_is_filed_where_all_its_positions_look() -> None:
    """A position finds exactly the spans around it: each is under one number, and both know which."""
    dice = random.Random(3)
    spans = [(start, start + length) for start in range(1, 70) for length in range(1, 70)]
    spans += [(start := dice.randrange(1, 1 << 40), start + dice.randrange(1, 1 << 40)) for _ in range(2_000)]
    for start, end in spans:
        node = fork(start, end)
        assert start <= node < end
        for position in {start, end - 1, (start + end) // 2, dice.randrange(start, end)} - {end}:
            below, above = forks(position)
            assert node in (below if node < position else above)
            assert len(below) + len(above) <= 48
            assert OPEN not in (*below, *above)


def test_nothing_is_before_the_first_position() -> None:
    """Position 0 is the empty log."""
    assert forks(0) == ([], [])


async def test_an_empty_log_has_an_answer_to_everything(log: MemoryLog, views: Views) -> None:
    """The first start of a gateway asks before anything has happened."""
    assert (await views.pending()).rows == ()
    assert (await views.paired(device="x", at=7)).rows == ()
    assert await views.matches("abcdef") == ()
    assert await views.request("r") is None
    assert await views.overdue(10) == ()
    assert await views.position_at(10) == 0
    assert await views.damaged() == ()
    assert await views.position() == 0
