"""The other side of the wire, for campaigns and benches: a gateway in a process of its own, and devices that speak to it.

A client of its own on purpose: it shares with the service only the signed bytes and the keys.
"""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pairing.identity import Identity, Proof  # noqa: E402

TOKEN = "example-shared-token"
LOST = (ConnectionClosed, InvalidHandshake, OSError, EOFError, TimeoutError)
"""What a client meets when its gateway is killed."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def elsewhere(chance: random.Random) -> str:
    """Return an address of a documentation block (RFC 3849), so that no two devices share one."""
    return f"2001:db8:{chance.getrandbits(16):x}:{chance.getrandbits(16):x}::1"


class Server:
    """`pairing serve` on a state folder, as a process; `ready_s` is how long it took to say that it is ready."""

    def __init__(self, home: Path, port: int | None = None, *, env: dict[str, str] | None = None) -> None:
        self.home, self.port = home, port or free_port()
        self.ready_s = 0.0
        self._began = time.perf_counter()
        own = {key: value for key, value in os.environ.items() if not key.startswith("PAIRING_")}
        own |= {"PAIRING_HOME": str(home), "PAIRING_GATEWAY_TOKEN": TOKEN, **(env or {})}
        with open(home.with_suffix(".out"), "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "serve", "--port", str(self.port), "--log-level", "warning"],
                cwd=ROOT,
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def ready(self, patience_s: float = 30.0) -> float:
        """Wait until `/readyz` says so, and return the seconds since the start. Raises RuntimeError with what it said instead."""
        while time.perf_counter() - self._began < patience_s and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
                    if b" 200 " in sock.recv(64):
                        self.ready_s = time.perf_counter() - self._began
                        return self.ready_s
            except OSError:
                pass
            time.sleep(0.005)
        self.kill()
        raise RuntimeError(f"the gateway did not start: {self.said()[-2000:]}")

    def said(self) -> str:
        """Return what every process of this state folder has printed."""
        return self.home.with_suffix(".out").read_text(errors="replace")

    def kill(self) -> None:
        """End it at once, as a power cut would end the process."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it in order and return its exit code."""
        self.process.terminate()
        return self.process.wait(15)


@contextmanager
def serving(home: Path, **more: Any) -> Iterator[Server]:
    """Run a gateway and wait until it is ready; it is killed at the end."""
    server = Server(home, **more)
    try:
        server.ready()
        yield server
    finally:
        server.kill()


@dataclass
class Turned:
    """A connection that was turned away: code and details of the error."""

    message: str
    details: dict[str, Any]

    @property
    def code(self) -> str:
        return str(self.details.get("code", ""))


@dataclass
class CallFailed(Exception):
    """A call that was refused."""

    message: str
    details: dict[str, Any]


@dataclass
class Session:
    """A logged-in connection; `ended` is set with (code, reason, time) when the gateway closes it."""

    socket: ClientConnection
    hello: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    ended: asyncio.Future[tuple[int, str, float]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def __post_init__(self) -> None:
        self._calls: dict[str, asyncio.Future[Any]] = {}
        self._count = 0
        self._reader = asyncio.create_task(self._read())

    @property
    def token(self) -> str | None:
        token: str | None = self.hello["auth"].get("deviceToken")
        return token

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Call a method and return its payload. Raises `CallFailed`, or one of `LOST` when no answer can come."""
        self._count += 1
        id = str(self._count)
        answer = self._calls[id] = asyncio.get_running_loop().create_future()
        if self.ended.done():
            raise ConnectionResetError
        try:
            await self.socket.send(json.dumps({"type": "req", "id": id, "method": method, "params": params or {}}))
            return await answer
        finally:
            self._calls.pop(id, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at, also where the sending failed first

    async def close(self) -> None:
        await self.socket.close()
        await asyncio.wait([self._reader])

    async def _read(self) -> None:
        try:
            async for data in self.socket:
                frame = json.loads(data)
                if frame["type"] == "event":
                    self.events.append(frame)
                    continue
                answer = self._calls.get(frame["id"])
                if answer is not None and not answer.done():
                    if frame["ok"]:
                        answer.set_result(frame.get("payload"))
                    else:
                        answer.set_exception(CallFailed(frame["error"]["message"], frame["error"].get("details") or {}))
        except ConnectionClosed:
            pass
        finally:
            self.ended.set_result((self.socket.close_code or 1006, self.socket.close_reason or "", time.perf_counter()))
            for answer in self._calls.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError())


def request(identity: Identity, nonce: str, *, role: str, scopes: tuple[str, ...], auth: dict[str, str]) -> dict[str, Any]:
    """Return the params of a connect with its proof."""
    at = time.time_ns() // 1_000_000
    client = {"id": "test", "version": "1", "platform": "linux", "mode": "test"}
    proof = Proof(
        device=identity.device,
        key=identity.key,
        signature="",
        signed_at=at,
        nonce=nonce,
        client_id=client["id"],
        client_mode=client["mode"],
        role=role,
        scopes=scopes,
        token=next(iter(auth.values()), ""),
        platform=client["platform"],
        family=None,
    )
    signed = {
        "id": proof.device,
        "publicKey": proof.key,
        "signature": identity.sign(proof.payload("v3")),
        "signedAt": at,
        "nonce": nonce,
    }
    about = {"minProtocol": 3, "maxProtocol": 3, "client": client, "role": role, "scopes": list(scopes)}
    return {**about, "device": signed, "auth": auth}


async def dial(
    port: int,
    identity: Identity,
    *,
    scopes: tuple[str, ...] = ("operator.read",),
    role: str = "operator",
    token: str | None = None,
    address: str | None = None,
) -> Session | Turned:
    """Connect with the shared token, or with a device token; `address` makes it remote. Raises one of `LOST`."""
    headers = {"X-Forwarded-For": address} if address else {}
    auth = {"token": TOKEN} if token is None else {"deviceToken": token}
    link = await connect(
        f"ws://127.0.0.1:{port}", additional_headers=headers, compression=None, proxy=None, max_size=None, close_timeout=2
    )
    try:
        challenge = json.loads(await link.recv())["payload"]
        params = request(identity, challenge["nonce"], role=role, scopes=scopes, auth=auth)
        await link.send(json.dumps({"type": "req", "id": "c", "method": "connect", "params": params}))
        answer = json.loads(await link.recv())
    except BaseException:
        await link.close()
        raise
    if answer["ok"]:
        return Session(link, answer["payload"])
    await link.close()
    return Turned(answer["error"]["message"], answer["error"].get("details") or {})


async def inside(port: int, identity: Identity, **more: Any) -> Session:
    """Connect, and be let in. Raises RuntimeError where not."""
    session = await dial(port, identity, **more)
    if isinstance(session, Turned):
        raise RuntimeError(f"turned away: {session.message}")
    return session


def identity(chance: random.Random) -> Identity:
    """Return a fresh device."""
    return Identity(chance.randbytes(32))
