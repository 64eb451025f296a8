"""Our own client against the real gateway: it waits for its approval, comes back by itself, and stops where a person must act."""

from contextlib import asynccontextmanager

import anyio
import pytest
from msgspec.structs import replace

from pairing.client import (
    ApprovalNeeded,
    CredentialRefused,
    Line,
    NotApproved,
    Stopped,
    Turn,
    Unreachable,
    as_device,
    connect,
    stay,
)
from pairing.client.pacing import Backoff
from tests.cases.conftest import T

FAR = (("X-Forwarded-For", "203.0.113.9"),)


def phone(tmp_path, **more):
    headers = more.pop("headers", FAR)
    return replace(as_device(tmp_path / "phone", name="phone", **({"token": T} | more)), headers=headers)


async def eventually(holds):
    for _ in range(500):
        if holds():
            return
        await anyio.sleep(0.01)
    raise AssertionError


class Ear:
    """Hears every turn of a line, and waits in no time."""

    def __init__(self):
        self.turns: list[Turn] = []
        self._news = anyio.Event()

    def __call__(self, turn):
        self.turns.append(turn)
        self._news.set()
        self._news = anyio.Event()

    async def until(self, now, times=1):
        with anyio.fail_after(10):
            while sum(turn.now == now for turn in self.turns) < times:
                await self._news.wait()
        return [turn for turn in self.turns if turn.now == now][-1]

    @asynccontextmanager
    async def on(self, url, login, **more):
        async with stay(url, login, hear=self, sleep=lambda _: anyio.sleep(0.02), **more) as line:
            yield line


@pytest.fixture
def ear():
    return Ear()


async def test_a_device_waits_for_its_approval_and_keeps_its_token(world, ear, tmp_path):
    """R4, T4: asking on keeps the request alive; approved, it is in, and from then on needs no shared secret."""
    w = await world()
    admin = await w.admin()
    async with ear.on(w.url, phone(tmp_path)) as line:
        waiting = await ear.until("waiting-for-approval", 3)
        (asked,) = await admin.pending()
        assert waiting.why.request == asked["requestId"]
        assert (await admin.approve(asked["requestId"])).ok
        assert (await line.call("health"))["ok"] is True
    async with ear.on(w.url, phone(tmp_path, token=None)) as line:
        assert (await line.session()).hello.method == "device-token"


async def test_without_patience_the_approval_is_asked_for_once(world, ear, tmp_path):
    """The typed error names the request, and says what is to be done."""
    w = await world()
    async with ear.on(w.url, phone(tmp_path), wait_for_approval=False) as line:
        with pytest.raises(ApprovalNeeded) as needed:
            await line.session()
        (asked,) = await (await w.admin()).pending()
        assert needed.value.request == asked["requestId"]
        assert "Approve this device" in needed.value.advice


async def test_a_rejection_ends_the_waiting(world, ear, tmp_path):
    """R5: its next ask is another request; the client says so and stops, instead of asking for ever."""
    w = await world()
    admin = await w.admin()
    async with ear.on(w.url, phone(tmp_path)) as line:
        waiting = await ear.until("waiting-for-approval")
        assert (await admin.call("device.pair.reject", {"requestId": waiting.why.request})).ok
        with pytest.raises(NotApproved, match="closed without approval"):
            await line.session()


async def test_events_go_on_over_a_session_that_was_ended(world, ear, tmp_path):
    """A gateway that asks its sessions to come again is obeyed; who listens hears both."""
    w = await world()
    heard = []

    async def listen(line: Line):
        async for event in line.events():
            heard.append(event.name)

    login = phone(tmp_path, headers=())
    async with ear.on(w.url, login) as line, anyio.create_task_group() as tasks:
        tasks.start_soon(listen, line)
        assert (await line.call("health"))["ok"]
        w.gateway.farewell()
        w.gateway.registry.fence(login.identity.device, 1012, "service restart")
        await ear.until("connected", 2)
        assert (await line.call("health"))["ok"]
        w.gateway.farewell()
        await eventually(lambda: heard.count("shutdown") == 2)
        tasks.cancel_scope.cancel()


async def test_a_gateway_that_is_away_is_tried_again_and_waited_for(ear, tmp_path):
    """Nothing listens: the client goes on trying; a call gives up when its own time is up."""
    async with ear.on("ws://127.0.0.1:1", phone(tmp_path, headers=())) as line:
        assert isinstance((await ear.until("retrying", 5)).why, Unreachable)
        with pytest.raises(Unreachable, match=r"no connection within 0\.05 s"):
            await line.call("health", timeout=0.05)


