"""The desk under races: what another task or process does between any two of its steps must not show in its answers.

A stage stands before the log and lets something happen right before or after one of its verbs; a second desk on the same log is
another process. Nothing here is left to chance but the last story, whose chances come from a seed.
"""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest

from pairing.authority import OPERATOR_SCOPES
from pairing.commands import (
    Approve,
    Caller,
    Expire,
    Knock,
    Reject,
    Remove,
    Rename,
    Revoke,
    Rotate,
    Silence,
    Standing,
    Start,
    Wanted,
)
from pairing.desk import Desk
from pairing.device import INITIAL
from pairing.events import Actor, RequestOpened, TokenRotated, device_stream
from pairing.evolve import evolve
from pairing.log.codec import decode
from pairing.log.errors import LogUnavailable, StreamDamaged
from pairing.log.memory import MemoryLog
from pairing.log.port import Conflict, Draft, Slice
from pairing.log.sqlite import SqliteLog
from pairing.refusals import Reason, Refused
from pairing.streams import MOST_OURS
from pairing.turns import ATTEMPTS

NOW = 1_777_000_000_000
PHONE, LAPTOP, TABLET = "a" * 64, "b" * 64, "c" * 64
HOST = Caller(actor=Actor("local", "0"), scopes=OPERATOR_SCOPES, method="local", origin="local")
SILENTLY = Silence("silent", ("not-paired", "scope-upgrade"), OPERATOR_SCOPES)
Act = Callable[[], Awaitable[object]]


class Words:
    """Commands with ids that grow, as a process makes them."""

    def __init__(self) -> None:
        self.count = 0

    def base(self, device: str | None = None, by: Caller = HOST) -> dict[str, Any]:
        self.count += 1
        number = (NOW << 80) + (0x7 << 76) + (0x2 << 62) + self.count
        return {"id": str(UUID(int=number)), "now": NOW + self.count, "by": by} | ({"device": device} if device else {})

    def knock(self, device: str, *scopes: str, silence: Silence | None = None) -> Knock:
        base = self.base(device)
        return Knock(
            **base,
            wanted=Wanted(key=f"key of {device[:1]}", role="operator", scopes=scopes or ("operator.read",)),
            client_id="cli",
            client_mode="cli",
            request=f"request-{self.count}",
            issue=f"issue-{self.count}",
            key="gateway-key",
            seen="seen",
            named="named",
            ttl=300_000,
            silence=silence,
        )

    def pair(self, device: str, *scopes: str) -> Knock:
        return self.knock(device, *scopes, silence=SILENTLY)

    def approve(self, device: str, request: str) -> Approve:
        return Approve(**self.base(device), request=request, issue=f"issue-{self.count}", key="gateway-key")

    def reject(self, device: str, request: str) -> Reject:
        return Reject(**self.base(device), request=request)

    def rename(self, device: str, label: str | None = None, by: Caller = HOST) -> Rename:
        return Rename(**self.base(device, by), labelled=label or f"label-{self.count}")

    def rotate(self, device: str, by: Caller = HOST) -> Rotate:
        return Rotate(**self.base(device, by), role="operator", scopes=None, issue=f"issue-{self.count}", key="gateway-key")

    def revoke(self, device: str) -> Revoke:
        return Revoke(**self.base(device), role="operator")

    def remove(self, device: str, by: Caller = HOST) -> Remove:
        return Remove(**self.base(device, by))

    def start(self, instance: str) -> Start:
        return Start(**self.base(), instance=instance, version="1", listen="-", key="-", ruling="-", secret=None, settings={})


