"""One command over two streams, a setup code's and a device's: all of it is stored or none, however many want it at once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest

from pairing.authority import OPERATOR_SCOPES
from pairing.commands import Caller, Knock, Mint, Redeem, Reject, Remove, Standing, Wanted
from pairing.crossing import Crossed
from pairing.desk import Desk
from pairing.events import Actor, device_stream, enrolment_stream
from pairing.log.memory import MemoryLog
from pairing.log.sqlite import SqliteLog
from pairing.refusals import Reason, Refused

NOW = 1_777_000_000_000
CODE = "c" * 32
HOST = Caller(actor=Actor("local", "0"), scopes=OPERATOR_SCOPES)


class Words:
    """Commands with ids that grow, as a process makes them."""

    def __init__(self) -> None:
        self.count = 0

    def base(self, by: Caller = HOST) -> dict[str, Any]:
        self.count += 1
        return {"id": str(UUID(int=(NOW << 80) + (0x7 << 76) + (0x2 << 62) + self.count)), "now": NOW, "by": by}

    def mint(self, uses: int = 1, by: Caller = HOST) -> Mint:
        return Mint(
            **self.base(by),
            code=CODE,
            secret="f" * 64,
            key="gateway-key",
            profile="default",
            roles=("node", "operator"),
            scopes=("operator.read",),
            uses=uses,
            approves=False,
            expires_at=NOW + 600_000,
        )

    def redeem(self, device: str, *scopes: str, role: str = "node") -> Redeem:
        base = self.base(Caller(actor=Actor("device", device), scopes=()))
        knock = Knock(
            **base,
            device=device,
            wanted=Wanted(key=f"key of {device}", role=role, scopes=scopes),
            client_id="node-host",
            client_mode="node",
            request=f"request-{self.count}",
            issue=f"issue-{self.count}",
            key="gateway-key",
            seen="seen",
            named="named",
            ttl=300_000,
        )
        return Redeem(**base, code=CODE, knock=knock)


@pytest.fixture
def say() -> Words:
    return Words()


@pytest.fixture
async def file_log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = await SqliteLog.open(tmp_path / "log.db")
    yield log
    await log.close()


def name(number: int) -> str:
    return f"{number:064x}"


async def kinds(log: Any, stream: str) -> list[str]:
    return [row.kind for row in await log.stream(stream)]


async def attempt(desk: Desk, command: Redeem) -> str:
    try:
        crossed = await desk.handle_redemption(command)
    except Refused as refused:
        return refused.reason.value
    return "in" if crossed.states[1].grant else "overused"


async def herd(desks: list[Desk], say: Words, count: int) -> dict[str, int]:
    """Have many devices redeem at once, spread over the desks; return how many fared how."""
    fates: dict[str, int] = {}

    async def one(number: int) -> None:
        fate = await attempt(desks[number % len(desks)], say.redeem(name(number)))
        fates[fate] = fates.get(fate, 0) + 1

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
    return fates


async def test_of_a_thousand_redeemers_at_once_exactly_ten_get_in(say: Words, file_log: SqliteLog) -> None:
    """B1: a key of ten uses, a thousand devices: ten are paired, one over-use is on record, the others left no trace."""
    desk = Desk(file_log, version="1")
    await desk.handle_enrolment(say.mint(uses=10))
    assert await herd([desk], say, 1_000) == {"in": 10, "overused": 1, "bootstrap_token_invalid": 989}
    rows = await file_log.scan(limit=10_000)
    assert sum(row.kind == "device.paired" for row in rows) == 10
    assert await kinds(file_log, enrolment_stream(CODE)) == [
        "enrolment.issued",
        *["enrolment.redeemed"] * 10,
        "enrolment.overused",
    ]
    assert len({row.stream for row in rows}) == 11


async def test_of_two_processes_neither_lets_one_too_many_in(say: Words, tmp_path: Path) -> None:
    """B1, D4: two logs opened on one file, each with a desk of its own and stale state."""
    logs = [await SqliteLog.open(tmp_path / "log.db") for _ in range(2)]
    desks = [Desk(log, version="1") for log in logs]
    await desks[0].handle_enrolment(say.mint(uses=3))
    for desk in desks:
        await desk.enrolment(CODE)
    fates = await herd(desks, say, 60)
    assert fates["in"] == 3
    assert [row.kind for row in await logs[0].scan(limit=1_000)].count("device.paired") == 3
    for log in logs:
        await log.close()


async def test_both_streams_or_neither(say: Words) -> None:
    """B1: what is redeemed stands in the code's stream and in the device's, under one command and in one append."""
    log = MemoryLog()
    desk = Desk(log, version="1")
    await desk.handle_enrolment(say.mint())
    crossed = await desk.handle_redemption(say.redeem(name(1)))
    assert {row.stream for row in crossed.records} == {enrolment_stream(CODE), device_stream(name(1))}
    assert [row.position for row in crossed.records] == list(range(2, 2 + len(crossed.records)))
    assert crossed.position == crossed.records[-1].position == desk.written
    assert crossed.states == (await desk.enrolment(CODE), await desk.device(name(1)))
    fresh = Desk(log, version="1")
    assert crossed.states == (await fresh.enrolment(CODE), await fresh.device(name(1))), "what is cached is what is stored"


async def test_the_same_command_again_gets_the_first_answer(say: Words) -> None:
    """T16: stored once, answered alike, here and in another process."""
    log = MemoryLog()
    here, there = Desk(log, version="1"), Desk(log, version="1")
    await here.handle_enrolment(say.mint())
    command = say.redeem(name(1))
    first = await here.handle_redemption(command)
    for desk in (here, there):
        again = await desk.handle_redemption(command)
        assert (again.events, again.records) == (first.events, first.records)
    assert (await log.head()).position == first.position


async def test_a_state_that_another_process_has_changed_is_read_anew(say: Words) -> None:
    """R8: voided there, refused here, although this desk still has it as good."""
    from pairing.commands import VoidCode

    log = MemoryLog()
    here, there = Desk(log, version="1"), Desk(log, version="1")
    await here.handle_enrolment(say.mint())
    await here.enrolment(CODE)
    await there.handle_enrolment(VoidCode(**say.base(), code=CODE))
    assert await attempt(here, say.redeem(name(1))) == "bootstrap_token_invalid"
    assert await kinds(log, device_stream(name(1))) == []


async def test_rejecting_a_request_voids_its_code_in_the_same_step(say: Words) -> None:
    """B7: one command, both streams; the receipt is the rejection's; said again, it is answered as the first time."""
    log = MemoryLog()
    desk = Desk(log, version="1")
    await desk.handle_enrolment(say.mint(uses=5))
    asked = await desk.handle_redemption(say.redeem(name(1), "operator.read", role="operator"))
    command = Reject(**say.base(), device=name(1), request=asked.states[1].pending.request)
    handled = await desk.handle_rejection(command)
    assert [row.kind for row in handled.records] == ["request.rejected"]
    assert (await kinds(log, enrolment_stream(CODE)))[-1] == "enrolment.revoked"
    again = await desk.handle_rejection(command)
    assert again.records[0] == handled.records[0]
    assert await attempt(desk, say.redeem(name(2))) == "bootstrap_token_invalid"


