"""Signing for the log: incremental, never for less or other rows than before, and provable offline row by row."""

import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from pairing.log import checkpoint, receipt
from pairing.log.errors import LogEmpty, RowsChanged, StreamDamaged
from pairing.log.memory import MemoryLog
from pairing.log.merkle import Growing, extends
from pairing.log.note import NoteUnusable
from pairing.log.port import Appended, Draft, Slice
from pairing.log.receipt import ReceiptUnusable
from pairing.notary import Notary
from pairing.refusals import Reason, Refused
from pairing.tokens import GatewayKey, Keyring
from projections.merkle import MerkleTree

KEYRING = Keyring(GatewayKey(bytes(range(32))))


class House:
    """A log in memory, the tree over it in a file, and the notary of both."""

    def __init__(self, path: Path | None) -> None:
        self.log, self.path = MemoryLog(), path
        self.tree = MerkleTree(self.log, path)
        self.notary = Notary(self.log, KEYRING, self.tree)

    async def grow(self, size: int) -> None:
        while (last := (await self.log.head()).position) < size:
            count = min(100, size - last)
            drafts = tuple(
                Draft("token.issued", b'{"m":1}', b'{"n":%d}' % (last + n), b'{"salt":"%d"}' % n if n % 5 == 0 else None)
                for n in range(count)
            )
            done = await self.log.append(
                [Slice("d:1", last, drafts)], command=str(UUID(int=(last + 1 << 80) + (7 << 76) + (2 << 62))), now=1
            )
            assert isinstance(done, Appended)

    async def plain_root(self, size: int) -> bytes:
        growing = Growing()
        growing.add(row.hash for row in await self.log.scan(limit=size))
        return growing.root()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path / "merkle.db")
    yield made
    await made.tree.close()


async def test_an_empty_log_is_not_signed_for(house: House) -> None:
    """There is nothing to stand for, and no name to do it in."""
    with pytest.raises(LogEmpty, match="pairing serve"):
        await house.notary.checkpoint()


@pytest.mark.parametrize("in_memory", [False, True])
async def test_checkpoints_follow_the_log_and_prove_their_past(in_memory: bool, tmp_path: Path) -> None:
    """At every size around the tiles' borders: the root of all rows, and proof that each earlier checkpoint is its beginning."""
    house = House(None if in_memory else tmp_path / "merkle.db")
    sizes = [1, 2, 255, 256, 257, 511, 512, 700, 1030]
    notes: list[str] = []
    for size in sizes:
        await house.grow(size)
        signed = await house.notary.checkpoint(notes[-1] if notes else None)
        assert (signed.checkpoint.size, signed.checkpoint.root) == (size, await house.plain_root(size))
        assert signed.checkpoint.chain == (await house.log.head()).hash
        assert checkpoint.opened(signed.note, await house.notary.verifiers()) == signed.checkpoint
        notes.append(signed.note)
    for old in notes:
        signed = await house.notary.checkpoint(old)
        before = checkpoint.unjudged(old)
        assert extends(before.size, before.root, 1030, signed.checkpoint.root, signed.proof)
    await house.tree.close()


async def test_the_tree_is_cheap_to_keep_and_free_to_lose(house: House) -> None:
    """Only roots of whole tiles are kept; a file that was deleted, damaged or is another log's gives the same roots again."""
    await house.grow(600)
    root = (await house.notary.checkpoint()).checkpoint.root
    assert house.path is not None
    with closing(sqlite3.connect(house.path)) as database:
        assert database.execute("SELECT level, number FROM tiles").fetchall() == [(1, 0), (1, 1)]
        database.execute("DELETE FROM tiles WHERE number = 0")
        database.commit()
    again = await house.notary.checkpoint()
    assert again.checkpoint.root == root
    await house.tree.close()
    house.path.write_bytes(b"no database " * 400)
    assert (await house.notary.checkpoint()).checkpoint.root == root
    await house.tree.close()
    other = House(house.path)
    await other.grow(301)
    await other.grow(600)
    assert (await other.notary.checkpoint()).checkpoint.root == await other.plain_root(600)
    await other.tree.close()


