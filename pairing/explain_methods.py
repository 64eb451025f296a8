"""`history.explain`: why a device is let in or not, or what a token is; the same judgement as at the gateway's door.

A token comes in the params of a call and goes nowhere else: it is compared, and never shown, stored or told back.
"""

from typing import Any

import anyio.lowlevel

from . import history, ids, moments
from .advice import Means, Next
from .authority import OPERATOR, OPERATOR_SCOPES, PAIRING
from .commands import Caller, Wanted
from .device import Device
from .entries import Entry, RefusedEntry, refused
from .events import Actor
from .explain import Case, Explanation, Finding, Shown, explain
from .finding import find
from .history import Happened
from .history_methods import past
from .listing import RefusedContact
from .log.port import Record
from .moments import AsOf, Moment
from .recognition import Generation, formed, generations, recognise, search
from .recorded import RecordedEntry, naming, recorded
from .refusals import SAYINGS, Reason, Refused
from .service import Call, Method
from .shapes import Name
from .verdict import Presented

_AT_ONCE = 2_000
_TTL_MS = 300_000


class ExplainParams(AsOf, frozen=True, kw_only=True):
    """A device, the reference of a refusal, or a token; of several, all must be about the same device.

    `role` and `scopes` are what it wanted; absent, what the reference tells, or what its token covers.
    """

    device: Name | None = None
    role: Name | None = None
    scopes: tuple[Name, ...] | None = None
    reference: Name | None = None
    token: Name | None = None

    def __repr__(self) -> str:
        return f"ExplainParams(device={self.device!r}, reference={self.reference!r}, token={'…' if self.token else None})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("device", self.device), ("reference", self.reference), ("token", "…" if self.token else None)]


class TurnedEntry(Entry, frozen=True, kw_only=True):
    """A rule as it was applied. `since` is the event after which it gives this; absent: it never gave anything else."""

    rule: str
    passed: bool
    found: str
    needed: str | None = None
    since: RecordedEntry | None = None


class TokenWas(Entry, frozen=True, kw_only=True):
    """What a token is: whose, of which role, begun and ended by which events. `searched`: how many generations were compared."""

    what: str
    device_id: str | None = None
    role: str | None = None
    fate: str | None = None
    issued: RecordedEntry | None = None
    ended: RecordedEntry | None = None
    searched: int


class NextEntry(Entry, frozen=True, kw_only=True):
    """One next step. `command` is its words, `where` it is to be run; `tried`: it was decided on a copy of the state."""

    command: tuple[str, ...]
    where: str
    does: str
    then: str | None = None
    tried: bool


class Explained(Entry, frozen=True, kw_only=True):
    """The answer to `history.explain`. `reason` and `code` are absent where the device is let in.

    `last_refused`: it was turned away since it was last inside, and nobody has asked about that here.
    """

    position: int
    recorded_at_ms: int | None = None
    device_id: str | None = None
    role: str | None = None
    scopes: tuple[str, ...] = ()
    finding: Finding
    reason: str | None = None
    code: str | None = None
    token: TokenWas | None = None
    steps: tuple[TurnedEntry, ...] = ()
    parted: RecordedEntry | None = None
    next: NextEntry | None = None
    contact: RefusedEntry | None = None
    last_refused: RefusedEntry | None = None


async def explain_method(call: Call[ExplainParams]) -> Explained:
    """Explain a contact: one that was refused, or one that would be made with a token, or with the present one."""
    p = call.params
    contact = await _contact(call) if p.reference else None
    when = await _moment(call, contact)
    device = await find(call, p.device, when.at) if p.device else contact.device if contact else None
    if contact is not None and contact.device != device:
        raise Refused(Reason.UNKNOWN_REFERENCE)
    records: tuple[Record, ...] = await past(call, device, when.position, house=True) if device else ()
    seen, searched = None, 0
    if p.token is not None:
        seen, searched = await _recognise(call, device, records, p.token, when)
        if device is None and seen.device is not None:
            device = seen.device
            records = await past(call, device, when.position, house=True)
    if device is None:
        if seen is None:
            raise Refused(Reason.UNKNOWN_DEVICE)
        return Explained(
            position=when.position,
            recorded_at_ms=when.recorded_at,
            finding=_plain(seen),
            token=TokenWas(what=seen.kind, searched=searched),
        )
    case = await _case(call, device, records, when, contact, seen)
    return await _told(call, case, explain(case, _means(call)), records, when, contact, searched)


