"""Why a device is let in or not: what it showed, where it and the gateway parted, and one next step that was tried on a copy.

Pure, and without an opinion of its own: the verdict is `verdict.judge`'s, as at the gateway's door, and a next step is one that
`decide` has decided. It sees names of generations, never a token.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from .advice import Means, Next, advise
from .commands import Wanted
from .device import Device
from .events import device_stream
from .history import Happened, World, met, turned, world_at
from .recognition import Generation
from .refusals import Reason
from .shortfall import covered_by
from .standing import lapsed
from .verdict import PAIRING_REASONS, Presented, Verdict

Finding: TypeAlias = Literal[
    "let-in",
    # what was shown
    "superseded",
    "never-collected",
    "handoff-over",
    "revoked",
    "expired",
    "removed",
    "paired-anew",
    "other-role",
    "other-device",
    "node-token",
    "shared-secret",
    "foreign",
    "never-issued",
    "unrecognised",
    "abandoned",
    "secret-changed",
    "wrong-secret",
    "nothing-shown",
    # what is missing
    "not-paired",
    "waiting",
    "ask-expired",
    "rejected",
    "role-missing",
    "scope-shortfall",
    "changed",
    # what is in the way
    "locked",
    "attempts",
    "clock",
    "proof",
    "newer-version",
    "other",
]
Kind: TypeAlias = Literal["own", "other-device", "node-token", "shared-secret", "foreign", "never-issued"]


class Shown(Struct, frozen=True, kw_only=True):
    """What a token was found to be. `device` and `generation` are set where it is, or was, a device's."""

    kind: Kind
    device: str | None = None
    generation: Generation | None = None


class Case(Struct, frozen=True, kw_only=True):
    """One contact to be explained: who, what it showed and wanted, and all that had happened by then.

    `seen_at` is when the device was last inside, where that is known; `reason` what the gateway refused it with before it judged.
    """

    device: str
    past: tuple[Happened, ...]
    presented: Presented
    wanted: Wanted
    now: int
    shown: Shown | None = None
    seen_at: int | None = None
    seen_known: bool = False
    reason: Reason | None = None

    @property
    def world(self) -> World:
        """What was true."""
        return world_at(self.past)


class Turned(Struct, frozen=True):
    """A rule as it was applied, and the event since which it gives what it gives; None: it never gave anything else."""

    rule: str
    passed: bool
    found: str
    needed: str
    since: Happened | None


class Explanation(Struct, frozen=True):
    """Why. `reason` None: it is let in. `parted` is the event at which client and gateway parted, where there is one."""

    finding: Finding
    reason: Reason | None
    verdict: Verdict
    steps: tuple[Turned, ...]
    parted: Happened | None
    next: Next | None


def explain(case: Case, means: Means) -> Explanation:
    """Judge as the gateway does, name what was found, and try what would help."""
    world = case.world
    verdict = met(world.device, case.presented, case.wanted, case.now)
    reason = case.reason or verdict.reason
    finding = _find(case, world, verdict, reason)
    steps = tuple(Turned(s.rule, s.passed, s.found, s.needed, None if s.passed else _since(case, s.rule)) for s in verdict.steps)
    parted = None if finding == "let-in" else _parted(case, finding, steps)
    step = _BY_HAND.get(finding)
    if step is None and finding not in {"let-in", "newer-version"}:
        step = advise(case.device, world.device, case.wanted, case.now, means)
    return Explanation(finding, reason, verdict, steps, parted, step)


# --- what it is ------------------------------------------------------------------------------------------------------

_BY_REASON: dict[Reason, Finding] = {
    Reason.SIGNATURE_STALE: "clock",
    Reason.SIGNATURE_INVALID: "proof",
    Reason.DEVICE_ID_MISMATCH: "proof",
    Reason.NONCE_MISMATCH: "proof",
    Reason.NONCE_MISSING: "proof",
    Reason.RATE_LIMITED: "attempts",
    Reason.DEVICE_LOCKED: "locked",
    Reason.TOKEN_EXPIRED: "expired",
    Reason.TIMELINE_LEFT: "abandoned",
    Reason.NEWER_WRITER: "newer-version",
}
_NO_SECRET = frozenset({Reason.TOKEN_MISSING, Reason.PASSWORD_MISSING, Reason.AUTH_REQUIRED})
_WRONG_SECRET = frozenset({Reason.TOKEN_MISMATCH, Reason.PASSWORD_MISMATCH})


