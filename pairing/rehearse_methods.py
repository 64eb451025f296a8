"""`rehearse.run`: the recorded past, the contacts that were refused, and the devices as they stand, under other settings.

It reads and judges; nothing is changed and nobody is contacted (L13). What is not recorded is named as not checked (L10).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import anyio.lowlevel
import msgspec
from msgspec import Struct

from . import eras as policies
from . import history, moments, operators
from .authority import ADMIN
from .entries import Entry
from .eras import ADMITTING, Eras, Rules, differing, shown
from .events import (
    GATEWAY_STREAM,
    DeviceAbandoned,
    DeviceLocked,
    DeviceRemoved,
    GlassBroken,
    RequestApproved,
    RequestEndorsed,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    RequestSuperseded,
    RequestWithdrawn,
    TokenAbandoned,
    TokenExpired,
    TokenNarrowed,
    TokenRevoked,
    TokenRotated,
    device_stream,
)
from .history import Happened
from .listing import PairedRow
from .log.codec import decode, decode_meta, decode_personal
from .log.errors import EventUnreadable, StreamDamaged
from .log.port import Record
from .moments import Position, Time
from .prospect import Standing, capped, refused_again, standing
from .refusals import Reason, Refused
from .rehearsal import (
    CIDRS,
    IDLE,
    KEEP_LAST,
    LIFETIMES,
    LOCAL_CEILING,
    MAX_HANDOFF,
    MAX_PENDING,
    PER_ADDRESS,
    PER_DEVICE,
    REASONS,
    SECRET,
    TTL,
    VOTES,
    Line,
    Move,
    What,
    replay,
)
from .service import Call, Method, Params
from .settings.problems import UnfitValueError
from .standing import lapsed

MOST: Final = 1_000
MOST_DEVICES: Final = 20_000
MOST_ENDS: Final = 200
MOST_CONTACTS: Final = 10_000
Many: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
Tag: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]

_REQUESTS = (
    RequestOpened,
    RequestRefreshed,
    RequestApproved,
    RequestEndorsed,
    RequestRejected,
    RequestExpired,
    RequestSuperseded,
    RequestWithdrawn,
)
_ENDS = (DeviceRemoved, DeviceLocked, DeviceAbandoned, TokenRevoked, TokenExpired, TokenRotated, TokenNarrowed, TokenAbandoned)
_ASKING = (LOCAL_CEILING, CIDRS, VOTES, REASONS, PER_DEVICE, TTL, MAX_PENDING, PER_ADDRESS)
# Which events a setting is judged on; the kinds nobody needs are not read.
_KINDS: Mapping[str, tuple[type[Struct], ...]] = {
    **dict.fromkeys(_ASKING, _REQUESTS),
    **dict.fromkeys(IDLE.values(), (TokenExpired,)),
    MAX_HANDOFF: (TokenRotated,),
    KEEP_LAST: (*_ENDS, GlassBroken),
}
CHECKED: Final = frozenset(_KINDS)
FROM_NOW_ON: Final = frozenset(LIFETIMES)
_HEADERS = "the headers of a connection are not recorded"
_PAGES = "the page behind a connection is not recorded"
_ATTEMPTS = "wrong secrets are not recorded"
_SOCKETS = "connections that did not log in are not recorded"
NOT_CHECKED: Final = {
    "gateway.auth.mode": "which secret a connection showed is not recorded",
    "gateway.auth.rateLimit.maxAttempts": _ATTEMPTS,
    "gateway.auth.rateLimit.windowMs": _ATTEMPTS,
    "gateway.auth.rateLimit.lockoutMs": _ATTEMPTS,
    "gateway.auth.rateLimit.exemptLoopback": _ATTEMPTS,
    "gateway.trustedProxies": _HEADERS,
    "gateway.allowRealIpFallback": _HEADERS,
    "gateway.controlUi.allowedOrigins": _PAGES,
    "gateway.controlUi.allowInsecureAuth": _PAGES,
    "gateway.controlUi.dangerouslyDisableDeviceAuth": _PAGES,
    "gateway.controlUi.dangerouslyAllowHostHeaderOriginFallback": _PAGES,
    "gateway.handshakeTimeoutMs": _SOCKETS,
    "gateway.maxPreauthPerAddress": _SOCKETS,
    "gateway.maxConnections": _SOCKETS,
}
_TURNED_AWAY = "whom the present cap turned away is not recorded"
_REFUSED_CALLS = "calls that were refused are not recorded"


class RehearseParams(Params, frozen=True, kw_only=True):
    """Other settings, by dotted name; those not named stay as they are in force. `under` is the keyed tag of another secret.

    `since` is a position, `sinceMs` a time: what was recorded after it is judged again; without either all of it.
    """

    settings: dict[str, Any]
    under: Tag | None = None
    since: Position | None = None
    since_ms: Time | None = None
    limit: Many = 200


class SettingEntry(Entry, frozen=True, kw_only=True):
    """A setting that would be another: its value in force and the other one, as JSON; the secret has none."""

    setting: str
    now: str | None = None
    other: str | None = None


class UncheckedEntry(Entry, frozen=True, kw_only=True):
    """What could not be judged, or not all of it, and why. `setting` is absent where it is no matter of one."""

    setting: str | None = None
    why: str


class LineEntry(Entry, frozen=True, kw_only=True):
    """Something that would have gone otherwise, or would from now on; `settings` are those that make the difference.

    `unsaid` is what the answer takes for granted because it is not recorded.
    """

    what: What
    position: int
    at_ms: int
    device_id: str
    name: str | None = None
    request_id: str | None = None
    then: str
    would: str
    settings: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()


class Rehearsed(Entry, frozen=True, kw_only=True):
    """The answer to `rehearse.run`, up to `position`: how many of each kind, and the latest lines first; `more` were left out.

    What was recorded after `since` was judged again: `commands` of so many `devices`, and so many refused `contacts`.
    """

    position: int
    since: int
    settings: tuple[SettingEntry, ...] = ()
    commands: int = 0
    devices: int = 0
    contacts: int = 0
    counts: dict[str, int] = {}  # noqa: RUF012  msgspec copies it
    lines: tuple[LineEntry, ...] = ()
    more: int = 0
    from_now_on: tuple[str, ...] = ()
    not_checked: tuple[UncheckedEntry, ...] = ()


class _Found:
    """What has been found so far."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.unchecked: list[UncheckedEntry] = []
        self.commands = self.devices = self.contacts = 0

    def doubt(self, why: str, setting: str | None = None) -> None:
        self.unchecked.append(UncheckedEntry(setting=setting, why=why))


