"""How long to wait before the next try: from 1 s, doubling, to 30 s, each shortened by chance so that a herd spreads out.

Pure but for the chance, which is handed in. A wait that the gateway asks for is kept, and bounded (protocol §4.7).
"""

import random
from collections.abc import Callable

FIRST_S = 1.0
MOST_S = 30.0
LONGEST_S = 600.0
STEADY_S = 10.0


class Backoff:
    """The waits of one client. `chance` gives numbers from 0 to 1.

    A session that held for less than 10 s counts as a failure: a gateway that lets in and throws out is not hammered.
    """

    def __init__(self, chance: Callable[[], float] = random.random, *, first: float = FIRST_S, most: float = MOST_S) -> None:
        self._chance, self._first, self._most = chance, first, most
        self._next = first

    def failed(self, asked_ms: int | None = None) -> float:
        """Return the seconds to wait after a failure; `asked_ms` is what the gateway asks for, at most ten minutes of it."""
        step, self._next = self._next, min(self._next * 2, self._most)
        wait = step * (0.5 + self._chance() / 2)
        return wait if asked_ms is None else max(wait, min(asked_ms / 1000, LONGEST_S))

    def held(self, seconds: float) -> None:
        """Begin anew after a session that held for so long."""
        if seconds >= STEADY_S:
            self._next = self._first
