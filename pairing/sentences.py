"""An event as one line for a person: who did what to whom.

Pure and total over the catalogue: names come from the caller, who has been granted what or why not is decided elsewhere. Texts
that a device chose stand in quotes with the start of its id beside them, so that no name can pass for a sentence or for another.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TypeAlias, assert_never

from .events import (
    Actor,
    AnyEvent,
    DeviceAbandoned,
    DeviceDescribed,
    DeviceForgotten,
    DeviceImported,
    DeviceLocked,
    DevicePaired,
    DeviceRemoved,
    DeviceRenamed,
    DeviceRestored,
    DeviceUnlocked,
    DeviceUpgraded,
    EnrolmentAcknowledged,
    EnrolmentBound,
    EnrolmentDelivered,
    EnrolmentExpired,
    EnrolmentIssued,
    EnrolmentOverused,
    EnrolmentRedeemed,
    EnrolmentRevoked,
    GatewayStarted,
    GatewayStopped,
    GlassBroken,
    HandoffClosed,
    HookAdded,
    HookPause,
    HookPaused,
    HookRemoved,
    HookReplayed,
    HookResumed,
    LogRestored,
    Means,
    Meta,
    Need,
    NodeAbandoned,
    NodeApproved,
    NodeForgotten,
    NodeImported,
    NodeRejected,
    NodeRemoved,
    NodeRenamed,
    NodeRequested,
    NodeRestored,
    PolicyChanged,
    RequestApproved,
    RequestEndorsed,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    RequestSuperseded,
    RequestUnendorsed,
    RequestWithdrawn,
    TokenAbandoned,
    TokenDue,
    TokenExpired,
    TokenImported,
    TokenIssued,
    TokenNarrowed,
    TokenRevoked,
    TokenRotated,
    TokenWidened,
    Unendorsing,
    Unknown,
)

Naming: TypeAlias = Callable[[str], str | None]
"""Gives what a device, by its full id, is called now: its label, else its name, else None."""

_SHORT = 8
_LONGEST = 64
_UNENDORSED: dict[Unendorsing, str] = {
    "changed": "what they were given for has changed",
    "superseded": "a wider request took its place",
    "lapsed": "those who gave them no longer may",
}
_ASKED: dict[Need, str] = {
    "not-paired": "asked to be let in",
    "metadata-upgrade": "came back as another machine and asked to be let in",
    "role-upgrade": "asked for a role that it does not have,",
    "scope-upgrade": "asked for more than it has,",
}
_FAREWELL = {"used": "its successor was used", "expired": "its time was up", "locked": "the device was locked"}


def sentence(stream: str, event: AnyEvent | Unknown, meta: Meta | None, naming: Naming) -> str:
    """Return one line without a full stop. `meta` is None where it cannot be read."""
    whose = subject(stream, naming)
    by = actor(meta.actor, naming) if meta else "somebody"
    match event:
        case RequestOpened():
            return f"{whose} {_ASKED[event.need]} as {access(event.roles, event.scopes)}"
        case RequestRefreshed():
            return f"{whose} asked again ({_request(event.request)})"
        case RequestSuperseded():
            return f"{_request(event.request)} of {whose} gave way to {_request(event.by)}"
        case RequestApproved():
            return f"{whose} was approved {_means(event.means, by)} as {access(event.roles, event.scopes)}"
        case RequestEndorsed():
            return f"{whose} was approved by {by}, as one of several who must ({_request(event.request)})"
        case RequestUnendorsed():
            return f"{len(event.voters)} of the approvals of {_request(event.request)} count no longer: {_UNENDORSED[event.why]}"
        case RequestRejected():
            return f"{whose} was rejected by {by} ({_request(event.request)})"
        case RequestExpired():
            return f"nobody answered {_request(event.request)} of {whose} in time"
        case RequestWithdrawn():
            return f"{_request(event.request)} of {whose} ended with the device's removal or lock"
        case DevicePaired():
            return f"{whose} was paired as {access(event.roles, event.scopes)}"
        case DeviceUpgraded():
            return f"{whose} may now be {access(event.roles, event.scopes)}"
        case DeviceDescribed():
            return f"{whose} came back under another name or program"
        case DeviceRenamed():
            return f"{whose} {'lost its label' if event.labelled is None else 'was labelled'} by {by}"
        case DeviceRemoved():
            return f"{whose} was removed by {by}"
        case DeviceForgotten() | NodeForgotten():
            return f"the names and addresses of {whose} were forgotten by {by}, in {event.rows} rows"
        case DeviceImported():
            return f"{whose} was brought by {by} from {_said(event.source)} as {access(event.roles, event.scopes)}"
        case DeviceRestored():
            return f"{whose} was taken back by {by} to position {event.to}, as {access(event.roles, event.scopes)}"
        case DeviceAbandoned():
            return f"{whose} is out: {by} went back to position {event.to}, where it was not paired"
        case TokenNarrowed():
            return f"the {event.role} token of {whose} was narrowed by {by} to {words(event.scopes)}"
        case TokenAbandoned():
            return f"the {event.role} token of {whose} ended: {by} went back to position {event.to}, where it had none"
        case TokenImported():
            return f"{whose} kept the {event.role} token that it had, for {words(event.scopes)}"
        case TokenIssued():
            return f"{whose} got its first {event.role} token, for {words(event.scopes)}"
        case TokenRotated():
            why = " as compromised" if event.compromised else ""
            until = "" if event.handoff_until is None else ", and the old one is still accepted for a while"
            return f"the {event.role} token of {whose} was replaced{why} by {by}; the new one is for {words(event.scopes)}{until}"
        case HandoffClosed():
            return f"the old {event.role} token of {whose} is accepted no more: {_FAREWELL[event.how]}"
        case TokenWidened():
            return f"the {event.role} token of {whose} now covers {words(event.scopes)}"
        case TokenRevoked():
            return f"the {event.role} token of {whose} was revoked by {by}"
        case GlassBroken():
            return f"{by} broke the glass: {whose} was the last device that could approve"
        case DeviceLocked():
            until = "" if event.until is None else f" until {moment(event.until)}"
            return f"{whose} was {'banned' if event.ban else 'locked'} by {by}{until}"
        case DeviceUnlocked():
            return f"the lock of {whose} came to its end" if event.how == "ended" else f"{whose} was unlocked by {by}"
        case TokenDue():
            return f"the {event.role} token of {whose} will expire at {moment(event.expires_at)}"
        case TokenExpired():
            why = "came to the end of its lifetime" if event.how == "lifetime" else "expired, since nobody had used it"
            return f"the {event.role} token of {whose} {why}"
        case GatewayStarted():
            return f"a gateway {_said(event.version)} started on {_said(event.listen)}"
        case GatewayStopped():
            return "a gateway stopped"
        case PolicyChanged():
            return "the settings that decide who gets in changed"
        case LogRestored():
            which = "all devices" if event.device is None else f"device {_said(event.device)}"
            return f"{by} took {which} back to position {event.to}; timeline {event.epoch} begins"
        case NodeRestored():
            return f"{whose} was taken back by {by} to position {event.to}, and may run {words(event.commands)}"
        case NodeAbandoned():
            return f"{whose} may run nothing more: {by} went back to position {event.to}, where it might not"
        case NodeRequested():
            return f"{whose} asked to run {words(event.commands)}"
        case NodeApproved():
            return f"{whose} was allowed by {by} to run {words(event.commands)}"
        case NodeRejected():
            return f"{whose} was not allowed by {by} to run what it asked ({_request(event.request)})"
        case NodeRemoved():
            return f"{whose} may run nothing more, by {by}"
        case NodeRenamed():
            return f"{whose} was named by {by}"
        case HookAdded():
            return f"{whose} was added by {by}: it sends {words(event.kinds or ('events of devices',))} to {_said(event.url)}"
        case HookRemoved():
            return f"{whose} was removed by {by}"
        case HookPaused():
            return f"{whose} was paused{_paused(event.why, event.error, by)}"
        case HookResumed():
            return f"{whose} was resumed by {by}"
        case HookReplayed():
            return f"{whose} sends everything after position {event.after} once more, by {by}"
        case EnrolmentIssued():
            return f"{_uses(event.uses)} was minted by {by}, giving {access(event.roles, event.scopes)}"
        case EnrolmentBound():
            return f"{device(event.device, naming)} came with {whose} and waits for approval"
        case EnrolmentRedeemed():
            return f"{device(event.device, naming)} was let in by {whose}"
        case EnrolmentDelivered():
            return f"{device(event.device, naming)} was sent what {whose} gives"
        case EnrolmentAcknowledged():
            return f"{device(event.device, naming)} used what {whose} gave"
        case EnrolmentOverused():
            return f"{device(event.device, naming)} tried {whose}, of which no use was left"
        case EnrolmentRevoked():
            return f"{whose} was taken back by {by}" + (f" with {_request(event.request)}" if event.request else "")
        case EnrolmentExpired():
            return f"the time of {whose} ran out"
        case NodeImported():
            return f"{whose}, brought by {by} from {_said(event.source)}, may run {words(event.commands)}"
        case Unknown():
            return f"{whose}: {_said(event.kind)}, which a newer version recorded"
        case _:
            assert_never(event)


def moment(ms: int) -> str:
    """Return a time in ms as UTC, to the second."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def subject(stream: str, naming: Naming) -> str:
    """Return whom a stream is about: a device or node by its name and the start of its id, or the stream's own name."""
    family, _, id = stream.partition(":")
    if family == "device":
        return device(id, naming)
    if family == "node":
        return device(id, naming, "node")
    if family == "enrolment":
        return f"setup code {_said(id[:_SHORT])}"
    return f"{_said(family)} {_said(id)}" if id else f"the {_said(family)}"


