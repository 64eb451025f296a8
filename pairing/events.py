"""The catalogue of events: the storage format, for ever.

Events are facts in the past tense. A field may be added with a default; anything else is a new kind and an upcast.
No event holds a secret. What points at a person travels beside the event in `Personal`, never in its body.
"""

from typing import ClassVar, Literal, TypeAlias

from msgspec import Struct

Need: TypeAlias = Literal["not-paired", "metadata-upgrade", "role-upgrade", "scope-upgrade"]
HookPause: TypeAlias = Literal["asked", "failing", "gone", "key-lost"]
Means: TypeAlias = Literal["owner", "silent", "trusted-cidr", "bootstrap", "imported", "restored"]
Unendorsing: TypeAlias = Literal["changed", "superseded", "lapsed"]


class Actor(Struct, frozen=True, gc=False, omit_defaults=True):
    """Who acted: a paired device, the holder of the shared secret, a local user (by uid), a timer, or a policy."""

    kind: Literal["device", "shared-secret", "local", "timer", "policy"]
    id: str | None = None


class Meta(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """How a fact came to be, captured when it was decided and never derived later.

    `authority` is the list of scopes that the decision was checked against, `origin` what was believed of the address
    (`local`, `direct`, `proxied`), `command` the id shared by all events of one command, `cause` the position that led here.
    """

    actor: Actor
    command: str
    authority: tuple[str, ...] = ()
    origin: str | None = None
    cause: int | None = None
    reason: str | None = None
    ticket: str | None = None
    policy: str | None = None
    gateway: str | None = None


class Personal(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What points at a person: erasable without breaking the chain, because only its salted hash is chained.

    On `request.*`, `device.described`, `node.requested` and what was imported it speaks of the device, on other events of the
    actor. `salt` is 16 random bytes, hex.
    """

    salt: str
    name: str | None = None
    label: str | None = None
    address: str | None = None
    agent: str | None = None


class Event(Struct, frozen=True, gc=False, kw_only=True, tag_field="kind"):
    """A fact. `at` is the time of the command that caused it, in ms since the epoch."""

    PERSONAL: ClassVar[bool] = False
    at: int


class RequestOpened(Event, frozen=True, omit_defaults=True, tag="request.opened"):
    """A device asked for access that it does not have. `seen` is a keyed tag of the personal fields, `digest` of it all.

    `code` is the enrolment whose setup code it came with.
    """

    PERSONAL: ClassVar[bool] = True
    request: str
    device: str
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
    repair: bool
    replaces: str | None
    expires_at: int
    seen: str
    named: str
    digest: str
    code: str | None = None


class RequestRefreshed(Event, frozen=True, omit_defaults=True, tag="request.refreshed"):
    """The same ask came again and a reviewer would see something else now: another name or address, or a later expiry."""

    PERSONAL: ClassVar[bool] = True
    request: str
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    silent: bool
    expires_at: int
    seen: str
    named: str
    digest: str
    code: str | None = None


class RequestSuperseded(Event, frozen=True, tag="request.superseded"):
    """A wider ask of the same device took the place of this one."""

    request: str
    by: str


class RequestApproved(Event, frozen=True, tag="request.approved"):
    """Exactly what `digest` stands for was approved, by `means`, as this grant."""

    PERSONAL: ClassVar[bool] = True
    request: str
    digest: str
    means: Means
    roles: tuple[str, ...]
    scopes: tuple[str, ...]


class RequestRejected(Event, frozen=True, tag="request.rejected"):
    """An operator said no to what `digest` stands for."""

    PERSONAL: ClassVar[bool] = True
    request: str
    digest: str


class RequestEndorsed(Event, frozen=True, tag="request.endorsed"):
    """One of several who must approve what `digest` stands for did. `voter` is the principal that is counted once.

    `device` and `issue` are what the vote rests on, where it rests on a device: its id, and the generation of its operator token.
    `held` and `lent` are the scopes that it was cast with, `under` the tag of the shared secret where that was the credential.
    """

    PERSONAL: ClassVar[bool] = True
    request: str
    digest: str
    voter: str
    device: str | None
    issue: str | None
    held: tuple[str, ...]
    lent: tuple[str, ...]
    under: str | None


class RequestUnendorsed(Event, frozen=True, tag="request.unendorsed"):
    """These votes count no longer: the request changed, gave way to a wider one, or the voters lost what they voted with."""

    request: str
    voters: tuple[str, ...]
    why: Unendorsing


class RequestExpired(Event, frozen=True, tag="request.expired"):
    """Nobody answered in time."""

    request: str


class RequestWithdrawn(Event, frozen=True, tag="request.withdrawn"):
    """The request ended because its device was removed or locked."""

    request: str


class DevicePaired(Event, frozen=True, omit_defaults=True, tag="device.paired"):
    """A device without a grant got one. `scopes` is the approved baseline as asked, not normalised.

    `code` is the enrolment whose setup code stood behind the request.
    """

    device: str
    key: str
    request: str
    means: Means
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    named: str
    code: str | None = None


class DeviceUpgraded(Event, frozen=True, omit_defaults=True, tag="device.upgraded"):
    """A paired device's grant was approved anew; `roles` and `scopes` are the whole baseline afterwards."""

    request: str
    means: Means
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    platform: str | None
    family: str | None
    client_id: str | None
    client_mode: str | None
    named: str
    code: str | None = None


class DeviceDescribed(Event, frozen=True, tag="device.described"):
    """A paired device returned under another name or client; its access is unchanged."""

    PERSONAL: ClassVar[bool] = True
    client_id: str | None
    client_mode: str | None
    named: str


class DeviceRenamed(Event, frozen=True, tag="device.renamed"):
    """An operator gave the device a label (in `Personal`); `labelled` is its keyed tag, null when the label was taken away."""

    PERSONAL: ClassVar[bool] = True
    labelled: str | None


class DeviceRemoved(Event, frozen=True, tag="device.removed"):
    """The grant and all its tokens ended."""

    PERSONAL: ClassVar[bool] = True
    roles: tuple[str, ...]
    issues: tuple[str, ...]


class DeviceForgotten(Event, frozen=True, tag="device.forgotten"):
    """What pointed at a person, in the rows of this device before this one and where it acted elsewhere, was to be emptied.

    `rows` is how many rows had any of it. Access is unchanged; the label is gone.
    """

    rows: int


class DeviceImported(Event, frozen=True, tag="device.imported"):
    """A device came over from another gateway's store, as it was approved there; `token.imported` follows for each token.

    `source` names the kind of store; `labelled` is the keyed tag of the device's label.
    """

    PERSONAL: ClassVar[bool] = True
    device: str
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


class DeviceLocked(Event, frozen=True, tag="device.locked"):
    """Whoever holds this key is kept out until `until` (ms), or until somebody unlocks it; `message` is for them to read.

    A lock outlives removal and pairing anew. `ban`: there was no grant to keep from use, or the key was banned for good.
    """

    PERSONAL: ClassVar[bool] = True
    until: int | None
    message: str | None
    ban: bool


class DeviceUnlocked(Event, frozen=True, tag="device.unlocked"):
    """The lock ended: somebody took it away, or its end had come. Whatever the device had before works again."""

    PERSONAL: ClassVar[bool] = True
    how: Literal["unlocked", "ended"]


class DeviceRestored(Event, frozen=True, tag="device.restored"):
    """The grant is again what it was at position `to`. Tokens that live stay; a role that comes back gets a new one.

    `epoch` is the number of the restore; null where a single act was undone.
    """

    to: int
    epoch: int | None
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


class DeviceAbandoned(Event, frozen=True, tag="device.abandoned"):
    """The grant and all its tokens ended, because the device was paired on a timeline that a restore to `to` has left."""

    to: int
    epoch: int | None
    roles: tuple[str, ...]
    issues: tuple[str, ...]


class TokenIssued(Event, frozen=True, tag="token.issued", omit_defaults=True):
    """A role of the device got its first token. `issue` names the generation, `key` the gateway key it derives from.

    `under` is the generation of the shared secret that alone vouched for it; null once a person approved. `expires_at` (ms) is
    when this generation's lifetime ends, absent where it has none.
    """

    role: str
    scopes: tuple[str, ...]
    issue: str
    key: str
    under: str | None
    expires_at: int | None = None


class TokenRotated(Event, frozen=True, tag="token.rotated", omit_defaults=True):
    """One generation ended and the next began, in one fact. `expires_at` as for `token.issued`, of the next.

    `handoff_until`: until then, and until the next one is first used, the one that ended is still accepted. `compromised`: it was
    rotated because somebody else may have it.
    """

    PERSONAL: ClassVar[bool] = True
    role: str
    scopes: tuple[str, ...]
    retires: str
    issue: str
    key: str
    under: str | None
    expires_at: int | None = None
    handoff_until: int | None = None
    compromised: bool = False


class HandoffClosed(Event, frozen=True, tag="handoff.closed"):
    """The generation that a rotation had left a while is accepted no more: its successor was used, its time is up, or by a lock.

    `retires` is the generation that ended, `issue` its successor.
    """

    role: str
    retires: str
    issue: str
    how: Literal["used", "expired", "locked"]


class TokenWidened(Event, frozen=True, tag="token.widened"):
    """The token of a role covers more of the approved baseline; its value is unchanged."""

    role: str
    issue: str
    scopes: tuple[str, ...]
    under: str | None


class TokenRevoked(Event, frozen=True, tag="token.revoked"):
    """The token of a role is dead and has no successor."""

    PERSONAL: ClassVar[bool] = True
    role: str
    issue: str


class GlassBroken(Event, frozen=True, tag="glass.broken"):
    """The last device that could approve was ended on purpose, by the event of kind `ended` before it; `meta` says why."""

    ended: str


class TokenNarrowed(Event, frozen=True, tag="token.narrowed"):
    """The token of a role covers less than before; its value is unchanged."""

    role: str
    issue: str
    scopes: tuple[str, ...]


class TokenAbandoned(Event, frozen=True, tag="token.abandoned"):
    """The token of a role ended with the role, which a restore to `to` took back."""

    to: int
    epoch: int | None
    role: str
    issue: str


class TokenImported(Event, frozen=True, tag="token.imported"):
    """A token that another gateway made goes on here. `proof` is the keyed hash of its value under `key`, 64 hex characters."""

    role: str
    scopes: tuple[str, ...]
    issue: str
    key: str
    proof: str
    created_at: int
    rotated_at: int | None
    revoked_at: int | None


class TokenDue(Event, frozen=True, tag="token.due"):
    """A token's lifetime is about to end: less than `distance` ms are left until `expires_at`. Said once for each distance."""

    role: str
    issue: str
    distance: int
    expires_at: int


class TokenExpired(Event, frozen=True, tag="token.expired"):
    """The token of a role died of age (`lifetime`), or because nobody had used it since `since` (`idle`). It has no successor."""

    role: str
    issue: str
    how: Literal["lifetime", "idle"]
    since: int | None


class GatewayStarted(Event, frozen=True, tag="gateway.started"):
    """A gateway process opened the log and began to serve."""

    instance: str
    version: str
    listen: str
    key: str


class GatewayStopped(Event, frozen=True, tag="gateway.stopped"):
    """A gateway process ended in order."""

    instance: str


class LogRestored(Event, frozen=True, tag="log.restored"):
    """A new timeline began: what follows with this `epoch` takes devices back to how they stood at position `to`.

    `device` names the one device that it was about, null for all.
    """

    PERSONAL: ClassVar[bool] = True
    to: int
    epoch: int
    device: str | None


class PolicyChanged(Event, frozen=True, tag="policy.changed"):
    """The settings that decide who gets in changed. `secret` is a keyed tag of the shared secret, never the secret."""

    policy: str
    secret: str | None
    settings: dict[str, str]


class NodeRequested(Event, frozen=True, tag="node.requested"):
    """A node's surface, the commands and capabilities that it declares, waits for approval. `replaces` is the request it ends.

    `named` is a keyed tag of the node's name, `digest` stands for all that a reviewer sees besides the address.
    """

    PERSONAL: ClassVar[bool] = True
    request: str
    node: str
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    platform: str | None
    family: str | None
    model: str | None
    version: str | None
    core_version: str | None
    ui_version: str | None
    silent: bool
    repair: bool
    replaces: str | None
    named: str
    digest: str


class NodeApproved(Event, frozen=True, tag="node.approved"):
    """Exactly the surface that `digest` stands for was approved, in place of any before, and the node's token issued anew.

    `issue` names the token's generation, `key` the gateway key it derives from.
    """

    PERSONAL: ClassVar[bool] = True
    request: str
    digest: str
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    issue: str
    key: str


class NodeRejected(Event, frozen=True, tag="node.rejected"):
    """An operator said no to what `digest` stands for; what was approved before stays approved."""

    PERSONAL: ClassVar[bool] = True
    request: str
    digest: str


class NodeRemoved(Event, frozen=True, tag="node.removed"):
    """The approval of the node's surface ended, and its token with it. The device's own grant is untouched."""

    PERSONAL: ClassVar[bool] = True
    issue: str


class NodeRenamed(Event, frozen=True, tag="node.renamed"):
    """An operator named an approved node (in `Personal`, as the label); `labelled` is the name's keyed tag."""

    PERSONAL: ClassVar[bool] = True
    labelled: str


class HookAdded(Event, frozen=True, tag="hook.added"):
    """From position `after` on, events of these `kinds` (none named: all about devices) are sent to `url`.

    `key` is the gateway key that the signing secret derives from. `people`: with what points at them.
    """

    PERSONAL: ClassVar[bool] = True
    hook: str
    url: str
    kinds: tuple[str, ...]
    people: bool
    key: str
    after: int


class HookRemoved(Event, frozen=True, tag="hook.removed"):
    """Nothing more is sent there; what was not delivered never will be."""

    PERSONAL: ClassVar[bool] = True


class HookPaused(Event, frozen=True, tag="hook.paused"):
    """Sending stopped: a person asked, deliveries failed for too long, the receiver is gone, or its secret's key is lost.

    `undelivered` is the position of the event that could not be delivered, `error` what was last wrong with it.
    """

    PERSONAL: ClassVar[bool] = True
    why: HookPause
    undelivered: int | None
    error: str | None


class HookResumed(Event, frozen=True, tag="hook.resumed"):
    """Sending goes on where it stopped."""

    PERSONAL: ClassVar[bool] = True


class HookReplayed(Event, frozen=True, tag="hook.replayed"):
    """A person asked for everything after a position to be sent once more; a paused hook goes on with it."""

    PERSONAL: ClassVar[bool] = True
    after: int


class NodeForgotten(Event, frozen=True, tag="node.forgotten"):
    """What pointed at a person in the node's own rows before this one was to be emptied, as its device was forgotten."""

    rows: int


class EnrolmentIssued(Event, frozen=True, omit_defaults=True, tag="enrolment.issued"):
    """A setup code was minted. Only `secret`, a keyed hash of its token by the gateway key `key`, is kept.

    Up to `uses` devices may redeem it until `expires_at`, each for exactly these roles and scopes; `approves` says that redeeming
    is approval for an operator too. `minter` is the device whose session minted it, `under` the generation of the shared secret
    that vouched for that session: the code dies with either. `lent` is what that session's locality lent it to give.
    `labelled` is a keyed tag of the label (in `Personal`).
    """

    PERSONAL: ClassVar[bool] = True
    code: str
    secret: str
    key: str
    profile: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    uses: int
    approves: bool
    expires_at: int
    minter: str | None
    under: str | None
    labelled: str | None
    lent: tuple[str, ...] = ()


class EnrolmentBound(Event, frozen=True, tag="enrolment.bound"):
    """A device showed the code and holds one of its uses, but what it asked is for a person to approve."""

    device: str
    key: str


class EnrolmentRedeemed(Event, frozen=True, tag="enrolment.redeemed"):
    """A device was let in by the code. `tokens` names by role the generations of the tokens that are handed to it."""

    device: str
    key: str
    tokens: dict[str, str]


class EnrolmentDelivered(Event, frozen=True, tag="enrolment.delivered"):
    """The tokens were sent to the device; whether they arrived is not known yet."""

    device: str


class EnrolmentAcknowledged(Event, frozen=True, tag="enrolment.acknowledged"):
    """The device used what it was handed: the code is of no more use to it."""

    device: str


class EnrolmentOverused(Event, frozen=True, tag="enrolment.overused"):
    """A device whose key is proven showed the code when every use of it was taken. Recorded a few times only."""

    device: str


class EnrolmentRevoked(Event, frozen=True, tag="enrolment.revoked"):
    """The code was taken back, by an operator or because the request `request` that it stood behind was rejected."""

    PERSONAL: ClassVar[bool] = True
    request: str | None


class EnrolmentExpired(Event, frozen=True, tag="enrolment.expired"):
    """The code's time ran out before all its uses were redeemed."""


class NodeRestored(Event, frozen=True, tag="node.restored"):
    """The approved surface is again what it was at position `to`; `issue` names its token, a new one where it had ended."""

    to: int
    epoch: int | None
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    issue: str
    key: str
    created_at: int


class NodeAbandoned(Event, frozen=True, tag="node.abandoned"):
    """The approval of the surface ended, because it was given on a timeline that a restore to `to` has left."""

    to: int
    epoch: int | None
    issue: str


class NodeImported(Event, frozen=True, tag="node.imported"):
    """The approved surface of a node came over from another gateway's store.

    `proof` is the keyed hash of the node's token where it had one, 64 hex characters; without one its token is derived.
    """

    PERSONAL: ClassVar[bool] = True
    node: str
    source: str
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    platform: str | None
    family: str | None
    model: str | None
    version: str | None
    core_version: str | None
    ui_version: str | None
    issue: str
    key: str
    proof: str | None
    created_at: int
    approved_at: int


DeviceEvent: TypeAlias = (
    RequestOpened
    | RequestRefreshed
    | RequestSuperseded
    | RequestApproved
    | RequestRejected
    | RequestEndorsed
    | RequestUnendorsed
    | RequestExpired
    | RequestWithdrawn
    | DevicePaired
    | DeviceUpgraded
    | DeviceDescribed
    | DeviceRenamed
    | DeviceRemoved
    | DeviceForgotten
    | DeviceImported
    | DeviceLocked
    | DeviceUnlocked
    | DeviceRestored
    | DeviceAbandoned
    | TokenIssued
    | TokenRotated
    | HandoffClosed
    | TokenWidened
    | TokenRevoked
    | GlassBroken
    | TokenImported
    | TokenDue
    | TokenExpired
    | TokenNarrowed
    | TokenAbandoned
)
GatewayEvent: TypeAlias = LogRestored | GatewayStarted | GatewayStopped | PolicyChanged
NodeEvent: TypeAlias = (
    NodeRequested
    | NodeApproved
    | NodeRejected
    | NodeRemoved
    | NodeRenamed
    | NodeForgotten
    | NodeImported
    | NodeRestored
    | NodeAbandoned
)
HookEvent: TypeAlias = HookAdded | HookRemoved | HookPaused | HookResumed | HookReplayed
EnrolmentEvent: TypeAlias = (
    EnrolmentIssued
    | EnrolmentBound
    | EnrolmentRedeemed
    | EnrolmentDelivered
    | EnrolmentAcknowledged
    | EnrolmentOverused
    | EnrolmentRevoked
    | EnrolmentExpired
)
AnyEvent: TypeAlias = DeviceEvent | GatewayEvent | NodeEvent | HookEvent | EnrolmentEvent


class Unknown(Struct, frozen=True, gc=False, kw_only=True):
    """An event of a kind that this version does not know: readers show it raw, decisions on its stream are refused."""

    kind: str
    raw: bytes


def kind_of(event: AnyEvent | Unknown) -> str:
    """Return the stored kind, such as `request.opened`."""
    return event.kind if isinstance(event, Unknown) else str(event.__struct_config__.tag)


def device_stream(device: str) -> str:
    """Return the name of a device's stream."""
    return f"device:{device}"


def node_stream(node: str) -> str:
    """Return the name of a node's own stream, which is not its device's."""
    return f"node:{node}"


def hook_stream(hook: str) -> str:
    """Return the name of a webhook's stream."""
    return f"hook:{hook}"


def enrolment_stream(code: str) -> str:
    """Return the name of a setup code's stream, by its id."""
    return f"enrolment:{code}"


GATEWAY_STREAM = "gateway"
