"""Laws of the past: whatever happened, looking back says what a service stopped at that moment would have said."""

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairing.device import INITIAL, Barred, Device, Grant, Token
from pairing.events import device_stream, node_stream
from pairing.evolve import evolve
from pairing.history import NOTHING, Difference, after, changes, could, difference, facts, read, state_at, use, world_at
from tests.history.pasts import DEVICES, SCOPES, House, Past, pasts

any_past = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@any_past
@given(pasts())
def test_at_the_head_is_now(past: Past) -> None:
    """D10, L11: looking back at the last position gives the state that decisions were made on."""
    for device in DEVICES:
        rows = past.rows(device_stream(device))
        assert state_at(rows, past.position) == state_at(rows) == past.device(device)
        assert world_at(read(past.of(device))).node == past.nodes.get(device, NOTHING.node)


@any_past
@given(pasts(), st.data())
def test_any_position_is_the_fold_of_what_came_before(past: Past, data: st.DataObject) -> None:
    """D9: events after a position do not change what was true at it."""
    position = data.draw(st.integers(0, past.position))
    for device in DEVICES:
        state = INITIAL
        for one in read(past.rows(device_stream(device))):
            if one.position <= position:
                state = evolve(state, one.event)  # type: ignore[arg-type]
        assert state_at(past.rows(device_stream(device)), position) == state


async def said(house: House, **when: int) -> list[Any]:
    """All that lists say, of all devices and of each."""
    answers: list[Any] = [await house.call("device.list", **when), await house.call("node.pair.list", **when)]
    for device in DEVICES:
        if await house.views.matches(device, at=when.get("at")):
            answers.append(await house.call("device.list", device=device, **when))
    for answer in answers:
        for key in ("position", "recordedAtMs"):
            answer.pop(key, None)
    return answers


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(pasts(most=20), st.integers(0, 2**32))
async def test_the_past_is_what_a_service_stopped_then_would_say(past: Past, seed: int) -> None:
    """Looking back at a position equals a service whose log ends there; `scripts/campaign_history.py` asks a thousand times."""
    await stopped_then(past, seed, 3)


async def stopped_then(past: Past, seed: int, points: int) -> int:
    """Compare at some random positions of a past, and return at how many."""
    chosen = random.Random(seed).sample(range(1, past.position + 1), min(points, past.position))
    async with House.of(past.records) as whole:
        for position in chosen:
            async with House.of(past.records[:position]) as stopped:
                assert await said(whole, at=position) == await said(stopped)
    return len(chosen)


@any_past
@given(pasts(), st.data())
def test_differences_add_up(past: Past, data: st.DataObject) -> None:
    """From A to B and then from B to C is from A to C, whatever came and went between."""
    a, b, c = sorted(data.draw(st.lists(st.integers(0, past.position), min_size=3, max_size=3)))
    for device in DEVICES:
        rows = past.rows(device_stream(device))
        one, two, three = (state_at(rows, position) for position in (a, b, c))
        assert difference(one, two) + difference(two, three) == difference(one, three)
        assert difference(one, two) + difference(two, one) == Difference()
        events = read(past.rows(device_stream(device), node_stream(device)))
        assert summed(changes(events, a, b)) + summed(changes(events, b, c)) == summed(changes(events, a, c))


@st.composite
def states(draw: st.DrawFn) -> Device:
    """Any state, as far as it matters to what was gained and lost."""
    some = st.lists(st.sampled_from("abc"), max_size=3, unique=True).map(tuple)
    lock = draw(
        st.none() | st.builds(Barred, at=st.just(1), until=st.sampled_from((None, 5)), message=st.none(), ban=st.just(False))
    )
    grant = Grant(
        key="k",
        means="owner",
        role="a",
        roles=draw(some),
        scopes=draw(some),
        platform=None,
        family=None,
        client_id=None,
        client_mode=None,
        named="",
        created_at=0,
        approved_at=0,
        tokens=tuple(Token(role, draw(some), draw(st.sampled_from(("i", "j"))), "k", 0) for role in draw(some)),
    )
    return Device(grant=draw(st.sampled_from((None, grant))), labelled=draw(st.sampled_from((None, "x"))), lock=lock)


@given(states(), states(), states())
def test_differences_of_any_states_add_up(one: Device, two: Device, three: Device) -> None:
    """What is lost and comes back is no difference, nor what comes and is lost."""
    assert difference(one, two) + difference(two, three) == difference(one, three)
    assert difference(one, two) + difference(two, one) == Difference()
    assert bool(difference(one, two)) is (facts(one) != facts(two))


def summed(found: Any) -> Difference:
    gained = frozenset(change.fact for change in found if change.gained)
    return Difference(gained, frozenset(change.fact for change in found if not change.gained))


@any_past
@given(pasts(), st.data())
def test_every_change_names_the_event_that_made_it(past: Past, data: st.DataObject) -> None:
    """L2: before the event named a fact was not as it is at the end, after it it was."""
    start, end = sorted(data.draw(st.lists(st.integers(0, past.position), min_size=2, max_size=2)))
    for device in DEVICES:
        rows = past.rows(device_stream(device))
        for change in changes(read(rows), start, end):
            at = change.by.position
            assert start < at <= end
            assert (change.fact in facts(state_at(rows, at - 1))) is not change.gained
            assert all((change.fact in facts(state_at(rows, p))) is change.gained for p in range(at, end + 1))


@any_past
@given(pasts())
def test_a_right_rests_on_every_event_that_is_named_for_it(past: Past) -> None:
    """The events named give the right by themselves; without any one of them it is gone."""
    for device in DEVICES:
        events = read(past.of(device))
        for role in ("operator", "node"):
            for scope in ("", *SCOPES):
                found = could(events, role, scope, past.now)
                if found.way is None:
                    assert all(
                        use(world_at(events), role, scope, w, past.now).reason is not None
                        for w in ("device-token", "shared-secret")
                    )
                    continue
                assert found.verdict.reason is None
                assert use(world_at(found.proof), role, scope, found.way, past.now).reason is None
                token = world_at(events).device.token(role)
                for left_out in found.proof:
                    rest = world_at(one for one in found.proof if one is not left_out)
                    mine = rest.device.token(role)
                    same = mine is not None and token is not None and mine.issue == token.issue
                    assert not (same and use(rest, role, scope, found.way, past.now).reason is None)


@any_past
@given(pasts())
def test_a_right_that_is_gone_names_the_event_that_took_it(past: Past) -> None:
    """Just before the event named the right was there; since then it never was."""
    for device in DEVICES:
        events = read(past.of(device))
        for scope in SCOPES[:4]:
            found = could(events, "operator", scope, past.now)
            if found.way is not None:
                continue
            there, last = False, None
            world = NOTHING
            for one in events:
                world = after(world, one)
                now = any(use(world, "operator", scope, way, one.at).reason is None for way in ("device-token", "shared-secret"))
                last = one if there and not now else last
                there = now
            assert found.since == last
