"""What the stories of the views share: a log, views of it in a file, and what was warned of."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pairing.log.memory import MemoryLog
from projections.views import Views


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "views.db"


@pytest.fixture
async def views(log: MemoryLog, path: Path) -> AsyncIterator[Views]:
    opened = await Views.open(log, path)
    yield opened
    await opened.close()


@pytest.fixture
def warnings() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries
