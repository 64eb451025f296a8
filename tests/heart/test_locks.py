"""Locks: who holds a locked key is kept out, whatever else happens to its grant, until the lock is over."""

import pytest

from pairing.authority import ADMIN, PAIRING, READ, WRITE
from pairing.commands import Ban, Standing
from pairing.device import INITIAL
from pairing.events import DeviceLocked, DeviceRenamed
from pairing.refusals import Reason
from pairing.standing import lapsed, stands
from pairing.verdict import Presented, judge

HOUR = 3_600_000
SHARED = Presented(method="token")


def test_a_lock_ends_everything_but_the_grant(paired, make):
    """V1, V2: a locked device keeps its grant and tokens, and can do nothing with them."""
    story = paired(READ)
    standing = Standing(device="d", role="operator", issue=None)
    assert stands(story.state, standing, make.now)
    (locked,) = story.when(make.lock(message="see the front desk")).then("device.locked")
    assert (locked.until, locked.message, locked.ban) == (None, "see the front desk", False)
    assert story.live()
    assert not stands(story.state, standing, make.now)
    verdict = judge(story.state, SHARED, make.wanted(READ), make.now)
    assert (verdict.method, verdict.reason) == (None, Reason.DEVICE_LOCKED)
    assert [(step.rule, step.passed) for step in verdict.steps] == [("lock", False)]


@pytest.mark.parametrize("token", [False, True])
def test_a_good_credential_does_not_open_a_lock(paired, make, token):
    """V1: the lock is looked at before any credential, a right one of either class included."""
    story = paired(READ).given(make.lock())
    issue = story.grant.token("operator").issue
    presented = Presented(shared=Reason.TOKEN_MISSING, candidate="deviceToken", issue=issue) if token else SHARED
    assert judge(story.state, presented, make.wanted(READ), make.now).reason is Reason.DEVICE_LOCKED


def test_a_lock_ends_when_it_said(paired, make):
    """R12: to the millisecond, recorded or not; the same session may then go on."""
    story = paired(READ).given(make.lock(until=make.now + HOUR))
    standing = Standing(device="d", role="operator", issue=None)
    assert judge(story.state, SHARED, make.wanted(READ), make.now + HOUR - 1).reason is Reason.DEVICE_LOCKED
    assert judge(story.state, SHARED, make.wanted(READ), make.now + HOUR).reason is None
    assert not stands(story.state, standing, make.now + HOUR - 1)
    assert stands(story.state, standing, make.now + HOUR)


def test_the_timer_records_the_end_and_nothing_before(paired, make):
    """L3: the end of a lock is an event, once; before its time there is none."""
    story = paired(READ).given(make.lock(until=make.now + HOUR))
    story.when(make.elapse()).then()
    make.now += HOUR
    (ended,) = story.when(make.elapse()).then("device.unlocked")
    assert ended.how == "ended"
    story.when(make.elapse()).then()


def test_a_lock_needs_what_a_removal_needs(paired, make):
    """A6: whoever does not hold a device's access cannot lock it; who holds it can."""
    story = paired(WRITE)
    story.when(make.lock(make.caller(PAIRING, READ))).refused(Reason.LOCK_DENIED, rule="scope")
    story.when(make.lock(make.nobody)).refused(Reason.LOCK_DENIED, rule="no-caller")
    story.when(make.lock(make.caller(READ))).refused(Reason.LOCK_DENIED, rule="no-pairing")
    story.when(make.lock(make.caller(PAIRING, WRITE, own="e" * 64))).refused(Reason.LOCK_DENIED, rule="foreign")
    story.when(make.lock(make.caller(PAIRING, WRITE))).then("device.locked")


def test_unlocking_needs_what_it_gives_back(paired, make):
    """A1: unlocking an admin's device makes it an admin's again, and so needs one."""
    story = paired(ADMIN).given(make.lock())
    story.when(make.unlock(make.pairer)).refused(Reason.UNLOCK_DENIED, rule="scope")
    story.when(make.unlock()).then("device.unlocked")
    story.when(make.unlock()).then()


def test_an_earlier_end_needs_the_same_authority(paired, make):
    """A1: to shorten a lock is to unlock, and is held to as much."""
    story = paired(ADMIN).given(make.lock())
    story.when(make.lock(make.pairer, until=make.now + 1)).refused(Reason.LOCK_DENIED, rule="scope")


def test_a_node_is_locked_by_an_admin_alone(paired, make):
    """A6: the access of another role than operator is operator.admin's to end."""
    story = paired(role="node")
    story.when(make.lock(make.pairer)).refused(Reason.LOCK_DENIED, rule="role")
    story.when(make.lock(make.host)).then("device.locked")


