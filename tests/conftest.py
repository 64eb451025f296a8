"""What every story shares: the one event loop backend that aiosqlite knows, and log lines that go nowhere else afterwards."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from tests.houses import House


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def own_log_lines() -> Iterator[None]:
    """A command that ran in this process has set up structlog for itself; the next story begins without it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator["House"]:
    """A running gateway with a state folder and a port of its own."""
    from tests.houses import House, started, stopped

    house = House(tmp_path_factory.mktemp("house"))
    process = started(house)
    yield house
    stopped(process)
