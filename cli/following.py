"""Following events from the command line, through either door: pages of them for as long as anybody reads.

A connection that is lost, or a gateway that restarts, is found again with growing pauses, and following goes on at the last
position seen. Who was sent away, and a log that is another one now, end it.
"""

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from pairing.client.errors import ConnectRefused, Disconnected, Unreachable
from pairing.following import LONGEST_WAIT_MS

from .options import Reach
from .voice import Failure, plain, remark

if TYPE_CHECKING:
    from .door import Door

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0
# A fence or a refusal closes with one of these: coming back would be answered alike, or by another door.
_SENT_AWAY = frozenset({1002, 1008, 4001})


class Place(NamedTuple):
    """Where to go on: after a position, whose row had this hash when it was seen. No position: at the present end."""

    position: int | None = None
    hash: str | None = None


async def follow(
    reach: Reach, method: str, params: Mapping[str, Any], start: Place, take: Callable[[dict[str, Any]], bool]
) -> None:
    """Hand page after page of a method that follows to `take`, empty ones included, until it returns True.

    What goes wrong before the first page is raised as it is, later what cannot be mended by coming again.
    """
    place, pause = start, _FIRST_PAUSE_S
    reached = False

    def taken(page: dict[str, Any]) -> bool:
        nonlocal place, pause, reached
        place, pause, reached = _after(page), _FIRST_PAUSE_S, True
        return take(page)

    while True:
        try:
            await _through_one_door(reach, method, params, place, taken, wait=reached)
            return
        except (Unreachable, Disconnected, ConnectRefused) as error:
            if not reached or not passes(error):
                raise
            remark(f"Lost the gateway at position {place.position}: {plain(error, 200)}; trying again in {pause:.2g} s")
        await anyio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311  spread, not secrecy
        pause = min(_LONGEST_PAUSE_S, pause * 2)


async def _through_one_door(
    reach: Reach,
    method: str,
    params: Mapping[str, Any],
    place: Place,
    take: Callable[[dict[str, Any]], bool],
    *,
    wait: bool,
) -> None:
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        while True:
            page = await _page(door, reach, method, params, place, wait)
            place, wait = _after(page), True
            if take(page):
                return


async def _page(door: "Door", reach: Reach, method: str, params: Mapping[str, Any], place: Place, wait: bool) -> dict[str, Any]:
    waits = LONGEST_WAIT_MS if wait else 0
    begin = {"from": place.position, "hash": place.hash} if place.position is not None else {}
    asked = {**params, **{key: value for key, value in begin.items() if value is not None}, "waitMs": waits}
    return await door.call(method, asked, within_ms=waits + reach.timeout_ms)


def _after(page: Mapping[str, Any]) -> Place:
    position, hash = page.get("position"), page.get("hash")
    if not isinstance(position, int) or not isinstance(hash, str):
        raise Failure(6, "strange-answer", "the gateway's answer names no position", "Is it a gateway of this kind?")
    return Place(position, hash)


def passes(error: Unreachable | Disconnected | ConnectRefused) -> bool:
    """Say whether coming again may help."""
    if isinstance(error, Disconnected):
        return error.code not in _SENT_AWAY
    return isinstance(error, Unreachable) or error.code == "UNAVAILABLE"
