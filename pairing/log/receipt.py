"""Receipts: all that it takes to show somebody offline that an event is in a log that a gateway has signed for.

A receipt holds a row with the hash of its personal part only, its audit path, and a checkpoint. Pure.
"""

import base64
import binascii
from collections.abc import Sequence
from struct import error as PackingError

import msgspec
from msgspec import Struct

from pairing.refusals import PairingError

from . import checkpoint
from .chain import row_hash
from .checkpoint import Checkpoint
from .merkle import includes
from .note import Verifier
from .port import Record

FORMAT = "pairing-log-receipt"


class ReceiptUnusable(PairingError):
    """A receipt does not show what it claims; the text says which part of it fails."""


class ReceiptRow(Struct, frozen=True):
    """A row without its personal part; hashes in hex, `previous` that of the row before."""

    position: int
    stream: str
    version: int
    kind: str
    recorded_at: int
    meta: str
    body: str
    personal_hash: str | None
    previous: str
    hash: str


class Receipt(Struct, frozen=True, kw_only=True):
    """A row, its audit path in base64 from the leaf up, and the checkpoint, as a signed note."""

    format: str = FORMAT
    version: int = 1
    row: ReceiptRow
    proof: tuple[str, ...]
    checkpoint: str


def make(record: Record, previous: bytes, proof: Sequence[bytes], signed: str) -> Receipt:
    """Write a receipt for a row that follows `previous`."""
    veiled = record.personal_hash
    row = ReceiptRow(
        record.position,
        record.stream,
        record.version,
        record.kind,
        record.recorded_at,
        record.meta.decode(),
        record.body.decode(),
        None if veiled is None else veiled.hex(),
        previous.hex(),
        record.hash.hex(),
    )
    return Receipt(row=row, proof=tuple(base64.b64encode(step).decode() for step in proof), checkpoint=signed)


def parse(raw: bytes) -> Receipt:
    """Read a receipt. Raises `ReceiptUnusable`."""
    try:
        found: Receipt = msgspec.json.decode(raw, type=Receipt)
    except (ValueError, RecursionError) as error:
        raise ReceiptUnusable(f"it is no receipt: {error}") from None
    if (found.format, found.version) != (FORMAT, 1):
        raise ReceiptUnusable(f"it is a {found.format} of version {found.version}, not a {FORMAT} of version 1")
    return found


def check(receipt: Receipt, trusted: tuple[Verifier, ...]) -> Checkpoint:
    """Return the checkpoint that a receipt's row is proven to be under. Raises `ReceiptUnusable`, `NoteUnusable`."""
    row = receipt.row
    signed = checkpoint.opened(receipt.checkpoint, trusted)
    try:
        veiled = None if row.personal_hash is None else bytes.fromhex(row.personal_hash)
        digest = row_hash(
            bytes.fromhex(row.previous),
            row.position,
            row.stream,
            row.version,
            row.kind,
            row.recorded_at,
            row.meta.encode(),
            row.body.encode(),
            veiled,
        )
        proof = [base64.b64decode(step, validate=True) for step in receipt.proof]
    except (ValueError, binascii.Error, PackingError) as error:
        raise ReceiptUnusable(f"a part of it cannot be read: {error}") from None
    if digest.hex() != row.hash:
        raise ReceiptUnusable(f"the row at position {row.position} is not what its hash stands for")
    if not includes(digest, row.position - 1, signed.size, proof, signed.root):
        raise ReceiptUnusable(f"its proof does not lead from the row at position {row.position} to the checkpoint's root")
    return signed
