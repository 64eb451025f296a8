"""The methods on webhooks: add, list, pause, resume, replay and remove them. They need operator.admin, and contact nobody."""

import base64
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from . import ids
from .authority import ADMIN
from .commands import AddHook, HookCommand, PauseHook, RemoveHook, ReplayHook, ResumeHook
from .entries import Entry
from .hooks import MOST, Sending, UrlFlaw, url_flaw
from .log.codec import KINDS
from .outbox import OutboxUnavailable, Progress
from .outside import outside
from .refusals import Reason, Refused
from .service import Call, Method, Reasoned, Receipt, receipt
from .shapes import Name, NoParams
from .watch_methods import Position

_FLAWS: dict[UrlFlaw, tuple[str, str]] = {
    "long": ("it is too long", "Give one of at most 1000 characters."),
    "characters": ("it holds characters that a URL cannot", "Write it in ASCII, percent-encoded; names of hosts in Punycode."),
    "scheme": ("it does not begin with https://", "Give the whole URL: https://HOST/PATH"),
    "plain": ("plain HTTP is not allowed", "Use https://, or on the gateway: pairing config set gateway.hooks.allowPrivate true"),
    "host": ("it names no host", "Give the whole URL: https://HOST/PATH"),
    "port": ("its host or port cannot be read", "Give the whole URL: https://HOST:PORT/PATH"),
    "user": ("it holds a user or password", "It is recorded for ever. Let the receiver check the signature instead."),
    "query": ("it has a query", "It is recorded for ever and must hold no secret. Let the receiver check the signature instead."),
    "fragment": ("it has a fragment", "Leave out what follows the #."),
}
_INSIDE = (
    "its address is not one of the public internet",
    "Where that is meant, on the gateway: pairing config set gateway.hooks.allowPrivate true",
)


class HookAddParams(Reasoned, frozen=True, kw_only=True):
    """`kinds`: names such as `request.opened`, or families such as `token.*`; none: all about devices, nodes and setup codes.

    `people`: send names, labels and addresses as well.
    """

    url: Name
    kinds: tuple[Name, ...] = ()
    people: bool = False


class HookParams(Reasoned, frozen=True, kw_only=True):
    """One webhook by its id."""

    hook_id: Name


class HookReplayParams(HookParams, frozen=True, kw_only=True):
    """Send everything after the position `from` once more."""

    after: Position = msgspec.field(name="from")


class HookAdded(Entry, frozen=True, kw_only=True):
    """The answer to `hooks.add`: the only place where the signing secret is handed out."""

    hook_id: str
    url: str
    kinds: tuple[str, ...]
    secret: str
    recorded: Receipt | None = None

    def __repr__(self) -> str:
        return f"HookAdded(hook_id={self.hook_id!r}, secret=…)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("hook_id", self.hook_id), ("secret", "…")]


class HookChanged(Entry, frozen=True, kw_only=True):
    """The answer to what changes a webhook."""

    hook_id: str
    recorded: Receipt | None = None


class HookEntry(Entry, frozen=True, kw_only=True):
    """A webhook and how far it is. `lag`: positions behind the log's end; `owed_since_ms`: the oldest that was tried in vain.

    `waiting` counts devices whose event was not taken.
    """

    hook_id: str
    url: str
    kinds: tuple[str, ...]
    people: bool
    created_at_ms: int
    paused: str | None = None
    position: int
    lag: int
    owed_since_ms: int | None = None
    waiting: int = 0
    attempts: int = 0
    failures: int = 0
    last_error: str | None = None
    last_error_at_ms: int | None = None
    last_delivered_at_ms: int | None = None
    retry_at_ms: int | None = None


class HookList(Entry, frozen=True, kw_only=True):
    """The answer to `hooks.list`; `head` is the log's last position."""

    head: int
    hooks: tuple[HookEntry, ...]


async def hooks_add(call: Call[HookAddParams]) -> HookAdded:
    """Send events to a URL from now on, signed with a secret that this answer alone shows."""
    service, p = call.service, call.params
    _fit(p.url, service.private_hooks)
    _known(p.kinds)
    hook, key = ids.hook_id(), service.keyring.current
    count = len([one for one in await service.views.hooks() if (await service.desk.hook(one)).sending])
    command = AddHook(
        hook=hook,
        url=p.url,
        kinds=tuple(dict.fromkeys(p.kinds)),
        people=p.people,
        key=key.id,
        after=await service.views.position(),
        full=count >= MOST,
        **call.stamp(),
    )
    handled = await service.desk.handle_hook(command)
    secret = "whsec_" + base64.b64encode(key.hook_secret(hook)).decode()
    return HookAdded(hook_id=hook, url=p.url, kinds=command.kinds, secret=secret, recorded=receipt(p, handled))


