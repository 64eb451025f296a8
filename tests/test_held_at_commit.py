"""What must hold beside a command until its commit: somebody else who can approve (A22), and everybody who has voted (A1, R8).

A desk beside a desk on the same log is another process; the log lets others in wherever it is waited for.
"""

import multiprocessing
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cli.compose import local_caller, open_all
from pairing import methods, operators
from pairing import settings as configured
from pairing.commands import (
    Approve,
    Ban,
    Caller,
    Knock,
    Lock,
    Quorum,
    Reject,
    Remove,
    Revoke,
    Rotate,
    Silence,
    Standing,
    Terms,
    Wanted,
)
from pairing.desk import Desk
from pairing.device import INITIAL, Device
from pairing.events import Actor
from pairing.evolve import evolve
from pairing.log.codec import decode
from pairing.log.memory import MemoryLog
from pairing.refusals import Reason, Refused

NOW = 1_777_000_000_000
ADMIN, PAIRING, READ = "operator.admin", "operator.pairing", "operator.read"
A, B, C, D = (letter * 64 for letter in "abcd")
SECRET = Caller(actor=Actor("shared-secret"), scopes=(ADMIN,))
SILENTLY = Silence("silent", ("not-paired",), (ADMIN,))


class Jittery:
    """A log at which somebody else always gets a turn, as often as chance has it."""

    def __init__(self, log: Any, chance: random.Random) -> None:
        self.log, self.chance = log, chance

    def __getattr__(self, verb: str) -> Any:
        async def jittered(*args: Any, **more: Any) -> Any:
            for _ in range(self.chance.randrange(4)):
                await anyio.lowlevel.checkpoint()
            return await getattr(self.log, verb)(*args, **more)

        return jittered


class Everybody:
    """A finder that knows nothing: it names all devices, in any order. Streams decide."""

    def __init__(self, devices: list[str], chance: random.Random) -> None:
        self.devices, self.chance = devices, chance

    async def approvers(self, *, besides: str, under: str | None, skip: int = 0) -> tuple[str, ...]:
        found = list(self.devices)
        self.chance.shuffle(found)
        return tuple(found) if skip == 0 else ()


