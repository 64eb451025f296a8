"""Approvals that take several: distinct principals, one digest, and everybody still entitled when the last one speaks.

`Hall` does for these stories what the desk does for the service: it tells a decision what the devices it leans on hold.
"""

from functools import reduce

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pairing import quorum
from pairing.answering import approvers_needed
from pairing.authority import OPERATOR_SCOPES
from pairing.commands import Caller, Quorum, Standing, Terms
from pairing.decide import decide
from pairing.events import Actor, kind_of
from pairing.evolve import evolve
from pairing.refusals import Reason, Refused
from pairing.standing import lapsed, stands

ADMIN, PAIRING, READ, WRITE = ("operator.admin", "operator.pairing", "operator.read", "operator.write")
TWO = Terms((Quorum(ADMIN, 2),))
ASKER = "d" * 64
BY_SECRET = Caller(actor=Actor("shared-secret"), scopes=(ADMIN,))
BY_HOST = Caller(actor=Actor("local", "0"), scopes=OPERATOR_SCOPES)
CAST, DONE = ["request.endorsed"], ["request.endorsed", "request.approved", "device.paired", "token.issued"]


class Hall:
    """Several devices, each a story of its own; `asker` is the one whose request is voted on."""

    def __init__(self, make, story, terms=TWO):
        self.make, self.terms, self.under = make, terms, "S1"
        self.stories = {ASKER: type(story)()}
        self._story = type(story)

    @property
    def asker(self):
        return self.stories[ASKER]

    def operator(self, name, *scopes):
        """Pair an operator, before any rule asks for several."""
        number = next(self.make.numbers)
        self.make.device = name
        story = self.stories.setdefault(name, self._story())
        story.given(self.make.knock(*(scopes or (ADMIN,)), request=f"in-{number}"), self.make.approve(f"in-{number}"))
        self.make.device = ASKER
        return name

    def of(self, name, **more):
        """The caller of a session by a device's own token."""
        token = self.stories[name].state.token("operator")
        standing = Standing(name, "operator", token.issue if token else "none")
        return Caller(actor=Actor("device", name), scopes=token.scopes if token else (), standing=standing, **more)

    def on(self, name, command):
        """Do something to another device than the asker."""
        self.stories[name].when(replace(command, device=name))
        assert self.stories[name].refusal is None, self.stories[name].refusal

    def approve(self, by, request="r", **more):
        """Vote, as the desk would have it decided, and return the kinds of what followed."""
        command = replace(self.make.approve(request, by, under=self.under), terms=self.terms, **more)
        if by.standing is not None and not stands(self.stories[by.standing.device].state, by.standing, self.make.now):
            return Reason.FENCED
        leans = [
            (device, lapsed(self.stories[device].state, self.make.now)) for device in quorum.leans_on(self.asker.state, command)
        ]
        self.asker.when(replace(command, present=quorum.standings(leans, self.under)))
        return self.asker.refusal.reason if self.asker.refusal else [kind_of(event) for event in self.asker.events]

    def ask(self, *scopes, **more):
        self.asker.given(self.make.knock(*(scopes or (ADMIN,)), **{"request": "r", **more}))
        return self

    @property
    def voters(self):
        return [vote.voter for vote in self.asker.pending.votes]


@pytest.fixture
def hall(make, story):
    built = Hall(make, story)
    for name in "abc":
        built.operator(name)
    return built.ask()


def test_two_operators_approve_what_takes_two(hall):
    """A1, R2: the first is recorded and grants nothing; the second grants exactly the digest both were shown."""
    assert hall.approve(hall.of("a")) == CAST
    assert hall.asker.state.grant is None
    digest = hall.asker.pending.digest
    assert hall.approve(hall.of("b")) == DONE
    endorsed, approved, *_ = hall.asker.events
    assert endorsed.digest == approved.digest == digest
    assert hall.asker.scopes() == (ADMIN, READ, WRITE)


def test_a_voter_counts_once_by_whatever_credential(hall):
    """Votes are of principals: the same device again, or by the shared secret, or the shared secret of two places, is one."""
    assert hall.approve(hall.of("a")) == CAST
    assert hall.approve(hall.of("a")) == []
    again = replace(BY_SECRET, actor=Actor("shared-secret", "a"), standing=Standing("a", "operator", None))
    assert hall.approve(again) == []
    assert hall.voters == ["device:a"]
    assert hall.approve(BY_SECRET) == DONE


