"""Webhooks of a real gateway, received by a real server on loopback: what arrives, in which order, and what when it does not."""

from functools import partial

import anyio
import pytest

from pairing.gateway import courier, delivery
from tests.receiver import Answer, receiving

PAIRING, READ, ADMIN = ("operator.pairing",), ("operator.read",), ("operator.admin",)
INSIDE = {"gateway.hooks.allowPrivate": True}


@pytest.fixture(autouse=True)
def in_haste(monkeypatch):
    """Failures are tried again after 20 ms first, not after a second."""
    monkeypatch.setattr(courier, "Patience", partial(delivery.Patience, first_pause_ms=20))


async def add(client, url, **more):
    answer = await client.call("hooks.add", {"url": url, **more})
    assert answer.ok, answer.error
    return answer.payload


async def hook(client, which=0):
    return (await client.call("hooks.list", {})).payload["hooks"][which]


def mine(messages, device):
    return [message.kind for message in messages if message.content.get("device") == device.device]


async def test_every_event_arrives_signed_in_its_order_and_without_people(world):
    """L7: type, position, time, device and who did it; the signature holds; no name unless that was asked for."""
    w = await world(INSIDE)
    admin, device = await w.admin(), w.device()
    async with receiving() as receiver:
        added = await add(admin, receiver.url)
        await w.grant(admin, device, scopes=READ, client={"displayName": "Ada's phone"})
        await receiver.until(lambda: len(mine(receiver.taken, device)) >= 4)
        assert mine(receiver.taken, device)[:4] == ["request.opened", "request.approved", "device.paired", "token.issued"]
        positions = [message.content["position"] for message in receiver.taken]
        assert positions == sorted(set(positions))
        for message in receiver.taken:
            assert message.signed_with(added["secret"])
            assert message.id == f"msg_{added['hookId']}_{message.content['position']}"
            assert b"Ada" not in message.body
        assert receiver.taken[0].content["recordedAt"].endswith("+00:00")
        everything = b"".join(message.body for message in receiver.attempts)
        assert added["secret"].encode() not in everything
    rows = await w.records()
    assert not any(added["secret"].encode() in row.body + row.meta + (row.personal or b"") for row in rows)
    assert added["secret"] not in str((await admin.call("hooks.list", {})).payload)


async def test_who_asks_for_people_and_for_kinds_gets_them_and_no_others(world):
    w = await world(INSIDE)
    admin = await w.admin()
    async with receiving() as receiver:
        await add(admin, receiver.url, kinds=["request.*"], people=True)
        await w.grant(admin, w.device(), scopes=READ, client={"displayName": "Ada's phone"})
        await receiver.until(lambda: len(receiver.taken) >= 2)
        assert [message.kind for message in receiver.taken] == ["request.opened", "request.approved"]
        assert receiver.taken[0].content["personal"] == {"name": "Ada's phone"}


async def test_a_device_whose_event_is_not_taken_holds_up_itself_alone(world):
    """N12, D2: its later events wait behind it, in order; everybody else's go on; then it catches up and nothing is missing."""
    w = await world(INSIDE)
    admin, sick, well = await w.admin(), w.device(), w.device()
    healed = False
    async with receiving() as receiver:
        receiver.answer = lambda m: Answer(500 if not healed and m.content.get("device") == sick.device else 204)
        await add(admin, receiver.url)
        await w.grant(admin, sick, scopes=READ)
        await w.grant(admin, well, scopes=READ)
        await receiver.until(lambda: len(mine(receiver.taken, well)) >= 4)
        await receiver.until(lambda: len(mine(receiver.attempts, sick)) >= 3)
        assert mine(receiver.taken, sick) == []
        assert set(mine(receiver.attempts, sick)) == {"request.opened"}
        entry = await hook(admin)
        assert (entry["waiting"], entry["lastError"]) == (1, "HTTP 500")
        assert entry["lag"] > 0
        healed = True
        await receiver.until(lambda: len(mine(receiver.taken, sick)) >= 4)
        assert mine(receiver.taken, sick)[:4] == ["request.opened", "request.approved", "device.paired", "token.issued"]
        with anyio.fail_after(5):
            while (await hook(admin))["lag"]:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        ids = [message.id for message in receiver.taken]
        assert len(ids) == len(set(ids))


async def test_an_unreachable_receiver_is_waited_for_and_then_given_everything(world):
    """D4: at least once and in order, from when the hook was added, whenever the receiver comes to be there."""
    w = await world(INSIDE)
    admin, device = await w.admin(), w.device()
    async with receiving() as receiver:
        port = receiver.port
    await add(admin, f"http://127.0.0.1:{port}/in")
    await w.grant(admin, device, scopes=READ)
    with anyio.fail_after(5):
        while (await hook(admin)).get("failures", 0) < 2:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    assert "no connection" in (await hook(admin))["lastError"]
    async with receiving(port) as receiver:
        await receiver.until(lambda: len(mine(receiver.taken, device)) >= 4)
        assert mine(receiver.taken, device)[:4] == ["request.opened", "request.approved", "device.paired", "token.issued"]


