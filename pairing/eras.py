"""Policies as values: the settings that decide who gets in, by name, and which of them were in force when.

Pure. The log holds them as texts of JSON, beside a keyed tag of the shared secret (`under`); the secret itself is nowhere here.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from .events import PolicyChanged
from .history import Happened
from .settings.keys import KEYS, Gateway, assemble
from .settings.kinds import plain
from .settings.problems import UnfitValueError

ADMITTING = tuple(name for name, key in KEYS.items() if key.setting.admits)


class Rules(Struct, frozen=True):
    """A policy: every setting that admits, typed, by its name and as the tree that the gateway works with."""

    values: dict[str, Any]
    gateway: Gateway
    under: str | None = None
    unread: tuple[str, ...] = ()


def rules(values: Mapping[str, Any], under: str | None, unread: tuple[str, ...] = ()) -> Rules:
    """Return the policy of typed values; what is not named has its default."""
    whole = {name: values.get(name, KEYS[name].default) for name in ADMITTING}
    return Rules(whole, assemble(Gateway, whole, ("gateway",)), under, unread)


def read(raw: Mapping[str, object], under: str | None) -> Rules:
    """Return the policy of plain values, null being none. What cannot be a setting is left out, and named in `unread`."""
    values, unread = dict[str, Any](), list[str]()
    for name, value in raw.items():
        try:
            values[name] = fit(name, value)
        except (KeyError, UnfitValueError):
            unread.append(name)
    return rules(values, under, tuple(sorted(unread)))


def fit(name: str, raw: object) -> Any:
    """Return the typed value of a setting that admits. Raises KeyError where there is none of that name, `UnfitValueError`."""
    key = KEYS[name] if name in ADMITTING else None
    if key is None:
        raise KeyError(name)
    return None if raw is None and key.default is None else key.setting.kind.read(raw)


def differing(one: Rules, other: Rules) -> tuple[str, ...]:
    """Name the settings in which two policies differ; the order of a list is none of its meaning."""
    return tuple(name for name in ADMITTING if _meant(one.values[name]) != _meant(other.values[name]))


def with_one(base: Rules, other: Rules, name: str) -> Rules:
    """Return a policy with one setting of another."""
    return rules({**base.values, name: other.values[name]}, base.under)


def shown(value: object) -> str:
    """Return a typed value as a text of JSON."""
    return msgspec.json.encode(plain(value)).decode()


def _meant(value: object) -> object:
    return frozenset(value) if isinstance(value, tuple) else value


class Era(Struct, frozen=True):
    """A policy from the position on at which a gateway began to serve under it; `digest` is the policy's own."""

    position: int
    digest: str | None
    rules: Rules


class Eras(Struct, frozen=True):
    """The policies that were in force, in order. `now` is the present one, which holds where the log tells of none."""

    now: Rules
    past: tuple[Era, ...] = ()

    def of(self, position: int, digest: str | None) -> Rules:
        """Return the policy that an event at a position was decided under.

        Gateways beside each other may differ: the event names its policy, and the last of that name is meant.
        """
        before = self.past[: bisect_right(self.past, position, key=lambda era: era.position)]
        named = next((era for era in reversed(before) if era.digest == digest), None)
        return (named or before[-1]).rules if before else self.now

    def all(self) -> tuple[Rules, ...]:
        """Return every policy that ever was in force, and the present one."""
        # Also those from before: a gateway may serve on under one while another has begun under the next.
        return (self.now, *(era.rules for era in self.past))


def eras(past: Iterable[Happened], now: Rules) -> Eras:
    """Return the policies that the gateway's own stream tells of."""
    found = []
    for one in past:
        if isinstance(event := one.event, PolicyChanged):
            raw = {name: _json(text) for name, text in event.settings.items()}
            found.append(Era(one.position, event.policy, read(raw, event.secret)))
    return Eras(now, tuple(found))


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return _Unreadable()


class _Unreadable:
    """No value of any setting."""
