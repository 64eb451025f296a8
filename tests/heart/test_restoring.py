"""Taking a device back to how it stood: what returns, what goes, and that nothing dead comes along."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pairing.authority import covers
from pairing.commands import Ban
from pairing.decide import decide
from pairing.device import INITIAL, Device
from pairing.events import DeviceEvent
from pairing.evolve import evolve
from pairing.refusals import Reason, Refused
from pairing.restoring import ended_on_purpose, former

from .conftest import Make

READ, WRITE, PAIRING, ADMIN = "operator.read", "operator.write", "operator.pairing", "operator.admin"


class Life:
    """One device's events, one by one, with the state after each."""

    def __init__(self) -> None:
        self.make = Make()
        self.states = [INITIAL]
        self.events: list[DeviceEvent] = []

    @property
    def now(self) -> Device:
        return self.states[-1]

    def do(self, command) -> tuple[DeviceEvent, ...]:
        news = decide(self.now, command)
        for event in news:
            self.events.append(event)
            self.states.append(evolve(self.now, event))
        return news

    def pair(self, *scopes: str, role: str = "operator") -> int:
        """Ask and be approved; return how many events there were then."""
        (opened,) = self.do(self.make.knock(*scopes, role=role))
        self.do(self.make.approve(opened.request))
        return len(self.events)

    def back(self, to: int, **more) -> tuple[DeviceEvent, ...]:
        return self.do(self.command(to, **more))

    def command(self, to: int, **more):
        ended = ended_on_purpose(self.events[to:])
        return self.make.restoredevice(self.states[to], ended=ended, to=to, **more)


@pytest.fixture
def life():
    return Life()


def kinds(news: Sequence[DeviceEvent]) -> list[str]:
    return [str(event.__struct_config__.tag) for event in news]


def live(state: Device) -> dict[str, str]:
    """The generation that can be used, by role."""
    if state.grant is None or state.lock is not None:
        return {}
    found = [state.grant.live(role, "S1") for role in state.grant.roles]
    return {token.role: token.issue for token in found if token}


def test_a_removed_device_returns_with_a_new_token(life):
    """V7: what it could do is what it could do then; the token that its removal ended stays dead."""
    then = life.pair(READ, WRITE)
    before = live(life.now)
    life.do(life.make.remove())
    assert kinds(life.back(then)) == ["device.restored", "token.issued"]
    assert set(life.now.grant.scopes) == {READ, WRITE}
    assert life.now.grant.created_at == life.states[then].grant.created_at
    assert live(life.now)["operator"] != before["operator"]


def test_a_role_that_was_revoked_on_purpose_stays_out(life):
    """V7: a restore undoes the removal, not the revocation before it."""
    then = life.pair(READ)
    life.do(life.make.revoke())
    life.do(life.make.remove())
    assert life.back(then) == ()
    assert life.now.grant is None


def test_the_other_role_of_a_device_returns_without_the_revoked_one(life):
    """The scopes of the role that stays out stay out too."""
    life.pair(READ)
    then = life.pair(role="node")
    life.do(life.make.revoke("operator"))
    life.do(life.make.remove())
    life.back(then)
    assert (life.now.grant.roles, life.now.grant.scopes, set(live(life.now))) == (("node",), (), {"node"})


def test_a_token_that_was_given_back_after_its_revocation_is_no_longer_revoked_on_purpose(life):
    """The last word counts."""
    then = life.pair(READ)
    life.do(life.make.revoke())
    life.do(life.make.rotate())
    life.do(life.make.remove())
    life.back(then)
    assert set(live(life.now)) == {"operator"}


def test_a_revoked_token_of_a_device_that_is_here_stays_revoked(life):
    """V7: nothing is issued in its place."""
    then = life.pair(READ)
    life.do(life.make.revoke())
    assert life.back(then) == ()
    assert live(life.now) == {}


def test_a_rotation_stays_in_force(life):
    """The device holds the new token; the old one was retired, and stays so."""
    then = life.pair(READ)
    life.do(life.make.rotate())
    after = live(life.now)
    assert life.back(then) == ()
    assert live(life.now) == after


def test_an_upgrade_is_taken_back_and_the_token_covers_less_at_once(life):
    """A16: its value is the same, its scopes are those of then."""
    then = life.pair(READ)
    life.pair(READ, ADMIN)
    before = live(life.now)
    assert kinds(life.back(then)) == ["device.restored", "token.narrowed"]
    assert live(life.now) == before
    assert life.now.grant.scopes == (READ,)
    assert not covers("operator", life.now.grant.token("operator").scopes, (WRITE,))


def test_a_role_that_was_added_goes_with_its_token(life):
    """T12: its token is of a timeline that was left, and is named so."""
    then = life.pair(READ)
    life.pair(role="node")
    assert kinds(life.back(then)) == ["device.restored", "token.abandoned"]
    assert (life.now.grant.roles, set(live(life.now)), life.now.retired[-1].how) == (("operator",), {"operator"}, "abandoned")


