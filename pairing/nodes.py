"""The surface of one node: the commands and capabilities it declares, and their approval, which is not that of its device (A11).

Pure: `evolve_node` folds the events of the stream `node:<id>` and never refuses; `decide_node` answers commands, and puts every
question of authority to `authority.may`. Names and addresses are not here.
"""

import hashlib
from typing import Literal, TypeAlias, assert_never

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from . import authority
from .authority import ADMIN, NODE, OPERATOR, PAIRING, WRITE, Target, Verb, tidy
from .commands import (
    EVERYTHING,
    ApproveNode,
    AskNode,
    ForgetNode,
    ImportNode,
    NodeBound,
    NodeCommand,
    RejectNode,
    RemoveNode,
    RenameNode,
    RestoreNode,
)
from .device import REMEMBERED
from .events import (
    NodeAbandoned,
    NodeApproved,
    NodeEvent,
    NodeForgotten,
    NodeImported,
    NodeRejected,
    NodeRemoved,
    NodeRenamed,
    NodeRequested,
    NodeRestored,
    Unknown,
)
from .permits import denial, going_back
from .refusals import Reason, Refused

Events: TypeAlias = tuple[NodeEvent, ...]
Ending: TypeAlias = Literal["approved", "rejected", "superseded"]

# Commands that run programs on the node's host.
_RUNS = frozenset({"system.run", "system.run.prepare", "system.which"})


class NodeAsked(Struct, frozen=True, gc=False):
    """The open request. `asked_at` in ms."""

    request: str
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    digest: str
    asked_at: int


class Approval(Struct, frozen=True, gc=False):
    """The surface that was approved, by which request; its token is derived, never held. `approved_at` in ms.

    An approval that was imported has no request here; `proof` is the keyed hash of its token where another gateway made that.
    """

    request: str
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    issue: str
    key: str
    approved_at: int
    proof: str | None = None


class Answered(Struct, frozen=True, gc=False):
    """A request that has ended, and how; `by` is the id that superseded it. `at` in ms."""

    request: str
    ending: Ending
    at: int
    by: str | None = None


class NodeState(Struct, frozen=True, gc=False):
    """One node's stream, folded. `newer` is set once an event of an unknown kind was met: no decision may follow it."""

    pending: NodeAsked | None = None
    approval: Approval | None = None
    answered: tuple[Answered, ...] = ()
    labelled: str | None = None
    newer: str | None = None

    def ended(self, request: str) -> Answered | None:
        """Return how a request ended, where this state still remembers it."""
        return next((answered for answered in reversed(self.answered) if answered.request == request), None)


EMPTY_NODE = NodeState()


def required_scopes(commands: tuple[str, ...]) -> tuple[str, ...]:
    """Return what an operator must hold to approve these commands (protocol §6.7)."""
    if not _RUNS.isdisjoint(commands):
        return (PAIRING, ADMIN)
    return (PAIRING, WRITE) if commands else (PAIRING,)


def evolve_node(state: NodeState, event: NodeEvent | Unknown) -> NodeState:
    """Fold one event. Total: an event that does not fit leaves what it does not concern as it was."""
    match event:
        case NodeRequested():
            before = state.pending
            if before is not None:
                state = _answer(state, Answered(before.request, "superseded", event.at, event.request))
            return replace(state, pending=NodeAsked(event.request, event.caps, event.commands, event.digest, event.at))
        case NodeApproved():
            approval = Approval(event.request, event.caps, event.commands, event.issue, event.key, event.at)
            return replace(_answer(state, Answered(event.request, "approved", event.at)), approval=approval)
        case NodeRejected():
            return _answer(state, Answered(event.request, "rejected", event.at))
        case NodeRemoved():
            return replace(state, approval=None, labelled=None)
        case NodeRenamed():
            return replace(state, labelled=event.labelled)
        case NodeForgotten():
            return replace(state, labelled=None)
        case NodeRestored():
            proof = state.approval.proof if state.approval and state.approval.issue == event.issue else None
            approval = Approval("", event.caps, event.commands, event.issue, event.key, event.at, proof)
            return replace(state, approval=approval)
        case NodeAbandoned():
            return replace(state, approval=None)
        case NodeImported():
            approval = Approval("", event.caps, event.commands, event.issue, event.key, event.approved_at, event.proof)
            return replace(state, approval=approval)
        case Unknown():
            return replace(state, newer=event.kind)
        case _:
            assert_never(event)


