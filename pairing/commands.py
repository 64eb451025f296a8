"""What can be asked of the heart. A command brings everything with it: the time, the caller, every fresh id.

Commands are imperatives; they are never stored.
"""

from typing import TypeAlias

from msgspec import Struct

from .events import Actor, Means, Need, Personal


class Standing(Struct, frozen=True):
    """What a session rests on: a device's grant and, where it logged in by device token, one generation of one role's token."""

    device: str
    role: str
    issue: str | None


class Caller(Struct, frozen=True, kw_only=True):
    """Who asks, and with what.

    `scopes` are the session's scopes; `ceiling` what its locality lends it when it judges others (empty for remote sessions);
    `own` is the one device that a session bound to its device token may manage; `standing` what the session rests on, looked at
    again in the step that commits; `method` how it logged in; `origin` what was believed of its `address`. `scopes` None means
    that nobody established them: every authority question about such a caller is answered with no.
    """

    actor: Actor
    scopes: tuple[str, ...] | None
    ceiling: tuple[str, ...] = ()
    own: str | None = None
    standing: Standing | None = None
    role: str = "operator"
    method: str | None = None
    origin: str | None = None
    address: str | None = None


class Command(Struct, frozen=True, kw_only=True):
    """`id` is a UUIDv7 (RFC 9562): sent again, it gives the first answer again. `now` is in ms."""

    id: str
    now: int
    by: Caller
    personal: Personal | None = None
    reason: str | None = None
    ticket: str | None = None
    cause: int | None = None
    policy: str | None = None


class Silence(Struct, frozen=True):
    """What may be approved without a person: for which needs, by which means, up to which operator scopes."""

    means: Means
    needs: tuple[Need, ...]
    ceiling: tuple[str, ...]


class Wanted(Struct, frozen=True, kw_only=True):
    """What a connection, its key proven, wants to be. `key` is base64url without padding, `scopes` as sent.

    `under` is the keyed tag of the gateway's present shared secret: tokens that only an older secret vouched for are dead.
    """

    key: str
    role: str
    scopes: tuple[str, ...]
    platform: str | None = None
    family: str | None = None
    under: str | None = None


class DeviceBound(Command, frozen=True, kw_only=True):
    """A command about one device, by its id."""

    device: str


class Knock(DeviceBound, frozen=True, kw_only=True):
    """An authenticated device connects and wants in. Opens, refreshes or silently approves a request; idempotent."""

    wanted: Wanted
    client_id: str | None
    client_mode: str | None
    request: str
    issue: str
    key: str
    seen: str
    named: str
    ttl: int
    silence: Silence | None = None
    full: bool = False


class Approve(DeviceBound, frozen=True, kw_only=True):
    """Grant exactly one request. `seen` is the digest of what the approver was shown, where they were shown it.

    `under` is the keyed tag of the present shared secret: a token that rests on an older one alone is replaced, not kept.
    """

    request: str
    issue: str
    key: str
    seen: str | None = None
    under: str | None = None


class Reject(DeviceBound, frozen=True, kw_only=True):
    """Say no to exactly one request."""

    request: str


class Expire(DeviceBound, frozen=True, kw_only=True):
    """Record that a request ran out; nothing happens while it still lives."""

    request: str


class Remove(DeviceBound, frozen=True, kw_only=True):
    """End a device's grant, its tokens and its open request. Once gone it is unknown: a repetition is refused."""


class Rename(DeviceBound, frozen=True, kw_only=True):
    """Give a device a label (in `personal`); `labelled` is its keyed tag, None takes the label away."""

    labelled: str | None


class Rotate(DeviceBound, frozen=True, kw_only=True):
    """Retire the token of a role and issue the next; a new generation every time. `scopes` None keeps the present ones."""

    role: str
    scopes: tuple[str, ...] | None
    issue: str
    key: str


class Revoke(DeviceBound, frozen=True, kw_only=True):
    """Kill the token of a role; may be repeated, and every repetition is recorded."""

    role: str


DeviceCommand: TypeAlias = Knock | Approve | Reject | Expire | Remove | Rename | Rotate | Revoke


class Start(Command, frozen=True, kw_only=True):
    """Record that a gateway process serves, under which policy: `ruling` is its short hash, `settings` what it is made of."""

    instance: str
    version: str
    listen: str
    key: str
    ruling: str
    secret: str | None
    settings: dict[str, str]


class Stop(Command, frozen=True, kw_only=True):
    """Record that a gateway process ended in order."""

    instance: str


GatewayCommand: TypeAlias = Start | Stop
