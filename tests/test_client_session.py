"""A client against gateways that behave, and against some that do not. Loopback only."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from pairing.client.address import endpoint
from pairing.client.credentials import Credentials, DeviceToken
from pairing.client.errors import BadAddress, CallRefused, ConnectRefused, Disconnected, Unreachable
from pairing.client.handshake import here
from pairing.client.session import EVENTS_KEPT, Login, connect, may_retry
from pairing.client.store import Store
from pairing.settings.secret import Secret

NOW = 1_777_000_000_000
Handler = Callable[[ServerConnection], Awaitable[None]]
CLIENT = here("cli", "cli", version="1")


@asynccontextmanager
async def gateway(handler: Handler, **options: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


class Fake:
    """A gateway that writes down what it was sent and answers as it is told, one answer for each connection."""

    def __init__(self, *answers: dict[str, Any], calls: Callable[[str], dict[str, Any]] | None = None) -> None:
        self.answers, self.connects, self.calls = list(answers), [], calls
        self.opened = 0
        self.challenge = {"type": "event", "event": "connect.challenge", "payload": {"nonce": "n-1", "ts": NOW}}

    async def __call__(self, socket: ServerConnection) -> None:
        self.opened += 1
        await socket.send(json.dumps(self.challenge))
        frame = json.loads(await socket.recv())
        self.connects.append(frame["params"])
        answer = self.answers.pop(0)
        await socket.send(json.dumps({"type": "res", "id": frame["id"], **answer}))
        if not answer["ok"]:
            await socket.close(1008, answer["error"]["message"][:120])
            return
        async for data in socket:
            call = json.loads(data)
            for said in self.calls(call["method"]) if self.calls else [{"ok": True, "payload": call["params"]}]:
                await socket.send(json.dumps({"type": "res", "id": call["id"], **said} if "ok" in said else said))


def hello(token: str | None = None, **auth: Any) -> dict[str, Any]:
    bearer = {"deviceToken": token} if token else {}
    return {
        "ok": True,
        "payload": {"type": "hello-ok", "protocol": 4, "auth": {"role": "operator", "scopes": [], **auth, **bearer}},
    }


def no(code: str, message: str = "no", **details: Any) -> dict[str, Any]:
    return {"ok": False, "error": {"code": "INVALID_REQUEST", "message": message, "details": {"code": code, **details}}}


def stored(tmp_path: Path, url: str, text: str = "stored-token") -> Login:
    store = Store(tmp_path / "home")
    identity = store.make(NOW)
    place = url.removeprefix("ws://")
    store.keep(identity.device, place, DeviceToken("operator", ("operator.pairing",), Secret(text)), NOW)
    return Login(client=CLIENT, identity=identity, store=store, scopes=("operator.pairing",))


async def test_a_call_is_answered_and_a_hello_may_be_empty() -> None:
    """No field of hello-ok is needed (CL-29); the answer is matched by its id."""
    async with gateway(Fake({"ok": True, "payload": {}})) as url, connect(url, Login(client=CLIENT)) as session:
        assert await session.call("echo", {"a": 1}) == {"a": 1}
        answers = await asyncio.gather(*(session.call("echo", {"n": n}) for n in range(20)))
        assert answers == [{"n": n} for n in range(20)]


async def test_unknown_keys_in_answers_do_not_matter() -> None:
    """A newer gateway may say more (CL-31)."""
    said = [{"ok": True, "payload": {"x": 1}, "error": None, "later": True}]
    async with gateway(Fake(hello(), calls=lambda _: said)) as url, connect(url, Login(client=CLIENT)) as session:
        assert await session.call("echo") == {"x": 1}


async def test_a_refused_call_leaves_the_session_usable() -> None:
    """A no is an answer with code, message and details."""
    fake = Fake(
        hello(),
        calls=lambda name: [no("MISSING_SCOPE", "missing scope: operator.read")] if name == "a" else [{"ok": True, "payload": 1}],
    )
    async with gateway(fake) as url, connect(url, Login(client=CLIENT)) as session:
        with pytest.raises(CallRefused, match="missing scope"):
            await session.call("a")
        assert await session.call("b") == 1


async def test_a_refused_connection_tells_code_details_and_close_frame() -> None:
    """The close frame's reason is kept beside the error frame (protocol §1.4)."""
    async with gateway(Fake(no("PAIRING_REQUIRED", "pairing required: x", reason="not-paired", requestId="r-1"))) as url:
        with pytest.raises(ConnectRefused) as refused:
            async with connect(url, Login(client=CLIENT)):
                pass
    assert (refused.value.close_code, refused.value.close_reason) == (1008, "pairing required: x")
    assert refused.value.request == "r-1"