async def test_a_code_dies_with_its_minter_also_where_that_happens_meanwhile(say: Words) -> None:
    """A1, R8: the minter's stream is held to its version, so that a removal between decision and commit is not missed."""
    log = MemoryLog()
    desk, other = Desk(log, version="1"), Desk(log, version="1")
    minter = name(99)
    await desk.handle_enrolment(say.mint(uses=2))
    await desk.handle_redemption(say.redeem(minter))
    by = Caller(actor=Actor("device", minter), scopes=("operator.admin",), standing=Standing(minter, "operator", None))
    command = say.mint(by=by)
    mine = Mint(**{field: getattr(command, field) for field in command.__struct_fields__} | {"code": "d" * 32})
    await desk.handle_enrolment(mine)

    def shown(device: str) -> Redeem:
        redemption = say.redeem(device)
        return Redeem(id=redemption.id, now=NOW, by=redemption.by, code="d" * 32, knock=redemption.knock)

    append = log.append

    async def between(*args: Any, **more: Any) -> Any:
        log.append = append  # type: ignore[method-assign]
        await other.handle(Remove(**say.base(), device=minter))
        return await append(*args, **more)

    await desk.enrolment("d" * 32)
    log.append = between  # type: ignore[method-assign]
    assert await attempt(desk, shown(name(1))) == "bootstrap_token_invalid"
    assert await kinds(log, device_stream(name(1))) == []


async def test_a_caller_that_goes_away_lets_the_next_one_have_its_turn(say: Words) -> None:
    """A cancelled command gives back every stream it was waiting for."""
    log = MemoryLog()
    desk = Desk(log, version="1")
    await desk.handle_enrolment(say.mint(uses=3))
    append, held = log.append, anyio.Event()

    async def stuck(*args: Any, **more: Any) -> Any:
        await held.wait()
        return await append(*args, **more)

    log.append = stuck  # type: ignore[method-assign]
    done: list[Crossed] = []

    async def last() -> None:
        done.append(await desk.handle_redemption(say.redeem(name(3))))

    async with anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def gives_up() -> None:
            with first:
                await desk.handle_redemption(say.redeem(name(1)))

        tasks.start_soon(gives_up)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(last)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        held.set()
    assert done[0].states[1].grant is not None
    assert not desk._turns


async def test_nothing_to_do_is_said_on_a_state_that_is_current(say: Words) -> None:
    """Whoever has redeemed gets the same again, and no row."""
    log = MemoryLog()
    desk = Desk(log, version="1")
    await desk.handle_enrolment(say.mint())
    await desk.handle_redemption(say.redeem(name(1)))
    again = await desk.handle_redemption(say.redeem(name(1)))
    assert again.records == ()
    assert again.position == 0
    assert again.states[1].grant is not None
    with pytest.raises(Refused) as no:
        await desk.handle_redemption(Redeem(**say.base(), code="0" * 32, knock=say.redeem(name(2)).knock))
    assert no.value.reason is Reason.BOOTSTRAP_INVALID
