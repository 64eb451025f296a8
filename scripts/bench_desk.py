"""Figures of the desk: durable commands one by one and together, a token check and a command at few and at many devices.

Import `commands`, `together`, `token_check` and `command_p50`; `build` makes a log of any size without the service.
"""

import asyncio
import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from msgspec.structs import replace

from cli.compose import local_caller, open_all
from pairing import ids, keyring
from pairing import settings as configured
from pairing.commands import Knock, Rename, Silence, Wanted
from pairing.decide import decide
from pairing.desk import Desk
from pairing.device import INITIAL
from pairing.events import DeviceEvent, Meta, TokenIssued, device_stream
from pairing.gateway.address import locate
from pairing.gateway.connect import Auth, Client, ConnectParams
from pairing.gateway.contact import Contact, Facts
from pairing.gateway.house import House
from pairing.gateway.http import Headers
from pairing.gateway.limits import RateLimiter
from pairing.gateway.server import Gateway
from pairing.gateway.session import Registry
from pairing.log import chain
from pairing.log.codec import decode_meta, draft
from pairing.log.port import Mark, Record
from pairing.log.sqlite import SqliteLog
from pairing.tokens import GatewayKey, Keyring

SCOPES = ("operator.read",)
T = TypeVar("T")


def now() -> int:
    return time.time_ns() // 1_000_000


def build(path: Path, rows: Iterable[Record], *, named: bool = False) -> int:
    """Write chained rows into a new log as they are, and return how many; the fastest way to a large one.

    `named`: under their own commands' ids, as the log itself would store them; else each under an id of its own.
    """
    asyncio.run(_create(path))
    streams: dict[str, int] = {}
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.execute("DROP TRIGGER events_in_order")
        (order,) = [sql for (sql,) in _schema(db) if "events_in_order" in sql]
        count, batch = 0, []
        db.execute("BEGIN")
        for row in rows:
            count += 1
            key = streams.setdefault(row.stream, len(streams) + 1)
            personal = None if row.personal is None else row.personal.decode()
            command = UUID(decode_meta(row).command).bytes if named else ((row.recorded_at << 80) + count).to_bytes(16, "big")
            text = (command, row.meta.decode(), row.body.decode(), personal, row.personal_hash, row.hash)
            batch.append((row.position, key, row.version, row.kind, row.recorded_at, *text))
            if len(batch) == 10_000:
                db.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", batch)
                batch.clear()
        db.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", batch)
        db.executemany("INSERT INTO streams VALUES (?, ?)", [(key, name) for name, key in streams.items()])
        db.execute(order)
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return count


async def _create(path: Path) -> None:
    await (await SqliteLog.open(path)).close()


def _schema(db: sqlite3.Connection) -> list[tuple[str]]:
    from importlib.resources import files

    memory = sqlite3.connect(":memory:")
    memory.executescript(files("pairing.log").joinpath("schema.sql").read_text())
    found = memory.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    memory.close()
    return found


def knock(device: str, key: str, ring: Keyring) -> Knock:
    """Return the command by which a device is paired silently, as the gateway makes it for the client of these benches."""
    at = now()
    return Knock(
        id=ids.uuid7(at),
        now=at,
        by=local_caller(),
        device=device,
        wanted=Wanted(key=key, role="operator", scopes=SCOPES, platform="linux"),
        client_id="test",
        client_mode="test",
        request=ids.request_id(),
        issue=ids.issue_id(),
        key=ring.current.id,
        seen="seen",
        named=ring.current.tag("named", None),
        ttl=300_000,
        silence=Silence("silent", ("not-paired",), SCOPES),
    )


def pairings(devices: Iterable[tuple[str, str]], ring: Keyring) -> Iterator[Record]:
    """Yield the four rows of each device (id, key) that was paired, chained."""
    last: Mark = chain.GENESIS
    command = knock("-", "-", ring)
    meta = Meta(actor=command.by.actor, command=command.id, authority=SCOPES, origin="local", gateway="0.1.0")
    example = decide(INITIAL, command)
    for number, (device, key) in enumerate(devices):
        own = {"device": device, "key": key, "request": f"{number:032x}", "issue": f"{number:032x}.operator"}
        for version, event in enumerate(example, 1):
            theirs = {name: own[name] for name in event.__struct_fields__ if name in own and not _names_gateway_key(event, name)}
            row = chain.link(last, device_stream(device), version, command.now, draft(replace(event, **theirs), meta))
            last = Mark(row.position, row.hash)
            yield row


def _names_gateway_key(event: DeviceEvent, name: str) -> bool:
    return name == "key" and isinstance(event, TokenIssued)


def device_id(number: int) -> str:
    return f"{number:064x}"