async def rehearse(call: Call[RehearseParams]) -> Rehearsed:
    """Say what would be otherwise under other settings. Raises `Refused` for settings that are none."""
    p, views = call.params, call.service.views
    asked = p.since is not None or p.since_ms is not None
    after = (await moments.moment(call, p.since, p.since_ms)).position if asked else 0
    head = await views.position()
    past = await call.service.desk.past(GATEWAY_STREAM)
    eras = in_force(call, history.read(row for row in past if row.position <= head))
    new = _other(eras.now, p)
    found = _Found()
    after = await _past(call, eras, new, after, head, found)
    await _standing(call, eras.now, new, head, found)
    await _contacts(call, eras.now, new, after, found)
    _unchecked(eras.now, new, found)
    return await _told(call, eras.now, new, after, head, found)


def in_force(call: Call[Any], past: Iterable[Happened]) -> Eras:
    """Return the policies of the log; the last is the present one, or what this process was given where the log has none."""
    config = {name: _at(call.service.config, name) for name in ADMITTING}
    given = policies.read({name: value for name, value in config.items() if value is not None}, call.service.under)
    known = policies.eras(past, given)
    if not known.past:
        return known
    last = known.past[-1].rules
    return Eras(policies.rules(last.values, call.service.under, last.unread), known.past)


def _at(tree: Mapping[str, Any], name: str) -> Any:
    found: Any = tree
    for word in name.split("."):
        found = found.get(word) if isinstance(found, Mapping) else None
    return found


def _other(now: Rules, p: RehearseParams) -> Rules:
    values, problems = dict(now.values), list[str]()
    for name, raw in p.settings.items():
        try:
            values[name] = policies.fit(name, raw)
        except KeyError:
            problems.append(f"at /settings: {name} is no setting that decides who gets in")
        except UnfitValueError as unfit:
            problems += [f"at /settings: {name} {fault.text}" for fault in unfit.faults]
    if problems:
        raise Refused(Reason.INVALID_PARAMS, method="rehearse.run", problems="; ".join(problems))
    return policies.rules(values, p.under or now.under)


