"""What the transport's stories share: both event loops, a listening gateway, and a peer that can misbehave."""

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from anyio.abc import ByteStream
from websockets.frames import Frame, Opcode

from pairing.gateway.http import HttpResponse, Readiness, answer
from pairing.gateway.listener import serve
from pairing.gateway.site import TransportLimits

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
PATIENCE = 8.0


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_name(request) -> str:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return request.param


@pytest.fixture
def anyio_backend(loop_name):
    return "asyncio", {"use_uvloop": loop_name == "uvloop"}


@dataclass
class Raw:
    """A peer that says exactly what it is told to, byte for byte."""

    stream: ByteStream
    buffer: bytearray = field(default_factory=bytearray)

    async def write(self, data: bytes) -> None:
        await self.stream.send(data)

    async def upgrade(self, path: str = "/", *, connection: str = "Upgrade", extra: str = "") -> str:
        """Ask for a WebSocket and return the head of the answer."""
        await self.write(
            f"GET {path} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: {connection}\r\n{KEY}{extra}\r\n".encode()
        )
        return await self.head()

    async def head(self) -> str:
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            await self.more()
        return self.take(end + 4).decode()

    async def frame(self, data: bytes | str, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> None:
        payload = data.encode() if isinstance(data, str) else data
        await self.write(Frame(opcode, payload, fin).serialize(mask=True))

    async def read(self) -> tuple[Opcode, bytes]:
        """The next frame of the server."""
        await self.need(2)
        length, offset = self.buffer[1] & 0x7F, 2
        if length >= 126:
            offset = 4 if length == 126 else 10
            await self.need(offset)
            length = int.from_bytes(self.buffer[2:offset], "big")
        await self.need(offset + length)
        opcode = Opcode(self.buffer[0] & 0x0F)
        return opcode, self.take(offset + length)[offset:]

    async def read_close(self) -> tuple[int, str]:
        """Skip to the server's close frame, and to the end of the stream after it."""
        while True:
            opcode, data = await self.read()
            if opcode is Opcode.CLOSE:
                await self.rest()
                return struct.unpack("!H", data[:2])[0], data[2:].decode()

    async def rest(self) -> bytes:
        """Everything until the server ends the stream or resets it."""
        try:
            while True:
                await self.more()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return self.take(len(self.buffer))

    async def write_until_dropped(self, data: bytes, pause: float = 0) -> None:
        """Go on sending the same bytes until the server has had enough."""
        with anyio.fail_after(PATIENCE):
            try:
                while True:
                    await self.write(data)
                    await anyio.sleep(pause)
            except anyio.BrokenResourceError:
                return

    async def need(self, count: int) -> None:
        while len(self.buffer) < count:
            await self.more()

    async def more(self) -> None:
        with anyio.fail_after(PATIENCE):
            self.buffer += await self.stream.receive()

    def take(self, count: int) -> bytes:
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data


class Gateway(SimpleNamespace):
    """A listening gateway: `host`, `port`, and `cancel()`."""

    def url(self, path: str = "/") -> str:
        return f"ws://{self.host}:{self.port}{path}"

    @asynccontextmanager
    async def raw(self, tls: ssl.SSLContext | None = None):
        """A raw peer; its socket is closed at the end."""
        secure = {"ssl_context": tls, "tls_hostname": "localhost", "tls_standard_compatible": False} if tls else {}
        stream = await anyio.connect_tcp(self.host, self.port, **secure)
        try:
            yield Raw(stream)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)


async def echo(link) -> None:
    """Answer each message with itself."""
    while True:
        link.send(await link.recv())


def health(request) -> HttpResponse:
    return answer(request, lambda: Readiness(ready=True, failing=(), uptime_ms=1))


@pytest.fixture
def listening():
    """`async with listening(handler, limits={...}, ...) as gateway`."""

    @asynccontextmanager
    async def listen(handler=echo, *, host: str = "127.0.0.1", limits: dict | None = None, **options):
        async with anyio.create_task_group() as group:
            scope, stopped = anyio.CancelScope(), anyio.Event()

            async def run(*, task_status) -> None:
                with scope:
                    await serve(
                        handler,
                        host=host,
                        port=0,
                        http=options.pop("http", health),
                        limits=TransportLimits(**{"close_timeout": 0.5} | (limits or {})),
                        task_status=task_status,
                        **options,
                    )
                stopped.set()

            addresses = await group.start(run)
            yield Gateway(host=addresses[0][0], port=addresses[0][1], cancel=scope.cancel, stopped=stopped)
            scope.cancel()

    return listen


@pytest.fixture
def specimen(loop_name):
    """`with specimen(nofile=..., limits={...}) as gateway`: the transport in a process of its own."""

    @contextmanager
    def start(*, nofile: int | None = None, limits: dict | None = None):
        command = [sys.executable, str(Path(__file__).with_name("specimen.py"))]
        command += ["--uvloop"] if loop_name == "uvloop" else []
        command += ["--nofile", str(nofile)] if nofile else []
        command += ["--limits", json.dumps(limits or {})]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            port = int(process.stdout.readline())
            yield Gateway(host="127.0.0.1", port=port, pid=process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()

    return start


@pytest.fixture
def stats():
    """What a specimen costs now: `rss` in bytes, `fds`, `tasks`."""

    async def ask(gateway) -> dict[str, int]:
        async with gateway.raw() as peer:
            await peer.write(b"GET /stats HTTP/1.1\r\nHost: gateway\r\n\r\n")
            await peer.head()
            return json.loads(await peer.rest())

    return ask


@pytest.fixture
def settled():
    """Wait, bounded, until a condition holds."""

    async def wait(condition) -> None:
        with anyio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await anyio.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate and its key in one file."""
    folder = tmp_path_factory.mktemp("tls")
    path = folder / "localhost.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject]
    try:
        subprocess.run([*made, "-keyout", path, "-out", folder / "cert"], check=True, capture_output=True, cwd=folder)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    path.write_bytes(path.read_bytes() + (folder / "cert").read_bytes())
    return path


@pytest.fixture
def tls(certificate):
    """Both sides of TLS: `tls.server` and `tls.client`."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    client = ssl.create_default_context(cafile=certificate)
    return SimpleNamespace(server=server, client=client)


@pytest.fixture
def reset():
    """Close a socket so that the other side sees a reset, not an end."""

    def close(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    return close


@pytest.fixture
def open_fds():
    return lambda: len(os.listdir("/proc/self/fd"))
