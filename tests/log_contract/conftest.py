"""One contract, every backend: each story here runs against the log in memory and the log in a file."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pairing.log.memory import MemoryLog
from pairing.log.port import Draft, EventLog, Slice
from pairing.log.sqlite import SqliteLog

Opener = Callable[[Path], Awaitable[EventLog]]


async def _memory(path: Path) -> EventLog:
    return MemoryLog()


async def _sqlite(path: Path) -> EventLog:
    return await SqliteLog.open(path)


@pytest.fixture(params=[_memory, _sqlite], ids=["memory", "sqlite"])
def opener(request: pytest.FixtureRequest) -> Opener:
    """Open a fresh log at a path, in each backend."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def log(opener: Opener, tmp_path: Path) -> AsyncIterator[EventLog]:
    opened = await opener(tmp_path / "home" / "log.db")
    yield opened
    await opened.close()


class Words:
    """Drafts, slices and command ids of the contract's stories."""

    @staticmethod
    def draft(word: str = "a", *, personal: bytes | None = None) -> Draft:
        return Draft("token.issued", b'{"command":"c"}', b'{"kind":"token.issued","word":"%s"}' % word.encode(), personal)

    @classmethod
    def slice(cls, stream: str, expected: int, *words: str) -> Slice:
        return Slice(stream, expected, tuple(cls.draft(word) for word in words))

    @staticmethod
    def command(number: int) -> str:
        return str(UUID(int=(0x0190_0000_0000 + number) << 80 | 0x7 << 76 | 0x2 << 62 | number))


@pytest.fixture(scope="session")
def words() -> Any:
    return Words
