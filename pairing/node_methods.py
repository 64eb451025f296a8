"""The methods about what nodes may run (protocol §6.7): their parameters, their answers, and what they do.

Like the others they decide nothing: see `pairing.nodes`. Who may connect is no matter of theirs (A11).
"""

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Struct

from . import authority, ids, moments, node_entries
from .authority import PAIRING, Target
from .commands import ApproveNode, AskNode, RejectNode, RemoveNode, RenameNode
from .events import NodeRequested, Personal
from .moments import AsOf
from .node_entries import NodePairedEntry, NodePendingEntry
from .nodes import NodeState, unknown_node_request
from .refusals import Reason, Refused
from .service import Call, Method, Params, Reasoned, Receipt, Repeatable, receipt
from .shapes import Name
from .standing import lapsed

Short: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern="^[^\\x00]*$")]
Item: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Listed: TypeAlias = Annotated[tuple[Item, ...], msgspec.Meta(max_length=512)]


class NodeAskParams(Params, frozen=True, kw_only=True):
    """What a node is said to be and to declare."""

    node_id: Short
    display_name: Short | None = None
    platform: Short | None = None
    version: Short | None = None
    core_version: Short | None = None
    ui_version: Short | None = None
    device_family: Short | None = None
    model_identifier: Short | None = None
    caps: Listed = ()
    commands: Listed = ()
    remote_ip: Short | None = None
    silent: bool = False


class NodeAnswerParams(Repeatable, frozen=True, kw_only=True):
    """One request for a node's surface, by its id."""

    request_id: Name


class NodeRemoveParams(Repeatable, frozen=True, kw_only=True):
    """One node by its id."""

    node_id: Name


class NodeRenameParams(Reasoned, frozen=True, kw_only=True):
    """A name of 1 to 64 characters after trimming."""

    node_id: Name
    display_name: str


class NodeVerifyParams(Params, frozen=True, kw_only=True):
    """A node's id and what may be its token."""

    node_id: Name
    token: Name

    def __repr__(self) -> str:
        return f"NodeVerifyParams(node_id={self.node_id!r}, token=…)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("node_id", self.node_id), ("token", "…")]


class NodeAsked(Struct, frozen=True, kw_only=True):
    """The answer to `node.pair.request`. `created` false: the same had been asked before and is still open."""

    status: str = "pending"
    request: NodePendingEntry
    created: bool


