"""Rehearsing: the past judged again under other settings gives what the door would have said, and under the same ones nothing."""

import json
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pairing.authority import OPERATOR_SCOPES
from pairing.commands import Approve, Caller, Expire, ExpireIdle, Knock, Reject, Remove, Rotate, Wanted
from pairing.decide import decide
from pairing.device import INITIAL
from pairing.eras import ADMITTING, Eras, differing, eras, read, shown, with_one
from pairing.events import Actor, Meta, Personal, PolicyChanged, RequestApproved
from pairing.evolve import evolve
from pairing.gateway.address import Origin
from pairing.gateway.silence import Arrival, silence
from pairing.history import Happened
from pairing.knocking import admit
from pairing.listing import RefusedContact
from pairing.prospect import Standing, capped, refused_again, standing
from pairing.refusals import Reason, Refused
from pairing.rehearsal import replay
from pairing.rehearse_methods import CHECKED, FROM_NOW_ON, NOT_CHECKED
from pairing.verdict import Presented

NOW, DEVICE, KEY, HOUR = 1_777_000_000_000, "d" * 64, "device-key", 3_600_000
HOST = Caller(actor=Actor("shared-secret", "b" * 64), scopes=("operator.pairing",), ceiling=OPERATOR_SCOPES, origin="local")
CEILING, CIDRS = "gateway.pairing.localCeiling", "gateway.nodes.pairing.autoApproveCidrs"
VOTES, REASONS = "gateway.pairing.approval.votes", "gateway.pairing.approval.requireReason"
TTL, IDLE = "gateway.pairing.requestTtlMs", "gateway.tokens.operator.idle"


def rules(under="S1", **raw):
    return read({name.replace("_", "."): value for name, value in raw.items()}, under)


def having(raw, under="S1"):
    return read(raw, under)


@dataclass
class Door:
    """One device at a gateway's door under a policy: decided as there, and recorded with what is recorded there."""

    policy: object = field(default_factory=rules)
    device: str = DEVICE
    now: int = NOW
    state: object = INITIAL
    past: list = field(default_factory=list)
    numbers: count = field(default_factory=lambda: count(1))
    position: int = 0

    def origin(self, place, address):
        local = place == "local"
        return Origin(
            client_ip=address or "127.0.0.1",
            reported_ip=address,
            local=local,
            forwarded=place == "proxied",
            trusted_proxy=place == "proxied",
            direct=place != "proxied",
            via_loopback_proxy=False,
        )

    def knock(self, *scopes, role="operator", place="local", address=None, page=False, by_token=False, client=("cli", "cli")):
        number = next(self.numbers)
        method = "device-token" if by_token else "token"
        origin = self.origin(place, address)
        arrival = Arrival(
            origin=origin, page=page, role=role, scopes=scopes, client_id=client[0], client_mode=client[1], method=method
        )
        rules = self.policy.gateway
        command = Knock(
            id=f"c{number}",
            now=self.now,
            by=Caller(actor=Actor("device", self.device), scopes=(), origin=place),
            device=self.device,
            wanted=Wanted(key=KEY, role=role, scopes=scopes, platform="linux", under=self.policy.under),
            client_id=client[0],
            client_mode=client[1],
            request=f"{self.device[0]}{number}",
            issue=f"i{number}",
            key="k",
            seen=f"seen-{address}",
            named="named",
            ttl=rules.pairing.request_ttl_ms,
            silence=silence(rules, arrival),
            lifetimes=rules.tokens.lifetimes,
            terms=rules.pairing.approval.terms,
            most=rules.pairing.max_requests_per_device,
        )
        return self.do(command, Personal(salt="s", address=address))

    def by(self, kind=Knock, who=HOST, **more):
        number = next(self.numbers)
        base = {"id": f"c{number}", "now": self.now, "by": who, "device": self.device}
        if kind in {Approve, Rotate}:
            base |= {"issue": f"i{number}", "key": "k"}
        if kind is Approve:
            base |= {"under": self.policy.under, "terms": self.policy.gateway.pairing.approval.terms}
        if kind in {Approve, Reject, Expire}:
            base["request"] = self.state.pending.request if self.state.pending else "none"
        return self.do(kind(**base, **more))

    def do(self, command, personal=None):
        try:
            events = decide(self.state, command)
        except Refused:
            return ()
        by = command.by
        authority = tuple(dict.fromkeys((*(by.scopes or ()), *by.ceiling)))
        meta = Meta(actor=by.actor, command=command.id, authority=authority, origin=by.origin, reason=command.reason, policy="p")
        for event in events:
            self.position += 1
            self.past.append(Happened(self.position, f"device:{self.device}", self.now, event, meta, personal))
            self.state = evolve(self.state, event)
        return events

    def later(self, ms):
        self.now += ms
        return self

    def under(self, raw, **more):
        """Rehearse what happened under these settings beside the others as they are."""
        new = self.policy
        for name, value in raw.items():
            new = with_one(new, having({name: value}), name)
        return replay(self.device, self.past, Eras(self.policy), new, **more)


