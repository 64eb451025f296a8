"""Redaction: the same history about nobody. Devices, keys, names, addresses and people's words become made-up ones.

What a decision depends on stays true of the made-up ones: equal stays equal, an id is still the hash of its key, a digest still
that of its request. Whatever is not known to be harmless is replaced, in events of kinds that are not known, too.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import inspect as shape

from pairing.authority import NODE, OPERATOR, OPERATOR_SCOPES, PAIRING
from pairing.device import digest
from pairing.events import Meta, NodeRequested, Personal
from pairing.identity import b64url, device_id, unb64
from pairing.nodes import surface_digest
from pairing.refusals import PairingError

from .chain import personal_hash, row_hash
from .codec import KINDS
from .port import Mark, Record

GONE: Final = "(redacted)"

# Fields whose words are the service's own, and those that a client chooses from lists or that are told apart by a few words.
_OWN: Final = frozenset(
    {"kind", "need", "means", "role", "origin", "how", "outcome", "ending", "actor", "gateway", "version", "policy_version"}
)
_WORDS: Final = frozenset(
    (
        *OPERATOR_SCOPES,
        *(OPERATOR, NODE, PAIRING),
        *("macos", "darwin", "windows", "win32", "linux", "ios", "ipados", "android", "watchos", "web", "browser", "test"),
        *("webchat-ui", "openclaw-control-ui", "openclaw-tui", "webchat", "cli", "gateway-client", "openclaw", "openclaw-macos"),
        *("openclaw-ios", "openclaw-android", "node-host", "fingerprint", "openclaw-probe", "openclaw-linux", "openclaw-watchos"),
        *("ui", "backend", "probe", "worker", "openclaw-worker", "openclaw-browser-copilot"),
        *("system.run", "system.run.prepare", "system.which"),
        *("device", "shared-secret", "local", "timer", "policy", "direct", "proxied"),
    )
)
_FREE: Final = frozenset({"reason", "ticket", "listen", "message"})
_NAME = re.compile(r"[a-z]{2,20}([.-][a-z]{2,20}){0,3}")
_NUMBERED = re.compile(r"\d{1,4}(\.\d{1,4}){0,3}([-+.]?(dev|a|b|rc)\d{1,3})?")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HEX = re.compile(r"[0-9a-f]+")
_FAMILY = re.compile(r"[a-z]{2,20}")
_SETTING = re.compile(r"gateway(\.[A-Za-z]{1,40}){1,5}")


def _fields(kinds: Iterable[shape.Type]) -> Iterator[str]:
    """Yield the names of all fields that the catalogue has, in structs inside structs, too."""
    for kind in kinds:
        if isinstance(kind, shape.StructType):
            yield from (field.encode_name for field in kind.fields)
            yield from _fields(field.type for field in kind.fields)
        elif isinstance(kind, shape.UnionType):
            yield from _fields(kind.types)
        elif isinstance(kind, shape.VarTupleType | shape.ListType):
            yield from _fields((kind.item_type,))


def _words(kinds: Iterable[shape.Type]) -> Iterator[str]:
    """Yield the words of all closed lists in the catalogue."""
    for kind in kinds:
        if isinstance(kind, shape.LiteralType):
            yield from (value for value in kind.values if isinstance(value, str))
        elif isinstance(kind, shape.StructType):
            yield from _words(field.type for field in kind.fields)
        elif isinstance(kind, shape.UnionType):
            yield from _words(kind.types)
        elif isinstance(kind, shape.VarTupleType | shape.ListType):
            yield from _words((kind.item_type,))


_CATALOGUE = shape.multi_type_info((*KINDS.values(), Meta, Personal))
_KNOWN: Final = frozenset({"kind", *_fields(_CATALOGUE)})
_LISTED: Final = frozenset(_words(_CATALOGUE))


class NotRedacted(PairingError):
    """A row has contents that cannot be told apart, and is not written out."""

    def __init__(self, position: int) -> None:
        super().__init__(f"the row at position {position} is no JSON object, so it cannot be redacted. Try: pairing log verify")


class Redactor:
    """Rewrites the rows of one log under a secret of 32 bytes: whoever has not got it can find no original again."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._asked: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._digests: dict[str, str] = {}

    def __call__(self, record: Record, command: str, previous: Mark) -> tuple[Record, str]:
        """Return the row that stands for one, chained to `previous`. Raises `NotRedacted`."""
        body, meta = _object(record, record.body), _object(record, record.meta)
        told = _dump(self._body(record.kind, body))
        how = _dump(self._mapped(meta))
        stream, kind = self._stream(record.stream), record.kind
        personal = None if record.personal is None else _dump(self._person(_object(record, record.personal)))
        veiled = (
            personal_hash(personal) if personal is not None else record.personal_hash and self._mac("veil", record.personal_hash)
        )
        made = row_hash(previous.hash, record.position, stream, record.version, kind, record.recorded_at, how, told, veiled)
        row = Record(record.position, stream, record.version, kind, record.recorded_at, how, told, personal, veiled, made)
        return row, command

    # --- what is pseudonymous ---

    def device(self, id: str) -> str:
        """Return the id that stands for a device: the hash of the key that stands for its key (N1)."""
        return device_id(self._key(id))

    def key(self, key: str) -> str:
        """Return the public key that stands for one."""
        raw = unb64(key)
        return self.word(key) if raw is None or len(raw) != 32 else b64url(self._key(device_id(raw)))

    def word(self, text: str) -> str:
        """Return what stands for a text: of the same length where it is hex, an id where it is a device's."""
        if not text or text == GONE:
            return text
        if _UUID.fullmatch(text):
            return str(UUID(bytes=self._mac("id", text.encode())[:16], version=4))
        if _HEX.fullmatch(text) and len(text) in {16, 32, 64}:
            return self.device(text) if len(text) == 64 else self._mac("hex", text.encode()).hex()[: len(text)]
        if len(text) == 43 and (raw := unb64(text)) is not None and len(raw) == 32:
            return self.key(text)
        return f"x{self._mac('word', text.encode()).hex()[:12]}"

    def _key(self, device: str) -> bytes:
        return self._mac("key", device.encode())

    def _mac(self, purpose: str, text: bytes) -> bytes:
        return hmac.digest(self._secret, purpose.encode() + b"\0" + text, hashlib.sha256)

    # --- where it stands ---

    def _stream(self, name: str) -> str:
        family, found, rest = name.partition(":")
        if not _FAMILY.fullmatch(family):
            return self.word(name)
        return f"{family}:{self.word(rest)}" if found else family

    def _person(self, personal: dict[str, Any]) -> dict[str, Any]:
        made = {name: self._mac(name, str(value).encode()).hex() for name, value in personal.items()}
        return {name: value[:32] if name == "salt" else f"{name}-{value[:12]}" for name, value in made.items()}

    def _body(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        made = self._mapped(body)
        if "kind" in body:
            # The column says it, too: kinds are the service's own words.
            made["kind"] = body["kind"]
        if isinstance(body.get("digest"), str):
            made["digest"] = self._digest(kind, body, made)
        return made

    def _digest(self, kind: str, old: dict[str, Any], new: dict[str, Any]) -> str:
        """Return the digest of what stands for a request, where the old one is its digest indeed."""
        request = str(old.get("request"))
        if kind == "request.opened":
            self._asked[request] = old, new
        known = self._asked.get(request)
        if kind in {"request.opened", "request.refreshed"} and known is not None:
            self._learn(old["digest"], _seen(known[0], old), _seen(known[1], new))
        elif kind == "node.requested":
            self._learn(old["digest"], _surface(old), _surface(new))
        elif kind not in {"request.refreshed", "request.opened"}:
            self._asked.pop(request, None)
        return self._digests.get(old["digest"]) or self.word(old["digest"])

    def _learn(self, stored: str, old: str | None, new: str | None) -> None:
        if old == stored and new is not None:
            self._digests[stored] = new

    def _mapped(self, content: dict[str, Any]) -> dict[str, Any]:
        return {self._name(name): self._value(name, value) for name, value in content.items()}

    def _name(self, name: str) -> str:
        return name if name in _KNOWN or _SETTING.fullmatch(name) else self.word(name)

    def _value(self, name: str, value: Any) -> Any:
        match value:
            case str():
                return self._text(name, value)
            case list():
                return [self._value(name, item) for item in value]
            case dict() if name == "settings":
                return {self._name(key): _setting(item) for key, item in value.items()}
            case dict():
                return self._mapped(value)
            case _:
                return value

    def _text(self, name: str, text: str) -> str:
        if name == "command" and _UUID.fullmatch(text):
            return text  # it is the column's, too, and names an act, not an actor
        if name in _FREE:
            return GONE
        if text in _WORDS or text in _LISTED or (name in _OWN and (_NAME.fullmatch(text) or _NUMBERED.fullmatch(text))):
            return text
        for role in (OPERATOR, NODE):
            # A scope keeps its namespace, on which it depends whose it is (A13).
            if name in {"scopes", "authority", "ceiling"} and text.startswith(f"{role}."):
                return f"{role}.{self.word(text.removeprefix(role))}"
        return self.word(text)


def _setting(value: Any) -> Any:
    """Return a setting's JSON text where it holds a number, true, false, null or words of our own."""
    try:
        held = msgspec.json.decode(value)
    except (ValueError, TypeError):
        return GONE
    words = held if isinstance(held, list) else [held]
    harmless = all(word is None or isinstance(word, bool | int | float) or word in _WORDS for word in words)
    return value if harmless else msgspec.json.encode(GONE).decode()


def _seen(asked: dict[str, Any], now: dict[str, Any]) -> str | None:
    try:
        return digest(
            request=asked["request"],
            key=asked["key"],
            roles=tuple(asked["roles"]),
            scopes=tuple(asked["scopes"]),
            seen=now["seen"],
        )
    except (LookupError, TypeError):
        return None


def _surface(body: dict[str, Any]) -> str | None:
    try:
        event = msgspec.convert(body, NodeRequested)
    except msgspec.ValidationError:
        return None
    return surface_digest(event, event.request)


def _object(record: Record, raw: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        raise NotRedacted(record.position) from None
    if not isinstance(found, dict):
        raise NotRedacted(record.position)
    return found


def _dump(content: dict[str, Any]) -> bytes:
    return msgspec.json.encode(content)
