"""How often somebody may be wrong about a secret before nothing of theirs is looked at (protocol §4.6).

Pure; time comes in. Memory is bounded, and what is forgotten first is what is worth least. Knows no secret, and no other field of
a login than the class of the secret: decoys change nothing (N9).
"""

from array import array
from collections.abc import Hashable
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from pairing.gateway.address import neighbourhood
from pairing.settings.keys import RateLimit

Credential: TypeAlias = Literal["shared-secret", "device-token", "setup-code"]
SHARED_SECRET: Final = "shared-secret"  # noqa: S105
DEVICE_TOKEN: Final = "device-token"  # noqa: S105
SETUP_CODE: Final = "setup-code"

CAPACITY: Final = 4096
"""How many sources each counter keeps; about 10 MB when every table is full."""
CROWD: Final = 10
"""How many devices' worth of wrong device tokens, or setup codes, one address may send."""

_DAY_MS: Final = 86_400_000
_ORIGIN_CHARS: Final = 256
_NONE: Final = array("q")


class Source(Struct, frozen=True):
    """Whom failures are counted against: client address, the browser page's origin if there is one, and whether it is local.

    `local` is what address.py found: a loopback address that came through a proxy is not.
    """

    client_ip: str | None
    browser: str | None = None
    local: bool = False


class Counter:
    """Counts failures by key: `attempts` of them within `window` ms lock the key for `lockout` ms.

    Keeps at most `capacity` counts and as many locks. A lock is never displaced by a count; of the counts, those that have run
    out go first, then the lowest, oldest first. Locks displace only locks, nearest its end first, and each costs `attempts`
    failures from an address of its own.
    """

    def __init__(self, attempts: int, window: int, lockout: int, capacity: int = CAPACITY) -> None:
        self._attempts = attempts
        self._window = window
        self._lockout = lockout
        self._capacity = max(1, capacity)
        self._failures: dict[Hashable, array[int]] = {}
        # The same keys by how many failures they had when they last failed; each level is in order of time.
        self._levels: dict[int, dict[Hashable, None]] = {}
        self._locks: dict[Hashable, int] = {}

    def retry_after(self, key: Hashable, now: int) -> int:
        """Return the ms until a key may try again, 0 where it may now."""
        until = self._locks.get(key, 0)
        # More than a whole lockout away means that the clock went back: better free than locked for years.
        if 0 < until - now <= self._lockout:
            return until - now
        self._locks.pop(key, None)
        return 0

    def spend(self, key: Hashable, now: int) -> bool:
        """Count something that a key may do so often; False, and uncounted, where it has done it too often of late."""
        if self.retry_after(key, now):
            return False
        self.failed(key, now)
        return True

    def failed(self, key: Hashable, now: int) -> None:
        """Count a failure; while a key is locked nothing counts, so that a lock ends when it was said to."""
        if self.retry_after(key, now):
            return
        recent = array("q", (t for t in self._forgotten(key) if self._counts(t, now)))
        recent.append(now)
        if len(recent) >= self._attempts:
            self._lock(key, now)
            return
        if len(self._failures) >= self._capacity:
            self._make_room(now)
        self._failures[key] = recent
        self._levels.setdefault(len(recent), {})[key] = None

    def succeeded(self, key: Hashable) -> None:
        """Forget a key's failures. A lock stays: a good neighbour behind the same address must not free a bad one."""
        self._forgotten(key)

    def __len__(self) -> int:
        return len(self._failures) + len(self._locks)

    def _counts(self, failure: int, now: int) -> bool:
        return 0 <= now - failure < self._window

    def _lock(self, key: Hashable, now: int) -> None:
        if len(self._locks) >= self._capacity:
            del self._locks[next(iter(self._locks))]
        self._locks[key] = now + self._lockout

    def _forgotten(self, key: Hashable) -> "array[int]":
        failures = self._failures.pop(key, _NONE)
        if failures:
            level = self._levels[len(failures)]
            del level[key]
            if not level:
                del self._levels[len(failures)]
        return failures

    def _make_room(self, now: int) -> None:
        oldest = {level: next(iter(keys)) for level, keys in self._levels.items()}
        stale = (key for key in oldest.values() if not self._counts(self._failures[key][-1], now))
        self._forgotten(next(stale, oldest[min(oldest)]))


