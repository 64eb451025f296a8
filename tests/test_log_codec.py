"""The storage format: bytes written once must mean the same for ever."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from pairing.events import (
    Actor,
    AnyEvent,
    DeviceAbandoned,
    DeviceDescribed,
    DeviceForgotten,
    DeviceImported,
    DeviceLocked,
    DevicePaired,
    DeviceRemoved,
    DeviceRenamed,
    DeviceRestored,
    DeviceUnlocked,
    DeviceUpgraded,
    EnrolmentAcknowledged,
    EnrolmentBound,
    EnrolmentDelivered,
    EnrolmentExpired,
    EnrolmentIssued,
    EnrolmentOverused,
    EnrolmentRedeemed,
    EnrolmentRevoked,
    GatewayStarted,
    GatewayStopped,
    GlassBroken,
    HandoffClosed,
    HookAdded,
    HookPaused,
    HookRemoved,
    HookReplayed,
    HookResumed,
    LogRestored,
    Meta,
    NodeAbandoned,
    NodeApproved,
    NodeForgotten,
    NodeImported,
    NodeRejected,
    NodeRemoved,
    NodeRenamed,
    NodeRequested,
    NodeRestored,
    Personal,
    PolicyChanged,
    RequestApproved,
    RequestEndorsed,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    RequestSuperseded,
    RequestUnendorsed,
    RequestWithdrawn,
    TokenAbandoned,
    TokenDue,
    TokenExpired,
    TokenImported,
    TokenIssued,
    TokenNarrowed,
    TokenRevoked,
    TokenRotated,
    TokenWidened,
    Unknown,
)
from pairing.log.chain import GENESIS, link
from pairing.log.codec import KINDS, decode, decode_meta, decode_personal, draft
from pairing.log.errors import EventUnreadable
from pairing.log.port import Draft, Line, Record

GOLDEN = Path(__file__).parent / "golden" / "events"
AT = 1_760_000_000_123
REQUEST, OTHER = "0199c6a0-0000-7000-8000-000000000001", "0199c6a0-0000-7000-8000-000000000002"
DEVICE, KEY = "d" * 64, "k" * 43
META = Meta(
    actor=Actor(kind="device", id=DEVICE),
    command=OTHER,
    authority=("operator.admin", "operator.pairing"),
    origin="proxied",
    cause=41,
    reason="lost at the airport",
    ticket="OPS-7",
    policy="p1",
    gateway="0.1.0",
)
PERSON = Personal(
    salt="00112233445566778899aabbccddeeff", name="Ada's phone ☎", label="front desk", address="192.0.2.7", agent="cli/1"
)
CLIENT: dict[str, Any] = {"client_id": "cli", "client_mode": "ui"}
SAID: dict[str, Any] = {"platform": "darwin", "family": "desktop", **CLIENT}
GRANT: dict[str, Any] = {"role": "operator", "roles": ("operator", "node"), "scopes": ("operator.read", "operator.write")}
SURFACE: dict[str, Any] = {"caps": ("system",), "commands": ("system.run", "camera.snap")}
TOKEN: dict[str, Any] = {"role": "operator", "scopes": ("operator.read",), "issue": "i2", "key": "g1", "under": "s1"}

EVENTS: tuple[AnyEvent, ...] = (
    RequestOpened(
        at=AT,
        request=REQUEST,
        device=DEVICE,
        key=KEY,
        need="scope-upgrade",
        silent=True,
        repair=True,
        replaces=OTHER,
        expires_at=AT + 300_000,
        seen="s",
        named="n",
        digest="g",
        **GRANT,
        **SAID,
    ),
    RequestRefreshed(at=AT, request=REQUEST, silent=False, expires_at=AT + 1, seen="s", named="n", digest="g", **SAID),
    RequestSuperseded(at=AT, request=REQUEST, by=OTHER),
    RequestApproved(at=AT, request=REQUEST, digest="g", means="owner", roles=GRANT["roles"], scopes=GRANT["scopes"]),
    RequestRejected(at=AT, request=REQUEST, digest="g"),
    RequestEndorsed(
        at=AT,
        request=REQUEST,
        digest="g",
        voter=f"device:{OTHER}",
        device=OTHER,
        issue="i1",
        held=("operator.pairing",),
        lent=("operator.read",),
        under="s1",
    ),
    RequestUnendorsed(at=AT, request=REQUEST, voters=("shared-secret", "local:0"), why="lapsed"),
    RequestExpired(at=AT, request=REQUEST),
    RequestWithdrawn(at=AT, request=REQUEST),
    DevicePaired(at=AT, device=DEVICE, key=KEY, request=REQUEST, means="silent", named="n", **GRANT, **SAID),
    DeviceUpgraded(at=AT, request=REQUEST, means="trusted-cidr", named="n", **GRANT, **SAID),
    DeviceDescribed(at=AT, named="n", **CLIENT),
    DeviceRenamed(at=AT, labelled="l"),
    DeviceRemoved(at=AT, roles=("operator",), issues=("i1", "i2")),
    DeviceImported(
        at=AT, device=DEVICE, key=KEY, source="x", named="n", labelled="l", created_at=1, approved_at=2, **GRANT, **SAID
    ),
    DeviceRestored(at=AT, to=7, epoch=2, key=KEY, named="n", created_at=1, **GRANT, **SAID),
    DeviceAbandoned(at=AT, to=7, epoch=None, roles=("operator",), issues=("i1", "i2")),
    TokenNarrowed(at=AT, role="operator", issue="i2", scopes=("operator.read",)),
    TokenAbandoned(at=AT, to=7, epoch=2, role="operator", issue="i2"),
    LogRestored(at=AT, to=7, epoch=2, device=None),
    NodeRestored(at=AT, to=7, epoch=2, issue="i1", key="g1", created_at=1, **SURFACE),
    NodeAbandoned(at=AT, to=7, epoch=2, issue="i1"),
    TokenImported(
        at=AT, role="operator", scopes=("a", "b"), issue="i2", key="g1", proof="p", created_at=1, rotated_at=2, revoked_at=3
    ),
    DeviceLocked(at=AT, until=AT + 7_200_000, message="ask the front desk", ban=True),
    DeviceUnlocked(at=AT, how="ended"),
    TokenIssued(at=AT, **TOKEN),
    TokenRotated(at=AT, retires="i1", **TOKEN),
    HandoffClosed(at=AT, role="operator", retires="i1", issue="i2", how="used"),
    TokenWidened(at=AT, role="operator", issue="i2", scopes=("operator.read",), under=None),
    TokenRevoked(at=AT, role="operator", issue="i2"),
    GlassBroken(at=AT, ended="device.removed"),
    TokenDue(at=AT, role="operator", issue="i2", distance=86_400_000, expires_at=AT + 86_400_000),
    TokenExpired(at=AT, role="operator", issue="i2", how="idle", since=AT - 1),
    GatewayStarted(at=AT, instance="x", version="0.1.0", listen="127.0.0.1:18789", key="g1"),
    GatewayStopped(at=AT, instance="x"),
    PolicyChanged(at=AT, policy="p2", secret="s2", settings={"a": "1", "b": "2"}),
    NodeRequested(
        at=AT,
        request=REQUEST,
        node=DEVICE,
        model="Mac14,2",
        version="1.2.3",
        core_version="1.2",
        ui_version=None,
        silent=False,
        repair=True,
        replaces=OTHER,
        named="n",
        digest="g",
        platform="darwin",
        family="desktop",
        **SURFACE,
    ),
    NodeApproved(at=AT, request=REQUEST, digest="g", issue="i1", key="g1", **SURFACE),
    NodeRejected(at=AT, request=REQUEST, digest="g"),
    NodeRemoved(at=AT, issue="i1"),
    NodeRenamed(at=AT, labelled="l"),
    HookAdded(at=AT, hook="h1", url="https://example.org/in", kinds=("token.*",), people=True, key="g1", after=41),
    HookRemoved(at=AT),
    HookPaused(at=AT, why="failing", undelivered=42, error="HTTP 500"),
    HookResumed(at=AT),
    HookReplayed(at=AT, after=40),
    DeviceForgotten(at=AT, rows=7),
    NodeForgotten(at=AT, rows=2),
    EnrolmentIssued(
        at=AT,
        code="c" * 32,
        secret="f" * 64,
        key="g1",
        profile="custom",
        roles=GRANT["roles"],
        scopes=GRANT["scopes"],
        uses=10,
        approves=True,
        expires_at=AT + 600_000,
        minter=DEVICE,
        under="s1",
        labelled="l",
    ),
    EnrolmentBound(at=AT, device=DEVICE, key=KEY),
    EnrolmentRedeemed(at=AT, device=DEVICE, key=KEY, tokens={"node": "i1.node", "operator": "i1.operator"}),
    EnrolmentDelivered(at=AT, device=DEVICE),
    EnrolmentAcknowledged(at=AT, device=DEVICE),
    EnrolmentOverused(at=AT, device=DEVICE),
    EnrolmentRevoked(at=AT, request=REQUEST),
    EnrolmentExpired(at=AT),
    NodeImported(
        at=AT,
        node=DEVICE,
        source="x",
        platform="darwin",
        family="desktop",
        model="Mac14,2",
        version="1.2.3",
        core_version="1.2",
        ui_version=None,
        issue="i1",
        key="g1",
        proof="p",
        created_at=1,
        approved_at=2,
        **SURFACE,
    ),
)

# Only ever added to. A file that no longer has its digest was regenerated: what is in people's logs was not.
DIGESTS: dict[str, str] = {
    "request.opened": "785caba1f15650a36acfc686943556f59f388710f8befd6a26a9aeeca36c041a",
    "request.refreshed": "c464626943074419131ce21f3e83ed9b78ab47c2ca474942e6d266da1c5ccbbe",
    "request.superseded": "04afc97c7f9a2d69ad94d49190ad19043048b5324b1621427d43c2dc5b46455a",
    "request.approved": "d37ac9c76215b87600f5de3d75191347108e8a7733e689ce3b1e83470c70070e",
    "request.rejected": "85a0f9cd0597d8ee4921ce4e944bbbfdfb2d24ef17b21afc2af679ed31bd77a3",
    "request.expired": "84b1de6fa5d04f62ab198fea7fc31ac1209e7f46b9edf52bbb3fb1a71eeb4ac8",
    "request.withdrawn": "9cd11ebbe450c1d94c0f25fe33418ee891d2b58a0680bb24300872755684e1d6",
    "device.paired": "2ef18319daa7edcc28d6e6040aa35867b6207ab3837e5aef899732b9ffa7fc10",
    "device.upgraded": "02eb0e551387e174c02871b8cc1812844f3e0dff5ebec1f135a1045d30a83493",
    "device.described": "784f179e9602ae87d76c4e16f30ed21cde9aa674801df0024bc4f93f3fe74f74",
    "device.renamed": "3bf7a2f4560b389f2a044f634565f73a745a42b57687533871c2d5dd39055b80",
    "device.removed": "7d20c9cdc54ad87f4998717ce533a0dfc5b9ea9712feef90387014bb419135b9",
    "device.imported": "95072049f2558e69dddb4407a0f5e55ccbb2608408efffb4d973a59cb9ffb2ed",
    "token.imported": "065bd576967df4a7d97a87030c96fea10b34d2e75534e501351af3e62adfdbfd",
    "node.imported": "b0d3fbe90ff39d7450d6ece4bd8a7581806078bdfb7d9ea6e9679291c53fb35b",
    "device.restored": "4d8a2437b299e67292b149dd17389aaf4be37b425d8034dd44877bfb9c1dac36",
    "device.abandoned": "8ae1001b380a494add22ea53b354d78df509954b48acd42e242699204a86d8d0",
    "token.narrowed": "f54c853941a150c48736855a60aed6dfbf67b424384f25a2bb6f5b6c1163a1eb",
    "token.abandoned": "49431ad875d346446758fa043746f276d2cefc39f4dedc8b9697a524b0573183",
    "log.restored": "919ba4bbf87fd25333bf5a2c1529431d8887bb5bf5ccabfb9665e8d0fc1793a4",
    "node.restored": "5200ef2e2a4356f88e8a02608d3501219a556eaa584d71aba93698182264ab1e",
    "node.abandoned": "9858ae8138b2899beec3c141e388ade74cee5cce6d3090255d5f13eff41203fb",
    "token.issued": "81b3fd3fffe437faa0358c8e44a3ab47fcd34b88d6bc3ffa2a8bc17e5afce3c1",
    "token.rotated": "be15a2124efb4164ec29121f0ca5d6f0833dfb6a6c047ea0927410c41a006ae0",
    "handoff.closed": "3550cd42c8165af431f34f31ea2f8136b73b41f71b24e053b5c0014b57f2e5df",
    "token.widened": "d1202aa6ebda71fbbbf214659f490a18bf265832fcb4ec261e1db4f299443180",
    "token.revoked": "c644eebb6f633b194f239dc4a88634d501d47b17ff4e778c65bb543f8b4b0655",
    "gateway.started": "0be2a79e867e2226f7f84ff348a9857b56b7d979aa462fcc315b7e077785400f",
    "gateway.stopped": "8461979887b8f437f8f02a3e7ad544bba477a99f420eff45781da3019cf83d13",
    "policy.changed": "855d97785652eba27fec9eb7a06f23a66321bcf746451db964909b0061f853f1",
    "node.requested": "0293f9fafc63780d5a49ef115a8f0f76e7c50b76957d98d79c7190f71e46e349",
    "node.approved": "0a9f303177e6853485f35dcb5901d1723de22273be65e15891c1699a5881a1c0",
    "node.rejected": "01c76cab4532f310eddf40798e7ff5f5b9ffa848367b2e34e8dcb36f6ae0fba1",
    "node.removed": "4b3639b4be390b18397bb5f42fbcbd3291c51d1621a0d5a5d07955873bafd1c1",
    "node.renamed": "a7973a8792588ce8252c834bc76e4a903caca3bee89dff8683368031a474c8ae",
    "hook.added": "2ab244fad4a2577b9e0d3c4661084337287329a6518fc27fb4465f28bd365d94",
    "hook.removed": "e0ef50f95bf3cfce057bc9c2dfd5035da5fd77c5bb41d96f3a32aaea5dcea877",
    "hook.paused": "8477540780ea797de500ba42b74ff6c6fde964be17fd9308cae38bcb1d435057",
    "hook.resumed": "ee9b3ebdf1e217cada19821d07dbbf0c75a293f3806b4a009cf695eaba6a7947",
    "hook.replayed": "808999f761a72bac0590cab170b336910260dd64516bd200a6562d27352bf9b0",
    "glass.broken": "856bce62834ac33610b42d328d48beb3bbad7715899b9efbc31c59e9761b264b",
    "device.forgotten": "478d1b6450e3ad681253f2876abe363d534b1fb083a42bab65f7822875aca466",
    "node.forgotten": "2d05b00cd617b08debfcf432833ef3d24db98110e7360a6dc72c514074925118",
    "enrolment.issued": "fe5fd7d937c8a8927025da59cf1245f393eb7ffee56663efe7e89f04a12fb0ad",
    "enrolment.bound": "49dafdd89cac6ddea06ccbe485146c7bd63a6ca1b6d97a5bd9d022d25a2cf9fc",
    "enrolment.redeemed": "41a6c722b3af83fb9f9d80620751c19636b53da7915596a532f1aa66053de696",
    "enrolment.delivered": "7f256998416f7b823e2df0fa34590fa6ca5574470c1e9fc0fc8765301dba1d58",
    "enrolment.acknowledged": "035480d3e3d07718736dd1ac95a6017fe2ca5fe750d253306dea662574666a58",
    "enrolment.overused": "9ff3bf15da88bc6b05ef42dc7b7a1cc3021ea0c53b46913a1a87c9acf6c7b89a",
    "enrolment.revoked": "ce2d109b8c92b901952c6dd12e8f56e8921038acb5b01a51b07c75a27e798717",
    "enrolment.expired": "b3bcf648a3e423d5af2ffccae36bf2ce31544f85b52e190db0d805fb45a9571a",
    "device.locked": "039535ad735c9f0f78f4600b5928778e19a88a936006b333b145580445216712",
    "device.unlocked": "666f85a9b3cc634d750d1e9439b098a419f4f89b7738e4c5de981a0f7416ddd4",
    "token.due": "80ee360fcbc91a64fff68fe7632fc8d83582765d197274fe617a9f511af112b1",
    "token.expired": "c290f66e8580faf36bcc805b134b7982796ac720f3df354343f94a2861141eec",
    "request.endorsed": "2801ee0093bcc2ed10aceec40afb447a53c17826429aba48bed9faaca80dbf30",
    "request.unendorsed": "d1a709186a46b1c53067b4b24b3ea1740a036c0458b0e0c7b26c9561e8e64a29",
}


class _File(msgspec.Struct):
    body: msgspec.Raw
    meta: msgspec.Raw
    personal: msgspec.Raw


def _stored(kind: str) -> Record:
    held = msgspec.json.decode((GOLDEN / f"{kind}.json").read_bytes(), type=_File)
    personal = None if bytes(held.personal) == b"null" else bytes(held.personal)
    return link(GENESIS, "device:x", 1, AT, Draft(kind, bytes(held.meta), bytes(held.body), personal))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__struct_config__.tag)
def test_golden_bytes_mean_what_they_meant(event: AnyEvent) -> None:
    """The stored bytes of each kind decode to this event, and the event encodes to those bytes (D10)."""
    kind = str(event.__struct_config__.tag)
    record = _stored(kind)
    assert decode(record) == event
    assert decode(Line(1, "device:x", 1, kind, record.body)) == event
    assert decode_meta(record) == META
    assert decode_personal(record) == (PERSON if event.PERSONAL else None)
    assert draft(event, META, PERSON) == Draft(kind, record.meta, record.body, record.personal)


def test_every_kind_of_the_catalogue_has_golden_bytes() -> None:
    """No kind can be stored without golden bytes, a meaning in the table above and a digest outside the file."""
    assert {str(event.__struct_config__.tag) for event in EVENTS} == set(KINDS)
    assert set(DIGESTS) >= set(KINDS)
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(DIGESTS)


@pytest.mark.parametrize("kind", DIGESTS)
def test_golden_bytes_are_only_ever_added(kind: str) -> None:
    """A golden file once written never changes."""
    assert hashlib.sha256((GOLDEN / f"{kind}.json").read_bytes()).hexdigest() == DIGESTS[kind]


def test_a_person_travels_only_where_the_kind_speaks_of_one() -> None:
    """Names and addresses go beside the events that are about a person, and into no other row (L6)."""
    for event in EVENTS:
        assert (draft(event, META, PERSON).personal is not None) == event.PERSONAL
        assert draft(event, META, None).personal is None


def test_the_order_of_a_dict_is_not_part_of_an_event() -> None:
    """Equal events have equal bytes, whatever order their settings were collected in (D10)."""
    here = PolicyChanged(at=1, policy="p", secret=None, settings={"a": "1", "b": "2"})
    there = PolicyChanged(at=1, policy="p", secret=None, settings={"b": "2", "a": "1"})
    assert draft(here, META) == draft(there, META)


def test_an_unknown_kind_is_kept_raw() -> None:
    """A kind that the catalogue lacks is handed on as it is, for readers to show and deciders to refuse (D3)."""
    record = _record("device.teleported", b'{"kind":"device.teleported","at":1,"where":"moon"}')
    assert decode(record) == Unknown(kind="device.teleported", raw=record.body)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("token.revoked", b""),
        ("token.revoked", b"{}"),
        ("token.revoked", b"\xff"),
        ("token.revoked", b'{"kind":"token.revoked","at":1,"role":"operator"}'),
        ("token.revoked", b'{"kind":"token.revoked","at":"1","role":"operator","issue":"i"}'),
        ("token.revoked", b'{"kind":"request.expired","at":1,"request":"r"}'),
        ("token.revoked", b'{"kind":"device.teleported","at":1}'),
        ("device.teleported", b'{"kind":"token.revoked","at":1,"role":"operator","issue":"i"}'),
        ("device.teleported", b"not json"),
        ("device.teleported", b"[]"),
        ("token.revoked", None),
    ],
)
def test_what_cannot_be_read_is_never_taken_for_unknown_or_empty(kind: str, body: Any) -> None:
    """A known kind that does not decode, and a kind column that lies, are errors that name the position (D1, D3)."""
    with pytest.raises(EventUnreadable, match=r"position 1 .*pairing log verify") as caught:
        decode(replace(_record(kind, b"{}"), body=body))
    assert caught.value.position == 1


def test_unreadable_meta_and_personal_parts_are_errors() -> None:
    """Who and how are read as strictly as what; the error about a person's data quotes none of it (L7)."""
    record = replace(_record("token.revoked", b"{}"), meta=b'{"actor":{"kind":"nobody"}}', personal=b'{"name":"Ada"}')
    with pytest.raises(EventUnreadable, match="meta"):
        decode_meta(record)
    with pytest.raises(EventUnreadable, match="personal") as caught:
        decode_personal(record)
    assert "Ada" not in str(caught.value)


