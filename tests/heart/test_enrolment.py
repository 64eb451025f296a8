"""A setup code is minted, shown, redeemed, collected again, taken back: the decisions, without a log or a socket."""

from dataclasses import dataclass, field
from itertools import count

import pytest
from msgspec.structs import replace

from pairing.authority import OPERATOR_SCOPES
from pairing.commands import Acknowledge, Caller, Deliver, ExpireCode, Mint, Redeem, Standing, VoidCode
from pairing.decide import decide
from pairing.device import INITIAL, Device
from pairing.enrolment import (
    EMPTY_ENROLMENT,
    HANDED_OUT,
    LIFE_MS,
    LONGEST_MS,
    MOST_USES,
    PROFILES,
    SPENT,
    Enrolment,
    decide_enrolment,
    evolve_enrolment,
    fault,
)
from pairing.events import Actor, EnrolmentAcknowledged, EnrolmentDelivered, Unknown, kind_of
from pairing.evolve import fold
from pairing.redemption import MOST_OVERUSES, OVERUSE_PAUSE_MS, redeem, reject
from pairing.refusals import Reason, Refused
from pairing.tokens import GatewayKey, Keyring

NOW = 1_777_000_000_000
CODE = "c" * 32
PHONE, TABLET, THIRD = "a" * 64, "b" * 64, "d" * 64
ADMIN, PAIRING = "operator.admin", "operator.pairing"
MINTER = "e" * 64


def caller(*scopes, own=None, ceiling=(), standing=None, kind="shared-secret"):
    return Caller(actor=Actor(kind=kind), scopes=scopes, own=own, ceiling=ceiling, standing=standing)


@dataclass
class Desk:
    """One code and the devices that show it, each with its own state; time stands still until it is moved."""

    make: object
    code: Enrolment = EMPTY_ENROLMENT
    devices: dict = field(default_factory=dict)
    minter: Device | None = None
    now: int = NOW
    numbers: count = field(default_factory=lambda: count(1))

    def stamp(self, by):
        return {"id": f"e-{next(self.numbers)}", "now": self.now, "by": by, "code": CODE}

    def mint(self, *, by=None, profile="default", roles=None, scopes=None, uses=1, approves=False, life=LIFE_MS, under=None):
        named_roles, named_scopes = PROFILES.get(profile, ((), ()))
        command = Mint(
            **self.stamp(by or caller(ADMIN)),
            secret="f" * 64,
            key="gateway-key",
            profile=profile,
            roles=named_roles if roles is None else roles,
            scopes=named_scopes if scopes is None else scopes,
            uses=uses,
            approves=approves,
            expires_at=self.now + life,
            under=under,
        )
        return self.do(command)

    def do(self, command):
        events = decide_enrolment(self.code, command)
        for event in events:
            self.code = evolve_enrolment(self.code, event)
        return [kind_of(event) for event in events]

    def void(self, by=None):
        return self.do(VoidCode(**self.stamp(by or caller(ADMIN))))

    def expire(self):
        return self.do(ExpireCode(**self.stamp(caller())))

    def deliver(self, device=PHONE):
        return self.do(Deliver(**self.stamp(caller()), device=device))

    def acknowledge(self, device=PHONE):
        return self.do(Acknowledge(**self.stamp(caller()), device=device))

    def state(self, device=PHONE):
        return self.devices.get(device, INITIAL)

    def knock(self, device=PHONE, *scopes, role="node", under="S1", **more):
        self.make.device, self.make.now = device, self.now
        return self.make.knock(*scopes, role=role, under=under, key=f"key of {device[0]}", **more)

    def show(self, device=PHONE, *scopes, role="node", under="S1"):
        """A device connects with the code: the kinds of what follows, the code's first."""
        knock = self.knock(device, *scopes, role=role, under=under)
        command = Redeem(**self.stamp(knock.by), knock=knock)
        return self.store(device, redeem(self.code, self.state(device), self.minter, command))

    def store(self, device, both):
        for event in both[0]:
            self.code = evolve_enrolment(self.code, event)
        self.devices[device] = fold(self.state(device), both[1])
        return [kind_of(event) for events in both for event in events]

    def refused(self, device=PHONE, *scopes, role="node", under="S1"):
        with pytest.raises(Refused) as no:
            self.show(device, *scopes, role=role, under=under)
        assert no.value.reason is Reason.BOOTSTRAP_INVALID
        return fault(self.code, self.state(device), device, self.knock(device, *scopes, role=role, under=under).wanted, self.now)

    def tell(self, command, device=PHONE):
        self.devices[device] = fold(self.state(device), decide(self.state(device), command))

    def approve(self, device=PHONE):
        self.make.device, self.make.now = device, self.now
        self.tell(self.make.approve(self.state(device).pending.request), device)

    def tokens(self, device=PHONE):
        return {token.role: token.scopes for token in self.state(device).grant.tokens}


