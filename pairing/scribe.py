"""The scribe: events with who and how, appended to the log; and which ends of access could not be (V6).

It decides nothing. Only `desk` and `crossing` hand it anything.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

from .commands import Command, Lock, Reject, Remove, Revoke, Rotate, Unlock
from .device import Device
from .events import AnyEvent, Meta
from .log.codec import draft
from .log.errors import LogUnavailable
from .log.port import Appended, Conflict, Draft, EventLog, Slice

_ENDS = Revoke | Remove | Rotate | Lock | Reject


class Scribe:
    """Appends for one desk; `written` is the last position that it wrote."""

    def __init__(self, events: EventLog, *, version: str, policy: str | None) -> None:
        self._log = events
        self._version = version
        self._policy = policy
        self.written = 0
        self.doubted: set[str] = set()
        self._unbarred: set[str] = set()

    def doubts(self, device: str, state: Device) -> bool:
        """Say whether an end of this device's access could not be stored. Without a grant only a lock is left to be missed."""
        if state.grant is None and device not in self._unbarred:
            self.doubted.discard(device)
        return device in self.doubted

    def drafts(self, events: Sequence[object], command: Command) -> tuple[Draft, ...]:
        """Return events as they are to be stored, with who and how."""
        meta = Meta(
            actor=command.by.actor,
            command=command.id,
            authority=_united(command.by.scopes or (), command.by.ceiling),
            origin=command.by.origin,
            cause=command.cause,
            reason=command.reason,
            ticket=command.ticket,
            policy=command.policy or self._policy,
            gateway=self._version,
        )
        return tuple([draft(cast("AnyEvent", event), meta, command.personal) for event in events])

    async def append(self, slices: Sequence[Slice], command: Command) -> Appended | Conflict:
        """Append; where an end of access could not be stored, its device is refused until one is, or until a restart (V6)."""
        bars = isinstance(command, Lock) or (isinstance(command, Reject) and command.ban is not None)
        ends = command.device if isinstance(command, _ENDS) and (bars or not isinstance(command, Reject)) else None
        try:
            outcome = await self._log.append(slices, command=command.id, now=command.now)
        except LogUnavailable:
            if ends is not None:
                self.doubted.add(ends)
                self._unbarred.update((ends,) if bars else ())
            raise
        if isinstance(outcome, Conflict):
            return outcome
        if isinstance(command, Unlock):
            self.sure(command.device)
        elif ends is not None and (bars or ends not in self._unbarred):
            self.sure(ends)
        return outcome

    def wrote(self, position: int) -> None:
        """Note how far this desk has written."""
        self.written = max(self.written, position)

    def sure(self, device: str) -> None:
        """Say that nothing is left in doubt about a device."""
        self.doubted.discard(device)
        self._unbarred.discard(device)


@lru_cache
def _united(scopes: tuple[str, ...], ceiling: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*scopes, *ceiling)))
