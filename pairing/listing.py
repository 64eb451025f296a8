"""What the service asks of the views: a small Protocol that the composition root fills from `projections`.

Every answer says at which position it was given. No decision about access is made on a view: views find, streams decide.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from .commands import Wanted
from .events import Actor, Means, Need
from .verdict import Presented, Step

T = TypeVar("T")
Outcome: TypeAlias = Literal["pending", "approved", "rejected", "expired", "superseded", "withdrawn"]


class Answer(Struct, Generic[T], frozen=True):
    """Rows, and the log position they are true at."""

    position: int
    rows: tuple[T, ...]


class TokenRow(Struct, frozen=True, kw_only=True):
    """A device's token of one role: everything but the token. Times in ms.

    `handoff_until`: until then, or until this one is used, the one before is accepted too.
    """

    role: str
    scopes: tuple[str, ...]
    issue: str
    created_at: int
    rotated_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    under: str | None = None
    expires_at: int | None = None
    expired_at: int | None = None
    handoff_until: int | None = None


class HandedOver(Struct, frozen=True):
    """A token whose `predecessor` was left a while when it was rotated: until `until`, unless it is used before. Times in ms."""

    device: str
    role: str
    issue: str
    predecessor: str
    rotated_at: int
    until: int


class PendingRow(Struct, frozen=True, kw_only=True):
    """An open request as a reviewer sees it. `position` is the event that last changed it.

    `damaged` is the position of the first row of its device that cannot be read: what it said is missing here.
    """

    request: str
    device: str
    key: str
    need: Need
    name: str | None
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    address: str | None
    silent: bool
    repair: bool
    opened_at: int
    expires_at: int
    digest: str
    position: int
    damaged: int | None = None


class PairedRow(Struct, frozen=True, kw_only=True):
    """A device with a grant. `scopes` is the approved baseline; `tokens` is sorted by role.

    `position` is the event that last changed any of it. `address`, `last_seen_at` and the tokens' `last_used_at` know of
    connections only in answers for now. `damaged` is the position of the device's first row that cannot be read.
    """

    device: str
    key: str
    name: str | None
    label: str | None
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    address: str | None
    means: Means
    created_at: int
    approved_at: int
    tokens: tuple[TokenRow, ...]
    position: int
    last_seen_at: int | None = None
    damaged: int | None = None


class LockRow(Struct, frozen=True, kw_only=True):
    """A key that is kept out, with what its device is called. `paired` says whether there is a grant behind it. Times in ms."""

    device: str
    locked_at: int
    until: int | None
    message: str | None
    ban: bool
    reason: str | None
    actor: Actor | None
    label: str | None
    name: str | None
    paired: bool
    position: int


class DueRow(Struct, frozen=True, kw_only=True):
    """One generation of a token that will end: at `expires_at`, or (null) only of disuse. Times in ms."""

    device: str
    role: str
    issue: str
    issued_at: int
    expires_at: int | None
    warned: int | None
    label: str | None
    name: str | None
    position: int


class NodeAskedRow(Struct, frozen=True, kw_only=True):
    """An open request for a node's surface. `position` is the event that made it. Times in ms."""

    node: str
    request: str
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    name: str | None
    address: str | None
    platform: str | None
    family: str | None
    model: str | None
    version: str | None
    core_version: str | None
    ui_version: str | None
    silent: bool
    repair: bool
    asked_at: int
    position: int


class NodeRow(Struct, frozen=True, kw_only=True):
    """A node whose surface is approved, described as its request did. `label` is what an operator named it. Times in ms."""

    node: str
    request: str
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    name: str | None
    label: str | None
    address: str | None
    platform: str | None
    family: str | None
    model: str | None
    version: str | None
    core_version: str | None
    ui_version: str | None
    created_at: int
    approved_at: int
    position: int


class HolderRow(Struct, frozen=True, kw_only=True):
    """A device that holds one use of a setup code, and how far handing over has come; `roles` are those handed. Times in ms."""

    device: str
    roles: tuple[str, ...]
    bound_at: int
    redeemed_at: int | None
    delivered_at: int | None
    acknowledged_at: int | None


class EnrolmentRow(Struct, frozen=True, kw_only=True):
    """A setup code: everything but the code. `actor` minted it; `holders` come in the order in which they came. Times in ms.

    `position` is the event that last changed any of it.
    """

    code: str
    profile: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    uses: int
    approves: bool
    label: str | None
    actor: Actor | None
    issued_at: int
    expires_at: int
    revoked_at: int | None
    expired_at: int | None
    overuses: int
    holders: tuple[HolderRow, ...]
    position: int


class Fate(Struct, frozen=True, kw_only=True):
    """What became of a request: its outcome, when, by whom, at which position, and the id that replaced it."""

    request: str
    device: str
    outcome: Outcome
    at: int
    position: int
    actor: Actor | None = None
    by: str | None = None


class Damage(Struct, frozen=True):
    """A row of the log that cannot be read: what stream it belongs to, and why."""

    stream: str
    position: int
    why: str