def whats(replayed):
    return [line.what for line in replayed.lines]


# --- the law ---------------------------------------------------------------------------------------------------------

SCOPES = st.lists(st.sampled_from(("operator.read", "operator.write", "operator.pairing", "operator.admin")), max_size=3)
PLACES = st.sampled_from(
    (("local", None), ("local", None), ("direct", "192.0.2.7"), ("proxied", "198.51.100.9"), ("direct", None))
)
KNOCKS = st.fixed_dictionaries(
    {
        "scopes": SCOPES,
        "role": st.sampled_from(("operator", "operator", "node")),
        "place": PLACES,
        "page": st.booleans(),
        "by_token": st.booleans(),
        "client": st.sampled_from((("cli", "cli"), ("node-host", "node"), ("openclaw-control-ui", "ui"), ("openclaw-ios", "ui"))),
    }
)
ACTS = st.lists(
    st.one_of(
        KNOCKS,
        KNOCKS,
        st.sampled_from(("approve", "approve-why", "reject", "remove", "expire", "wait", "long")),
    ),
    max_size=12,
)
POLICIES = st.fixed_dictionaries(
    {
        CEILING: st.sampled_from((list(OPERATOR_SCOPES), list(OPERATOR_SCOPES), ["operator.read"], [])),
        CIDRS: st.sampled_from(([], ["192.0.2.0/24"], ["0.0.0.0/0"])),
        VOTES: st.sampled_from(([], [], [], ["operator.admin=2"], ["*=2"])),
        REASONS: st.sampled_from(([], [], ["operator.admin"], ["node"])),
        "gateway.pairing.maxRequestsPerDevice": st.sampled_from((20, 20, 2)),
    }
)


def lived(policy, acts):
    door = Door(policy=having(policy))
    for act in acts:
        door.later(1_000)
        match act:
            case "approve":
                door.by(Approve)
            case "approve-why":
                door.by(Approve, reason="seen")
            case "reject":
                door.by(Reject)
            case "remove":
                door.by(Remove)
            case "expire":
                door.later(300_001).by(Expire)
            case "wait":
                door.later(100_000)
            case "long":
                door.later(HOUR)
            case _:
                place, address = act["place"]
                asked = {key: act[key] for key in ("role", "page", "by_token", "client")}
                if door.state.grant is None:
                    asked["by_token"] = False
                door.knock(*act["scopes"], place=place, address=address, **asked)
    return door


@settings(max_examples=150, deadline=None)
@given(POLICIES, ACTS)
def test_the_policy_in_force_gives_what_happened(policy, acts):
    """L13: whatever happened, its own policy judges it so again. The most that is never met makes every rule run."""
    door = lived(policy, acts)
    most = "gateway.pairing.maxRequestsPerDevice"
    again = door.under({most: policy[most] + 1 if policy[most] == 20 else policy[most], TTL: 300_000})
    assert again.lines == ()
    assert again.unexplained == ()


@settings(max_examples=150, deadline=None)
@given(POLICIES, POLICIES, ACTS, KNOCKS)
def test_the_last_knock_is_answered_as_the_door_would(policy, other, acts, knock):
    """What is said of a knock under other settings is what the door says under them, unless it rests on something unsaid."""
    door = lived(policy, acts)
    door.later(1_000)
    before, position = door.state, door.position
    knock = dict(knock)
    place, address = knock.pop("place")
    scopes = knock.pop("scopes")
    if before.grant is None:
        knock["by_token"] = False
    events = door.knock(*scopes, place=place, address=address, **knock)
    if not any(event.__struct_config__.tag in {"request.opened", "request.refreshed"} for event in events):
        return
    happened = any(isinstance(event, RequestApproved) for event in events)
    twin = Door(policy=having(other), state=before, now=door.now, numbers=count(1_000))
    would = any(isinstance(event, RequestApproved) for event in twin.knock(*scopes, place=place, address=address, **knock))
    again = replay(door.device, door.past, Eras(door.policy), having(other), after=position)
    assert again.unexplained == ()
    said = [line for line in again.lines if line.what in {"silent", "asks", "refused"}]
    if said and not said[0].unsaid:
        assert (said[0].what == "silent") is would
    if not said and happened != would:
        # Only what the log does not say can hide it: another connection than the likeliest.
        assert knock["page"] or knock["by_token"] or (before.pending is not None)