class Stage:
    """A log with somebody in front of it: `before` and `after` a verb, once, something else happens."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.calls: list[str] = []
        self._acts: dict[str, list[Act]] = {}
        self.always: Callable[[str], Awaitable[None]] | None = None

    def before(self, verb: str, act: Act) -> None:
        self._acts.setdefault(f"before {verb}", []).append(act)

    def after(self, verb: str, act: Act) -> None:
        self._acts.setdefault(f"after {verb}", []).append(act)

    def __getattr__(self, verb: str) -> Any:
        async def staged(*args: Any, **more: Any) -> Any:
            self.calls.append(verb)
            await self._play(f"before {verb}")
            answer = await getattr(self.log, verb)(*args, **more)
            await self._play(f"after {verb}")
            return answer

        return staged

    async def _play(self, cue: str) -> None:
        if self.always is not None:
            await self.always(cue)
        acts = self._acts.get(cue)
        if acts:
            await acts.pop(0)()


@pytest.fixture
def say() -> Words:
    return Words()


@pytest.fixture
async def file_log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = await SqliteLog.open(tmp_path / "log.db")
    yield log
    await log.close()


def two(log: Any, **more: Any) -> tuple[Stage, Desk, Desk]:
    """Return this process's stage and desk, and another process's desk, on one log. Both have looked at it before."""
    stage = Stage(log)
    return stage, Desk(stage, version="here", **more), Desk(log, version="there")  # type: ignore[arg-type]


async def refused(work: Awaitable[object]) -> Reason:
    with pytest.raises(Refused) as no:
        await work
    return no.value.reason


async def folded(log: Any, device: str) -> tuple[Any, int]:
    rows = await log.stream(device_stream(device))
    state = INITIAL
    for row in rows:
        state = evolve(state, decode(row))  # type: ignore[arg-type]
    return state, len(rows)


async def together(*works: Callable[[], Awaitable[object]]) -> None:
    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(work)


# --- the same command again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["same process", "another process"])
async def test_the_same_command_again_gets_the_first_answer_whatever_the_state_has_become(say: Words, where: str):
    """T16, R6: opened, approved, rotated, revoked, removed, renamed, started: asked twice, stored once, answered alike."""
    log = MemoryLog()
    _, here, there = two(log)
    again = here if where == "same process" else there
    opened = await here.handle(say.knock(PHONE))
    request = opened.events[0].request  # type: ignore[union-attr]
    laptop = await here.handle(say.knock(LAPTOP))
    commands = [
        say.approve(PHONE, request),
        say.rotate(PHONE),
        say.rename(PHONE),
        say.revoke(PHONE),
        say.remove(PHONE),
        say.reject(LAPTOP, laptop.events[0].request),  # type: ignore[union-attr]
        say.pair(TABLET),
    ]
    first = [await here.handle(command) for command in commands]
    stored = (await log.head()).position
    for command, answer in zip(commands, first, strict=True):
        second = await again.handle(command)
        assert (second.events, second.records, second.repeated) == (answer.events, answer.records, True)
    started = say.start("one")
    before = await here.handle_house(started)
    after = await again.handle_house(started)
    assert (after.records, after.repeated) == (before.records, True)
    assert (await log.head()).position == stored + 2


async def test_the_answer_is_the_first_one_also_when_many_ask_at_the_same_time(say: Words, file_log: SqliteLog):
    """T16: one removal asked ten times at once is one removal, and ten times the same answer."""
    _, here, there = two(file_log)
    await here.handle(say.pair(PHONE))
    command, answers = say.remove(PHONE), []

    async def ask(desk: Desk) -> None:
        answers.append(await desk.handle(command))

    await together(*[lambda desk=desk: ask(desk) for desk in [here, there] * 5])
    assert len(answers) == 10
    assert len({answer.records for answer in answers}) == 1
    assert (await file_log.stream(device_stream(PHONE)))[-1].kind == "device.removed"


async def test_an_asker_who_went_away_while_it_was_stored_can_ask_again(say: Words):
    """T16, D6: the rows are stored, the answer is lost, the same id gets it."""
    stage, desk, _ = two(MemoryLog())
    await desk.handle(say.pair(PHONE))
    command, stored = say.rotate(PHONE), anyio.Event()

    async def lose() -> None:
        stored.set()
        await anyio.sleep_forever()

    stage.after("append", lose)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.handle, command)
        await stored.wait()
        tasks.cancel_scope.cancel()
    rows = (await stage.log.head()).position
    answer = await desk.handle(command)
    assert isinstance(answer.events[0], TokenRotated)
    assert (await stage.log.head()).position == rows
    assert await desk.device_at(PHONE) == await folded(stage.log, PHONE)


async def test_an_asker_who_went_away_before_it_was_stored_can_ask_again(say: Words, file_log: SqliteLog):
    """T16: the append goes on without its asker; whoever asks meanwhile stands in line behind it and gets its answer."""
    desk = Desk(file_log, version="here")
    await desk.handle(say.pair(PHONE))
    group: Any = file_log._group
    go, waiting = Event(), anyio.Event()
    command = say.remove(PHONE)

    async def hold() -> None:
        await group._writing.run(lambda _: go.wait(10))

    async def ask() -> None:
        waiting.set()
        await desk.handle(command)

    async with anyio.create_task_group() as writers:
        writers.start_soon(hold)
        async with anyio.create_task_group() as askers:
            askers.start_soon(ask)
            await waiting.wait()
            await anyio.sleep(0.05)
            askers.cancel_scope.cancel()
        assert [row.kind for row in await file_log.stream(device_stream(PHONE))][-1] != "device.removed"
        writers.start_soon(_soon, go)
        answer = await desk.handle(command)
    assert [row.kind for row in answer.records] == ["device.removed"]
    assert (await file_log.stream(device_stream(PHONE)))[-1] == answer.records[-1]
    assert not desk._turns


async def _soon(go: Event) -> None:
    await anyio.sleep(0.05)
    go.set()


async def test_an_id_used_for_something_else_gives_the_first_answer_and_spoils_no_state(say: Words):
    """T16, D10: what is kept in memory is what the log holds, also where two commands came with one id."""
    log = MemoryLog()
    _, here, there = two(log)
    for device in (PHONE, LAPTOP):
        await here.handle(say.pair(device))
        await there.device(device)
    rotation = say.rotate(PHONE)
    revocation = Revoke(id=rotation.id, now=NOW, by=HOST, device=PHONE, role="operator")
    elsewhere = Revoke(id=rotation.id, now=NOW, by=HOST, device=LAPTOP, role="operator")
    first = await here.handle(rotation)
    # The other process has not looked since, so that the version it expects is the one the rotation had.
    for other in (revocation, elsewhere):
        assert (await there.handle(other)).records == first.records
    for desk in (here, there):
        for device in (PHONE, LAPTOP):
            assert await desk.device_at(device) == await folded(log, device)


# --- refusals and "nothing to do" on a current state ---------------------------------------------------------------


async def test_no_refusal_is_spoken_on_a_state_that_another_process_has_changed(say: Words):
    """R8, D4: a device that was unknown here when it was last looked at is renamed all the same."""
    _, here, there = two(MemoryLog())
    await here.device(PHONE)
    await there.handle(say.pair(PHONE))
    assert (await here.handle(say.rename(PHONE))).records


@pytest.mark.parametrize("verb", ["command", "head"])
async def test_no_refusal_is_spoken_on_a_stale_state_because_another_task_has_caught_up(say: Words, verb: str):
    """R8: whoever follows the log first, what was judged before that is judged again."""
    stage, here, there = two(MemoryLog())
    await here.device(PHONE)
    await there.handle(say.pair(PHONE))
    for cue in (stage.before, stage.after):
        cue(verb, lambda: here.device(PHONE))
    assert (await here.handle(say.rename(PHONE))).records


async def test_nothing_to_do_is_not_said_of_a_state_that_is_gone(say: Words):
    """R8, R9: the device was removed elsewhere, so its knock opens a request instead of changing nothing."""
    stage, here, there = two(MemoryLog())
    await here.handle(say.pair(PHONE))
    assert (await here.handle(say.pair(PHONE))).records == ()
    await there.handle(say.remove(PHONE))
    stage.after("head", lambda: here.device(PHONE))
    knocked = await here.handle(say.knock(PHONE))
    assert isinstance(knocked.events[0], RequestOpened)


async def test_an_approval_of_what_another_process_rejected_is_refused(say: Words):
    """R6, R8: the second answer is judged on the first, however fresh the approver's own look was."""
    stage, here, there = two(MemoryLog())
    opened = await here.handle(say.knock(PHONE))
    request = opened.events[0].request  # type: ignore[union-attr]
    stage.before("append", lambda: there.handle(say.reject(PHONE, request)))
    assert await refused(here.handle(say.approve(PHONE, request))) is Reason.UNKNOWN_REQUEST
    assert (await here.device(PHONE)).grant is None


