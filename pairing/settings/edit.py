"""Change one key of a settings file and leave every comment, blank line and order as it was.

Works on texts; the result is compared with what was meant before anybody may write it.
"""

import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .problems import Problem, SettingsError

if TYPE_CHECKING:
    from tomlkit.items import Array, Key

_CHOICES = 3


def with_value(text: str, path: tuple[str, ...], raw: object) -> str:
    """Return a valid TOML text with the key at `path` set; raises SettingsError where that cannot be done safely."""
    wanted = tomllib.loads(text)
    table = wanted
    for name in path[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise _unsafe(path)
    table[path[-1]] = raw
    return _edited(text, path, wanted, lambda document, choice: _set(document, path, raw, choice))


def without(text: str, path: tuple[str, ...]) -> str:
    """Return a valid TOML text without the key at `path`; raises KeyError if it is not there, SettingsError as above."""
    wanted = tomllib.loads(text)
    table = wanted
    for name in path[:-1]:
        table = table[name]
        if not isinstance(table, dict):
            raise KeyError(name)
    del table[path[-1]]
    return _edited(text, path, wanted, lambda document, choice: _unset(document, path, choice))


def _edited(text: str, path: tuple[str, ...], wanted: dict[str, Any], change: Callable[..., None]) -> str:
    # Where a file comes back to a table, the key may be in any part of it, and not every part can take a new one:
    # the parts are tried, the last one first, and only what reads back as meant counts. Each part names its table once at least.
    for choice in range(max(_CHOICES, text.count(path[0]))):
        edited = _attempt(text, partial(change, choice=choice))
        if edited is not None and _pruned(tomllib.loads(edited)) == _pruned(wanted):
            return edited
    raise _unsafe(path)


def _attempt(text: str, change: Callable[[Any], None]) -> str | None:
    import tomlkit

    try:
        document = tomlkit.parse(text)
        change(document)
        edited = tomlkit.dumps(document)
        tomllib.loads(edited)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # A layout the editor does not know shows as any of these.
        return None
    return edited


def _pruned(table: dict[str, Any]) -> dict[str, Any]:
    """Return the table without its empty tables, which hold no setting and may come and go."""
    kept = {name: _pruned(item) if isinstance(item, dict) else item for name, item in table.items()}
    return {name: item for name, item in kept.items() if item != {}}


def _set(table: Any, path: Sequence[str], raw: object, choice: int, dotted: bool = False) -> None:
    import tomlkit
    from tomlkit.items import Array

    name, *rest = path
    parts = _parts(table, name)
    if not parts and (dotted or not rest):
        # Among dotted keys a header would take in the lines that follow, so the new key is dotted as well.
        _add(table, tomlkit.key(list(path)), raw)
    elif not parts:
        item = _new_table(table, is_super_table=len(rest) > 1)
        _set(item, rest, raw, choice)
        _add(table, tomlkit.key(name), item)
    elif rest:
        key, part = _chosen(parts, choice)
        _set(part, rest, raw, choice, key.is_dotted())
    elif not (isinstance(table[name], Array) and isinstance(raw, list) and _refilled(table[name], raw)):
        table[name] = raw


def _unset(table: Any, path: Sequence[str], choice: int) -> None:
    name, *rest = path
    if rest:
        _, part = _chosen(_parts(table, name), choice)
        _unset(part, rest, choice)
    else:
        del table[name]


def _parts(table: Any, name: str) -> list[tuple["Key", Any]]:
    """Return what stands under a name: several tables where a file comes back to one after another."""
    return [(key, item) for key, item in _body(table) if key is not None and key.key == name]


def _chosen(parts: list[tuple["Key", Any]], choice: int) -> tuple["Key", Any]:
    return parts[::-1][min(choice, len(parts) - 1)]


def _body(table: Any) -> list[tuple[Any, Any]]:
    from tomlkit.items import InlineTable, Table

    body: list[tuple[Any, Any]] = getattr(table.value if isinstance(table, Table | InlineTable) else table, "body", [])
    return body


def _new_table(parent: Any, *, is_super_table: bool) -> Any:
    import tomlkit
    from tomlkit.items import InlineTable

    return tomlkit.inline_table() if isinstance(parent, InlineTable) else tomlkit.table(is_super_table)


def _add(table: Any, key: "Key", item: object) -> None:
    """Add a key behind the last one, in front of comments that lead over to the next table."""
    from tomlkit.items import Table

    body = _body(table) if isinstance(table, Table) else []
    tail = []
    while body and body[-1][0] is None:
        tail.append(body.pop())
    table.append(key, item)
    body.extend(reversed(tail))


def _refilled(array: "Array", raw: list[Any]) -> bool:
    """Take out and append elements so that the comments of those that stay are kept; say whether that was enough."""
    for index in reversed(range(len(array))):
        if array[index] not in raw:
            del array[index]
    for item in raw:
        if item not in array:
            array.append(item)
    return list(array) == raw


def _unsafe(path: tuple[str, ...]) -> SettingsError:
    name = ".".join(path)
    return SettingsError([Problem(name, f"{name} cannot be changed without disturbing the rest; edit the file by hand")])