class RateLimiter:
    """Who must wait. Shared secrets are counted by address, device tokens and setup codes by address and device.

    One device's failures thus lock out no other (N12); once an address has sent ten times as many wrong device tokens as one
    device may, only those of paired devices behind it are still looked at. Classes are independent: being right about one
    forgives nothing of the other (N11). Browsers are counted apart, a local one by its page, and are never exempt; other local
    clients are, where the settings say so.
    """

    def __init__(self, rules: RateLimit | None = None, capacity: int = CAPACITY) -> None:
        rules = rules or RateLimit()
        # Zero or nonsense means the default, neither "off" nor "locked for ever" (N10).
        attempts = _sane(rules.max_attempts, 1_000, RateLimit().max_attempts)
        window = _sane(rules.window_ms, _DAY_MS, RateLimit().window_ms)
        lockout = _sane(rules.lockout_ms, _DAY_MS, RateLimit().lockout_ms)
        self._exempt_loopback = rules.exempt_loopback
        self._single: dict[Credential, Counter] = {
            "shared-secret": Counter(attempts, window, lockout, capacity),
            "device-token": Counter(attempts, window, lockout, capacity),
            "setup-code": Counter(attempts, window, lockout, capacity),
        }
        self._crowds: dict[Credential, Counter] = {
            "device-token": Counter(CROWD * attempts, window, lockout, capacity),
            "setup-code": Counter(CROWD * attempts, window, lockout, capacity),
        }

    def retry_after(
        self, credential: Credential, source: Source, now: int, device: str | None = None, *, paired: bool = False
    ) -> int:
        """Return the ms until a secret of this class is looked at again, 0 where it is now.

        A `paired` device answers for itself alone: what strangers do behind its address does not lock it out (N12).
        """
        if self._exempt(source):
            return 0
        alone = self._single[credential].retry_after(_key(credential, source, device), now)
        crowd = None if paired else self._crowds.get(credential)
        return alone if crowd is None else max(alone, crowd.retry_after(_bucket(source), now))

    def locked(
        self, credential: Credential, source: Source, now: int, device: str | None = None, *, paired: bool = False
    ) -> bool:
        """Say whether a secret of this class must not even be compared."""
        return self.retry_after(credential, source, now, device, paired=paired) > 0

    def failed(
        self, credential: Credential, source: Source, now: int, device: str | None = None, *, paired: bool = False
    ) -> None:
        """Count a wrong secret. A missing one is none."""
        if self._exempt(source) or self.locked(credential, source, now, device, paired=paired):
            return
        self._single[credential].failed(_key(credential, source, device), now)
        if (crowd := self._crowds.get(credential)) is not None:
            crowd.failed(_bucket(source), now)

    def succeeded(self, credential: Credential, source: Source, device: str | None = None) -> None:
        """Forget what was counted against exactly this key; the address as a whole is not forgiven."""
        self._single[credential].succeeded(_key(credential, source, device))

    def __len__(self) -> int:
        return sum(len(counter) for counter in (*self._single.values(), *self._crowds.values()))

    def _exempt(self, source: Source) -> bool:
        return self._exempt_loopback and source.local and source.browser is None


def _key(credential: Credential, source: Source, device: str | None) -> Hashable:
    return _bucket(source) if credential == SHARED_SECRET else (_bucket(source), device)


def _bucket(source: Source) -> str:
    if source.browser is None:
        return neighbourhood(source.client_ip)
    if source.local:
        return f"browser-origin:{source.browser.strip().lower()[:_ORIGIN_CHARS]}"
    return f"browser:{neighbourhood(source.client_ip)}"


def _sane(value: int, most: int, default: int) -> int:
    return value if type(value) is int and 1 <= value <= most else default
