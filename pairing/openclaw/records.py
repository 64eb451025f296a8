"""The records of OpenClaw's stores, and what of each can be placed here. Pure: records in; what to take over, or why not, out.

A value that cannot be placed is named by what is wrong with it and never shown: it may be somebody's secret.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from pairing.authority import ROLES, covers, tidy
from pairing.commands import Surface
from pairing.identity import b64url, device_id, public_key

# OpenClaw makes tokens of 32 random bytes, base64url; what stands in their place in a redacted copy is no such text (T15).
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}\Z")
_NAME_LENGTH = 256
_LABEL_LENGTH = 64


class Unplaced(Struct, frozen=True):
    """Something that an import leaves behind: which record, or which part of it, and why."""

    what: str
    why: str


class HeldToken(Struct, frozen=True, kw_only=True):
    """A token with its value, which goes no further than to its keyed hash. Times in ms."""

    role: str
    scopes: tuple[str, ...]
    value: str
    created_at: int | None
    rotated_at: int | None
    revoked_at: int | None

    def __repr__(self) -> str:
        return f"HeldToken({self.role})"


class HeldNode(Struct, frozen=True, kw_only=True):
    """The approved surface of a node, with its token where it has one. Times in ms."""

    node: str
    surface: Surface
    name: str | None
    address: str | None
    value: str | None
    created_at: int | None
    approved_at: int | None

    def __repr__(self) -> str:
        return f"HeldNode({self.node})"


class HeldDevice(Struct, frozen=True, kw_only=True):
    """A paired device. `key` is base64url without padding, `scopes` the approved baseline as asked. Times in ms."""

    device: str
    key: str
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    name: str | None
    label: str | None
    address: str | None
    created_at: int | None
    approved_at: int | None
    tokens: tuple[HeldToken, ...]
    node: HeldNode | None = None


_ABSENT = Raw(b"")


class _Record(Struct, frozen=True, rename="camel", kw_only=True):
    device_id: str
    public_key: str
    display_name: str | None = None
    operator_label: str | None = None
    platform: str | None = None
    device_family: str | None = None
    client_id: str | None = None
    client_mode: str | None = None
    role: str | None = None
    roles: tuple[str, ...] | None = None
    scopes: tuple[str, ...] | None = None
    approved_scopes: tuple[str, ...] | None = None
    remote_ip: str | None = None
    tokens: dict[str, Raw] | None = None
    node_surface: Raw = _ABSENT
    created_at_ms: int | None = None
    approved_at_ms: int | None = None


class _Token(Struct, frozen=True, rename="camel", kw_only=True):
    token: str
    role: str | None = None
    scopes: tuple[str, ...] = ()
    created_at_ms: int | None = None
    rotated_at_ms: int | None = None
    revoked_at_ms: int | None = None


class _Node(Struct, frozen=True, rename="camel", kw_only=True):
    node_id: str | None = None
    token: str | None = None
    display_name: str | None = None
    platform: str | None = None
    version: str | None = None
    core_version: str | None = None
    ui_version: str | None = None
    device_family: str | None = None
    model_identifier: str | None = None
    caps: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    remote_ip: str | None = None
    created_at_ms: int | None = None
    approved_at_ms: int | None = None


def device(id: str, raw: Raw) -> tuple[HeldDevice | None, tuple[Unplaced, ...]]:
    """Return what can be placed of a paired device, and what cannot."""
    what = f"device {_shown(id)}"
    record = _decoded(raw, _Record)
    if isinstance(record, str):
        return None, (Unplaced(what, record),)
    key = public_key(record.public_key)
    if key is None:
        return None, (Unplaced(what, "its public key is no Ed25519 key"),)
    if record.device_id != id or device_id(key) != id:
        return None, (Unplaced(what, "its id is not that of its public key"),)
    roles = tidy((*(record.roles or ()), *((record.role,) if record.role else ())))
    if strange := [role for role in roles if role not in ROLES] or ([] if roles else ["none"]):
        return None, (Unplaced(what, f"its role is unknown here ({_shown(strange[0])})"),)
    approved = record.approved_scopes if record.approved_scopes is not None else record.scopes
    scopes = tidy(approved or ())
    tokens, unplaced = _tokens(what, record, roles, scopes)
    if not any(token.revoked_at is None for token in tokens):
        return None, (*unplaced, Unplaced(what, "it holds no token that works; it will ask anew"))
    held = HeldDevice(
        device=id,
        key=b64url(key),
        role=record.role or roles[0],
        roles=roles,
        scopes=scopes,
        platform=record.platform,
        family=record.device_family,
        client_id=record.client_id,
        client_mode=record.client_mode,
        name=_name(record.display_name),
        label=_name(record.operator_label, _LABEL_LENGTH),
        address=record.remote_ip,
        created_at=record.created_at_ms,
        approved_at=record.approved_at_ms,
        tokens=tokens,
        node=None if bytes(record.node_surface) in {b"", b"null"} else _surface(id, record.node_surface, what, unplaced),
    )
    return held, tuple(unplaced)


def node(id: str, raw: Raw) -> tuple[HeldNode | None, tuple[Unplaced, ...]]:
    """Return what can be placed of a node's approved surface, and what cannot."""
    unplaced: list[Unplaced] = []
    held = _surface(id, raw, f"node {_shown(id)}", unplaced)
    return held, tuple(unplaced)


