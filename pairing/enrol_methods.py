"""The methods about setup codes and join keys: their parameters, their answers, and what they do (protocol §6.9).

Like the others they decide nothing: see `pairing.enrolment`. The code itself leaves once, in the answer to its minting.
"""

import os
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from . import authority, ids, moments, setup_code
from .authority import ADMIN, PAIRING, Target
from .commands import Mint, VoidCode
from .enrolment import LIFE_MS, LONGEST_MS, MOST_USES, PROFILES
from .events import Personal
from .identity import b64url
from .listing import EnrolmentRow, HolderRow
from .moments import AsOf
from .reach import default_address
from .refusals import Reason, Refused
from .service import Call, Method, Params, Reasoned, Receipt, receipt
from .shapes import Name

Profile: TypeAlias = Literal["default", "limited", "node", "voice-node"]
Scope: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Label: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]
Address: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=setup_code.MOST_CHARS)]
State: TypeAlias = Literal["open", "spent", "expired", "revoked"]
Step: TypeAlias = Literal["bound", "redeemed", "delivered", "acknowledged"]
TOKEN_BYTES: Final = 32
_BY_SECRET: Final = frozenset({"token", "password"})


class EnrolNewParams(Reasoned, frozen=True, kw_only=True):
    """What to mint. `roles` and `scopes`, where given, take the place of a profile; `ceiling` cuts the profile down to what it
    covers. `approves`: redeeming is approval for an operator too. `url` is where devices reach the gateway.
    """

    profile: Profile = "default"
    roles: Annotated[tuple[Name, ...], msgspec.Meta(max_length=2)] | None = None
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(max_length=64)] | None = None
    ceiling: Annotated[tuple[Scope, ...], msgspec.Meta(max_length=64)] | None = None
    uses: Annotated[int, msgspec.Meta(ge=1, le=MOST_USES)] = 1
    expires_in_ms: Annotated[int, msgspec.Meta(ge=1, le=LONGEST_MS)] = LIFE_MS
    approves: bool = False
    label: Label | None = None
    url: Address | None = None


class EnrolCodeParams(Params, frozen=True, kw_only=True):
    """One setup code, by its id."""

    enrolment_id: Name


class EnrolRevokeParams(Reasoned, frozen=True, kw_only=True):
    """One setup code, by its id."""

    enrolment_id: Name


class EnrolListParams(AsOf, frozen=True, kw_only=True):
    """`all`: also those that can be used no more; of the past, that could not be used any more then."""

    all: bool = False


class SetupCodeParams(Params, frozen=True, kw_only=True):
    """The protocol's own way to ask for a setup code. `prefer_remote_url` and `join_url` are taken and change nothing."""

    public_url: Address | None = None
    prefer_remote_url: bool = False
    include_qr: bool = False
    bootstrap_profile: Profile = "default"
    join_url: bool = False


