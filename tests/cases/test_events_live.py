"""Who hears what, on a real socket (group EV)."""

import anyio

from pairing.commands import Reject

PAIRING, READ, ADMIN = ("operator.pairing",), ("operator.read",), ("operator.admin",)


def names(client):
    return [event["event"] for event in client.events]


async def test_requests_are_news_for_those_who_may_answer(world):
    """EV-01, N14: an admin and a session with pairing rights; no reader and writer, no node, nobody without a device."""
    w = await world()
    hears = [await w.admin(), await w.inside(w.device(), scopes=PAIRING)]
    deaf = [
        await w.inside(w.device(), scopes=("operator.read", "operator.write")),
        await w.inside(w.device(), role="node"),
        await w.inside(None, scopes=ADMIN),
    ]
    for client in (*hears, *deaf):
        await client.quiet(0.05)
        client.events.clear()
    request = await w.ask(w.device(), scopes=READ)
    for client in hears:
        assert (await client.event("device.pair.requested"))["payload"]["requestId"] == request
    for client in deaf:
        assert await client.quiet(0.1) == []


async def test_a_bound_session_hears_of_others_too(world):
    """EV-03: events go by scope alone, not by owner."""
    w = await world()
    device = w.device()
    token = (await w.inside(device, scopes=PAIRING)).token
    mine = await w.session(device, token, scopes=PAIRING)
    request = await w.ask(w.device(), scopes=READ)
    assert (await mine.event("device.pair.requested"))["payload"]["requestId"] == request


async def test_a_client_does_not_hear_of_its_own_coming(world):
    """EV-01, protocol §6.8: the connecting client is told nothing of what its own connect brought about; the others are."""
    w = await world()
    admin = await w.admin()
    newcomer = await w.inside(w.device(), scopes=ADMIN)
    assert (await admin.event("device.pair.resolved"))["payload"]["decision"] == "approved"
    assert await newcomer.quiet() == []
    assert await admin.quiet(0.1) == []


async def test_a_crowd_of_newcomers_hears_each_of_the_others_once_at_most(world):
    """EV-01 in a herd: nobody hears of its own coming, nobody hears of anything twice."""
    w = await world()
    devices, clients = [w.device() for _ in range(12)], {}

    async def one(device):
        clients[device.device] = await w.inside(device, scopes=ADMIN)

    async with anyio.create_task_group() as tasks:
        for device in devices:
            tasks.start_soon(one, device)
    for name, client in clients.items():
        heard = [event["payload"]["deviceId"] for event in await client.quiet(0.05)]
        assert name not in heard
        assert len(heard) == len(set(heard))


async def test_every_ending_is_announced_once(world):
    """EV-01, R5: approved, rejected, superseded, withdrawn: one device.pair.resolved each, with device, decision and when."""
    w = await world()
    admin = await w.admin()
    one, two, three = w.device(), w.device(), w.device()
    approved, rejected, old = await w.ask(one, scopes=READ), await w.ask(two, scopes=READ), await w.ask(three, scopes=READ)
    new = await w.ask(three, scopes=PAIRING)
    await admin.approve(approved)
    await admin.call("device.pair.reject", {"requestId": rejected})
    await admin.approve(new)
    withdrawn = await w.ask(three, scopes=ADMIN)
    await admin.call("device.pair.remove", {"deviceId": three.device})
    heard = [e["payload"] for e in await admin.quiet() if e["event"] == "device.pair.resolved"]
    assert [(e["requestId"], e["deviceId"], e["decision"]) for e in heard] == [
        (old, three.device, "rejected"),
        (approved, one.device, "approved"),
        (rejected, two.device, "rejected"),
        (new, three.device, "approved"),
        (withdrawn, three.device, "rejected"),
    ]
    for payload in heard:
        assert set(payload) == {"requestId", "deviceId", "decision", "ts"}
        assert abs(payload["ts"] - w.clock()) < 10_000


async def test_an_event_comes_before_the_answer_to_what_caused_it(world):
    """EV-01: whoever has the answer has heard the news; numbers have no gap."""
    w = await world()
    admin = await w.admin()
    request = await w.ask(w.device(), scopes=READ)
    await admin.event("device.pair.requested")
    await admin.approve(request)
    (event,) = admin.events
    assert (event["event"], event["seq"]) == ("device.pair.resolved", 2)


async def test_what_another_process_writes_is_news_here_as_well(world):
    """EV-01 across processes: a request answered through another door is announced to those who listen at this one."""
    w = await world()
    admin, device = await w.admin(), w.device()
    request = await w.ask(device, scopes=READ)
    await w.behind(Reject(device=device.device, request=request, **w.stamp()))
    resolved = (await admin.event("device.pair.resolved"))["payload"]
    assert (resolved["requestId"], resolved["decision"]) == (request, "rejected")
