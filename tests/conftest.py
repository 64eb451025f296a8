"""What every story shares: the one event loop backend that aiosqlite knows, and log lines that go nowhere else afterwards."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def own_log_lines() -> Iterator[None]:
    """A command that ran in this process has set up structlog for itself; the next story begins without it."""
    yield
    structlog.reset_defaults()
