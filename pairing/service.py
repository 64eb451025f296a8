"""What methods are made of: the service they work with, a call of one by somebody, and the parameters and receipt all share.

It decides nothing and lists nothing; the table is in `methods`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from . import ids
from .authority import OPERATOR
from .commands import ANY_TERMS, Caller, Lifetimes, Terms
from .custody import Custody
from .desk import Desk, Handled
from .entries import Node, Presence
from .events import Personal
from .following import Following
from .listing import Listing, Notes
from .outbox import Outbox
from .reach import Reach
from .tokens import Keyring

P = TypeVar("P", bound=Struct)
# They are kept for ever, in every copy of the log.
Words: TypeAlias = Annotated[str, msgspec.Meta(max_length=1000, pattern="^[^\\x00]*$")]
Key: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Sessions(Protocol):
    """Who is connected right now; the command line on the log alone knows nobody."""

    def presence(self) -> list[Presence]:
        """Return one entry for every live session."""

    def nodes(self) -> dict[str, Node]:
        """Return the connected nodes by device id."""

    def connected(self, device: str) -> bool:
        """Say whether a device has a live session."""


class Nobody:
    """No sessions: nothing is connected where no gateway runs."""

    def presence(self) -> list[Presence]:
        """Return nothing."""
        return []

    def nodes(self) -> dict[str, Node]:
        """Return nothing."""
        return {}

    def connected(self, device: str) -> bool:
        """Say no."""
        return False


@dataclass(frozen=True)
class Service:
    """What methods work with. `lifetimes` and `idle`: how long tokens live, and may go unused.

    `under` is the keyed tag of the present shared secret; `clock` gives ms.

    `longest_handoff` (ms) is the most that a rotation may leave the token before.
    `private_hooks`: webhooks may go to addresses inside, and over plain HTTP.
    """

    desk: Desk
    views: Listing
    following: Following
    keyring: Keyring
    clock: Callable[[], int]
    version: str
    under: str | None = None
    lifetimes: Lifetimes = ()
    idle: Lifetimes = ()
    longest_handoff: int = 0
    terms: Terms = ANY_TERMS
    sessions: Sessions = field(default_factory=Nobody)
    notes: Notes | None = None
    outbox: Outbox | None = None
    private_hooks: bool = False
    started_at: int = 0
    host: str = ""
    config_path: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    custody: Custody | None = None
    reach: Reach = field(default_factory=Reach)


class Call(Struct, Generic[P], frozen=True):
    """One call of one method by one caller."""

    service: Service
    caller: Caller
    params: P

    def stamp(self, *about: str) -> dict[str, Any]:
        """Return what every command of this call carries.

        `about` names the method and what it is called for. With it, and an idempotency key in the params, the command's id is
        made of these and the caller, so that the same call again is the same command, in any process (T16).
        """
        now = self.service.clock()
        key, actor = getattr(self.params, "idempotency_key", None) if about else None, self.caller.actor
        personal = Personal(salt=ids.salt(), address=self.caller.address) if self.caller.address else None
        return {
            "id": ids.uuid7(now) if key is None else ids.keyed_uuid(actor.kind, actor.id or "", *about, key),
            "now": now,
            "by": self.caller,
            "personal": personal,
            "reason": getattr(self.params, "reason", None),
            "ticket": getattr(self.params, "ticket", None),
        }


@dataclass(frozen=True)
class Method(Generic[P]):
    """One operation. `scope` None: any session of these roles may call it. `waits`: its answer may be a while in coming."""

    name: str
    params: type[P]
    run: Callable[[Call[P]], Awaitable[Any]]
    scope: str | None
    roles: tuple[str, ...] = (OPERATOR,)
    waits: bool = False


class Params(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Parameters of a method: a closed object."""


class Reasoned(Params, frozen=True, kw_only=True):
    """`reason` and `ticket` are a person's words for the record; `receipt` asks for the event that recorded the answer."""

    reason: Words | None = None
    ticket: Words | None = None
    receipt: bool = False


class Repeatable(Reasoned, frozen=True, kw_only=True):
    """`idempotency_key`: the same caller's same call with the same key happens once, and gets the first answer again (T16)."""

    idempotency_key: Key | None = None


class Ending(Repeatable, frozen=True, kw_only=True):
    """`break_glass` says that the last device that can approve may be ended; it takes a reason (A22)."""

    break_glass: bool = False


class AnyParams(Struct, frozen=True):
    """Parameters that are taken and not looked at."""


class Receipt(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The event that recorded an answer. `changed` false: it had been answered so before, and this call changed nothing."""

    position: int
    kind: str
    changed: bool = True


def receipt(params: Reasoned, handled: Handled[Any, Any], which: int = 0) -> Receipt | None:
    if not params.receipt:
        return None
    if not handled.records:
        return Receipt(0, "", changed=False)
    return Receipt(handled.records[which].position, handled.records[which].kind, changed=not handled.repeated)