# --- the past --------------------------------------------------------------------------------------------------------


async def _past(call: Call[Any], eras: Eras, new: Rules, after: int, head: int, found: _Found) -> int:
    """Judge again what was recorded after a position, and return after which one that was all of it."""
    names = {name for rules in (eras.now, *(era.rules for era in eras.past)) for name in differing(rules, new)}
    kinds = {str(kind.__struct_config__.tag) for name in names for kind in _KINDS.get(name, ())}
    if not kinds:
        return after
    touched = await call.service.views.touched_by(tuple(sorted(kinds)), after=after, limit=MOST_DEVICES + 1)
    if len(touched) > MOST_DEVICES:
        after = touched[MOST_DEVICES].position
        touched = touched[:MOST_DEVICES]
        found.doubt(f"what was recorded up to position {after}: more than {MOST_DEVICES} devices since")
    moves, unexplained = list[Move](), 0
    for one in touched:
        await anyio.lowlevel.checkpoint()
        try:
            rows = _read(await call.service.desk.past(device_stream(one.device)), head)
        except (StreamDamaged, EventUnreadable):
            found.doubt(f"device {one.device}: its past cannot be read")
            continue
        again = replay(one.device, rows, eras, new, after=after)
        found.devices += 1
        found.commands += again.judged
        found.lines += again.lines
        moves += again.moves
        unexplained += len(again.unexplained)
    if unexplained:
        found.doubt(f"{unexplained} requests: what is recorded of them does not say why they were answered as they were")
    if names & {MAX_PENDING, PER_ADDRESS}:
        open_ = (await call.service.views.pending(at=after)).rows if after else ()
        decided = {line.position for line in found.lines}
        moves.sort(key=lambda move: move.position)
        lines = capped(moves, ((row.request, row.address) for row in open_), eras, new)
        found.lines += [line for line in lines if line.position not in decided]
    await _last_operators(call, eras, found)
    return after


def _read(records: Iterable[Record], head: int) -> tuple[Happened, ...]:
    """Return rows as what happened. Of people it needs the addresses of those who asked, and of no others."""
    return tuple(
        Happened(r.position, r.stream, r.recorded_at, decode(r), decode_meta(r), decode_personal(r) if r.kind in _ASKED else None)
        for r in records
        if r.position <= head
    )


_ASKED = frozenset(str(kind.__struct_config__.tag) for kind in (RequestOpened, RequestRefreshed))


async def _last_operators(call: Call[Any], eras: Eras, found: _Found) -> None:
    """Leave out the ends after which another device could still approve. Views find, streams decide."""
    asked = sorted((line for line in found.lines if line.others), key=lambda line: -line.position)
    if len(asked) > MOST_ENDS:
        found.doubt(f"{len(asked) - MOST_ENDS} more ends of devices that could approve", KEEP_LAST)
    kept = {id(line) for line in asked[:MOST_ENDS] if not await _another(call, eras, line)}
    found.lines = [line for line in found.lines if not line.others or id(line) in kept]


async def _another(call: Call[Any], eras: Eras, line: Line) -> bool:
    before, under = line.position - 1, eras.of(line.position, None).under
    for row in (await call.service.views.paired(at=before)).rows:
        if row.device != line.device and any(token.role == "operator" for token in row.tokens):
            state = history.state_at(await call.service.desk.past(device_stream(row.device)), before)
            if operators.able(lapsed(state, line.at), under):
                return True
    return False


# --- what stands, and who was turned away ----------------------------------------------------------------------------


