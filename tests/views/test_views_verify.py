"""Verifying the views: whatever is changed in their file is found, and building them anew mends it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pairing.log.memory import MemoryLog
from projections.views import Views
from tests.views.histories import DEVICES, Act, approved, device_stream, issued, opened, paired, perform, person, rotated

A = DEVICES[0]


async def some(log: MemoryLog) -> None:
    person_of = person(name="Phone", address="10.0.0.1")
    await perform(log, Act(device_stream(A), (opened("r-1", A),), person_of))
    await perform(log, Act(device_stream(A), (approved("r-1"), paired("r-1", A), issued())))
    await perform(log, Act(device_stream(A), (rotated(),)))


@pytest.mark.parametrize(
    ("sql", "table", "said"),
    [
        ("UPDATE devices SET scopes = '[\"operator.admin\"]'", "devices", "row 3 says something else: scopes"),
        ("DELETE FROM tokens WHERE to_position IS NULL", "tokens", "row 5 is missing"),
        ("INSERT INTO labels VALUES (4, NULL, 0, 1, 'forged', 'forged')", "labels", "row 4 should not be there"),
        ("DELETE FROM reasons WHERE position = 2", "reasons", "is missing"),
        ("UPDATE mark SET pending = 7", "mark", "row 0 says something else: pending"),
        ("UPDATE events SET address = '10.0.0.2' WHERE address IS NOT NULL", "events", "says something else: address"),
    ],
)
async def test_a_changed_row_is_found_and_mended(log: MemoryLog, path: Path, sql: str, table: str, said: str) -> None:
    """L11: the table, how many rows, and which; building anew leaves nothing to find. No copy stays behind."""
    await some(log)
    views = await Views.open(log, path)
    try:
        assert await views.verify() == (5, ())
        assert views.differences == 0
        with closing(sqlite3.connect(path)) as forger, forger:
            forger.execute(sql)
        position, (found,) = await views.verify()
        assert (position, found.table, found.count) == (5, table, 1)
        assert said in found.first[0]
        assert "Phone" not in found.first[0]
        assert views.differences == 1
        await views.rebuild()
        assert views.differences is None
        assert await views.verify() == (5, ())
    finally:
        await views.close()
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".views-verify")] == []


async def test_what_a_dead_process_left_is_swept(log: MemoryLog, path: Path) -> None:
    """L6: a copy that was left behind holds names and addresses; the next comparison, or erasure, deletes it."""
    await some(log)
    views = await Views.open(log, path)
    for work in (views.verify, lambda: views.forget(A)):
        left = path.parent / ".views-verify-999999999-x"
        left.mkdir()
        (left / "views.db").write_bytes(b"Phone")
        await work()
        assert not left.exists()
    await views.close()
