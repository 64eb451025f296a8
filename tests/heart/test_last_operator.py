"""The last operator: which answers leave a device unable to approve, and on what terms that may be (A22). Pure, one device."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pairing import operators
from pairing.authority import OPERATOR_SCOPES
from pairing.commands import Ban, Caller
from pairing.decide import decide
from pairing.events import Actor, GlassBroken, Unknown, kind_of
from pairing.evolve import evolve
from pairing.knocking import HOUR_MS
from pairing.refusals import Reason, Refused
from pairing.standing import lapsed

ADMIN, PAIRING, READ, WRITE = "operator.admin", "operator.pairing", "operator.read", "operator.write"


def ending(story, command, under="S1"):
    """The kind of the event by which a device can no longer approve, None where a command leaves it able or never found it so."""
    found = operators.ends(story.state, decide(story.state, command), under)
    return found and kind_of(found)


@pytest.mark.parametrize(
    ("scopes", "able"),
    [
        ((ADMIN,), True),
        ((PAIRING,), True),
        ((READ, WRITE), False),
        ((), False),
        ((PAIRING, READ), True),
        (("operator.pair",), False),
    ],
)
def test_who_can_approve_is_who_holds_pairing_or_admin(paired, scopes, able):
    """A22: a live operator token that covers operator.pairing, by itself or by operator.admin."""
    assert operators.able(paired(*scopes).state, "S1") is able


def test_what_a_dead_token_covered_counts_for_nothing(paired, silently, make):
    """A22: revoked, removed, of an older shared secret, or in a stream nobody may decide on: such a device saves nobody."""
    assert not operators.able(paired(ADMIN).given(make.revoke()).state, "S1")
    assert not operators.able(paired(ADMIN).given(make.remove()).state, "S1")
    assert operators.able(silently(ADMIN).state, "S1")
    assert not operators.able(silently(ADMIN).state, "S2")
    assert not operators.able(evolve(paired(ADMIN).state, Unknown(kind="device.bewitched", raw=b"{}")), "S1")
    assert not operators.able(paired("node.exec", role="node").state, "S1")


def test_every_way_to_end_an_operator_is_seen_by_what_it_leaves(paired, make):
    """A22: removing, revoking and narrowing end it; the same on a device that could not approve, or that still can, do not."""
    story = paired(PAIRING, READ)
    assert ending(story, make.remove()) == "device.removed"
    assert ending(story, make.revoke()) == "token.revoked"
    assert ending(story, make.rotate(scopes=(READ,))) == "token.rotated"
    assert ending(story, make.rotate(scopes=())) == "token.rotated"
    assert ending(story, make.rotate()) is None
    assert ending(story, make.rotate(scopes=(PAIRING,))) is None
    assert ending(story, make.rename("tag")) is None
    reader = paired(READ)
    for command in (make.remove(), make.revoke(), make.rotate(scopes=())):
        assert ending(reader, command) is None


def test_a_lock_and_the_clock_count_as_ends(paired, make):
    """A22: a lock leaves a device unable to approve, also one for an hour, and by a ban; what time ended counts as ended."""
    story = paired(PAIRING)
    assert ending(story, make.lock()) == "device.locked"
    assert ending(story, make.lock(until=make.now + HOUR_MS)) == "device.locked"
    story.given(make.knock(PAIRING, READ, request="more"))
    assert ending(story, replace(make.reject("more"), ban=Ban())) == "device.locked"
    assert ending(story, make.reject("more")) is None
    locked = story.given(make.lock(until=make.now + HOUR_MS))
    assert not operators.able(lapsed(locked.state, make.now + HOUR_MS - 1), "S1")
    assert operators.able(lapsed(locked.state, make.now + HOUR_MS), "S1")
    short = type(story)().given(make.knock(PAIRING, request="r"))
    short.given(replace(make.approve("r"), lifetimes=(("operator", HOUR_MS),)))
    assert operators.able(lapsed(short.state, make.now), "S1")
    assert not operators.able(lapsed(short.state, make.now + HOUR_MS), "S1")


def test_the_token_of_another_role_is_no_operator(paired, make):
    """A22: a device that is node and operator may lose its node token and still approve."""
    story = paired(ADMIN).given(make.knock("node.exec", role="node", request="node"), make.approve("node"))
    assert ending(story, make.revoke("node")) is None
    assert ending(story, make.revoke("operator")) == "token.revoked"


def test_the_glass_is_broken_by_who_says_so_and_why_and_holds_admin(paired, make):
    """A22: without the word it is refused and says what to do; without a reason too; below operator.admin always."""
    story = paired(PAIRING)
    (gone,) = decide(story.state, make.remove())

    def broken(**more):
        return operators.break_glass(gone, replace(make.remove(), **more))

    for reason, more in (
        (Reason.LAST_OPERATOR, {}),
        (Reason.LAST_OPERATOR, {"reason": "sold"}),
        (Reason.REASON_REQUIRED, {"break_glass": True}),
        (Reason.REASON_REQUIRED, {"break_glass": True, "reason": "  "}),
        (Reason.MISSING_SCOPE, {"break_glass": True, "reason": "sold", "by": make.pairer}),
        (Reason.MISSING_SCOPE, {"break_glass": True, "reason": "sold", "by": make.nobody}),
        (Reason.MISSING_SCOPE, {"break_glass": True, "reason": "sold", "by": make.caller(ADMIN, own="other")}),
    ):
        with pytest.raises(Refused) as refusal:
            broken(**more)
        assert refusal.value.reason is reason
    host = Caller(actor=Actor("local", "0"), scopes=OPERATOR_SCOPES)
    for by in (make.admin, make.host, host):
        assert broken(break_glass=True, reason="sold", by=by) == GlassBroken(at=make.now, ended="device.removed")
    assert "--break-glass --reason" in Refused(Reason.LAST_OPERATOR).hint


steps = st.lists(st.sampled_from(["remove", "revoke", "narrow", "widen", "rotate", "rename", "node", "again"]), max_size=8)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=steps)
def test_an_ending_is_named_exactly_where_one_can_no_longer_approve(make, story, steps):
    """A22: for any history, `ends` speaks if and only if the device could approve before a command and cannot after it."""
    make, story = type(make)(), type(story)()
    story.given(make.knock(ADMIN, request="first"), make.approve("first"))
    for number, step in enumerate(steps):
        ask = f"again-{number}"
        command = {
            "remove": make.remove(),
            "revoke": make.revoke(),
            "narrow": make.rotate(scopes=(READ,)),
            "widen": make.rotate(scopes=(ADMIN,)),
            "rotate": make.rotate(),
            "rename": make.rename(f"tag-{number}"),
            "node": make.knock("node.exec", role="node"),
            "again": make.knock(ADMIN, request=ask),
        }[step]
        before = story.state
        story.when(command)
        named = operators.ends(before, story.events, "S1")
        assert (named is not None) == (operators.able(before, "S1") and not operators.able(story.state, "S1"))
        if step == "again" and story.state.pending:
            story.when(make.approve(story.state.pending.request))