def test_the_shared_secret_is_one_principal_and_the_hosts_user_another(hall):
    """Whoever knows the secret is the same voter, from any device; a user of the host is one by uid."""
    assert hall.approve(replace(BY_SECRET, actor=Actor("shared-secret", "x" * 64))) == CAST
    assert hall.approve(replace(BY_SECRET, actor=Actor("shared-secret", "y" * 64))) == []
    assert hall.approve(BY_HOST) == DONE


def test_who_asks_does_not_approve(make, story):
    """A21: an operator's own request for more is for others to approve, whatever it holds or came in by."""
    hall = Hall(make, story)
    hall.operator(ASKER, PAIRING)
    hall.operator("a")
    hall.ask(PAIRING, ADMIN)
    own = replace(hall.of(ASKER), scopes=(ADMIN,))
    assert hall.approve(own) is Reason.OWN_VOTE
    assert hall.approve(replace(BY_SECRET, actor=Actor("shared-secret", ASKER))) is Reason.OWN_VOTE
    assert hall.approve(hall.of("a")) == CAST
    assert hall.approve(own) is Reason.OWN_VOTE


@pytest.mark.parametrize(
    ("loses", "how"),
    [
        (True, "revoke"),
        (True, "remove"),
        (True, "narrow"),
        (True, "rotate"),
        (True, "back"),
        (True, "lock"),
        (False, "rename"),
        (False, "node"),
    ],
)
def test_a_vote_lapses_with_what_it_was_cast_by(hall, make, loses, how):
    """A1, R8: a voter who was revoked, removed, narrowed, rotated or paired anew counts no longer, and that is said."""
    assert hall.approve(hall.of("a")) == CAST
    if how in {"remove", "back"}:
        hall.on("a", make.remove())
        if how == "back":
            hall.operator("a")
    elif how == "node":
        hall.on("a", make.knock("node.exec", role="node"))
    else:
        done = {
            "revoke": make.revoke(),
            "narrow": make.rotate(scopes=(PAIRING,)),
            "rotate": make.rotate(),
            "rename": make.rename("tag"),
            "lock": make.lock(),
        }
        hall.on("a", done[how])
    if not loses:
        assert hall.approve(hall.of("b")) == DONE
        return
    assert hall.approve(hall.of("b")) == ["request.unendorsed", "request.endorsed"]
    assert hall.asker.events[0].voters == ("device:a",)
    assert hall.asker.events[0].why == "lapsed"
    assert hall.voters == ["device:b"]
    assert [(gone.voter, gone.why) for gone in hall.asker.state.voided] == [("device:a", "lapsed")]
    assert hall.approve(hall.of("c")) == DONE


def test_a_vote_by_the_secret_ends_with_the_secret(hall):
    """T6: what an older shared secret vouched for counts no longer once it is replaced."""
    assert hall.approve(BY_SECRET) == CAST
    hall.under = "S2"
    assert hall.approve(hall.of("b")) == ["request.unendorsed", "request.endorsed"]


@pytest.mark.parametrize(("knock", "why"), [({"seen": "seen-2"}, "changed"), ({"role": "node"}, "superseded")])
def test_a_request_that_changes_loses_its_votes_visibly(hall, make, knock, why):
    """R2: votes are for what was shown; what it is now needs all of them again."""
    assert hall.approve(hall.of("a")) == CAST
    before, state = hall.asker.pending.request, hall.asker.state
    hall.asker.when(make.knock(*(() if "role" in knock else (ADMIN,)), request="s", **knock))
    assert kind_of(hall.asker.events[0]) == "request.unendorsed"
    assert (hall.asker.events[0].request, hall.asker.events[0].why) == (before, why)
    assert hall.voters == []
    # Nor would they count where the word that they do not were missing.
    assert reduce(evolve, hall.asker.events[1:], state).pending.votes == ()
    now = hall.asker.pending.request
    assert hall.approve(hall.of("b"), now) == CAST
    assert hall.approve(hall.of("a"), now)[:3] == DONE[:3]


def test_a_request_that_is_merely_kept_alive_keeps_its_votes(hall, make):
    """R4: a retry that shows a reviewer nothing new counts its life anew and voids nothing."""
    assert hall.approve(hall.of("a")) == CAST
    make.now += 200_000
    hall.asker.when(make.knock(ADMIN)).then("request.refreshed")
    assert hall.voters == ["device:a"]