# --- the caller's own standing -------------------------------------------------------------------------------------


def standing(device: str, issue: str) -> Caller:
    return Caller(
        actor=Actor("device", device),
        scopes=("operator.admin",),
        standing=Standing(device, "operator", issue),
        method="device-token",
    )


async def _operator(say: Words, desk: Desk) -> Caller:
    paired = await desk.handle(say.pair(LAPTOP, "operator.admin"))
    token = paired.state.token("operator")
    assert token is not None
    return standing(LAPTOP, token.issue)


@pytest.mark.parametrize("end", ["revoke", "rotate", "remove"])
async def test_a_command_does_not_outlive_its_callers_token_by_one_step(say: Words, end: str):
    """R8, V1: the token dies elsewhere between decision and append; the append fails with it, and nothing is written."""
    stage, here, there = two(MemoryLog())
    operator = await _operator(say, here)
    await here.handle(say.pair(PHONE))
    stage.before("append", lambda: there.handle(getattr(say, end)(LAPTOP)))
    assert await refused(here.handle(say.rename(PHONE, by=operator))) is Reason.FENCED
    assert "device.renamed" not in [row.kind for row in await stage.log.scan()]


async def test_a_caller_who_was_fenced_here_but_came_back_elsewhere_is_still_fenced(say: Words):
    """V1, T1: a session rests on one generation of its token; the next generation does not carry it."""
    _, here, there = two(MemoryLog())
    operator = await _operator(say, here)
    await here.handle(say.pair(PHONE))
    await there.handle(say.rotate(LAPTOP))
    await there.handle(say.rotate(LAPTOP))
    assert await refused(here.handle(say.rename(PHONE, by=operator))) is Reason.FENCED


