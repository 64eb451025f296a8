"""The herald: follows the log, fences the sessions whose authority an event ended, and announces requests and their endings.

One path for what this process wrote and for what any other process wrote. Fences come first, in the order of the log; an answer
leaves only after the herald has passed what it answers.
"""

from collections.abc import Callable
from typing import Final

import anyio
import structlog
from anyio.abc import TaskStatus

from pairing import entries, node_entries
from pairing.desk import Desk
from pairing.events import (
    DeviceAbandoned,
    DeviceForgotten,
    DeviceLocked,
    DeviceRemoved,
    DeviceRenamed,
    DeviceRestored,
    DeviceUnlocked,
    HandoffClosed,
    NodeAbandoned,
    NodeApproved,
    NodeRejected,
    NodeRemoved,
    NodeRequested,
    RequestApproved,
    RequestEndorsed,
    RequestExpired,
    RequestOpened,
    RequestRejected,
    RequestSuperseded,
    RequestUnendorsed,
    RequestWithdrawn,
    TokenAbandoned,
    TokenDue,
    TokenExpired,
    TokenNarrowed,
    TokenRevoked,
    TokenRotated,
    Unknown,
    node_stream,
)
from pairing.log.codec import decode, decode_meta, decode_personal
from pairing.log.errors import HistoryChanged, LogError
from pairing.log.port import EventLog, Mark, Record

from .frames import broadcast
from .session import Registry, Session

REMOVED: Final = (4001, "device removed")
LOCKED: Final = (4001, "device locked")
EXPIRED: Final = (4001, "device token expired")
CHANGED: Final = (1012, "service restart")
PATIENCE_S: Final = 2.0
AGAIN_S: Final = 1.0
log = structlog.get_logger("pairing.herald")