def _tokens(
    what: str, record: _Record, roles: tuple[str, ...], approved: tuple[str, ...]
) -> tuple[tuple[HeldToken, ...], list[Unplaced]]:
    held, unplaced = [], []
    for role, raw in sorted((record.tokens or {}).items()):
        token = _decoded(raw, _Token)
        which = f"{what}, token of role {_shown(role)}"
        if isinstance(token, str):
            unplaced.append(Unplaced(which, token))
        elif role not in roles or (token.role or role) != role:
            unplaced.append(Unplaced(which, "the role was not approved for the device"))
        elif not _TOKEN.match(token.token) or len(set(token.token)) < 4:
            unplaced.append(Unplaced(which, "what stands in its place is no token"))
        elif token.revoked_at_ms is None and not covers(role, approved, token.scopes):
            unplaced.append(Unplaced(which, "it reaches beyond the scopes approved for the device"))
        else:
            held.append(
                HeldToken(
                    role=role,
                    scopes=token.scopes,
                    value=token.token,
                    created_at=token.created_at_ms,
                    rotated_at=token.rotated_at_ms,
                    revoked_at=token.revoked_at_ms,
                )
            )
    return tuple(held), unplaced


def _surface(id: str, raw: Raw, what: str, unplaced: list[Unplaced]) -> HeldNode | None:
    record = _decoded(raw, _Node)
    if isinstance(record, str):
        unplaced.append(Unplaced(f"{what}, what it may run", record))
        return None
    if not id or record.node_id not in {None, id}:
        unplaced.append(Unplaced(f"{what}, what it may run", "its id is another node's"))
        return None
    value = record.token if record.token and _TOKEN.match(record.token) else None
    surface = Surface(
        caps=tidy(record.caps),
        commands=tidy(record.commands),
        platform=record.platform,
        family=record.device_family,
        model=record.model_identifier,
        version=record.version,
        core_version=record.core_version,
        ui_version=record.ui_version,
    )
    return HeldNode(
        node=id,
        surface=surface,
        name=_name(record.display_name),
        address=record.remote_ip,
        value=value,
        created_at=record.created_at_ms,
        approved_at=record.approved_at_ms,
    )


def _decoded(raw: Raw, kind: type[Any]) -> Any:
    """Decode a record, or say in words what does not fit; the words name keys and types, never values."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return f"it is no such record: {error}"


def _name(text: str | None, longest: int = _NAME_LENGTH) -> str | None:
    return (text or "").strip()[:longest].strip() or None


def _shown(id: str) -> str:
    return id if len(id) <= 64 and id.isascii() and id.isprintable() else "with an unprintable id"
