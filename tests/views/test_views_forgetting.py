"""A forgotten device in the views, in whatever batches its history is followed, and before the log itself is empty."""

from pathlib import Path
from unittest.mock import AsyncMock, patch

import pytest

from pairing.events import DeviceForgotten, NodeForgotten, device_stream, node_stream
from pairing.log.memory import MemoryLog
from projections import follow
from projections.views import Views
from tests.views import histories
from tests.views.histories import DEVICES, Act, approved, issued, node_requested, opened, paired, perform, person

A = DEVICES[0]


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
async def test_nothing_said_before_is_carried_past_the_fact(log: MemoryLog, path: Path, batch: int) -> None:
    """L6, D9: cut short before the log was emptied, and in one batch or many, the views say nothing of whom it was about."""
    phone, kept = person(name="Phone", address="10.0.0.1"), person(name="Later", address="10.0.0.2")
    with patch.object(histories, "erase", AsyncMock()), patch.multiple(follow, BATCH=batch, TURN=2):
        await perform(log, Act(device_stream(A), (opened("r-1", A),), phone))
        await perform(log, Act(node_stream(A), (node_requested("n-1", A),), phone))
        await perform(log, Act(device_stream(A), (DeviceForgotten(at=1_500, rows=2),)))
        await perform(log, Act(node_stream(A), (NodeForgotten(at=1_500, rows=1),)))
        await perform(log, Act(device_stream(A), (approved("r-1"), paired("r-1", A), issued())))
        await perform(log, Act(device_stream(A), (opened("r-2", A),), kept))
        views = await Views.open(log, path)
        (row,) = (await views.paired()).rows
        assert (row.name, row.address) == (None, None)
        (asked,) = (await views.node_requests()).rows
        assert (asked.name, asked.address) == (None, None)
        (pending,) = (await views.pending()).rows
        assert (pending.name, pending.address) == ("Later", "10.0.0.2")
        assert [row.name for row in (await views.pending(at=1)).rows] == [None]
        await views.close()