async def test_a_damaged_row_is_not_signed_for(house: House) -> None:
    """What does not fit its chain gets no signature; what was changed after it was taken in gets no proof (L5)."""
    await house.grow(300)
    sound = house.log._rows[:]
    house.log._rows[9] = replace(sound[9], body=b"{}")
    with pytest.raises(StreamDamaged) as caught:
        await house.notary.checkpoint()
    assert caught.value.position == 10
    house.log._rows[:] = sound
    first = await house.notary.checkpoint()
    house.log._rows[9] = replace(sound[9], hash=bytes(32))
    assert (await house.notary.checkpoint()).checkpoint.root == first.checkpoint.root
    with pytest.raises(RowsChanged, match="1 to 256"):
        await house.notary.receipt(20)
    with pytest.raises(StreamDamaged):
        await house.notary.receipt(10)


async def test_a_log_that_lost_its_end_or_was_written_anew_is_not_signed_as_the_same(house: House) -> None:
    """An older checkpoint that the log does not continue is a refusal that says how (L5)."""
    await house.grow(300)
    old = (await house.notary.checkpoint()).note
    cut = house.log._rows[:290]
    house.log._rows[:] = cut
    with pytest.raises(Refused, match="ends at position 290: its end was cut off") as caught:
        await house.notary.checkpoint(old)
    assert caught.value.reason is Reason.LOG_FORKED
    done = await house.log.append(
        [Slice("d:2", 0, tuple(Draft("k", b"{}", b"{}") for _ in range(20)))], command=str(UUID(int=(7 << 76) + (2 << 62))), now=2
    )
    assert isinstance(done, Appended)
    with pytest.raises(Refused, match="not those that it was signed for"):
        await house.notary.checkpoint(old)
    with pytest.raises(NoteUnusable):
        await house.notary.checkpoint(old.replace("\n300\n", "\n200\n"))


@pytest.mark.parametrize("position", [1, 2, 256, 257, 300, 512, 600])
async def test_a_receipt_holds_for_its_row_and_nothing_else(house: House, position: int) -> None:
    """The row, its path and a signature: enough offline, without what points at a person; any change shows (L5, L6)."""
    await house.grow(600)
    made = await house.notary.receipt(position)
    trusted = await house.notary.verifiers()
    raw = msgspec.json.encode(made)
    assert b"salt" not in raw
    assert receipt.check(receipt.parse(raw), trusted).size == 600
    row = made.row
    other = base64.b64encode(bytes(32)).decode()
    forged = [
        replace(made, row=replace(row, body='{"n":-1}')),
        replace(made, row=replace(row, position=row.position + 1)),
        replace(made, row=replace(row, stream="d:9")),
        replace(made, row=replace(row, personal_hash="00" * 32)),
        replace(made, row=replace(row, previous="00" * 32)),
        replace(made, row=replace(row, previous="nothing")),
        replace(made, row=replace(row, position=1 << 70)),
        replace(made, proof=(other, *made.proof[1:])),
        replace(made, proof=made.proof[:-1]),
        replace(made, proof=("!",)),
    ]
    for one in forged:
        with pytest.raises(ReceiptUnusable):
            receipt.check(one, trusted)
    with pytest.raises(NoteUnusable):
        receipt.check(replace(made, checkpoint=made.checkpoint.replace("\n600\n", "\n601\n")), trusted)
    for text in (b"", b"{}", b'{"format":"x"}', raw[:-1], raw.replace(b'"version":1,"row"', b'"version":2,"row"')):
        with pytest.raises(ReceiptUnusable):
            receipt.parse(text)


async def test_a_position_that_is_not_there_has_no_receipt(house: House) -> None:
    """Not found, with how far the log goes."""
    await house.grow(5)
    for position in (0, 6):
        with pytest.raises(Refused, match=f"no event at position {position}; the last is 5") as caught:
            await house.notary.receipt(position)
        assert caught.value.reason is Reason.UNKNOWN_POSITION


async def test_another_process_at_the_tree_costs_patience_and_no_proof(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lock is not had in time the tree is built in memory; the root is the same."""
    monkeypatch.setattr("projections.merkle._PATIENCE", 1)
    monkeypatch.setattr("projections.expendable.BUSY_MS", 1)
    await house.grow(300)
    await house.notary.checkpoint()
    await house.tree.close()
    await house.grow(600)
    assert house.path is not None
    with closing(sqlite3.connect(house.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        signed = await house.notary.checkpoint()
    assert signed.checkpoint.root == await house.plain_root(600)