async def test_a_caller_may_act_on_its_own_device_and_is_judged_by_one_version_of_it(say: Words):
    """A7, T5: where caller and target are one stream, the expected version is the guard."""
    stage, here, there = two(MemoryLog())
    operator = await _operator(say, here)
    stage.before("append", lambda: there.handle(say.rename(LAPTOP, "from elsewhere")))
    assert (await here.handle(say.rotate(LAPTOP, by=operator))).records
    assert await refused(here.handle(say.rename(LAPTOP, by=operator))) is Reason.FENCED


async def test_a_change_of_the_callers_own_label_does_not_make_its_commands_fail(say: Words):
    """R8: the guard holds the caller's whole stream still; where only a label has changed, the command is judged again."""
    stage, here, there = two(MemoryLog())
    operator = await _operator(say, here)
    await here.handle(say.pair(PHONE))
    stage.before("append", lambda: there.handle(say.rename(LAPTOP)))
    assert (await here.handle(say.rename(PHONE, by=operator))).records
    assert stage.calls.count("append") == 4


# --- the cache and the following -----------------------------------------------------------------------------------


async def test_a_row_that_passes_while_its_stream_is_read_is_not_missed(say: Words):
    """V1, R8: read before, kept after: the rows that were followed meanwhile are read again."""
    stage, here, there = two(MemoryLog())
    await there.handle(say.pair(PHONE))
    await here.device(LAPTOP)

    async def meanwhile() -> None:
        await there.handle(say.remove(PHONE))
        await here.device(LAPTOP)

    stage.after("stream", meanwhile)
    assert (await here.device(PHONE)).grant is None
    assert (await here.device(PHONE)).grant is None


async def test_two_readers_of_one_stream_do_not_hide_a_row_from_each_other(say: Words):
    """V1: the second reader begins after the row, the first has read before it."""
    stage, here, there = two(MemoryLog())
    await there.handle(say.pair(PHONE))
    await here.device(LAPTOP)
    seen = []

    async def meanwhile() -> None:
        await there.handle(say.remove(PHONE))
        await here.device(LAPTOP)
        stage.after("stream", lambda: anyio.sleep(0.01))
        tasks.start_soon(read)
        await anyio.lowlevel.checkpoint()

    async def read() -> None:
        seen.append((await here.device(PHONE)).grant)

    stage.after("stream", meanwhile)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
    assert seen == [None, None]
    assert (await here.device(PHONE)).grant is None


async def test_a_stream_read_before_the_first_look_at_the_log_is_read_again(say: Words):
    """V1: where following begins above a row that was read past, nobody would ever bring it."""
    log = MemoryLog()
    stage, here, there = two(log)
    await there.handle(say.pair(PHONE))
    removal = say.remove(PHONE)

    async def meanwhile() -> None:
        await there.handle(removal)
        await here.device(LAPTOP)

    stage.after("stream", meanwhile)
    # A command is judged without a look at the log first.
    assert isinstance((await here.handle(say.knock(PHONE))).events[0], RequestOpened)
    assert await here.device_at(PHONE) == await folded(log, PHONE)


