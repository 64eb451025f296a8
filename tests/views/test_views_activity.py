"""activity.db: last uses and refused contacts; nothing that gives or takes a right."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from pairing.listing import RefusedContact
from pairing.log.memory import MemoryLog
from pairing.verdict import Step
from projections.activity import Activity
from projections.contacts import Ring
from projections.views import Views
from tests.views.histories import DEVICES, approved, issued, opened, paired, person, rotated, tell

A, B, C = DEVICES


def contact(at: int, device: str | None = A, **more: Any) -> RefusedContact:
    fields: dict[str, Any] = {"proven": True, "address": "10.0.0.1", "reason": "not-paired", "code": "NOT_PAIRED"}
    return RefusedContact(at=at, device=device, **(fields | more))


def size(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM contacts").fetchone()[0])


async def test_last_uses_are_part_of_the_list_of_now(log: MemoryLog, tmp_path: Path) -> None:
    """A device shows when and from where it was last seen, whether or not the file has heard of it; the past does not know."""
    activity = await Activity.open(tmp_path / "activity.db")
    views = await Views.open(log, None, activity)
    await tell(log, A, opened("r-1", A), personal=person(address="10.0.0.1"))
    await tell(log, A, approved("r-1"), paired("r-1", A), issued(), issued("j-1", "node"))
    activity.note_use(A, "operator", "i-1", 5_000, "10.0.0.7")
    await activity.flush()
    activity.note_use(A, "node", "j-1", 6_000, None)
    activity.note_use(B, "operator", "i-9", 7_000, "10.0.0.9")
    for answer in (await views.paired(), await views.paired(device=A)):
        (row,) = answer.rows
        assert (row.last_seen_at, row.address) == (6_000, "10.0.0.1")
        assert [token.last_used_at for token in row.tokens] == [6_000, 5_000]
    activity.note_use(A, "node", "j-1", 6_100, "10.0.0.8")
    (row,) = (await views.paired()).rows
    assert (row.last_seen_at, row.address) == (6_100, "10.0.0.8")
    await tell(log, A, rotated())
    assert [token.last_used_at for token in (await views.paired()).rows[0].tokens] == [6_100, 5_000]
    (then,) = (await views.paired(at=5)).rows
    assert (then.last_seen_at, then.address, then.tokens[0].last_used_at) == (None, "10.0.0.1", None)
    await views.close()
    await activity.close()


async def test_uses_before_a_device_was_paired_again_are_of_another_grant(log: MemoryLog) -> None:
    """What a removed device did says nothing of the one that came back."""
    activity = await Activity.open(None)
    views = await Views.open(log, None, activity)
    activity.note_use(A, "operator", "i-0", 1_999, "10.0.0.7")
    await tell(log, A, opened("r-1", A), approved("r-1"), paired("r-1", A), issued())
    (row,) = (await views.paired()).rows
    assert (row.last_seen_at, row.address, row.tokens[0].last_used_at) == (None, None, None)
    await views.close()
    await activity.close()


async def test_uses_outlive_the_process_and_never_go_back(tmp_path: Path) -> None:
    """Two gateways write the same file: the later use stands."""
    path = tmp_path / "activity.db"
    one, other = await Activity.open(path), await Activity.open(path)
    one.note_use(A, "operator", "i-1", 5_000, "10.0.0.1")
    other.note_use(A, "operator", "i-1", 4_000, "10.0.0.2")
    await one.close()
    await other.close()
    again = await Activity.open(path)
    assert [(use.at, use.address) for use in (await again.uses(A))[A].values()] == [(5_000, "10.0.0.1")]
    assert await again.uses(B) == {}
    await again.close()


async def test_the_same_refusal_again_is_one_contact(tmp_path: Path) -> None:
    """L8: an operator finds by the reference what the outsider was told it by: how often, since when, and by which rules."""
    activity = await Activity.open(tmp_path / "activity.db")
    trace = (Step("pairing", False, "nothing", "operator.read"),)
    first = activity.refuse(contact(1_000, role="operator", scopes=("operator.read",), trace=trace))
    again = activity.refuse(contact(2_000, role="operator", scopes=("operator.read",), trace=trace))
    other = activity.refuse(contact(3_000, role="node"))
    claimed = activity.refuse(contact(4_000, role="node", proven=False))
    assert first == again
    assert len({first, other, claimed}) == 3
    assert all(len(reference) == 8 and set(reference) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for reference in (first, other))
    found = await activity.find(f" {first[:4]}-{first[4:].lower()}")
    assert found is not None
    assert (found.count, found.first_at, found.at, found.trace) == (2, 1_000, 2_000, trace)
    assert [kept.reference for kept in await activity.recent()] == [claimed, other, first]
    assert [kept.reference for kept in await activity.recent(device=A, limit=1)] == [claimed]
    assert await activity.recent(device=B) == ()
    assert await activity.find("NOTHING0") is None
    await activity.close()
    reopened = await Activity.open(tmp_path / "activity.db")
    assert await reopened.find(first) == found
    assert reopened.refuse(contact(5_000, role="operator", scopes=("operator.read",))) == first
    await reopened.close()


async def test_contacts_without_a_device_are_kept_by_address() -> None:
    """Who never said who it was is told apart by where it came from."""
    activity = await Activity.open(None)
    one = activity.refuse(contact(1, None, address="10.0.0.1", proven=False))
    other = activity.refuse(contact(2, None, address="10.0.0.2", proven=False))
    assert one != other
    assert activity.refuse(contact(3, None, address="10.0.0.1", proven=False)) == one
    await activity.close()


def test_the_ring_is_bounded_and_claims_give_way_first() -> None:
    """A stranger cannot push out what proven devices met, nor one device what others met."""
    ring = Ring(most=10, each=4)
    for number in range(6):
        ring.add(contact(number, A, role=f"role {number}"), f"A{number}")
    assert [f"A{number}" in ring for number in range(6)] == [False, False, True, True, True, True]
    for number in range(50):
        ring.add(contact(number, f"claimed {number}", proven=False, address=f"10.0.0.{number}"), f"C{number}")
    assert len(ring) == 10
    assert all(f"A{number}" in ring for number in range(2, 6))
    assert [f"C{number}" in ring for number in (43, 44, 49)] == [False, True, True]
    changed, gone = ring.changes()
    assert {kept.reference for kept in changed} == {*(f"A{n}" for n in range(2, 6)), *(f"C{n}" for n in range(44, 50))}
    assert {"A0", "A1", "C0", "C43"} <= set(gone)
    for number in range(20):
        ring.add(contact(number, f"proven {number}"), f"P{number}")
    assert len(ring) == 10
    assert "P19" in ring
    assert "A5" not in ring


def test_what_a_stranger_calls_itself_makes_no_other_contact() -> None:
    """A fresh device id costs nothing: a stranger is counted by its address, and shown as what it said last."""
    ring = Ring()
    told = {ring.add(contact(n, f"made up {n}", proven=False, scopes=(f"s{n}",)), f"C{n}") for n in range(100)}
    assert (told, len(ring)) == ({"C0"}, 1)
    ((kept,), _) = ring.changes()
    assert (kept.count, kept.device) == (100, "made up 99")
    ring.forget("made up 99")
    assert len(ring) == 0


def test_what_strangers_choose_is_clipped() -> None:
    """Ten thousand contacts cost little memory, whatever is in them."""
    ring = Ring()
    flood = "x" * 100_000
    ring.add(
        contact(1, flood, address=flood, role=flood, scopes=(flood,) * 500, trace=(Step("r", False, flood, flood),) * 500), "A"
    )
    ((kept,), _) = ring.changes()
    assert len(repr(kept)) < 20_000


async def test_the_file_is_bounded_whoever_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes have a ring each; the file keeps the latest."""
    monkeypatch.setattr("projections.activity.MOST", 5)
    path = tmp_path / "activity.db"
    one, other = await Activity.open(path), await Activity.open(path)
    for number in range(4):
        one.refuse(contact(number, role=f"one {number}"))
        other.refuse(contact(100 + number, role=f"other {number}"))
    await one.close()
    await other.close()
    assert size(path) == 5