class Match(Struct, frozen=True):
    """A device that a full id, a prefix of an id or a label may mean."""

    device: str
    name: str | None
    label: str | None
    status: Literal["paired", "pending", "gone"]


class Sought(Struct, frozen=True, kw_only=True):
    """Which events are looked for: all that is given must fit, of what is given as several one. None asks for nothing.

    A word that ends in `*` stands for all that begin so. `positions` are the rows of one command; `after`, `below` lie outside.
    """

    streams: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    actors: tuple[str, ...] | None = None
    reason: str | None = None
    address: str | None = None
    positions: tuple[int, ...] | None = None
    after: int = 0
    below: int = 1 << 62


class Found(Struct, frozen=True):
    """Positions of events, newest first, as the views have them at `position`; `next`: there may be more below this one."""

    position: int
    positions: tuple[int, ...]
    next: int | None


class Change(Struct, frozen=True):
    """What an event did to one thing, before and after.

    It is an `access`, `token`, `lock`, `label`, `request`, `surface-request` or `surface`.
    """

    what: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Difference(Struct, frozen=True):
    """A table of the views that does not say what the log says: how many rows, and the first of them in words."""

    table: str
    count: int
    first: tuple[str, ...]


class Acted(Struct, frozen=True):
    """Where a device acted on others: rows that say of a person no more than where it acted from, and how many of them still do.

    `kept` are the rows that say what it called another device, and where from.
    """

    positions: tuple[int, ...]
    known: int
    kept: tuple[int, ...]


class Crowd(Struct, frozen=True):
    """How many requests are open: from one address, and in all."""

    here: int
    total: int


class Issued(Struct, frozen=True):
    """A generation of a token, by name, at the position that began it or last changed what it covers."""

    position: int
    device: str
    role: str
    issue: str


class Touched(Struct, frozen=True):
    """A device to which something happened, and a position at which it did: the first or the latest, as asked."""

    position: int
    device: str


class Use(Struct, frozen=True, gc=False):
    """The last use of a role's token: its generation, when (ms), and from which address."""

    issue: str
    at: int
    address: str | None


class Reuse(Struct, frozen=True, kw_only=True):
    """A token that was shown after it had ended: which generation, how and when (ms) it ended, and who uses the present one.

    The last two are the last known use of the present one, where there is any; they are seen from here, and prove nothing.
    """

    issue: str
    how: str
    retired_at: int
    present_address: str | None = None
    present_at: int | None = None


class RefusedContact(Struct, frozen=True, kw_only=True):
    """A connection that was turned away, and why. It never holds a secret. Times in ms.

    `device` is what it said it was, `proven` whether it is a device known here that proved so; `trace` are the rules as they were
    applied; `reuse` is set where it showed a token that had ended. The same refusal again is one contact: `count` times, from
    `first_at` to `at`. These three fields are filled in where it is kept. `presented`, `wanted` and the log's `position` are what
    it was judged on, where it came to that.
    """

    at: int
    device: str | None
    proven: bool
    address: str | None
    reason: str
    code: str
    role: str | None = None
    scopes: tuple[str, ...] = ()
    trace: tuple[Step, ...] = ()
    reuse: Reuse | None = None
    reference: str = ""
    count: int = 1
    first_at: int = 0
    presented: Presented | None = None
    wanted: Wanted | None = None
    position: int = 0


class Notes(Protocol):
    """Where the service notes in passing what is not authority: cheap, synchronous, and lost without harm."""

    def note_use(self, device: str, role: str, issue: str, now: int, address: str | None) -> None:
        """Note that a device used the token of a role; role and issue are empty where it came in by the shared secret."""

    @property
    def since(self) -> int:
        """From when on every use was noted, in ms: what was used before may not be known."""

    async def last_use(self, device: str, role: str) -> int | None:
        """Return when a device last came by the token of a role, or without one, in ms; None where that is not known."""

    def refuse(self, contact: RefusedContact) -> str:
        """Note that a contact was refused, and return the short reference to tell it."""

    def latest_use(self, device: str, role: str) -> Use | None:
        """Return the last use of a role's token that is known without looking far; None where it is long ago."""

    async def find(self, reference: str) -> RefusedContact | None:
        """Return the refused contact of a reference as it was told, or None where it is not, or no longer, known."""

    def drop(self, device: str) -> None:
        """Let go of all that was noted of a device."""

    async def recent(self, device: str | None = None, limit: int = 100) -> tuple[RefusedContact, ...]:
        """Return refused contacts, the latest first: of one device, or of all."""


