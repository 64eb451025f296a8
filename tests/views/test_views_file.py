"""views.db can be lost, damaged, shared, put back or not be there at all; the views say the same."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from pairing.events import DeviceForgotten, DeviceRenamed, device_stream
from pairing.listing import Damage
from pairing.log.memory import MemoryLog
from pairing.log.port import Draft, Mark, Record
from projections import follow
from projections.expendable import inode
from projections.follow import Follower
from projections.store import Store
from projections.views import Views
from tests.views.histories import DEVICES, Act, approved, issued, opened, paired, perform, person, tell

A, B, _ = DEVICES


class Counting:
    """A log that counts what is asked of it."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.log, name)


async def some_history(log: MemoryLog) -> None:
    await tell(log, A, opened("r-1", A), personal=person(name="Phone", address="10.0.0.1"))
    await tell(log, A, approved("r-1"), paired("r-1", A), issued())
    await tell(log, B, opened("r-2", B), personal=person(name="Tablet", address="10.0.0.2"))
    await tell(log, A, DeviceRenamed(at=3_000, labelled="tag"), personal=person(label="Hall"))


async def said(views: Views) -> tuple[Any, ...]:
    return (await views.pending(), await views.paired(), await views.request("r-1"), await views.matches("hall"))


async def fails(**_: object) -> None:
    raise OSError("no log today")


