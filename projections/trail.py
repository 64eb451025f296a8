"""The audit trail as it is searched: which events answer a question, newest first, and what each of them changed.

Every page is bounded work, however many events there are: one index is walked, the rarest that the question offers, and the rest
of the question is asked of what it gives. Pure but for the `ask` it is handed; the log holds what the events say.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from pairing.listing import Change, Found, Sought
from pairing.reasons import fold

from . import devices, locks, nodes, requests, tokens
from .spans import Table, as_json

Rows: TypeAlias = list[tuple[Any, ...]]
Ask: TypeAlias = Callable[..., Awaitable[tuple[int, Rows]]]

_REACHED = "(SELECT position FROM mark)"
# Beyond so many, the alternatives of one filter are no index to walk; an index is not counted further than that it is long.
_ALTERNATIVES = 16
_LONG = 5_000
# How much of an index is walked at once, growing, and by one call.
_LEAST, _WINDOW, _WALKED = 64, 8_192, 65_536


class _Way(Struct, frozen=True):
    """One filter: the words or the address it allows, how to walk the events of one of them, and how to ask one event."""

    values: tuple[object, ...]
    walk: str
    test: str
    name: str


async def find(ask: Ask, sought: Sought, limit: int) -> Found:
    """Return the positions of up to `limit` events, newest first; `next` is where to go on below, None where all were found."""
    ways = await _ways(ask, sought)
    if any(not way.values for way in ways):
        return Found((await ask(_NOTHING))[0], (), None)
    driver = await _rarest(ask, ways)
    tests = "".join(f" AND {way.test}" for way in ways if way is not driver)
    given = {way.name: as_json(way.values) for way in ways if way is not driver}
    high, found, walked, window = sought.below, list[int](), 0, _LEAST if tests else limit + 1
    while True:
        edge, position = sought.after, 0
        batch = list[int]()
        for value in driver.values if driver else (None,):
            sql = _WINDOW_OF.format(walk=driver.walk if driver else _ALL, tests=tests)
            position, rows = await ask(sql, value=value, low=sought.after, high=high, window=window, **given)
            _, _, count, lowest = rows[0]
            batch += [row[1] for row in rows[1:]]
            walked += count
            if count == window:
                edge = max(edge, lowest - 1)
        found += sorted({place for place in batch if place > edge}, reverse=True)
        if len(found) > limit:
            return Found(position, tuple(found[:limit]), found[limit - 1])
        if edge == sought.after:
            return Found(position, tuple(found), None)
        if walked >= _WALKED:
            return Found(position, tuple(found), edge + 1)
        high, window = edge + 1, min(window * 4, _WINDOW)


_NOTHING = f"SELECT {_REACHED}"
_ALL = "SELECT position FROM events WHERE :value IS NULL"
_WINDOW_OF = f"""
WITH walked AS MATERIALIZED ({{walk}} AND position > :low AND position < :high ORDER BY position DESC LIMIT :window)
SELECT {_REACHED}, NULL, count(*), min(position) FROM walked
UNION ALL
SELECT {_REACHED}, e.position, NULL, NULL FROM walked CROSS JOIN events e ON e.position = walked.position WHERE 1{{tests}}"""  # noqa: S608


async def _ways(ask: Ask, sought: Sought) -> list[_Way]:
    ways = [
        await _worded(ask, "stream", sought.streams),
        await _worded(ask, "kind", sought.kinds),
        await _worded(ask, "actor", sought.actors),
        await _worded(ask, "reason", None if sought.reason is None else (fold(sought.reason),)),
    ]
    if sought.address is not None:
        walk = "SELECT position FROM events WHERE address = :value"
        ways.append(_Way((sought.address,), walk, "e.address IN (SELECT value FROM json_each(:addresses))", "addresses"))
    if sought.positions is not None:
        walk = "SELECT position FROM events WHERE position = :value"
        ways.append(_Way(sought.positions, walk, "e.position IN (SELECT value FROM json_each(:positions))", "positions"))
    return [way for way in ways if way is not None]


async def _worded(ask: Ask, name: str, words: Sequence[str] | None) -> _Way | None:
    """Find the numbers of words; one that ends in `*` stands for all that begin so."""
    if words is None:
        return None
    exact = [word for word in words if not word.endswith("*")]
    begun = [[word[:-1], word[:-1] + _LAST] for word in words if word.endswith("*")]
    _, rows = await ask(_WORDS, exact=as_json(exact), begun=as_json(begun))
    numbers = tuple(row[1] for row in rows)
    if name == "reason":
        walk = "SELECT position FROM reasons WHERE word = :value"
        test = "EXISTS (SELECT 1 FROM json_each(:reason) v JOIN reasons r ON r.word = v.value AND r.position = e.position)"
        return _Way(numbers, walk, test, name)
    walk = f"SELECT position FROM events WHERE {name} = :value"  # noqa: S608
    return _Way(numbers, walk, f"e.{name} IN (SELECT value FROM json_each(:{name}))", name)  # noqa: S608


_LAST = "\U0010ffff"
_WORDS = f"""
SELECT {_REACHED}, id FROM words WHERE word IN (SELECT value FROM json_each(:exact))
UNION SELECT {_REACHED}, w.id FROM json_each(:begun) b JOIN words w ON w.word >= b.value ->> 0 AND w.word < b.value ->> 1"""  # noqa: S608


async def _rarest(ask: Ask, ways: Iterable[_Way]) -> _Way | None:
    """Return the filter that leaves the fewest events to look at; None where none can be walked, and all are looked at."""
    best, fewest = None, None
    for way in ways:
        if len(way.values) > _ALTERNATIVES:
            continue
        number = 0
        for value in way.values:
            _, rows = await ask(_COUNT.format(walk=way.walk), value=value, most=_LONG)
            number += rows[0][1]
        if fewest is None or number < fewest:
            best, fewest = way, number
    return best


_COUNT = f"SELECT {_REACHED}, (SELECT count(*) FROM ({{walk}} LIMIT :most))"  # noqa: S608


# --- what an event changed -------------------------------------------------------------------------------------------


class _Kept(Struct, frozen=True):
    """A view whose rows an event can end and begin: what it is about, how the row before is found, and what is told of it."""

    what: str
    table: Table
    before: str
    told: tuple[str, ...]


_ONE = "t.from_position = (SELECT max(from_position) FROM {table} WHERE stream = e.stream AND from_position < e.position)"
_ASKED = """t.from_position = (SELECT max(from_position) FROM requests
    WHERE request = e.request AND stream = e.stream AND from_position < e.position)"""
_SAID = ("name", "platform", "family", "client_id", "client_mode")
_KEPT = (
    _Kept("access", devices.DEVICES, _ONE.format(table="devices"), ("roles", "scopes", "means", *_SAID)),
    _Kept("token", tokens.TABLE, "t.stream = e.stream", ("role", "scopes", "issue", "revoked_at")),
    _Kept("lock", locks.TABLE, _ONE.format(table="locks"), ("until", "message", "ban")),
    _Kept("label", devices.LABELS, _ONE.format(table="labels"), ("label",)),
    _Kept("request", requests.TABLE, _ASKED, ("request", "outcome", "roles", "scopes", *_SAID, "address", "expires_at")),
    _Kept(
        "surface-request",
        nodes.ASKED,
        _ONE.format(table="node_requests"),
        ("request", "outcome", "caps", "commands", "name", "address"),
    ),
    _Kept("surface", nodes.NODES, _ONE.format(table="nodes"), ("caps", "commands", "name", "label")),
)
_JSON = frozenset(("roles", "scopes", "caps", "commands"))
_names = msgspec.json.Decoder(list[str]).decode


async def changes(ask: Ask, positions: Sequence[int]) -> dict[int, tuple[Change, ...]]:
    """Return what each event changed: the rows that ended with it, beside those that began with it."""
    found: dict[int, list[Change]] = {position: [] for position in positions}
    chosen = as_json(list(positions))
    for kept in _KEPT:
        _, ended = await ask(_ended(kept), positions=chosen)
        _, begun = await ask(_begun(kept), positions=chosen)
        pairs: dict[tuple[Any, ...], list[dict[str, Any] | None]] = {}
        for side, rows in ((0, ended), (1, begun)):
            for _, position, *values in rows:
                row = _row(kept, values)
                pairs.setdefault((position, row.get("role"), row.get("request")), [None, None])[side] = row
        for (position, *_), (before, after) in pairs.items():
            found[position].append(_change(kept.what, before, after))
    return {position: tuple(changed) for position, changed in found.items()}


def _ended(kept: _Kept) -> str:
    columns = ", ".join(f"t.{name}" for name in kept.told)
    return f"""
SELECT {_REACHED}, e.position, {columns}
  FROM json_each(:positions) p CROSS JOIN events e ON e.position = p.value CROSS JOIN {kept.table.name} t ON {kept.before}
 WHERE t.to_position = e.position"""  # noqa: S608


def _begun(kept: _Kept) -> str:
    columns = ", ".join(f"t.{name}" for name in kept.told)
    return f"""
SELECT {_REACHED}, t.from_position, {columns} FROM json_each(:positions) p
  CROSS JOIN {kept.table.name} t ON t.from_position = p.value"""  # noqa: S608


def _row(kept: _Kept, values: Sequence[Any]) -> dict[str, Any]:
    told = zip(kept.told, values, strict=True)
    return {name: _names(value) if name in _JSON else value for name, value in told if value is not None}


def _change(what: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> Change:
    """A request's row is closed, not followed by another: what it ended as stands in the row itself."""
    if before is not None and after is None and (outcome := before.pop("outcome", None)):
        before, after = before | {"outcome": "pending"}, before | {"outcome": outcome}
    else:
        for row in (before, after):
            if row is not None and what.endswith("request"):
                row["outcome"] = "pending"
    return Change(what, before, after)
