"""One attempt to deliver one event: what is sent, how it is signed, and what came of it. It remembers nothing.

Signed by the Standard Webhooks scheme (standardwebhooks.com): over id, time and body, anew for each attempt. An event's id is the
same in every attempt, so that a receiver can tell a repetition.
"""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

import anyio
import httpx
import msgspec
from msgspec import Struct

from pairing.events import Meta
from pairing.log.codec import decode, decode_meta, decode_personal
from pairing.log.errors import EventUnreadable
from pairing.log.port import Record
from pairing.outside import NotOutside, resolve
from pairing.recorded import device_of

MOST_ANSWER: Final = 16 * 1024
LONGEST_ASKED_WAIT_S: Final = 3_600.0
What: TypeAlias = Literal["delivered", "unfit", "unreachable", "gone"]
# The receiver as a whole cannot take anything now; any other failure is of this one event.
_BUSY: Final = frozenset({429, 502, 503, 504})


class Outcome(Struct, frozen=True):
    """What came of an attempt. `unfit`: this event was not taken; `unreachable`: nothing can be taken now; `wait_s` as asked."""

    what: What
    error: str | None = None
    wait_s: float | None = None


def payload(record: Record, *, people: bool) -> bytes:
    """Return the JSON body of an event: what happened, to which device, by whom; what points at people only where asked for."""
    told: dict[str, Any] = {
        "type": record.kind,
        "position": record.position,
        "recordedAt": datetime.fromtimestamp(record.recorded_at / 1000, UTC).isoformat(timespec="milliseconds"),
        "stream": record.stream,
        "device": device_of(record),
    }
    try:
        decode(record)
        body, meta = msgspec.json.decode(record.body), decode_meta(record)
        told["by"] = {"kind": meta.actor.kind, **({"id": meta.actor.id} if meta.actor.id else {})}
        told["event"] = {key: value for key, value in body.items() if key != "kind"}
        if people:
            told |= _people(record, meta)
    except EventUnreadable as error:
        told["unreadable"] = str(error)
    return msgspec.json.encode({key: value for key, value in told.items() if value is not None})


def _people(record: Record, meta: Meta) -> dict[str, Any]:
    personal = decode_personal(record)
    known = {field: getattr(personal, field) for field in ("name", "label", "address", "agent")} if personal else {}
    shown = {field: value for field, value in known.items() if value is not None}
    return {"personal": shown or None, "reason": meta.reason, "ticket": meta.ticket}


def message_id(hook: str, position: int) -> str:
    """Return the id of an event for one hook: the same in every attempt and every replay."""
    return f"msg_{hook}_{position}"


def signature(secret: bytes, id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`; `timestamp` in seconds."""
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


class Postman:
    """Delivers to one URL. Its connections are of this hook alone, no proxy is asked, and no redirect is followed."""

    def __init__(self, hook: str, url: str, secret: bytes, *, timeout_s: float, private_allowed: bool, agent: str) -> None:
        self._hook, self._url, self._secret = hook, urlsplit(url), secret
        self._timeout_s, self._private_allowed = timeout_s, private_allowed
        self._client = outward(agent, "application/json", timeout_s)

    async def __aenter__(self) -> "Postman":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with anyio.CancelScope(shield=True):
            await self._client.aclose()

    async def post(self, record: Record, *, people: bool, now: int) -> Outcome:
        """Deliver one event once; `now` in ms. Never raises for what the network or the receiver does."""
        id, body, timestamp = message_id(self._hook, record.position), payload(record, people=people), now // 1000
        headers = {
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._secret, id, timestamp, body),
        }
        return await send(
            self._client, self._url, body, headers, now=now, timeout_s=self._timeout_s, private_allowed=self._private_allowed
        )


def outward(agent: str, kind: str, timeout_s: float) -> httpx.AsyncClient:
    """Return a client for one receiver: no proxy is asked, no redirect followed. `kind` is the Content-Type of what is sent."""
    return httpx.AsyncClient(
        timeout=timeout_s,
        trust_env=False,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=2, keepalive_expiry=30),
        headers={"User-Agent": agent, "Accept-Encoding": "identity", "Content-Type": kind},
    )


async def send(
    client: httpx.AsyncClient,
    to: SplitResult,
    body: bytes,
    headers: dict[str, str],
    *,
    now: int,
    timeout_s: float,
    private_allowed: bool,
) -> Outcome:
    """Post once, to an address that may be contacted. Never raises for what the network or the receiver does."""
    host, secure = to.hostname or "", to.scheme == "https"
    port = to.port or (443 if secure else 80)
    try:
        # A receiver that sends a byte a second would never run into a timeout between two bytes.
        with anyio.fail_after(timeout_s):
            address = await resolve(host, port, private_allowed=private_allowed)
            shown = f"[{address}]" if ":" in address else address
            url = httpx.URL(f"{to.scheme}://{shown}:{port}{to.path or '/'}")
            extensions = {"sni_hostname": host} if secure else {}
            sent = {"Host": to.netloc, **headers}
            async with client.stream("POST", url, content=body, headers=sent, extensions=extensions) as answer:
                await _drain(answer)
    except NotOutside as error:
        return Outcome("unreachable", str(error))
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return Outcome("unreachable", f"no connection ({type(error).__name__})")
    except TimeoutError:
        return Outcome("unfit", f"no answer within {timeout_s:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Outcome("unfit", f"no answer ({type(error).__name__})")
    return _judged(answer, now)


async def _drain(answer: httpx.Response) -> None:
    """Read a short answer, so that its connection can be used again; leave a long one, which closes it."""
    read = 0
    async for chunk in answer.aiter_raw():
        read += len(chunk)
        if read > MOST_ANSWER:
            return


def _judged(answer: httpx.Response, now: int) -> Outcome:
    status = answer.status_code
    if 200 <= status < 300:
        return Outcome("delivered")
    error = f"HTTP {status}"
    if status == 410:
        return Outcome("gone", error)
    if 300 <= status < 400:
        return Outcome("unfit", f"{error}, a redirect, which is not followed")
    return Outcome("unreachable" if status in _BUSY else "unfit", error, _asked_wait(answer, now))


def _asked_wait(answer: httpx.Response, now: int) -> float | None:
    """Return the seconds of `Retry-After` (RFC 9110 §10.2.3), at most an hour."""
    text = answer.headers.get("Retry-After", "")
    try:
        wait = float(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - now / 1000
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, wait), LONGEST_ASKED_WAIT_S)
