"""What looking back costs on a long log, beside a short one: every question the command line can ask, and every work on the log.

Questions go through the methods as the command line calls them on the log itself; works are the commands, from start to end. Each
is a process of its own, so that its peak of memory is its own. `scripts/bench --only past --log FOLDER` keeps the log.
"""

import asyncio
import json
import os
import random
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_lives import name, write

Params = dict[str, Any]
Call = Callable[[str, Params], Awaitable[Params]]
SHORT = 100
_LONGEST_S = 3.0
ROUNDS = 300


@dataclass
class Known:
    """What is there to be asked for: the log's head, how many devices it knows, and the dice."""

    head: int
    devices: int
    dice: random.Random
    service: Any

    def device(self) -> str:
        return name(self.dice.randrange(self.devices))

    def at(self) -> int:
        return self.dice.randint(1, self.head)


@dataclass(frozen=True)
class Question:
    """One question: what p99 it promises, in ms, and how it is asked. `once`: what has to be there before it is."""

    what: str
    within: float
    ask: Callable[[Known, Call], Awaitable[object]]
    once: Callable[[Known], Awaitable[object]] | None = None


def _method(method: str, params: Callable[[Known], Params]) -> Callable[[Known, Call], Awaitable[object]]:
    async def ask(known: Known, call: Call) -> object:
        return await call(method, params(known))

    return ask


def _audit(what: str, params: Callable[[Known], Params], within: float = 50) -> Question:
    return Question(f"audit, {what}", within, _method("audit.list", params))


async def _difference(call: Call, asked: Params, most: int = 1_000) -> int:
    """Ask page by page, as `pairing diff` does."""
    found = 0
    while True:
        page = await call("history.diff", {**asked, "limit": min(200, most - found)})
        found += len(page.get("devices", ()))
        if page.get("next") is None or found >= most:
            return found
        asked = {**asked, "cursor": page["next"]}


async def _near(known: Known, call: Call) -> object:
    end = known.dice.randint(min(100, known.head), known.head)
    return await _difference(call, {"from": max(1, end - 100), "to": end})


async def _far(known: Known, call: Call) -> object:
    return await _difference(call, {"from": 1, "to": known.head})


async def _time(known: Known, call: Call) -> object:
    (row,) = await known.service.desk.log.pick((known.at(),))
    return await call("history.at", {"atMs": row.recorded_at})


async def _stranger(known: Known, call: Call) -> object:
    """A device is explained with the token of another one."""
    while True:
        owner = known.device()
        state = await known.service.desk.device(owner)
        if state.grant is not None and state.grant.tokens:
            token = state.grant.tokens[0]
            break
    shown = known.service.keyring.current.token(owner, token.role, token.issue)
    return await call("history.explain", {"device": name(0), "token": shown})


async def _turn_away(known: Known) -> None:
    """Devices were turned away, each a little while ago."""
    from pairing.listing import RefusedContact

    told = known.service.notes
    for _ in range(50):
        contact = RefusedContact(
            at=known.service.clock(),
            device=known.device(),
            proven=True,
            address="203.0.113.9",
            reason="device_token_mismatch",
            code="AUTH_DEVICE_TOKEN_MISMATCH",
            role="operator",
            position=known.head,
        )
        _REFERENCES.append(told.refuse(contact))


_REFERENCES: list[str] = []


async def _by_reference(known: Known, call: Call) -> object:
    return await call("history.explain", {"reference": known.dice.choice(_REFERENCES)})


async def _by_command(known: Known, call: Call) -> object:
    (row,) = await known.service.desk.log.pick((known.at(),))
    return await call("audit.list", {"commandId": json.loads(row.meta)["command"]})


async def _since(known: Known, call: Call) -> object:
    one, other = sorted((known.at(), known.at()))
    rows = await known.service.desk.log.pick(tuple({one, other}))
    return await call("audit.list", {"sinceMs": rows[0].recorded_at, "untilMs": rows[-1].recorded_at + 1})