# --- stories ---------------------------------------------------------------------------------------------------------


def test_a_lower_ceiling_would_have_asked_a_person():
    door = Door()
    door.knock("operator.admin")
    again = door.under({CEILING: ["operator.read"]})
    (line,) = again.lines
    assert (line.what, line.settings, line.unsaid, line.request) == ("asks", (CEILING,), (), "d1")
    assert (line.then, line.would) == ("let in without a person", "waiting for a person")


def test_trusted_addresses_would_have_let_a_node_in_if_no_page_opened_the_connection():
    """L10: what the answer takes for granted is said."""
    door = Door()
    door.knock(role="node", place="direct", address="192.0.2.7", client=("node-host", "node"))
    (line,) = door.under({CIDRS: ["192.0.2.0/24"]}).lines
    assert (line.what, line.settings, line.unsaid) == ("silent", (CIDRS,), ("page",))
    assert door.under({CIDRS: ["198.51.100.0/24"]}).lines == ()


def test_a_guess_must_give_what_happened():
    """A page on this host waits for a person: that nobody was let in tells that there was one, though it is not recorded."""
    door = Door()
    door.knock("operator.read", page=True)
    assert door.state.grant is None
    again = door.under({CIDRS: ["192.0.2.0/24"]})
    assert (again.lines, again.unexplained, again.judged) == ((), (), 1)


def test_what_no_guess_explains_is_counted_and_not_judged():
    """L10: an origin that is not recorded, or an answer that no policy on record gives."""
    door = Door()
    door.knock("operator.read")
    wrong = replay(door.device, door.past, Eras(having({CEILING: []})), having({}))
    assert (wrong.lines, wrong.unexplained) == ((), (1,))
    nowhere = [replace(one, meta=replace(one.meta, origin=None)) for one in door.past]
    assert replay(door.device, nowhere, Eras(door.policy), having({CEILING: []})).unexplained == (1,)


def test_what_takes_people_is_no_longer_silent():
    door = Door()
    door.knock("operator.admin")
    assert [(line.what, line.settings) for line in door.under({VOTES: ["operator.admin=2"]}).lines] == [("asks", (VOTES,))]
    both = door.under({VOTES: ["operator.admin=2"], REASONS: ["operator.admin"]})
    assert [line.settings for line in both.lines] == [(VOTES, REASONS)]


def test_a_setup_code_does_not_speak_for_several_people():
    """A1: who came by a code would have waited where what it gives takes people."""
    door = Door()
    wanted = Wanted(key=KEY, role="operator", scopes=("operator.read",), platform="linux", under="S1")
    by = Caller(actor=Actor("device", DEVICE), scopes=(), origin="direct")
    command = Knock(
        id="c", now=NOW, by=by, device=DEVICE, wanted=wanted, client_id="cli", client_mode="cli", request="r", issue="i", key="k",
        seen="s", named="n", ttl=300_000, code="code-1",
    )  # fmt: skip
    for event in admit(INITIAL, command, ("operator",), ("operator.read",)):
        door.position += 1
        meta = Meta(actor=by.actor, command="c", origin="direct")
        door.past.append(Happened(door.position, f"device:{DEVICE}", NOW, event, meta, None))
    assert [(line.what, line.settings) for line in door.under({VOTES: ["operator.read=2"]}).lines] == [("asks", (VOTES,))]
    assert door.under({VOTES: ["operator.write=2"], CEILING: []}).lines == ()


def test_a_person_s_approval_would_have_taken_more_of_them_or_a_reason():
    door = Door()
    door.knock("operator.read", place="direct", address="192.0.2.7")
    door.by(Approve)
    assert whats(door.under({VOTES: ["operator.read=2"]})) == ["approvers"]
    assert whats(door.under({REASONS: ["operator.read"]})) == ["reason"]
    assert whats(door.under({VOTES: ["operator.write=2"], REASONS: ["operator.write"]})) == []


