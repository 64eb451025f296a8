"""One webhook: where it sends what, and whether it does. `evolve_hook` folds its stream `hook:<id>`, `decide_hook` decides.

Pure. How far it has got is no event and not here: see `gateway/courier`. Its signing secret is derived, never stored.
"""

from typing import Literal, TypeAlias, assert_never
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from . import authority
from .authority import ADMIN, OPERATOR, Target
from .commands import AddHook, GiveUpHook, HookBound, HookCommand, PauseHook, RemoveHook, ReplayHook, ResumeHook
from .events import HookAdded, HookEvent, HookPause, HookPaused, HookRemoved, HookReplayed, HookResumed, Unknown
from .refusals import Reason, Refused

Events: TypeAlias = tuple[HookEvent, ...]

MOST = 32
LONGEST_URL = 1_000
_CONCERNS = ("device:", "node:", "enrolment:")


class Sending(Struct, frozen=True, gc=False):
    """What a hook is. After position `after` it sends; `turn` counts how often it was begun anew, so that a courier can tell."""

    url: str
    kinds: tuple[str, ...]
    people: bool
    key: str
    created_at: int
    after: int
    turn: int = 1
    paused: HookPause | None = None
    error: str | None = None

    def wants(self, stream: str, kind: str) -> bool:
        """Say whether an event is one to be sent."""
        if not self.kinds:
            return stream.startswith(_CONCERNS)
        return any(kind == named or (named.endswith(".*") and kind.startswith(named[:-1])) for named in self.kinds)


class HookState(Struct, frozen=True, gc=False):
    """One hook's stream, folded: nothing is left of one that was removed. `newer`: no decision may follow an unknown kind."""

    sending: Sending | None = None
    removed: bool = False
    newer: str | None = None


NO_HOOK = HookState()


def evolve_hook(state: HookState, event: HookEvent | Unknown) -> HookState:
    """Fold one event. Total: an event that does not fit leaves what it does not concern as it was."""
    match event:
        case HookAdded():
            sending = Sending(event.url, event.kinds, event.people, event.key, event.at, event.after)
            return replace(state, sending=sending, removed=False)
        case HookRemoved():
            return replace(state, sending=None, removed=True)
        case HookPaused():
            return _with(state, paused=event.why, error=event.error)
        case HookResumed():
            return _with(state, paused=None, error=None)
        case HookReplayed():
            turn = state.sending.turn + 1 if state.sending else 0
            return _with(state, paused=None, error=None, after=event.after, turn=turn)
        case Unknown():
            return replace(state, newer=event.kind)
        case _:
            assert_never(event)


def _with(state: HookState, **changed: object) -> HookState:
    return replace(state, sending=replace(state.sending, **changed)) if state.sending else state


def decide_hook(state: HookState, command: HookCommand) -> Events:
    """Return what follows from a command in a state; `()` means that nothing had to happen. Raises `Refused`."""
    if state.newer is not None:
        raise Refused(Reason.NEWER_WRITER, details={"kind": state.newer})
    if isinstance(command, GiveUpHook):
        return _give_up(state, command)
    _permit(command)
    if isinstance(command, AddHook):
        return _add(state, command)
    if state.sending is None:
        raise Refused(Reason.UNKNOWN_HOOK)
    match command:
        case RemoveHook():
            return (HookRemoved(at=command.now),)
        case PauseHook():
            return () if state.sending.paused else (HookPaused(at=command.now, why="asked", undelivered=None, error=None),)
        case ResumeHook():
            return (HookResumed(at=command.now),) if state.sending.paused else ()
        case ReplayHook():
            return (HookReplayed(at=command.now, after=command.after),)
        case _:
            assert_never(command)


def _add(state: HookState, c: AddHook) -> Events:
    if state.sending is not None or state.removed:
        return ()
    if c.full:
        raise Refused(Reason.TOO_MANY_HOOKS, count=MOST)
    return (HookAdded(at=c.now, hook=c.hook, url=c.url, kinds=c.kinds, people=c.people, key=c.key, after=c.after),)


def _give_up(state: HookState, c: GiveUpHook) -> Events:
    if state.sending is None or state.sending.paused:
        return ()
    return (HookPaused(at=c.now, why=c.why, undelivered=c.undelivered, error=c.error),)


def _permit(c: HookBound) -> None:
    ruling = authority.may("hooks", c.by, Target("", ((OPERATOR, (ADMIN,)),)))
    if ruling.allowed:
        return
    if ruling.scope is not None:
        raise Refused(Reason.MISSING_SCOPE, scope=ruling.scope)
    raise Refused(Reason.HOOK_DENIED, rule=ruling.rule)


UrlFlaw: TypeAlias = Literal["long", "characters", "scheme", "plain", "host", "port", "user", "query", "fragment"]


def url_flaw(url: str, *, plain_allowed: bool) -> UrlFlaw | None:
    """Return what makes a text unfit as the URL of a hook, or None.

    It is recorded for ever and shown to operators: a user, a password or a query would be secrets in the log. Plain HTTP only
    where it was allowed. Whether the host may be contacted is asked of its address, when it is.
    """
    if len(url) > LONGEST_URL:
        return "long"
    if not url.isascii() or not url.isprintable() or any(c in ' "<>\\^`{|}' for c in url):
        return "characters"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        return "port"
    if parts.scheme != "https" and (parts.scheme != "http" or not plain_allowed):
        return "plain" if parts.scheme == "http" else "scheme"
    if not host:
        return "host"
    if port == 0:
        return "port"
    if "@" in parts.netloc:
        return "user"
    if "?" in url:
        return "query"
    return "fragment" if "#" in url else None
