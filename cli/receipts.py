"""What is asked to be recorded, and what the answer says was: the event and its position, or that nothing changed (D6, D11)."""

from collections.abc import Mapping
from typing import Any

import click

from .options import IDEMPOTENCY_KEY, Words
from .voice import plain


def params(words: Words | None = None, **more: Any) -> dict[str, Any]:
    """Return the params of a call that changes something: those given, and the wish to know where it was recorded.

    With `--idempotency-key`, that too.
    """
    context = click.get_current_context(silent=True)
    key = context.meta.get(IDEMPOTENCY_KEY) if context else None
    once = {} if key is None else {"idempotencyKey": key}
    return {**more, **once, **{key: text for key, text in (words or {}).items() if text is not None}, "receipt": True}


def recorded_as(result: Mapping[str, Any], done: str, again: str) -> str:
    """Say that something was done and which event says so; or, in the words `again`, that it had been done before."""
    receipt = result.get("recorded")
    if not isinstance(receipt, dict):
        return done
    place = f"{plain(receipt.get('kind', '?'))} at position {plain(receipt.get('position', '?'))}"
    if receipt.get("changed", True):
        return f"{done} — recorded as {place}"
    what = done.partition(" ")[2]
    return f"{again}: {what}. Nothing was changed" + (f"; it is recorded as {place}" if receipt.get("position") else "")