def test_one_vote_would_have_been_enough():
    door = Door(policy=having({VOTES: ["*=2"]}))
    door.knock("operator.read", place="direct", address="192.0.2.7")
    assert [event.__struct_config__.tag for event in door.by(Approve)] == ["request.endorsed"]
    assert whats(door.under({VOTES: []})) == ["votes-suffice"]
    assert whats(door.under({VOTES: ["*=3"]})) == []


def test_an_approval_on_this_host_is_held_to_the_ceiling():
    door = Door()
    door.knock("operator.admin", place="direct", address="192.0.2.7")
    door.by(Approve)
    (line,) = door.under({CEILING: ["operator.read"]}).lines
    assert (line.what, line.settings, line.unsaid) == ("refused", (CEILING,), ("own-scopes",))


def test_an_answer_that_came_too_late_for_a_shorter_life():
    """R4: a retry that is not on record may have kept it alive: then it is said."""
    door = Door()
    door.knock("operator.read", place="direct", address="192.0.2.7")
    door.later(200_000).by(Approve)
    (line,) = door.under({TTL: 60_000}).lines
    assert (line.what, line.settings, line.unsaid) == ("expires", (TTL,), ())
    (line,) = door.under({TTL: 150_000}).lines
    assert line.unsaid == ("contact",)
    assert door.under({TTL: 200_000}).lines == ()


def test_a_longer_life_would_have_kept_it_open():
    door = Door()
    door.knock("operator.read", place="direct", address="192.0.2.7")
    door.later(300_001).by(Expire)
    assert whats(door.under({TTL: 400_000})) == ["stays-open"]
    assert whats(door.under({TTL: 300_000})) == []


def test_a_device_that_asks_too_often_would_have_been_told_to_wait():
    door = Door()
    for number in range(4):
        door.later(1_000).knock("operator.read", f"operator.x{number}", place="direct", address="192.0.2.7")
        door.by(Reject)
    again = door.under({"gateway.pairing.maxRequestsPerDevice": 2})
    assert [(line.what, line.settings) for line in again.lines] == [("refused", ("gateway.pairing.maxRequestsPerDevice",))] * 2


def test_caps_count_what_was_open_from_one_place():
    """R10: the total, and one IPv6 network as one; this host is not counted by its address."""
    moves = []
    for number, address in enumerate(("2001:db8::1", "2001:db8::2", "192.0.2.1", "2001:db8::3")):
        door = Door(device=str(number) * 64, position=number)
        door.knock("operator.read", place="direct", address=address)
        moves += replay(door.device, door.past, Eras(door.policy), door.policy).moves
    in_force = Eras(rules())
    near = having({"gateway.pairing.maxPendingPerAddress": 1})
    lines = list(capped(moves, (), in_force, near))
    assert [(line.position, line.settings) for line in lines] == [
        (2, ("gateway.pairing.maxPendingPerAddress",)),
        (4, ("gateway.pairing.maxPendingPerAddress",)),
    ]
    total = having({"gateway.pairing.maxPending": 3})
    assert [line.position for line in capped(moves, (), in_force, total)] == [4]
    assert [line.position for line in capped(moves, (("other", None),), in_force, total)] == [3, 4]
    assert list(capped(moves, (), in_force, in_force.now)) == []
    gone = [*moves[:2], *(replace(move, position=3, opens=False, fresh=False) for move in moves[:2]), moves[3]]
    assert [line.position for line in capped(gone, (), in_force, near)] == [2]


def test_a_handoff_longer_than_allowed_would_have_been_refused():
    door = Door()
    door.knock("operator.read")
    door.by(Rotate, role="operator", scopes=None, handoff=HOUR, longest=HOUR)
    assert whats(door.under({"gateway.pairing.maxHandoffMs": HOUR - 1})) == ["refused"]
    assert whats(door.under({"gateway.pairing.maxHandoffMs": HOUR})) == []


def test_a_token_that_died_of_disuse_would_have_lived():
    door = Door(policy=having({IDLE: "1h"}))
    door.knock("operator.read")
    issue = door.state.token("operator").issue
    door.later(HOUR).by(ExpireIdle, role="operator", issue=issue, since=NOW)
    assert whats(door.under({IDLE: "2h"})) == ["token-works"]
    assert whats(door.under({IDLE: None})) == ["token-works"]
    assert whats(door.under({IDLE: "30m"})) == []