async def test_notes_reach_the_file_every_few_seconds(tmp_path: Path) -> None:
    """A crash loses a few seconds of them, and nobody waits for a disk to note one."""
    path = tmp_path / "activity.db"
    activity = await Activity.open(path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(activity.keep, 0.01)
        activity.refuse(contact(1))
        for _ in range(500):
            if size(path):
                break
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert size(path) == 1
    await activity.close()


async def test_what_cannot_be_written_stays_noted(tmp_path: Path, warnings: list[Any]) -> None:
    """A lock or a full disk costs nothing but a warning."""
    path = tmp_path / "activity.db"
    activity = await Activity.open(path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    activity.note_use(A, "operator", "i-1", 1, None)
    reference = activity.refuse(contact(1))
    await activity.flush()
    assert [entry["event"] for entry in warnings] == ["activity could not be written"]
    blocker.execute("ROLLBACK")
    blocker.close()
    assert A in await activity.uses()
    assert await activity.find(reference) is not None
    await activity.close()


async def test_a_damaged_or_unwritable_file_is_no_reason_to_fail(tmp_path: Path, warnings: list[Any]) -> None:
    """Losing it loses no right."""
    garbage = tmp_path / "activity.db"
    garbage.write_bytes(b"garbage" * 1_000)
    for path in (garbage, tmp_path / "no such folder" / "activity.db"):
        activity = await Activity.open(path)
        assert await activity.find(activity.refuse(contact(1))) is not None
        await activity.close()
    assert [entry["event"] for entry in warnings] == [
        "file is damaged and is begun anew",
        "activity cannot be written and is kept in memory",
    ]


async def test_a_forgotten_device_leaves_no_trace(log: MemoryLog, tmp_path: Path) -> None:
    """L6: addresses of a forgotten device are not kept here either."""
    path = tmp_path / "activity.db"
    activity = await Activity.open(path)
    views = await Views.open(log, None, activity)
    for device in (A, B):
        activity.note_use(device, "operator", "i-1", 1, "10.1.2.3")
        activity.refuse(contact(1, device))
    await activity.flush()
    activity.note_use(A, "node", "i-1", 1, "10.1.2.3")
    await views.forget(A)
    assert set(await activity.uses()) == {B}
    assert [kept.device for kept in await activity.recent()] == [B]
    await views.close()
    await activity.close()