def _fit(url: str, private_allowed: bool) -> None:
    flaw = url_flaw(url, plain_allowed=private_allowed)
    if flaw is None and not private_allowed and _is_inside(urlsplit(url).hostname or ""):
        raise Refused(Reason.HOOK_URL, why=_INSIDE[0], hint=_INSIDE[1])
    if flaw is not None:
        raise Refused(Reason.HOOK_URL, why=_FLAWS[flaw][0], hint=_FLAWS[flaw][1])


def _is_inside(host: str) -> bool:
    """Judge an address that is written out; a name is judged by its addresses, whenever it is called."""
    try:
        return not outside(str(ip_address(host)))
    except ValueError:
        return False


def _known(kinds: tuple[str, ...]) -> None:
    families = {f"{kind.partition('.')[0]}.*" for kind in KINDS}
    for kind in kinds:
        if kind not in KINDS and kind not in families:
            raise Refused(Reason.HOOK_KINDS, kind=kind[:64])


async def hooks_list(call: Call[NoParams]) -> HookList:
    """List the webhooks, how far each is, and what was last wrong with it."""
    service = call.service
    head, entries = await service.views.position(), []
    for hook in await service.views.hooks():
        sending = (await service.desk.hook(hook)).sending
        if sending is not None:
            progress = await service.outbox.progress(hook) if service.outbox else None
            current = progress if progress and progress.turn == sending.turn else Progress(sending.turn, sending.after)
            entries.append(_entry(hook, sending, current, head))
    return HookList(head=head, hooks=tuple(entries))


def _entry(hook: str, sending: Sending, progress: Progress, head: int) -> HookEntry:
    return HookEntry(
        hook_id=hook,
        url=sending.url,
        kinds=sending.kinds,
        people=sending.people,
        created_at_ms=sending.created_at,
        paused=sending.paused,
        position=progress.owed,
        lag=max(0, head - progress.owed),
        owed_since_ms=progress.owed_since,
        waiting=len(progress.blocked),
        attempts=progress.tried,
        failures=progress.failed,
        last_error=sending.error or progress.error,
        last_error_at_ms=progress.error_at,
        last_delivered_at_ms=progress.delivered_at,
        retry_at_ms=progress.retry_at or None,
    )


async def hooks_remove(call: Call[HookParams]) -> HookChanged:
    """Send nothing more there; what was not delivered never will be."""
    changed = await _change(call, RemoveHook(hook=call.params.hook_id, **call.stamp()))
    if call.service.outbox is not None:
        # It is removed, whatever becomes of what was kept about it.
        with suppress(OutboxUnavailable):
            await call.service.outbox.drop(call.params.hook_id)
    return changed


async def hooks_pause(call: Call[HookParams]) -> HookChanged:
    """Stop sending until it is resumed; nothing is lost meanwhile."""
    return await _change(call, PauseHook(hook=call.params.hook_id, **call.stamp()))


async def hooks_resume(call: Call[HookParams]) -> HookChanged:
    """Go on sending where it stopped."""
    return await _change(call, ResumeHook(hook=call.params.hook_id, **call.stamp()))


async def hooks_replay(call: Call[HookReplayParams]) -> HookChanged:
    """Send everything after a position once more, under the ids that it had before."""
    head = await call.service.views.position()
    if call.params.after > head:
        raise Refused(Reason.INVALID_PARAMS, method="hooks.replay", problems=f"at from: must be <= {head}, the log's end")
    return await _change(call, ReplayHook(hook=call.params.hook_id, after=call.params.after, **call.stamp()))


async def _change(call: Call[Any], command: HookCommand) -> HookChanged:
    handled = await call.service.desk.handle_hook(command)
    return HookChanged(hook_id=command.hook, recorded=receipt(call.params, handled))


METHODS: tuple[Method[Any], ...] = (
    Method("hooks.add", HookAddParams, hooks_add, ADMIN),
    Method("hooks.list", NoParams, hooks_list, ADMIN),
    Method("hooks.pause", HookParams, hooks_pause, ADMIN),
    Method("hooks.resume", HookParams, hooks_resume, ADMIN),
    Method("hooks.replay", HookReplayParams, hooks_replay, ADMIN),
    Method("hooks.remove", HookParams, hooks_remove, ADMIN),
)