class NodePairList(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The answer to `node.pair.list`: the protocol's two keys, and of the past the position it was true at and when that was."""

    pending: tuple[NodePendingEntry, ...]
    paired: tuple[NodePairedEntry, ...]
    position: int | None = None
    recorded_at_ms: int | None = None


class NodeApproved(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `node.pair.approve`: the only place where the node's token is handed out."""

    request_id: str
    node: NodePairedEntry | None = None
    recorded: Receipt | None = None


class NodeRejected(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `node.pair.reject`."""

    request_id: str
    node_id: str
    recorded: Receipt | None = None


class NodeRemoved(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `node.pair.remove`."""

    node_id: str
    recorded: Receipt | None = None


class NodeRenamed(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `node.rename`."""

    node_id: str
    display_name: str
    recorded: Receipt | None = None


class NodeVerified(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The answer to `node.pair.verify`."""

    ok: bool
    node: NodePairedEntry | None = None


async def node_pair_request(call: Call[NodeAskParams]) -> NodeAsked:
    """Ask for approval of a node's surface (protocol §6.7)."""
    service, p = call.service, call.params
    stamp = call.stamp()
    stamp["personal"] = personal = Personal(salt=ids.salt(), name=p.display_name, address=p.remote_ip)
    command = AskNode(
        node=_node_id(p.node_id),
        request=ids.request_id(),
        caps=p.caps,
        commands=p.commands,
        platform=p.platform,
        family=p.device_family,
        model=p.model_identifier,
        version=p.version,
        core_version=p.core_version,
        ui_version=p.ui_version,
        silent=p.silent,
        named=service.keyring.current.tag("named", p.display_name),
        **stamp,
    )
    handled = await service.desk.handle_node(command)
    if handled.events and isinstance(event := handled.events[0], NodeRequested):
        return NodeAsked(request=node_entries.announced(event, personal), created=True)
    rows = (await service.views.node_requests(node=command.node)).rows
    if not rows:
        # It was open when this was decided, and has been answered since.
        raise Refused(Reason.BUSY)
    return NodeAsked(request=node_entries.asked(rows[0]), created=False)


async def node_pair_list(call: Call[AsOf]) -> NodePairList:
    """List the open requests for nodes' surfaces, and the approved nodes; a session bound to its device sees its own."""
    service, own, when = call.service, call.caller.own, await moments.of(call)
    pending = await service.views.node_requests(node=own, at=when.at)
    paired = await service.views.nodes(node=own, at=when.at)
    live = {} if when.past else service.sessions.nodes()
    return NodePairList(
        tuple(node_entries.asked(row) for row in pending.rows),
        tuple(node_entries.approved(row, row.node in live) for row in paired.rows),
        when.at,
        when.recorded_at if when.past else None,
    )


async def node_pair_approve(call: Call[NodeAnswerParams]) -> NodeApproved:
    """Approve exactly one request for a node's surface, and hand its approver the node's token (protocol §6.7)."""
    service, request = call.service, call.params.request_id
    node = await _asking_node(call, request)
    key = service.keyring.current.id
    handled = await service.desk.handle_node(
        ApproveNode(
            node=node,
            request=request,
            issue=ids.issue_id(),
            key=key,
            terms=service.terms,
            **call.stamp("node.pair.approve", request),
        )
    )
    # Who only hears that it was approved before has held nothing against its commands.
    token = service.keyring.node_token(handled.state, node) if handled.events and not handled.repeated else None
    return NodeApproved(
        request_id=request,
        node=await _approved_node(call, node, token),
        recorded=receipt(call.params, handled),
    )


async def node_pair_reject(call: Call[NodeAnswerParams]) -> NodeRejected:
    """Say no to exactly one request for a node's surface (protocol §6.7)."""
    request = call.params.request_id
    node = await _asking_node(call, request)
    handled = await call.service.desk.handle_node(
        RejectNode(node=node, request=request, **call.stamp("node.pair.reject", request))
    )
    return NodeRejected(request_id=request, node_id=node, recorded=receipt(call.params, handled))


async def node_pair_remove(call: Call[NodeRemoveParams]) -> NodeRemoved:
    """End the approval of a node's surface; its sessions stay (protocol §6.7)."""
    node = _node_id(call.params.node_id)
    handled = await call.service.desk.handle_node(RemoveNode(node=node, **call.stamp("node.pair.remove", node)))
    return NodeRemoved(node_id=node, recorded=receipt(call.params, handled))


async def node_pair_verify(call: Call[NodeVerifyParams]) -> NodeVerified:
    """Say whether a token is that of a node's approval (protocol §6.7)."""
    service, node = call.service, _node_id(call.params.node_id)
    if not authority.may("read", call.caller, Target(node)).allowed:
        raise Refused(Reason.NODE_DENIED)
    state = await service.desk.node(node)
    if not service.keyring.is_node_token(state, node, call.params.token) or not await _stands(call, node, state):
        return NodeVerified(ok=False)
    return NodeVerified(ok=True, node=await _approved_node(call, node))


async def _stands(call: Call[Any], node: str, state: NodeState) -> bool:
    """Say whether what a node was approved for outlived the device behind it, where there ever was one (V3)."""
    device = lapsed(await call.service.desk.device(node), call.service.clock())
    if state.newer is not None or device.newer is not None or device.lock is not None:
        return False
    return device.gone_at is None or (state.approval is not None and state.approval.approved_at >= device.gone_at)


async def node_rename(call: Call[NodeRenameParams]) -> NodeRenamed:
    """Name an approved node (protocol §6.7)."""
    node, name = _node_id(call.params.node_id), call.params.display_name.strip()
    if not 1 <= len(name) <= 64:
        raise Refused(Reason.NODE_NAME_REQUIRED)
    stamp = call.stamp()
    stamp["personal"] = Personal(salt=ids.salt(), label=name, address=call.caller.address)
    labelled = call.service.keyring.current.tag("label", name)
    handled = await call.service.desk.handle_node(RenameNode(node=node, labelled=labelled, **stamp))
    return NodeRenamed(node_id=node, display_name=name, recorded=receipt(call.params, handled))


def _node_id(text: str) -> str:
    if not text.strip():
        raise Refused(Reason.NODE_REQUIRED)
    return text.strip()


async def _asking_node(call: Call[Any], request: str) -> str:
    """Find whose request an id is. A session bound to its device learns nothing of others (A8)."""
    node, own = await call.service.views.node_of(request), call.caller.own
    if own is not None and node != own:
        raise Refused(Reason.NODE_DENIED)
    if node is None:
        raise unknown_node_request(None)
    return node


async def _approved_node(call: Call[Any], node: str, token: str | None = None) -> NodePairedEntry | None:
    rows = (await call.service.views.nodes(node=node)).rows
    return node_entries.approved(rows[0], node in call.service.sessions.nodes(), token) if rows else None


METHODS: tuple[Method[Any], ...] = (
    Method("node.pair.request", NodeAskParams, node_pair_request, PAIRING),
    Method("node.pair.list", AsOf, node_pair_list, PAIRING),
    Method("node.pair.approve", NodeAnswerParams, node_pair_approve, PAIRING),
    Method("node.pair.reject", NodeAnswerParams, node_pair_reject, PAIRING),
    Method("node.pair.remove", NodeRemoveParams, node_pair_remove, PAIRING),
    Method("node.pair.verify", NodeVerifyParams, node_pair_verify, PAIRING),
    Method("node.rename", NodeRenameParams, node_rename, PAIRING),
)
