"""Histories for the views: devices that behave, and events that nobody would write."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from msgspec import Struct

from pairing.events import (
    GATEWAY_STREAM,
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
    GatewayStopped,
    HandoffClosed,
    Meta,
    NodeAbandoned,
    NodeApproved,
    NodeForgotten,
    NodeImported,
    NodeRejected,
    NodeRemoved,
    NodeRenamed,
    NodeRequested,
    NodeRestored,
    Personal,
    RequestApproved,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    RequestSuperseded,
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
    device_stream,
    enrolment_stream,
    node_stream,
)
from pairing.ids import uuid7
from pairing.log.codec import decode, decode_meta, draft
from pairing.log.port import Appended, Draft, EventLog, Slice
from projections.reading import SPEAKS_OF_DEVICE, actor_word

CODES = ("c" * 32, "d" * 32)
DEVICES = ("abcd" + "0" * 60, "abcd" + "1" * 60, "ef01" + "2" * 60)
REQUESTS = ("r-1", "r-2", "r-3", "r-4")
ROLES = ("node", "operator")
NAMES = ("Phone", "Tablet", "Kiosk", "Größe")
ADDRESSES = ("10.0.0.1", "10.0.0.2")
SALT = "00" * 16


class Act(Struct, frozen=True):
    """One command's events on one stream; raw drafts where the catalogue has no such event."""

    stream: str
    events: tuple[AnyEvent, ...] = ()
    personal: Personal | None = None
    actor: Actor = Actor("local", "1000")
    raw: tuple[Draft, ...] = ()


def opened(request: str, device: str, **more: Any) -> RequestOpened:
    fields: dict[str, Any] = {
        "at": 1_000,
        "key": "K" + device[:8],
        "need": "not-paired",
        "role": "operator",
        "roles": ("operator",),
        "scopes": ("operator.read",),
        "platform": "linux",
        "family": None,
        "client_id": "cli",
        "client_mode": "cli",
        "silent": False,
        "repair": False,
        "replaces": None,
        "expires_at": 301_000,
        "seen": "s",
        "named": "n",
        "digest": f"digest of {request}",
    }
    return RequestOpened(request=request, device=device, **(fields | more))


def refreshed(request: str, **more: Any) -> RequestRefreshed:
    fields: dict[str, Any] = {
        "at": 1_000,
        "platform": None,
        "family": None,
        "client_id": None,
        "client_mode": None,
        "silent": False,
        "expires_at": 601_000,
        "seen": "s2",
        "named": "n2",
        "digest": f"newer digest of {request}",
    }
    return RequestRefreshed(request=request, **(fields | more))


def approved(request: str, at: int = 2_000) -> RequestApproved:
    return RequestApproved(at=at, request=request, digest="d", means="owner", roles=("operator",), scopes=("operator.read",))


def paired(request: str, device: str, **more: Any) -> DevicePaired:
    return DevicePaired(device=device, key="K" + device[:8], request=request, **(_granted() | more))


def upgraded(request: str, **more: Any) -> DeviceUpgraded:
    return DeviceUpgraded(request=request, **(_granted() | more))


def _granted() -> dict[str, Any]:
    return {
        "at": 2_000,
        "means": "owner",
        "role": "operator",
        "roles": ("operator",),
        "scopes": ("operator.read",),
        "platform": "linux",
        "family": None,
        "client_id": "cli",
        "client_mode": "cli",
        "named": "n",
    }


def issued(issue: str = "i-1", role: str = "operator", at: int = 2_000, until: int | None = None) -> TokenIssued:
    return TokenIssued(at=at, role=role, scopes=(f"{role}.read",), issue=issue, key="k", under=None, expires_at=until)


def rotated(
    retires: str = "i-1", issue: str = "i-2", role: str = "operator", at: int = 3_000, until: int | None = None
) -> TokenRotated:
    return TokenRotated(
        at=at, role=role, scopes=(f"{role}.read",), retires=retires, issue=issue, key="k", under=None, handoff_until=until
    )


def imported(device: str, at: int, *, labelled: str | None = None) -> DeviceImported:
    fields = _granted() | {"at": at, "roles": ROLES, "labelled": labelled, "created_at": 3, "approved_at": at - 7}
    del fields["means"]
    return DeviceImported(device=device, key="K" + device[:8], source="elsewhere", **fields)


def restored(device: str, at: int) -> DeviceRestored:
    fields = _granted() | {"at": at, "roles": ROLES, "created_at": 4}
    del fields["means"]
    return DeviceRestored(to=1, epoch=1, key="K" + device[:8], **fields)


def token_imported(issue: str, role: str, at: int) -> TokenImported:
    days = {"created_at": 3, "rotated_at": None, "revoked_at": 5 if at % 2 else None}
    return TokenImported(at=at, role=role, scopes=(f"{role}.read",), issue=issue, key="k", proof="p", **days)


_BROUGHT: dict[str, Any] = {"source": "elsewhere", "caps": ("system",), "commands": ("run.x",), "platform": "linux", "key": "k"}
_BROUGHT |= dict.fromkeys(("family", "model", "version", "core_version", "ui_version", "proof"))