def home_with(home: Path, devices: Iterable[tuple[str, str]]) -> Keyring:
    """Make a state folder with its key and a log of paired devices."""
    configured.ensure_home(home)
    ring = keyring.create(home)
    build(home / "log.db", pairings(devices, ring))
    return ring


def many(count: int) -> list[tuple[str, str]]:
    return [(device_id(number), "k" * 43) for number in range(1, count + 1)]


def rename(device: str, turn: int) -> Rename:
    at = now()
    return Rename(id=ids.uuid7(at), now=at, by=local_caller(), device=device, labelled=f"{turn}")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on the loop that `pairing serve` runs on."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def commands(path: Path, callers: int, each: int, *, full: bool = True) -> dict[str, float]:
    """Let callers rename devices of their own through the desk, all at once. Returns commands/s, p50 and p99 in ms."""
    log = await SqliteLog.open(path)
    desk, ring = Desk(log, version="0.1.0"), Keyring(GatewayKey(bytes(32)))
    if not full:
        group: Any = log._group
        await group._writing.run(lambda db: db.execute("PRAGMA synchronous=NORMAL"))
    owned = [device_id(number) for number in range(1, callers + 1)]
    await asyncio.gather(*(desk.handle(knock(device, "k" * 43, ring)) for device in owned))
    waits: list[float] = []

    async def caller(own: list[Rename]) -> None:
        for command in own:
            asked = time.perf_counter()
            await desk.handle(command)
            waits.append(time.perf_counter() - asked)

    # Made beforehand: what is measured is what the desk does.
    asked = [[rename(device, turn) for turn in range(each)] for device in owned]
    began = time.perf_counter()
    await asyncio.gather(*(caller(own) for own in asked))
    took = time.perf_counter() - began
    await log.close()
    waits.sort()
    return {"rate": callers * each / took, "p50_ms": waits[len(waits) // 2] * 1e3, "p99_ms": waits[int(len(waits) * 0.99)] * 1e3}


async def token_check(home: Path, ring: Keyring, count: int, *, cold: bool, checks: int) -> float:
    """Return the µs in the middle that the gateway takes to admit a device by its token; `cold`: its stream is read anew."""
    rules = configured.load(home, env={}, flags={"gateway.auth.token": "example-shared-token"})
    registry, dice = Registry(), random.Random(1)
    async with open_all(rules, sessions=registry, env={}) as opened:
        house = House(opened.service, registry, opened.log, rules.gateway, opened.activity, RateLimiter())
        gateway, desk = Gateway(house), opened.service.desk
        chosen = [device_id(number) for number in dice.sample(range(1, count + 1), min(count, 100))]
        contacts = {device: await _contact(desk, ring, device) for device in chosen}
        waits = []
        for device in (chosen * (1 + checks // len(chosen)))[: checks + len(chosen)]:
            if cold:
                desk._devices.drop(device_stream(device))
            asked = time.perf_counter()
            admitted = await gateway._admission.admit(contacts[device])
            waits.append(time.perf_counter() - asked)
            assert admitted.method == "device-token"
    return statistics.median(waits[len(chosen) :]) * 1e6


async def _contact(desk: Desk, ring: Keyring, device: str) -> Contact:
    token = (await desk.device(device)).token("operator")
    assert token is not None
    client = Client(id="test", version="1", platform="linux", mode="test")
    auth = Auth(device_token=ring.current.token(device, "operator", token.issue))
    params = ConnectParams(min_protocol=3, max_protocol=3, client=client, scopes=SCOPES, auth=auth)
    origin = locate("203.0.113.9", Headers(), (), False)  # type: ignore[arg-type]
    return Contact(
        facts=Facts(origin, None, None, "nonce"),
        params=params,
        protocol=3,
        role="operator",
        scopes=SCOPES,
        method=None,
        shared=None,
        device=device,
        key="k" * 43,
        exempt=False,
    )


async def command_p50(home: Path, count: int, *, cold: bool, turns: int) -> float:
    """Return the ms in the middle of a durable command about one of `count` devices; `cold`: its stream is read anew."""
    log, dice = await SqliteLog.open(home / "log.db"), random.Random(2)
    desk, waits = Desk(log, version="0.1.0"), []
    chosen = [device_id(number) for number in dice.sample(range(1, count + 1), min(count, 100))]
    for turn, device in enumerate((chosen * (2 + turns // len(chosen)))[: turns + len(chosen)]):
        if cold:
            desk._devices.drop(device_stream(device))
        command, asked = rename(device, turn), time.perf_counter()
        await desk.handle(command)
        waits.append(time.perf_counter() - asked)
    await log.close()
    return statistics.median(waits[len(chosen) :]) * 1e3