@pytest.fixture
def desk(make):
    return Desk(make)


LET_IN = ["request.opened", "request.approved", "device.paired"]


# --- minting -------------------------------------------------------------------------------------------------------


def test_minting_is_one_event_and_no_secret(desk):
    """B2: what is kept of a code is a keyed hash."""
    assert desk.mint() == ["enrolment.issued"]
    key = GatewayKey(b"k" * 32)
    token = "bootstrap-token"
    assert len(key.enrolment_id(token)) == 32
    assert len(key.enrolment_secret(token)) == 64
    assert key.enrolment_id(token) not in key.enrolment_secret(token)
    assert token not in key.enrolment_id(token) + key.enrolment_secret(token)


def test_a_code_is_found_under_older_keys_too_and_compared_with_its_own(desk):
    """A gateway key that is replaced does not void the codes that are out."""
    old, new = GatewayKey(b"k" * 32), GatewayKey(b"n" * 32)
    ring = Keyring(new, (old,))
    assert ring.enrolment_ids("t") == (new.enrolment_id("t"), old.enrolment_id("t"))
    desk.mint()
    code = replace(desk.code.code, key=old.id, secret=old.enrolment_secret("t"))
    assert ring.is_bootstrap(code, "t")
    assert not ring.is_bootstrap(code, "T")
    assert not Keyring(new).is_bootstrap(code, "t")


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_hands_out_more_than_four_scopes(profile):
    """B4: admin, pairing and exec rights are in none of them."""
    assert set(PROFILES[profile][1]) <= set(HANDED_OUT)
    assert not {ADMIN, PAIRING} & set(PROFILES[profile][1])


@pytest.mark.parametrize(
    ("by", "roles", "scopes", "why"),
    [
        (caller(), ("node",), (), Reason.MISSING_SCOPE),
        (caller("operator.write"), ("operator",), ("operator.read",), Reason.MISSING_SCOPE),
        (caller(PAIRING), ("operator",), ("operator.read",), Reason.MISSING_SCOPE),
        (caller(PAIRING), ("node",), (), Reason.MISSING_SCOPE),
        (caller(PAIRING, "operator.read"), ("operator",), (PAIRING,), Reason.MISSING_SCOPE),
        (caller(PAIRING, "operator.made-up"), ("operator",), ("operator.made-up",), Reason.MISSING_SCOPE),
        (caller(ADMIN, own="x"), ("node",), (), Reason.ENROLMENT_DENIED),
        (Caller(actor=Actor(kind="local"), scopes=None), ("node",), (), Reason.ENROLMENT_DENIED),
        (caller(ADMIN), ("operator",), ("node.exec",), Reason.INVALID_SCOPE),
        (caller(ADMIN), ("superuser",), (), Reason.INVALID_ROLE),
        (caller(ADMIN), (), (), Reason.INVALID_ROLE),
    ],
)
def test_nobody_mints_what_they_do_not_hold(desk, by, roles, scopes, why):
    """B6, A1: pairing rights and containment; what no profile hands out takes an owner (B4)."""
    with pytest.raises(Refused) as no:
        desk.mint(by=by, profile="custom", roles=roles, scopes=scopes)
    assert no.value.reason is why
    assert desk.code is EMPTY_ENROLMENT


@pytest.mark.parametrize(
    ("by", "roles", "scopes"),
    [
        (caller(PAIRING, "operator.write"), ("operator",), ("operator.read",)),
        (caller(PAIRING, ceiling=OPERATOR_SCOPES), ("node", "operator"), HANDED_OUT),
        (caller(ADMIN), ("operator",), (ADMIN, PAIRING, "operator.made-up")),
        (caller(ADMIN), ("node",), ("node.exec",)),
    ],
)
def test_who_holds_it_mints_it(desk, by, roles, scopes):
    """B4: an owner who names admin rights gets a code for exactly that."""
    assert desk.mint(by=by, profile="custom", roles=roles, scopes=scopes) == ["enrolment.issued"]
    assert (desk.code.code.roles, desk.code.code.scopes) == (roles, scopes)


