"""What every story shares: the one event loop backend that aiosqlite knows."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
