"""Forgetting: what points at a person goes, and the proof stays."""

from typing import Any

from pairing.log.chain import verify
from pairing.log.port import Appended, EventLog, Slice


async def test_forgetting_empties_the_personal_column_alone(log: EventLog, words: Any) -> None:
    """After `forget` the personal part of that stream is gone, everything else is as it was, and the chain verifies (L6)."""
    person = b'{"salt":"00","name":"Ada"}'
    for number, stream in enumerate(["device:a", "device:a", "device:b"]):
        draft = words.draft(personal=person)
        expected = len(await log.stream(stream))
        await log.append([Slice(stream, expected, (draft, words.draft()))], command=words.command(number), now=number)
    before = await log.scan()
    assert await log.forget("device:a") == 2
    assert await log.forget("device:a") == 0
    assert await log.forget("device:unheard-of") == 0
    after = await log.scan()
    assert verify(after) is None
    assert [row.personal for row in after] == [None, None, None, None, person, None]
    assert [row.hash for row in after] == [row.hash for row in before]
    assert [row.personal_hash for row in after] == [row.personal_hash for row in before]


async def test_forgetting_can_stop_before_a_position_and_reach_single_rows(log: EventLog, words: Any) -> None:
    """L6: what was said after the erasure was asked for stays, and rows of other streams can be emptied one by one."""
    for number, stream in enumerate(["device:a", "device:b", "device:a", "device:b"]):
        held = len(await log.stream(stream))
        draft = words.draft(personal=b'{"salt":"00"}')
        await log.append([Slice(stream, held, (draft,))], command=words.command(number), now=number)
    assert await log.forget("device:a", below=3) == 1
    assert await log.forget_at([2, 1, 99]) == 1
    assert await log.forget_at([]) == 0
    assert [row.position for row in await log.scan() if row.personal is None] == [1, 2]
    assert [row.position for row in await log.pick([4, 99, 2, 4, 0])] == [2, 4]
    assert [row.personal for row in await log.pick([2, 4])] == [None, b'{"salt":"00"}']
    assert verify(await log.scan()) is None


async def test_a_forgotten_stream_goes_on(log: EventLog, words: Any) -> None:
    """A forgotten stream is read, appended to, and its commands still get their rows."""
    person = words.draft(personal=b'{"salt":"00"}')
    await log.append([Slice("device:a", 0, (person,))], command=words.command(1), now=1)
    await log.forget("device:a")
    assert isinstance(await log.append([words.slice("device:a", 1, "x")], command=words.command(2), now=2), Appended)
    again = await log.append([Slice("device:a", 0, (person,))], command=words.command(1), now=3)
    assert isinstance(again, Appended)
    assert [row.position for row in again.records] == [1]
    assert verify(await log.scan()) is None
