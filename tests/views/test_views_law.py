"""The law of the views: following in any batches, rebuilding, and folding naively from the start all say the same."""

import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairing.listing import Crowd
from pairing.log.memory import MemoryLog
from projections import follow
from projections.views import Views
from tests.views.histories import ADDRESSES, CODES, DEVICES, NAMES, REQUESTS, Act, histories, perform
from tests.views.naive import Naive

TABLES = (
    "words",
    "events",
    "reasons",
    "damages",
    "requests",
    "devices",
    "labels",
    "tokens",
    "locks",
    "node_requests",
    "nodes",
    "enrolments",
    "holders",
    "mark",
)
WORDS = (DEVICES[0], "ABCD", "hall")
MORE_WORDS = ("abcd1", "abc", "Porch ", "none", *NAMES)


def plain(row: Any) -> Any:
    """A row as the oracle writes it: bare tuples."""
    if isinstance(row, msgspec.Struct) and type(row).__name__ != "Actor":
        return tuple(plain(field) for field in msgspec.structs.astuple(row))
    return tuple(plain(field) for field in row) if isinstance(row, tuple) else row


async def dump(views: Views) -> dict[str, list[Any]]:
    return {table: await views._store.rows(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES}


async def agree_at(views: Views, world: Naive, at: int | None) -> None:
    """Compare what can be asked at any position."""
    assert [plain(row) for row in (await views.pending(at=at)).rows] == world.pending()
    assert [plain(row) for row in (await views.paired(at=at)).rows] == world.paired()
    for device in DEVICES:
        assert [plain(row) for row in (await views.pending(device=device, at=at)).rows] == [
            row for row in world.pending() if row[1] == device
        ]
        assert [plain(row) for row in (await views.paired(device=device, at=at)).rows] == [
            row for row in world.paired() if row[0] == device
        ]
    assert [plain(row) for row in (await views.locks(at=at)).rows] == world.locks()
    for device in DEVICES:
        assert [plain(row) for row in (await views.locks(device=device, at=at)).rows] == [
            r for r in world.locks() if r[0] == device
        ]
    assert [plain(row) for row in (await views.node_requests(at=at)).rows] == world.node_requests()
    assert [plain(row) for row in (await views.nodes(at=at)).rows] == world.nodes()
    for node in DEVICES:
        asked = [plain(row) for row in (await views.node_requests(node=node, at=at)).rows]
        assert asked == [row for row in world.node_requests() if row[0] == node]
        assert [plain(row) for row in (await views.nodes(node=node, at=at)).rows] == [r for r in world.nodes() if r[0] == node]
    codes = [plain(row) for row in (await views.enrolments(at=at)).rows]
    assert sorted(codes, key=lambda row: row[0]) == world.enrolments()
    for code in CODES:
        assert [plain(row) for row in (await views.enrolments(code=code, at=at)).rows] == [r for r in codes if r[0] == code]
    for word in WORDS:
        assert {plain(match) for match in await views.matches(word, at=at)} == world.matches(word), word


async def agree_now(views: Views, world: Naive, now: int) -> None:
    """Compare what can be asked for now alone."""
    for word in MORE_WORDS:
        assert {plain(match) for match in await views.matches(word)} == world.matches(word), word
    open_rows = world.pending()
    for request in (*REQUESTS, "r-never"):
        fate = await views.request(request)
        assert (None if fate is None else plain(fate)) == world.fate(request)
    for address in (*ADDRESSES, None):
        assert await views.crowd(address) == Crowd(sum(row[12] == address for row in open_rows), len(open_rows))
    assert set(await views.overdue_codes(now)) == world.overdue_codes(now)
    over = {row[0] for row in world.locks() if row[2] is not None and row[2] <= now}
    assert set(await views.locks_over(now, 100)) == over
    due = (await views.due(after=1_000, until=now, most=100)).rows
    assert [(row.device, row.role, row.issue, row.expires_at) for row in due] == world.due(1_000, now)
    assert {plain(row) for row in await views.handed_over()} == world.handed_over()
    assert sorted(await views.overdue(now)) == sorted((row[1], row[0]) for row in open_rows if row[16] < now)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    acts=histories(),
    asks=st.sets(st.integers(0, 30), max_size=6),
    batch=st.integers(1, 7),
    turn=st.integers(1, 3),
    memory=st.integers(0, 12),
)
async def test_following_equals_rebuilding_equals_folding(
    acts: list[Act], asks: set[int], batch: int, turn: int, memory: int
) -> None:
    """D10, L11: at every position of any history, in batches of any size."""
    sizes = patch.multiple(follow, BATCH=batch, TURN=turn, MOST=memory)
    with tempfile.TemporaryDirectory() as folder, sizes:
        log = MemoryLog()
        views = await Views.open(log, Path(folder) / "views.db")
        try:
            for number, act in enumerate(acts):
                await perform(log, act)
                if number in asks:
                    world = Naive(await log.scan())
                    await agree_at(views, world, None)
                    await agree_now(views, world, 1_060)
            records = await log.scan()
            for position in range(len(records) + 1):
                await agree_at(views, Naive(records[:position]), position)
            await agree_now(views, Naive(records), 1_100)
            followed = await dump(views)
            with patch.multiple(follow, BATCH=1_000):
                await views.rebuild()
            assert await dump(views) == followed
        finally:
            await views.close()
