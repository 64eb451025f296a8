"""The one voice of the command line: answers on standard output, remarks, hints and refusals on standard error.

With `--json` standard output is exactly one document, also on failure. What comes from outside is never printed raw.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import click

PREFIX = "pairing: "
FAMILIES = {1: "failed", 2: "usage", 3: "refused", 4: "not-found", 5: "ambiguous", 6: "unreachable", 7: "broken"}
_GAP = "  "


class Told(NamedTuple):
    """What a command answers: one document, the same as text, remarks for a person, and the exit code."""

    document: dict[str, Any]
    text: str = ""
    notes: tuple[str, ...] = ()
    exit: int = 0


class Failure(Exception):
    """Why a command did not do it, what would work here, and the exit code. `lines` belong below the message."""

    def __init__(
        self,
        exit: int,
        reason: str,
        message: str,
        hint: str = "",
        *,
        details: dict[str, Any] | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.exit, self.reason, self.message, self.hint = exit, reason, message, hint
        self.details, self.lines = details or {}, tuple(lines)


def tell(told: Told, as_json: bool) -> None:
    """Answer, and end with the answer's exit code where it is not 0."""
    if as_json:
        document({"ok": told.exit == 0, **told.document})
    elif told.text:
        click.echo(told.text)
    for note in told.notes:
        remark(note)
    if told.exit:
        sys.exit(told.exit)


def fail(failure: Failure, as_json: bool) -> NoReturn:
    """Say why not, what to do next, and end."""
    if as_json:
        error = {
            "type": FAMILIES.get(failure.exit, "failed"),
            "reason": failure.reason,
            "message": failure.message,
            "hint": failure.hint,
            "details": failure.details,
        }
        document({"ok": False, "error": error})
    else:
        remark("\n".join((PREFIX + _printable(failure.message), *failure.lines)))
        if failure.hint:
            hint(failure.hint)
    sys.exit(failure.exit)


def document(content: dict[str, Any]) -> None:
    """Print the one JSON document."""
    click.echo(json.dumps(content, indent=2))


def remark(text: str) -> None:
    """Say something beside the answer."""
    click.echo(_printable(text), err=True)


def hint(text: str) -> None:
    """Say what to do next."""
    remark(f"hint: {text}")


def plain(text: object, limit: int = 64) -> str:
    """Return a text from outside on one line: no control characters, no tricks with direction, no more than `limit` characters.

    A device chooses its own name; on a reviewer's terminal it must not draw, erase or reverse anything.
    """
    said = str(text)
    if not said.isprintable():
        said = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in said)
    shown = said.strip()
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def clock() -> int:
    """Return the time in ms since the epoch."""
    return time.time_ns() // 1_000_000


def duration(ms: int) -> str:
    """Return a span of time in its largest unit, and the next smaller one while that still tells something."""
    seconds = max(0, ms) // 1000
    for unit, size, less, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        whole, rest = divmod(seconds, size)
        if whole:
            return f"{whole}{unit}" + (f"{rest // part}{less}" if whole < 10 and rest >= part else "")
    return f"{seconds}s"


def age(then: int | None, now: int) -> str:
    """Return how long ago a time in ms was."""
    if then is None:
        return "never"
    return "just now" if now - then < 1000 else f"{duration(now - then)} ago"


def moment(ms: int) -> str:
    """Return a time in ms as UTC, to the second."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def on_terminal() -> bool:
    """Say whether a person's terminal takes standard output."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows: drawn to the width of a terminal where there is one, plainly aligned otherwise."""
    return _drawn(heads, rows) if on_terminal() else _aligned(heads, rows)


def fields(rows: Sequence[tuple[str, str]], indent: str = "  ") -> str:
    """Lay out names and values, one a line."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{indent}{name:<{width}}{_GAP}{value}".rstrip() for name, value in rows)


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(_GAP.join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _drawn(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    import shutil

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=shutil.get_terminal_size().columns, force_terminal=True)
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column, head in enumerate(heads):
        drawn.add_column(head, no_wrap=column == 0, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    with console.capture() as capture:
        console.print(drawn)
    return capture.get().rstrip("\n")
