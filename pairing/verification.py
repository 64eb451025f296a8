"""What there is to say about a whole log: its rows, its storage, an anchor kept elsewhere, and what could not be checked.

It reads the file beside whoever writes it. A checkpoint is judged here; whether it may be believed is for the caller to say.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio.to_thread
from msgspec import Struct

from .log.chain import Fault
from .log.checkpoint import Checkpoint, origin
from .log.codec import KINDS
from .log.port import EventLog
from .log.sweep import Swept, sweep

Progress = Callable[[int, int], None]


class Wrong(Struct, frozen=True):
    """One thing that is wrong, and where."""

    position: int
    stream: str
    why: str


class Anchor(Struct, frozen=True, rename="camel"):
    """A checkpoint that the log was held against; `why` is null where it holds."""

    origin: str
    size: int
    why: str | None


class Verification(Struct, frozen=True, rename="camel", kw_only=True):
    """What was found. `not_checked` names what no verification could tell here; the figures beside it say of how many rows."""

    position: int
    rows: int
    hash: str
    faults: tuple[Wrong, ...]
    fault_count: int
    structure: tuple[str, ...]
    anchor: Anchor | None
    not_checked: tuple[str, ...]
    unknown_kinds: dict[str, int]
    forgotten: int
    unnamed: int

    @property
    def sound(self) -> bool:
        """Say whether nothing was found."""
        return not (self.fault_count or self.structure or (self.anchor and self.anchor.why))


async def verify(
    path: Path, events: EventLog, anchor: Checkpoint | None = None, progress: Progress | None = None
) -> Verification:
    """Check every row of the log at `path`, which `events` has open, and what it is stored in. Raises `LogUnavailable`."""
    head, first = await events.head(), await events.mark(1)
    size = min(anchor.size, head.position) if anchor is not None else None
    work = partial(sweep, path, head.position, anchor=size or None, progress=progress)
    # The chain proves the rows; this the ways to them.
    structure = await events.examine()
    swept = await anyio.to_thread.run_sync(work)
    held = None
    if anchor is not None:
        held = Anchor(anchor.origin, anchor.size, _held_against(anchor, swept, first.hash if first else b""))
    unknown = {kind: count for kind, count in swept.kinds.items() if kind not in KINDS}
    gaps = (
        ("truncation", anchor is None),
        ("commands", bool(swept.unnamed)),
        ("forgotten", bool(swept.forgotten)),
        ("unknownKinds", bool(unknown)),
    )
    return Verification(
        position=head.position,
        rows=swept.rows,
        hash=head.hash.hex(),
        faults=tuple(_told(fault) for fault in swept.faults),
        fault_count=swept.count,
        structure=structure,
        anchor=held,
        not_checked=tuple(name for name, open_ in gaps if open_),
        unknown_kinds=unknown,
        forgotten=swept.forgotten,
        unnamed=swept.unnamed,
    )


def _held_against(anchor: Checkpoint, swept: Swept, first: bytes) -> str | None:
    """Say why the rows are not those that a checkpoint was signed for, or None."""
    if anchor.origin != origin(first):
        return f"it was signed for another log, {anchor.origin}; this one is {origin(first)}"
    last = swept.mark.position
    if anchor.size > last:
        return f"the log ends at position {last}, but {anchor.size} rows were signed for: its end was cut off"
    if anchor.size and swept.anchor != (anchor.root, anchor.chain):
        return f"the first {anchor.size} rows are not those that were signed for: history was written anew"
    return None


def _told(fault: Fault) -> Wrong:
    return Wrong(fault.position, fault.stream, fault.why)
