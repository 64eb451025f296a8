"""A logged-in session, without a socket: what it may call itself, how its frames are answered, and whether it has been fenced.

Frames in, frames out (protocol §1.5). Running a method is somebody else's; so is the socket.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

from pairing.authority import ADMIN, OPERATOR, PAIRING
from pairing.commands import Caller, EnrolmentCommand
from pairing.entries import Node, Presence
from pairing.refusals import Reason, Refused

from . import frames
from .connect import given
from .contact import Contact
from .frames import Broadcast, FrameId, Malformed, Request

STRIKES: Final = 11
REPEATED: Final = (1008, "repeated unauthorized calls")


class Wire(Protocol):
    """What a session needs of its connection."""

    def send(self, text: str | bytes, *, droppable: bool = False) -> bool:
        """Queue a message; False where it was dropped."""

    def end(self, code: int = 1000, reason: str = "") -> None:
        """Close now; nothing that came before and waits is heard."""


class Session:
    """One logged-in connection. `joined` is the log position it knew at login: older news is not for it.

    `errand` is what is still to be recorded of the setup code behind its device.
    """

    def __init__(self, wire: Wire, contact: Contact, caller: Caller, *, id: str, now: int, joined: int) -> None:
        self.wire = wire
        self.contact = contact
        self.caller = caller
        self.id = id
        self.since = now
        self.joined = joined
        self.fenced: tuple[int, str] | None = None
        self.errand: EnrolmentCommand | None = None
        self._busy = False
        self._seq = 0
        self._strikes = 0

    @property
    def device(self) -> str | None:
        """The device whose key this connection proved."""
        return self.contact.device

    @property
    def role(self) -> str:
        """The session's role."""
        return self.caller.role

    @property
    def hears_pairing(self) -> bool:
        """Say whether events of pairing are for this session (protocol §6.8)."""
        scopes = self.caller.scopes or ()
        return self.role == OPERATOR and (PAIRING in scopes or ADMIN in scopes)

    def announce(self, event: Broadcast) -> None:
        """Send a broadcast under this connection's next number; dropped where the peer is slow, and then not counted."""
        if self.fenced is None and self.wire.send(event.numbered(self._seq + 1), droppable=True):
            self._seq += 1

    def fence(self, code: int, reason: str) -> None:
        """Accept nothing more from now on; close at once, or right after the answer that is being made (V1, V2, V5)."""
        if self.fenced is None:
            self.fenced = (code, reason)
        if not self._busy:
            self.wire.end(*self.fenced)

    def read(self, data: str | bytes) -> Request | None:
        """Return the request of a frame; what is none is answered or ignored here."""
        parsed = frames.parse_request(data)
        if isinstance(parsed, Request):
            return parsed
        if parsed.fault != "not-json":
            self._answer(_malformed(parsed))
        return None

    def begin(self, *, waits: bool = False) -> bool:
        """Take up a request; False once the session is fenced. A fence does not wait for one that itself `waits`."""
        self._busy = self.fenced is None and not waits
        return self.fenced is None

    def finish(self, answer: bytes) -> None:
        """Send the answer of the request taken up, then the close that a fence has asked for meanwhile."""
        self._busy = False
        self._answer(answer)
        if self.fenced is not None:
            self.wire.end(*self.fenced)

    def refused(self, id: FrameId, refused: Refused) -> bytes:
        """Return the frame of a refusal, and count the calls that this role may never make (protocol §1.5)."""
        if refused.reason is Reason.ROLE_NOT_ALLOWED:
            self._strikes += 1
            if self._strikes >= STRIKES:
                self.fenced = REPEATED
        else:
            self._strikes = 0
        return refusal(id, refused, protocol=self.contact.protocol)

    def succeeded(self, id: FrameId, payload: object) -> bytes:
        """Return the frame of a success."""
        self._strikes = 0
        return frames.response_ok(id, payload)

    def _answer(self, frame: bytes) -> None:
        self.wire.send(frame)


class Described(Struct, frozen=True):
    """The details of a refusal as the wire has them."""

    code: str
    details: dict[str, Any] | None


def refusal(id: FrameId, refused: Refused, *, protocol: int = 3, retry_after_ms: int | None = None) -> bytes:
    """Return the frame of a refusal: the protocol's code and message, and details that tell the truth."""
    told = describe(refused, protocol)
    later = protocol >= 4 and retry_after_ms is not None
    return frames.response_error(
        id, told.code, refused.message, told.details, True if later else None, retry_after_ms if later else None
    )


