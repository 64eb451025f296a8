"""Why an event happened, in words that it can be found by: how access came to be, or ended, and what a person gave as reason.

Pure; the views index these words, and who follows the log looks for the same ones.
"""

import unicodedata
from typing import Any, get_args

from .events import AnyEvent, Meta, Unknown

_CODES = ("means", "need", "how")
# Which of them a kind has: asked twice of every event that the views follow, and most kinds have none.
_CODED: dict[type[Any], tuple[str, ...]] = {
    kind: tuple(name for name in _CODES if name in kind.__struct_fields__) for kind in get_args(AnyEvent)
}


def reasons(event: AnyEvent | Unknown | None, meta: Meta | None) -> list[str]:
    """Return the words of an event, each once: codes as `owner` or `scope-upgrade`, and the whole of a reason and a ticket."""
    found = [word for name in _CODED.get(type(event), ()) if isinstance(word := getattr(event, name), str)]
    if meta is None or not (meta.reason or meta.ticket):
        return found
    return list(dict.fromkeys((*found, *(fold(word) for word in (meta.reason, meta.ticket) if word))))


def fold(text: str) -> str:
    """Return a text as people compare them: without case, and however its accents are encoded."""
    return unicodedata.normalize("NFC", text).casefold().strip()