def device(id: str, naming: Naming, thing: str = "device") -> str:
    """Return `"laptop" (3f2a9c11)`, or `device 3f2a9c11` where it has no name."""
    name, short = naming(id), _said(id[:_SHORT])
    return f'"{_said(name)}" ({short})' if name else f"{thing} {short}"


def actor(who: Actor, naming: Naming) -> str:
    """Return who acted."""
    match who.kind:
        case "device":
            return device(who.id or "?", naming)
        case "shared-secret":
            return f"{device(who.id, naming)} by the shared secret" if who.id else "a holder of the shared secret"
        case "local":
            return f"local user {_said(who.id or '?')}"
        case "timer":
            return "the clock"
        case "policy":
            return "the policy"
        case _:
            assert_never(who.kind)


def access(roles: Iterable[str], scopes: Iterable[str]) -> str:
    """Return `operator with operator.read, operator.write`."""
    held = list(scopes)
    return " and ".join(map(_said, roles)) + (f" with {words(held)}" if held else "")


def words(items: Iterable[str]) -> str:
    """Return a list in a line; `nothing` where it is empty."""
    return ", ".join(map(_said, items)) or "nothing"


def _means(means: Means, by: str) -> str:
    match means:
        case "owner":
            return f"by {by}"
        case "silent":
            return "without asking anybody, being local and knowing the shared secret,"
        case "bootstrap":
            return "without asking anybody, coming with a setup code,"
        case "trusted-cidr":
            return "without asking anybody, coming from a trusted network,"
        case "imported":
            return "in another gateway's store"
        case "restored":
            return f"by {by}, who took it back,"
        case _:
            assert_never(means)


def _paused(why: HookPause, error: str | None, by: str) -> str:
    match why:
        case "asked":
            return f" by {by}"
        case "failing":
            return f" after failing for too long: {_said(error or 'for no known reason')}"
        case "gone":
            return ": its receiver says that it is gone"
        case "key-lost":
            return ": the gateway key of its secret is missing"
        case _:
            assert_never(why)


def _uses(uses: int) -> str:
    return "a setup code" if uses == 1 else f"a join key for {uses} devices"


def _request(id: str) -> str:
    return f"request {_said(id)}"


def _said(text: str) -> str:
    """A text from outside must not draw, break the line, or end its own quotes."""
    said = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text).replace('"', "'").strip()
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