def delete(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def overwrite(path: Path, with_what: bytes) -> None:
    path.write_bytes(with_what)


def spoil(path: Path) -> None:
    """Leave the first page and put noise in place of the others."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4_096)
        file.write(os.urandom(size - 4_096))


@pytest.fixture
def spoilt(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody who should not write to the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


async def test_a_deleted_file_is_built_anew(log: MemoryLog, path: Path) -> None:
    """The file can go at any time."""
    await some_history(log)
    views = await Views.open(log, path)
    before = await said(views)
    await views.close()
    delete(path)
    views = await Views.open(log, path)
    assert await said(views) == before
    await views.close()


async def test_a_file_deleted_under_way_is_noticed(log: MemoryLog, path: Path, views: Views) -> None:
    """Who has the file open begins anew with the others, rather than write where nobody reads."""
    await some_history(log)
    await said(views)
    delete(path)
    await tell(log, B, approved("r-2"), paired("r-2", B))
    assert len((await views.paired()).rows) == 2
    other = await Views.open(log, path)
    assert await said(other) == await said(views)
    await other.close()


async def test_the_file_is_for_its_owner_alone(path: Path, views: Views) -> None:
    """Names and addresses are in it."""
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


async def test_another_schema_is_rebuilt(log: MemoryLog, path: Path, spoilt: sqlite3.Connection, warnings: list[Any]) -> None:
    """A file of another version is dropped and said to be; nothing of it is trusted."""
    await some_history(log)
    spoilt.execute("CREATE TABLE devices (what TEXT)")
    spoilt.execute("INSERT INTO devices VALUES ('old')")
    spoilt.execute("PRAGMA user_version = 7")
    views = await Views.open(log, path)
    assert [row.device for row in (await views.paired()).rows] == [A]
    assert [entry["event"] for entry in warnings] == ["file has another schema and is begun anew"]
    await views.close()


async def test_another_schema_under_way_is_rebuilt(log: MemoryLog, views: Views, spoilt: sqlite3.Connection) -> None:
    """Another version of the service may take the file while it is open."""
    await some_history(log)
    before = await said(views)
    spoilt.execute("DROP TABLE devices")
    spoilt.execute("DROP TABLE mark")
    spoilt.execute("PRAGMA user_version = 7")
    assert await said(views) == before


@pytest.mark.parametrize("damage", [b"this is not a database" * 100, b""], ids=["garbage", "empty"])
async def test_a_damaged_file_is_built_anew(log: MemoryLog, path: Path, damage: bytes) -> None:
    """Whatever the file has become, it is no reason to fail."""
    await some_history(log)
    views = await Views.open(log, path)
    before = await said(views)
    await views.close()
    overwrite(path, damage)
    views = await Views.open(log, path)
    assert await said(views) == before
    await views.close()


async def test_damage_under_way_is_mended(log: MemoryLog, path: Path, warnings: list[Any]) -> None:
    """Pages that went bad since the file was opened are found when they are read, said to be, and built anew."""
    await some_history(log)
    views = await Views.open(log, path)
    before = await said(views)
    await views.close()
    views = await Views.open(log, path)
    await views.position()
    spoil(path)
    assert await said(views) == before
    assert "views are damaged and are rebuilt" in [entry["event"] for entry in warnings]
    await views.close()


async def test_where_nothing_can_be_written_views_live_in_memory(log: MemoryLog, tmp_path: Path, warnings: list[Any]) -> None:
    """A read-only place is no reason to fail; it is said."""
    await some_history(log)
    views = await Views.open(log, tmp_path / "no such folder" / "views.db")
    assert [row.device for row in (await views.paired()).rows] == [A]
    assert [entry["event"] for entry in warnings] == ["views cannot be written and are kept in memory"]
    await views.close()


async def test_a_writer_that_never_ends_is_not_waited_for(
    log: MemoryLog, views: Views, spoilt: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, warnings: list[Any]
) -> None:
    """D7: a reader does not fail because another holds the lock; after a while it goes on in memory."""
    monkeypatch.setattr("projections.views._PATIENCE", 1)
    await some_history(log)
    spoilt.execute("BEGIN IMMEDIATE")
    assert [row.device for row in (await views.paired()).rows] == [A]
    assert warnings[-1]["event"] == "views cannot be written and are kept in memory"


async def test_another_history_is_followed_from_its_beginning(
    log: MemoryLog, path: Path, views: Views, warnings: list[Any]
) -> None:
    """A log that was put back is another log from there on: the mark's hash tells, and the views begin anew (D10)."""
    await some_history(log)
    await said(views)
    other = MemoryLog()
    for number in range(6):
        await tell(other, B, opened(f"r-{number}", B))
    again = await Views.open(other, path)
    assert [row.request for row in (await again.pending()).rows] == ["r-5"]
    assert (await again.paired()).rows == ()
    assert [entry["event"] for entry in warnings] == ["the log has another history and the views are rebuilt"]
    await again.close()


async def test_a_log_that_lost_its_end_is_followed_again(log: MemoryLog, path: Path, views: Views) -> None:
    """A mark beyond the log's end does not hold either."""
    await some_history(log)
    await said(views)
    shorter = MemoryLog()
    await tell(shorter, B, opened("r-9", B))
    again = await Views.open(shorter, path)
    assert [row.request for row in (await again.pending()).rows] == ["r-9"]
    assert (await again.pending()).position == 1
    await again.close()


async def test_several_processes_share_the_file(log: MemoryLog, path: Path, views: Views) -> None:
    """No event is applied twice, whoever follows: each looks at the mark again once it has the lock."""
    other = await Views.open(log, path)
    for number in range(10):
        await tell(log, A, opened(f"r-{number}", A), personal=person(name=f"Phone {number}"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(views.position)
            tasks.start_soon(other.position)
        assert await views.pending() == await other.pending()
    assert await views._store.rows("SELECT count(*), max(position) FROM events") == [(10, 10)]
    await other.close()


async def test_turns_of_several_processes_may_alternate(
    log: MemoryLog, path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[Any]
) -> None:
    """What one remembers from its last turn holds only while nobody else has written."""
    monkeypatch.setattr(follow, "BATCH", 2)
    monkeypatch.setattr(follow, "TURN", 1)
    for number in range(20):
        device = DEVICES[number % 3]
        await tell(log, device, opened(f"r-{number}", device), approved(f"r-{number}"), paired(f"r-{number}", device), issued())
    one, other = await Views.open(log, path), await Views.open(log, path)
    first, second = Follower(log, one._store), Follower(log, other._store)
    for _ in range(20):
        await first._turn()
        await second._turn()
    alone = await Views.open(log, None)
    for position in range(0, 81, 5):
        assert await one.paired(at=position) == await other.paired(at=position) == await alone.paired(at=position)
    assert warnings == []
    for views in (one, other, alone):
        await views.close()


async def test_only_one_of_several_deletes_a_damaged_file(log: MemoryLog, path: Path) -> None:
    """Who comes second to the damage takes the file that the first has made."""
    await some_history(log)
    one, other = await Views.open(log, path), await Views.open(log, path)
    before = await said(one)
    await said(other)
    fresh = await Store.open(path, one._store)
    made = inode(path)
    again = await Store.open(path, other._store)
    assert inode(path) == made
    for store in (fresh, again):
        await store.close()
    assert await said(one) == await said(other) == before
    for views in (one, other):
        await views.close()


async def test_a_failure_of_the_log_passes_and_leaves_nothing_behind(
    log: MemoryLog, views: Views, monkeypatch: pytest.MonkeyPatch, warnings: list[Any]
) -> None:
    """An answer fails where the log does; the next one finds the views as they were."""
    await some_history(log)
    with monkeypatch.context() as broken:
        broken.setattr(log, "scan", fails)
        with pytest.raises(OSError, match="no log today"):
            await views.pending()
    assert [row.request for row in (await views.pending()).rows] == ["r-2"]
    assert warnings == []


async def test_a_rebuild_elsewhere_never_shows_half_of_the_views(
    log: MemoryLog, path: Path, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process builds the file anew, an answer is given from all of it or not at all (L11)."""
    monkeypatch.setattr(follow, "BATCH", 1)
    monkeypatch.setattr(follow, "TURN", 1)
    await some_history(log)
    before = await said(views)
    other = await Views.open(log, path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other.rebuild)
        for _ in range(20):
            assert await said(views) == before
    await other.close()


async def test_catching_up_with_nothing_asks_for_the_head_alone(log: MemoryLog, path: Path) -> None:
    """An answer when nothing has happened costs one look at the log."""
    await some_history(log)
    counting = Counting(log)
    views = await Views.open(counting, path)  # type: ignore[arg-type]
    await views.pending()
    counting.calls.clear()
    await views.pending()
    assert counting.calls == ["head"]
    await views.close()


async def test_callers_at_the_same_time_share_one_way(log: MemoryLog, path: Path) -> None:
    """Fifty listings follow the log once or twice, and each sees what was there when it was asked."""
    counting = Counting(log)
    views = await Views.open(counting, path)  # type: ignore[arg-type]
    await views.position()
    await some_history(log)
    counting.calls.clear()
    seen: list[int] = []

    async def ask() -> None:
        seen.append((await views.paired()).position)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask)
    assert seen == [6] * 50
    assert counting.calls.count("head") <= 4
    await views.close()


async def test_a_cancelled_caller_leaves_the_views_whole(log: MemoryLog, views: Views) -> None:
    """A turn is written or not; the next caller goes on."""
    for number in range(30):
        await tell(log, A, opened(f"r-{number}", A))
        with anyio.move_on_after(0.0005 * (number % 5)):
            await views.position()
    assert (await views.pending()).position == 30
    assert await views._store.rows("SELECT count(*) FROM events") == [(30,)]


async def test_rebuilding_shows_how_far_it_is(log: MemoryLog, views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is (reached, to reach), and ends where the log does."""
    monkeypatch.setattr(follow, "BATCH", 1)
    monkeypatch.setattr(follow, "TURN", 2)
    await some_history(log)
    steps: list[tuple[int, int]] = []
    assert await views.rebuild(lambda done, total: steps.append((done, total))) == 6
    assert steps == [(2, 6), (4, 6), (6, 6)]


async def test_kinds_of_the_future_are_kept_raw_and_change_nothing_else(log: MemoryLog, views: Views) -> None:
    """D3: a reader keeps what it does not know, and goes on."""
    await some_history(log)
    before = (await views.paired()).rows
    body = b'{"kind":"device.quarantined","at":1}'
    meta = b'{"actor":{"kind":"timer"},"command":"c"}'
    await perform(log, Act(device_stream(A), raw=(Draft("device.quarantined", meta, body),)))
    assert (await views.paired()).rows == before
    assert await views._store.rows("SELECT kind, actor, stream FROM audit WHERE position = 7") == [
        ("device.quarantined", "timer", device_stream(A))
    ]
    assert await views._store.rows("SELECT position, raw FROM events WHERE raw IS NOT NULL") == [(7, body)]
    assert await views.damaged() == ()


@pytest.mark.parametrize(
    "rotten",
    [
        Draft("device.renamed", b'{"actor":{"kind":"timer"},"command":"c"}', b'{"kind":"device.renamed","at":"never"}'),
        Draft("device.renamed", b"{}", b'{"kind":"device.renamed","at":1,"labelled":null}'),
        Draft("device.renamed", b'{"actor":{"kind":"timer"},"command":"c"}', b"[", b"["),
    ],
    ids=["body", "meta", "all"],
)
async def test_one_damaged_row_marks_its_device_and_no_other(
    log: MemoryLog, views: Views, rotten: Draft, warnings: list[Any]
) -> None:
    """D2: the row is kept and reported, its device is marked from there on, and everything else goes on."""
    await some_history(log)
    await perform(log, Act(device_stream(A), raw=(rotten,)))
    await tell(log, B, approved("r-2"), paired("r-2", B))
    assert {row.device: row.damaged for row in (await views.paired()).rows} == {A: 7, B: None}
    assert [row.damaged for row in (await views.paired(at=6)).rows] == [None]
    (damage,) = await views.damaged()
    assert isinstance(damage, Damage)
    assert (damage.stream, damage.position) == (device_stream(A), 7)
    (entry,) = [entry for entry in warnings if entry["event"] == "a row of the log cannot be read"]
    assert (entry["position"], entry["stream"]) == (7, device_stream(A))


async def test_names_that_are_not_text_are_spelt_out(log: MemoryLog, views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: bytes of a damaged name are shown as they are, and stop nothing."""
    await some_history(log)
    (last,) = await log.scan(after=5)
    rotten = Record(7, "device:\udcff", 1, "x\udcfe", 9, b"{}", b"{}", None, None, b"h" * 32)

    async def head() -> Mark:
        return Mark(7, b"h" * 32)

    async def scan(*, after: int, limit: int) -> tuple[Record, ...]:
        return (last, rotten)[after - 5 :] if after >= 5 else await MemoryLog.scan(log, after=after, limit=5)

    monkeypatch.setattr(log, "head", head)
    monkeypatch.setattr(log, "scan", scan)
    assert [damage.stream for damage in await views.damaged()] == ["device:\\udcff"]


async def test_what_is_forgotten_is_nowhere_in_the_file(log: MemoryLog, path: Path, views: Views) -> None:
    """L6: after forgetting, names, labels and addresses are unknown, the file holds none, and a rebuild says the same."""
    await some_history(log)
    await said(views)
    await tell(log, A, DeviceForgotten(at=9, rows=1))
    assert await views.forget(A)
    (row,) = (await views.paired()).rows
    assert (row.name, row.label, row.address) == (None, None, None)
    assert await views.matches("hall") == ()
    assert [row.name for row in (await views.pending(at=1)).rows] == [None]
    for word in (b"Phone", b"Hall", b"hall", b"10.0.0.1"):
        assert not any(word in file.read_bytes() for file in path.parent.iterdir()), word
    assert [row.name for row in (await views.pending()).rows] == ["Tablet"]
    forgotten = await said(views)
    await views.rebuild()
    assert await said(views) == forgotten


async def test_following_writes_nothing_to_the_log(log: MemoryLog, path: Path) -> None:
    """L13: replaying history changes nothing and contacts nobody."""
    await some_history(log)
    before = await log.scan()
    counting = Counting(log)
    views = await Views.open(counting, path)  # type: ignore[arg-type]
    await said(views)
    await views.rebuild()
    await views.close()
    assert set(counting.calls) <= {"head", "scan", "mark"}
    assert await log.scan() == before
