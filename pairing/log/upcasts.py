"""How kinds of the past become kinds of today: kind to a function from the old JSON object to a newer one.

An upcast changes the kind and never looks at anything but the object. Kinds leave the catalogue only by coming here.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Raw: TypeAlias = dict[str, Any]
Upcasts: TypeAlias = Mapping[str, Callable[[Raw], Raw]]

UPCASTS: Upcasts = {}


def upcast(raw: Raw, table: Upcasts = UPCASTS) -> Raw:
    """Apply upcasts until none knows the kind. Raises ValueError for a table that leads in a circle."""
    seen: set[str] = set()
    while (kind := raw["kind"]) in table:
        if kind in seen:
            raise ValueError(f"the upcasts of {kind} lead back to it")
        seen.add(kind)
        raw = table[kind](raw)
    return raw