def person(**fields: str | None) -> Personal:
    return Personal(salt=SALT, **fields)


async def perform(log: EventLog, *acts: Act, now: int = 1_000) -> Appended:
    """Append each act as a command of its own."""
    done: Appended | None = None
    for act in acts:
        command = uuid7(now)
        meta = Meta(actor=act.actor, command=command)
        drafts = (*(draft(event, meta, act.personal) for event in act.events), *act.raw)
        held = await log.stream(act.stream)
        answer = await log.append([Slice(act.stream, len(held), drafts)], command=command, now=now)
        assert isinstance(answer, Appended)
        done = answer
        if any(isinstance(event, DeviceForgotten | NodeForgotten) for event in act.events):
            await erase(log, act.stream, answer.position)
    assert done is not None
    return done


async def erase(log: EventLog, stream: str, below: int) -> None:
    """Do to the log what forgetting a stream does: its own rows, and those in which its device acted for itself elsewhere."""
    await log.forget(stream, below=below)
    acted = [
        record.position
        for record in await log.scan(limit=below - 1)
        if actor_word(decode_meta(record).actor).replace("shared-secret", "device") == stream
        and type(decode(record)) not in SPEAKS_OF_DEVICE
    ]
    await log.forget_at(acted)


async def tell(log: EventLog, device: str, *events: AnyEvent, personal: Personal | None = None, now: int = 1_000) -> Appended:
    """Append events of one device as one command."""
    return await perform(log, Act(device_stream(device), events, personal), now=now)


# --- random ones -----------------------------------------------------------------------------------------------------

_maybe_name = st.sampled_from((*NAMES, None))
_maybe_address = st.sampled_from((*ADDRESSES, None))
_persons = st.none() | st.builds(
    person, name=_maybe_name, address=_maybe_address, label=st.sampled_from(("Hall", "HALL", "Porch", "abcd", None))
)
_actors = st.sampled_from(
    (
        Actor("local", "1000"),
        Actor("timer"),
        Actor("device", DEVICES[0]),
        Actor("shared-secret"),
        Actor("shared-secret", DEVICES[1]),
    )
)


@st.composite
def _odd(draw: st.DrawFn, device: str, at: int) -> tuple[AnyEvent, ...]:
    """One event of any kind, whether or not it fits."""
    request, other = draw(st.sampled_from(REQUESTS)), draw(st.sampled_from(REQUESTS))
    role, issue = draw(st.sampled_from(ROLES)), draw(st.sampled_from(("i-1", "i-2", "i-3")))
    platform = draw(st.sampled_from(("linux", "macos", None)))
    kinds: Sequence[AnyEvent] = (
        opened(request, device, at=at, platform=platform, expires_at=at + 50, silent=draw(st.booleans())),
        refreshed(request, at=at, platform=platform, expires_at=at + 90),
        RequestSuperseded(at=at, request=request, by=other),
        approved(request, at),
        RequestRejected(at=at, request=request, digest="d"),
        RequestExpired(at=at, request=request),
        RequestWithdrawn(at=at, request=request),
        paired(request, device, at=at, platform=platform),
        upgraded(request, at=at, platform=platform, roles=ROLES),
        DeviceDescribed(at=at, client_id=draw(st.sampled_from(("ui", None))), client_mode=None, named="n"),
        DeviceRenamed(at=at, labelled=draw(st.sampled_from(("tag", None)))),
        DeviceRemoved(at=at, roles=(), issues=()),
        imported(device, at, labelled=draw(st.sampled_from(("tag", None)))),
        token_imported(issue, role, at),
        restored(device, at),
        DeviceAbandoned(at=at, to=1, epoch=1, roles=(), issues=()),
        TokenNarrowed(at=at, role=role, issue=issue, scopes=()),
        TokenAbandoned(at=at, to=1, epoch=1, role=role, issue=issue),
        issued(issue, role, at, draw(st.sampled_from((None, at + 60)))),
        DeviceLocked(at=at, until=draw(st.sampled_from((None, at + 60))), message="m", ban=draw(st.booleans())),
        DeviceUnlocked(at=at, how="ended"),
        TokenDue(at=at, role=role, issue=issue, distance=60, expires_at=at + 60),
        TokenExpired(at=at, role=role, issue=issue, how="lifetime", since=None),
        rotated(draw(st.sampled_from(("i-1", "i-2"))), issue, role, at, draw(st.sampled_from((None, at + 50)))),
        HandoffClosed(at=at, role=role, retires=draw(st.sampled_from(("i-1", "i-2"))), issue=issue, how="used"),
        TokenWidened(at=at, role=role, issue=issue, scopes=("operator.write",), under="u"),
        TokenRevoked(at=at, role=role, issue=issue),
    )
    return (draw(st.sampled_from(kinds)),)


