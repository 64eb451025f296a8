"""The one open request of a device: how it changes, how long it lives, how many there may be (group PD)."""

import re
from collections import Counter

import anyio
import pytest

from projections.views import Views

READ, WRITE = ("operator.read",), ("operator.write",)
TTL = 300_000


async def test_a_request_shows_what_is_known_and_nothing_that_is_not(world, elsewhere):
    """PD-01: optional keys are absent, never null; an address is there where one can be reported."""
    w = await world()
    admin, box, bare = await w.admin(), w.device(), w.device()
    request = await w.ask(
        box,
        scopes=READ,
        client={"displayName": "Box", "deviceFamily": "Linux"},
        remote=False,
        source=elsewhere["192.0.2.2"],
    )
    before = w.clock()
    await w.ask(bare, scopes=READ)
    (entry,) = await admin.pending(box)
    assert before - entry.pop("ts") < 10_000
    assert entry == {
        "requestId": request,
        "deviceId": box.device,
        "publicKey": box.key,
        "displayName": "Box",
        "platform": "linux",
        "deviceFamily": "Linux",
        "clientId": "test",
        "clientMode": "test",
        "role": "operator",
        "roles": ["operator"],
        "scopes": ["operator.read"],
        "remoteIp": "192.0.2.2",
        "silent": False,
        "isRepair": False,
    }
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", request)
    (entry,) = await admin.pending(bare)
    assert not {"displayName", "deviceFamily", "remoteIp"} & set(entry)
    assert None not in entry.values()


async def test_a_retry_keeps_the_request_and_its_place_and_is_shown_as_it_is_now(world):
    """PD-03, R3, R4: the same id and the same ts, the new name; no second announcement."""
    w = await world()
    admin, device = await w.admin(), w.device()
    first = await w.ask(device, scopes=READ, client={"displayName": "One"})
    (before,) = await admin.pending(device)
    w.clock.ahead += 1_200
    assert await w.ask(device, scopes=READ, client={"displayName": "Two"}) == first
    (after,) = await admin.pending(device)
    assert (after["displayName"], after["ts"]) == ("Two", before["ts"])
    await admin.quiet()
    assert [event["event"] for event in admin.events] == ["device.pair.requested"]


async def test_a_retry_keeps_a_request_alive(world):
    """PD-03 by difference 6, R4, R12: the life counts from the last contact, and the advertised expiry is the enforced one."""
    w = await world()
    admin, device = await w.admin(), w.device()
    request = await w.ask(device, scopes=READ)
    for _ in range(3):
        w.clock.ahead += TTL - 20_000
        assert await w.ask(device, scopes=READ) == request
    (shown,) = (await admin.call("device.list", {})).payload["pending"]
    assert abs(shown["expiresAtMs"] - w.clock() - TTL) < 10_000
    assert (await admin.approve(request)).ok


async def test_a_wider_retry_replaces_the_request_and_both_ends_are_told(world):
    """PD-05 with difference 6, R5: a new id with what both asked for; the old one is announced as over, the new one as open."""
    w = await world()
    admin, device = await w.admin(), w.device()
    old = await w.ask(device, scopes=READ)
    new = await w.ask(device, scopes=WRITE)
    assert new != old
    (pending,) = await admin.pending(device)
    assert (pending["requestId"], pending["scopes"]) == (new, ["operator.read", "operator.write"])
    assert (await admin.event("device.pair.requested"))["payload"]["requestId"] == old
    resolved = (await admin.event("device.pair.resolved"))["payload"]
    assert (resolved["requestId"], resolved["deviceId"], resolved["decision"]) == (old, device.device, "rejected")
    assert (await admin.event("device.pair.requested"))["payload"] == pending


async def test_a_narrower_retry_and_one_of_several_roles_keep_the_request(world):
    """PD-07 and V9-15 by difference 6, R3: write is open, read is asked; then operator and node are open, either is asked."""
    w = await world()
    device = w.device()
    wide = await w.ask(device, scopes=WRITE)
    assert await w.ask(device, scopes=READ) == wide
    both = await w.ask(device, role="node")
    assert both != wide
    assert await w.ask(device, role="node") == both
    assert await w.ask(device, scopes=READ) == both


