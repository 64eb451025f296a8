"""What would have happened under other settings: one device's past judged again, event by event, by the rules of the door.

Pure. Each event is replayed on the state that really was, not on what other answers would have led to. What the log does not say
of a connection is guessed (`arrivals`), and a guess must give what happened by the policy of the time. Next: `prospect`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, TypeAlias, cast

from msgspec import Struct
from msgspec.structs import replace

from . import operators, quorum
from .aging import unused
from .answering import approvers_needed, wants_reason
from .arrivals import Guess, Unsaid, guesses
from .authority import ADMIN, PAIRING, of_role
from .commands import ANY_TERMS, Approve, Caller, Knock, Silence, Wanted
from .decide import decide
from .device import INITIAL, Device, Pending
from .eras import Eras, Rules, differing, with_one
from .events import (
    Actor,
    DeviceEvent,
    GlassBroken,
    RequestApproved,
    RequestEndorsed,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    RequestSuperseded,
    RequestUnendorsed,
    RequestWithdrawn,
    TokenExpired,
    TokenRotated,
    Unknown,
)
from .evolve import evolve, fold
from .gateway.silence import silence
from .handoff import too_long
from .history import Happened
from .refusals import Refused
from .standing import lapsed

What: TypeAlias = Literal[
    "silent",
    "asks",
    "refused",
    "approvers",
    "reason",
    "votes-suffice",
    "expires",
    "stays-open",
    "capped",
    "token-dead",
    "token-works",
    "last-operator",
    "glass-whole",
]
LOCAL_CEILING = "gateway.pairing.localCeiling"
CIDRS = "gateway.nodes.pairing.autoApproveCidrs"
VOTES, REASONS = "gateway.pairing.approval.votes", "gateway.pairing.approval.requireReason"
PER_DEVICE = "gateway.pairing.maxRequestsPerDevice"
MAX_PENDING, PER_ADDRESS = "gateway.pairing.maxPending", "gateway.pairing.maxPendingPerAddress"
TTL, MAX_HANDOFF, KEEP_LAST = (
    "gateway.pairing.requestTtlMs",
    "gateway.pairing.maxHandoffMs",
    "gateway.pairing.keepLastOperator",
)
IDLE = {"operator": "gateway.tokens.operator.idle", "node": "gateway.tokens.node.idle"}
LIFETIMES = ("gateway.tokens.operator.lifetime", "gateway.tokens.node.lifetime")
SECRET = "gateway.auth"  # noqa: S105  the name of a section
KNOCKING = (LOCAL_CEILING, CIDRS, VOTES, REASONS, PER_DEVICE)


class Line(Struct, frozen=True):
    """Something that would have gone otherwise: what happened, what would have, and by which settings.

    `position` and `at` (ms) are the event's; a device as it stands has the last position. `unsaid` is what the answer takes for
    granted although the log does not say it. `others` asks for one thing more: whether another device could approve then.
    """

    what: What
    position: int
    at: int
    device: str
    then: str
    would: str
    settings: tuple[str, ...]
    request: str | None = None
    unsaid: tuple[Unsaid, ...] = ()
    others: bool = False


class Move(Struct, frozen=True):
    """A request that came to be open, from somewhere, or to be so no longer (`opens` None). `fresh`: the device had none open."""

    position: int
    at: int
    device: str
    request: str
    opens: bool
    fresh: bool
    local: bool
    address: str | None
    digest: str | None


class Replay(Struct, frozen=True):
    """What came of judging a device's past again. `unexplained` are the positions at which no guess gives what happened."""

    lines: tuple[Line, ...] = ()
    moves: tuple[Move, ...] = ()
    judged: int = 0
    unexplained: tuple[int, ...] = ()


def replay(device: str, past: Sequence[Happened], eras: Eras, new: Rules, *, after: int = 0) -> Replay:
    """Judge again what happened to a device after a position, given its whole stream in order."""
    state, contact, judged = INITIAL, _Contact(), 0
    lines, moves, unexplained = list[Line](), list[Move](), list[int]()
    differs = dict[int, frozenset[str]]()
    for _, rows in groupby(past, key=lambda one: one.meta.command):
        group = tuple(rows)
        known = state.newer is None and not any(isinstance(one.event, Unknown) for one in group)
        if group[-1].position > after and known:
            then = eras.of(group[0].position, group[0].meta.policy)
            if id(then) not in differs:
                differs[id(then)] = frozenset(differing(then, new))
            if _concerns(group, differs[id(then)]):
                case = _Case(device, state, group, then, new, differs[id(then)], contact)
                judged += 1
                found = case.found()
                if found is None:
                    unexplained.append(group[0].position)
                lines += found or ()
                moves += _moves(case)
        contact = contact.met(group)
        for one in group:
            state = _evolved(state, one)
    return Replay(tuple(lines), tuple(moves), judged, tuple(unexplained))


