"""A node's surface is asked for, approved, ended and named: the decisions, without a log."""

from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from pairing.commands import ApproveNode, AskNode, Caller, RejectNode, RemoveNode, RenameNode, Terms
from pairing.events import Actor, Unknown, kind_of
from pairing.nodes import EMPTY_NODE, NodeState, decide_node, evolve_node, required_scopes
from pairing.refusals import Reason, Refused
from pairing.tokens import GatewayKey, Keyring

NODE = "n" * 64
PAIRING, WRITE, ADMIN = "operator.pairing", "operator.write", "operator.admin"
NUMBERS = count()


def caller(*scopes, own=None, ceiling=()):
    return Caller(actor=Actor(kind="device", id="op"), scopes=scopes, own=own, ceiling=ceiling)


ROOT = caller(ADMIN, PAIRING)
ITSELF = caller(own=NODE)


def stamp(by, now):
    return {"id": f"c-{next(NUMBERS)}", "now": now, "by": by, "node": NODE}


def ask(*commands, caps=(), by=ROOT, request=None, now=1_000, connecting=False, since=0, named="n", **more):
    request = request or f"r-{next(NUMBERS)}"
    base = stamp(ITSELF if connecting else by, now)
    return AskNode(**base, request=request, caps=caps, commands=commands, named=named, connecting=connecting, since=since, **more)


def approve(request, by=ROOT, now=2_000):
    return ApproveNode(**stamp(by, now), request=request, issue=f"i-{next(NUMBERS)}", key=KEY.id)


def reject(request, by=ROOT):
    return RejectNode(**stamp(by, 2_000), request=request)


def remove(by=ROOT):
    return RemoveNode(**stamp(by, 3_000))


def rename(labelled="tag", by=ROOT):
    return RenameNode(**stamp(by, 3_000), labelled=labelled)


KEY = GatewayKey(b"k" * 32)
RING = Keyring(KEY)


@dataclass
class Tale:
    state: NodeState = EMPTY_NODE
    events: tuple = ()
    history: list = field(default_factory=list)

    def when(self, *commands):
        for command in commands:
            self.events = decide_node(self.state, command)
            for event in self.events:
                self.state = evolve_node(self.state, event)
            self.history += [kind_of(event) for event in self.events]
        return self

    def refused(self, command):
        before = self.state
        with pytest.raises(Refused) as caught:
            self.when(command)
        assert self.state == before
        return caught.value


@pytest.fixture
def tale():
    return Tale()


@pytest.mark.parametrize(
    ("commands", "needed"),
    [
        ((), (PAIRING,)),
        (("camera.snap",), (PAIRING, WRITE)),
        (("weird.cmd", "system.runner"), (PAIRING, WRITE)),
        (("system.run",), (PAIRING, ADMIN)),
        (("camera.snap", "system.run.prepare"), (PAIRING, ADMIN)),
        (("system.which",), (PAIRING, ADMIN)),
    ],
)
def test_what_an_approver_must_hold_follows_from_the_commands(tale, commands, needed):
    """Protocol §6.7, A11: pairing for none, write for any, admin for those that run programs; one less is refused by name."""
    assert required_scopes(commands) == needed
    tale.when(ask(*commands, request="r"))
    if needed[1:]:
        refused = tale.refused(approve("r", caller(PAIRING)))
        assert (refused.reason, refused.message) == (Reason.MISSING_SCOPE, f"missing scope: {needed[1]}")
    tale.when(approve("r", caller(*needed)))
    assert tale.state.approval.commands == commands


def test_being_local_lends_nothing_towards_commands(tale):
    """A11: what a node may run is approved with scopes that were asked for, never with a local session's ceiling."""
    tale.when(ask("system.run", request="r"))
    assert tale.refused(approve("r", caller(PAIRING, ceiling=(ADMIN,)))).fields["scope"] == ADMIN


def test_the_same_ask_again_is_the_same_request(tale):
    """NP-03: nothing new where nothing changed, in whatever order things are listed."""
    tale.when(ask("a", "b", caps=("x", "y"), request="first"))
    assert tale.when(ask("b", "a", "b", caps=("y", "x"))).events == ()
    assert tale.state.pending.request == "first"


@pytest.mark.parametrize("change", [{"caps": ("x",)}, {"version": "2"}, {"named": "other"}, {"platform": "macos"}])
def test_a_request_is_never_changed_under_its_reviewer(tale, change):
    """R3: whatever a reviewer would see otherwise is another request, and the one before can no longer be approved."""
    tale.when(ask("a", request="first"), ask("a", request="second", **change))
    (event,) = tale.events
    assert (event.request, event.replaces) == ("second", "first")
    refused = tale.refused(approve("first"))
    assert refused.reason is Reason.UNKNOWN_REQUEST
    assert refused.details == {"outcome": "superseded", "atMs": 1_000, "supersededBy": "second"}