def _find(case: Case, world: World, verdict: Verdict, reason: Reason | None) -> Finding:
    if reason is None:
        return "let-in"
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    if verdict.needs:
        return _missing(case, world.device, verdict, reason)
    if case.shown is not None and (of_token := _token(case, world, case.shown)):
        return of_token
    if reason is Reason.SCOPE_MISMATCH:
        return "scope-shortfall"
    if reason in _NO_SECRET and case.presented.candidate is None:
        return "nothing-shown"
    if reason is Reason.DEVICE_TOKEN_MISMATCH and world.device.grant is None:
        return _unpaired(case, world.device)
    return "wrong-secret" if reason in _WRONG_SECRET else "unrecognised" if reason is Reason.DEVICE_TOKEN_MISMATCH else "other"


def _token(case: Case, world: World, shown: Shown) -> Finding | None:
    match shown.kind:
        case "own":
            return _own(case, world, shown.generation) if shown.generation else None
        case "other-device" | "node-token" | "shared-secret" | "foreign" | "never-issued":
            return shown.kind
        case _:
            assert_never(shown.kind)


def _own(case: Case, world: World, generation: Generation) -> Finding | None:
    if generation.role != case.wanted.role:
        return "other-role"
    match generation.how:
        case "current":
            token = world.device.token(generation.role)
            stale = token is not None and token.under is not None and token.under != case.wanted.under
            return "secret-changed" if stale else None
        case "handed-over":
            return "handoff-over" if met(world.device, case.presented, case.wanted, case.now).method is None else None
        case "abandoned" | "expired" | "revoked":
            return generation.how
        case "rotated" | "compromised":
            return "never-collected" if _uncollected(case, world, generation.role) else "superseded"
        case "removed":
            return "paired-anew" if world.device.grant else "removed"
        case _:
            assert_never(generation.how)


def _uncollected(case: Case, world: World, role: str) -> bool:
    """A device is handed its present token whenever it comes in, so that one not seen since has not got it."""
    token = world.device.token(role)
    return case.seen_known and token is not None and (case.seen_at or 0) < token.issued_at


def _missing(case: Case, state: Device, verdict: Verdict, reason: Reason) -> Finding:
    pending = state.pending
    if pending is not None and covered_by(pending, case.wanted):
        return "ask-expired" if pending.expired(case.now) else "waiting"
    # Where some needs are met without a person, the gateway names the first that is not.
    need = next((need for need in verdict.needs if PAIRING_REASONS[need] is reason), verdict.needs[0])
    match need:
        case "not-paired":
            return _unpaired(case, state)
        case "metadata-upgrade":
            return "changed"
        case "role-upgrade":
            token = state.token(case.wanted.role)
            if token is not None and token.dead:
                return "revoked" if token.revoked_at is not None else "expired"
            return "role-missing" if token is None or token.under in {None, case.wanted.under} else "secret-changed"
        case "scope-upgrade":
            return "scope-shortfall"
        case _:
            assert_never(need)


def _unpaired(case: Case, state: Device) -> Finding:
    if state.pending is not None:
        return "ask-expired" if state.pending.expired(case.now) else "waiting"
    if state.retired:
        return "removed"
    last = state.closed[-1].ending if state.closed else None
    return "rejected" if last == "rejected" else "ask-expired" if last == "expired" else "not-paired"


# --- where they parted -----------------------------------------------------------------------------------------------


def _since(case: Case, rule: str) -> Happened | None:
    def passes(world: World, at: int) -> bool:
        if rule == "known-events":
            return world.device.newer is None
        if rule == "lock":
            return lapsed(world.device, at).lock is None
        steps = met(world.device, case.presented, replace(case.wanted, under=world.house.secret), at).steps
        return any(step.rule == rule and step.passed for step in steps)

    return turned(case.past, passes, case.now)


def _parted(case: Case, finding: Finding, steps: Sequence[Turned]) -> Happened | None:
    generation = case.shown.generation if case.shown else None
    if generation is not None and generation.ended is not None:
        return generation.ended
    if finding in {"waiting", "ask-expired", "rejected"}:
        own = [one for one in case.past if one.stream == device_stream(case.device)]
        return own[-1] if own else None
    return next((step.since for step in reversed(steps) if not step.passed and step.since), None)


# --- what is beyond a decision ---------------------------------------------------------------------------------------

_BY_HAND: dict[Finding, Next] = {
    "clock": Next(("date", "-u"), "device", "Compare its clock with the gateway's: a signature is good for two minutes."),
    "proof": Next(("pairing", "doctor"), "device", "Look at the identity that it signs with: its id is the hash of its key."),
    "attempts": Next(("sleep", "300"), "device", "Wait until the lockout has passed; then connect with the right token."),
}