def _answer(state: NodeState, answered: Answered) -> NodeState:
    open_still = state.pending if state.pending and state.pending.request != answered.request else None
    return replace(state, pending=open_still, answered=(*state.answered, answered)[-REMEMBERED:])


def decide_node(state: NodeState, command: NodeCommand) -> Events:
    """Return what follows from a command in a state; `()` means that nothing had to happen. Raises `Refused`."""
    if state.newer is not None:
        raise Refused(Reason.NEWER_WRITER, details={"kind": state.newer})
    match command:
        case AskNode():
            return _ask(state, command)
        case ApproveNode():
            return _approve(state, command)
        case RejectNode():
            return _reject(state, command)
        case RemoveNode():
            return _remove(state, command)
        case RenameNode():
            return _rename(state, command)
        case ForgetNode():
            return _forget(command)
        case RestoreNode():
            return _restore(state, command)
        case ImportNode():
            return adopt_node(state, command)
        case _:
            assert_never(command)


def _ask(state: NodeState, c: AskNode) -> Events:
    if not c.connecting:
        _permit("read", c)
    elif covered(state, c):
        return ()
    old = state.pending
    if old is not None and old.digest == surface_digest(c, old.request):
        return ()
    requested = NodeRequested(
        at=c.now,
        request=c.request,
        node=c.node,
        caps=tidy(c.caps),
        commands=tidy(c.commands),
        platform=c.platform,
        family=c.family,
        model=c.model,
        version=c.version,
        core_version=c.core_version,
        ui_version=c.ui_version,
        silent=c.silent,
        repair=state.approval is not None,
        replaces=old.request if old else None,
        named=c.named,
        digest=surface_digest(c, c.request),
    )
    return (requested,)


def covered(state: NodeState, c: AskNode) -> bool:
    """Say whether a node declares nothing beyond what was approved since its device was paired (A11)."""
    approval = state.approval
    if approval is None or approval.approved_at < c.since:
        return False
    return set(tidy(c.commands)) <= set(approval.commands) and set(tidy(c.caps)) <= set(approval.caps)


def surface_digest(c: AskNode | NodeRequested, request: str) -> str:
    """Return what stands for a surface as a reviewer saw it: 32 hex characters of SHA-256 over all of it."""
    surface = (sorted(tidy(c.caps)), sorted(tidy(c.commands)))
    about = (c.platform, c.family, c.model, c.version, c.core_version, c.ui_version, c.named)
    return hashlib.sha256(msgspec.json.encode(("pairing node v1", request, c.node, surface, about))).hexdigest()[:32]


def _approve(state: NodeState, c: ApproveNode) -> Events:
    _permit("read", c)
    pending, approval = state.pending, state.approval
    if pending is None or pending.request != c.request:
        # The second approver learns of the first (R6).
        if approval is None or approval.request != c.request:
            raise _unknown(state, c.request)
        return ()
    _permit("approve-node", c, required_scopes(pending.commands))
    if not {EVERYTHING, NODE}.isdisjoint(c.terms.reasoned) and not (c.reason or "").strip():
        raise Refused(Reason.REASON_REQUIRED)
    approved = NodeApproved(
        at=c.now,
        request=pending.request,
        digest=pending.digest,
        caps=pending.caps,
        commands=pending.commands,
        issue=c.issue,
        key=c.key,
    )
    return (approved,)


def _reject(state: NodeState, c: RejectNode) -> Events:
    _permit("reject", c)
    pending = state.pending
    if pending is not None and pending.request == c.request:
        return (NodeRejected(at=c.now, request=pending.request, digest=pending.digest),)
    ended = state.ended(c.request)
    if ended is None or ended.ending != "rejected":
        raise _unknown(state, c.request)
    return ()


