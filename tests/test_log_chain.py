"""The hash chain, worked out a second time from its description alone."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pairing.log.chain import GENESIS, Fault, Verifier, flaw, link, personal_hash, row_hash, verify
from pairing.log.port import Draft, Mark, Record


def independent(previous: bytes, row: Record) -> bytes:
    """The description of `row_hash`, followed with nothing but `hashlib` and `int.to_bytes`."""
    texts = [row.stream.encode(), row.kind.encode(), row.meta, row.body, row.personal_hash or b""]
    parts = [b"pairing log row 1\n", previous]
    parts += [number.to_bytes(8, "big", signed=True) for number in (row.position, row.version, row.recorded_at)]
    parts += [len(text).to_bytes(4, "big") for text in texts]
    return hashlib.sha256(b"".join(parts + texts)).digest()


def chained(count: int) -> list[Record]:
    rows: list[Record] = []
    last = GENESIS
    for number in range(count):
        personal = b'{"salt":"00"}' if number % 3 == 0 else None
        draft = Draft("token.issued", b'{"m":1}', b'{"n":%d}' % number, personal)
        rows.append(link(last, f"d:{number % 2}", number // 2 + 1, 100 + number, draft))
        last = Mark(rows[-1].position, rows[-1].hash)
    return rows


def test_the_first_hashes_are_fixed_for_ever() -> None:
    """Genesis and the hash of a known row are these bytes on any machine and any day (D10)."""
    assert (GENESIS.position, GENESIS.hash) == (0, hashlib.sha256(b"pairing log genesis 1\n").digest())
    assert personal_hash(b"p") == hashlib.sha256(b"pairing log personal 1\np").digest()
    digest = row_hash(GENESIS.hash, 1, "device:a", 1, "token.issued", 1_000, b"{}", b'{"kind":"token.issued"}', None)
    assert digest.hex() == "5bc41981e9d881525fc03796d3a7ee85b04326d71c9ab7ec71e80ffbd39b09fd"


def test_anybody_can_work_the_chain_out_again() -> None:
    """The documented form alone gives the same hashes, personal parts present or forgotten (L5, L6)."""
    previous = GENESIS.hash
    for row in chained(12):
        assert row.hash == independent(previous, row)
        assert flaw(row, previous) is None
        assert flaw(replace(row, personal=None), previous) is None
        previous = row.hash


@given(st.text("ab", min_size=2, max_size=6), st.data())
def test_no_two_rows_share_their_bytes(text: str, data: st.DataObject) -> None:
    """Where one column ends and the next begins is part of what is hashed: no byte can move from one to the other unseen."""

    def cut() -> tuple[str, str, bytes, bytes]:
        ends = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=3, max_size=3)))
        parts = [text[start:end] for start, end in zip([0, *ends], [*ends, None], strict=True)]
        return parts[0], parts[1], parts[2].encode(), parts[3].encode()

    def digest(stream: str, kind: str, meta: bytes, body: bytes) -> bytes:
        return row_hash(GENESIS.hash, 1, stream, 1, kind, 1, meta, body, None)

    here, there = cut(), cut()
    assert (digest(*here) == digest(*there)) == (here == there)


@pytest.mark.parametrize(
    "change",
    [
        {"stream": "d:9"},
        {"version": 9},
        {"kind": "token.revoked"},
        {"recorded_at": 99},
        {"meta": b'{"m":2}'},
        {"body": b"{}"},
        {"personal": b'{"salt":"01"}'},
        {"personal_hash": None},
        {"personal_hash": bytes(32)},
        {"hash": bytes(32)},
        {"body": None},
        {"version": b"x"},
        {"recorded_at": None},
        {"personal": 5},
    ],
    ids=str,
)
def test_every_alteration_is_found_where_it_is(change: dict[str, object]) -> None:
    """Any column altered, also to another type, is a fault at that row (L5)."""
    rows = chained(9)
    rows[3] = replace(rows[3], **change)
    fault = verify(rows)
    assert fault is not None
    assert fault.position == 4


def test_insertions_deletions_and_swaps_are_found() -> None:
    """A row taken out, put in twice or exchanged breaks the chain at that place (L5)."""
    rows = chained(9)
    assert verify(rows[:4] + rows[5:]) == Fault(6, "d:1", "it comes right after position 4")
    assert verify(rows[:4] + rows[3:]) == Fault(4, "d:1", "it comes right after position 4")
    assert verify([*rows[:3], rows[4], rows[3], *rows[5:]]) is not None
    assert verify(rows[1:]) is not None
    assert verify(rows[1:], Mark(1, rows[0].hash)) is None


def test_a_chain_forged_whole_must_still_count_right() -> None:
    """Versions out of order and times that go back are faults even where every hash fits."""
    first = link(GENESIS, "d:1", 1, 100, Draft("k", b"{}", b"{}"))
    mark = Mark(1, first.hash)
    skipped = link(mark, "d:1", 3, 100, Draft("k", b"{}", b"{}"))
    assert verify([first, skipped]) == Fault(2, "d:1", "version 3 follows version 1")
    back = link(mark, "d:1", 2, 99, Draft("k", b"{}", b"{}"))
    assert verify([first, back]) == Fault(2, "d:1", "its time lies before that of the row before it")
    assert verify([link(GENESIS, "d:1", 2, 100, Draft("k", b"{}", b"{}"))]) is not None


def test_a_verifier_goes_on_and_counts_each_fault_once() -> None:
    """Fed batch after batch, a verifier reports all faults and takes the rest for what it is."""
    rows = chained(12)
    rows[2] = replace(rows[2], body=b"{}")
    rows[7] = replace(rows[7], meta=b"{}")
    verifier = Verifier()
    found = [fault.position for batch in (rows[:5], rows[5:]) for fault in verifier.faults(batch)]
    assert found == [3, 8]
    assert verifier.mark == Mark(12, rows[11].hash)
