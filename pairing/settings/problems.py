"""What can be wrong with settings, and how it is said: faults of a value, problems with a place, all of them at once.

Never quotes what may hold a credential; the kinds decide what may be quoted.
"""

import datetime
import json
from collections.abc import Iterable

from msgspec import Struct

from pairing.refusals import PairingError


class Fault(Struct, frozen=True):
    """Say what is wrong with a value, after its name: `must be …, not …`.

    `index` points at the element of a list; `mild` marks a figure of the right type that no limit can mean (N10).
    """

    text: str
    index: int | None = None
    mild: bool = False


class UnfitValueError(ValueError):
    """A value does not fit its kind; carries every fault found in it."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(fault.text for fault in faults))
        self.faults = faults


class Problem(Struct, frozen=True):
    """One thing to put right: which key, in words, and where.

    `place` is what a person looks for (`config.toml`, `PAIRING_GATEWAY_PORT`, `--port`), `line` counts from 1 and is
    None where there are no lines.
    """

    key: str
    text: str
    place: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = self.place if self.line is None else f"{self.place}:{self.line}"
        return f"{where}: {self.text}" if where else self.text


class SettingsError(PairingError):
    """The settings are not usable; names every problem, one a line, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def shown(raw: object) -> str:
    """Quote a scalar, shortened, for an error message; anything larger is described."""
    match raw:
        case bool():
            return "true" if raw else "false"
        case int() if raw.bit_length() <= 64:
            return str(raw)
        case float():
            return str(raw)
        case str():
            return json.dumps(raw if len(raw) <= 60 else raw[:57] + "...", ensure_ascii=not raw.isprintable())
        case _:
            return described(raw)


def described(raw: object) -> str:
    """Name the type of a raw value in TOML's words."""
    match raw:
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a float"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "a table"
        case datetime.date() | datetime.time():
            return "a date or time"
        case _:
            return "null" if raw is None else f"a {type(raw).__name__}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest known name, or nothing when none is near."""
    import difflib

    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.75)
    if not near:
        # The right last word in the wrong table is the other usual mistake.
        last = name.lower().rpartition(".")[2]
        near = [candidate for candidate in folded if candidate.rpartition(".")[2] == last]
    return f"; did you mean {folded[near[0]]}?" if near else ""
