"""Lifetimes: a token dies when it was announced to, whoever looks; the timer only writes it down."""

import msgspec
import pytest

from pairing.authority import ADMIN, READ, WRITE
from pairing.commands import Standing
from pairing.events import TokenIssued, TokenRotated
from pairing.refusals import SAYINGS, Reason
from pairing.standing import stands
from pairing.tokens import GatewayKey, Keyring
from pairing.verdict import Presented, judge

DAY = 86_400_000


@pytest.fixture
def aging(make):
    """Operator tokens live for thirty days."""
    make.lifetimes = (("operator", 30 * DAY),)
    return make


def by_token(story, role="operator"):
    return Presented(shared=Reason.TOKEN_MISSING, candidate="deviceToken", issue=story.grant.token(role).issue)


def test_a_lifetime_is_fixed_when_a_token_is_issued(paired, aging):
    """R12: each generation carries its own end; a role without a lifetime has none."""
    assert paired(READ).grant.token("operator").expires_at == aging.now + 30 * DAY
    assert paired(role="node").grant.token("node").expires_at is None


def test_a_token_is_good_until_its_end_and_not_a_moment_longer(paired, aging):
    """R12, T1: judged by the time of the connect, whether or not the timer has passed."""
    story = paired(READ)
    end = story.grant.token("operator").expires_at
    assert judge(story.state, by_token(story), aging.wanted(READ), end - 1).method == "device-token"
    verdict = judge(story.state, by_token(story), aging.wanted(READ), end)
    assert (verdict.method, verdict.reason) == (None, Reason.TOKEN_EXPIRED)
    assert verdict.steps[-1].rule == "token-age"


def test_an_expired_token_is_refused_for_what_it_is(paired, aging):
    """T10: the words say expired; the code is the one on which a client lets a dead token go."""
    saying = SAYINGS[Reason.TOKEN_EXPIRED]
    assert "expired" in saying.message
    assert saying.detail == "AUTH_DEVICE_TOKEN_MISMATCH"
    in_the_shared_field = Presented(shared=Reason.TOKEN_MISMATCH, candidate="token", issue="")
    story = paired(READ)
    in_the_shared_field = msgspec.structs.replace(in_the_shared_field, issue=story.grant.token("operator").issue)
    aging.now += 31 * DAY
    assert judge(story.state, in_the_shared_field, aging.wanted(READ), aging.now).reason is Reason.TOKEN_EXPIRED


def test_the_timer_writes_the_end_down_once(paired, aging):
    """L3: an expiry is an event; before its time, and a second time, there is none."""
    story = paired(READ)
    aging.now += 30 * DAY - 1
    story.when(aging.elapse()).then()
    aging.now += 1
    (expired,) = story.when(aging.elapse()).then("token.expired")
    assert (expired.role, expired.how) == ("operator", "lifetime")
    story.when(aging.elapse()).then()


@pytest.mark.parametrize("recorded", [False, True])
def test_a_session_ends_with_its_token(paired, aging, recorded):
    """V1: nothing is committed on an expired token, by whichever credential its session came."""
    story = paired(READ)
    issue = story.grant.token("operator").issue
    aging.now += 30 * DAY
    if recorded:
        story.given(aging.elapse())
    for mine in (None, issue):
        assert not stands(story.state, Standing(device="d", role="operator", issue=mine), aging.now)


@pytest.mark.parametrize("recorded", [False, True])
def test_a_new_approval_gives_a_fresh_token_and_only_what_was_asked(paired, aging, recorded):
    """A1, R2, T2: like a revoked one, an expired token comes back with what was reviewed now."""
    story = paired(ADMIN)
    old = story.grant.token("operator").issue
    aging.now += 30 * DAY
    if recorded:
        story.given(aging.elapse())
    story.given(aging.knock(READ, request="again"), aging.approve("again"))
    token = story.grant.token("operator")
    assert token.issue != old
    assert token.scopes == (READ,)
    assert token.expires_at == aging.now + 30 * DAY
    assert story.live()
    assert story.state.retired[-1].how == "expired"


