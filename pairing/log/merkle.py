"""The Merkle tree over the rows' hashes, as RFC 6962 §2.1 has it: roots, and proofs that a row, or a shorter log, is in it.

Pure. A leaf stands for a row: its entry is the row's 32-byte hash. Trees are counted in leaves; `Nodes` gives the hash of a
complete subtree, wherever it is kept.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import TypeAlias

Nodes: TypeAlias = Callable[[int, int], bytes]
"""Return the hash of the complete subtree of 2**level leaves that is the index-th of its level, both counted from 0."""

EMPTY_ROOT = sha256(b"").digest()


def leaf(entry: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256 over a byte 0 and the entry."""
    return sha256(b"\0" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256 over a byte 1 and both children."""
    return sha256(b"\1" + left + right).digest()


def complete(hashes: Sequence[bytes]) -> bytes:
    """Return the root over 2**k neighbouring subtrees of one level."""
    level = list(hashes)
    while len(level) > 1:
        level = [sha256(b"\1" + level[at] + level[at + 1]).digest() for at in range(0, len(level), 2)]
    return level[0]


class Growing:
    """The root of a tree that only grows, in memory for log2(size) hashes."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def add(self, entries: Iterable[bytes]) -> None:
        """Append leaves."""
        for entry in entries:
            self._raise(sha256(b"\0" + entry).digest(), 1)

    def add_complete(self, hashes: Iterable[bytes], leaves: int) -> None:
        """Append complete subtrees of `leaves` leaves each; the size must be a multiple of that."""
        for found in hashes:
            self._raise(found, leaves)

    def _raise(self, found: bytes, leaves: int) -> None:
        self.size += leaves
        merges = self.size // leaves
        while merges & 1 == 0:
            found = sha256(b"\1" + self._peaks.pop() + found).digest()
            merges >>= 1
        self._peaks.append(found)

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        found = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            found = node(peak, found)
        return found


def root(size: int, nodes: Nodes) -> bytes:
    """Return the root of the first `size` leaves."""
    return _range(0, size, nodes) if size else EMPTY_ROOT


def inclusion(index: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Return the audit path of the leaf at `index`, from 0, in the tree of `size` leaves (RFC 6962 §2.1.1)."""
    return tuple(_path(index, 0, size, nodes))


def consistency(old: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Return the proof that the tree of `old` leaves, at least one, is the beginning of that of `size` (RFC 6962 §2.1.2)."""
    return tuple(_subproof(old, 0, size, True, nodes))


def _range(start: int, end: int, nodes: Nodes) -> bytes:
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _below(count)
    return node(_range(start, middle, nodes), _range(middle, end, nodes))


def _below(count: int) -> int:
    """Return the largest power of two that is less than `count`, which is 2 or more."""
    return 1 << ((count - 1).bit_length() - 1)


def _path(index: int, start: int, end: int, nodes: Nodes) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + _below(end - start)
    if index < middle:
        return [*_path(index, start, middle, nodes), _range(middle, end, nodes)]
    return [*_path(index, middle, end, nodes), _range(start, middle, nodes)]


def _subproof(old: int, start: int, end: int, whole: bool, nodes: Nodes) -> list[bytes]:
    """`old` counts from 0 over the whole tree; `whole` says that the old root is known to whoever checks."""
    if old == end:
        return [] if whole else [_range(start, end, nodes)]
    middle = start + _below(end - start)
    if old <= middle:
        return [*_subproof(old, start, middle, whole, nodes), _range(middle, end, nodes)]
    return [*_subproof(old, middle, end, False, nodes), _range(start, middle, nodes)]


def includes(entry: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether an entry is the leaf at `index` of the tree with this size and root (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf(entry)
    for step in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node(step, found)
            while at & 1 == 0 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node(found, step)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def extends(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether the tree of `old` leaves is the beginning of that of `size` (RFC 9162 §2.1.4.2)."""
    if old == size:
        return not proof and old_root == root
    if not 0 < old < size:
        return old == 0 and not proof and old_root == EMPTY_ROOT
    steps = list(proof)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        return False
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            before, after = node(step, before), node(step, after)
            while at & 1 == 0 and at:
                at, last = at >> 1, last >> 1
        else:
            after = node(after, step)
        at, last = at >> 1, last >> 1
    return last == 0 and before == old_root and after == root
