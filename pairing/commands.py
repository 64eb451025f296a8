"""What can be asked of the heart. A command brings everything with it: the time, the caller, every fresh id.

Commands are imperatives; they are never stored.
"""

from typing import TypeAlias

from msgspec import Struct

from .events import Actor, HookPause, Means, Need, Personal


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


EVERYTHING = "*"


class Quorum(Struct, frozen=True):
    """So many must approve what grants `what`: a role, a scope, or everything (`*`)."""

    what: str
    approvers: int


class Terms(Struct, frozen=True):
    """On what terms people approve: what takes several of them, and what takes a reason."""

    quorums: tuple[Quorum, ...] = ()
    reasoned: tuple[str, ...] = ()


ANY_TERMS = Terms()


class Silence(Struct, frozen=True):
    """What may be approved without a person: for which needs, by which means, up to which operator scopes."""

    means: Means
    needs: tuple[Need, ...]
    ceiling: tuple[str, ...]


Lifetimes: TypeAlias = tuple[tuple[str, int], ...]
"""How long a token of a role lives from its issue on, in ms; roles that are not named have no such limit."""


class Present(Struct, frozen=True):
    """What a device that a decision leans on holds as it is made: its operator token's generation and scopes, if it lives."""

    device: str
    issue: str | None = None
    scopes: tuple[str, ...] = ()


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
    """A command about one device, by its id. `break_glass` says that it may end the last device that can approve (A22)."""

    device: str
    break_glass: bool = False


class Knock(DeviceBound, frozen=True, kw_only=True):
    """An authenticated device connects and wants in. Opens, refreshes or silently approves a request; idempotent.

    `full` says that no more requests may be open; `most` how many of its own may have come to nothing in the last hour.
    `anew`: it does not come itself; an operator asks again on its behalf, to take back a rejection.
    """

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
    terms: Terms = ANY_TERMS
    full: bool = False
    most: int | None = None
    code: str | None = None
    anew: bool = False
    lifetimes: Lifetimes = ()


class Approve(DeviceBound, frozen=True, kw_only=True):
    """Grant exactly one request. `seen` is the digest of what the approver was shown, where they were shown it.

    `under` is the keyed tag of the present shared secret: a token that rests on an older one alone is replaced, not kept.
    `terms` are the policy's; `present` is for the desk to fill: what earlier voters and the caller hold as this is decided.
    """

    request: str
    issue: str
    key: str
    seen: str | None = None
    under: str | None = None
    lifetimes: Lifetimes = ()
    terms: Terms = ANY_TERMS
    present: tuple[Present, ...] = ()


class Ban(Struct, frozen=True):
    """Terms of a lock: until when (ms; None: until it is unlocked), and what the locked party is told."""

    until: int | None = None
    message: str | None = None


class Reject(DeviceBound, frozen=True, kw_only=True):
    """Say no to exactly one request; with `ban` its device's key is locked in the same step.

    `code` is the setup code known to stand behind it, which becomes void with it (B7).
    """

    request: str
    ban: Ban | None = None
    code: str | None = None


class Expire(DeviceBound, frozen=True, kw_only=True):
    """Record that a request ran out; nothing happens while it still lives."""

    request: str


class Remove(DeviceBound, frozen=True, kw_only=True):
    """End a device's grant, its tokens and its open request. Once gone it is unknown: a repetition is refused.

    `seen` is the imprint of the device as it was planned for, where a plan asks: another state is refused.
    """

    seen: str | None = None


class Lock(DeviceBound, frozen=True, kw_only=True):
    """Keep a key out, paired or not. Another lock in force gives way to this one; the same again is nothing."""

    terms: Ban


class Unlock(DeviceBound, frozen=True, kw_only=True):
    """End a lock; nothing where there is none."""


class Elapse(DeviceBound, frozen=True, kw_only=True):
    """Record what time alone has ended: a lock whose end has come, tokens past their lifetime. Otherwise nothing."""


class Remind(DeviceBound, frozen=True, kw_only=True):
    """Record that no more than `distance` ms are left of a token's lifetime, once for each generation and distance."""

    role: str
    issue: str
    distance: int


class ExpireIdle(DeviceBound, frozen=True, kw_only=True):
    """End one generation of a token that nobody has used since `since` (ms); nothing where it is no longer the present one."""

    role: str
    issue: str
    since: int


class Rename(DeviceBound, frozen=True, kw_only=True):
    """Give a device a label (in `personal`); `labelled` is its keyed tag, None takes the label away."""

    labelled: str | None


