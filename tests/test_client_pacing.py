"""The waits between two tries, with a chance that is chosen."""

from hypothesis import given
from hypothesis import strategies as st

from pairing.client.pacing import LONGEST_S, MOST_S, Backoff

chances = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def test_waits_double_from_one_second_to_thirty() -> None:
    """Protocol §4.7: 1, 2, 4, 8, 16, 30, 30 …, at their longest."""
    backoff = Backoff(lambda: 1.0)
    assert [backoff.failed() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    shortest = Backoff(lambda: 0.0)
    assert [shortest.failed() for _ in range(6)] == [0.5, 1, 2, 4, 8, 15]


def test_a_session_that_held_begins_anew_and_one_that_did_not_counts_as_a_failure() -> None:
    """A gateway that lets in and throws out at once is not hammered."""
    backoff = Backoff(lambda: 1.0)
    assert [backoff.failed(), backoff.failed()] == [1, 2]
    backoff.held(9.9)
    assert backoff.failed() == 4
    backoff.held(10.0)
    assert backoff.failed() == 1


@given(chances, st.none() | st.integers(0, 10**12))
def test_no_wait_is_longer_than_it_may_be_nor_shorter_than_was_asked(chance: list[float], asked_ms: int | None) -> None:
    """Whatever chance and gateway say: half a second to thirty, or what was asked for, ten minutes at most."""
    numbers = iter(chance)
    backoff = Backoff(lambda: next(numbers))
    waits = [backoff.failed(asked_ms) for _ in chance]
    asked = 0 if asked_ms is None else min(asked_ms / 1000, LONGEST_S)
    assert all(max(0.5, asked) <= wait <= max(MOST_S, asked) for wait in waits)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 60)), max_size=30))
def test_a_client_that_keeps_failing_never_comes_more_than_twice_a_second(life: list[tuple[float, float]]) -> None:
    """In any mix of failures and short sessions, waits and sessions together take as long as the tries should."""
    chance = iter([c for c, _ in life])
    backoff = Backoff(lambda: next(chance))
    passed = 0.0
    for _, held in life:
        backoff.held(held)
        passed += held + backoff.failed()
    assert passed >= 0.5 * len(life)
