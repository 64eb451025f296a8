"""The messages of the wire: requests in; responses, events and close reasons out (protocol §1.2 to §1.7).

Owns the three frame shapes and their bytes. Knows no method, session or socket; what a frame carries is opaque here.
An absent key is absent, never null: clients drop a response that says `"error":null` (§1.3).
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from pairing.shapes import UNREADABLE, Name, explain

Count: TypeAlias = Annotated[int, Meta(ge=0)]
FrameId: TypeAlias = str | Raw

_NO_ID: Final = Raw(b'"invalid"')


class Request(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A call. `params` stay undecoded until the method is known; the last two keys are newer clients' and go unused."""

    type: Literal["req"]
    id: Name
    method: Name
    params: Raw | UnsetType = UNSET
    traceparent: Annotated[str, Meta(max_length=128)] | UnsetType = UNSET
    expected_profile_id: str | UnsetType = UNSET


class Malformed(Struct, frozen=True):
    """What came instead of a request. `problems` is the list of §1.4; `id` is what an answer echoes, of any JSON type."""

    fault: Literal["not-json", "not-a-request"]
    problems: str = ""
    id: Raw = _NO_ID


class Fault(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The error of a response. `details` must hold no secret."""

    code: str
    message: str
    details: Any = UNSET
    retryable: bool | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET


class Response(Struct, frozen=True, tag_field="type", tag="res"):
    """The answer to one request: a payload when `ok`, an error otherwise."""

    id: Any
    ok: bool
    payload: Any = UNSET
    error: Fault | UnsetType = UNSET


class StateVersion(Struct, frozen=True):
    """Counters that travel with health and presence."""

    presence: Count = 0
    health: Count = 0


class EventFrame(Struct, frozen=True, tag_field="type", tag="event", rename="camel"):
    """Something that happened. Only broadcasts carry `seq`, counted from 1 on each connection."""

    event: str
    payload: Any = UNSET
    state_version: StateVersion | UnsetType = UNSET
    seq: Count | UnsetType = UNSET


class Broadcast(Struct, frozen=True):
    """An event encoded once for many connections: everything but the sequence number and the last brace."""

    opened: bytes

    def numbered(self, seq: int) -> bytes:
        """Return the frame for one connection."""
        return b'%b,"seq":%d}' % (self.opened, seq)


def parse_request(data: str | bytes) -> Request | Malformed:
    """Read one message, text or binary; raises nothing whatever the bytes are."""
    try:
        # Params are skipped, not decoded, so that bad UTF-8 in them would go unseen.
        text = data if isinstance(data, str) else data.decode()
        return _REQUEST.decode(text)
    except UNREADABLE:
        pass
    try:
        sent = msgspec.json.decode(data)
        named = isinstance(sent, dict) and sent.get("id") is not None
        return Malformed("not-a-request", explain(Request, sent), _ECHO.decode(data).id if named else _NO_ID)
    except UNREADABLE:
        return Malformed("not-json")


def response_ok(id: FrameId, payload: object = UNSET) -> bytes:
    """Return the frame of a success; `payload` may be Raw JSON."""
    return _encode(Response(id, True, payload))


def response_error(
    id: FrameId,
    code: str,
    message: str,
    details: object = None,
    retryable: bool | None = None,
    retry_after_ms: int | None = None,
) -> bytes:
    """Return the frame of a refusal or failure; None leaves a key out."""
    error = Fault(
        code,
        message,
        UNSET if details is None else details,
        UNSET if retryable is None else retryable,
        UNSET if retry_after_ms is None else retry_after_ms,
    )
    return _encode(Response(id, False, error=error))


def event(name: str, payload: object, seq: int | None = None, state_version: StateVersion | None = None) -> bytes:
    """Return the frame of an event to one connection; None leaves a key out."""
    version = UNSET if state_version is None else state_version
    return _encode(EventFrame(name, payload, version, UNSET if seq is None else seq))


def broadcast(name: str, payload: object, state_version: StateVersion | None = None) -> Broadcast:
    """Encode an event for any number of connections."""
    return Broadcast(event(name, payload, state_version=state_version)[:-1])


def challenge(nonce: str, ts: int) -> bytes:
    """Return the first frame of every socket (protocol §2.1); newer clients sign `ts`, the gateway's time in ms."""
    return event("connect.challenge", {"nonce": nonce, "ts": ts})


class _Echo(Struct, frozen=True):
    # Raw, so that an echo costs no second encoding and nests no deeper on the way out.
    id: Raw


_REQUEST: Final = msgspec.json.Decoder(Request)
_ECHO: Final = msgspec.json.Decoder(_Echo)
_encode: Final = msgspec.json.Encoder().encode