class Rotate(DeviceBound, frozen=True, kw_only=True):
    """Retire the token of a role and issue the next; a new generation every time. `scopes` None keeps the present ones.

    `handoff` (ms) leaves the retired one accepted for that long, or until its successor is first used; `longest` is the most that
    the policy allows. A compromised one gets none.
    """

    role: str
    scopes: tuple[str, ...] | None
    issue: str
    key: str
    lifetimes: Lifetimes = ()
    handoff: int = 0
    longest: int = 0
    compromised: bool = False


class CloseHandoff(DeviceBound, frozen=True, kw_only=True):
    """Accept the predecessor of `issue` no more: because that one was `used`, or because its time has run out."""

    role: str
    issue: str
    used: bool


class Revoke(DeviceBound, frozen=True, kw_only=True):
    """Kill the token of a role; may be repeated, and every repetition is recorded."""

    role: str


class Forget(DeviceBound, frozen=True, kw_only=True):
    """Record that what points at a person is to be emptied in `rows` rows; nothing happens where there are none."""

    rows: int


class FormerToken(Struct, frozen=True):
    """What the token of a role covered at some position, revoked ones left out; `under` as in `TokenIssued`."""

    role: str
    scopes: tuple[str, ...]
    under: str | None


class FormerGrant(Struct, frozen=True, kw_only=True):
    """A grant as it was at some position. `created_at` in ms."""

    key: str
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    named: str
    created_at: int
    tokens: tuple[FormerToken, ...]


class RestoreDevice(DeviceBound, frozen=True, kw_only=True):
    """Take a device back to how it stood at position `to`: `former` is its grant then, None where it had none.

    Roles in `ended` were revoked on purpose after it and stay so (V7). `epoch` None undoes a single act, by who may do as much
    themselves; a restore takes operator.admin. `labelled` is the keyed tag of the label then (in `personal`); `relabel` says
    whether the label goes back too. `lock` is what kept it out then. What several must approve by `terms` is
    undone by an administrator alone.
    """

    to: int
    epoch: int | None
    former: FormerGrant | None
    ended: tuple[str, ...]
    issue: str
    key: str
    labelled: str | None = None
    relabel: bool = False
    lock: Ban | None = None
    terms: Terms = ANY_TERMS
    lifetimes: Lifetimes = ()


class Vouched(Struct, frozen=True, kw_only=True):
    """A token that another gateway made, by the keyed hash of its value; times in ms."""

    role: str
    scopes: tuple[str, ...]
    issue: str
    proof: str
    created_at: int
    rotated_at: int | None
    revoked_at: int | None


class ImportDevice(DeviceBound, frozen=True, kw_only=True):
    """Take a device over from another gateway's store; nothing where it is paired here already. `source` names the store.

    `vouched` is the id of the gateway key that the tokens' keyed hashes were made with; times in ms.
    """

    key: str
    source: str
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    named: str
    labelled: str | None
    created_at: int
    approved_at: int
    vouched: str
    tokens: tuple[Vouched, ...]


DeviceCommand: TypeAlias = (
    Knock
    | Approve
    | Reject
    | Expire
    | Remove
    | Rename
    | Rotate
    | CloseHandoff
    | Revoke
    | Forget
    | ImportDevice
    | Lock
    | Unlock
    | Elapse
    | Remind
    | ExpireIdle
    | RestoreDevice
)


class NodeBound(Command, frozen=True, kw_only=True):
    """A command about the surface of one node, by its id: the device id, where the node is a device."""

    node: str


class AskNode(NodeBound, frozen=True, kw_only=True):
    """Ask for approval of a node's surface; the same ask again is nothing. `named` is the keyed tag of the node's name.

    `connecting`: the node itself has connected and declares this, which asks for nothing that was approved already. An approval
    older than `since` (ms, when the device was paired) was another pairing's and counts for nothing.
    """

    request: str
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    platform: str | None = None
    family: str | None = None
    model: str | None = None
    version: str | None = None
    core_version: str | None = None
    ui_version: str | None = None
    silent: bool = False
    named: str
    connecting: bool = False
    since: int = 0


class ApproveNode(NodeBound, frozen=True, kw_only=True):
    """Approve exactly one request's surface. A request is never changed, so that its id stands for what was shown."""

    request: str
    issue: str
    key: str
    terms: Terms = ANY_TERMS


class RejectNode(NodeBound, frozen=True, kw_only=True):
    """Say no to exactly one request."""

    request: str


class RemoveNode(NodeBound, frozen=True, kw_only=True):
    """End the approval of a node's surface; an open request stays open."""