@st.composite
def _sound(draw: st.DrawFn, device: str, at: int) -> tuple[AnyEvent, ...]:
    """The events of a command as the service writes them."""
    request, role = draw(st.sampled_from(REQUESTS)), draw(st.sampled_from(ROLES))
    return draw(
        st.sampled_from(
            (
                (opened(request, device, at=at, role=role, roles=(role,), expires_at=at + 50),),
                (approved(request, at), paired(request, device, at=at), issued("i-1", role, at)),
                (approved(request, at), upgraded(request, at=at), rotated("i-1", "i-2", role, at)),
                (RequestWithdrawn(at=at, request=request), DeviceRemoved(at=at, roles=ROLES, issues=("i-1",))),
            )
        )
    )


def node_requested(request: str, node: str, **more: Any) -> NodeRequested:
    fields: dict[str, Any] = {
        "at": 1_000,
        "caps": ("system",),
        "commands": (f"run.{request}",),
        "platform": "linux",
        "family": None,
        "model": None,
        "version": "1",
        "core_version": None,
        "ui_version": None,
        "silent": False,
        "repair": False,
        "replaces": None,
        "named": "n",
        "digest": f"digest of {request}",
    }
    return NodeRequested(request=request, node=node, **(fields | more))


@st.composite
def _surface(draw: st.DrawFn, node: str, at: int) -> tuple[AnyEvent, ...]:
    """One event of a node's surface, whether or not it fits."""
    request = draw(st.sampled_from(REQUESTS))
    kinds: Sequence[AnyEvent] = (
        node_requested(request, node, at=at, silent=draw(st.booleans())),
        NodeApproved(at=at, request=request, digest="d", caps=(), commands=(f"run.{request}",), issue="i", key="k"),
        NodeRejected(at=at, request=request, digest="d"),
        NodeImported(at=at, node=node, issue="i", created_at=3, approved_at=at - 7, **_BROUGHT),
        NodeRestored(at=at, to=1, epoch=1, caps=(), commands=("run.y",), issue="j", key="k", created_at=4),
        NodeAbandoned(at=at, to=1, epoch=1, issue="i"),
        NodeRemoved(at=at, issue="i"),
        NodeRenamed(at=at, labelled="tag"),
    )
    return (draw(st.sampled_from(kinds)),)


@st.composite
def _code(draw: st.DrawFn, code: str, at: int) -> tuple[AnyEvent, ...]:
    """One event of a setup code, whether or not it fits."""
    device, uses = draw(st.sampled_from(DEVICES)), draw(st.integers(1, 2))
    issued_code = EnrolmentIssued(
        at=at,
        code=code,
        secret="s",
        key="k",
        profile="node",
        roles=("node",),
        scopes=(),
        uses=uses,
        approves=False,
        expires_at=at + 50,
        minter=None,
        under=None,
        labelled=None,
    )
    kinds: Sequence[AnyEvent] = (
        issued_code,
        issued_code,
        EnrolmentBound(at=at, device=device, key="k"),
        EnrolmentRedeemed(at=at, device=device, key="k", tokens={draw(st.sampled_from(ROLES)): "i"}),
        EnrolmentDelivered(at=at, device=device),
        EnrolmentAcknowledged(at=at, device=device),
        EnrolmentOverused(at=at, device=device),
        EnrolmentRevoked(at=at, request=None),
        EnrolmentExpired(at=at),
    )
    return (draw(st.sampled_from(kinds)),)


@st.composite
def histories(draw: st.DrawFn, most: int = 30) -> list[Act]:
    """A list of commands on a few devices, with gateway events and kinds of the future between them."""
    acts: list[Act] = []
    at = 1_000
    for _ in range(draw(st.integers(1, most))):
        at += draw(st.sampled_from((0, 1, 40)))
        device = draw(st.sampled_from(DEVICES))
        kind = draw(st.integers(0, 20))
        if kind == 0:
            acts.append(Act(GATEWAY_STREAM, (GatewayStopped(at=at, instance="g"),)))
        elif kind == 1:
            meta = b'{"actor":{"kind":"timer"},"command":"c"}'
            raw = Draft("device.quarantined", meta, b'{"kind":"device.quarantined","at":%d}' % at)
            acts.append(Act(device_stream(device), raw=(raw,)))
        elif kind == 15:
            acts.append(Act(device_stream(device), (DeviceForgotten(at=at, rows=1),)))
        elif kind == 16:
            acts.append(Act(node_stream(device), (NodeForgotten(at=at, rows=1),)))
        elif kind > 16:
            # On a device's stream an event of a setup code says nothing.
            code = draw(st.sampled_from(CODES))
            stream = enrolment_stream(code) if kind < 20 else device_stream(device)
            acts.append(Act(stream, draw(_code(code, at)), draw(_persons), draw(_actors)))
        elif kind > 11:
            # On a device's stream an event of a node says nothing.
            stream = node_stream(device) if kind < 14 else device_stream(device)
            acts.append(Act(stream, draw(_surface(device, at)), draw(_persons), draw(_actors)))
        else:
            events = draw(_sound(device, at) if kind % 2 else _odd(device, at))
            acts.append(Act(device_stream(device), events, draw(_persons), draw(_actors)))
    return acts
