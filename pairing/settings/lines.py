"""On which line of a TOML text each key and each element of a list begins.

Reads only texts that `tomllib` has accepted, so it judges nothing; the values are `tomllib`'s business.
"""

import re
import tomllib
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_TOKEN = re.compile(
    r'''(?P<string>"""(?:\\.|[^\\])*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:'{0,2})|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
      | (?P<newline>\n) | (?P<space>[ \t\r]+) | (?P<comment>\#[^\n]*)
      | (?P<mark>[\[\]{},=.]) | (?P<bare>[^\s\#\[\]{},="'.]+)''',
    re.VERBOSE | re.DOTALL,
)

# Tables above a key are noted down to this depth only, so that one absurd key costs no quadratic time.
_DEEPEST = 16


def locate(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every key path; elements of lists are reached by index.

    A table that several headers or dotted keys mention has the line of the first mention.
    """
    return _Reader(text.replace("\r\n", "\n")).document()


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._tokens = []
        line = 1
        for match in _TOKEN.finditer(text):
            if match.lastgroup not in ("space", "comment"):
                self._tokens.append((match.lastgroup, match.group(), line))
            line += match.group().count("\n")
        self._tokens.append(("end", "", line))
        self._at = 0

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self._kind() != "end":
            if self._kind() == "newline":
                self._next()
            elif self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _header(self) -> Path:
        line = self._tokens[self._at][2]
        several = self._tokens[self._at + 1][1] == "["
        self._at += 2 if several else 1
        name = self._resolve(self._key())
        self._at += 2 if several else 1
        if several:
            self._note(name, line)
            count = self._counts.get(name, 0)
            self._counts[name] = count + 1
            name = (*name, count)
        self._note(name, line)
        return name

    def _resolve(self, key: tuple[str, ...]) -> Path:
        # Inside a header, the name of a list of tables stands for the last of them.
        name: Path = ()
        for depth, part in enumerate(key):
            name = (*name, part)
            if depth < len(key) - 1 and name in self._counts:
                name = (*name, self._counts[name] - 1)
        return name

    def _pair(self, table: Path) -> None:
        line = self._tokens[self._at][2]
        name = (*table, *self._key())
        self._note(name, line)
        self._next()
        self._value(name)

    def _key(self) -> tuple[str, ...]:
        parts = [self._part()]
        while self._peek() == "." and self._kind() == "mark":
            self._next()
            parts.append(self._part())
        return tuple(parts)

    def _part(self) -> str:
        kind, text, _ = self._next()
        return next(iter(tomllib.loads(f"{text}=0"))) if kind == "string" else text

    def _value(self, name: Path) -> None:
        if self._kind() == "string":
            self._next()
        elif self._peek() == "[":
            self._list(name)
        elif self._peek() == "{":
            self._inline(name)
        else:
            self._scalar()

    def _scalar(self) -> None:
        # A float has a dot and a date a space, so a scalar may be several tokens.
        while self._kind() == "bare" or self._peek() == ".":
            self._next()

    def _list(self, name: Path) -> None:
        self._next()
        index = 0
        while self._peek() != "]":
            if self._kind() == "newline" or self._peek() == ",":
                self._next()
                continue
            self._note((*name, index), self._tokens[self._at][2])
            self._value((*name, index))
            index += 1
        self._next()

    def _inline(self, name: Path) -> None:
        self._next()
        while self._peek() != "}":
            if self._kind() == "newline" or self._peek() == ",":
                self._next()
            else:
                self._pair(name)
        self._next()

    def _note(self, name: Path, line: int) -> None:
        self._lines.setdefault(name, line)
        for depth in range(1, min(len(name), _DEEPEST)):
            self._lines.setdefault(name[:depth], line)

    def _kind(self) -> str | None:
        return self._tokens[self._at][0]

    def _peek(self) -> str:
        kind, text, _ = self._tokens[self._at]
        return text if kind == "mark" else ""

    def _next(self) -> tuple[str | None, str, int]:
        token = self._tokens[self._at]
        self._at += 1
        return token
