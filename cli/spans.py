"""Spans of time as people type them: 90s, 10m, 2h, 7d, or 1h30m."""

import re
from typing import Any

import click

from .voice import plain

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d{1,9})\s*(ms|[smhd])")


class SpanType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A click type whose value is a span in ms, above 0."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read what was typed; it fails with the forms that it knows."""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        span = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        if _PART.sub("", text).strip() or not 0 < span <= 365 * _UNITS["d"]:
            self.fail(f"{plain(value)!r} is no span of time. Give 90s, 10m, 2h, 7d or 1h30m.", param, ctx)
        return span


SPAN = SpanType()