async def test_a_replaced_request_says_by_which(world):
    """PD-09 with difference 8: `unknown requestId` as ever, and in the details what became of it."""
    w = await world()
    admin, device = await w.admin(), w.device()
    old = await w.ask(device, scopes=READ)
    new = await w.ask(device, scopes=WRITE)
    for method in ("device.pair.approve", "device.pair.reject"):
        answer = await admin.call(method, {"requestId": old})
        assert (answer.error["code"], answer.message) == ("INVALID_REQUEST", "unknown requestId")
        details = answer.error["details"]
        assert (details["outcome"], details["supersededBy"]) == ("superseded", new)
        (row,) = await w.records("request.superseded")
        assert details["position"] == row.position
    assert (await admin.approve(new)).ok


async def test_an_expired_request_is_over_and_the_next_contact_opens_another(world):
    """PD-11."""
    w = await world()
    device = w.device()
    old = await w.ask(device, scopes=READ)
    w.clock.ahead += TTL + 1
    assert await w.ask(device, scopes=READ) != old


async def test_expiry_is_recorded_and_announced_by_itself(world):
    """R5, R12: nobody asks, and yet listeners are told and the log says so; approving it afterwards says that it expired."""
    w = await world({"gateway.pairing.requestTtlMs": 60_000})
    admin, device = await w.admin(), w.device()
    request = await w.ask(device, scopes=READ)
    w.clock.ahead += 60_001
    resolved = (await admin.event("device.pair.resolved"))["payload"]
    assert (resolved["requestId"], resolved["decision"]) == (request, "rejected")
    (row,) = await w.records("request.expired")
    assert row.stream == f"device:{device.device}"
    assert await admin.pending() == []
    answer = await admin.approve(request)
    assert (answer.message, answer.error["details"]["outcome"]) == ("unknown requestId", "expired")
    assert answer.error["details"]["by"] == {"kind": "timer"}


async def test_an_approval_that_comes_too_late_fails_also_before_the_timer_has_passed(world):
    """R7: expiry is looked at in the step that commits."""
    w = await world()
    admin, device = await w.admin(), w.device()
    request = await w.ask(device, scopes=READ)
    w.clock.ahead += TTL + 1
    answer = await admin.approve(request)
    assert (answer.message, answer.error["details"]["outcome"]) == ("unknown requestId", "expired")
    assert await w.records("device.upgraded") == []
    assert await admin.paired(device) == []


async def test_lists_are_newest_first(world):
    """PD-13: pending by when it was opened, paired by when it was approved."""
    w = await world()
    admin = await w.admin()
    first, second, third = (w.device() for _ in range(3))
    for device in (first, second, third):
        await w.ask(device, scopes=READ)
        w.clock.ahead += 10
    await w.ask(first, scopes=READ, client={"displayName": "again"})
    assert [entry["deviceId"] for entry in await admin.pending()] == [d.device for d in (third, second, first)]
    for entry in (await admin.pending())[::-1]:
        w.clock.ahead += 10
        assert (await admin.approve(entry["requestId"])).ok
    assert [entry["deviceId"] for entry in await admin.paired()][:3] == [d.device for d in (third, second, first)]


