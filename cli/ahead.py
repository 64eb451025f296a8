"""From what a person types to a time ahead: how long from now, or until when.

It knows the calendar in this host's own time zone, and no log.
"""

import re
from datetime import datetime, timedelta
from typing import Any

import click

from .voice import clock, plain

SPANS = "such as 30m, 2h, 1h30m, 90d or 2w"
TIMES = "such as 2027-03-01, '2027-03-01 14:00', 2027-03-01T14:00:00Z, 14:00 or 'tomorrow 09:00'"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_CLOCK = re.compile(r"(?:(tomorrow) )?(\d{1,2}):(\d{2})")


class SpanType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A click type whose value is a span of time in ms."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read what was typed."""
        found = value if isinstance(value, int) else span(str(value))
        if found is None:
            self.fail(f"{plain(value)!r} is no span of time. Give one {SPANS}.", param, ctx)
        return found


class UntilType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A click type whose value is a time ahead, in ms since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read what was typed; a time that has passed is a mistake."""
        now = clock()
        found = value if isinstance(value, int) else until(str(value), now)
        if found is None:
            self.fail(f"{plain(value)!r} is no time. Give one {TIMES}.", param, ctx)
        if found <= now:
            self.fail(f"{plain(value)!r} has passed already.", param, ctx)
        return found


def span(text: str) -> int | None:
    """Return a span in ms, or None where the text is none or means no time at all."""
    words = text.lower().replace(" ", "")
    if not words or _SPAN.sub("", words):
        return None
    seconds = sum(int(count) * _UNITS[unit] for count, unit in _SPAN.findall(words))
    return seconds * 1000 or None


def until(text: str, now: int) -> int | None:
    """Return a time in ms, or None where the text is none. A clock time alone is its next coming."""
    try:
        found = _by_clock(" ".join(text.lower().split()), now) or datetime.fromisoformat(text.strip()).astimezone()
        return int(found.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None


def _by_clock(words: str, now: int) -> datetime | None:
    match = _CLOCK.fullmatch(words)
    if match is None:
        return None
    here = datetime.fromtimestamp(now / 1000).astimezone()
    tomorrow, hours, minutes = match.groups()
    then = here.replace(hour=int(hours), minute=int(minutes), second=0, microsecond=0)
    return then + timedelta(days=1) if tomorrow or then <= here else then