def _concerns(group: Sequence[Happened], differs: frozenset[str]) -> bool:
    """Most of a long past is rotations, which few settings concern."""
    if KEEP_LAST in differs:
        return True
    judged = _ANSWERED | TokenRotated if MAX_HANDOFF in differs else _ANSWERED
    return any(isinstance(one.event, judged) for one in group)


_ANSWERED = (
    RequestOpened
    | RequestRefreshed
    | RequestApproved
    | RequestEndorsed
    | RequestRejected
    | RequestExpired
    | RequestSuperseded
    | RequestWithdrawn
    | TokenExpired
)


def _evolved(state: Device, one: Happened) -> Device:
    return evolve(state, cast("DeviceEvent | Unknown", one.event))


class _Contact(Struct, frozen=True):
    """When the device of an open request was last heard of, as far as that is recorded, and how long that held (ms)."""

    request: str = ""
    at: int = 0
    ttl: int = 0

    def met(self, group: Sequence[Happened]) -> "_Contact":
        for one in group:
            if isinstance(event := one.event, RequestOpened | RequestRefreshed):
                return _Contact(event.request, event.at, event.expires_at - event.at)
        return self


class _Case(Struct, frozen=True):
    """One command's events, the state before them, the policy they were decided under, and the other one."""

    device: str
    state: Device
    group: tuple[Happened, ...]
    then: Rules
    new: Rules
    differs: frozenset[str]
    contact: _Contact

    def found(self) -> tuple[Line, ...] | None:
        """Return what would have gone otherwise; None where what happened is not to be explained."""
        for one in self.group:
            if isinstance(event := one.event, RequestOpened | RequestRefreshed):
                return self._knocked(one, event)
        lines: list[Line | None] = []
        for one in self.group:
            match one.event:
                case RequestApproved() | RequestEndorsed() | RequestRejected():
                    lines.append(self._too_late(one, one.event) or self._approved(one))
                case RequestExpired():
                    lines.append(self._in_time(one, one.event))
                case TokenExpired():
                    lines.append(self._used_enough(one, one.event))
                case TokenRotated():
                    lines.append(self._handed_over(one, one.event))
                case _:
                    pass
        lines.append(self._last_operator())
        return tuple(line for line in lines if line)

    def line(self, one: Happened, what: What, then: str, would: str, *settings: str, request: str | None = None) -> Line:
        return Line(what, one.position, one.at, self.device, then, would, settings, request)

    @property
    def events(self) -> tuple[DeviceEvent, ...]:
        return tuple(cast("DeviceEvent", one.event) for one in self.group)

    # --- a device knocked ---

    def _knocked(self, one: Happened, event: RequestOpened | RequestRefreshed) -> tuple[Line, ...] | None:
        if not self.differs.intersection(KNOCKING):
            return ()
        approved = next((e for e in self.events if isinstance(e, RequestApproved)), None)
        if approved is not None and approved.means == "bootstrap":
            return self._by_code(one, approved)
        happened, told = _shape(self.events), dict[object, _Shape]()

        def shaped(guess: Guess, rules: Rules) -> _Shape:
            # Most guesses come to the same question.
            asked = self._silence(guess, rules)
            key = (id(rules), asked, guess.arrival.role, guess.arrival.scopes)
            if key not in told:
                told[key] = self._shaped(event, guess, rules, asked)
            return told[key]

        kept = [guess for guess in guesses(self.state, one, event) if shaped(guess, self.then) == happened]
        if not kept:
            return None
        before = happened.answer
        answers = [shaped(guess, self.new).answer for guess in kept]
        if answers[0] == before:
            return ()
        others = [guess for guess, answer in zip(kept, answers, strict=True) if answer != answers[0]]
        unsaid = min((kept[0].against(guess) for guess in others), key=len, default=())
        by = self._by(
            KNOCKING, lambda rules: self._shaped(event, kept[0], rules, self._silence(kept[0], rules)).answer == answers[0]
        )
        what: What = {"silent": "silent", "waits": "asks"}.get(answers[0], "refused")  # type: ignore[assignment]
        line = self.line(one, what, _THEN[before], _WOULD.get(answers[0], f"refused: {answers[0]}"), *by, request=event.request)
        return (replace(line, unsaid=unsaid),)

    def _silence(self, guess: Guess, rules: Rules) -> Silence | None:
        return None if guess.coded else silence(rules.gateway, guess.arrival)

    def _shaped(self, event: RequestOpened | RequestRefreshed, guess: Guess, rules: Rules, asked: Silence | None) -> "_Shape":
        arrival, pending = guess.arrival, self.state.pending
        key = event.key if isinstance(event, RequestOpened) else pending.key if pending else ""
        knock = Knock(
            id="",
            now=event.at,
            by=_NOBODY,
            device=self.device,
            wanted=Wanted(
                key=key,
                role=arrival.role,
                scopes=arrival.scopes,
                platform=event.platform,
                family=event.family,
                under=self.then.under,
            ),
            client_id=event.client_id,
            client_mode=event.client_mode,
            request=event.request,
            issue="",
            key="",
            seen=event.seen,
            named=event.named,
            ttl=event.expires_at - event.at,
            silence=asked,
            lifetimes=rules.gateway.tokens.lifetimes,
            terms=rules.gateway.pairing.approval.terms,
            most=rules.gateway.pairing.max_requests_per_device,
        )
        try:
            return _shape(decide(self.state, knock))
        except Refused as refused:
            return _Shape(refused.reason.value)

    def _by_code(self, one: Happened, event: RequestApproved) -> tuple[Line, ...]:
        """Who came by a setup code waits where what it gives takes people (`redemption.silently`)."""
        news = tuple((role, of_role(event.scopes, role)) for role in event.roles)

        def waits(rules: Rules) -> bool:
            return quorum.takes_people(rules.gateway.pairing.approval.terms, news)

        if waits(self.then) or not waits(self.new):
            return ()
        by = self._by((VOTES, REASONS), waits)
        return (self.line(one, "asks", "let in by a setup code", _WOULD["waits"], *by, request=event.request),)

    def _by(self, names: Iterable[str], same: Callable[[Rules], bool]) -> tuple[str, ...]:
        """Name the settings of which one alone would do it; all that differ, where it takes several."""
        differ = [name for name in names if name in self.differs]
        return tuple(name for name in differ if same(with_one(self.then, self.new, name))) or tuple(differ)

    # --- a person answered, or nobody ---

    def _too_late(self, one: Happened, event: RequestApproved | RequestEndorsed | RequestRejected) -> Line | None:
        gone, ttl = event.at - self.contact.at, self.new.gateway.pairing.request_ttl_ms
        if TTL not in self.differs or self.contact.request != event.request or gone <= ttl:
            return None
        said = {RequestApproved: "approved", RequestEndorsed: "given a vote", RequestRejected: "rejected"}[type(event)]
        line = self.line(one, "expires", f"{said} after {gone} ms", f"expired after {ttl} ms", TTL, request=event.request)
        # A retry within a quarter of the life leaves no event (`decide._refresh`).
        return replace(line, unsaid=("contact",)) if gone <= ttl + self.contact.ttl // 4 else line

    def _in_time(self, one: Happened, event: RequestExpired) -> Line | None:
        ttl = self.new.gateway.pairing.request_ttl_ms
        if TTL not in self.differs or self.contact.request != event.request or event.at - self.contact.at > ttl:
            return None
        return self.line(one, "stays-open", "expired", f"still open, {ttl} ms from its last contact", TTL, request=event.request)

    def _approved(self, one: Happened) -> Line | None:
        """Ask again what a person's approval took: how many, a reason, and that it was theirs to give."""
        event = one.event
        if not isinstance(event, RequestApproved | RequestEndorsed) or not self.differs & {VOTES, REASONS, LOCAL_CEILING}:
            return None
        final = next((e for e in self.events if isinstance(e, RequestApproved)), None)
        if isinstance(event, RequestEndorsed) and final is not None:
            return None
        state = lapsed(self.state, event.at)
        if state.pending is None or state.pending.request != event.request:
            return None
        return self._ceiling(one, state, state.pending) or self._terms(one, state, event, final is not None)

    def _terms(self, one: Happened, state: Device, event: RequestApproved | RequestEndorsed, final: bool) -> Line | None:
        before, new = (rules.gateway.pairing.approval.terms for rules in (self.then, self.new))
        under, request, then = self.then.under, event.request, "approved" if final else "given a vote, and waited for others"
        if wants_reason(state, new, under) and not wants_reason(state, before, under) and not (one.meta.reason or "").strip():
            return self.line(one, "reason", f"{then}, without a reason", "refused for want of a reason", REASONS, request=request)
        given = [e for e in self.events if isinstance(e, RequestEndorsed | RequestUnendorsed)]
        voted = fold(state, tuple(given)).pending
        have, needed = max(1, len(voted.votes) if voted else 0), approvers_needed(state, new, under)
        if final and needed > have:
            would = f"waiting for more: it takes {needed} operators, {have} approved"
            return self.line(one, "approvers", then, would, VOTES, request=request)
        if not final and needed <= have:
            return self.line(one, "votes-suffice", then, f"approved with this one: it takes {needed}", VOTES, request=request)
        return None

    def _ceiling(self, one: Happened, state: Device, pending: Pending) -> Line | None:
        """What a session on this host was lent is no more than the ceiling; which of its scopes were its own is not recorded."""
        meta, lent = one.meta, self.then.gateway.pairing.local_ceiling
        local = meta.actor.kind == "shared-secret" and meta.origin == "local" and set(lent) <= set(meta.authority)
        if LOCAL_CEILING not in self.differs or not local:
            return None
        entry = tuple(scope for scope in meta.authority if scope == PAIRING or (scope == ADMIN and PAIRING not in meta.authority))
        own = tuple(dict.fromkeys((*entry, *(scope for scope in meta.authority if scope not in lent))))

        def refused(scopes: tuple[str, ...], rules: Rules) -> str | None:
            by = Caller(actor=meta.actor, scopes=scopes, ceiling=rules.gateway.pairing.local_ceiling)
            command = Approve(
                id="",
                now=one.event.at if not isinstance(one.event, Unknown) else one.at,
                by=by,
                device=self.device,
                request=pending.request,
                issue="",
                key="",
                under=self.then.under,
                terms=ANY_TERMS,
            )
            try:
                decide(state, command)
            except Refused as no:
                return no.reason.value
            return None

        why = refused(own, self.new)
        if why is None or refused(own, self.then) is not None:
            return None
        line = self.line(one, "refused", "approved", f"refused: {why}", LOCAL_CEILING, request=pending.request)
        return line if refused(meta.authority, self.new) else replace(line, unsaid=("own-scopes",))

    # --- tokens, and the last operator ---

    def _used_enough(self, one: Happened, event: TokenExpired) -> Line | None:
        name = IDLE.get(event.role)
        if event.how != "idle" or event.since is None or name not in self.differs:
            return None
        limit = dict(self.new.gateway.tokens.idle).get(event.role)
        if limit is not None and unused(event.since, limit, event.at):
            return None
        then = f"the {event.role} token died of disuse"
        return self.line(one, "token-works", then, f"the {event.role} token still good", name or "")

    def _handed_over(self, one: Happened, event: TokenRotated) -> Line | None:
        if MAX_HANDOFF not in self.differs or event.handoff_until is None:
            return None
        left, longest = event.handoff_until - event.at, self.new.gateway.pairing.max_handoff_ms
        if not too_long(left, longest):
            return None
        then = f"the {event.role} token rotated with a handoff of {left} ms"
        return self.line(one, "refused", then, f"refused: {longest} ms is the most", MAX_HANDOFF)

    def _last_operator(self) -> Line | None:
        if KEEP_LAST not in self.differs:
            return None
        last, at = self.group[-1], self.group[0]
        if any(isinstance(event, GlassBroken) for event in self.events):
            return self.line(last, "glass-whole", "done by breaking the glass", "done without that", KEEP_LAST)
        now = at.event.at if not isinstance(at.event, Unknown) else at.at
        ending = operators.ends(lapsed(self.state, now), self.events, self.then.under)
        if ending is None or not self.new.gateway.pairing.keep_last_operator:
            return None
        then = "the last device that could approve was ended"
        return replace(self.line(at, "last-operator", then, "refused, unless the glass is broken", KEEP_LAST), others=True)