def test_a_node_that_connects_asks_for_what_was_not_approved(tale):
    """NP-01, A11: a first surface and a wider one are asked for; the approved one and less of it are not."""
    tale.when(ask("a", "b", caps=("x",), connecting=True, request="r"))
    assert tale.history == ["node.requested"]
    tale.when(approve("r"))
    assert tale.when(ask("a", caps=("x",), connecting=True)).events == ()
    tale.when(ask("a", "c", connecting=True, request="wider"))
    assert tale.state.pending.commands == ("a", "c")
    assert tale.state.approval.commands == ("a", "b")
    tale.when(reject("wider"), ask("a", caps=("y",), connecting=True))
    assert tale.events[0].repair is True


def test_an_approval_does_not_outlive_the_pairing_of_its_device(tale):
    """A11: a device that was removed and paired anew asks again for what its predecessor was approved for."""
    tale.when(ask("a", connecting=True, request="r", since=900), approve("r", now=2_000))
    assert tale.when(ask("a", connecting=True, since=2_000)).events == ()
    tale.when(ask("a", connecting=True, since=2_001))
    assert tale.state.pending is not None


def test_the_second_answer_learns_of_the_first(tale):
    """R6: the same answer again is nothing, another one is refused with the truth."""
    tale.when(ask("system.run", request="r"), approve("r"))
    assert tale.when(approve("r")).events == ()
    assert tale.when(approve("r", caller(PAIRING))).events == ()
    assert tale.refused(reject("r")).details["outcome"] == "approved"
    tale.when(ask("b", request="s"), reject("s"))
    assert tale.when(reject("s")).events == ()
    assert tale.refused(approve("s")).details["outcome"] == "rejected"
    assert tale.refused(approve("never")).details == {}


def test_removal_ends_the_approval_and_its_token(tale):
    """T3: the token of an approval that ended, or was replaced, is no token any more."""
    tale.when(ask(request="r"), approve("r"))
    token = RING.node_token(tale.state, NODE)
    assert RING.is_node_token(tale.state, NODE, token)
    assert not RING.is_node_token(tale.state, "other", token)
    assert not RING.is_node_token(tale.state, NODE, token[:-1])
    assert not RING.is_node_token(tale.state, NODE, "\ud800")
    assert token != KEY.token(NODE, "node", tale.state.approval.issue)
    tale.when(ask("a", request="s"), approve("s"))
    assert not RING.is_node_token(tale.state, NODE, token)
    tale.when(remove())
    assert RING.node_token(tale.state, NODE) is None
    assert tale.refused(remove()).message == "unknown nodeId"


def test_a_name_is_for_approved_nodes(tale):
    """A name is given once; it goes with the approval."""
    assert tale.refused(rename()).reason is Reason.UNKNOWN_NODE
    tale.when(ask(request="r"), approve("r"), rename("one"))
    assert tale.when(rename("one")).events == ()
    tale.when(remove())
    assert tale.state.labelled is None


@pytest.mark.parametrize("command", [ask("a"), approve("r"), reject("r"), remove(), rename()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize(
    ("by", "reason"),
    [
        (caller(), Reason.MISSING_SCOPE),
        (caller(WRITE), Reason.MISSING_SCOPE),
        (Caller(actor=Actor(kind="device"), scopes=None), Reason.NODE_DENIED),
        (caller(PAIRING, own="somebody"), Reason.NODE_DENIED),
    ],
)
def test_who_may_nothing_does_nothing(tale, command, by, reason):
    """A2, A7, A14: without rights of pairing, or bound to another device, nobody asks, answers, ends or names."""
    tale.when(ask(request="r"))
    assert tale.refused(replace(command, by=by)).reason is reason


def test_a_future_event_stops_decisions(tale):
    """D3: what a newer version wrote is not decided over."""
    tale.state = evolve_node(tale.state, Unknown(kind="node.locked", raw=b"{}"))
    assert tale.refused(ask()).reason is Reason.NEWER_WRITER
    with pytest.raises(AssertionError):
        decide_node(EMPTY_NODE, SimpleNamespace(now=0))


@pytest.mark.parametrize("rule", ["*", "node"])
def test_what_a_node_may_run_takes_a_reason_where_the_policy_asks_for_one(rule):
    """The same terms as for letting it in; a rule for operators' scopes does not concern it."""
    tale = Tale().when(ask(request="r"))
    command = approve("r")
    assert tale.refused(replace(command, terms=Terms((), (rule,)))).reason is Reason.REASON_REQUIRED
    tale.when(replace(command, terms=Terms((), ("operator.admin",))))
    again = Tale().when(ask(request="r"))
    again.when(replace(command, terms=Terms((), (rule,)), reason="the porch camera"))
    assert tale.history == again.history == ["node.requested", "node.approved"]