async def _contact(call: Call[ExplainParams]) -> RefusedContact:
    """The evidence behind a refusal is the operator's, not the device's (L8)."""
    notes = call.service.notes
    found = await notes.find(call.params.reference or "") if notes is not None and call.caller.own is None else None
    if found is None or found.device is None:
        raise Refused(Reason.UNKNOWN_REFERENCE)
    return found


async def _moment(call: Call[ExplainParams], contact: RefusedContact | None) -> Moment:
    p = call.params
    if contact is None or p.at is not None or p.at_ms is not None:
        return await moments.of(call)
    return await moments.moment(call, contact.position or None, None if contact.position else contact.at)


async def _case(
    call: Call[ExplainParams],
    device: str,
    records: tuple[Record, ...],
    when: Moment,
    contact: RefusedContact | None,
    seen: Shown | None,
) -> Case:
    p, events = call.params, history.read(records)
    world = history.world_at(events)
    secret = world.house.secret if when.past else call.service.under
    wanted = contact.wanted if contact and contact.wanted else _wanted(p, contact, world.device, seen, secret)
    presented = contact.presented if contact and contact.presented else _presented(world.device, wanted.role, seen, p)
    if seen is None:
        seen = _own(generations(events), presented.issue, device)
    rows = () if when.past else (await call.service.views.paired(device=device)).rows
    return Case(
        device=device,
        past=events,
        presented=presented,
        wanted=wanted,
        now=contact.at if contact else (when.recorded_at or 0) if when.past else call.service.clock(),
        shown=seen,
        seen_at=rows[0].last_seen_at if rows else None,
        seen_known=bool(rows),
        reason=_known(contact.reason) if contact else None,
    )


def _known(reason: str) -> Reason | None:
    """A contact that a newer version noted may have a reason of its own."""
    return next((known for known in Reason if known.value == reason), None)


def _own(held: tuple[Generation, ...], issue: str | None, device: str) -> Shown | None:
    generation = next((one for one in held if one.issue == issue), None)
    return Shown(kind="own", device=device, generation=generation) if generation else None


def _wanted(p: ExplainParams, contact: RefusedContact | None, state: Device, seen: Shown | None, secret: str | None) -> Wanted:
    """What the device wanted: as it was told, else what its token, its grant or its open request is about."""
    grant, pending = state.grant, state.pending
    told = p.role or (contact.role if contact else None) or (seen.generation.role if seen and seen.generation else None)
    role = told or (grant.role if grant else pending.role if pending else OPERATOR)
    token = state.token(role)
    asked = pending.scopes if pending else ()
    scopes = p.scopes if p.scopes is not None else contact.scopes if contact else token.scopes if token else asked
    about = grant or pending
    return Wanted(
        key=about.key if about else "",
        role=role,
        scopes=scopes,
        platform=about.platform if about else None,
        family=about.family if about else None,
        under=secret,
    )


def _presented(state: Device, role: str, seen: Shown | None, p: ExplainParams) -> Presented:
    """What it showed: as it was told, else its present token; a device that has none can only come with the shared secret."""
    if p.token is None:
        token = state.token(role)
        return Presented(candidate="deviceToken", issue=token.issue) if token else Presented(method="token")
    issue = seen.generation.issue if seen and seen.kind == "own" and seen.generation else None
    return Presented(shared=Reason.TOKEN_MISSING, candidate="deviceToken", issue=issue)


async def _recognise(
    call: Call[ExplainParams], device: str | None, records: tuple[Record, ...], token: str, when: Moment
) -> tuple[Shown, int]:
    """Find what a token is: of the device, the gateway's own secret, a node's, and then of every device there is.

    A session that is bound to its device learns of that device's tokens alone: here nobody counts how often it guesses (N9).
    """
    service, shown = call.service, token.strip()
    held = generations(history.read(records)) if device else ()
    if device and (own := recognise(service.keyring, device, held, shown)):
        return Shown(kind="own", device=device, generation=own), len(held)
    if call.caller.own is not None:
        return Shown(kind="foreign" if formed(shown) else "never-issued"), len(held)
    if service.under is not None and any(
        service.keyring.current.tag("shared-secret", mode, shown) == service.under for mode in ("token", "password")
    ):
        return Shown(kind="shared-secret"), len(held)
    if device and service.keyring.is_node_token(await service.desk.node(device), device, shown):
        return Shown(kind="node-token", device=device), len(held)
    if not formed(shown):
        return Shown(kind="never-issued"), len(held)
    return await _search(call, device, shown, when, len(held))