def _remove(state: NodeState, c: RemoveNode) -> Events:
    _permit("remove-node", c)
    if state.approval is None:
        raise Refused(Reason.UNKNOWN_NODE)
    return (NodeRemoved(at=c.now, issue=state.approval.issue),)


def _rename(state: NodeState, c: RenameNode) -> Events:
    _permit("rename", c)
    if state.approval is None:
        raise Refused(Reason.UNKNOWN_NODE)
    return () if state.labelled == c.labelled else (NodeRenamed(at=c.now, labelled=c.labelled),)


def _forget(c: ForgetNode) -> Events:
    _permit("forget", c)
    return (NodeForgotten(at=c.now, rows=c.rows),) if c.rows else ()


def adopt_node(state: NodeState, c: ImportNode) -> Events:
    """Take over an approval from another gateway's store; one that was given, or answered with no, here stays as it is (V7)."""
    _ask_for("import", c, required_scopes(c.surface.commands), Reason.IMPORT_DENIED)
    if state != NodeState(pending=state.pending):
        return ()
    s = c.surface
    imported = NodeImported(
        at=c.now,
        node=c.node,
        source=c.source,
        caps=tidy(s.caps),
        commands=tidy(s.commands),
        platform=s.platform,
        family=s.family,
        model=s.model,
        version=s.version,
        core_version=s.core_version,
        ui_version=s.ui_version,
        issue=c.issue,
        key=c.key,
        proof=c.proof,
        created_at=c.created_at,
        approved_at=c.approved_at,
    )
    return (imported,)


def _restore(state: NodeState, c: RestoreNode) -> Events:
    """Take the approved surface back to what it was; a token that lives stays, and one that ended stays ended (V7)."""
    now, then = state.approval, c.former
    commands = (*(now.commands if now else ()), *(then.commands if then else ()))
    verb, denied = going_back(c.epoch)
    _ask_for(verb, c, required_scopes(commands), denied)
    if then is None:
        return () if now is None else (NodeAbandoned(at=c.now, to=c.to, epoch=c.epoch, issue=now.issue),)
    if now is not None and set(now.caps) == set(then.caps) and set(now.commands) == set(then.commands):
        return ()
    restored = NodeRestored(
        at=c.now,
        to=c.to,
        epoch=c.epoch,
        caps=then.caps,
        commands=then.commands,
        issue=now.issue if now else c.issue,
        key=now.key if now else c.key,
        created_at=then.created_at,
    )
    return (restored,)


def _ask_for(verb: Verb, c: NodeBound, scopes: tuple[str, ...], denied: Reason) -> None:
    ruling = authority.may(verb, c.by, Target(c.node, ((OPERATOR, scopes),)))
    if not ruling.allowed:
        raise denial(ruling, denied)


def _unknown(state: NodeState, request: str) -> Refused:
    return unknown_node_request(state.ended(request))


def unknown_node_request(ended: Answered | None) -> Refused:
    """Build the refusal for a request that cannot be answered (any more): the wire's words, and what became of it."""
    see = "See what is open: pairing nodes pending"
    if ended is None:
        return Refused(Reason.UNKNOWN_REQUEST, fate=see)
    details = {"outcome": ended.ending, "atMs": ended.at, **({"supersededBy": ended.by} if ended.by else {})}
    return Refused(Reason.UNKNOWN_REQUEST, fate=f"It was {ended.ending}. {see}", details=details)


def _permit(verb: Verb, c: NodeBound, scopes: tuple[str, ...] = ()) -> None:
    ruling = authority.may(verb, c.by, Target(c.node, ((OPERATOR, scopes),)))
    if ruling.allowed:
        return
    if ruling.scope is not None:
        raise Refused(Reason.MISSING_SCOPE, scope=ruling.scope)
    raise Refused(Reason.NODE_DENIED, rule=ruling.rule)