class Herald:
    """Follows one log for one registry of sessions."""

    def __init__(
        self, events: EventLog, desk: Desk, registry: Registry, heard: Callable[[Record], None] = lambda record: None
    ) -> None:
        self._log = events
        self._desk = desk
        self._registry = registry
        self._heard = heard
        self.position = 0
        self._mark: Mark | None = None
        self._waiting: list[tuple[int, anyio.Event]] = []
        self._approving = ""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Follow from the present head, until cancelled."""
        self._mark = await self._log.head()
        self.position = self._mark.position
        task_status.started()
        while True:
            try:
                await self._follow()
            except HistoryChanged as error:
                # What was judged rests on a history that is gone.
                log.error("history changed", position=error.position)
                self._mark = None
                self.everybody_again()
            except LogError as error:
                # Who cannot hear of a revocation must not keep sessions that it may have ended.
                log.error("log not followed", error=str(error))
                self.everybody_again()
                await anyio.sleep(AGAIN_S)

    async def reached(self, position: int) -> None:
        """Wait until everything up to a position has been fenced and announced; in vain for two seconds, fence everybody."""
        if self.position >= position:
            return
        passed = anyio.Event()
        self._waiting.append((position, passed))
        with anyio.move_on_after(PATIENCE_S):
            await passed.wait()
        if not passed.is_set():
            log.error("herald late", position=self.position, wanted=position)
            self.everybody_again()

    def everybody_again(self) -> None:
        """End every session of a device: each may come again, and is then judged on what the log says."""
        for device in self._registry.devices():
            self._registry.fence(device, *CHANGED)

    async def _follow(self) -> None:
        if self._mark is None:
            self._mark = await self._log.head()
            self.position = self._mark.position
            self._wake()
        async for record in self._log.follow(after=self._mark):
            try:
                await self._take(record)
                self._heard(record)
            except Exception as error:
                # One bad row ends its own device's sessions and nobody else's (D2).
                log.error("event not taken", position=record.position, kind=record.kind, error=type(error).__name__)
                self._registry.fence(record.stream.removeprefix("device:"), *CHANGED)
            self._mark = Mark(record.position, record.hash)
            self.position = record.position
            self._wake()

    def _wake(self) -> None:
        for position, passed in self._waiting:
            if position <= self.position:
                passed.set()
        self._waiting = [(position, passed) for position, passed in self._waiting if position > self.position]

    async def _take(self, record: Record) -> None:
        device = record.stream.removeprefix("device:")
        if device == record.stream:
            self._take_node(record)
            return
        match decode(record):
            case DeviceRemoved() | DeviceAbandoned():
                self._registry.fence(device, *REMOVED)
            case TokenRevoked() | TokenAbandoned() as revoked:
                self._registry.fence(device, *REMOVED, which=lambda s: s.role == revoked.role)
            case TokenExpired() as expired:
                self._registry.fence(device, *EXPIRED, which=lambda s: s.role == expired.role)
            case TokenDue() as due:
                payload = {"deviceId": device, "role": due.role, "expiresAtMs": due.expires_at, "ts": due.at}
                self._tell("device.token.due", payload, record, also=lambda s: s.device == device)
            case DeviceLocked():
                self._registry.fence(device, *LOCKED)
                self._tell("device.pair.changed", {}, record)
            case TokenNarrowed() as narrowed:
                # It may come again at once, and is then asked what it is still approved for.
                self._registry.fence(device, *CHANGED, which=lambda s: s.role == narrowed.role)
            case DeviceRestored():
                self._registry.fence(device, *CHANGED)
            case TokenRotated() as rotated:
                self._rotated(device, rotated, record)
            case HandoffClosed() as closed:
                self._registry.fence(device, *REMOVED, which=lambda s: _rests_on(s, closed.retires))
            case RequestOpened() as opened:
                await self._opened(opened, record)
            case RequestApproved() as approved:
                self._approving = decode_meta(record).command
                self._resolved(device, approved.request, "approved", approved.at, record)
            case RequestRejected() as rejected:
                self._resolved(device, rejected.request, "rejected", rejected.at, record)
            case RequestSuperseded() | RequestWithdrawn() | RequestExpired() as ended:
                # The wire knows two endings; these three are announced as the one that means "do not wait" (R5).
                self._resolved(device, ended.request, "rejected", ended.at, record)
            case DeviceRenamed() | DeviceUnlocked() | DeviceForgotten() | RequestEndorsed() | RequestUnendorsed():
                self._tell("device.pair.changed", {}, record)
            case Unknown():
                # It may end access in a way that only a newer version knows; logins are refused from here on as well.
                self._registry.fence(device, *CHANGED)
            case _:
                pass

    def _take_node(self, record: Record) -> None:
        """Announce what became of a node's surface. It ends no session: who may connect is the device's matter (A11)."""
        node = record.stream.removeprefix(node_stream(""))
        if node == record.stream:
            return
        match decode(record):
            case NodeRequested() as asked:
                if asked.replaces is not None:
                    self._node_resolved(node, asked.replaces, "rejected", asked.at, record)
                self._tell("node.pair.requested", node_entries.announced(asked, decode_personal(record)), record)
            case NodeApproved() as approved:
                self._node_resolved(node, approved.request, "approved", approved.at, record)
            case NodeRejected() as rejected:
                self._node_resolved(node, rejected.request, "rejected", rejected.at, record)
            case NodeRemoved() | NodeAbandoned() as removed:
                self._node_resolved(node, "", "removed", removed.at, record)
            case _:
                pass

    def _node_resolved(self, node: str, request: str, decision: str, at: int, record: Record) -> None:
        payload = {"requestId": request, "nodeId": node, "decision": decision, "ts": at}
        self._tell("node.pair.resolved", payload, record)

    def _rotated(self, device: str, event: TokenRotated, record: Record) -> None:
        """An operator's rotation ends every session of the role; a token replaced by an approval only those that used it.

        Where the retired token may still be used for a while, only what rests on an older one ends.
        """
        if event.handoff_until is not None:
            self._registry.fence(device, *REMOVED, which=lambda s: s.role == event.role and _older(s, event.retires))
        elif decode_meta(record).command == self._approving:
            self._registry.fence(device, *REMOVED, which=lambda s: _rests_on(s, event.retires))
        else:
            self._registry.fence(device, *REMOVED, which=lambda s: s.role == event.role)

    async def _opened(self, event: RequestOpened, record: Record) -> None:
        """A silent request is announced only where its approval failed and it stayed open (protocol §6.8)."""
        if event.silent:
            pending = (await self._desk.device(event.device)).pending
            if pending is None or pending.request != event.request:
                return
        self._tell("device.pair.requested", entries.requested(event, decode_personal(record)), record)

    def _resolved(self, device: str, request: str, decision: str, at: int, record: Record) -> None:
        payload = {"requestId": request, "deviceId": device, "decision": decision, "ts": at}
        # The device itself learns of it too: its live sessions may ask for what they were just given.
        self._tell("device.pair.resolved", payload, record, also=lambda s: s.device == device)

    def _tell(self, name: str, payload: object, record: Record, also: Callable[[Session], bool] = lambda _: False) -> None:
        event = broadcast(name, payload)
        self._registry.tell(event, to=lambda s: s.joined < record.position and (s.hears_pairing or also(s)))


def _rests_on(session: Session, issue: str) -> bool:
    standing = session.caller.standing
    return standing is not None and standing.issue == issue


def _older(session: Session, issue: str) -> bool:
    standing = session.caller.standing
    return standing is not None and standing.issue not in {None, issue}