async def _search(call: Call[Any], device: str | None, shown: str, when: Moment, searched: int) -> tuple[Shown, int]:
    service, after, hit = call.service, 0, None
    while page := await service.views.issued(after=after, limit=_AT_ONCE):
        hit = search(service.keyring, page, shown) or hit
        searched, after = searched + len(page), page[-1].position
        await anyio.lowlevel.checkpoint()
    if hit is None or hit.position > when.position:
        return Shown(kind="foreign"), searched
    events = history.read(await past(call, hit.device, when.position, house=True))
    generation = next((one for one in generations(events) if (one.role, one.issue) == (hit.role, hit.issue)), None)
    if device in {None, hit.device}:
        return Shown(kind="own", device=hit.device, generation=generation), searched
    return Shown(kind="other-device", device=hit.device, generation=generation), searched


def _plain(seen: Shown) -> Finding:
    return "never-issued" if seen.kind == "own" else seen.kind


def _means(call: Call[Any]) -> Means:
    service = call.service
    mode: Any = service.config.get("gateway", {}).get("auth", {}).get("mode")
    host = Caller(actor=Actor("local"), scopes=OPERATOR_SCOPES, method="local", origin="local")
    return Means(
        caller=call.caller,
        host=host,
        id=ids.uuid7(service.clock()),
        issue=ids.issue_id(),
        request=ids.request_id(),
        key=service.keyring.current.id,
        ttl=_TTL_MS,
        terms=service.terms,
        mode=mode if mode in {"token", "password", "none"} else "token",
    )


async def _told(
    call: Call[Any],
    case: Case,
    found: Explanation,
    records: tuple[Record, ...],
    when: Moment,
    contact: RefusedContact | None,
    searched: int,
) -> Explained:
    generation = case.shown.generation if case.shown else None
    foreign = case.shown.device if case.shown and case.shown.device not in {None, case.device} else None
    if foreign:
        records = (*records, *await past(call, foreign, when.position))
    ends = (found.parted, generation.born if generation else None, generation.ended if generation else None)
    events = [one for one in (*(step.since for step in found.steps), *ends) if one is not None]
    told = await _entries(call, records, events)

    def entry(one: Happened | None) -> RecordedEntry | None:
        return told.get(one.position) if one else None

    was = None
    if case.shown is not None:
        was = TokenWas(
            what=case.shown.kind,
            device_id=case.shown.device,
            role=generation.role if generation else None,
            fate=generation.how if generation else None,
            issued=entry(generation.born if generation else None),
            ended=entry(generation.ended if generation else None),
            searched=searched,
        )
    return Explained(
        position=when.position,
        recorded_at_ms=when.recorded_at,
        device_id=case.device,
        role=case.wanted.role,
        scopes=case.wanted.scopes,
        finding=found.finding,
        reason=found.reason.value if found.reason else None,
        code=(SAYINGS[found.reason].detail or SAYINGS[found.reason].code) if found.reason else None,
        token=was,
        steps=tuple(
            TurnedEntry(rule=s.rule, passed=s.passed, found=s.found, needed=s.needed or None, since=entry(s.since))
            for s in found.steps
        ),
        parted=entry(found.parted),
        next=_next(found.next, found.finding),
        contact=refused(contact) if contact else None,
        last_refused=None if contact or when.past else await _last_refused(call, case),
    )


async def _last_refused(call: Call[Any], case: Case) -> RefusedEntry | None:
    """What somebody who asks about a device most likely means: it was turned away, and has not been inside since."""
    notes = call.service.notes
    if notes is None or call.caller.own is not None:
        return None
    latest = await notes.recent(case.device, limit=1)
    return refused(latest[0]) if latest and latest[0].at > (case.seen_at or 0) else None


def _next(step: Next | None, finding: Finding) -> NextEntry | None:
    if step is None:
        return None
    tried = finding not in {"clock", "proof", "attempts"}
    return NextEntry(command=step.command, where=step.where, does=step.does, then=step.then or None, tried=tried)


async def _entries(call: Call[Any], records: tuple[Record, ...], events: list[Happened]) -> dict[int, RecordedEntry]:
    positions = {one.position for one in events}
    rows = [record for record in records if record.position in positions]
    called = await naming(call.service.views, rows, call.caller.own)
    return {row.position: recorded(row, called, call.caller.own) for row in rows}


METHODS = (Method("history.explain", ExplainParams, explain_method, PAIRING),)