class SetupStatusParams(Params, frozen=True, kw_only=True):
    """One setup code, by the id that minting gave."""

    setup_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class HolderEntry(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A device that holds one use, and how far it has come."""

    device_id: str
    display_name: str | None = None
    step: Step
    roles: tuple[str, ...] = ()
    bound_at_ms: int
    redeemed_at_ms: int | None = None
    delivered_at_ms: int | None = None
    acknowledged_at_ms: int | None = None


class EnrolEntry(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A setup code: everything but the code."""

    enrolment_id: str
    state: State
    profile: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    uses: int
    taken: int
    redeemed: int
    overuses: int
    approves: bool
    label: str | None = None
    minted_by: str
    issued_at_ms: int
    expires_at_ms: int
    ended_at_ms: int | None = None
    holders: tuple[HolderEntry, ...] | None = None


class EnrolNew(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `enroll.new`: the only place where the code is handed out. Its repr does not show it."""

    setup_code: str
    gateway_url: str
    url_source: str
    enrolment: EnrolEntry
    recorded: Receipt | None = None

    def __repr__(self) -> str:
        return f"EnrolNew({self.enrolment.enrolment_id!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("enrolment", self.enrolment), ("setup_code", "…")]


class EnrolList(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `enroll.list`, newest first, true at `position`; of the past also when that was recorded."""

    position: int
    recorded_at_ms: int | None = None
    enrolments: tuple[EnrolEntry, ...]


class EnrolShown(Struct, frozen=True, kw_only=True):
    """The answer to `enroll.show`."""

    position: int
    enrolment: EnrolEntry


class EnrolRevoked(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `enroll.revoke`."""

    enrolment_id: str
    recorded: Receipt | None = None


class SetupCode(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.pair.setupCode`. Its repr shows neither code nor picture."""

    setup_id: str
    setup_code: str
    qr_data_url: str | None = None
    gateway_url: str
    gateway_urls: tuple[str, ...]
    auth: str
    url_source: str
    expires_at_ms: int

    def __repr__(self) -> str:
        return f"SetupCode({self.setup_id!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("setup_id", self.setup_id), ("setup_code", "…")]


class Completion(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Who redeemed a setup code, and when."""

    device_id: str
    roles: tuple[str, ...]
    redeemed_at_ms: int
    acknowledged_at_ms: int | None = None


class SetupStatus(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer to `device.pair.setupStatus`: nothing while nobody has redeemed it."""

    completion: Completion | None = None
    delivery_uncertain: bool | None = None


async def enrol_new(call: Call[EnrolNewParams]) -> EnrolNew:
    """Mint a setup code, or a join key for several devices (protocol §6.9)."""
    p = call.params
    roles, scopes = PROFILES[p.profile]
    named = p.roles is not None or p.scopes is not None
    if named:
        roles, scopes = authority.tidy(p.roles or ("operator",)), authority.tidy(p.scopes or ())
    if p.ceiling is not None:
        scopes = tuple(s for s in scopes if authority.covers(s.partition(".")[0], p.ceiling, (s,)))
    return await _mint(call, p, p.url, "custom" if named else p.profile, roles, scopes)


async def setup(call: Call[SetupCodeParams]) -> SetupCode:
    """Mint a single-use setup code as the protocol asks for one."""
    p = call.params
    roles, scopes = PROFILES[p.bootstrap_profile]
    asked = EnrolNewParams(profile=p.bootstrap_profile)
    made = await _mint(call, asked, p.public_url, p.bootstrap_profile, roles, scopes)
    return SetupCode(
        setup_id=made.enrolment.enrolment_id,
        setup_code=made.setup_code,
        qr_data_url=_picture(made.setup_code) if p.include_qr else None,
        gateway_url=made.gateway_url,
        gateway_urls=(made.gateway_url,),
        auth=call.service.reach.auth,
        url_source=made.url_source,
        expires_at_ms=made.enrolment.expires_at_ms,
    )


async def setup_status(call: Call[SetupStatusParams]) -> SetupStatus:
    """Say who redeemed a setup code, and whether what it was sent is known to have arrived."""
    row = await _row(call, call.params.setup_id)
    held = next((holder for holder in row.holders if holder.redeemed_at is not None), None)
    if held is None or held.redeemed_at is None:
        return SetupStatus()
    completion = Completion(
        device_id=held.device,
        roles=held.roles,
        redeemed_at_ms=held.redeemed_at,
        acknowledged_at_ms=held.acknowledged_at,
    )
    return SetupStatus(completion=completion, delivery_uncertain=True if held.acknowledged_at is None else None)


async def enrol_list(call: Call[EnrolListParams]) -> EnrolList:
    """List the setup codes that can be used, or all."""
    _permit_reading(call)
    when = await moments.of(call)
    found = await call.service.views.enrolments(at=when.at)
    now = (when.recorded_at or 0) if when.past else call.service.clock()
    shown = tuple(entry(row, now) for row in found.rows)
    return EnrolList(
        position=found.position,
        recorded_at_ms=when.recorded_at if when.past else None,
        enrolments=tuple(e for e in shown if call.params.all or e.state == "open"),
    )


async def enrol_show(call: Call[EnrolCodeParams]) -> EnrolShown:
    """Show one setup code with the devices that hold its uses."""
    row = await _row(call, call.params.enrolment_id)
    holders = tuple([_holder(held, await _name(call, held.device)) for held in row.holders])
    shown = msgspec.structs.replace(entry(row, call.service.clock()), holders=holders)
    return EnrolShown(position=row.position, enrolment=shown)


async def enrol_revoke(call: Call[EnrolRevokeParams]) -> EnrolRevoked:
    """Take a setup code back; who was let in by it stays in."""
    code = call.params.enrolment_id.strip()
    handled = await call.service.desk.handle_enrolment(VoidCode(code=code, **call.stamp()))
    return EnrolRevoked(enrolment_id=code, recorded=receipt(call.params, handled))


def entry(row: EnrolmentRow, now: int) -> EnrolEntry:
    """Return a setup code as answers show it at a time in ms, without its holders."""
    redeemed = sum(holder.redeemed_at is not None for holder in row.holders)
    state, ended = _state(row, now)
    return EnrolEntry(
        enrolment_id=row.code,
        state=state,
        profile=row.profile,
        roles=row.roles,
        scopes=row.scopes,
        uses=row.uses,
        taken=len(row.holders),
        redeemed=redeemed,
        overuses=row.overuses,
        approves=row.approves,
        label=row.label,
        minted_by="" if row.actor is None else row.actor.kind if row.actor.id is None else f"{row.actor.kind}:{row.actor.id}",
        issued_at_ms=row.issued_at,
        expires_at_ms=row.expires_at,
        ended_at_ms=ended,
    )


def _state(row: EnrolmentRow, now: int) -> tuple[State, int | None]:
    if row.revoked_at is not None:
        return "revoked", row.revoked_at
    if len(row.holders) >= row.uses and all(holder.redeemed_at is not None for holder in row.holders):
        return "spent", max(holder.redeemed_at or 0 for holder in row.holders)
    return ("expired", row.expires_at) if now > row.expires_at else ("open", None)


def _holder(held: HolderRow, name: str | None) -> HolderEntry:
    steps: tuple[tuple[Step, int | None], ...] = (
        ("acknowledged", held.acknowledged_at),
        ("delivered", held.delivered_at),
        ("redeemed", held.redeemed_at),
    )
    return HolderEntry(
        device_id=held.device,
        display_name=name,
        step=next((step for step, at in steps if at is not None), "bound"),
        roles=held.roles,
        bound_at_ms=held.bound_at,
        redeemed_at_ms=held.redeemed_at,
        delivered_at_ms=held.delivered_at,
        acknowledged_at_ms=held.acknowledged_at,
    )


async def _mint(
    call: Call[Any], p: EnrolNewParams, url: str | None, profile: str, roles: tuple[str, ...], scopes: tuple[str, ...]
) -> EnrolNew:
    service = call.service
    # First of all: a code with an address that must not be used never comes to be (B8).
    where, source = (setup_code.address(url), "given") if url is not None else default_address(service.reach)
    label = (p.label or "").strip() or None
    if label is not None and len(label) > 64:
        raise Refused(Reason.LABEL_REQUIRED)
    token, key, stamp = b64url(os.urandom(TOKEN_BYTES)), service.keyring.current, call.stamp()
    if label or call.caller.address:
        stamp["personal"] = Personal(salt=ids.salt(), label=label, address=call.caller.address)
    command = Mint(
        code=key.enrolment_id(token),
        secret=key.enrolment_secret(token),
        key=key.id,
        profile=profile,
        roles=roles,
        scopes=scopes,
        uses=p.uses,
        approves=p.approves,
        expires_at=stamp["now"] + p.expires_in_ms,
        under=service.under if call.caller.method in _BY_SECRET else None,
        labelled=None if label is None else key.tag("label", label),
        **stamp,
    )
    handled = await service.desk.handle_enrolment(command)
    row = (await service.views.enrolments(code=command.code)).rows[0]
    return EnrolNew(
        setup_code=setup_code.encode(where, token),
        gateway_url=where,
        url_source=source,
        enrolment=entry(row, stamp["now"]),
        recorded=receipt(p, handled),
    )


async def _name(call: Call[Any], device: str) -> str | None:
    paired = (await call.service.views.paired(device=device)).rows
    return paired[0].label or paired[0].name if paired else None


async def _row(call: Call[Any], code: str) -> EnrolmentRow:
    _permit_reading(call)
    rows = (await call.service.views.enrolments(code=code.strip())).rows
    if not rows:
        raise Refused(Reason.UNKNOWN_ENROLMENT)
    return rows[0]


def _permit_reading(call: Call[Any]) -> None:
    """Pairing rights on every surface; a session that is bound to its device has no codes (B6, A8)."""
    ruling = authority.may("enrol", call.caller, Target(""))
    if not ruling.allowed:
        raise Refused(Reason.ENROLMENT_DENIED, rule=ruling.rule)


def _picture(code: str) -> str:
    import segno

    return str(segno.make(code, error="l").png_data_uri(scale=4))


METHODS: tuple[Method[Any], ...] = (
    Method("enroll.new", EnrolNewParams, enrol_new, PAIRING),
    Method("enroll.list", EnrolListParams, enrol_list, PAIRING),
    Method("enroll.show", EnrolCodeParams, enrol_show, PAIRING),
    Method("enroll.revoke", EnrolRevokeParams, enrol_revoke, PAIRING),
    Method("device.pair.setupCode", SetupCodeParams, setup, ADMIN),
    Method("device.pair.setupStatus", SetupStatusParams, setup_status, ADMIN),
)