class Town:
    """Some devices, and any number of desks on their log."""

    def __init__(self, devices: dict[str, str], seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.log = Jittery(MemoryLog(), self.chance)
        self.devices = devices
        self.count = 0

    def desk(self) -> Desk:
        desk = Desk(self.log, version="1")
        desk.guards.under, desk.guards.approvers = "S1", Everybody(list(self.devices), self.chance)
        return desk

    def base(self, device: str, by: Caller = SECRET) -> dict[str, Any]:
        self.count += 1
        number = (NOW << 80) + (0x7 << 76) + (0x2 << 62) + self.count
        return {"id": str(UUID(int=number)), "now": NOW + self.count, "by": by, "device": device}

    async def settle(self) -> "Town":
        desk = self.desk()
        for device, scope in self.devices.items():
            await desk.handle(self.knock(device, scope, SILENTLY))
        return self

    def knock(self, device: str, scope: str, silence: Silence | None = None, under: str | None = "S1") -> Knock:
        wanted = Wanted(key="key", role="operator", scopes=(scope,), under=under)
        here = {"client_id": "cli", "client_mode": "cli", "seen": "s", "named": "n", "ttl": 1000, "key": "k"}
        name = f"r-{device[0]}"
        return Knock(**self.base(device), wanted=wanted, request=name, issue=f"i-{device[0]}", silence=silence, **here)

    def remove(self, device: str, by: Caller = SECRET, **more: Any) -> Remove:
        return Remove(**self.base(device, by), **more)

    def revoke(self, device: str, by: Caller = SECRET) -> Revoke:
        return Revoke(**self.base(device, by), role="operator")

    def narrow(self, device: str, by: Caller = SECRET) -> Rotate:
        return Rotate(**self.base(device, by), role="operator", scopes=(), issue=f"i{self.count}", key="k")

    def lock(self, device: str, by: Caller = SECRET) -> Lock:
        return Lock(**self.base(device, by), terms=Ban())

    def by_token(self, device: str) -> Caller:
        """A session by the device's own token, of the generation that it was paired with."""
        standing = Standing(device, "operator", f"i-{device[0]}.operator")
        return Caller(actor=Actor("device", device), scopes=(ADMIN,), standing=standing)

    def of(self, device: str, *scopes: str) -> Caller:
        """A session of a device, whatever generation its token is of."""
        return Caller(actor=Actor("device", device), scopes=scopes, standing=Standing(device, "operator", None))

    async def able(self) -> set[str]:
        states: dict[str, Device] = {}
        for row in await self.log.log.scan(limit=100_000):
            device = row.stream.removeprefix("device:")
            states[device] = evolve(states.get(device, INITIAL), decode(row))
        return {device for device, state in states.items() if operators.able(state, "S1")}


async def outcome(work: Awaitable[object]) -> Reason | None:
    try:
        await work
    except Refused as refused:
        return refused.reason
    return None


@pytest.mark.parametrize("way", ["remove", "revoke", "narrow", "lock"])
async def test_the_last_operator_is_kept_and_the_glass_can_be_broken(way: str) -> None:
    """A22: the last but one may go, the last may not; with the word and a reason it may, and an event says so."""
    town = await Town({A: ADMIN, B: PAIRING, C: READ}).settle()
    desk = town.desk()
    end: Callable[..., Any] = getattr(town, way)
    assert await outcome(desk.handle(end(C))) is None
    assert await outcome(desk.handle(end(A))) is None
    head = (await town.log.log.head()).position
    assert await outcome(desk.handle(end(B))) is Reason.LAST_OPERATOR
    assert (await town.log.log.head()).position == head
    handled = await desk.handle(town.remove(B, break_glass=True, reason="stolen"))
    assert [record.kind for record in handled.records] == ["device.removed", "glass.broken"]
    assert await town.able() == set()


async def test_breaking_the_glass_for_one_of_several_breaks_nothing() -> None:
    """A22: where another operator remains, there is nothing to break, and no event says that there was."""
    town = await Town({A: ADMIN, B: ADMIN}).settle()
    handled = await town.desk().handle(town.remove(B, break_glass=True, reason="sold"))
    assert [record.kind for record in handled.records] == ["device.removed"]


async def test_where_the_rule_is_off_or_nobody_could_approve_everything_may_go() -> None:
    """A22: no finder, no rule; and a device that could not approve is the last of nothing."""
    town = await Town({A: ADMIN, B: READ}).settle()
    desk = town.desk()
    desk.guards.approvers = None
    await desk.handle(town.remove(A))
    await town.desk().handle(town.remove(B))
    assert await town.able() == set()


async def test_a_witness_in_doubt_or_of_an_older_secret_is_none() -> None:
    """A22, V6, T6: whose end could not be stored, or for whom an older secret alone vouched, is no witness."""
    town = await Town({A: ADMIN, B: ADMIN}).settle()
    desk = town.desk()
    desk.doubted.add(B)
    assert await outcome(desk.handle(town.remove(A))) is Reason.LAST_OPERATOR
    later = town.desk()
    later.under = "S2"
    assert await outcome(later.handle(town.remove(A))) is None
    assert await outcome(town.desk().handle(town.remove(B))) is Reason.LAST_OPERATOR


async def test_a_rejection_that_bans_is_held_to_the_rule_over_both_streams() -> None:
    """A22, B7: a ban that also voids a setup code is decided over two streams; it ends no last operator either."""
    town = await Town({A: ADMIN}).settle()
    desk = town.desk()
    knock = town.knock(A, READ)
    await desk.handle(replace(knock, request="more", wanted=replace(knock.wanted, role="node", scopes=()), code="code-1"))
    ban = Reject(**town.base(A), request="more", ban=Ban())
    assert await outcome(desk.handle_rejection(ban)) is Reason.LAST_OPERATOR
    told = Reject(**town.base(A), request="more", ban=Ban(), break_glass=True, reason="stolen")
    handled = await desk.handle_rejection(told)
    assert "glass.broken" in [record.kind for record in handled.records]


async def test_a_locked_operator_is_no_witness() -> None:
    """A22: who is locked, though only for an hour, saves nobody from being the last; once the lock is over, it does."""
    town = await Town({A: ADMIN, B: ADMIN}).settle()
    desk = town.desk()
    await desk.handle(Lock(**town.base(B), terms=Ban(until=NOW + 3_600_000)))
    assert await outcome(desk.handle(town.remove(A))) is Reason.LAST_OPERATOR
    town.count += 3_600_000
    assert await outcome(desk.handle(town.remove(A))) is None


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("processes", [1, 2])
async def test_two_operators_who_remove_each_other_at_once_do_not_both_succeed(processes: int, seed: int) -> None:
    """A22, R8: whether they came by the shared secret or by their own tokens, one remains, and who came too late is told why."""
    town = await Town({A: ADMIN, B: ADMIN}, seed).settle()
    one = town.desk()
    other = one if processes == 1 else town.desk()
    by = (town.of(A, ADMIN), town.of(B, ADMIN)) if seed % 2 else (SECRET, SECRET)
    said: list[Reason | None] = []

    async def end(desk: Desk, command: Remove) -> None:
        said.append(await outcome(desk.handle(command)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end, one, town.remove(B, by[0]))
        tasks.start_soon(end, other, town.remove(A, by[1]))
    assert said.count(None) == 1
    assert set(said) <= {None, Reason.LAST_OPERATOR, Reason.FENCED}
    assert len(await town.able()) == 1


ends = st.tuples(
    st.sampled_from(["remove", "revoke", "narrow", "lock"]),
    st.sampled_from([A, B, C, D]),
    st.integers(0, 2),
    st.sampled_from(["", A, B, C]),
)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.lists(ends, min_size=2, max_size=10), st.integers(0, 2**32), st.sampled_from([ADMIN, READ]))
def test_under_any_interleaving_somebody_remains(work: list[tuple[str, str, int, str]], seed: int, fourth: str) -> None:
    """A22: any commands by anybody at up to three desks at once; whatever the order, one who can approve remains.

    And no more is refused than must be: a refusal for that reason means that exactly one is left in the end.
    """

    async def run() -> None:
        town = await Town({A: ADMIN, B: PAIRING, C: ADMIN, D: fourth}, seed).settle()
        desks, said = [town.desk() for _ in range(3)], list[Reason | None]()

        async def end(way: str, device: str, desk: int, by: str) -> None:
            caller = town.of(by, ADMIN) if by else SECRET
            said.append(await outcome(desks[desk].handle(getattr(town, way)(device, caller))))

        async with anyio.create_task_group() as tasks:
            for each in work:
                tasks.start_soon(end, *each)
        left = await town.able()
        assert left
        if Reason.LAST_OPERATOR in said:
            assert len(left) == 1

    anyio.run(run)


@pytest.mark.parametrize("seed", range(24))
async def test_no_request_is_approved_by_the_vote_of_one_whose_access_ended_before(seed: int) -> None:
    """A1, R8: the last vote is cast while another process ends the first voter; what comes first in the log counts."""
    town = await Town({A: ADMIN, B: ADMIN, C: ADMIN}, seed).settle()
    town.devices[D] = READ
    one, other = town.desk(), town.desk()
    await one.handle(town.knock(D, ADMIN))
    approve = {"request": "r-d", "key": "k", "under": "S1", "terms": Terms((Quorum(ADMIN, 2),))}
    await one.handle(Approve(**town.base(D, town.by_token(A)), issue="i-1", **approve))
    end: Callable[..., Any] = getattr(town, ("remove", "revoke", "narrow", "lock")[seed % 4])

    async def late(desk: Desk, command: Any) -> None:
        assert await outcome(desk.handle(command)) is None

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(late, one, Approve(**town.base(D, town.by_token(B)), issue="i-2", **approve))
        tasks.start_soon(late, other, end(A))
    kinds = {record.kind: record.position for record in await town.log.log.scan(limit=100) if record.position > 13}
    ended = next(
        position
        for kind, position in kinds.items()
        if kind in {"device.removed", "token.revoked", "token.rotated", "device.locked"}
    )
    if (approved := kinds.get("request.approved")) is not None:
        assert approved < ended
    else:
        assert kinds["request.unendorsed"] > ended


def _remove_in_a_process(home: str, device: str, gate: Any, said: Any) -> None:
    async def run() -> None:
        rules = configured.load(Path(home), env={}, flags={})
        async with open_all(rules, env={}) as opened:
            await opened.service.views.paired()
            gate.wait()
            params = b'{"deviceId":"' + device.encode() + b'"}'
            try:
                await methods.call(opened.service, local_caller(), "device.pair.remove", methods.Raw(params))
                said.put("removed")
            except Refused as refused:
                said.put(refused.reason.value)

    anyio.run(run)


async def test_two_processes_on_one_file_do_not_remove_both(tmp_path: Path) -> None:
    """A22, D4: real processes, a real file, real views; each removes the other's operator at the same moment."""
    home = tmp_path / "home"
    configured.ensure_home(home)
    rules = configured.load(home, env={}, flags={})
    context = multiprocessing.get_context("spawn")
    town = Town({})
    async with open_all(rules, env={}) as opened:
        desk = opened.service.desk
        for device in (A, B):
            await desk.handle(town.knock(device, ADMIN, under=None))
            await desk.handle(Approve(**town.base(device), request=f"r-{device[0]}", issue=f"i-{device[0]}", key="k"))
        gate, said = context.Barrier(2), context.Queue()
        workers = [context.Process(target=_remove_in_a_process, args=(str(home), device, gate, said)) for device in (A, B)]
        for worker in workers:
            worker.start()
        answers = sorted([await anyio.to_thread.run_sync(said.get) for _ in workers])
        for worker in workers:
            worker.join()
        assert answers == ["last-operator", "removed"]
        assert len((await opened.service.views.paired()).rows) == 1