async def test_a_gateway_that_closes_with_a_reason_alone_is_a_refusal() -> None:
    """The close reason is the message where no error frame came."""

    async def handler(socket: ServerConnection) -> None:
        await socket.close(1008, "connect is only for friends")

    async with gateway(handler) as url:
        with pytest.raises(ConnectRefused, match="only for friends"):
            async with connect(url, Login(client=CLIENT)):
                pass


@pytest.mark.parametrize("first", ["{}", "nonsense", '{"type":"event","event":"connect.challenge","payload":{"nonce":""}}'])
async def test_what_is_no_gateway_is_never_shown_a_secret(first: str) -> None:
    """Without a challenge nothing is sent."""
    heard: list[str | bytes] = []

    async def handler(socket: ServerConnection) -> None:
        await socket.send(first)
        async for data in socket:
            heard.append(data)

    async with gateway(handler) as url:
        with pytest.raises(Unreachable, match="does not speak"):
            async with connect(url, Login(client=CLIENT, credentials=Credentials(token=Secret("hush")))):
                pass
    assert heard == []


async def test_a_redirect_is_not_followed() -> None:
    """Secrets go to the address that was named and to no other."""
    elsewhere = Fake(hello())
    async with gateway(elsewhere) as target:

        def redirect(socket: ServerConnection, request: Request) -> Response:
            response = socket.respond(302, "")
            response.headers["Location"] = target
            return response

        async with gateway(Fake(), process_request=redirect) as url:
            with pytest.raises(Unreachable, match="HTTP 302"):
                async with connect(url, Login(client=CLIENT)):
                    pass
    assert elsewhere.opened == 0


