"""Running a command's coroutine to its answer. The event loop is asyncio's, which the log needs."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from .voice import Told, tell

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function and return what it returns; one error behind nested task groups is raised as itself."""
    import anyio

    try:
        return anyio.run(work)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


def answer(work: Callable[[], Awaitable[Told]], as_json: bool) -> None:
    """Run a command and tell what it answers."""
    tell(run(work), as_json)
