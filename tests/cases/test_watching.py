"""Watching devices on a real socket: who hears what, from where on, and for how long."""

import anyio

from pairing.commands import Remove

PAIRING, READ, ADMIN = ("operator.pairing",), ("operator.read",), ("operator.admin",)


async def watch(client, **params):
    answer = await client.call("device.watch", params)
    assert answer.ok, answer.error
    return answer.payload


def kinds(page):
    return [event["kind"] for event in page["events"]]


async def test_every_event_of_a_device_in_its_order_with_who_did_it(world):
    """L2: what was asked, what was decided, by whom, and where that is recorded; then nothing until more happens."""
    w = await world()
    admin, device = await w.admin(), w.device()
    start = await watch(admin)
    request = await w.ask(device, scopes=READ, client={"displayName": "Phone"})
    await admin.approve(request)
    page = await watch(admin, **{"from": start["position"], "hash": start["hash"]})
    assert kinds(page) == ["request.opened", "request.approved", "device.paired", "token.issued"]
    opened, approved = page["events"][:2]
    assert opened["deviceId"] == approved["deviceId"] == device.device
    assert opened["event"]["request"] == request
    assert opened["personal"] == {"name": "Phone"}
    assert approved["by"]["kind"] == "shared-secret"
    assert opened["says"].startswith('"Phone" (')
    assert "asked to be let in" in opened["says"]
    assert [event["position"] for event in page["events"]] == list(range(start["position"] + 1, page["position"] + 1))
    assert (await watch(admin, **{"from": page["position"]}))["events"] == []


async def test_a_waiting_watcher_hears_what_another_process_writes(world):
    """D4: the log is followed, not the process that wrote."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.grant(admin, device, scopes=READ)
    heard = []

    async def wait():
        heard.append(await watch(admin, waitMs=10_000))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(0.1)
        await w.behind(Remove(device=device.device, **w.stamp()))
    assert kinds(heard[0]) == ["device.removed"]
    assert heard[0]["events"][0]["by"]["kind"] == "local"


async def test_watching_needs_pairing_rights(world):
    """N14: neither a reader nor a node hears of who asks and who is let in."""
    w = await world()
    for client in (await w.inside(w.device(), scopes=READ), await w.inside(w.device(), role="node")):
        assert not (await client.call("device.watch", {})).ok


async def test_a_bound_session_hears_of_its_own_device_alone(world):
    """N14, A8: naming another device changes nothing about that."""
    w = await world()
    device = w.device()
    mine = await w.session(device, (await w.inside(device, scopes=PAIRING)).token, scopes=PAIRING)
    other = w.device()
    await w.ask(other, scopes=READ)
    assert {event["deviceId"] for event in (await watch(mine, **{"from": 0}))["events"]} == {device.device}
    assert (await watch(mine, **{"from": 0, "device": other.device}))["events"] == []


async def test_a_watcher_whose_device_is_removed_is_cut_off_while_it_waits(world):
    """V1, V2: the fence does not wait for the end of the wait, and nothing that happens later is handed out."""
    w = await world()
    admin, device = await w.admin(), w.device()
    watcher = await w.grant(admin, device, scopes=PAIRING)
    await watcher.socket.send('{"type":"req","id":"w","method":"device.watch","params":{"waitMs":20000,"device":"nobody"}}')
    await anyio.sleep(0.1)
    with anyio.fail_after(2):
        assert (await admin.call("device.pair.remove", {"deviceId": device.device})).ok
        assert await watcher.closed() == (4001, "device removed")
    assert [event for event in watcher.events if event["type"] == "res"] == []


async def test_a_watcher_that_goes_away_is_let_go_of(world):
    """A socket that is gone holds no place until its wait would have ended."""
    w = await world()
    admin = await w.admin()
    watcher = await w.inside(w.device(), scopes=ADMIN)
    await watcher.socket.send('{"type":"req","id":"w","method":"device.watch","params":{"waitMs":20000,"device":"nobody"}}')
    await anyio.sleep(0.1)
    await watcher.close()
    with anyio.fail_after(2):
        while len(w.gateway.registry) > 1:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    assert (await admin.call("health", {})).ok


async def test_a_position_that_the_log_has_not_reached_is_named(world):
    """D1: a watcher that has seen more than there is must not be told that all is quiet."""
    w = await world()
    admin = await w.admin()
    answer = await admin.call("device.watch", {"from": 4_000})
    assert answer.error["details"]["code"] == "HISTORY_CHANGED"
    assert "4000" in answer.message