class RenameNode(NodeBound, frozen=True, kw_only=True):
    """Name an approved node (in `personal`); `labelled` is the name's keyed tag."""

    labelled: str


class ForgetNode(NodeBound, frozen=True, kw_only=True):
    """Record the same of the node's own `rows` rows."""

    rows: int


class Surface(Struct, frozen=True, kw_only=True):
    """What a node declared elsewhere, and what it said of itself."""

    caps: tuple[str, ...]
    commands: tuple[str, ...]
    platform: str | None = None
    family: str | None = None
    model: str | None = None
    version: str | None = None
    core_version: str | None = None
    ui_version: str | None = None


class ImportNode(NodeBound, frozen=True, kw_only=True):
    """Take an approved surface over from another gateway's store; nothing where this log knows anything of the node already.

    `proof` is the keyed hash of its token, made with the gateway key `key`; times in ms.
    """

    source: str
    surface: Surface
    issue: str
    key: str
    proof: str | None
    created_at: int
    approved_at: int


class FormerSurface(Struct, frozen=True, kw_only=True):
    """An approved surface as it was at some position. `created_at` in ms."""

    caps: tuple[str, ...]
    commands: tuple[str, ...]
    created_at: int


class RestoreNode(NodeBound, frozen=True, kw_only=True):
    """Take what a node may run back to how it stood at position `to`; `former` None: nothing was approved then."""

    to: int
    epoch: int | None
    former: FormerSurface | None
    issue: str
    key: str


NodeCommand: TypeAlias = AskNode | ApproveNode | RejectNode | RemoveNode | RenameNode | ForgetNode | ImportNode | RestoreNode


class HookBound(Command, frozen=True, kw_only=True):
    """A command about one webhook, by its id."""

    hook: str


class AddHook(HookBound, frozen=True, kw_only=True):
    """Send events of these kinds, recorded after position `after`, to a URL. `full`: there are as many hooks as there may be."""

    url: str
    kinds: tuple[str, ...]
    people: bool
    key: str
    after: int
    full: bool = False


class RemoveHook(HookBound, frozen=True, kw_only=True):
    """Send nothing more there. Once gone it is unknown."""


class PauseHook(HookBound, frozen=True, kw_only=True):
    """Stop sending, until somebody resumes."""


class GiveUpHook(HookBound, frozen=True, kw_only=True):
    """Record that the gateway itself stopped sending, and at which event; it grants and ends nobody's access."""

    why: HookPause
    undelivered: int
    error: str


class ResumeHook(HookBound, frozen=True, kw_only=True):
    """Go on sending where it stopped."""


class ReplayHook(HookBound, frozen=True, kw_only=True):
    """Send everything after a position once more; every repetition is recorded."""

    after: int


HookCommand: TypeAlias = AddHook | RemoveHook | PauseHook | GiveUpHook | ResumeHook | ReplayHook


class EnrolmentBoundTo(Command, frozen=True, kw_only=True):
    """A command about one setup code, by its id."""

    code: str


class Mint(EnrolmentBoundTo, frozen=True, kw_only=True):
    """Mint a setup code; the label is in `personal`. `secret` is the keyed hash of its token by the gateway key `key`.

    `under` is the keyed tag of the shared secret that vouched for the caller's session, if one did.
    """

    secret: str
    key: str
    profile: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    uses: int
    approves: bool
    expires_at: int
    under: str | None = None
    labelled: str | None = None


class VoidCode(EnrolmentBoundTo, frozen=True, kw_only=True):
    """Take a setup code back; who was let in by it stays in."""


class ExpireCode(EnrolmentBoundTo, frozen=True, kw_only=True):
    """Record that a setup code ran out; nothing happens while it still lives."""


class Deliver(EnrolmentBoundTo, frozen=True, kw_only=True):
    """Record that a device was sent what it redeemed."""

    device: str


class Acknowledge(EnrolmentBoundTo, frozen=True, kw_only=True):
    """Record that a device used what it was sent."""

    device: str


EnrolmentCommand: TypeAlias = Mint | VoidCode | ExpireCode | Deliver | Acknowledge


class Redeem(EnrolmentBoundTo, frozen=True, kw_only=True):
    """A device knocks with a setup code whose token was found to be right."""

    knock: Knock


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


class Restore(Command, frozen=True, kw_only=True):
    """Begin a new timeline, from how things stood at position `to`; for one device, or for all."""

    to: int
    device: str | None


GatewayCommand: TypeAlias = Start | Stop | Restore