async def test_nothing_listening_is_told_apart_from_silence() -> None:
    """A refused connection is marked as such; a gateway that never answers runs into the time given (CL-25)."""
    with pytest.raises(Unreachable) as nothing:
        async with connect("ws://127.0.0.1:1", Login(client=CLIENT)):
            pass
    assert nothing.value.refused

    async def silent(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with gateway(silent) as url:
        with pytest.raises(Unreachable, match="no answer within 200 ms") as late:
            async with connect(url, Login(client=CLIENT), timeout=0.2):
                pass
    assert not late.value.refused


async def test_plain_text_to_another_host_is_refused_before_a_connection() -> None:
    """The guard stands before the socket (CL-39)."""
    with pytest.raises(BadAddress):
        async with connect("ws://203.0.113.5:1", Login(client=CLIENT)):
            pass


async def test_a_session_that_ends_ends_its_calls_and_its_events() -> None:
    """Nothing waits for ever on a closed session."""

    async def handler(socket: ServerConnection) -> None:
        fake = Fake(hello())
        await socket.send(json.dumps(fake.challenge))
        frame = json.loads(await socket.recv())
        await socket.send(json.dumps({"type": "res", "id": frame["id"], **hello()}))
        await socket.send(json.dumps({"type": "event", "event": "tick", "payload": {"ts": 1}, "seq": 1}))
        await socket.recv()
        await socket.close(4001, "device removed")

    async with gateway(handler) as url, connect(url, Login(client=CLIENT)) as session:
        with pytest.raises(Disconnected, match="4001 device removed"):
            await session.call("anything")
        assert [event.name async for event in session.events()] == ["tick"]
        with pytest.raises(Disconnected):
            await session.call("anything")


async def test_an_answer_that_is_too_long_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client will not read ends its session with a reason, not as a connection that was lost."""
    monkeypatch.setattr("pairing.client.dialling.MAX_MESSAGE", 64 * 1024)
    fake = Fake(hello(), calls=lambda _: [{"ok": True, "payload": {"text": "x" * 70_000}}])
    async with gateway(fake) as url, connect(url, Login(client=CLIENT)) as session:
        with pytest.raises(Disconnected, match="1009 its answer has more than 64 KiB"):
            await session.call("list")


async def test_unread_events_are_bounded_and_the_loss_is_told() -> None:
    """Old events give way to new ones, and the reader learns how many it missed."""
    burst = [{"type": "event", "event": "e", "payload": n, "seq": n} for n in range(EVENTS_KEPT + 10)]
    fake = Fake(hello(), calls=lambda _: [*burst, {"ok": True, "payload": {}}])
    async with gateway(fake) as url, connect(url, Login(client=CLIENT)) as session:
        await session.call("burst")
        first = await anext(session.events())
        assert (first.payload, first.missed) == (10, 10)


async def test_the_token_that_comes_is_stored_before_the_session_is_lent(tmp_path: Path) -> None:
    """A device collects its token on connecting (protocol §5.8) and presents it the next time, in both fields."""
    store = Store(tmp_path / "home")
    identity = store.make(NOW)
    fake = Fake(hello("fresh", scopes=["operator.read"]), hello("fresh", scopes=["operator.read"]))
    async with gateway(fake) as url:
        shared = Login(client=CLIENT, credentials=Credentials(token=Secret("shared")), identity=identity, store=store)
        async with connect(url, shared) as session:
            assert session.token_is_new
        async with connect(url, Login(client=CLIENT, identity=identity, store=store)) as session:
            assert session.used_stored_token
            assert not session.token_is_new
    assert [sent.get("auth") for sent in fake.connects] == [{"token": "shared"}, {"token": "fresh", "deviceToken": "fresh"}]
    assert fake.connects[1]["scopes"] == ["operator.read"]
    assert fake.connects[1]["device"]["signedAt"] == NOW


async def test_a_token_goes_to_its_own_gateway_alone(tmp_path: Path) -> None:
    """Another gateway is not shown it, even from the same state folder (T12)."""
    fake = Fake(hello())
    async with gateway(fake) as url, connect(url, stored(tmp_path, "ws://127.0.0.1:1")):
        pass
    assert "auth" not in fake.connects[0]


async def test_a_dead_stored_token_is_forgotten(tmp_path: Path) -> None:
    """The gateway's word that a device token is dead ends it (CL-42)."""
    fake = Fake(no("AUTH_DEVICE_TOKEN_MISMATCH"))
    async with gateway(fake) as url:
        login = stored(tmp_path, url)
        with pytest.raises(ConnectRefused):
            async with connect(url, login):
                pass
        assert login.store is not None
        assert login.identity is not None
        assert login.store.token(login.identity.device, url.removeprefix("ws://"), "operator") is None
    assert fake.opened == 1


@pytest.mark.parametrize("code", ["AUTH_SCOPE_MISMATCH", "AUTH_RATE_LIMITED", "PAIRING_REQUIRED", "AUTH_TOKEN_MISMATCH"])
async def test_no_other_refusal_costs_the_stored_token(tmp_path: Path, code: str) -> None:
    """A good token is never thrown away for want of scopes or patience."""
    async with gateway(Fake(no(code))) as url:
        login = stored(tmp_path, url)
        with pytest.raises(ConnectRefused):
            async with connect(url, login):
                pass
        assert login.store is not None
        assert login.identity is not None
        assert login.store.token(login.identity.device, url.removeprefix("ws://"), "operator") is not None


def with_shared(login: Login) -> Login:
    return Login(
        client=CLIENT,
        credentials=Credentials(token=Secret("wrong-shared")),
        identity=login.identity,
        store=login.store,
        scopes=login.scopes,
    )


async def test_a_wrong_shared_token_is_retried_once_with_the_stored_one(tmp_path: Path) -> None:
    """One bounded retry, with both tokens, towards this host (T11); the stored token survives the explicit one's failure (T9)."""
    fake = Fake(no("AUTH_TOKEN_MISMATCH", canRetryWithDeviceToken=True), hello("stored-token", scopes=["operator.pairing"]))
    async with gateway(fake) as url, connect(url, with_shared(stored(tmp_path, url))) as session:
        assert session.used_stored_token
    assert fake.connects[1]["auth"] == {"token": "wrong-shared", "deviceToken": "stored-token"}


@pytest.mark.parametrize("url", ["wss://gate.example", "ws://10.0.0.1:1"])
def test_no_other_host_gets_a_second_token_for_refusing_the_first(url: str) -> None:
    """The retry is for this host's gateway: elsewhere a refusal would be a way to collect tokens (T11)."""
    refused = ConnectRefused("INVALID_REQUEST", "no", {"code": "AUTH_TOKEN_MISMATCH", "canRetryWithDeviceToken": True})
    assert not may_retry(endpoint(url), refused)
    assert may_retry(endpoint("ws://127.0.0.1:1"), refused)


async def test_the_retry_is_not_repeated_and_blames_what_was_given(tmp_path: Path) -> None:
    """Two attempts at most; the refusal told is that of the token a person gave (T10, T11), whose cached other stays (T9)."""
    fake = Fake(no("AUTH_TOKEN_MISMATCH"), no("AUTH_DEVICE_TOKEN_MISMATCH"), hello())
    async with gateway(fake) as url:
        login = with_shared(stored(tmp_path, url))
        with pytest.raises(ConnectRefused) as refused:
            async with connect(url, login):
                pass
        assert login.store is not None
        assert login.identity is not None
        assert login.store.token(login.identity.device, url.removeprefix("ws://"), "operator") is not None
    assert fake.opened == 2
    assert refused.value.details["code"] == "AUTH_TOKEN_MISMATCH"


async def test_errors_hold_no_secret(tmp_path: Path) -> None:
    """Whatever is raised, its text and repr show no token (L7)."""
    async with gateway(Fake(no("AUTH_DEVICE_TOKEN_MISMATCH"))) as url:
        login = stored(tmp_path, url, "very-secret-text")
        with pytest.raises(ConnectRefused) as refused:
            async with connect(url, login):
                pass
    assert "very-secret-text" not in f"{refused.value!r} {refused.value} {refused.value.details} {login!r}"