QUESTIONS = (
    Question(
        "devices list --at, one device", 50, _method("device.list", lambda known: {"device": known.device(), "at": known.at()})
    ),
    Question("devices list --at, all", 10_000, _method("device.list", lambda known: {"at": known.at()})),
    Question("diff, 100 positions apart", 250, _near),
    Question("diff, first to last, 1,000 devices", 10_000, _far),
    Question(
        "diff, one device",
        50,
        _method("history.diff", lambda known: {"from": 1, "to": known.head, "device": known.device()}),
    ),
    Question("a time to its position", 50, _time),
    Question("history of a device", 50, _method("history.story", lambda known: {"device": known.device()})),
    Question(
        "history of a device, --steps", 50, _method("history.story", lambda known: {"device": known.device(), "steps": True})
    ),
    Question(
        "could, at a position",
        50,
        _method(
            "history.could",
            lambda known: {"device": known.device(), "role": "operator", "scope": "operator.write", "at": known.at()},
        ),
    ),
    Question("explain a device", 50, _method("history.explain", lambda known: {"device": known.device()})),
    Question("explain, another device's token", 10_000, _stranger),
    Question("explain, nobody's token", 10_000, _method("history.explain", lambda known: {"token": "A" * 43})),
    Question("explain, by reference", 50, _by_reference, _turn_away),
    _audit("all", lambda known: {}),
    _audit("device", lambda known: {"device": known.device()}),
    _audit("actor, an operator", lambda known: {"actor": name(1)}),
    _audit("actor, the host", lambda known: {"actor": "local"}),
    _audit("address", lambda known: {"address": f"10.0.{known.dice.randrange(256)}.{known.dice.randrange(256)}"}),
    _audit("kind", lambda known: {"kind": ["token.revoked"]}),
    _audit("kind, a family", lambda known: {"kind": ["token.*"]}),
    _audit("reason", lambda known: {"reason": "left the team"}),
    _audit("reason and device", lambda known: {"reason": "left the team", "device": known.device()}),
    _audit("actor and kind", lambda known: {"actor": name(1), "kind": ["device.removed"]}),
    _audit("a reason nobody gave", lambda known: {"reason": "never said"}),
    Question("audit, command", 50, _by_command),
    Question("audit, since and until", 50, _since),
    _audit("positions", lambda known: {"from": known.head // 2, "to": known.head // 2 + 1_000}),
    Question("devices who", 50, _method("device.who", lambda known: {"device": known.device()})),
    Question("blast, a device", 250, _method("blast.find", lambda known: {"what": known.device()})),
    Question("blast, an operator", 30_000, _method("blast.find", lambda known: {"what": name(1)})),
    Question(
        "restore plan, one device", 250, _method("history.restore", lambda known: {"to": known.at(), "deviceId": known.device()})
    ),
    Question(
        "restore plan, 1,000 positions",
        10_000,
        _method("history.restore", lambda known: {"to": max(1, known.head - 1_000)}),
    ),
    Question("restore plan, half of the log", 300_000, _method("history.restore", lambda known: {"to": known.head // 2})),
)


def works(folder: Path, events: int) -> tuple[tuple[str, float, list[str]], ...]:
    """Return the works on a log: what, within how many seconds for a million events, and the command; files go to a folder."""
    return (
        ("views rebuild", 120, ["views", "rebuild"]),
        ("views verify", 180, ["views", "verify"]),
        ("log verify", 30, ["log", "verify"]),
        ("log checkpoint, the first", 30, ["log", "checkpoint"]),
        ("log checkpoint, another", 3, ["log", "checkpoint"]),
        ("log receipt", 3, ["log", "receipt", str(events // 2), "--out", str(folder / "receipt.json")]),
        ("log backup", 60, ["log", "backup", str(folder / "backup.db")]),
        ("log export", 90, ["log", "export", str(folder / "export.jsonl")]),
    )


# --- in a process of its own -----------------------------------------------------------------------------------------


def answer(home: Path, rounds: int, wanted: list[str]) -> dict[str, dict[str, float]]:
    """Ask some questions of a state folder. Returns for each p50, p99 and the first answer in ms, and the peak in MB."""
    return asyncio.run(_answered(home, rounds, wanted))


async def _answered(home: Path, rounds: int, wanted: list[str]) -> dict[str, dict[str, float]]:
    from cli.compose import open_service
    from cli.door import LogDoor
    from pairing import settings as configured

    told: dict[str, dict[str, float]] = {}
    async with open_service(configured.load(home, env={}, flags={})) as service:
        door, head = LogDoor(service), await service.views.position()
        with closing(sqlite3.connect(home / "log.db")) as database:
            ((devices,),) = database.execute("SELECT count(*) FROM streams WHERE name >= 'device:' AND name < 'device;'")
        for question in QUESTIONS:
            if question.what in wanted:
                known = Known(head, devices, random.Random(question.what), service)
                if question.once is not None:
                    await question.once(known)
                told[question.what] = await _spread(question, known, door.call, rounds)
    return told


async def _spread(question: Question, known: Known, call: Call, rounds: int) -> dict[str, float]:
    from pairing.refusals import Reason, Refused

    waits: list[float] = []
    began = time.perf_counter()
    while len(waits) < rounds and (len(waits) < 2 or time.perf_counter() - began < _LONGEST_S):
        asked = time.perf_counter()
        try:
            await question.ask(known, call)
        except Refused as refused:
            # Not there yet at that position is an answer too.
            if refused.reason is not Reason.UNKNOWN_DEVICE:
                raise
        waits.append((time.perf_counter() - asked) * 1e3)
    first = waits[0]
    waits.sort()
    return {"p50": waits[len(waits) // 2], "p99": waits[len(waits) * 99 // 100], "first": first, "mb": _peak(), "n": len(waits)}


def _peak(process: int | str = "self") -> float:
    """Return the most memory a process has had, in MB, without what it was forked from."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


# --- beside it ---------------------------------------------------------------------------------------------------------


def asked(home: Path, wanted: list[str], rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Ask in a fresh process."""
    command = [sys.executable, __file__, str(home), str(rounds), *wanted]
    done = subprocess.run(command, env=_env(home), check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def worked(home: Path, command: list[str]) -> tuple[float, float, float]:
    """Run a command of the command line on a state folder; return seconds, seconds of CPU, and its peak in MB."""
    from bench import _COST

    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-S", "-c", _COST, sys.executable, "-m", "cli.main", *command],
        env=_env(home),
        check=True,
        capture_output=True,
        text=True,
    )
    status, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    if status != 0:
        raise SystemExit(f"pairing {' '.join(command)} failed:\n{done.stderr}")
    return time.perf_counter() - began, cpu, peak


def started(home: Path) -> tuple[float, float]:
    """Start the gateway; return the seconds until it says that it is ready, and its memory then, in MB."""
    env = _env(home)
    port, began = env["PAIRING_GATEWAY_PORT"], time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "serve"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _ready(f"http://127.0.0.1:{port}/readyz"):
            if process.poll() is not None or time.perf_counter() - began > 600:
                raise SystemExit("the gateway did not become ready")
            time.sleep(0.01)
        return time.perf_counter() - began, _peak(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _env(home: Path) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PAIRING_")}
    root = str(Path(__file__).resolve().parent.parent)
    return {**env, "PAIRING_HOME": str(home), "PAIRING_GATEWAY_PORT": str(port), "PYTHONPATH": root, "COLUMNS": "200"}


def logs(folder: Path, events: int) -> tuple[Path, Path]:
    """Return the state folders with the long and the short log; made where they are not there yet."""
    long, short = folder / "many", folder / "few"
    for home, count, devices in ((long, events, max(3, events // 10)), (short, SHORT, 12)):
        if not (home / "log.db").exists():
            draft = folder / f".{home.name}"
            shutil.rmtree(draft, ignore_errors=True)
            write(draft, count, devices)
            draft.rename(home)
    return long, short


@contextmanager
def copy(home: Path, folder: Path) -> Iterator[Path]:
    """Lend a copy: a gateway that starts writes events, and the log is to stay as it is."""
    target = folder / "copy"
    shutil.copytree(home, target)
    target.chmod(0o700)
    try:
        yield target
    finally:
        shutil.rmtree(target)


def answers(long: Path, short: Path, *, quick: bool) -> Iterator[tuple[Question, dict[str, float], dict[str, float]]]:
    """Yield for each question what it cost on the long log and on the short one; `quick`: once or twice, in one process."""
    names = [question.what for question in QUESTIONS]
    rounds = 2 if quick else ROUNDS
    least = asked(short, names, rounds)
    every = asked(long, names, rounds) if quick else {}
    for question in QUESTIONS:
        yield question, every.get(question.what) or asked(long, [question.what])[question.what], least[question.what]


if __name__ == "__main__":
    print(json.dumps(answer(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