@pytest.mark.parametrize(
    ("caps", "sources", "most"),
    [
        ({"gateway.pairing.maxPending": 7}, ("192.0.2.2", "192.0.2.3"), 7),
        ({"gateway.pairing.maxPendingPerAddress": 3}, ("192.0.2.2", "192.0.2.3"), 6),
        ({"gateway.pairing.maxPendingPerAddress": 4}, (None,), 4),
    ],
)
async def test_a_herd_opens_no_more_requests_than_may_be_open(world, elsewhere, caps, sources, most):
    """R10, difference 7: fifty fresh devices at once; who comes too late is told so, and nothing of them is kept.

    The last herd hides its address behind a header that no trusted proxy sent: it is one source all the same.
    """
    w = await world({"gateway.maxPreauthPerAddress": 100} | caps)
    outcomes = []

    async def one(number: int) -> None:
        address = sources[number % len(sources)]
        where = {"source": elsewhere[address]} if address else {"remote": True}
        outcomes.append(await w.outside(w.device(), scopes=READ, **where))

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(one, number)
    asked = [refused for refused in outcomes if "requestId" in refused.details]
    late = [refused for refused in outcomes if "requestId" not in refused.details]
    assert (len(asked), len(late)) == (most, 50 - most)
    for refused in late:
        assert (refused.error["code"], refused.message) == ("NOT_PAIRED", "pairing required: too many pending requests")
        assert refused.details["recommendedNextStep"] == "wait_then_retry"
    assert len((await w.opened.service.views.pending()).rows) == most
    assert len(await w.records("request.opened")) == most


async def test_two_gateways_on_one_log_open_no_more_requests_than_may_be_open(world, elsewhere, monkeypatch):
    """R10, D4: a herd at two gateways at once; what one has counted is still so when it is stored."""
    caps = {"gateway.maxPreauthPerAddress": 100, "gateway.pairing.maxPending": 7, "gateway.pairing.maxPendingPerAddress": 5}
    gateways = [await world(caps), await world(caps)]
    told, crowd = [], Views.crowd

    async def counted(*args):
        found = await crowd(*args)
        await anyio.sleep(0.005)
        return found

    monkeypatch.setattr(Views, "crowd", counted)

    async def one(number: int) -> None:
        w = gateways[number % 2]
        source = elsewhere[("192.0.2.2", "192.0.2.3")[number % 3 == 0]]
        told.append((await w.outside(gateways[0].device(), scopes=READ, source=source)).details)

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(one, number)
    assert sum("requestId" in details for details in told) == 7
    rows = (await gateways[0].opened.service.views.pending()).rows
    assert len(rows) == len(await gateways[1].records("request.opened")) == 7
    assert max(Counter(row.address for row in rows).values()) <= 5


async def test_a_device_that_asks_for_something_else_each_time_is_told_to_wait(world):
    """R10: its open request stays what it is; the words say what to do, and the log has no more of it."""
    w = await world({"gateway.pairing.maxRequestsPerDevice": 3})
    device = w.device()
    for number in range(4):
        request = await w.ask(device, scopes=(f"operator.x{number}",))
    refused = await w.outside(device, scopes=("operator.x9",), remote=True)
    assert refused.message == "pairing required: this device has opened too many requests"
    assert (refused.details["recommendedNextStep"], refused.details["requestId"]) == ("wait_then_retry", request)
    assert len(await w.records("request.opened")) == 4
    other = await w.ask(w.device(), scopes=READ)
    assert other != request


async def test_a_full_house_lets_in_who_has_a_place_already(world):
    """R10: caps are for new requests; an open one may be refreshed and widened, and an answer makes room."""
    w = await world({"gateway.pairing.maxPending": 1})
    admin, device, late = await w.admin(), w.device(), w.device()
    await w.ask(device, scopes=READ)
    assert (await w.outside(late, scopes=READ, remote=True)).message == "pairing required: too many pending requests"
    wider = await w.ask(device, scopes=WRITE)
    await w.inside(w.device(), scopes=READ)
    assert (await admin.approve(wider)).ok
    await w.ask(late, scopes=READ)


async def test_a_probe_asks_for_nothing(world):
    """A20: a fresh device that only looks is turned away, here and from elsewhere, and leaves no trace in the log."""
    w = await world()
    before = len(await w.records())
    for remote in (False, True):
        refused = await w.outside(w.device(), scopes=READ, client={"id": "cli", "mode": "probe"}, remote=remote)
        assert (refused.error["code"], refused.details["reason"]) == ("NOT_PAIRED", "not-paired")
        assert "requestId" not in refused.details
    assert len(await w.records()) == before
    device = w.device()
    await w.inside(device, scopes=READ)
    await w.inside(device, scopes=READ, client={"id": "cli", "mode": "probe"})