def test_a_field_that_a_newer_version_added_is_passed_over() -> None:
    """Additions have defaults, so rows of a newer writer with one more field still read (D3)."""
    body = b'{"kind":"request.expired","at":1,"request":"r","colour":"green"}'
    assert decode(_record("request.expired", body)) == RequestExpired(at=1, request="r")


def test_a_rotation_without_a_handoff_has_the_bytes_it_always_had() -> None:
    """D10: what was added to a rotation is written only where it says something."""
    kept = TokenRotated(at=AT, retires="i1", **TOKEN)
    assert b"handoff" not in draft(kept, META).body
    assert b"compromised" not in draft(kept, META).body
    left = replace(kept, handoff_until=AT + 1, compromised=True)
    assert draft(left, META).body == draft(kept, META).body.replace(
        b',"at":', b',"handoff_until":1760000000124,"compromised":true,"at":'
    )
    assert decode(_record("token.rotated", draft(left, META).body)) == left


def _lapsed(raw: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "request.lapsed", "at": raw["at"], "request": raw["id"]}


def _expired(raw: dict[str, Any]) -> dict[str, Any]:
    return {**raw, "kind": "request.expired"}


def test_kinds_of_the_past_become_kinds_of_today() -> None:
    """Upcasts are applied one after the other until the kind is one of today's; the row itself stays as it is."""
    table = {"request.aged": _lapsed, "request.lapsed": _expired}
    record = _record("request.aged", b'{"kind":"request.aged","at":1,"id":"r"}')
    assert decode(record, table) == RequestExpired(at=1, request="r")
    assert decode(record) == Unknown(kind="request.aged", raw=record.body)


@pytest.mark.parametrize(
    ("table", "body"),
    [
        ({"request.aged": _lapsed, "request.lapsed": _expired}, b'{"kind":"request.aged","at":1}'),
        ({"request.aged": lambda raw: raw}, b'{"kind":"request.aged","at":1}'),
        ({"request.aged": lambda raw: {**raw, "kind": "request.gone"}}, b'{"kind":"request.aged","at":1}'),
        ({"request.aged": lambda raw: {}}, b'{"kind":"request.aged","at":1}'),
    ],
    ids=["misses a field", "circle", "to no kind", "to nothing"],
)
def test_an_upcast_that_fails_is_an_error(table: Any, body: bytes) -> None:
    """An upcast that does not lead to an event of today is an error, not an unknown event (D3)."""
    with pytest.raises(EventUnreadable):
        decode(_record("request.aged", body), table)


def _record(kind: str, body: bytes) -> Record:
    return link(GENESIS, "device:x", 1, AT, Draft(kind, b"{}", body))
