"""What the views say of a device's life, given its events."""

from pairing.events import (
    Actor,
    DeviceDescribed,
    DeviceRemoved,
    DeviceRenamed,
    RequestExpired,
    RequestRejected,
    RequestSuperseded,
    TokenRevoked,
    TokenWidened,
    device_stream,
)
from pairing.listing import Crowd, Fate
from pairing.log.memory import MemoryLog
from projections.views import MOST_MATCHES, Views
from tests.views.histories import (
    DEVICES,
    Act,
    approved,
    issued,
    opened,
    paired,
    perform,
    person,
    refreshed,
    rotated,
    tell,
    upgraded,
)

A, B, C = DEVICES


async def enrol(log: MemoryLog, device: str = A, request: str = "r-1", at: int = 2_000, name: str = "Phone") -> None:
    await tell(log, device, opened(request, device, at=at), personal=person(name=name, address="10.0.0.1"))
    await tell(log, device, approved(request, at), paired(request, device, at=at), issued(at=at))


async def test_an_open_request_shows_what_a_reviewer_must_see(log: MemoryLog, views: Views) -> None:
    """A request is listed as it was asked, with name and address, at the position of the event that last changed it (PD-01)."""
    await tell(log, A, opened("r-1", A, silent=True, repair=True), personal=person(name="Phone", address="10.0.0.1"))
    answer = await views.pending()
    (row,) = answer.rows
    assert (answer.position, row.position, row.device, row.request) == (1, 1, A, "r-1")
    assert (row.name, row.address, row.role, row.scopes) == ("Phone", "10.0.0.1", "operator", ("operator.read",))
    assert (row.silent, row.repair, row.opened_at, row.expires_at) == (True, True, 1_000, 301_000)


async def test_a_retry_replaces_what_it_gives_and_keeps_the_rest(log: MemoryLog, views: Views) -> None:
    """Protocol §5.5: same id, same time; given values replace, missing ones stay, the name too."""
    await tell(log, A, opened("r-1", A, client_mode="ui"), personal=person(name="Phone", address="10.0.0.1"))
    await tell(log, A, refreshed("r-1", platform="macos"), personal=person(address="10.0.0.2"))
    (row,) = (await views.pending()).rows
    assert (row.name, row.address, row.platform, row.client_mode) == ("Phone", "10.0.0.2", "macos", "ui")
    assert (row.opened_at, row.expires_at, row.position) == (1_000, 601_000, 2)
    (before,) = (await views.pending(at=1)).rows
    assert (before.address, before.platform, before.position) == ("10.0.0.1", "linux", 1)


async def test_requests_are_listed_newest_first_and_a_retry_does_not_move_up(log: MemoryLog, views: Views) -> None:
    """A requester cannot get to the top by coming again (protocol §5.5)."""
    await tell(log, A, opened("r-1", A, at=1_000))
    await tell(log, B, opened("r-2", B, at=1_001))
    await tell(log, A, refreshed("r-1", at=1_002))
    assert [row.request for row in (await views.pending()).rows] == ["r-2", "r-1"]


async def test_a_request_that_ended_is_never_unknown(log: MemoryLog, views: Views) -> None:
    """R6: an old id says what became of it, when, by whom, and which id took its place."""
    operator, timer = Actor("local", "1000"), Actor("timer")
    await tell(log, A, opened("r-1", A))
    assert await views.request("r-1") == Fate(request="r-1", device=A, outcome="pending", at=1_000, position=1)
    await tell(log, A, RequestSuperseded(at=1_100, request="r-1", by="r-2"), opened("r-2", A, at=1_100))
    await tell(log, A, RequestRejected(at=1_200, request="r-2", digest="d"), opened("r-3", A, at=1_200))
    await perform(log, Act(device_stream(A), (RequestExpired(at=1_300, request="r-3"),), actor=timer))
    assert await views.request("r-1") == Fate(
        request="r-1", device=A, outcome="superseded", at=1_100, position=2, actor=operator, by="r-2"
    )
    assert await views.request("r-2") == Fate(request="r-2", device=A, outcome="rejected", at=1_200, position=4, actor=operator)
    assert await views.request("r-3") == Fate(request="r-3", device=A, outcome="expired", at=1_300, position=6, actor=timer)
    assert await views.request("r-4") is None


