"""What every backend does alike with an append: check that it can be stored at all, judge it, place its rows.

Pure. It knows no storage: the versions of the streams and the last row come in, rows or a conflict go out.
"""

from collections.abc import Mapping, Sequence

from . import chain
from .port import Conflict, Mark, Record, Slice

_MOST = 1 << 62


def command_key(command: str) -> bytes:
    """Return the 16 bytes of a UUID in its hyphenated form (RFC 9562). Raises ValueError for anything else."""
    key = bytes.fromhex(command.replace("-", "", 4)) if len(command) == 36 else b""
    if len(key) != 16 or command[8] + command[13] + command[18] + command[23] != "----":
        raise ValueError(f"a command id is a UUID in hyphenated form, not {command[:40]!r}")
    return key


def check(slices: Sequence[Slice], now: int) -> None:
    """Raise ValueError for what no backend could store: nothing at all, text that is not UTF-8, a time out of range."""
    if not 0 <= now < _MOST:
        raise ValueError(f"a time in ms lies between 0 and 2**62, not {now}")
    count = 0
    for part in slices:
        if not part.stream or part.expected < 0:
            raise ValueError(f"a slice names its stream and a version from 0: {part.stream!r}, {part.expected}")
        part.stream.encode()
        for draft in part.drafts:
            draft.kind.encode()
            draft.meta.decode()
            draft.body.decode()
            if draft.personal is not None:
                draft.personal.decode()
            count += 1
    if not count:
        raise ValueError("an append holds at least one event")


def place(slices: Sequence[Slice], versions: Mapping[str, int], last: Mark, recorded_at: int) -> tuple[Record, ...] | Conflict:
    """Return the rows of all slices after `last`, or the first conflict. A later slice sees what an earlier one adds.

    A slice without drafts writes nothing and is a condition on its stream alone.
    """
    placed: list[Record] = []
    ahead: dict[str, int] = {}
    for part in slices:
        version = ahead.get(part.stream, versions.get(part.stream, 0))
        if version != part.expected:
            return Conflict(part.stream, part.expected, version)
        for draft in part.drafts:
            version += 1
            record = chain.link(last, part.stream, version, recorded_at, draft)
            last = Mark(record.position, record.hash)
            placed.append(record)
        ahead[part.stream] = version
    return tuple(placed)
