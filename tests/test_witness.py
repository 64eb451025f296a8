"""A stream that had more rows once is closed: what was taken out at its end is not taken for what never happened."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import Raw, json

from cli.compose import local_caller, open_all
from pairing import methods, settings
from pairing.identity import Identity
from pairing.log.errors import StreamDamaged
from pairing.openclaw.moving import move
from pairing.openclaw.stores import Store
from pairing.service import Service
from tests.folders import record

ONE, TWO = (Identity(number.to_bytes(32, "big")) for number in (21, 22))


async def call(service: Service, method: str, **params: object) -> None:
    await methods.call(service, local_caller(), method, Raw(json.encode(params)))


async def brought(service: Service, home: Path) -> None:
    """Bring two devices in."""
    records = {device.device: Raw(json.encode(record(device))) for device in (ONE, TWO)}
    store = Store(source="elsewhere", path=home, paired=records, pending={}, nodes={}, codes=0)
    await move(service, local_caller(), store, {"reason": None, "ticket": None}, dry=False, watch=lambda done, total: None)


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    """A state folder with two devices, of which the first was locked last; beside it the log as it was before."""
    folder = tmp_path / "home"
    settings.ensure_home(folder)
    rules = settings.load(folder, env={}, flags={})
    async with open_all(rules, env={}) as opened:
        await brought(opened.service, folder)
        await opened.views.catch_up()
    shutil.copy(folder / "log.db", tmp_path / "earlier.db")
    async with open_all(rules, env={}) as opened:
        await call(opened.service, "device.lock", deviceId=ONE.device)
        await opened.views.catch_up()
    return folder


def cut(home: Path, kind: str) -> int:
    """Take the last row of a kind out, as nobody may, and return its position."""
    with closing(sqlite3.connect(home / "log.db")) as database:
        kept = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in kept:
            database.execute(f"DROP TRIGGER {name}")
        ((last,),) = database.execute("SELECT max(position) FROM events WHERE kind = ?", (kind,)).fetchall()
        database.execute("DELETE FROM events WHERE position = ?", (last,))
        for _, text in kept:
            database.execute(text)
        database.commit()
    return int(last)


async def test_a_stream_that_lost_its_last_row_is_closed_and_the_others_go_on(home: Path) -> None:
    """D1, V7: without its lock the device would be let in; it is refused, by the place where the row is missing (D2)."""
    async with open_all(settings.load(home, env={}, flags={}), env={}) as opened:
        # Something of another stream is recorded after it: the end of the log is not what was cut.
        await call(opened.service, "node.pair.request", nodeId="n1", commands=["camera.snap"], caps=[])
        await opened.views.catch_up()
    lost = cut(home, "device.locked")
    async with open_all(settings.load(home, env={}, flags={}), env={}) as opened:
        with pytest.raises(StreamDamaged) as damaged:
            await opened.service.desk.device(ONE.device)
        assert (damaged.value.position, "missing" in str(damaged.value)) == (lost, True)
        with pytest.raises(StreamDamaged):
            await call(opened.service, "device.pair.rename", deviceId=ONE.device, label="x")
        assert (await opened.service.desk.device(TWO.device)).grant is not None


async def test_an_earlier_log_that_was_put_back_is_no_damage(home: Path) -> None:
    """The views look at the log again before they accuse it: what they knew was another log's."""
    for suffix in ("-wal", "-shm"):
        (home / f"log.db{suffix}").unlink(missing_ok=True)
    shutil.copy(home.parent / "earlier.db", home / "log.db")
    async with open_all(settings.load(home, env={}, flags={}), env={}) as opened:
        state = await opened.service.desk.device(ONE.device)
        assert (state.grant is not None, state.lock) == (True, None)
