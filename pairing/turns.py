"""Turns: this process's commands on one stream go one after another. Side by side all but one would be in conflict."""

from collections import deque
from typing import Final

import anyio

ATTEMPTS: Final = 12
"""How often a command is decided anew where others keep being faster."""


class Turns:
    """Who works on which stream, and who waits for it."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[anyio.Event]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def take(self, stream: str) -> None:
        """Wait until a stream is free, and hold it."""
        waiting = self._waiting.get(stream)
        if waiting is None:
            self._waiting[stream] = deque()
            return
        mine = anyio.Event()
        waiting.append(mine)
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():
                self.pass_on(stream)
            else:
                waiting.remove(mine)
            raise

    def pass_on(self, stream: str) -> None:
        """Let go of a stream: whoever waits longest has it now."""
        waiting = self._waiting[stream]
        if waiting:
            waiting.popleft().set()
        else:
            del self._waiting[stream]
