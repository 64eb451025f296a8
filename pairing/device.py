"""The state of one device: its grant, its tokens, its open request, as `evolve` folds the events of its stream into it.

Names and addresses are not here: no decision depends on them.
"""

import hashlib
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from .authority import covers
from .events import Means, Need, RequestEndorsed, Unendorsing

# What a state remembers of the past is bounded; the log remembers all of it.
REMEMBERED = 32

Ending: TypeAlias = Literal["approved", "rejected", "expired", "superseded", "withdrawn"]


class Handoff(Struct, frozen=True, gc=False):
    """The generation before a token's present one, still accepted until `until` (ms), and no wider than both cover."""

    issue: str
    key: str
    scopes: tuple[str, ...]
    until: int
    proof: str | None = None


class Token(Struct, frozen=True, gc=False):
    """The token of one role, by the name of its generation; its value is derived, never held. Times in ms.

    `proof` is set on a token that another gateway made: the keyed hash of its value.
    `expires_at` is when its lifetime ends, `expired_at` when it did or when it died of disuse; `warned` the least distance from
    its end at which somebody was warned.
    """

    role: str
    scopes: tuple[str, ...]
    issue: str
    key: str
    created_at: int
    rotated_at: int | None = None
    revoked_at: int | None = None
    under: str | None = None
    proof: str | None = None
    expires_at: int | None = None
    expired_at: int | None = None
    warned: int | None = None

    @property
    def dead(self) -> bool:
        """Say whether it was revoked or has expired; only a new generation helps."""
        return self.revoked_at is not None or self.expired_at is not None

    handoff: Handoff | None = None

    @property
    def issued_at(self) -> int:
        """When the present generation began, in ms."""
        return self.rotated_at or self.created_at


class Retired(Struct, frozen=True, gc=False):
    """A generation that is no more: replaced (because somebody else may have it, or not), ended, or of a timeline left."""

    role: str
    issue: str
    key: str
    at: int
    how: Literal["rotated", "compromised", "revoked", "removed", "expired", "abandoned"]
    proof: str | None = None


class Grant(Struct, frozen=True, gc=False):
    """What was approved. `scopes` is the baseline as asked; `tokens` is sorted by role; `code` the setup code behind it."""

    key: str
    means: Means
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    named: str
    created_at: int
    approved_at: int
    tokens: tuple[Token, ...] = ()
    code: str | None = None

    def token(self, role: str) -> Token | None:
        """Return the token of a role, revoked or not."""
        for token in self.tokens:
            if token.role == role:
                return token
        return None

    def live(self, role: str, under: str | None) -> Token | None:
        """Return the token of a role if it can be used at all: it is sound, and its role is approved (A16, A18, T6)."""
        return self.sound(role, under) if role in self.roles else None

    def sound(self, role: str, under: str | None) -> Token | None:
        """Return the token of a role if nothing is wrong with the token itself, whether or not its role is approved.

        It must not be dead, must lie within the approved baseline, and must not rest on an older shared secret alone.
        """
        token = self.token(role)
        if token is None or token.dead:
            return None
        if token.under is not None and token.under != under:
            return None
        return token if covers(role, self.scopes, token.scopes) else None


class Vote(Struct, frozen=True, gc=False):
    """One of several approvals that a request has; the fields are those of `request.endorsed`. `at` in ms."""

    voter: str
    device: str | None
    issue: str | None
    held: tuple[str, ...]
    lent: tuple[str, ...]
    under: str | None
    at: int


class Voided(Struct, frozen=True, gc=False):
    """A vote that counts no longer, for which request, and why. `at` in ms."""

    request: str
    voter: str
    why: Unendorsing
    at: int


class Pending(Struct, frozen=True, gc=False):
    """An open request."""

    request: str
    key: str
    need: Need
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    silent: bool
    opened_at: int
    expires_at: int
    seen: str
    named: str
    digest: str
    code: str | None = None
    votes: tuple[Vote, ...] = ()

    def expired(self, now: int) -> bool:
        """Say whether nobody may answer it any more."""
        return now > self.expires_at


class Closed(Struct, frozen=True, gc=False):
    """A request that has ended, and how; `by` is the id that superseded it."""

    request: str
    ending: Ending
    at: int
    by: str | None = None


class Barred(Struct, frozen=True, gc=False):
    """A lock: who holds the key is kept out until `until` (ms; None: until it is unlocked), and told `message`."""

    at: int
    until: int | None
    message: str | None
    ban: bool

    def over(self, now: int) -> bool:
        """Say whether its end has come."""
        return self.until is not None and now >= self.until


class Device(Struct, frozen=True, gc=False):
    """One device's stream, folded. `newer` is set once an event of an unknown kind was met: no decision may follow it.

    `gone_at` is when it was last removed, or left behind by a restore, in ms.
    """

    grant: Grant | None = None
    pending: Pending | None = None
    retired: tuple[Retired, ...] = ()
    closed: tuple[Closed, ...] = ()
    labelled: str | None = None
    newer: str | None = None
    lock: Barred | None = None
    voided: tuple[Voided, ...] = ()
    gone_at: int | None = None

    def token(self, role: str) -> Token | None:
        """Return the token of a role, revoked or not."""
        return self.grant.token(role) if self.grant else None

    def ended(self, request: str) -> Closed | None:
        """Return how a request ended, where this state still remembers it."""
        return next((closed for closed in reversed(self.closed) if closed.request == request), None)


INITIAL = Device()


def digest(*, request: str, key: str, roles: tuple[str, ...], scopes: tuple[str, ...], seen: str) -> str:
    """Return what stands for a request as a reviewer saw it: 32 hex characters of SHA-256 over all of it."""
    canonical = msgspec.json.encode(("pairing request v1", request, key, roles, scopes, seen))
    return hashlib.sha256(canonical).hexdigest()[:32]


def imprint(state: Device) -> str:
    """Return what stands for all that is known of a device: 32 hex characters of SHA-256. Of another version's state another."""
    return hashlib.sha256(msgspec.json.encode(("pairing device v1", state))).hexdigest()[:32]


def same_voice(one: Vote | RequestEndorsed, other: Vote | RequestEndorsed) -> bool:
    """Say whether two votes are one principal's: the same actor, or one device that came in by two credentials."""
    return one.voter == other.voter or (one.device is not None and one.device == other.device)