def test_a_rotation_gives_a_fresh_token_to_who_holds_all_of_it(paired, aging):
    """A3, A6: a dead token that comes back makes the whole baseline reachable again."""
    story = paired(ADMIN)
    aging.now += 30 * DAY
    story.when(aging.rotate(scopes=(READ,), by=aging.caller("operator.pairing", READ))).refused(Reason.ROTATION_DENIED)
    story.when(aging.rotate()).then("token.rotated")
    assert story.live()


def test_a_token_that_only_covers_more_keeps_its_end(paired, aging):
    """T2: the same generation has the same end, however it was widened."""
    story = paired(READ)
    end = story.grant.token("operator").expires_at
    aging.now += DAY
    story.given(aging.knock(WRITE, request="more"), aging.approve("more"))
    assert story.grant.token("operator").expires_at == end


def test_an_expired_token_is_never_handed_out(paired, aging):
    """T4: nobody is given a token that has died."""
    story, keyring = paired(READ), Keyring(GatewayKey(b"k" * 32))
    key = keyring.current.id
    aging.now += 30 * DAY
    story.given(aging.elapse())
    grant = story.grant
    tokens = tuple(msgspec.structs.replace(token, key=key) for token in grant.tokens)
    state = msgspec.structs.replace(story.state, grant=msgspec.structs.replace(grant, tokens=tokens))
    assert keyring.token_of(state, "d", "operator") is None


def test_a_warning_comes_once_for_each_distance(paired, aging):
    """Each generation is warned of at each distance once, the nearer after the farther, and never the other way."""
    story = paired(READ)
    issue = story.grant.token("operator").issue
    story.when(aging.remind(7 * DAY, issue)).then()
    aging.now += 23 * DAY
    (due,) = story.when(aging.remind(7 * DAY, issue)).then("token.due")
    assert due.expires_at == aging.now + 7 * DAY
    story.when(aging.remind(7 * DAY, issue)).then()
    aging.now += 6 * DAY
    story.when(aging.remind(DAY, issue)).then("token.due")
    story.when(aging.remind(7 * DAY, issue)).then()
    story.given(aging.rotate()).when(aging.remind(DAY, issue)).then()
    aging.now += 29 * DAY
    story.when(aging.remind(DAY, story.grant.token("operator").issue)).then("token.due")


def test_nobody_is_warned_of_an_end_that_was_near_from_the_start(paired, make):
    """A token that lives for three days is not due a week before."""
    make.lifetimes = (("operator", 3 * DAY),)
    story = paired(READ)
    make.now += DAY
    story.when(make.remind(7 * DAY, story.grant.token("operator").issue)).then()


def test_disuse_ends_one_generation_and_no_later_one(paired, make):
    """T13: an idle expiry names the generation that nobody used; one issued since is another."""
    story = paired(READ)
    issue, since = story.grant.token("operator").issue, make.now + 1
    make.now += 90 * DAY
    story.when(make.expireidle(since - 2, issue)).then()
    story.when(make.expireidle(since, "another")).then()
    (expired,) = story.when(make.expireidle(since, issue)).then("token.expired")
    assert (expired.how, expired.since) == ("idle", since)
    assert not story.live()
    story.when(make.expireidle(since, issue)).then()


def test_events_of_tokens_without_an_end_are_stored_as_they_always_were():
    """D10: the new field is absent where it says nothing, so that old bytes stay the same; with an end it comes back."""
    plain = TokenIssued(at=1, role="operator", scopes=(), issue="i", key="k", under=None)
    assert b"expires_at" not in msgspec.json.encode(plain)
    for kind, more in ((TokenIssued, {}), (TokenRotated, {"retires": "h"})):
        event = kind(at=1, role="operator", scopes=(), issue="i", key="k", under=None, expires_at=5, **more)
        assert msgspec.json.decode(msgspec.json.encode(event), type=kind) == event
