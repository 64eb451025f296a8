"""The shapes a setting's value may have: one kind each, from the raw TOML value or from a text.

A kind knows neither its key nor where the value came from. Next: `words` (the texts with a grammar of their own).
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from pairing.commands import Quorum

from .problems import Fault, UnfitValueError, described, shown
from .secret import Secret


class Kind(Protocol):
    """Turn what a person wrote into a typed value."""

    @property
    def expects(self) -> str:
        """The words after "must be"."""

    def read(self, raw: object) -> Any:
        """Return the typed value of a raw TOML value; raises UnfitValueError."""

    def from_text(self, text: str) -> object:
        """Return the raw value that a text (environment, argument) stands for; raises UnfitValueError."""


class Integer(Struct, frozen=True):
    """A whole number within bounds, both included."""

    low: int
    high: int

    @property
    def expects(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def read(self, raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise _unfit(self, raw)
        if not self.low <= raw <= self.high:
            raise self._outside(raw)
        return raw

    def from_text(self, text: str) -> object:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text.strip()):
            raise _unfit(self, text)
        return int(text)

    def _outside(self, raw: int) -> UnfitValueError:
        return _unfit(self, raw)


class Limit(Integer, frozen=True):
    """A limit that cannot be switched off: a figure outside its bounds is ignored with a warning (N10)."""

    def _outside(self, raw: int) -> UnfitValueError:
        return UnfitValueError(Fault(f"must be {self.expects}, not {shown(raw)}", mild=True))


class Flag(Struct, frozen=True):
    """True or false, and nothing that merely looks like it."""

    expects: str = "true or false"

    def read(self, raw: object) -> bool:
        if not isinstance(raw, bool):
            raise _unfit(self, raw)
        return raw

    def from_text(self, text: str) -> object:
        if text.strip() not in ("true", "false"):
            raise _unfit(self, text)
        return text.strip() == "true"


class Choice(Struct, frozen=True):
    """One word of a closed list."""

    options: tuple[str, ...]

    @property
    def expects(self) -> str:
        *most, last = (f'"{option}"' for option in self.options)
        return f"{', '.join(most)} or {last}"

    def read(self, raw: object) -> str:
        if not isinstance(raw, str) or raw not in self.options:
            raise _unfit(self, raw)
        return raw

    def from_text(self, text: str) -> object:
        return text.strip()


class ExplainedError(ValueError):
    """A text is not what its parser wants, with a sentence that helps the person who wrote it."""


class Word(Struct, frozen=True):
    """A text with a grammar: `parse` returns its value or raises ValueError; `quotable` says if an error may show it."""

    expects: str
    parse: Callable[[str], Any]
    quotable: Callable[[str], bool] = lambda text: True

    def read(self, raw: object) -> Any:
        if not isinstance(raw, str):
            raise _unfit(self, raw)
        try:
            return self.parse(raw)
        except ValueError as error:
            what = shown(raw) if self.quotable(raw) else "what it holds"
            hint = f" ({error})" if isinstance(error, ExplainedError) else ""
            raise UnfitValueError(Fault(f"must be {self.expects}, not {what}{hint}")) from None

    def from_text(self, text: str) -> object:
        return text.strip()


class Span(int):
    """A span of time in ms, written as `90d`, `12h` or `30m`."""

    @classmethod
    def read(cls, text: str) -> "Span | None":
        """Return the span that a text means, from a minute to ten years, or None."""
        match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
        ms = int(match[1]) * _UNITS[match[2]] if match else 0
        return cls(ms) if _UNITS["m"] <= ms <= 3650 * _UNITS["d"] else None

    def __str__(self) -> str:
        unit = next(unit for unit in "dhm" if self % _UNITS[unit] == 0)
        return f"{self // _UNITS[unit]}{unit}"


_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class ListOf(Struct, frozen=True):
    """A list whose elements are all of one kind; repeated elements count once, the order stays."""

    element: Word
    plural: str

    @property
    def expects(self) -> str:
        return f"a list of {self.plural}"

    def read(self, raw: object) -> tuple[Any, ...]:
        if not isinstance(raw, list):
            raise _unfit(self, raw)
        values, faults = [], []
        for index, item in enumerate(raw):
            try:
                values.append(self.element.read(item))
            except UnfitValueError as unfit:
                faults.append(Fault(unfit.faults[0].text, index))
        if faults:
            raise UnfitValueError(*faults)
        return tuple(dict.fromkeys(values))

    def from_text(self, text: str) -> object:
        return [part.strip() for part in text.split(",") if part.strip()]


class SecretText(Struct, frozen=True):
    """A shared secret; a fault names the type of what is there and never the text."""

    expects: str = "a string that is not blank"

    def read(self, raw: object) -> Secret:
        if not isinstance(raw, str):
            raise UnfitValueError(Fault(f"must be {self.expects}, not {described(raw)}"))
        try:
            return Secret(raw)
        except ValueError as error:
            raise UnfitValueError(Fault(f"must be {self.expects}: {error}")) from None

    def from_text(self, text: str) -> object:
        return text.strip()


def plain(value: object) -> object:
    """Return a typed value in the types that JSON and TOML share; raises TypeError for a Secret."""
    match value:
        case Secret():
            raise TypeError("a secret has no plain form")
        case tuple():
            return [plain(item) for item in value]
        case Quorum(what=what, approvers=approvers):
            return f"{what}={approvers}"
        case Span() | Path() | IPv4Network() | IPv6Network():
            return str(value)
        case _:
            return value


def _unfit(kind: Kind, raw: object) -> UnfitValueError:
    return UnfitValueError(Fault(f"must be {kind.expects}, not {shown(raw)}"))