def test_a_rejection_takes_the_votes_with_it(hall, make):
    """R5: an operator who has second thoughts rejects; nothing that was cast is left."""
    assert hall.approve(hall.of("a")) == CAST
    hall.asker.when(make.reject("r", hall.of("a"))).then("request.rejected")
    assert hall.approve(hall.of("b")) is Reason.UNKNOWN_REQUEST


def test_nobody_votes_for_what_they_do_not_hold(hall, make):
    """A1: each of several must hold the whole of it, when they vote and when it is granted."""
    hall.operator("p", PAIRING)
    assert hall.approve(hall.of("p")) is Reason.MISSING_SCOPE
    assert hall.approve(make.nobody) is Reason.APPROVAL_DENIED
    assert hall.approve(make.caller(PAIRING, ADMIN, own="other")) is Reason.APPROVAL_DENIED


def test_what_the_desk_has_not_looked_at_does_not_count(hall, make):
    """R8: a vote whose voter nobody has looked at in this step counts for nothing; nor does a voter who cannot be looked at."""
    assert hall.approve(hall.of("a")) == CAST
    command = replace(make.approve("r", hall.of("b")), terms=TWO)
    with pytest.raises(Refused) as refusal:
        decide(hall.asker.state, command)
    assert refusal.value.reason is Reason.FENCED
    (mine,) = quorum.standings([("b", hall.stories["b"].state)], "S1")
    kinds = [kind_of(event) for event in decide(hall.asker.state, replace(command, present=(mine,)))]
    assert kinds == ["request.unendorsed", "request.endorsed"]


# --- which requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "role", "scopes", "needs"),
    [
        (ADMIN, "operator", (ADMIN,), 3),
        (ADMIN, "operator", (PAIRING, READ, WRITE), 1),
        (PAIRING, "operator", (ADMIN,), 3),
        (READ, "operator", (WRITE,), 3),
        ("operator", "operator", (READ,), 3),
        ("operator", "node", (), 1),
        ("node", "node", (), 3),
        ("node.exec", "node", ("node.exec",), 3),
        ("node.exec", "node", ("node.look",), 1),
        ("node.exec", "operator", (ADMIN,), 1),
        ("*", "node", (), 3),
        ("*", "operator", (), 3),
    ],
)
def test_a_rule_is_for_a_scope_a_role_or_everything(story, make, what, role, scopes, needs):
    """What gives a scope by implication counts as giving it (A17); the strictest rule holds."""
    story.given(make.knock(*scopes, role=role, request="r"))
    terms = Terms((Quorum(what, 3), Quorum("operator.talk.secrets", 2) if what != PAIRING else Quorum(PAIRING, 2)))
    expected = needs if needs > 1 or ADMIN not in scopes else 2
    assert approvers_needed(story.state, terms, "S1") == expected
    assert approvers_needed(story.state, Terms(), "S1") == 1


def test_what_a_device_has_already_takes_no_second_opinion_unless_it_is_asked_for_again(paired, make):
    """A10, A12: an admin that asks for more besides is nobody's second vote; one that comes back from the dead is."""
    story = paired(ADMIN).given(make.knock("node.exec", role="node", request="n"))
    assert approvers_needed(story.state, TWO, "S1") == 1
    dead = paired(ADMIN).given(make.revoke(), make.knock(request="back"))
    assert approvers_needed(dead.state, TWO, "S1") == 2
    anew = paired(ADMIN).given(make.knock(ADMIN, platform="android", request="moved"))
    assert approvers_needed(anew.state, TWO, "S1") == 2


@pytest.mark.parametrize("terms", [TWO, Terms((), (ADMIN,)), Terms((Quorum("*", 2),)), Terms((), ("*",))])
def test_what_takes_several_or_a_reason_is_never_silent(story, make, terms):
    """A19, N7: silence has one voice and no words; a person must look, and what falls under no rule is silent as before."""
    story.when(replace(make.knock(ADMIN, silence=make.silence(), request="r"), terms=terms)).then("request.opened")
    other = type(story)().when(replace(make.knock(READ, silence=make.silence()), terms=terms))
    narrow = "*" not in (terms.reasoned or (terms.quorums[0].what,))
    assert (other.state.grant is not None) == narrow


