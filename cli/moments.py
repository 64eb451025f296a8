"""From what a person types to a moment: a position of the log, or a time, in this host's own time zone unless it names one.

It knows the calendar and no log: which position a time means is for the service to say.
"""

import re
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import click

from .voice import age, clock, moment, plain

Params: TypeAlias = dict[str, int]

FORMS = (
    "a position (1234), a time (2026-03-01, '2026-03-01 14:00', 2026-03-01T14:00:00Z), how long ago (2h, '3 days ago'), "
    "or a day by name (now, '14:00', 'yesterday 14:00', tuesday)"
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86_400, "day": 86_400}
_UNITS |= {"w": 604_800, "week": 604_800}
_SPAN = re.compile(r"(\d+)\s*([a-z]+)\s*")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


class MomentType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A click type whose value is the params of a call: `at` or `atMs`."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Params:
        """Read what was typed; it fails with the forms that it knows."""
        if isinstance(value, dict):
            return value
        found = parse(str(value), clock())
        if found is None:
            self.fail(f"{plain(value)!r} is no moment. Give {FORMS}.", param, ctx)
        return found


MOMENT = MomentType()
at_option = click.option("--at", "at", type=MOMENT, metavar="POSITION|TIME", help="As it was then: 1234, 2h, 'yesterday 14:00'.")


def parse(text: str, now: int) -> Params | None:
    """Return what a text means at a time (ms), or None where it means nothing."""
    words = " ".join(text.lower().split()).lstrip("#")
    if words.isascii() and words.isdecimal():
        return {"at": int(words)} if 1 <= int(words) <= 2**53 else None
    try:
        then = _ago(words, now) or _iso(text.strip()) or _by_name(words, now)
        return None if then is None else {"atMs": int(then.timestamp() * 1000)}
    except (ValueError, OverflowError, OSError):
        return None


def _ago(words: str, now: int) -> datetime | None:
    """`2h`, `1h30m`, `3 days ago`."""
    spans = words.removesuffix("ago").strip()
    if not spans or _SPAN.sub("", spans):
        return None
    seconds = 0
    for count, unit in _SPAN.findall(spans):
        size = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
        if size is None:
            return None
        seconds += int(count) * size
    return datetime.fromtimestamp(now / 1000).astimezone() - timedelta(seconds=seconds)


def _iso(text: str) -> datetime | None:
    """A date alone is its beginning; to the second is the whole of that second."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    to_the_second = re.search(r"\D\d\d:\d\d:\d\d", text) is not None and not found.microsecond
    return (found + timedelta(milliseconds=999) if to_the_second else found).astimezone()


def _by_name(words: str, now: int) -> datetime | None:
    """`now`, `14:00`, `yesterday`, `tuesday 14:00`: the last such day before today. A day alone is its beginning."""
    here = datetime.fromtimestamp(now / 1000).astimezone()
    day, _, hour = words.partition(" ")
    if words == "now":
        return here
    if _CLOCK.fullmatch(words):
        day, hour = "today", words
    back = {"today": 0, "yesterday": 1}.get(day)
    if back is None and day in _DAYS:
        back = (here.weekday() - _DAYS.index(day)) % 7 or 7
    found = _CLOCK.fullmatch(hour) if hour else None
    if back is None or (hour and found is None):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    date = here.date() - timedelta(days=back)
    return datetime(date.year, date.month, date.day, hours, minutes, seconds).astimezone()


def as_of(position: object, recorded_at: object, past: bool) -> str:
    """Say for which position an answer is given, and of the past when that was recorded."""
    if not past or not isinstance(recorded_at, int):
        return f"As of position {plain(position)}."
    return f"As of position {plain(position)}, recorded {moment(recorded_at)} ({age(recorded_at, clock())})."