async def _standing(call: Call[Any], now: Rules, new: Rules, head: int, found: _Found) -> None:
    idle = {role: limit for role, limit in new.gateway.tokens.idle if IDLE[role] in differing(now, new)}
    if now.under == new.under and not idle:
        return
    clock = call.service.clock()
    for row in (await call.service.views.paired()).rows:
        await anyio.lowlevel.checkpoint()
        resting = now.under != new.under and any(token.under is not None for token in row.tokens)
        aged = any(
            token.role in idle and (token.rotated_at or token.created_at) + idle[token.role] <= clock for token in row.tokens
        )
        if not resting and not aged:
            continue
        try:
            state = await call.service.desk.device(row.device)
        except (StreamDamaged, EventUnreadable):
            found.doubt(f"device {row.device}: its past cannot be read")
            continue
        case = Standing(row.device, state, head, clock, await _used(call, row) if aged else {})
        found.lines += standing(case, now, new)


async def _used(call: Call[Any], row: PairedRow) -> dict[str, int]:
    """Return until when each role's token is known to be in use; what is not known to be unused is (T13)."""
    notes = call.service.notes
    if notes is None or call.service.sessions.connected(row.device):
        return {}
    return {token.role: max(notes.since, await notes.last_use(row.device, token.role) or 0) for token in row.tokens}


async def _contacts(call: Call[Any], now: Rules, new: Rules, after: int, found: _Found) -> None:
    notes = call.service.notes
    if notes is None or now.under == new.under:
        return
    for contact in await notes.recent(limit=MOST_CONTACTS):
        if contact.device is None or contact.presented is None or contact.position <= after:
            continue
        try:
            state = history.state_at(await call.service.desk.past(device_stream(contact.device)), contact.position)
        except (StreamDamaged, EventUnreadable):
            found.doubt(f"device {contact.device}: its past cannot be read")
            continue
        found.contacts += 1
        if line := refused_again(contact, state, now, new):
            found.lines.append(line)


# --- the answer ------------------------------------------------------------------------------------------------------


def _unchecked(now: Rules, new: Rules, found: _Found) -> None:
    names = differing(now, new)
    for name in names:
        if name in NOT_CHECKED:
            found.doubt(NOT_CHECKED[name], name)
    for name in sorted({*names} & {MAX_PENDING, PER_ADDRESS, PER_DEVICE}):
        if new.values[name] > now.values[name]:
            found.doubt(_TURNED_AWAY, name)
    if MAX_HANDOFF in names and new.values[MAX_HANDOFF] > now.values[MAX_HANDOFF]:
        found.doubt(_REFUSED_CALLS, MAX_HANDOFF)
    if KEEP_LAST in names and now.values[KEEP_LAST]:
        found.doubt(_REFUSED_CALLS, KEEP_LAST)
    if LOCAL_CEILING in names:
        found.doubt("what sessions on this host rotated, revoked or removed is not judged again", LOCAL_CEILING)
    if REASONS in names:
        found.doubt("approvals of what nodes may run are not judged again", REASONS)
    if now.under != new.under:
        found.doubt("who showed the other secret already is not recorded", SECRET)
    for name in now.unread:
        found.doubt("its value in force cannot be read here, and the default was taken", name)


async def _told(call: Call[RehearseParams], now: Rules, new: Rules, after: int, head: int, found: _Found) -> Rehearsed:
    lines = sorted(found.lines, key=lambda line: (-line.position, line.device))
    kept = lines[: call.params.limit]
    called = await call.service.views.called({line.device for line in kept})
    names = differing(now, new)
    settings = [SettingEntry(setting=name, now=shown(now.values[name]), other=shown(new.values[name])) for name in names]
    if now.under != new.under:
        settings.append(SettingEntry(setting=SECRET))
    return Rehearsed(
        position=head,
        since=after,
        settings=tuple(settings),
        commands=found.commands,
        devices=found.devices,
        contacts=found.contacts,
        counts=dict(sorted(Counter(line.what for line in lines).items())),
        lines=tuple(_entry(line, called) for line in kept),
        more=len(lines) - len(kept),
        from_now_on=tuple(name for name in names if name in FROM_NOW_ON),
        not_checked=tuple(found.unchecked),
    )


def _entry(line: Line, called: Mapping[str, str]) -> LineEntry:
    return LineEntry(
        what=line.what,
        position=line.position,
        at_ms=line.at,
        device_id=line.device,
        name=called.get(line.device),
        request_id=line.request,
        then=line.then,
        would=line.would,
        settings=line.settings,
        unsaid=line.unsaid,
    )


METHODS = (Method("rehearse.run", RehearseParams, rehearse, ADMIN, waits=True),)