async def test_what_this_process_wrote_is_not_kept_over_what_was_followed_after_it(say: Words):
    """V1: the answer of an append comes late, and its state has left the cache; the later row must not be lost."""
    log = MemoryLog()
    stage, here, there = two(log, cache=1)
    await here.handle(say.pair(PHONE))

    async def meanwhile() -> None:
        await there.handle(say.remove(PHONE))
        await here.device(LAPTOP)  # pushes the phone out, and follows the log past the removal

    stage.after("append", meanwhile)
    await here.handle(say.rename(PHONE))
    assert (await here.device(PHONE)).grant is None
    assert await here.device_at(PHONE) == await folded(log, PHONE)


async def test_a_reader_is_not_fooled_by_a_row_of_this_process_that_needs_no_following(say: Words):
    """V1: rows written here are passed over unread; who is reading their stream just then reads it again."""
    log = MemoryLog()
    stage, here, _ = two(log, cache=1)
    await here.handle(say.pair(PHONE))
    await here.device(LAPTOP)

    async def meanwhile() -> None:
        await here.handle(say.remove(PHONE))
        await here.device(LAPTOP)

    stage.after("stream", meanwhile)
    assert (await here.device(PHONE)).grant is None


async def test_rows_of_this_process_are_not_read_again_and_those_of_others_never_skipped(say: Words):
    """D4: following costs nothing where nobody else writes, and stops at the first row of somebody else."""
    log = MemoryLog()
    stage, here, there = two(log)
    await here.device(PHONE)
    await here.handle(say.pair(PHONE))
    await here.handle(say.rename(PHONE))
    assert here.position == (await log.head()).position
    assert stage.calls.count("scan") == 0
    await there.handle(say.revoke(PHONE))
    await here.handle(say.pair(LAPTOP))
    assert here.position == (await log.head()).position - 5
    state = await here.device(PHONE)
    assert state.token("operator").revoked_at is not None  # type: ignore[union-attr]
    assert here.position == (await log.head()).position
    assert not here._devices._ours


async def test_rows_of_this_process_written_while_it_reads_those_of_others_never_take_it_back(say: Words):
    """D4: a scan that began earlier does not undo how far this process knows itself to be."""
    log = MemoryLog()
    stage, here, there = two(log)
    await here.device(PHONE)
    await there.handle(say.pair(LAPTOP))
    stage.after("scan", lambda: here.handle(say.pair(PHONE)))
    await here.device(LAPTOP)
    reached = here.position
    await here.device(LAPTOP)
    assert here.position >= reached
    assert here.position == (await log.head()).position
    assert await here.device_at(PHONE) == await folded(log, PHONE)


async def test_what_is_noted_of_own_rows_is_bounded(say: Words):
    """R10: a process that never looks, while another has written one row, does not grow with every command."""
    _, here, there = two(MemoryLog())
    await here.device(PHONE)
    await there.handle(say.pair(LAPTOP))
    for _ in range(3):
        await here.handle(say.pair(PHONE))
        await here.handle(say.remove(PHONE))
    notes = here._devices._ours
    assert 0 < len(notes) <= 6
    some = next(iter(notes.values()))
    for number in range(MOST_OURS):
        notes[-number] = some
    await here.handle(say.pair(PHONE))
    assert len(here._devices._ours) == 1
    assert (await here.device(PHONE)).grant is not None


async def test_the_cache_is_bounded_and_forgetting_changes_no_answer(say: Words):
    """R10, D10: two states in memory, twenty devices, the same answers."""
    log = MemoryLog()
    _, here, there = two(log, cache=2)
    devices = [f"{number:064x}" for number in range(20)]
    for device in devices:
        await (here if int(device, 16) % 2 else there).handle(say.pair(device))
    for device in devices + devices[::-1]:
        await here.handle(say.rename(device))
        assert await here.device_at(device) == await folded(log, device)
        assert len(here._devices._cached) <= 2