async def test_a_grant_takes_name_and_address_from_its_request(log: MemoryLog, views: Views) -> None:
    """A paired device shows what the reviewer saw; its request is no longer open."""
    await enrol(log)
    (row,) = (await views.paired()).rows
    assert (row.device, row.name, row.address, row.means) == (A, "Phone", "10.0.0.1", "owner")
    assert (row.created_at, row.approved_at, row.position) == (2_000, 2_000, 4)
    assert [(token.role, token.issue, token.created_at, token.rotated_at) for token in row.tokens] == [
        ("operator", "i-1", 2_000, None)
    ]
    assert (await views.pending()).rows == ()


async def test_an_upgrade_keeps_the_day_of_pairing(log: MemoryLog, views: Views) -> None:
    """A new approval brings new access, name and address, and its own time; `created_at` stays; the one before is still there."""
    await enrol(log)
    await tell(log, A, opened("r-2", A, at=3_000), personal=person(name="Laptop", address="10.0.0.2"))
    wider = upgraded("r-2", at=3_500, scopes=("operator.read", "operator.admin"))
    await tell(log, A, approved("r-2", 3_500), wider, rotated(at=3_500))
    (row,) = (await views.paired()).rows
    assert (row.name, row.address, row.created_at, row.approved_at) == ("Laptop", "10.0.0.2", 2_000, 3_500)
    assert row.scopes == ("operator.read", "operator.admin")
    (before,) = (await views.paired(at=5)).rows
    assert (before.name, before.scopes, before.approved_at) == ("Phone", ("operator.read",), 2_000)


async def test_a_grant_finds_its_request_however_late_it_is_followed(log: MemoryLog, views: Views) -> None:
    """What was followed long before is read back when an event names it: the request of a pairing, and of an upgrade."""
    await tell(log, A, opened("r-1", A), approved("r-1"), personal=person(name="Phone", address="10.0.0.1"))
    await views.position()
    await tell(log, A, paired("r-1", A))
    assert [(row.name, row.address) for row in (await views.paired()).rows] == [("Phone", "10.0.0.1")]
    await tell(log, A, opened("r-2", A), approved("r-2"), personal=person(name="Laptop", address="10.0.0.2"))
    await views.position()
    await tell(log, A, upgraded("r-2"))
    assert [(row.name, row.address) for row in (await views.paired()).rows] == [("Laptop", "10.0.0.2")]


async def test_a_device_that_returns_without_a_name_has_none(log: MemoryLog, views: Views) -> None:
    """UP-17: what is not sent overwrites."""
    await enrol(log)
    await tell(
        log, A, DeviceDescribed(at=3_000, client_id="ui", client_mode=None, named="n"), personal=person(address="10.9.9.9")
    )
    (row,) = (await views.paired()).rows
    assert (row.name, row.client_id, row.client_mode, row.address) == (None, "ui", None, "10.0.0.1")


async def test_a_label_outlives_its_device(log: MemoryLog, views: Views) -> None:
    """Removal ends grant and tokens; a label stays, finds the device, and is there when it comes back."""
    await enrol(log)
    await tell(log, A, DeviceRenamed(at=2_500, labelled="tag"), personal=person(label="Hall"))
    await tell(log, A, DeviceRemoved(at=3_000, roles=("operator",), issues=("i-1",)))
    assert (await views.paired()).rows == ()
    assert [(match.label, match.status) for match in await views.matches("hall")] == [("Hall", "gone")]
    await enrol(log, request="r-2", at=4_000)
    (row,) = (await views.paired()).rows
    assert (row.label, row.created_at) == ("Hall", 4_000)
    await tell(log, A, DeviceRenamed(at=5_000, labelled=None))
    (row,) = (await views.paired()).rows
    assert (row.label, row.position) == (None, 11)