async def test_a_wrong_secret_stops_it_with_what_to_do(world, ear, tmp_path):
    """T8, T10: trying on would only lock the address; the refusal and its advice are the error."""
    w = await world()
    async with ear.on(w.url, phone(tmp_path, token="of-last-year")) as line:
        with pytest.raises(CredentialRefused) as wrong:
            await line.session()
        assert wrong.value.refused.details["code"] == "AUTH_TOKEN_MISMATCH"
        assert "The shared token is not this gateway's." in str(wrong.value)
        with pytest.raises(CredentialRefused):
            await line.call("health")
    assert len(ear.turns) == 1


async def test_a_stale_shared_token_does_not_cost_the_devices_own(world, ear, tmp_path):
    """T9, T11: on this host the stored one is tried beside it, once, and lets the device in; elsewhere it is not even shown."""
    w = await world()
    async with connect(w.url, phone(tmp_path, headers=())):
        pass
    stale = phone(tmp_path, token="of-last-year", headers=())
    async with ear.on(w.url, stale) as line:
        assert (await line.session()).hello.method == "device-token"
    assert stale.store.token(stale.identity.device, f"127.0.0.1:{w.port}", "node") is not None


async def test_a_dead_token_stops_it_and_is_forgotten(world, ear, tmp_path):
    """T9: only the refusal that means it takes the stored token away."""
    w = await world()
    admin = await w.admin()
    login = phone(tmp_path, headers=())
    async with connect(w.url, login):
        pass
    mine = {"deviceId": login.identity.device, "role": "node"}
    own = phone(tmp_path, token=None, headers=())
    async with ear.on(w.url, own) as line:
        await line.session()
        assert (await admin.call("device.token.revoke", mine)).ok
        await ear.until("stopped")
        with pytest.raises(CredentialRefused):
            await line.session()
    assert login.store.token(login.identity.device, f"127.0.0.1:{w.port}", "node") is None


async def test_a_token_that_is_handed_over_is_collected_without_a_word(world, ear, tmp_path):
    """T1: shortly before the end of the handoff the client is called in, gets the next token, and goes on by that."""
    w = await world()
    admin = await w.admin()
    async with connect(w.url, phone(tmp_path, headers=())) as session:
        assert session.token_is_new
    own = phone(tmp_path, token=None, headers=())
    place = f"127.0.0.1:{w.port}"
    before = own.store.token(own.identity.device, place, "node")
    async with ear.on(w.url, own) as line:
        await line.session()
        rotate = {"deviceId": own.identity.device, "role": "node", "handoffMs": 100_000}
        assert (await admin.call("device.token.rotate", rotate)).ok
        w.clock.ahead += 80_000
        await ear.until("connected", 2)
        after = own.store.token(own.identity.device, place, "node")
        assert after != before
        w.clock.ahead += 30_000
        await ear.until("connected", 3)
        assert (await line.call("health"))["ok"]
    assert [turn.now for turn in ear.turns if turn.now == "stopped"] == []


async def test_the_gateways_own_wait_is_kept(world, ear, tmp_path):
    """Protocol §4.6: locked out for its wrong secrets, the address is told for how long, and the client keeps to it."""
    w = await world({"gateway.auth.rateLimit.maxAttempts": 2})
    for _ in range(3):
        with pytest.raises(Exception, match="unauthorized"):
            async with connect(w.url, phone(tmp_path, token="wrong")):
                pass
    async with ear.on(w.url, phone(tmp_path), backoff=Backoff(lambda: 1.0)):
        turn = await ear.until("retrying")
    assert turn.why.details["code"] == "AUTH_RATE_LIMITED"
    assert 200 < turn.wait <= 300


async def test_what_the_caller_raises_is_raised_as_it_is(world, tmp_path):
    """Leaving by an exception ends the connection, and wraps nothing."""
    w = await world()

    async def work():
        async with stay(w.url, phone(tmp_path, headers=())) as line:
            await line.session()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    await eventually(lambda: not w.gateway.registry.devices())


def test_every_name_of_the_client_can_be_imported():
    """What `pairing.client` offers is there, and nothing else answers."""
    import pairing.client as client

    for name in client.__all__:
        assert getattr(client, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = client.nothing_of_this_name
    assert issubclass(ApprovalNeeded, Stopped)
