"""A whole gateway on a loopback port, in this process, and a client that says exactly what a case says.

The gateway is the real one on a real log; its clock can be moved. `remote` makes a loopback connection a remote one by a
forwarded header, as an untrusted proxy would; `via` is what a trusted proxy reports; with `elsewhere` a loopback source is taken
for an address of the outside.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from cli.compose import Opened, local_caller, open_all
from pairing import ids
from pairing import settings as configured
from pairing.commands import DeviceCommand
from pairing.events import AnyEvent, Meta, device_stream
from pairing.gateway import address, server
from pairing.gateway.house import House
from pairing.gateway.limits import RateLimiter
from pairing.gateway.server import Gateway
from pairing.gateway.session import Registry
from pairing.identity import Identity, Proof
from pairing.log.codec import draft
from pairing.log.port import Appended, Record, Slice
from pairing.settings import Settings

T = "example-shared-token"
REMOTE = {"X-Forwarded-For": "203.0.113.9"}
OUTSIDE = {"127.0.7.2": "192.0.2.2", "127.0.7.3": "192.0.2.3", "127.0.7.9": "198.51.100.9"}


@dataclass
class Clock:
    """A clock that runs, and can be moved forward."""

    ahead: int = 0

    def __call__(self) -> int:
        import time

        return time.time_ns() // 1_000_000 + self.ahead


@dataclass
class Refusal:
    """What a refused connect got: the error, if there was one, and the close frame."""

    error: dict[str, Any] | None
    code: int
    reason: str

    @property
    def message(self) -> str:
        return (self.error or {}).get("message", "")

    @property
    def details(self) -> dict[str, Any]:
        return (self.error or {}).get("details") or {}

    @property
    def told(self) -> dict[str, Any]:
        """The details without what is ours: the reference, and whether trying again is in vain."""
        return {key: value for key, value in self.details.items() if key not in {"reference", "terminal"}}


@dataclass
class Call:
    """The answer to one call."""

    ok: bool
    payload: Any
    error: dict[str, Any]

    @property
    def message(self) -> str:
        return self.error.get("message", "")


@dataclass
class Client:
    """One socket, past its handshake."""

    socket: ClientConnection
    hello: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    frame: dict[str, Any] = field(default_factory=dict)
    _next: int = 0

    @property
    def token(self) -> str:
        return str(self.hello["auth"]["deviceToken"])

    async def call(self, method: str, params: Any = ...) -> Call:
        """Call a method; events that come meanwhile are kept."""
        self._next += 1
        id = str(self._next)
        request: dict[str, Any] = {"type": "req", "id": id, "method": method}
        if params is not ...:
            request["params"] = params
        await self.socket.send(json.dumps(request))
        with anyio.fail_after(10):
            while True:
                frame = json.loads(await self.socket.recv())
                if frame["type"] == "res" and frame["id"] == id:
                    return Call(frame["ok"], frame.get("payload"), frame.get("error", {}))
                self.events.append(frame)

    async def raw(self, text: str | bytes) -> dict[str, Any]:
        """Send a frame as it is and return the next response."""
        await self.socket.send(text)
        with anyio.fail_after(10):
            while True:
                frame = json.loads(await self.socket.recv())
                if frame["type"] == "res":
                    return frame
                self.events.append(frame)

    async def event(self, name: str) -> dict[str, Any]:
        """Wait for the next event of a name that has not been waited for."""
        with anyio.fail_after(10):
            while True:
                for index, seen in enumerate(self.events):
                    if seen["event"] == name:
                        return self.events.pop(index)
                self.events.append(json.loads(await self.socket.recv()))

    async def quiet(self, seconds: float = 0.3) -> list[dict[str, Any]]:
        """Return every event that comes within some time, and those kept."""
        with anyio.move_on_after(seconds):
            while True:
                self.events.append(json.loads(await self.socket.recv()))
        return self.events

    async def closed(self) -> tuple[int, str]:
        """Wait for the server's close and return its code and reason; events before it are kept."""
        with anyio.fail_after(10):
            try:
                while True:
                    self.events.append(json.loads(await self.socket.recv()))
            except ConnectionClosed as error:
                return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")

    async def close(self) -> None:
        await self.socket.close()

    async def pending(self, device: Identity | None = None) -> list[dict[str, Any]]:
        """Return what `device.pair.list` shows as open, of one device or all."""
        return self._of(device, (await self.call("device.pair.list", {})).payload["pending"])

    async def paired(self, device: Identity | None = None) -> list[dict[str, Any]]:
        """Return what `device.pair.list` shows as paired, of one device or all."""
        return self._of(device, (await self.call("device.pair.list", {})).payload["paired"])

    async def entry(self, device: Identity) -> dict[str, Any]:
        """Return the one paired entry of a device."""
        (entry,) = await self.paired(device)
        return entry

    async def approve(self, request: str) -> Call:
        return await self.call("device.pair.approve", {"requestId": request})

    @staticmethod
    def _of(device: Identity | None, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [entry for entry in entries if device is None or entry["deviceId"] == device.device]


class World:
    """One gateway and everything a case needs to speak to it."""

    def __init__(self, opened: Opened, gateway: Gateway, clock: Clock, port: int, stack: AsyncExitStack, rules: Settings) -> None:
        self.opened, self.gateway, self.clock, self.port, self.rules = opened, gateway, clock, port, rules
        self._stack = stack
        self._seed = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def device(self) -> Identity:
        """Make a fresh device."""
        self._seed += 1
        return Identity(self._seed.to_bytes(32, "big"))

    async def socket(
        self, *, headers: dict[str, str] | None = None, path: str = "/", name: str = "127.0.0.1", **more: Any
    ) -> ClientConnection:
        """Open a socket; the challenge is not read yet. `name` is what the Host header says."""
        url = f"ws://{name}:{self.port}{path}"
        more |= {"host": "127.0.0.1", "port": self.port, "proxy": None}
        return await self._stack.enter_async_context(
            connect(url, additional_headers=headers or {}, compression=None, max_size=None, max_queue=None, **more)
        )

    async def dial(
        self,
        device: Identity | None = None,
        *,
        role: str | None = "operator",
        scopes: tuple[str, ...] | None = (),
        auth: dict[str, Any] | None = ...,  # type: ignore[assignment]
        client: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        remote: bool = False,
        protocol: tuple[int, int] = (3, 3),
        version: str = "v3",
        sign: Callable[[dict[str, Any]], None] = lambda _: None,
        tamper: Callable[[dict[str, Any]], None] = lambda _: None,
        signed_at: int | None = None,
        source: str | None = None,
        via: str | None = None,
        name: str = "127.0.0.1",
    ) -> Client | Refusal:
        """Make a complete connect. `auth` defaults to the shared token; `sign` changes fields before, `tamper` after signing."""
        headers = {**(headers or {}), **(REMOTE if remote else {}), **({"X-Forwarded-For": via} if via else {})}
        more = {"local_addr": (source, 0)} if source else {}
        socket = await self.socket(headers=headers, name=name, **more)
        challenge = json.loads(await socket.recv())["payload"]
        node = role == "node"
        about = {"id": "node-host" if node else "test", "version": "1.0", "platform": "linux", "mode": "node" if node else "test"}
        params: dict[str, Any] = {
            "minProtocol": protocol[0],
            "maxProtocol": protocol[1],
            "client": about | (client or {}),
            "auth": {"token": T} if auth is ... else auth,
        }
        if params["auth"] is None:
            del params["auth"]
        params["client"] = {key: value for key, value in params["client"].items() if value is not None}
        if role is not None:
            params["role"] = role
        if scopes is not None:
            params["scopes"] = list(scopes)
        if device is not None:
            params["device"] = self.proof(device, params, challenge["nonce"], version, signed_at, sign)
        tamper(params)
        frame = {"type": "req", "id": "c", "method": "connect", "params": params}
        await socket.send(json.dumps(frame))
        return await self.outcome(socket, frame)

    def proof(
        self,
        device: Identity,
        params: dict[str, Any],
        nonce: str,
        version: str = "v3",
        signed_at: int | None = None,
        sign: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Return the device object of a connect, signed over its params."""
        auth = params.get("auth") or {}
        sent = [auth.get(key) for key in ("token", "deviceToken", "bootstrapToken") if auth.get(key) is not None]
        fields: dict[str, Any] = {
            "device": device.device,
            "key": device.key,
            "signature": "",
            "signed_at": self.clock() if signed_at is None else signed_at,
            "nonce": nonce,
            "client_id": params["client"]["id"],
            "client_mode": params["client"]["mode"],
            "role": params.get("role", "operator"),
            "scopes": tuple(params.get("scopes", ())),
            "token": sent[0] if sent else "",
            "platform": params["client"].get("platform"),
            "family": params["client"].get("deviceFamily"),
        }
        sign(fields)
        signature = device.sign(Proof(**fields).payload(version))
        return {
            "id": fields["device"],
            "publicKey": fields["key"],
            "signature": signature,
            "signedAt": fields["signed_at"],
            "nonce": fields["nonce"],
        }

    async def outcome(self, socket: ClientConnection, frame: dict[str, Any] | None = None) -> Client | Refusal:
        """Read what became of a handshake."""
        error = None
        try:
            with anyio.fail_after(10):
                while True:
                    answer = json.loads(await socket.recv())
                    if answer["type"] == "res" and answer["ok"]:
                        return Client(socket, answer["payload"], frame=answer)
                    if answer["type"] == "res":
                        error = answer["error"]
        except ConnectionClosed as closed:
            rcvd = closed.rcvd
            return Refusal(error, rcvd.code if rcvd else 1006, rcvd.reason if rcvd else "")

    async def admin(self, **more: Any) -> Client:
        """Connect an operator with admin rights by the shared token, on another device."""
        client = await self.dial(self.device(), scopes=("operator.admin",), **more)
        assert isinstance(client, Client), client
        return client

    async def inside(self, device: Identity | None = None, **more: Any) -> Client:
        """Connect, and expect to be let in."""
        client = await self.dial(device, **more)
        assert isinstance(client, Client), client
        return client

    async def outside(self, device: Identity | None = None, **more: Any) -> Refusal:
        """Connect, and expect to be turned away."""
        refusal = await self.dial(device, **more)
        assert isinstance(refusal, Refusal), refusal.hello
        return refusal

    async def by_token(self, device: Identity, token: str, **more: Any) -> Client | Refusal:
        """Connect with a device token, as clients do."""
        return await self.dial(device, auth={"token": token, "deviceToken": token}, **more)

    async def ask(self, device: Identity, **more: Any) -> str:
        """Ask for pairing, or for more of it, from afar; return the id of the request that now waits."""
        refused = await self.outside(device, **({"remote": True} | more))
        assert refused.details.get("code") == "PAIRING_REQUIRED", refused
        return str(refused.details["requestId"])

    async def grant(self, admin: Client, device: Identity, **more: Any) -> Client:
        """Have a device ask from afar, approve it, and return its session by the shared token."""
        answer = await admin.approve(await self.ask(device, **more))
        assert answer.ok, answer.error
        return await self.inside(device, **({"remote": True} | more))

    async def session(self, device: Identity, token: str, **more: Any) -> Client:
        """Connect with a device token from afar, and expect to be let in."""
        client = await self.by_token(device, token, **({"remote": True} | more))
        assert isinstance(client, Client), client
        return client

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[Opened]:
        """Open the same log a second time, as another process on this host would."""
        async with open_all(self.rules, env={}) as other:
            yield other

    def stamp(self, **more: Any) -> dict[str, Any]:
        """Return what a command of the local door carries."""
        now = self.clock()
        return {"id": ids.uuid7(now), "now": now, "by": local_caller(), **more}

    async def behind(self, command: DeviceCommand) -> None:
        """Have another process decide a command on the same log."""
        async with self.beside() as other:
            await other.service.desk.handle(command)

    async def smuggle(self, device: Identity, *events: AnyEvent) -> None:
        """Write events past every decision, as somebody who edits the store would."""
        stream = device_stream(device.device)
        meta = Meta(actor=local_caller().actor, command=ids.uuid7(self.clock()))
        rows = await self.opened.log.stream(stream)
        drafts = tuple(draft(event, meta) for event in events)
        outcome = await self.opened.log.append([Slice(stream, len(rows), drafts)], command=meta.command, now=self.clock())
        assert isinstance(outcome, Appended), outcome

    async def records(self, kind: str | None = None) -> list[Record]:
        """Return what the log holds, of one kind or all."""
        rows = await self.opened.log.scan(limit=100_000)
        return [row for row in rows if kind is None or row.kind == kind]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Let the gateway take some loopback sources for addresses of the outside; loopback has no other TCP peer to offer."""

    def locate(peer_host: str, *more: Any) -> address.Origin:
        return address.locate(OUTSIDE.get(peer_host, peer_host), *more)

    monkeypatch.setattr(server, "locate", locate)
    return {outside: source for source, outside in OUTSIDE.items()}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Make gateways: `await world({"gateway.auth.mode": "none"})`. All are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def make(flags: dict[str, Any] | None = None, *, home: str = "home") -> World:
            return await stack.enter_async_context(running(tmp_path / home, flags or {}))

        yield make


@asynccontextmanager
async def running(home: Path, flags: dict[str, Any]) -> AsyncIterator[World]:
    """Run one gateway on a free port, on a log in `home`."""
    configured.ensure_home(home)
    chosen = {"gateway.auth.token": T, "gateway.port": 1} | flags
    rules = configured.load(home, env={}, flags=chosen)
    clock, registry = Clock(), Registry()
    async with open_all(rules, sessions=registry, env={}) as opened:
        object.__setattr__(opened.service, "clock", clock)
        gateway_rules = _on_free_port(rules.gateway)
        house = House(
            service=opened.service,
            registry=registry,
            events=opened.log,
            rules=gateway_rules,
            activity=opened.activity,
            limiter=RateLimiter(gateway_rules.auth.rate_limit),
            requests_lock=home / "requests.lock",
        )
        gateway = Gateway(house)
        async with AsyncExitStack() as sockets, anyio.create_task_group() as tasks:
            addresses = await tasks.start(_run, gateway)
            yield World(opened, gateway, clock, addresses[0][1], sockets, rules)
            await sockets.aclose()
            tasks.cancel_scope.cancel()


async def _run(gateway: Gateway, *, task_status: Any) -> None:
    await gateway.run(task_status=task_status)


def _on_free_port(rules: Any) -> Any:
    from msgspec.structs import replace

    return replace(rules, port=0)