async def test_an_asker_who_goes_away_leaves_nothing_behind(say: Words):
    """R10: neither a cancelled reader nor one that meets an error stays noted as reading."""
    stage, here, there = two(MemoryLog())
    await there.handle(say.pair(PHONE))

    async def fail() -> None:
        raise LogUnavailable(Path("log.db"), "the disk is gone")

    stage.before("stream", fail)
    with pytest.raises(LogUnavailable):
        await here.handle(say.rename(PHONE))
    stage.before("stream", anyio.sleep_forever)
    with anyio.move_on_after(0.01):
        await here.handle(say.rename(PHONE))
    assert (here._devices._readings, here._turns._waiting) == ({}, {})
    assert (await here.handle(say.rename(PHONE))).records


async def test_many_commands_on_one_device_all_get_their_turn(say: Words, file_log: SqliteLog):
    """D4: side by side all but one would be in conflict again and again; none is turned away as busy."""
    desk = Desk(file_log, version="here")
    await desk.handle(say.pair(PHONE))
    commands = [say.rename(PHONE) for _ in range(100)]
    await together(*[lambda command=command: desk.handle(command) for command in commands])
    rows = await file_log.stream(device_stream(PHONE))
    assert [row.version for row in rows] == list(range(1, 105))
    assert not desk._turns


@pytest.mark.parametrize("moment", ["while it waits", "as its turn comes"])
async def test_a_waiting_command_whose_asker_goes_away_passes_its_turn_on(say: Words, moment: str):
    """D4: those behind it go on, and nothing of the queue stays."""
    stage, desk, _ = two(MemoryLog())
    await desk.handle(say.pair(PHONE))
    first, second, third = say.rename(PHONE), say.rename(PHONE), say.rename(PHONE)
    waiting: list[asyncio.Task[object]] = []

    async def meanwhile() -> None:
        for command in (second, third):
            waiting.append(asyncio.create_task(desk.handle(command)))
            await anyio.lowlevel.checkpoint()
        if moment == "while it waits":
            waiting[0].cancel()
            await anyio.lowlevel.checkpoint()

    stage.after("append", meanwhile)
    with anyio.fail_after(10):
        await desk.handle(first)
        waiting[0].cancel()  # in the moment in which it was let through, before it has run
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        await waiting[1]
    rows = await stage.log.stream(device_stream(PHONE))
    assert [decode(row).labelled for row in rows[4:]] == [first.labelled, third.labelled]  # type: ignore[union-attr]
    assert not desk._turns


async def test_retries_are_bounded(say: Words):
    """D4: a log that answers nothing but conflicts is asked a dozen times, then the caller hears that it is busy."""
    stage, here, _ = two(MemoryLog())
    await here.handle(say.pair(PHONE))

    class Contested(MemoryLog):
        asked = 0

        async def append(self, slices: Any, *, command: str, now: int) -> Any:
            self.asked += 1
            return Conflict(slices[0].stream, slices[0].expected, slices[0].expected + 1)

    contested = Contested()
    contested._rows, contested._streams = stage.log._rows, stage.log._streams
    stage.log = contested
    assert await refused(here.handle(say.rename(PHONE))) is Reason.BUSY
    assert contested.asked == ATTEMPTS


# --- rows of others that are not as they should be -----------------------------------------------------------------


@pytest.mark.parametrize("met", ["cached before", "read for the first time"])
async def test_a_kind_from_a_newer_version_refuses_decisions_on_its_stream_alone(say: Words, met: str):
    """D3: what this version does not understand may be a lock; nothing is decided over it, and the other devices go on."""
    log = MemoryLog()
    _, here, there = two(log)
    for device in (PHONE, LAPTOP):
        await there.handle(say.pair(device))
        if met == "cached before":
            await here.device(device)
    newer = Draft("device.shrunk", b'{"command":"-"}', b'{"kind":"device.shrunk","to":"a mouse"}')
    await log.append([Slice(device_stream(PHONE), 4, (newer,))], command=say.base()["id"], now=NOW)
    for command in (say.rename(PHONE), say.rotate(PHONE), say.revoke(PHONE), say.remove(PHONE), say.knock(PHONE)):
        assert await refused(here.handle(command)) is Reason.NEWER_WRITER
    assert await refused(here.handle(Expire(**say.base(PHONE), request="request-1"))) is Reason.NEWER_WRITER
    assert (await here.handle(say.rename(LAPTOP))).records


