"""Following by asking: pages of events after a position, on every backend."""

from time import perf_counter

import anyio
import pytest

from pairing.following import Following
from pairing.refusals import Reason, Refused


def _all(record):
    return True


async def _fill(log, words, count, stream="device:a", since=0):
    for number in range(count):
        await log.append([words.slice(stream, since + number, f"w{number}")], command=words.command(since + number), now=1)


async def _page(following, after, *, seen=None, wait_ms=0, limit=100, wanted=_all):
    return await following.page(after, seen=seen, wait_ms=wait_ms, limit=limit, wanted=wanted)


async def test_pages_of_any_size_give_every_event_once(log, words):
    """D4: whoever brings its position along misses nothing and hears nothing twice."""
    await _fill(log, words, 23)
    for limit in (1, 2, 7, 22, 23, 24):
        after, seen, heard = 0, None, []
        while True:
            page = await _page(Following(log), after, seen=seen, limit=limit)
            heard += [record.position for record in page.records]
            after, seen = page.mark.position, page.mark.hash.hex()
            if not page.records:
                break
        assert heard == list(range(1, 24))


async def test_a_follower_who_wants_little_is_carried_past_the_rest(log, words):
    await _fill(log, words, 5)
    page = await _page(Following(log), 0, wanted=lambda record: record.position == 2)
    assert [record.position for record in page.records] == [2]
    assert (page.mark.position, page.head) == (5, 5)


async def test_without_a_position_it_begins_at_the_present_end(log, words):
    await _fill(log, words, 3)
    page = await _page(Following(log), None)
    assert page.records == ()
    assert page.mark == await log.head()


async def test_a_waiting_follower_hears_at_once(log, words):
    following, took = Following(log), []

    async def wait():
        page = await _page(following, 0, wait_ms=5_000)
        took.append((perf_counter(), [record.position for record in page.records]))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(wait)
        await anyio.sleep(0.1)
        assert took == []
        began = perf_counter()
        await _fill(log, words, 1)
    assert [heard for _, heard in took] == [[1]] * 5
    assert max(at for at, _ in took) - began < 1


async def test_what_it_does_not_want_does_not_end_its_wait(log, words):
    following = Following(log)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_fill, log, words, 3)
        page = await _page(following, 0, wait_ms=200, wanted=lambda record: False)
    assert page.records == ()
    assert page.mark.position == 3


async def test_one_who_goes_away_hands_on_the_watch(log, words):
    """The follower that looks for all of them is cancelled; the next one looks."""
    following, heard = Following(log), []

    async def wait():
        page = await _page(following, 0, wait_ms=5_000)
        heard.append(page.records[0].position)

    async with anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def leader():
            with first:
                await wait()

        tasks.start_soon(leader)
        await anyio.sleep(0.05)
        tasks.start_soon(wait)
        await anyio.sleep(0.05)
        first.cancel()
        await anyio.sleep(0.05)
        await _fill(log, words, 1)
    assert heard == [1]


@pytest.mark.parametrize(("after", "seen"), [(4, None), (3, "00" * 32)], ids=["shorter", "another"])
async def test_a_log_that_is_another_one_now_is_not_followed_in_silence(log, words, after, seen):
    """D1: a position that the log has not reached, or whose row is another, says that its history was replaced."""
    await _fill(log, words, 3)
    with pytest.raises(Refused) as refused:
        await _page(Following(log), after, seen=seen)
    assert refused.value.reason is Reason.HISTORY_CHANGED
    assert refused.value.details == {"position": after, "head": 3}
