"""Spans of time as people type them: `90s`, `10m`, `2h`, `7d`, or several in falling order, as in `1h30m`."""

import re
from typing import Any

import click

_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d{1,9})(ms|[smhdw])")
_WHOLE = re.compile(r"(?:\d{1,9}(?:ms|[smhdw]))+")


class Duration(click.ParamType[int]):
    """A span of time, given to the command in ms."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return ms. A number without a unit is refused: seconds and minutes are both plausible."""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        parts = [(int(number), _MS[unit]) for number, unit in _PART.findall(text)] if _WHOLE.fullmatch(text) else []
        sizes = [size for _, size in parts]
        if not parts or sizes != sorted(set(sizes), reverse=True):
            self.fail(f"{value!r} is no span of time; write one like 90s, 10m, 2h or 1h30m.", param, ctx)
        return sum(number * size for number, size in parts)


DURATION = Duration()
