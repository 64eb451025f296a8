"""The rows of an answer, from what SQLite gave to the Structs of `pairing.listing`. Pure: the questions are in `questions`."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import replace

from pairing.events import Actor, device_stream, node_stream
from pairing.listing import (
    Acted,
    DueRow,
    EnrolmentRow,
    Fate,
    HolderRow,
    LockRow,
    Match,
    NodeAskedRow,
    NodeRow,
    PairedRow,
    PendingRow,
    TokenRow,
    Use,
)

_names = msgspec.json.Decoder(tuple[str, ...]).decode


def pending_row(row: tuple[Any, ...]) -> PendingRow:
    """Return a row of `PENDING`."""
    _, request, stream, key, need, name, platform, family, client_id, client_mode, role, roles, scopes, address, *rest = row
    silent, repair, opened_at, expires_at, digest, position, damaged = rest
    return PendingRow(
        request=request,
        device=device_of(stream),
        key=key,
        need=need,
        name=name,
        platform=platform,
        family=family,
        client_id=client_id,
        client_mode=client_mode,
        role=role,
        roles=_names(roles),
        scopes=_names(scopes),
        address=address,
        silent=bool(silent),
        repair=bool(repair),
        opened_at=opened_at,
        expires_at=expires_at,
        digest=digest,
        position=position,
        damaged=damaged,
    )


def paired_rows(rows: Iterable[tuple[Any, ...]]) -> Iterator[PairedRow]:
    """Return the devices of `PAIRED`, each of which comes once for each of its tokens."""
    held: list[tuple[Any, ...]] = []
    for row in rows:
        if held and held[0][16] != row[16]:
            yield _paired_row(held)
            held = []
        held.append(row)
    if held:
        yield _paired_row(held)


def _paired_row(held: list[tuple[Any, ...]]) -> PairedRow:
    _, stream, key, name, label, platform, family, client_id, client_mode, role, roles, scopes, address, *rest = held[0][:19]
    means, created_at, approved_at, position, labelled, damaged = rest
    tokens = [row[19:] for row in held if row[19] is not None]
    return PairedRow(
        device=device_of(stream),
        key=key,
        name=name,
        label=label,
        platform=platform,
        family=family,
        client_id=client_id,
        client_mode=client_mode,
        role=role,
        roles=_names(roles),
        scopes=_names(scopes),
        address=address,
        means=means,
        created_at=created_at,
        approved_at=approved_at,
        tokens=tuple(_token_row(token) for token in tokens),
        position=max(position, labelled or 0, *(token[0] for token in tokens)),
        damaged=damaged,
    )


def _token_row(token: tuple[Any, ...]) -> TokenRow:
    _, role, scopes, issue, created_at, rotated_at, revoked_at, under, expires_at, expired_at, handoff_until = token
    return TokenRow(
        role=role,
        scopes=_names(scopes),
        issue=issue,
        created_at=created_at,
        rotated_at=rotated_at,
        revoked_at=revoked_at,
        under=under,
        expires_at=expires_at,
        expired_at=expired_at,
        handoff_until=handoff_until,
    )


def lock_row(row: tuple[Any, ...]) -> LockRow:
    """Return a row of `LOCKS`."""
    _, stream, locked_at, until, message, ban, reason, actor_kind, actor_id, label, name, paired, position = row
    return LockRow(
        device=device_of(stream),
        locked_at=locked_at,
        until=until,
        message=message,
        ban=bool(ban),
        reason=reason,
        actor=None if actor_kind is None else Actor(actor_kind, actor_id),
        label=label,
        name=name,
        paired=bool(paired),
        position=position,
    )


def due_row(row: tuple[Any, ...]) -> DueRow:
    """Return a row of `DUE` or `AGED`."""
    _, stream, role, issue, issued_at, expires_at, warned, label, name, position = row
    return DueRow(
        device=device_of(stream),
        role=role,
        issue=issue,
        issued_at=issued_at,
        expires_at=expires_at,
        warned=warned,
        label=label,
        name=name,
        position=position,
    )


def node_asked_row(row: tuple[Any, ...]) -> NodeAskedRow:
    """Return a row of `NODE_REQUESTS`."""
    _, stream, request, caps, commands, name, address, platform, family, model, version, core, ui, *rest = row
    silent, repair, asked_at, position = rest
    return NodeAskedRow(
        node=node_of(stream),
        request=request,
        caps=_names(caps),
        commands=_names(commands),
        name=name,
        address=address,
        platform=platform,
        family=family,
        model=model,
        version=version,
        core_version=core,
        ui_version=ui,
        silent=bool(silent),
        repair=bool(repair),
        asked_at=asked_at,
        position=position,
    )


def node_row(row: tuple[Any, ...]) -> NodeRow:
    """Return a row of `NODES`."""
    _, stream, request, caps, commands, name, label, address, platform, family, model, version, core, ui, *rest = row
    created_at, approved_at, position = rest
    return NodeRow(
        node=node_of(stream),
        request=request,
        caps=_names(caps),
        commands=_names(commands),
        name=name,
        label=label,
        address=address,
        platform=platform,
        family=family,
        model=model,
        version=version,
        core_version=core,
        ui_version=ui,
        created_at=created_at,
        approved_at=approved_at,
        position=position,
    )


def enrolment_rows(rows: Iterable[tuple[Any, ...]]) -> Iterator[EnrolmentRow]:
    """Return the setup codes of `ENROLMENTS`, each of which comes once for each of its holders."""
    for _, group in groupby(rows, key=itemgetter(1)):
        first, *others = list(group)
        _, position, code, profile, roles, scopes, uses, approves, label, kind, id, *times = first[:16]
        issued_at, expires_at, revoked_at, expired_at, overuses = times
        holders = [row[16:] for row in (first, *others) if row[16] is not None]
        yield EnrolmentRow(
            code=code,
            profile=profile,
            roles=_names(roles),
            scopes=_names(scopes),
            uses=uses,
            approves=bool(approves),
            label=label,
            actor=None if kind is None else Actor(kind, id),
            issued_at=issued_at,
            expires_at=expires_at,
            revoked_at=revoked_at,
            expired_at=expired_at,
            overuses=overuses,
            holders=tuple(_holder_row(held) for held in holders),
            position=max(position, *(held[0] for held in holders)) if holders else position,
        )


def _holder_row(held: tuple[Any, ...]) -> HolderRow:
    _, device, roles, bound_at, redeemed_at, delivered_at, acknowledged_at = held
    return HolderRow(
        device=device,
        roles=_names(roles),
        bound_at=bound_at,
        redeemed_at=redeemed_at,
        delivered_at=delivered_at,
        acknowledged_at=acknowledged_at,
    )


def fate(row: tuple[Any, ...]) -> Fate:
    """Return the row of `FATE`."""
    _, request, stream, outcome, when, position, actor_kind, actor_id, by = row
    return Fate(
        request=request,
        device=device_of(stream),
        outcome=outcome or "pending",
        at=when,
        position=position,
        actor=None if actor_kind is None else Actor(actor_kind, actor_id),
        by=by,
    )


def match(row: tuple[Any, ...]) -> Match:
    """Return a row of `MATCHES`."""
    _, stream, paired_name, pending_name, label, paired, pending = row
    return Match(
        device_of(stream),
        paired_name if paired else pending_name,
        label,
        "paired" if paired else "pending" if pending else "gone",
    )


def acted(rows: Iterable[tuple[Any, ...]]) -> Acted:
    """Return the rows of `ACTED`."""
    found = [(position, known, other) for _, position, known, other in rows]
    return Acted(
        tuple(position for position, _, other in found if not other),
        sum(known for _, known, other in found if not other),
        tuple(position for position, known, other in found if other and known),
    )


def device_of(stream: str) -> str:
    """Return the device that a stream is about."""
    return stream.removeprefix(_DEVICE)


def owner_of(stream: str) -> str:
    """Return the device that a stream of a device or of a node is about."""
    return node_of(device_of(stream))


def node_of(stream: str) -> str:
    """Return the node that a stream is about."""
    return stream.removeprefix(_NODE)


_DEVICE, _NODE = device_stream(""), node_stream("")


def seen(row: PairedRow, uses: Mapping[str, Use]) -> PairedRow:
    """Return a device with what is known of its connections since it was paired, by role."""
    since = {role: use for role, use in uses.items() if use.at >= row.created_at}
    if not since:
        return row
    latest = max(since.values(), key=lambda use: use.at)
    tokens = tuple(replace(token, last_used_at=since[token.role].at) if token.role in since else token for token in row.tokens)
    return replace(row, tokens=tokens, last_seen_at=latest.at, address=latest.address or row.address)