@pytest.mark.parametrize(("uses", "life"), [(0, 1), (-1, 1), (MOST_USES + 1, 1), (1, 0), (1, -5), (1, LONGEST_MS + 1)])
def test_nonsense_bounds_are_refused(desk, uses, life):
    with pytest.raises(Refused) as no:
        desk.mint(uses=uses, life=life)
    assert no.value.reason is Reason.ENROLMENT_BOUNDS


# --- redeeming -----------------------------------------------------------------------------------------------------


def test_a_bare_node_is_let_in_with_all_that_the_code_gives(desk):
    """BS-01: one token a role, the operator's with the profile's scopes; the act says by what means."""
    desk.mint()
    assert desk.show() == ["enrolment.redeemed", *LET_IN, "token.issued", "token.issued"]
    grant = desk.state().grant
    assert (grant.means, grant.role, set(grant.roles), grant.scopes) == ("bootstrap", "node", {"node", "operator"}, HANDED_OUT)
    assert desk.tokens() == {"node": (), "operator": HANDED_OUT}
    assert grant.code == CODE
    assert all(token.under is None for token in grant.tokens), "an operator vouched for it, not the shared secret (T6)"


def test_of_many_devices_as_many_get_in_as_there_are_uses(desk):
    """B1: the one after the last is refused, and that is an event."""
    desk.mint(uses=2)
    desk.show(PHONE)
    desk.show(TABLET)
    assert desk.show(THIRD) == ["enrolment.overused"]
    assert desk.state(THIRD).grant is None
    assert desk.refused(THIRD) == SPENT


def test_a_flood_of_attempts_does_not_grow_the_log(desk):
    """Over-use is recorded a few times, with pauses; the log is kept for ever."""
    desk.mint(life=LONGEST_MS)
    desk.show(PHONE)
    recorded = 0
    for attempt in range(400):
        desk.now = NOW + attempt * OVERUSE_PAUSE_MS // 4
        try:
            recorded += len(desk.show(THIRD))
        except Refused:
            continue
    assert recorded == MOST_OVERUSES


def test_time_runs_out(desk):
    """BS-03: 590 s after it was issued a code is good, 601 s after it is not."""
    desk.mint()
    desk.now = NOW + 601_000
    assert desk.refused() == f"expired at {NOW + LIFE_MS}"
    desk.now = NOW + 590_000
    assert desk.show()[0] == "enrolment.redeemed"


@pytest.mark.parametrize("scope", [ADMIN, PAIRING, "operator.made-up"])
def test_a_code_cannot_be_widened(desk, scope):
    """BS-05, B3: asking for more than the profile holds is asking with a wrong code."""
    desk.mint()
    assert desk.refused(PHONE, scope, role="operator").startswith("outside its scopes")
    assert desk.refused(PHONE, "node.exec").startswith("outside its scopes")
    assert desk.show()[0] == "enrolment.redeemed", "a failed attempt spends nothing (B5)"


def test_a_role_outside_the_profile_is_refused(desk):
    """B3."""
    desk.mint(profile="node")
    assert desk.refused(PHONE, role="operator") == "not for role operator"


def test_an_operator_asks_and_holds_its_place(desk):
    """BS-11: what is no bare node goes the normal way, and the code is bound to it; it cannot ask for more meanwhile."""
    desk.mint(profile="custom", roles=("operator",), scopes=("operator.read",))
    assert desk.show(PHONE, "operator.read", role="operator") == ["enrolment.bound", "request.opened"]
    pending = desk.state().pending
    assert pending.code == CODE
    assert desk.refused(PHONE, ADMIN, role="operator").startswith("outside")
    assert desk.state().pending == pending
    assert desk.show(TABLET, "operator.read", role="operator") == ["enrolment.overused"], "the one use is held"
    assert desk.show(PHONE, "operator.read", role="operator") == [], "the same ask again is nothing new"