def test_an_approval_that_must_say_why_is_refused_without(story, make):
    """Every approval or that of chosen scopes takes a reason; blanks are none."""
    story.given(make.knock(ADMIN, request="r"))
    must = replace(make.approve("r"), terms=Terms((), (ADMIN,)))
    story.when(must).refused(Reason.REASON_REQUIRED)
    story.when(replace(must, reason="  ")).refused(Reason.REASON_REQUIRED)
    story.when(replace(must, reason="new laptop")).then("request.approved", "device.paired", "token.issued")
    reader = type(story)().given(make.knock(READ, request="r"))
    reader.when(replace(make.approve("r"), terms=Terms((), (ADMIN,)))).then("request.approved", "device.paired", "token.issued")


# --- any order -----------------------------------------------------------------------------------------------------

names = st.sampled_from("abc")
acts = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["token", "secret"]), names),
        st.tuples(st.sampled_from(["bare", "host"]), st.just("a")),
        st.tuples(st.sampled_from(["revoke", "rotate", "narrow", "remove", "operator"]), names),
        st.tuples(st.sampled_from(["change", "widen", "again"]), st.just("a")),
    ),
    max_size=14,
)


@settings(
    max_examples=300,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(acts=acts, most=st.integers(2, 4))
def test_never_granted_below_the_number_nor_by_who_may_no_longer(make, story, acts, most):
    """A1, R2, R8: beside a register on paper: granted exactly when so many voters stand who were shown this very request.

    On paper a voter is a name; what they voted with is the name's generation, which every change of their access raises.
    """
    hall = Hall(type(make)(), story, Terms((Quorum(ADMIN, most),)))
    generation = {name: (hall.operator(name), 0)[1] for name in "abc"}
    holds = dict.fromkeys("abc", True)
    paper = {}
    hall.ask()
    for number, (act, name) in enumerate(acts):
        if act in {"token", "secret", "bare", "host"}:
            paired = hall.stories[name].state.grant is not None
            if act in {"token", "secret"} and not (paired and holds[name]):
                continue
            standing = Standing(name, "operator", None)
            by_both = replace(BY_SECRET, actor=Actor("shared-secret", name), standing=standing)
            caller = {"token": hall.of(name), "secret": by_both, "bare": BY_SECRET, "host": BY_HOST}[act]
            principal = {"token": name, "secret": "secret", "bare": "secret", "host": "host"}[act]
            device = name if act in {"token", "secret"} else None
            paper = {
                who: vote for who, vote in paper.items() if vote[0] is None or (holds[vote[0]] and generation[vote[0]] == vote[1])
            }
            taken = principal in paper or (device is not None and any(vote[0] == device for vote in paper.values()))
            if not taken:
                paper[principal] = (device, generation[device] if device else 0)
            kinds = hall.approve(caller, hall.asker.pending.request)
            assert isinstance(kinds, list), kinds
            assert ("request.endorsed" in kinds) == (not taken)
            assert (hall.asker.state.grant is not None) == (len(paper) >= most)
            if hall.asker.state.grant is not None:
                return
            assert len(hall.voters) == len(paper)
        elif act == "change":
            hall.asker.given(hall.make.knock(ADMIN, seen=f"changed-{number}"))
            paper = {}
        elif act == "widen":
            hall.asker.given(hall.make.knock(role="node", seen=hall.asker.pending.seen))
            if any(kind_of(event) == "request.opened" for event in hall.asker.events):
                paper = {}
        elif act == "again":
            hall.asker.given(hall.make.knock(ADMIN, seen=hall.asker.pending.seen))
        elif hall.stories[name].state.grant is not None:
            generation[name] += 1
            holds[name] = act in {"rotate", "operator"} and holds[name]
            if act == "operator":
                hall.on(name, hall.make.remove())
                hall.operator(name)
                holds[name] = True
            else:
                ends = {"revoke": hall.make.revoke, "rotate": hall.make.rotate, "remove": hall.make.remove}
                hall.on(name, ends[act]() if act in ends else hall.make.rotate(scopes=(READ,)))
                if act == "rotate":
                    holds[name] = hall.stories[name].live() and ADMIN in hall.stories[name].scopes()
        elif act == "operator":
            generation[name] += 1
            hall.operator(name)
            holds[name] = True