_NOBODY = Caller(actor=Actor("device"), scopes=())
WAITED = "waited for a person"
_THEN = {"silent": "let in without a person", "waits": WAITED}
_WOULD = {"silent": "let in without a person", "waits": "waiting for a person"}


class _Shape(Struct, frozen=True):
    """What came of a knock: its answer, and what else of it is recorded and tells one guess from another."""

    answer: str
    rest: tuple[object, ...] = ()


def _shape(events: Iterable[DeviceEvent]) -> _Shape:
    answer, rest = "waits", list[object]()
    for event in events:
        match event:
            case RequestApproved():
                answer = "silent"
                rest.append(event.means)
            case RequestOpened():
                rest += (event.need, event.silent, event.roles, event.scopes)
            case RequestRefreshed():
                rest.append(event.silent)
            case _:
                pass
    return _Shape(answer, tuple(rest))


# --- how many are open -----------------------------------------------------------------------------------------------


def _moves(case: _Case) -> Iterator[Move]:
    after = fold(case.state, case.events).pending
    for one in case.group:
        event = one.event
        if isinstance(event, RequestOpened | RequestRefreshed):
            fresh = isinstance(event, RequestOpened) and case.state.pending is None
            fresh = fresh and after is not None and after.request == event.request
            address = one.personal.address if one.personal else None
            local, digest = one.meta.origin == "local", one.meta.policy
            yield Move(one.position, one.at, case.device, event.request, True, fresh, local, address, digest)
        elif isinstance(event, _CLOSING):
            yield Move(one.position, one.at, case.device, event.request, False, False, False, None, None)


_CLOSING = RequestApproved | RequestRejected | RequestExpired | RequestSuperseded | RequestWithdrawn