def test_after_a_persons_approval_the_code_hands_over_the_token(desk):
    """The bound device collects its token with the code, which is then redeemed."""
    desk.mint(profile="custom", roles=("operator",), scopes=("operator.read",))
    desk.show(PHONE, "operator.read", role="operator")
    desk.approve()
    assert desk.show(PHONE, "operator.read", role="operator") == ["enrolment.redeemed"]
    held = desk.code.holder(PHONE)
    assert held.tokens == {"operator": desk.state().token("operator").issue}


def test_a_code_whose_redeeming_is_approval(desk):
    """B4: where its minter said so, an operator is let in without another look, with exactly the code's scopes."""
    desk.mint(profile="custom", roles=("operator",), scopes=("operator.read",), approves=True)
    assert desk.show(PHONE, role="operator") == ["enrolment.redeemed", *LET_IN, "token.issued"]
    assert desk.tokens() == {"operator": ("operator.read",)}


def test_what_was_asked_before_is_not_granted_along(desk):
    """B3: an earlier, wider ask of the same device gives way; redemption grants the profile alone."""
    desk.tell(desk.knock(PHONE, ADMIN, role="operator"))
    desk.mint()
    assert desk.show() == ["enrolment.redeemed", "request.superseded", *LET_IN, "token.issued", "token.issued"]
    assert desk.tokens()["operator"] == HANDED_OUT
    assert desk.state().pending is None


def test_an_expired_ask_is_recorded_as_such(desk):
    desk.tell(desk.knock(PHONE, ADMIN, role="operator"))
    desk.now += 400_000
    desk.mint()
    assert desk.show()[:2] == ["enrolment.redeemed", "request.expired"]


def test_a_record_is_never_upgraded_silently(desk):
    """BS-13: a paired operator that shows a code as node asks, and a person answers."""
    desk.tell(desk.knock(PHONE, "operator.read", role="operator"))
    desk.approve()
    desk.mint()
    assert desk.show(PHONE) == ["enrolment.bound", "request.opened"]
    assert desk.state().pending.need == "role-upgrade"
    assert desk.state().pending.roles == ("node",)


# --- lost replies --------------------------------------------------------------------------------------------------


def test_a_lost_reply_does_not_spend_the_code(desk):
    """B5: until it acknowledges, the same device gets the same generations again, with no new event, however late."""
    desk.mint()
    desk.show()
    before = desk.state()
    desk.now += 10 * LIFE_MS
    assert desk.show() == []
    assert desk.state() == before
    assert desk.deliver() == ["enrolment.delivered"]
    assert desk.deliver() == []
    assert desk.show() == []
    assert desk.acknowledge() == ["enrolment.acknowledged"]
    assert desk.acknowledge() == []
    assert desk.refused() == f"acknowledged at {desk.now}"


def test_another_key_is_another_device(desk):
    """A place is held by device and key."""
    desk.mint()
    desk.show()
    assert desk.show(TABLET) == ["enrolment.overused"]


@pytest.mark.parametrize("end", ["remove", "revoke", "rotate"])
def test_what_was_taken_away_does_not_come_back(desk, make, end):
    """V7, R9: a code brings back no grant that was removed, and no token that was revoked or rotated."""
    desk.mint()
    desk.show()
    make.device = PHONE
    desk.now += 1
    make.now = desk.now
    desk.tell(make.remove() if end == "remove" else getattr(make, end)("node"))
    assert desk.refused() == "what it gave has ended"


def test_a_device_that_was_removed_since_is_no_fresh_one(desk, make):
    """R9: a code that was out already does not let a removed device back in, a fresh one does."""
    desk.mint(uses=3)
    desk.tell(desk.knock(PHONE, "operator.read", role="operator"))
    desk.approve()
    desk.now += 1
    make.now = desk.now
    desk.tell(make.remove())
    assert desk.refused() == "the device was removed after it was minted"
    desk.code, desk.now = EMPTY_ENROLMENT, desk.now + 1
    desk.mint()
    assert desk.show()[0] == "enrolment.redeemed"


def test_half_of_the_roles_is_not_acknowledged_yet(desk):
    """Who collected one role by a person's approval may still come for the other, while the code lives."""
    desk.mint()
    desk.show(PHONE, "operator.read", role="operator")
    desk.approve()
    assert desk.show(PHONE, "operator.read", role="operator") == ["enrolment.redeemed"]
    assert desk.acknowledge() == []
    assert desk.show(PHONE) == ["request.opened"]
    desk.approve()
    assert desk.show(PHONE) == ["enrolment.redeemed"]
    assert desk.acknowledge() == ["enrolment.acknowledged"]


