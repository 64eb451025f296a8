"""What the stories of the past share: a service on a log that holds what a past has recorded."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.history.pasts import House, Past


@pytest.fixture
async def house() -> AsyncIterator[Callable[..., Awaitable[House]]]:
    """Open the service on a log in memory: `await house(past)`."""
    async with AsyncExitStack() as stack:

        async def make(past: Past, **more: Any) -> House:
            return await stack.enter_async_context(House.of(past.records, **more))

        yield make