def test_a_lock_takes_the_open_request_along(paired, make):
    """R9: what a locked device asks for can never be approved, so its request ends with the lock."""
    story = paired(READ).given(make.knock(WRITE, request="wider"))
    withdrawn, _ = story.when(make.lock()).then("request.withdrawn", "device.locked")
    assert withdrawn.request == "wider"
    story.when(make.approve("wider")).refused(Reason.DEVICE_LOCKED)
    story.given(make.unlock()).when(make.approve("wider")).refused(Reason.UNKNOWN_REQUEST)


def test_a_key_that_nobody_paired_can_be_locked(story, make):
    """A ban: a key that was never seen is kept out before it ever asks."""
    (locked,) = story.when(make.lock(make.pairer)).then("device.locked")
    assert locked.ban
    story.when(make.knock(READ)).refused(Reason.DEVICE_LOCKED)


def test_no_silence_lets_a_locked_key_in(story, make):
    """A19: what policy approves without a person is not approved for a locked key, whatever it asks."""
    story.given(make.lock())
    for means in ("silent", "trusted-cidr"):
        story.when(make.knock(READ, silence=make.silence(means=means))).refused(Reason.DEVICE_LOCKED)
    assert story.state.grant is None
    assert story.state.pending is None


def test_neither_removal_nor_asking_again_opens_a_lock(paired, make):
    """V7: a lock is the key's, not the grant's; only unlocking, or its end, ends it."""
    story = paired(READ).given(make.lock(until=make.now + HOUR), make.remove())
    story.when(make.knock(READ)).refused(Reason.DEVICE_LOCKED)
    story.when(make.remove()).refused(Reason.UNKNOWN_DEVICE)
    make.now += HOUR
    story.when(make.knock(READ, request="again")).then("request.opened")


def test_a_label_outlives_removal_and_a_locked_key_can_have_one(paired, make):
    """The name an operator gave stays with the key; a banned key without a grant can be named too."""
    story = paired(READ).given(make.rename("tag"), make.remove())
    assert story.state.labelled == "tag"
    story.given(make.knock(READ, request="again"), make.approve("again"))
    assert story.state.labelled == "tag"
    story.given(make.lock(), make.remove()).when(make.rename("other")).then("device.renamed")
    assert story.state.labelled == "other"


def test_a_rejection_can_ban(story, make):
    """Rejecting and banning are one step: the request ends as rejected, and the key is kept out."""
    story.given(make.knock(READ, request="first"))
    rejected, locked = story.when(make.reject("first", ban=Ban(message="no"))).then("request.rejected", "device.locked")
    assert (rejected.request, locked.ban, locked.message) == ("first", True, "no")
    story.when(make.reject("first", ban=Ban(message="no"))).then()


def test_a_ban_of_a_paired_device_needs_its_access(paired, make):
    """A6: rejecting is free, the ban in the same step is not; then neither happens."""
    story = paired(ADMIN).given(make.knock(ADMIN, role="node", request="more"))
    story.when(make.reject("more", make.pairer, ban=Ban())).refused(Reason.LOCK_DENIED)
    assert story.pending.request == "more"
    story.when(make.reject("more", make.pairer)).then("request.rejected")


def test_a_lock_cannot_begin_in_the_past(story, make):
    """A lock that would be over already is a mistake, and is said to be one."""
    story.when(make.lock(until=make.now)).refused(Reason.LOCK_PAST)


def test_the_same_lock_again_is_nothing_and_another_takes_its_place(paired, make):
    """D11: repeated, nothing happens; other terms are another lock."""
    story = paired(READ).given(make.lock())
    story.when(make.lock()).then()
    story.when(make.lock(until=make.now + HOUR)).then("device.locked")
    assert story.state.lock.until == make.now + HOUR


def test_the_refusal_tells_the_locked_party_until_when_and_why(story, make):
    """The message is for whoever is kept out; the end is told in the words and in the details."""
    story.given(make.lock(until=1_777_003_600_000, message="call Ada"))
    refusal = story.when(make.knock(READ)).refused(Reason.DEVICE_LOCKED)
    assert refusal.message == "device locked until 2026-04-24 04:06:40 UTC: call Ada"
    assert refusal.details == {"banned": True, "lockedUntilMs": 1_777_003_600_000, "message": "call Ada"}


def test_a_lock_that_is_over_does_not_come_back(make):
    """A state is the same before and after the timer has said what time did."""
    locked = lapsed(INITIAL, make.now)
    assert locked is INITIAL


def test_folding_a_label_after_a_lock_keeps_the_lock(story, make):
    """A lock is ended by its own events alone."""
    story.given(DeviceLocked(at=1, until=None, message=None, ban=True), DeviceRenamed(at=2, labelled="x"))
    assert story.state.lock is not None