def test_the_last_operator_is_asked_after_elsewhere():
    door = Door(policy=having({"gateway.pairing.keepLastOperator": False}))
    door.knock("operator.pairing")
    door.by(Remove)
    (line,) = door.under({"gateway.pairing.keepLastOperator": True}).lines
    assert (line.what, line.others) == ("last-operator", True)


# --- devices as they stand, contacts, eras ---------------------------------------------------------------------------


def test_another_secret_ends_the_tokens_that_rest_on_this_one():
    """T6: those that a person approved go on."""
    silent, approved = Door(), Door()
    silent.knock("operator.read")
    approved.knock("operator.read", place="direct", address="192.0.2.7")
    approved.by(Approve)
    other = having({}, "S2")
    for door, expected in ((silent, ["token-dead"]), (approved, [])):
        case = Standing(door.device, door.state, 9, NOW, {})
        assert [line.what for line in standing(case, door.policy, other)] == expected
        assert list(standing(case, door.policy, door.policy)) == []
    assert [line.what for line in standing(Standing(DEVICE, silent.state, 9, NOW, {}), other, silent.policy)] == ["token-works"]


def test_idle_limits_hold_for_what_stands():
    door = Door()
    door.knock("operator.read")
    now = NOW + 2 * HOUR
    idle = having({IDLE: "1h"})
    assert [line.settings for line in standing(Standing(DEVICE, door.state, 9, now, {"operator": NOW}), door.policy, idle)] == [
        (IDLE,)
    ]
    used = Standing(DEVICE, door.state, 9, now, {"operator": now - 1})
    assert list(standing(used, door.policy, idle)) == []
    # What nobody knows to be unused is in use (T13).
    assert list(standing(Standing(DEVICE, door.state, 9, now, {}), door.policy, idle)) == []


def test_a_contact_that_was_turned_away_for_an_old_secret_s_token():
    door = Door()
    door.knock("operator.read")
    issue = door.state.token("operator").issue
    shown = Presented(candidate="deviceToken", issue=issue, shared=Reason.TOKEN_MISMATCH)
    wanted = Wanted(key=KEY, role="operator", scopes=("operator.read",), platform="linux", under="S2")
    reason = Reason.DEVICE_TOKEN_MISMATCH.value
    contact = RefusedContact(
        at=NOW, device=DEVICE, proven=True, address=None, reason=reason, code="X", presented=shown, wanted=wanted, position=5
    )
    back = refused_again(contact, door.state, having({}, "S2"), having({}, "S1"))
    assert back is not None
    assert (back.what, back.would) == ("token-works", "let in")
    assert refused_again(contact, door.state, having({}, "S2"), having({}, "S2")) is None
    assert refused_again(replace(contact, presented=None), door.state, having({}, "S2"), having({}, "S1")) is None


def test_the_policy_of_an_event_is_the_one_that_it_names():
    """Two gateways beside each other may serve under two policies."""
    meta = Meta(actor=Actor("local"), command="c")

    def told(position, name, ttl, secret="S1"):
        event = PolicyChanged(at=NOW, policy=name, secret=secret, settings={TTL: json.dumps(ttl)})
        return Happened(position, "gateway", NOW, event, meta)

    found = eras([told(1, "a", 1_000), told(5, "b", 2_000)], rules())
    asked = ((0, None), (3, "a"), (7, "a"), (7, "b"), (7, "unheard-of"))
    assert [found.of(*one).values[TTL] for one in asked] == [300_000, 1_000, 1_000, 2_000, 2_000]


def test_what_cannot_be_read_of_a_policy_is_named():
    """D1: it is not taken for the default in silence."""
    found = read({TTL: "soon", "gateway.pairing.future": 1, CEILING: []}, None)
    assert found.unread == ("gateway.pairing.future", TTL)
    assert found.values[CEILING] == ()
    assert shown(found.values[CIDRS]) == "[]"
    assert differing(found, rules()) == (CEILING,)


@pytest.mark.parametrize("name", ADMITTING)
def test_every_setting_that_admits_is_checked_or_said_not_to_be(name):
    """L10: no setting is passed over in silence."""
    assert (name in CHECKED) + (name in NOT_CHECKED) + (name in FROM_NOW_ON) == 1