class Listing(Protocol):
    """Reads of the views. Each call first catches up with the log. `at` is a position; None means now."""

    progress: Callable[[int, int], None] | None
    """Told how far building the views has come, and how far it has to go."""
    differences: int | None
    """How many rows differed when the views were last verified here; None before the first time."""

    async def pending(self, *, device: str | None = None, at: int | None = None) -> Answer[PendingRow]:
        """Return open requests, newest first. Those past their expiry are left out only once that is recorded."""

    async def paired(self, *, device: str | None = None, at: int | None = None) -> Answer[PairedRow]:
        """Return devices with a grant, newest approval first."""

    async def node_requests(self, *, node: str | None = None, at: int | None = None) -> Answer[NodeAskedRow]:
        """Return open requests for nodes' surfaces, newest first."""

    async def nodes(self, *, node: str | None = None, at: int | None = None) -> Answer[NodeRow]:
        """Return nodes whose surface is approved, newest approval first."""

    async def enrolments(self, *, code: str | None = None, at: int | None = None) -> Answer[EnrolmentRow]:
        """Return setup codes with who holds their uses, newest first."""

    async def overdue_codes(self, now: int) -> tuple[str, ...]:
        """Return the setup codes whose expiry lies before `now` (ms) with that not on record, unless all is redeemed."""

    async def node_of(self, request: str) -> str | None:
        """Return the node that a request for a surface was about, open or ended; None where no such id was ever given."""

    async def request(self, request: str) -> Fate | None:
        """Return what became of a request, or None where no such id was ever given."""

    async def matches(self, name: str, *, at: int | None = None) -> tuple[Match, ...]:
        """Return up to 20 devices that a full id, an id prefix (4 characters or more) or a label (ignoring case) can mean."""

    async def hooks(self) -> tuple[str, ...]:
        """Return the webhooks that were ever added, by id, in the order of their adding."""

    async def overdue(self, now: int) -> tuple[tuple[str, str], ...]:
        """Return (device, request) of open requests whose expiry lies before `now` (ms)."""

    async def approvers(self, *, besides: str, under: str | None, skip: int = 0) -> tuple[str, ...]:
        """Return some devices, besides one, whose operator token covers approving; none once `skip` has passed all.

        `under` is the keyed tag of the present shared secret: a token that an older one alone vouched for does not count.
        """

    async def locks(self, *, device: str | None = None, at: int | None = None) -> Answer[LockRow]:
        """Return the keys that are kept out, the latest lock first. One that is over is left out only once that is recorded."""

    async def locks_over(self, now: int, most: int) -> tuple[str, ...]:
        """Return up to so many devices whose lock has come to its end by `now` (ms), the oldest first."""

    async def due(self, *, after: int, until: int, most: int, device: str | None = None) -> Answer[DueRow]:
        """Return up to so many tokens whose lifetime ends after a time and by another (ms), the next first."""

    async def aged(self, role: str, before: int, *, after: int, until: int) -> Answer[DueRow]:
        """Return the live tokens of a role that were issued before a time (ms) and last changed in a range of positions."""

    async def handed_over(self) -> tuple[HandedOver, ...]:
        """Return the tokens whose predecessor was left a while and is not known to have ended, the soonest first."""

    async def crowd(self, address: str | None) -> Crowd:
        """Count the open requests."""

    async def events(self, sought: Sought, *, limit: int) -> Found:
        """Return where the events stand that are looked for, newest first; bounded work, so that there may be more below."""

    async def changes(self, positions: Sequence[int]) -> dict[int, tuple[Change, ...]]:
        """Return what each of these events changed."""

    async def called(self, devices: Iterable[str]) -> dict[str, str]:
        """Return what devices are called now: by their label, else by their own name; those that have neither are left out."""

    async def acted(self, device: str, *, below: int | None = None) -> Acted:
        """Return where a device acted on others, before a position."""

    async def forget(self, device: str) -> bool:
        """Leave nothing in any file of what the log has forgotten of a device; False where some of it may be left."""

    async def streams_since(self, after: int) -> tuple[str, ...]:
        """Return the streams in which something was recorded after a position."""

    async def verify(self) -> tuple[int, tuple[Difference, ...]]:
        """Build the views anew beside those in use; return the position of the comparison, and what differs."""

    async def rebuild(self) -> int:
        """Drop what is known, follow the log from its beginning, and return the position reached."""

    async def damaged(self) -> tuple[Damage, ...]:
        """Return the rows that cannot be read, in their order. What they say is missing from every answer."""

    async def position_at(self, time: int) -> int:
        """Return the last position recorded at or before a time (ms); 0 where the log begins later."""

    async def issued(self, *, after: int, limit: int) -> tuple[Issued, ...]:
        """Return generations of all devices' tokens, dead ones too, in their order above a position."""

    async def touched(self, *, start: int, end: int, after: int, limit: int) -> tuple[Touched, ...]:
        """Return the devices touched above `start` and up to `end`, by their first such position above `after`."""

    async def touched_by(self, kinds: Sequence[str], *, after: int, limit: int) -> tuple[Touched, ...]:
        """Return the devices that have events of some kinds above a position, with the latest of these, latest first."""

    async def time_at(self, position: int) -> int | None:
        """Return when a position was recorded (ms); None where the log has no such position, or it cannot be read."""

    async def position(self) -> int:
        """Return the position up to which the views have followed, after catching up."""