async def test_tokens_keep_their_first_day_until_the_device_is_removed(log: MemoryLog, views: Views) -> None:
    """Protocol §6.6: a rotation keeps `created_at`, says when, and revives; a removal ends that count."""
    await enrol(log)
    await tell(log, A, TokenRevoked(at=2_100, role="operator", issue="i-1"))
    await tell(log, A, TokenRevoked(at=2_200, role="operator", issue="i-1"))
    (token,) = (await views.paired()).rows[0].tokens
    assert (token.created_at, token.revoked_at) == (2_000, 2_200)
    await tell(log, A, rotated(at=2_300))
    await tell(log, A, TokenWidened(at=2_400, role="operator", issue="i-2", scopes=("operator.write",), under="u"))
    (token,) = (await views.paired()).rows[0].tokens
    assert (token.issue, token.created_at, token.rotated_at, token.revoked_at) == ("i-2", 2_000, 2_300, None)
    assert (token.scopes, token.under) == (("operator.write",), "u")
    await tell(log, A, DeviceRemoved(at=3_000, roles=("operator",), issues=("i-2",)))
    await enrol(log, request="r-2", at=4_000)
    (token,) = (await views.paired()).rows[0].tokens
    assert (token.issue, token.created_at, token.rotated_at) == ("i-1", 4_000, None)
    (old,) = (await views.paired(at=6)).rows[0].tokens
    assert (old.revoked_at, old.issue) == (2_200, "i-1")


async def test_names_find_devices(log: MemoryLog, views: Views) -> None:
    """L14: a full id means one device; a prefix from four characters and a label mean all that fit; and nothing else does."""
    await enrol(log, A, "r-1")
    await enrol(log, B, "r-2")
    await tell(log, C, opened("r-3", C), personal=person(name="Kiosk"))
    await tell(log, C, DeviceRenamed(at=3_000, labelled="t"), personal=person(label="Groesse GRÖSSE"))
    await tell(log, B, DeviceRenamed(at=3_000, labelled="t"), personal=person(label=A))

    async def found(name: str, at: int | None = None) -> list[str]:
        return [match.device for match in await views.matches(name, at=at)]

    assert await found("abcd") == [A, B]
    assert await found("ABCD1") == [B]
    assert await found("abc") == []
    assert await found(A) == [A]
    assert await found("groesse größe ") == [C]
    assert await found("groesse") == []
    assert await found("ef01", at=1) == []
    assert await found("%") == []
    (kiosk,) = await views.matches("ef01")
    assert (kiosk.name, kiosk.status) == ("Kiosk", "pending")


async def test_matches_are_bounded(log: MemoryLog, views: Views) -> None:
    """A list of candidates stays short."""
    for number in range(MOST_MATCHES + 5):
        device = f"beef{number:060x}"
        await tell(log, device, opened(f"r-{number}", device))
    assert len(await views.matches("beef")) == MOST_MATCHES


async def test_crowds_and_overdue_requests_are_counted(log: MemoryLog, views: Views) -> None:
    """Open requests are counted by address; one is overdue once its expiry is past, and until that is recorded it is listed."""
    await tell(log, A, opened("r-1", A, expires_at=5_000), personal=person(address="10.0.0.1"))
    await tell(log, B, opened("r-2", B, expires_at=6_000), personal=person(address="10.0.0.1"))
    await tell(log, C, opened("r-3", C, expires_at=7_000))
    assert await views.crowd("10.0.0.1") == Crowd(2, 3)
    assert await views.crowd(None) == Crowd(1, 3)
    assert await views.crowd("10.0.0.9") == Crowd(0, 3)
    assert await views.overdue(5_000) == ()
    assert await views.overdue(6_001) == ((A, "r-1"), (B, "r-2"))
    await tell(log, A, RequestExpired(at=6_001, request="r-1"))
    assert await views.overdue(6_001) == ((B, "r-2"),)
    assert await views.crowd("10.0.0.1") == Crowd(1, 2)


async def test_a_time_is_a_position(log: MemoryLog, views: Views) -> None:
    """The last position recorded at or before a time, also where several share it; 0 before the beginning."""
    for number, now in enumerate((10, 20, 20, 20, 35)):
        await tell(log, A, refreshed(f"r-{number}"), now=now)
    assert [await views.position_at(time) for time in (0, 9, 10, 19, 20, 21, 34, 35, 99)] == [0, 0, 1, 1, 4, 4, 4, 5, 5]


async def test_positions_beyond_the_log_are_now(log: MemoryLog, views: Views) -> None:
    """An answer says the position that it is true at, never one that is not there yet."""
    await enrol(log)
    assert (await views.paired(at=1_000)) == (await views.paired())
    assert (await views.paired(at=-3)).position == 0
    assert (await views.paired(at=-3)).rows == ()
