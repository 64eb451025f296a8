"""What the clock asks every second is answered from an index of ends, however many devices there are."""

from typing import Any

import pytest

from pairing.log.memory import MemoryLog
from projections import questions
from projections.spans import at
from projections.views import Views
from tests.views.histories import DEVICES, issued, paired, tell

NOW: dict[str, Any] = {"now": 5, "most": 9, "after": 0, "until": 5, "stream": ""}


@pytest.mark.parametrize(("sql", "index"), [(questions.LOCKS_OVER, "locks_until"), (questions.DUE, "tokens_due")])
async def test_an_end_is_found_by_its_time(views: Views, sql: str, index: str) -> None:
    """No look goes over all devices: neither the locks nor the tokens are scanned."""
    await views.catch_up()
    plan = [str(row[-1]) for row in await views._store.rows("EXPLAIN QUERY PLAN " + sql, at(1, **NOW))]
    assert any(index in step for step in plan), plan
    assert not any(step.startswith(("SCAN t", "SCAN k", "SCAN d")) for step in plan if index not in step), plan


async def test_the_next_end_comes_first_and_no_more_than_asked_for(views: Views, log: MemoryLog) -> None:
    """A batch is bounded, and begins with what ends first."""
    for number, device in enumerate(DEVICES):
        await tell(log, device, paired("r-1", device), issued("i-1", at=1, until=100 - number))
    rows = (await views.due(after=0, until=100, most=2)).rows
    assert [row.expires_at for row in rows] == [98, 99]