def test_a_device_that_was_paired_after_goes_and_its_request_with_it(life):
    """R9: an upgrade that waits was asked of a grant that is no more."""
    life.pair(READ)
    life.do(life.make.knock(READ, ADMIN))
    assert kinds(life.back(0)) == ["request.withdrawn", "device.abandoned"]
    assert (life.now.grant, life.now.pending, life.now.retired[-1].how) == (None, None, "abandoned")


def test_a_lock_stays_and_one_that_was_lifted_returns(life):
    """V7: a lock after the position stays in force; one that was in force then is again."""
    then = life.pair(READ)
    life.do(life.make.lock())
    assert life.back(then) == ()
    assert life.now.lock is not None
    locked = len(life.events)
    life.do(life.make.unlock())
    command = replace(life.command(locked), lock=Ban(None, "ask me"))
    assert kinds(life.do(command)) == ["device.locked"]
    over = Ban(life.make.now - 1, None)
    life.do(life.make.unlock())
    assert life.do(replace(life.command(locked), lock=over)) == ()


def test_a_label_goes_back_only_where_that_was_asked(life):
    """A label is no access."""
    then = life.pair(READ)
    life.do(life.make.rename("tag"))
    assert life.back(then) == ()
    assert kinds(life.do(replace(life.command(then), relabel=True))) == ["device.renamed"]
    assert life.now.labelled is None


def test_a_restore_takes_admin_and_an_undo_what_it_gives_and_takes(life):
    """A1, A6: nobody brings back, or ends, what they do not hold; a bound session brings itself nothing (A21)."""
    then = life.pair(READ, ADMIN)
    life.do(life.make.remove())
    for scopes, restore, undo in (((PAIRING,), False, False), ((PAIRING, READ), False, False), ((ADMIN,), True, True)):
        caller = life.make.caller(*scopes)
        for epoch, allowed, reason in ((1, restore, Reason.RESTORE_DENIED), (None, undo, Reason.UNDO_DENIED)):
            command = life.command(then, by=caller, epoch=epoch)
            if allowed:
                assert decide(life.now, command)
                continue
            with pytest.raises(Refused) as refused:
                decide(life.now, command)
            assert refused.value.reason is reason
    small = Life()
    then = small.pair(READ)
    small.do(small.make.remove())
    assert decide(small.now, small.command(then, by=small.make.caller(PAIRING, READ), epoch=None))
    with pytest.raises(Refused):
        decide(small.now, small.command(then, by=small.make.caller(PAIRING, READ, own="another")))


def random_life(chance: random.Random, steps: int) -> Life:
    """A device that is asked for, approved, rotated, revoked, locked and removed in no order."""
    life = Life()
    make = life.make
    for _ in range(steps):
        make.now += chance.randrange(1, 50_000)
        scopes = chance.sample((READ, WRITE, PAIRING, ADMIN), chance.randrange(0, 3))
        role = chance.choice(("operator", "operator", "node"))
        asked = life.now.pending.request if life.now.pending else "none"
        commands = (
            make.knock(*(scopes if role == "operator" else ()), role=role),
            make.approve(asked),
            make.approve(asked),
            make.reject(asked),
            make.rotate(role),
            make.revoke(role),
            make.remove(),
            make.lock() if chance.random() < 0.3 else make.unlock(),
            life.command(chance.randrange(len(life.states))),
        )
        command = chance.choice(commands)
        try:
            life.do(command)
        except Refused:
            continue
    return life


def check_nothing_dead_comes_back(seed: int) -> None:
    """Whatever works after a restore worked before it, or is new; and no access is there that was not there then."""
    chance = random.Random(seed)
    life = random_life(chance, chance.randrange(2, 25))
    to = chance.randrange(len(life.states))
    then, before = life.states[to], life.now
    ever = {getattr(event, "issue", None) for event in life.events}
    ended = ended_on_purpose(life.events[to:])
    life.back(to)
    for role, issue in live(life.now).items():
        assert issue not in ever or live(before).get(role) == issue, (seed, role, issue)
        assert then.grant is not None, (seed, role)
        assert role in then.grant.roles, (seed, role)
        assert covers(role, then.grant.scopes, life.now.grant.token(role).scopes), (seed, role)
        assert role not in ended or live(before).get(role) == issue, (seed, role)
    if before.lock is not None:
        assert life.now.lock is not None, seed
    # Again is nothing.
    life.make.now += 1
    assert life.back(to) == (), seed


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**48))
def test_no_credential_that_was_dead_works_after_a_restore(seed):
    """V7, T12: over random histories and positions."""
    check_nothing_dead_comes_back(seed)


def test_former_forgets_the_names_of_tokens(life):
    """What a restore is told of the past cannot name a dead generation."""
    life.pair(READ)
    issue = live(life.now)["operator"]
    assert issue not in repr(former(life.now.grant))