# --- ends ----------------------------------------------------------------------------------------------------------


def test_rejecting_voids_the_code_behind_it(desk, make):
    """B7: and nobody else can use what is left of it."""
    desk.mint(uses=5)
    desk.show(PHONE, "operator.read", role="operator")
    make.device = PHONE
    command = make.reject(desk.state().pending.request)
    with pytest.raises(Refused) as no:
        decide(desk.state(), command)
    assert no.value.reason is Reason.BUSY, "whoever does not know of the code must look again"
    command = replace(command, code=CODE)
    assert desk.store(PHONE, reject(desk.code, desk.state(), command)) == ["enrolment.revoked", "request.rejected"]
    assert desk.refused(TABLET) == f"revoked at {desk.now}"
    assert reject(desk.code, desk.state(), command) == ((), ()), "said again it is nothing new (R6)"


def test_taking_a_code_back(desk):
    """B6: takes what minting takes; who is in stays in; said twice is once."""
    desk.mint(uses=2)
    desk.show(PHONE)
    for weak in (caller(), caller("operator.read"), caller(PAIRING), caller(ADMIN, own="x")):
        with pytest.raises(Refused):
            desk.void(weak)
    assert desk.void() == ["enrolment.revoked"]
    assert desk.void() == []
    assert desk.refused(TABLET) == f"revoked at {NOW}"
    assert desk.refused(PHONE) == f"revoked at {NOW}"
    assert desk.state(PHONE).grant is not None
    with pytest.raises(Refused) as no:
        Desk(desk.make).void()
    assert no.value.reason is Reason.UNKNOWN_ENROLMENT


def test_expiry_is_recorded_once_and_only_where_uses_are_left(desk):
    """L3: an end that nobody brought about is an event too."""
    desk.mint()
    assert desk.expire() == []
    desk.now = NOW + LIFE_MS + 1
    assert desk.expire() == ["enrolment.expired"]
    assert desk.expire() == []
    spent = Desk(desk.make)
    spent.mint()
    spent.show()
    spent.now = NOW + LIFE_MS + 1
    assert spent.expire() == []


def test_a_code_is_worth_no_more_than_who_minted_it(desk, make):
    """A1: once the minter's own pairing or token is gone, nobody gets in by it."""
    make.device, make.now = MINTER, NOW
    minter = fold(INITIAL, decide(INITIAL, make.knock(ADMIN, silence=make.silence())))
    desk.mint(by=caller(ADMIN, standing=Standing(MINTER, "operator", None)))
    assert desk.code.code.minter == MINTER
    for out in (None, INITIAL, fold(minter, decide(minter, make.remove())), fold(minter, decide(minter, make.revoke()))):
        desk.minter = out
        desk.refused()
    desk.minter = minter
    assert desk.show()[0] == "enrolment.redeemed"


def test_a_code_minted_under_a_shared_secret_dies_with_it(desk):
    """T6."""
    desk.mint(under="S1")
    assert desk.refused(under="S2") == "minted under an earlier shared secret"
    assert desk.show(under="S1")[0] == "enrolment.redeemed"


def test_events_of_a_newer_version_close_the_stream(desk, make):
    """Nothing is decided on what is not understood."""
    desk.mint()
    known = desk.code
    desk.code = evolve_enrolment(desk.code, Unknown(kind="enrolment.extended", raw=b"{}"))
    for act in (desk.mint, desk.void, desk.expire, desk.deliver, desk.acknowledge, desk.show):
        with pytest.raises(Refused) as no:
            act()
        assert no.value.reason is Reason.NEWER_WRITER
    desk.show_state = desk.code
    desk.code = known
    desk.show(PHONE, "operator.read", role="operator")
    make.device = PHONE
    command = replace(make.reject(desk.state().pending.request), code=CODE)
    with pytest.raises(Refused) as no:
        reject(desk.show_state, desk.state(), command)
    assert no.value.reason is Reason.NEWER_WRITER


@pytest.mark.parametrize("event", [EnrolmentDelivered(at=1, device=PHONE), EnrolmentAcknowledged(at=1, device=PHONE)])
def test_folding_is_total(event):
    """An event that does not fit leaves the state as it was."""
    assert evolve_enrolment(EMPTY_ENROLMENT, event) == EMPTY_ENROLMENT
