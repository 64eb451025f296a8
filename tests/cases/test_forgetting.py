"""L6: forgetting a device, through a running gateway and beside it. What pointed at a person is nowhere; the proof stays."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cli.door import LogDoor
from pairing.commands import Forget
from pairing.log.chain import verify
from pairing.log.codec import decode, decode_meta
from projections import expendable

ADMIN, PAIRING, READ = ("operator.admin",), ("operator.pairing",), ("operator.read",)
ZAPHOD = {"displayName": "Zaphod Beeblebrox"}
ADDRESS = "203.0.113.77"


def traces(folder: Path, *words: str) -> list[tuple[str, str]]:
    """Which files of a folder hold which words, byte for byte."""
    return [
        (file.name, word)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        for word in words
        if word.encode() in file.read_bytes()
    ]


async def forget(client, device, reason="asked to be erased"):
    return await client.call("device.forget", {"deviceId": device.device, "reason": reason})


async def someone(w, admin, **more):
    """A device with a name, an address, a label, a node's surface and a refused contact."""
    device = w.device()
    via = {"X-Forwarded-For": ADDRESS}
    request = await w.ask(device, scopes=ADMIN, client=ZAPHOD, headers=via, remote=False)
    assert (await admin.approve(request)).ok
    session = await w.inside(device, scopes=ADMIN, client=ZAPHOD, headers=via)
    assert (await admin.call("device.pair.rename", {"deviceId": device.device, "label": "Trillian's toy"})).ok
    asked = {"nodeId": device.device, "displayName": "Zaphod Beeblebrox", "commands": ["system.run"], "remoteIp": ADDRESS}
    assert (await admin.call("node.pair.request", asked)).ok
    await w.outside(device, auth={"token": "x", "deviceToken": "x"}, client=ZAPHOD, headers=via)
    return device, session


WORDS = ("Zaphod Beeblebrox", "Trillian's toy", ADDRESS)


@pytest.fixture
def proxied():
    return {"gateway.trustedProxies": ["127.0.0.1"]}


async def test_what_pointed_at_a_person_is_in_no_file_any_more(world, proxied):
    """L6: log, views, notes and their companions are searched byte for byte; the chain verifies, a rebuild adds nothing."""
    w = await world(proxied)
    admin = await w.admin()
    device, session = await someone(w, admin)
    home = w.rules.home
    await w.opened.views.catch_up()
    await w.opened.activity.flush()
    assert {name.partition(".")[0] for name, _ in traces(home, *WORDS)} == {"log", "views", "activity"}
    answer = await forget(admin, device)
    assert answer.ok, answer.error
    assert answer.payload["scrubbed"]
    await session.close()
    await w.opened.activity.flush()
    assert traces(home, *WORDS) == []
    rows = await w.opened.log.scan(limit=10_000)
    assert verify(rows) is None
    await w.opened.views.rebuild()
    assert traces(home, *WORDS) == []
    entry = await admin.entry(device)
    assert not {"displayName", "operatorLabel", "remoteIp"} & set(entry)


async def test_the_record_says_who_erased_how_much_and_why(world, proxied):
    """L1, L2: the fact stands before the erasure, with reason and actor, and nothing in it points at the person."""
    w = await world(proxied)
    admin = await w.admin()
    device, _ = await someone(w, admin)
    answer = (await forget(admin, device, "request 4711")).payload
    (record,) = await w.records("device.forgotten")
    assert answer["recorded"] == {"position": record.position, "kind": "device.forgotten"}
    assert decode(record).rows == answer["rows"] >= 3
    assert decode_meta(record).reason == "request 4711"
    assert decode_meta(record).actor.kind == "shared-secret"
    assert record.personal is None
    assert len(await w.records("node.forgotten")) == 1
    again = (await forget(admin, device)).payload
    assert (again["rows"], again["recorded"]["changed"]) == (0, False)
    assert len(await w.records("device.forgotten")) == 1


async def test_where_it_acted_on_others_it_is_forgotten_too(world, proxied):
    """L6: an operator's address stands in the rows of those it judged. What it called them is theirs, and stays."""
    w = await world(proxied)
    admin = await w.admin()
    device, session = await someone(w, admin)
    other = w.device()
    request = await w.ask(other, scopes=READ, client={"displayName": "Ford"})
    assert (await session.approve(request)).ok
    named = await session.call("device.pair.rename", {"deviceId": other.device, "label": "Guide"})
    assert named.ok
    answer = (await forget(admin, device)).payload
    kept = [row.position for row in await w.records("device.renamed") if decode_meta(row).actor.id == device.device]
    assert answer["kept"] == kept
    held = [row for row in await w.records() if row.personal and ADDRESS.encode() in row.personal]
    assert [row.position for row in held] == kept
    assert (await admin.entry(other))["operatorLabel"] == "Guide"


async def test_only_who_may_undo_nothing_may_forget(world, proxied):
    """A6: pairing rights are not enough; an unknown device is not taken for a forgotten one; words are asked for."""
    w = await world(proxied)
    admin = await w.admin()
    device, _ = await someone(w, admin)
    pairer = await w.grant(admin, w.device(), scopes=PAIRING)
    refused = await forget(pairer, device)
    assert refused.error["details"]["code"] == "FORGETTING_DENIED"
    assert (await forget(admin, w.device())).message == "unknown deviceId"
    assert not (await forget(admin, device, "")).ok
    assert not await w.records("device.forgotten")


async def test_another_process_forgets_while_the_gateway_runs(world, proxied):
    """D5, L6: beside a gateway the log is worked on directly; what the gateway holds in memory goes as well."""
    w = await world(proxied)
    admin = await w.admin()
    device, session = await someone(w, admin)
    await session.close()
    async with w.beside() as other:
        answer = await LogDoor(other.service).call("device.forget", {"deviceId": device.device, "reason": "on the host"})
    assert answer["rows"] >= 3
    await w.gateway.herald.reached(answer["recorded"]["position"])
    await w.opened.activity.flush()
    assert [contact for contact in await w.opened.activity.recent() if contact.device == device.device] == []
    assert not {"displayName", "operatorLabel", "remoteIp"} & set(await admin.entry(device))
    assert traces(w.rules.home, *WORDS) == []


async def test_an_erasure_cut_short_is_ended_by_asking_again(world, proxied):
    """D9: with the fact recorded and nothing erased yet, the same call erases."""
    w = await world(proxied)
    admin = await w.admin()
    device, _ = await someone(w, admin)
    await w.behind(Forget(device=device.device, rows=5, **w.stamp()))
    assert traces(w.rules.home, *WORDS)
    assert (await forget(admin, device)).payload["rows"] >= 3
    assert traces(w.rules.home, *WORDS) == []


async def test_a_reader_in_the_way_is_told_of(world, proxied, monkeypatch):
    """L10: where bytes may be left in a file, the answer says so and does not claim to be done."""
    monkeypatch.setattr(expendable, "_TRIES", 1)
    w = await world(proxied)
    admin = await w.admin()
    device, _ = await someone(w, admin)
    await w.opened.views.catch_up()
    with closing(sqlite3.connect(w.rules.home / "views.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        assert (await forget(admin, device)).payload["scrubbed"] is False
    assert (await forget(admin, device)).payload["scrubbed"] is True
    assert traces(w.rules.home, *WORDS) == []
