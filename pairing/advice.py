"""One next step for a device that is not let in: tried on a copy of its state, so that no advice is given that must fail (L9).

Pure. What is tried is what the command would do: `decide` on the state, then `judge` on what comes of it.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .commands import ANY_TERMS, Approve, Caller, DeviceCommand, Knock, Rotate, Terms, Unlock, Wanted
from .decide import decide
from .device import Device
from .evolve import fold
from .history import met
from .refusals import Refused
from .shortfall import covered_by
from .verdict import Presented

Where: TypeAlias = Literal["here", "gateway-host", "device"]


class Next(Struct, frozen=True):
    """One next step: the command, where to run it, and what it comes to. `then` is what remains to be done after it."""

    command: tuple[str, ...]
    where: Where
    does: str
    then: str = ""


class Means(Struct, frozen=True, kw_only=True):
    """With what steps are tried: who asks, and the gateway's host; fresh ids; `mode` is what secret there is."""

    caller: Caller
    host: Caller
    id: str
    issue: str
    request: str
    key: str
    ttl: int
    mode: Literal["token", "password", "none"] = "token"
    terms: Terms = ANY_TERMS


class _Trial(Struct, frozen=True):
    """A step as it would be decided: the command's words, and the decision to try (None: only connect)."""

    words: tuple[str, ...]
    command: DeviceCommand | None
    on_device: bool
    does: str
    then: str = ""


_COLLECTS = "The device collects its token when it next connects with the gateway's shared secret."
_APPROVED = "An operator then approves it; see: pairing devices list"


def advise(device: str, state: Device, wanted: Wanted, now: int, means: Means) -> Next | None:
    """Return the first step after which the device is let in with the shared secret, or its request can be approved so."""
    for trial in _trials(device, state, wanted, now, means):
        where = _tried(state, wanted, trial, now, means)
        if where is not None:
            return Next(trial.words, where, trial.does, trial.then)
    return None


def _trials(device: str, state: Device, wanted: Wanted, now: int, means: Means) -> Iterator[_Trial]:
    """The mildest first: what waits for an answer, what needs nobody's, what an operator must undo, what must be asked anew."""
    shown = () if means.mode == "none" else (f"--{means.mode}", "-")
    scopes = tuple(word for scope in wanted.scopes for word in ("--scope", scope))
    connect: tuple[str, ...] = ("pairing", "connect", "--role", wanted.role, *scopes, *shown)
    if state.lock is not None:
        unlock = Unlock(id=means.id, now=now, by=means.caller, device=device)
        yield _Trial(("pairing", "devices", "unlock", device[:12]), unlock, False, "End the lock, if it is to be let in again.")
    if state.pending is not None:
        approve = _approve(device, state.pending.request, wanted, now, means)
        why = ("--reason", "WHY") if means.terms.reasoned else ()
        answer = ("pairing", "devices", "approve", state.pending.request, *why)
        yield _Trial(answer, approve, False, "Approve what it asks for, after a look at it.", _COLLECTS)
    token = state.token(wanted.role)
    # Nobody here knows the value of a token that another gateway made: it cannot be handed out again.
    if token is None or token.proof is None:
        yield _Trial(
            connect, None, True, "Connect once with the gateway's shared secret: the present token comes with the answer."
        )
    if state.grant is not None:
        rotate = Rotate(
            id=means.id, now=now, by=means.caller, device=device, role=wanted.role, scopes=None, issue=means.issue, key=means.key
        )
        words = ("pairing", "devices", "rotate", "--device", device[:12], "--role", wanted.role)
        yield _Trial(words, rotate, False, "Issue a new token, if it is to be let in again.", _COLLECTS)
    asks = "Ask with the gateway's shared secret for what is missing."
    yield _Trial(connect, _knock(device, wanted, now, means), True, asks, _APPROVED)


def _approve(device: str, request: str, wanted: Wanted, now: int, means: Means) -> Approve:
    return Approve(
        id=means.id,
        now=now,
        by=means.caller,
        device=device,
        request=request,
        issue=f"{means.issue}+",
        key=means.key,
        under=wanted.under,
        terms=means.terms,
        reason="WHY" if means.terms.reasoned else None,
    )


def _knock(device: str, wanted: Wanted, now: int, means: Means) -> Knock:
    return Knock(
        id=means.id,
        now=now,
        by=replace(means.caller, scopes=(), own=device),
        device=device,
        wanted=wanted,
        client_id=None,
        client_mode=None,
        request=means.request,
        issue=means.issue,
        key=means.key,
        seen="",
        named="",
        ttl=means.ttl,
    )


def _tried(state: Device, wanted: Wanted, trial: _Trial, now: int, means: Means) -> Where | None:
    """Say where a step can be run: by who asks, or else by the gateway's host alone. None where it would not help."""
    if trial.command is None:
        return "device" if _inside(state, wanted, now, means) else None
    if trial.on_device:
        return "device" if _helps(_later(state, trial.command), wanted, trial.command, means) else None
    if _helps(_later(state, replace(trial.command, by=means.caller)), wanted, trial.command, means):
        return "here"
    by_host = _later(state, replace(trial.command, by=means.host))
    return "gateway-host" if _helps(by_host, wanted, trial.command, means) else None


def _later(state: Device, command: DeviceCommand) -> Device | None:
    try:
        events = decide(state, command)
    except Refused:
        return None
    return fold(state, events) if events else None


def _helps(later: Device | None, wanted: Wanted, command: DeviceCommand, means: Means) -> bool:
    if later is None:
        return False
    if _inside(later, wanted, command.now, means) or isinstance(command, Unlock):
        return True
    if later.pending is None or not covered_by(later.pending, wanted):
        return False
    if isinstance(command, Approve):
        # One of several: it counts, and the others are still to come.
        return len(later.pending.votes) > 0
    approve = replace(_approve(command.device, later.pending.request, wanted, command.now, means), by=means.host)
    approved = _later(later, replace(approve, terms=ANY_TERMS))
    return approved is not None and _inside(approved, wanted, command.now, means)


def _inside(state: Device, wanted: Wanted, now: int, means: Means) -> bool:
    return met(state, Presented(method=means.mode), wanted, now).reason is None
