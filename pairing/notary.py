"""The notary: signs for the log as it stands, and proves that it once signed for less of the same.

It never signs for a row that does not fit its chain. Where checkpoints are kept is for others to say; that place should not be
this host.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from msgspec import Struct

from .log import checkpoint, receipt
from .log.chain import GENESIS, flaw
from .log.checkpoint import Checkpoint
from .log.errors import LogEmpty, StreamDamaged
from .log.merkle import Nodes, consistency, extends, inclusion, root
from .log.note import Verifier
from .log.port import EventLog
from .log.receipt import Receipt
from .refusals import Reason, Refused
from .tokens import Keyring

T = TypeVar("T")


class Tree(Protocol):
    """The Merkle tree over the log, wherever its nodes are kept."""

    async def prove(self, size: int, work: Callable[[Nodes], T]) -> T:
        """Return what `work` makes of the nodes of the first `size` rows. Raises `StreamDamaged` where a row does not fit."""


class Signed(Struct, frozen=True):
    """A checkpoint as a signed note; `since` and `proof` where an older one was shown to be its beginning."""

    checkpoint: Checkpoint
    note: str
    since: int | None = None
    proof: tuple[bytes, ...] = ()


class Notary:
    """Signs for one log with the gateway's present key."""

    def __init__(self, log: EventLog, keyring: Keyring, tree: Tree) -> None:
        self._log, self._keyring, self._tree = log, keyring, tree

    async def origin(self) -> str:
        """Return the name under which this log is signed for. Raises `LogEmpty`."""
        first = await self._log.mark(1)
        if first is None:
            raise LogEmpty
        return checkpoint.origin(first.hash)

    async def verifiers(self) -> tuple[Verifier, ...]:
        """Return by what its checkpoints are known, the present key first. Raises `LogEmpty`."""
        return checkpoint.verifiers(self._keyring, await self.origin())

    async def read(self, note: str) -> Checkpoint:
        """Read a checkpoint that this gateway has signed, of this log or another. Raises `NoteUnusable`."""
        return checkpoint.opened(note, checkpoint.verifiers(self._keyring, checkpoint.unjudged(note).origin))

    async def checkpoint(self, since: str | None = None) -> Signed:
        """Sign for the log as it stands.

        `since` is an older checkpoint of ours, shown to be the beginning of the new one. Raises `Refused` where it is not,
        `NoteUnusable` where it is not ours, `LogEmpty`, `StreamDamaged`.
        """
        name = await self.origin()
        old = None if since is None else await self.read(since)
        head = await self._log.head()
        if old is not None and old.size > head.position:
            raise forked(old, head.position, f"the log ends at position {head.position}: its end was cut off")
        found = Checkpoint(name, head.position, await self._root(head.position), head.hash)
        proof = () if old is None else await self._beginning(old, found)
        note = checkpoint.sign(found, self._keyring.current)
        return Signed(found, note, old.size if old else None, proof)

    async def _root(self, size: int) -> bytes:
        return await self._tree.prove(size, lambda nodes: root(size, nodes))

    async def _beginning(self, old: Checkpoint, new: Checkpoint) -> tuple[bytes, ...]:
        if old.size == 0:
            return ()
        proof = await self._tree.prove(new.size, lambda nodes: consistency(old.size, new.size, nodes))
        if old.origin != new.origin or not extends(old.size, old.root, new.size, new.root, proof):
            raise forked(old, new.size, f"the first {old.size} rows are not those that it was signed for")
        return proof

    async def receipt(self, position: int) -> Receipt:
        """Prove one row under a checkpoint of the log as it stands. Raises `Refused`, `StreamDamaged`, `LogEmpty`."""
        signed = await self.checkpoint()
        if not 1 <= position <= signed.checkpoint.size:
            raise Refused(Reason.UNKNOWN_POSITION, position=position, last=signed.checkpoint.size)
        before = GENESIS if position == 1 else await self._log.mark(position - 1)
        (record,) = await self._log.scan(after=position - 1, limit=1)
        if before is None:
            raise StreamDamaged(record.stream, position, "the row before it is missing")
        if (why := flaw(record, before.hash)) is not None:
            raise StreamDamaged(record.stream, position, why)
        proof = await self._tree.prove(
            signed.checkpoint.size, lambda nodes: inclusion(position - 1, signed.checkpoint.size, nodes)
        )
        return receipt.make(record, before.hash, proof, signed.note)


def forked(old: Checkpoint, position: int, why: str) -> Refused:
    """Build the refusal for an older checkpoint that this log does not continue."""
    return Refused(Reason.LOG_FORKED, size=old.size, why=why, details={"size": old.size, "position": position})