async def test_a_receiver_that_fails_for_too_long_is_paused_told_and_resumed(world):
    """L3: an event, the list and the metrics say so; who resumes it gets what was owed."""
    w = await world(INSIDE | {"gateway.hooks.giveUpMs": 1_000})
    admin, device = await w.admin(), w.device()
    async with receiving() as receiver:
        receiver.answer = lambda m: Answer(503)
        added = await add(admin, receiver.url)
        await w.ask(device, scopes=READ)
        with anyio.fail_after(10):
            while not await w.records("hook.paused"):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        entry = await hook(admin)
        assert (entry["paused"], entry["lastError"]) == ("failing", "HTTP 503")
        assert b"pairing_hooks_paused 1.0" in w.gateway.metrics.text()
        receiver.answer = lambda m: Answer()
        before = len(receiver.attempts)
        await anyio.sleep(0.2)
        assert len(receiver.attempts) == before
        assert (await admin.call("hooks.resume", {"hookId": added["hookId"]})).ok
        await receiver.until(lambda: mine(receiver.taken, device) == ["request.opened"])


async def test_a_receiver_that_says_it_is_gone_is_believed(world):
    w = await world(INSIDE)
    admin = await w.admin()
    async with receiving() as receiver:
        receiver.answer = lambda m: Answer(410)
        await add(admin, receiver.url)
        await w.ask(w.device(), scopes=READ)
        with anyio.fail_after(5):
            while (await hook(admin)).get("paused") != "gone":  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert len(receiver.attempts) == 1


async def test_a_replay_sends_the_past_again_under_the_same_ids(world):
    """L13: nobody but a person who asks has the past sent again."""
    w = await world(INSIDE)
    admin, device = await w.admin(), w.device()
    async with receiving() as receiver:
        added = await add(admin, receiver.url)
        await w.ask(device, scopes=READ)
        await receiver.until(lambda: len(receiver.taken) == 1)
        await w.opened.views.rebuild()
        await anyio.sleep(0.1)
        assert len(receiver.taken) == 1
        assert (await admin.call("hooks.replay", {"hookId": added["hookId"], "from": 0})).ok
        await receiver.until(lambda: len(mine(receiver.taken, device)) == 2)
        ids = [message.id for message in receiver.taken if message.content.get("device") == device.device]
        assert len(set(ids)) == 1


async def test_a_slow_receiver_is_given_up_on_after_its_time_and_a_redirect_is_not_followed(world):
    """An attempt ends in time whatever the receiver does, and goes to no other place than it was sent to."""
    w = await world(INSIDE | {"gateway.hooks.timeoutMs": 200})
    admin, slow, lost, fine = await w.admin(), w.device(), w.device(), w.device()
    async with receiving() as receiver, receiving() as elsewhere:

        def answered(message):
            device = message.content.get("device")
            if device == slow.device:
                return Answer(delay=2)
            moved = (f"Location: {elsewhere.url}",)
            return Answer(307, moved) if device == lost.device else Answer()

        receiver.answer = answered
        await add(admin, receiver.url)
        for device in (slow, lost, fine):
            await w.ask(device, scopes=READ)
        await receiver.until(lambda: mine(receiver.taken, fine) == ["request.opened"])
        assert elsewhere.attempts == []
        assert (await hook(admin))["waiting"] == 2


async def test_an_answer_without_end_is_not_read_to_its_end(world):
    """What a receiver answers is looked at for its status alone."""
    w = await world(INSIDE | {"gateway.hooks.timeoutMs": 1_000})
    admin = await w.admin()
    async with receiving() as receiver:
        receiver.answer = lambda m: Answer(200, body=b"x" * 100_000, promised=1_000_000_000)
        await add(admin, receiver.url)
        await w.ask(w.device(), scopes=READ)
        await w.ask(w.device(), scopes=READ)
        await receiver.until(lambda: len(receiver.attempts) >= 2)
        with anyio.fail_after(5):
            while (await hook(admin))["lag"]:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert (await hook(admin)).get("failures", 0) == 0


async def test_only_an_administrator_manages_hooks(world):
    """A2, N14: pairing rights do not let anybody send events elsewhere."""
    w = await world(INSIDE)
    client = await w.inside(w.device(), scopes=PAIRING)
    for method, params in (
        ("hooks.add", {"url": "http://127.0.0.1:1/"}),
        ("hooks.list", {}),
        ("hooks.remove", {"hookId": "x"}),
        ("hooks.pause", {"hookId": "x"}),
        ("hooks.resume", {"hookId": "x"}),
        ("hooks.replay", {"hookId": "x", "from": 0}),
    ):
        answer = await client.call(method, params)
        assert answer.error["details"]["missingScope"] == "operator.admin"


async def test_without_the_setting_nothing_inside_is_contacted(world):
    """Neither by its number nor by a name, neither with TLS nor without."""
    w = await world()
    admin = await w.admin()
    for url in ("https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/", "https://169.254.169.254/", "http://example.org/"):
        answer = await admin.call("hooks.add", {"url": url})
        assert answer.error["details"]["code"] == "HOOK_URL", url
    async with receiving() as receiver:
        await add(admin, f"https://localhost:{receiver.port}/in")
        await w.ask(w.device(), scopes=READ)
        with anyio.fail_after(5):
            while not (await hook(admin)).get("failures"):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert "public internet" in (await hook(admin))["lastError"]
        assert receiver.attempts == []


async def test_without_hooks_there_is_no_file_and_nothing_runs(world):
    w = await world(INSIDE)
    await w.ask(w.device(), scopes=READ)
    assert not (w.rules.home / "hooks.db").exists()
    assert w.gateway.courier.figures(1, 1) == ()
