"""`--break-glass`: to end the last device that can approve on purpose, with a reason for the record (A22)."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from .options import Words, recorded

F = TypeVar("F", bound=Callable[..., Any])


def breaking(command: F) -> F:
    """Give a command `--reason`, `--ticket` and `--break-glass`, the last as the first two: in its `words`."""

    @functools.wraps(command)
    def asked(*args: Any, break_glass: bool, words: Words, **rest: Any) -> Any:
        if break_glass and not str(words["reason"] or "").strip():
            raise click.UsageError("--break-glass needs --reason TEXT: it is kept for whoever asks why nobody can approve.")
        return command(*args, words={**words, "breakGlass": True} if break_glass else words, **rest)

    glass = click.option("--break-glass", is_flag=True, help="Even if it is the last device that can approve; needs --reason.")
    return glass(recorded(asked))  # type: ignore[return-value]
