"""How far each webhook has got: what a courier keeps between two attempts, and the Protocol that the composition root fills.

No truth and no right: without it everything since a hook was added is sent once more, under the ids that it had before.
"""

from pathlib import Path
from typing import Protocol

from msgspec import Struct

from .refusals import PairingError


class OutboxUnavailable(PairingError):
    """How far hooks have got cannot be read or kept; nothing is sent on a guess."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(f"{path} cannot be used ({error}); webhooks are not delivered meanwhile. Try: pairing doctor")


class Blocked(Struct, frozen=True):
    """A stream whose event at `version` and `position` was not taken: its later ones wait. Times in ms."""

    version: int
    position: int
    attempts: int
    since: int
    retry_at: int
    error: str


class Progress(Struct, frozen=True, omit_defaults=True):
    """How far a hook has got in its `turn`: up to `position` all is delivered, but for what waits in `blocked` streams.

    `since` (ms): the receiver has been unreachable from then on, over so many `attempts`; `retry_at`: nothing is tried before.
    `tried` and `failed` count attempts since the beginning; `owed_at` (ms): when the event was recorded that is tried in vain.
    """

    turn: int
    position: int
    blocked: dict[str, Blocked] = {}
    attempts: int = 0
    since: int | None = None
    owed_at: int | None = None
    retry_at: int = 0
    tried: int = 0
    failed: int = 0
    error: str | None = None
    error_at: int | None = None
    delivered_at: int | None = None

    @property
    def owed(self) -> int:
        """The last position up to which nothing is owed any more."""
        return min([self.position, *(blocked.position - 1 for blocked in self.blocked.values())])

    @property
    def owed_since(self) -> int | None:
        """Since when (ms) the oldest event waits that has been tried in vain."""
        waiting = [blocked.since for blocked in self.blocked.values()]
        return min([*waiting, *((self.owed_at,) if self.owed_at is not None else ())], default=None)


class Outbox(Protocol):
    """Keeps the progress of hooks, durably; one process at a time delivers."""

    async def progress(self, hook: str) -> Progress | None:
        """Return how far a hook has got, None where nothing is known."""

    async def keep(self, hook: str, progress: Progress) -> None:
        """Keep how far a hook has got, in place of what was known before."""

    async def drop(self, hook: str) -> None:
        """Forget a hook."""

    def take_lease(self) -> bool:
        """Try to become the one process that delivers; True where this process is."""

    def give_lease(self) -> None:
        """Let another process deliver."""