@pytest.mark.parametrize("met", ["cached before", "read for the first time"])
@pytest.mark.parametrize("flaw", ["hash", "body"])
async def test_a_damaged_row_closes_its_own_stream_alone(say: Words, tmp_path: Path, file_log: SqliteLog, met: str, flaw: str):
    """D1, D2: a row that was not written by the service is neither believed nor taken for an empty stream."""
    _, here, there = two(file_log)
    for device in (PHONE, LAPTOP):
        await there.handle(say.pair(device))
        if met == "cached before":
            await here.device(device)
    head = await file_log.head()
    body = '{"kind":"device.removed","at":1,"roles":["operator"],"issues":[]}' if flaw == "hash" else "{"
    with sqlite3.connect(tmp_path / "log.db") as db:
        (stream,) = db.execute("SELECT id FROM streams WHERE name = ?", (device_stream(PHONE),)).fetchone()
        values = (head.position + 1, stream, 5, "device.removed", NOW, UUID(int=1).bytes, "{}", body, None, None, bytes(32))
        db.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", values)
    db.close()
    for _ in range(2):
        with pytest.raises(StreamDamaged):
            await here.handle(say.rename(PHONE))
        with pytest.raises(StreamDamaged):
            await here.device(PHONE)
        assert (await here.handle(say.rename(LAPTOP))).records
    assert (await here.device(TABLET)) == INITIAL


@pytest.mark.parametrize("after", [0, 1, 5])
async def test_a_log_that_was_put_back_is_followed_anew(say: Words, after: int):
    """V7, D10: what was judged on a history that is gone is forgotten, whether the one put back is shorter, as long or longer."""
    lived, put_back = MemoryLog(), MemoryLog()
    before = say.pair(PHONE)
    for log in (lived, put_back):
        await Desk(log, version="there").handle(before)
    stage, here, _ = two(lived)
    other = Desk(put_back, version="there")
    await here.handle(say.rename(PHONE))
    await here.device(PHONE)
    for _ in range(after):
        await other.handle(say.rename(PHONE))
    stage.log = put_back
    assert await here.device_at(PHONE) == await folded(put_back, PHONE)
    assert (await here.handle(say.rename(PHONE))).records
    assert await here.device_at(PHONE) == await folded(put_back, PHONE)


# --- every order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
async def test_no_order_of_tasks_and_processes_gives_an_answer_older_than_its_question(say: Words, seed: int):
    """V1, D4, D10: three desks with small caches, tasks that pause at every step: answers are never older than the asking."""
    chance = random.Random(seed)
    log = MemoryLog()

    async def pause(_: str) -> None:
        for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
            await anyio.lowlevel.checkpoint()

    desks = []
    for _ in range(3):
        stage = Stage(log)
        stage.always = pause
        desks.append(Desk(stage, version="-", cache=chance.choice((1, 2, 5))))  # type: ignore[arg-type]
    devices = [PHONE, LAPTOP, TABLET]
    answered: list[tuple[int, ...]] = []

    async def live(desk: Desk) -> None:
        for _ in range(30):
            device = chance.choice(devices)
            if chance.random() < 0.5:
                known = len(await log.stream(device_stream(device)))
                state, version = await desk.device_at(device)
                assert version >= known
                rows = (await log.stream(device_stream(device)))[:version]
                expected = INITIAL
                for row in rows:
                    expected = evolve(expected, decode(row))  # type: ignore[arg-type]
                assert state == expected
                continue
            command = chance.choice((say.pair, say.rename, say.rotate, say.revoke, say.remove))(device)
            try:
                answered.append(tuple(row.position for row in (await desk.handle(command)).records))
            except Refused as no:
                if no.reason not in {Reason.UNKNOWN_DEVICE, Reason.ROTATION_DENIED, Reason.REVOCATION_DENIED}:
                    raise

    await together(*[lambda desk=desk: live(desk) for desk in desks * 3])
    written = sorted(position for positions in answered for position in positions)
    assert written == list(range(1, (await log.head()).position + 1))
    for desk in desks:
        assert not desk._turns
        assert not desk._devices._readings
        for device in devices:
            assert await desk.device_at(device) == await folded(log, device)
