"""What can be wrong with a log, each named by the condition and each with the next command to try.

None of these is a refusal: they say nothing about who may do what.
"""

from pathlib import Path

from pairing.refusals import PairingError


class LogError(PairingError):
    """Something is wrong with the log itself."""


class LogUnavailable(LogError):
    """The file could not be read or written. An append that failed so may be stored or not; ask again with its command id."""

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"the log {path} is not available: {why}. Nothing was answered as done. Try: pairing log status")


class NotALog(LogError):
    """There is a file, but it is not a log of ours; it is never treated as an empty one."""

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(
            f"{path} is not a pairing log: {why}. It was left as it is. Move it away to begin a new log, or put a copy back; "
            f"then try: pairing log status"
        )


class LogTooNew(LogError):
    """The file has a schema that a newer version of this service wrote."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        self.path, self.found, self.known = path, found, known
        super().__init__(
            f"the log {path} has schema {found}, this version knows up to {known}. It was left as it is. "
            f"Update this service, then try: pairing log status"
        )


class StreamDamaged(LogError):
    """A row of the stream is not what was written. The stream takes no decisions; the row is kept and the other streams go on."""

    def __init__(self, stream: str, position: int, why: str) -> None:
        self.stream, self.position, self.why = stream, position, why
        super().__init__(f"stream {stream} is closed: the row at position {position} is damaged ({why}). Try: pairing log verify")


class HistoryChanged(LogError):
    """The row at a follower's mark is not the one it has seen: history below it is another one now."""

    def __init__(self, position: int) -> None:
        self.position = position
        super().__init__(
            f"the log no longer holds the row seen at position {position}: the file was put back or replaced. "
            f"Views must be rebuilt. Try: pairing log verify"
        )


class EventUnreadable(LogError):
    """A row of a known kind has contents that do not decode."""

    def __init__(self, position: int, kind: str, why: str) -> None:
        self.position, self.kind, self.why = position, kind, why
        super().__init__(f"the {kind} at position {position} cannot be read: {why}. Try: pairing log verify")


class LogEmpty(LogError):
    """There is no row yet, so there is nothing to sign for."""

    def __init__(self) -> None:
        super().__init__("the log has no event yet, so there is nothing to sign for. Try: pairing serve")


class RowsChanged(LogError):
    """Rows are not those that the tree over the log was built from."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        super().__init__(
            f"a hash among the rows {first} to {last} is not the one that the tree over the log was built from. "
            f"Try: pairing log verify"
        )