def describe(refused: Refused, protocol: int) -> Described:
    """Return code and details of a refusal. Since protocol 4 a missing scope is FORBIDDEN (protocol §9.3)."""
    saying = refused.saying
    details: dict[str, Any] = {"code": saying.detail} if saying.detail else {}
    if saying.detail and saying.detail.startswith("DEVICE_AUTH_"):
        details["reason"] = refused.reason.value
    if saying.step:
        details["recommendedNextStep"] = saying.step
    if refused.reason is Reason.MISSING_SCOPE:
        scope = refused.fields.get("scope")
        details |= {"missingScope": scope, "requiredScopes": [scope]}
    details |= refused.details
    code = "FORBIDDEN" if refused.reason is Reason.MISSING_SCOPE and protocol >= 4 else saying.code
    return Described(code, details or None)


def _malformed(parsed: Malformed) -> bytes:
    return frames.response_error(parsed.id, "INVALID_REQUEST", f"invalid request frame: {parsed.problems}")


class Registry:
    """The live sessions of one gateway process, by connection and by device; `cut` counts those it ended, by close reason."""

    def __init__(self) -> None:
        self._all: dict[str, Session] = {}
        self._by_device: dict[str, dict[str, Session]] = {}
        self.cut: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, session: Session) -> None:
        """Take in a session."""
        self._all[session.id] = session
        if session.device is not None:
            self._by_device.setdefault(session.device, {})[session.id] = session

    def discard(self, session: Session) -> None:
        """Let go of a session."""
        self._all.pop(session.id, None)
        if session.device is not None and (mine := self._by_device.get(session.device)):
            mine.pop(session.id, None)
            if not mine:
                del self._by_device[session.device]

    def devices(self) -> tuple[str, ...]:
        """Return the devices that have live sessions."""
        return tuple(self._by_device)

    def of_device(self, device: str) -> tuple[Session, ...]:
        """Return the live sessions whose connect carried a device."""
        return tuple(self._by_device.get(device, {}).values())

    def fence(self, device: str, code: int, reason: str, *, which: Callable[[Session], bool] = lambda _: True) -> None:
        """End sessions of a device."""
        for session in self.of_device(device):
            if which(session):
                if session.fenced is None:
                    self.cut[reason] = self.cut.get(reason, 0) + 1
                session.fence(code, reason)

    def tell(self, event: Broadcast, *, to: Callable[[Session], bool] = lambda _: True) -> None:
        """Broadcast an event to those it is for."""
        for session in tuple(self._all.values()):
            if to(session):
                session.announce(event)

    def connected(self, device: str) -> bool:
        """Say whether a device has a live session."""
        return device in self._by_device

    def by_role(self) -> dict[str, int]:
        """Count the live sessions by role."""
        found: dict[str, int] = {}
        for session in self._all.values():
            found[session.role] = found.get(session.role, 0) + 1
        return found

    def presence(self) -> list[Presence]:
        """Return one entry for every live session."""
        return [_presence(session) for session in self._all.values()]

    def nodes(self) -> dict[str, Node]:
        """Return the connected nodes by device id."""
        return {s.device: _node(s) for s in self._all.values() if s.device is not None and s.role != OPERATOR}


def _presence(session: Session) -> Presence:
    client, origin = session.contact.params.client, session.contact.facts.origin
    return Presence(
        ts=session.since,
        host=given(client.display_name),
        ip=origin.reported_ip,
        version=client.version,
        platform=client.platform,
        device_family=given(client.device_family),
        mode=client.mode,
        reason="connect",
        device_id=session.device,
        roles=(session.role,),
        scopes=session.caller.scopes,
        instance_id=given(client.instance_id),
        text=f"{given(client.display_name) or client.id} ({session.role})",
    )


def _node(session: Session) -> Node:
    params = session.contact.params
    return Node(
        node_id=session.device or "",
        display_name=given(params.client.display_name),
        platform=params.client.platform,
        version=params.client.version,
        device_family=given(params.client.device_family),
        remote_ip=session.contact.facts.origin.reported_ip,
        caps=params.caps,
        commands=params.commands,
        connected=True,
        connected_at_ms=session.since,
    )
