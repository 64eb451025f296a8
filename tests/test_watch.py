"""Readiness: each reason is raised by its own condition alone, and goes away with it."""

import errno
import os
from pathlib import Path

import pytest

from pairing import ids
from pairing.gateway import watch
from pairing.gateway.watch import Vitals, Watch, failing
from pairing.log.errors import LogUnavailable
from pairing.log.memory import MemoryLog
from pairing.log.port import Draft, Mark, Slice
from pairing.machine import LEAST_DESCRIPTORS, LEAST_DISK, Machine, descriptors_left, disk_left

NOW = 1_777_000_000_000


class Views:
    """Views that stand where they are told to stand."""

    differences = None

    def __init__(self) -> None:
        self.stands = 0
        self.error: Exception | None = None

    async def position(self) -> int:
        if self.error is not None:
            raise self.error
        return self.stands

    async def pending(self):
        class Answer:
            rows = ()

        return Answer


class Log(MemoryLog):
    """A log that can be taken away."""

    gone = False

    async def head(self) -> Mark:
        if self.gone:
            raise LogUnavailable(Path("log.db"), "disk I/O error")
        return await super().head()


class House:
    """A watch over parts that a story can break one by one."""

    def __init__(self) -> None:
        self.log, self.views, self.herald = Log(), Views(), 0
        self.watch = Watch(self.log, self.views, lambda: self.herald, lambda: self.machine)
        self.watch.phase = None
        self.machine = Machine(descriptors=LEAST_DESCRIPTORS, disk=LEAST_DISK)

    async def write(self) -> None:
        slices = [Slice("device:a", (await self.log.head()).position, (Draft("x", b"{}", b"{}"),))]
        await self.log.append(slices, command=ids.uuid7(NOW), now=NOW)

    def keep_up(self) -> None:
        self.herald = self.views.stands = 1


async def test_a_gateway_in_order_is_ready():
    """Nothing fails, however often it looks."""
    house = House()
    for _ in range(3):
        await house.watch.look()
    assert house.watch.failing == ()


@pytest.mark.parametrize("phase", ["starting", "stopping"])
async def test_beginning_and_end_are_reasons(phase):
    """A gateway that is not yet, or no longer, serving says so."""
    house = House()
    assert Watch(house.log, house.views, lambda: 0, Machine).failing == ("starting",)
    house.watch.phase = phase
    await house.watch.look()
    assert house.watch.failing == (phase,)


async def test_a_log_that_cannot_be_read_is_a_reason_and_only_as_long_as_that():
    """`log-unavailable`: of a log that raises, and of one whose file was taken away beneath it."""
    house = House()
    house.log.gone = True
    await house.watch.look()
    assert house.watch.failing == ("log-unavailable",)
    house.log.gone = False
    await house.watch.look()
    assert house.watch.failing == ()
    assert failing(Vitals(machine=Machine(log_there=False))) == ("log-unavailable",)


async def test_a_herald_that_does_not_pass_what_was_there_a_look_ago_is_a_reason():
    """`herald-behind`: new rows are allowed one look's time, so that a busy log is no alarm."""
    house = House()
    await house.watch.look()
    await house.write()
    house.views.stands = 1
    await house.watch.look()
    assert house.watch.failing == ()
    await house.watch.look()
    assert house.watch.failing == ("herald-behind",)
    house.keep_up()
    await house.watch.look()
    assert house.watch.failing == ()


@pytest.mark.parametrize("how", ["stands still", "raises"])
async def test_views_that_do_not_follow_are_a_reason(how):
    """`views-behind`: whether they stand still or cannot be asked."""
    house = House()
    await house.write()
    house.herald = 1
    house.views.error = LogUnavailable(Path("views.db"), "no") if how == "raises" else None
    for _ in range(2):
        await house.watch.look()
    assert house.watch.failing == ("views-behind",)
    house.views.error = None
    house.keep_up()
    await house.watch.look()
    assert house.watch.failing == ()


async def test_views_that_never_answer_do_not_hold_up_the_watch(monkeypatch):
    """A rebuild takes as long as it takes; readiness goes on telling."""
    import anyio

    monkeypatch.setattr(watch, "PATIENCE_S", 0.01)
    house = House()
    house.views.position = anyio.sleep_forever
    await house.write()
    house.herald = 1
    for _ in range(2):
        await house.watch.look()
    assert house.watch.failing == ("views-behind",)


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (Machine(descriptors=LEAST_DESCRIPTORS - 1), "too-few-descriptors"),
        (Machine(disk=LEAST_DISK - 1), "disk-full-soon"),
    ],
)
async def test_a_host_that_runs_out_is_a_reason(machine, name):
    """Told before it happens: what is left is less than the least."""
    house = House()
    house.machine = machine
    await house.watch.look()
    assert house.watch.failing == (name,)


def test_what_the_host_has_left_is_the_kernels_word(tmp_path, monkeypatch):
    """An open file costs one descriptor; a folder that is not there has no disk; being out of descriptors counts as none left."""
    before = descriptors_left()
    assert before is not None
    with (tmp_path / "x").open("w"):
        assert descriptors_left() == before - 1
    assert disk_left(tmp_path) == os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert disk_left(tmp_path / "none") is None

    def exhausted(path):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "listdir", exhausted)
    assert descriptors_left() == 0
