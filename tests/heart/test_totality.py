"""Nothing is forgotten: every reason says something, every event is folded, every command is decided."""

import string
from types import SimpleNamespace
from typing import get_args

import pytest

from pairing.commands import Caller, DeviceCommand, Start, Stop
from pairing.decide import decide
from pairing.events import (
    Actor,
    AnyEvent,
    DeviceEvent,
    EnrolmentEvent,
    Event,
    GatewayEvent,
    GatewayStarted,
    HookEvent,
    NodeEvent,
    Unknown,
    kind_of,
)
from pairing.policy import EMPTY_HOUSE, decide_house, evolve_house
from pairing.refusals import SAYINGS, Exit, Reason, Refused
from pairing.verdict import PAIRING_REASONS

BY = Caller(actor=Actor(kind="local"), scopes=())


# --- refusals ------------------------------------------------------------------------------------------------------


def test_every_reason_has_a_saying_and_no_saying_is_left_over():
    """Every way to say no is in the table."""
    assert set(SAYINGS) == set(Reason)


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_every_refusal_speaks_with_or_without_its_fields(reason):
    """L8: wire code, message, hint and exit code; a missing field shows as nothing and never as an error."""
    saying = SAYINGS[reason]
    bare = Refused(reason)
    assert saying.code in {"INVALID_REQUEST", "NOT_PAIRED", "UNAVAILABLE"}
    assert saying.exit in {value for name, value in vars(Exit).items() if name.isupper()} - {Exit.OK}
    assert saying.detail is None or saying.detail == saying.detail.upper() != ""
    names = {name for text in (saying.message, saying.hint) for _, name, _, _ in string.Formatter().parse(text) if name}
    filled = Refused(reason, **dict.fromkeys(names, "{filled}"))
    for refusal in (bare, filled):
        assert "{" not in refusal.message.replace("{filled}", "")
        assert str(refusal) == refusal.message
        assert isinstance(refusal.hint, str)
    assert filled.message
    assert filled.hint


def test_reasons_have_names_of_their_own():
    """Two reasons never share the short name that logs and the audit use."""
    assert len({reason.value for reason in Reason}) == len(Reason)


def test_a_pairing_refusal_keeps_the_words_that_clients_look_for():
    """Protocol §5.7: NOT_PAIRED with `pairing required` and PAIRING_REQUIRED for every need."""
    assert set(PAIRING_REASONS) == {"not-paired", "metadata-upgrade", "role-upgrade", "scope-upgrade"}
    for need, reason in PAIRING_REASONS.items():
        saying = SAYINGS[reason]
        assert reason.value == need
        assert (saying.code, saying.detail) == ("NOT_PAIRED", "PAIRING_REQUIRED")
        assert saying.message.startswith("pairing required: ")


# --- events --------------------------------------------------------------------------------------------------------


def all_kinds():
    return [kind for group in get_args(AnyEvent) for kind in (get_args(group) or (group,))]


def test_every_event_is_in_the_catalogue():
    """D3: no kind of event exists outside the union that is stored and folded."""

    def below(kind):
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]

    assert (
        set(below(Event)) - {Event}
        == set(all_kinds())
        == {
            *get_args(DeviceEvent),
            *get_args(GatewayEvent),
            *get_args(NodeEvent),
            *get_args(HookEvent),
            *get_args(EnrolmentEvent),
        }
    )
    kinds = [kind.__struct_config__.tag for kind in all_kinds()]
    assert len(set(kinds)) == len(kinds)
    assert all(kind.count(".") == 1 and kind == kind.lower() for kind in kinds)
    assert all(kind.__struct_config__.frozen for kind in all_kinds())


IDLE = {"RestoreDevice", "Expire", "Elapse", "Remind", "ExpireIdle", "Unlock", "CloseHandoff"}


@pytest.mark.parametrize("command", get_args(DeviceCommand), ids=lambda command: command.__name__)
def test_every_command_is_decided(make, story, command):
    """A forgotten command would fail an assertion, not answer."""
    given = {"Approve": "r", "Reject": "r", "Expire": "r", "Rename": "tag", "Remind": 1, "ExpireIdle": 1}
    arguments = (given[command.__name__],) if command.__name__ in given else ()
    story.when(getattr(make, command.__name__.lower())(*arguments))
    assert story.events or story.refusal is not None or command.__name__ in IDLE


def test_a_command_nobody_knows_is_an_error_in_the_program(story):
    """decide raises Refused for every known command, and fails loudly for anything else."""
    with pytest.raises(AssertionError):
        decide(story.state, SimpleNamespace(now=0))


# --- the gateway's stream ------------------------------------------------------------------------------------------


def start(instance="one", secret="tag", ruling="policy-1"):
    return Start(
        id="c",
        now=5,
        by=BY,
        instance=instance,
        version="1",
        listen="127.0.0.1:1",
        key="k",
        ruling=ruling,
        secret=secret,
        settings={"named": ruling},
    )


def stop(instance="one"):
    return Stop(id="c", now=6, by=BY, instance=instance)


def run(state, *commands):
    kinds = []
    for command in commands:
        events = decide_house(state, command)
        kinds.append([kind_of(event) for event in events])
        for event in events:
            state = evolve_house(state, event)
    return state, kinds


def test_a_start_records_the_policy_once():
    """L2: the policy in force is an event when it changes, and not when it does not; the same start again is nothing."""
    state, kinds = run(EMPTY_HOUSE, start(), start(), start("two"), start("two", secret="new"), start("two", ruling="policy-2"))
    assert kinds == [["gateway.started", "policy.changed"], [], ["gateway.started"], ["policy.changed"], ["policy.changed"]]
    assert state.serving == ("one", "two")
    assert (state.policy, state.secret) == ("policy-2", "tag")


def test_a_stop_is_recorded_once():
    """The same stop again is nothing; who never started does not stop."""
    state, kinds = run(EMPTY_HOUSE, stop(), start(), stop(), stop(), start())
    assert kinds == [[], ["gateway.started", "policy.changed"], ["gateway.stopped"], [], ["gateway.started"]]
    assert state.serving == ("one",)


def test_gateways_that_were_killed_do_not_pile_up():
    """N13: what is remembered of processes that never said goodbye is bounded."""
    state = EMPTY_HOUSE
    for number in range(50):
        started = GatewayStarted(at=number, instance=f"i{number}", version="1", listen="x", key="k")
        state = evolve_house(state, started)
    assert len(state.serving) == 16
    assert state.serving[-1] == "i49"


def test_an_event_of_a_newer_version_refuses_decisions():
    """D3: on the gateway's stream as on a device's."""
    state = evolve_house(EMPTY_HOUSE, Unknown(kind="policy.signed", raw=b"{}"))
    for command in (start(), stop()):
        with pytest.raises(Refused) as refused:
            decide_house(state, command)
        assert refused.value.reason is Reason.NEWER_WRITER
        assert refused.value.details == {"kind": "policy.signed"}
