"""Devices of OpenClaw's own gateway go on here: with the tokens that they have, and with nothing that was ended here."""

import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.compose import local_caller
from pairing.commands import Caller
from pairing.events import Actor
from pairing.identity import Identity
from pairing.openclaw import stores
from pairing.openclaw.moving import Report, move

from .conftest import World

Make = Callable[..., Awaitable[World]]
READ = ("operator.read",)
# What a token of OpenClaw looks like: 43 letters of base64url. These are made up, and say so.
LAPTOP_TOKEN = "made-up-laptop-token-abcdefghijklmnopqrstuv"
NODE_TOKEN = "made-up-node-token-0123456789abcdefghijklmn"
OLD_TOKEN = "made-up-old-token-ABCDEFGHIJKLMNOPQRSTUVWXY"
SURFACE_TOKEN = "made-up-surface-token-abcdefghijklmnopqrstu"


def paired(device: Identity, tokens: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A record as devices/paired.json has it."""
    record = {
        "deviceId": device.device,
        "publicKey": device.key,
        "displayName": "Ada's laptop",
        "platform": "linux",
        "clientId": "test",
        "clientMode": "test",
        "role": "operator",
        "roles": ["operator"],
        "scopes": list(READ),
        "approvedScopes": list(READ),
        "tokens": tokens,
        "createdAtMs": 1_700_000_000_000,
        "approvedAtMs": 1_700_000_000_000,
    }
    return record | more


def token(value: str, *scopes: str, role: str = "operator", **more: Any) -> dict[str, Any]:
    return {"token": value, "role": role, "scopes": list(scopes), "createdAtMs": 1_700_000_000_000, **more}


def laptop(device: Identity, **more: Any) -> dict[str, Any]:
    return paired(device, {"operator": token(LAPTOP_TOKEN, *READ)}, **more)


def files(folder: Path, *records: Any, nodes: dict[str, Any] | None = None, pending: dict[str, Any] | None = None) -> Path:
    """Write a state folder as 2026.4 keeps it."""
    (folder / "devices").mkdir(parents=True)
    (folder / "nodes").mkdir()
    (folder / "devices" / "paired.json").write_text(json.dumps({record["deviceId"]: record for record in records}))
    (folder / "devices" / "pending.json").write_text(json.dumps(pending or {}))
    (folder / "nodes" / "paired.json").write_text(json.dumps(nodes or {}))
    return folder


COLUMNS = {
    "device_id": "TEXT", "public_key": "TEXT", "display_name": "TEXT", "operator_label": "TEXT", "platform": "TEXT",
    "device_family": "TEXT", "client_id": "TEXT", "client_mode": "TEXT", "browser_origin": "TEXT", "role": "TEXT",
    "roles_json": "TEXT", "scopes_json": "TEXT", "approved_scopes_json": "TEXT", "remote_ip": "TEXT", "tokens_json": "TEXT",
    "approved_via": "TEXT", "node_surface_json": "TEXT", "pending_node_surface_json": "TEXT", "created_at_ms": "INTEGER",
    "approved_at_ms": "INTEGER", "last_seen_at_ms": "INTEGER", "last_seen_reason": "TEXT",
}  # fmt: skip


def database(folder: Path, *rows: dict[str, Any]) -> sqlite3.Connection:
    """Write a state folder as 2026.9 keeps it; the last rows stand in the write-ahead file until the connection is closed."""
    (folder / "state").mkdir(parents=True)
    db = sqlite3.connect(folder / stores.DATABASE)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"CREATE TABLE device_pairing_paired ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())}) STRICT")
    db.execute("CREATE TABLE device_pairing_pending (request_id TEXT, device_id TEXT, ts INTEGER) STRICT")
    db.execute("CREATE TABLE device_bootstrap_tokens (token_key TEXT) STRICT")
    db.commit()
    for row in rows:
        names = ", ".join(row)
        db.execute(f"INSERT INTO device_pairing_paired ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    db.commit()
    return db


async def bring(world: World, folder: Path, *, dry: bool = False, by: Caller | None = None) -> Report:
    said = {"reason": "moving house", "ticket": None}
    service = world.opened.service
    return await move(service, by or local_caller(), stores.read(folder), said, dry=dry, watch=lambda done, total: None)


def whys(report: Report) -> str:
    return " | ".join(f"{left.what}: {left.why}" for left in report.unplaced)


async def test_an_imported_device_goes_on_with_the_token_that_it_has(world: Make, tmp_path: Path) -> None:
    """Its approval is as it was, its origin is marked, and what is stored is no token (T14)."""
    w = await world()
    device = w.device()
    report = await bring(w, files(tmp_path / "theirs", laptop(device, operatorLabel="front desk")))
    assert (report.count("imported"), report.unplaced) == (1, ())
    session = await w.session(device, LAPTOP_TOKEN, scopes=READ)
    assert session.token == LAPTOP_TOKEN
    entry = await (await w.admin()).entry(device)
    assert (entry["approvedVia"], entry["scopes"], entry["operatorLabel"]) == ("imported", list(READ), "front desk")
    assert entry["approvedAtMs"] == 1_700_000_000_000
    (row,) = await w.records("device.imported")
    assert (b"OpenClaw 2026.4" in row.body, b"moving house" in row.meta) == (True, True)
    await w.opened.activity.flush()
    for file in w.rules.home.rglob("*"):
        if file.is_file():
            assert LAPTOP_TOKEN.encode() not in file.read_bytes(), file


async def test_an_imported_token_is_good_for_its_device_and_role_alone(world: Make, tmp_path: Path) -> None:
    """T12: neither another device nor another role comes in by it, and nothing near it does."""
    w = await world()
    one, other = w.device(), w.device()
    await bring(w, files(tmp_path / "theirs", laptop(one), paired(other, {"operator": token(OLD_TOKEN, *READ)})))
    for device, value in ((other, LAPTOP_TOKEN), (one, OLD_TOKEN), (one, LAPTOP_TOKEN[:-1]), (one, LAPTOP_TOKEN + "A")):
        refused = await w.by_token(device, value, remote=True, scopes=READ)
        assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH", refused


async def test_the_shared_secret_alone_is_not_handed_an_imported_token(world: Make, tmp_path: Path) -> None:
    """Nobody here knows its value; the device keeps what it stored (T4)."""
    w = await world()
    device = w.device()
    await bring(w, files(tmp_path / "theirs", laptop(device)))
    session = await w.inside(device, scopes=READ)
    assert "deviceToken" not in session.hello["auth"]


async def test_a_rotation_ends_an_imported_token(world: Make, tmp_path: Path) -> None:
    """T1: from then on the device's token is one of ours."""
    w = await world()
    device = w.device()
    await bring(w, files(tmp_path / "theirs", laptop(device)))
    admin = await w.admin()
    assert (await admin.call("device.token.rotate", {"deviceId": device.device, "role": "operator"})).ok
    refused = await w.by_token(device, LAPTOP_TOKEN, remote=True, scopes=READ)
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    again = await w.inside(device, scopes=READ)
    assert again.token != LAPTOP_TOKEN
    await w.session(device, again.token, scopes=READ)


async def test_a_token_that_was_revoked_there_is_revoked_here(world: Make, tmp_path: Path) -> None:
    """V7: an import brings no dead token to life."""
    w = await world()
    device = w.device()
    both = {"operator": token(OLD_TOKEN, *READ, revokedAtMs=1_700_000_000_001), "node": token(NODE_TOKEN, role="node")}
    await bring(w, files(tmp_path / "theirs", paired(device, both, roles=["operator", "node"])))
    refused = await w.by_token(device, OLD_TOKEN, remote=True, scopes=READ)
    assert refused.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    await w.session(device, NODE_TOKEN, role="node", client={"id": "test", "mode": "test"})


async def test_what_was_ended_here_stays_ended_and_what_is_here_stays_as_it_is(world: Make, tmp_path: Path) -> None:
    """V7: neither a removal nor a rotation of ours is undone by importing again."""
    w = await world()
    gone, kept = w.device(), w.device()
    theirs = files(tmp_path / "theirs", laptop(gone), paired(kept, {"operator": token(OLD_TOKEN, *READ)}))
    await bring(w, theirs)
    admin = await w.admin()
    assert (await admin.call("device.pair.remove", {"deviceId": gone.device})).ok
    assert (await admin.call("device.token.rotate", {"deviceId": kept.device, "role": "operator"})).ok
    before = await w.opened.log.head()
    report = await bring(w, theirs)
    assert (report.count("already-here"), report.count("not-placed")) == (1, 1)
    assert "removed here" in whys(report)
    assert await w.opened.log.head() == before
    for device, value in ((gone, LAPTOP_TOKEN), (kept, OLD_TOKEN)):
        assert (await w.by_token(device, value, remote=True, scopes=READ)).details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


async def test_a_dry_run_says_the_same_and_stores_nothing(world: Make, tmp_path: Path) -> None:
    """L13: looking changes nothing."""
    w = await world()
    theirs = files(tmp_path / "theirs", laptop(w.device()))
    before = await w.opened.log.head()
    would = await bring(w, theirs, dry=True)
    assert await w.opened.log.head() == before
    did = await bring(w, theirs)
    assert [(line.id, line.outcome) for line in would.lines] == [(line.id, line.outcome) for line in did.lines]


UNPLACEABLE: dict[str, tuple[Callable[[Identity, Identity], dict[str, Any]], str]] = {
    "another's id": (lambda one, two: laptop(one) | {"publicKey": two.key}, "not that of its public key"),
    "no key": (lambda one, two: laptop(one, publicKey="%%%"), "no Ed25519 key"),
    "a role nobody knows": (lambda one, two: laptop(one, roles=["superuser"]), "role is unknown"),
    "no role": (lambda one, two: laptop(one, roles=[], role=None), "role is unknown"),
    "no token": (lambda one, two: paired(one, {}), "no token that works"),
    "a placeholder": (lambda one, two: paired(one, {"operator": token("__OPENCLAW_REDACTED__", *READ)}), "is no token"),
    "a row of stars": (lambda one, two: paired(one, {"operator": token("_" * 43, *READ)}), "is no token"),
    "too wide a token": (lambda one, two: paired(one, {"operator": token(OLD_TOKEN, "operator.admin")}), "beyond the scopes"),
    "a token of another role": (lambda one, two: paired(one, {"node": token(NODE_TOKEN, role="node")}), "not approved"),
    "another shape": (lambda one, two: laptop(one, scopes="operator.read"), "no such record"),
}


@pytest.mark.parametrize("case", UNPLACEABLE)
async def test_what_cannot_be_placed_is_named_and_the_rest_is_placed(world: Make, tmp_path: Path, case: str) -> None:
    """D3, D8, T15, N1: one record that does not fit is listed with its reason; no value of a token is ever shown."""
    w = await world()
    spoil, why = UNPLACEABLE[case]
    good, bad = w.device(), w.device()
    report = await bring(w, files(tmp_path / "theirs", laptop(good), spoil(bad, w.device())))
    assert {line.id: line.outcome for line in report.lines} == {good.device: "imported", bad.device: "not-placed"}
    assert why in whys(report)
    assert not any(value in repr(report) for value in (LAPTOP_TOKEN, OLD_TOKEN, NODE_TOKEN))


async def test_what_nobody_answered_and_codes_are_left_behind(world: Make, tmp_path: Path) -> None:
    """A request that waits is asked again by its device; a setup code lives for minutes."""
    w = await world()
    theirs = files(tmp_path / "theirs", laptop(w.device()), pending={"r1": {"requestId": "r1"}})
    (theirs / "devices" / "bootstrap.json").write_text('{"x": {}}')
    report = await bring(w, theirs)
    assert ([left.what for left in report.left], report.unplaced) == (["request r1", "1 setup codes"], ())


async def test_what_a_node_may_run_comes_along_with_its_token(world: Make, tmp_path: Path) -> None:
    """A11: the approval of its commands, no more and no less; the node is not asked about again."""
    w = await world()
    device = w.device()
    held = {"nodeId": device.device, "token": SURFACE_TOKEN, "caps": ["system"], "commands": ["system.run"], "approvedAtMs": 5}
    record = paired(device, {"node": token(NODE_TOKEN, role="node")}, role="node", roles=["node"], scopes=[], approvedScopes=[])
    report = await bring(w, files(tmp_path / "theirs", record, nodes={device.device: held}))
    assert (report.count("imported"), report.count("imported", "node")) == (1, 1)
    admin = await w.admin()
    (entry,) = (await admin.call("node.pair.list", {})).payload["paired"]
    assert (entry["nodeId"], entry["commands"]) == (device.device, ["system.run"])
    for value, right in ((SURFACE_TOKEN, True), (NODE_TOKEN, False), ("", False)):
        verified = await admin.call("node.pair.verify", {"nodeId": device.device, "token": value or "x"})
        assert verified.payload["ok"] is right


async def test_the_database_is_read_with_what_stands_in_its_write_ahead_file(world: Make, tmp_path: Path) -> None:
    """D1: rows that its gateway has committed and not yet moved are rows; the original is not touched."""
    w = await world()
    device = w.device()
    row = {
        "device_id": device.device,
        "public_key": device.key,
        "display_name": "Ada's laptop",
        "operator_label": "front desk",
        "client_id": "test",
        "client_mode": "test",
        "platform": "linux",
        "role": "operator",
        "roles_json": '["operator"]',
        "scopes_json": '["operator.read"]',
        "approved_scopes_json": '["operator.read"]',
        "tokens_json": json.dumps({"operator": token(LAPTOP_TOKEN, *READ)}),
        "node_surface_json": json.dumps({"caps": [], "commands": ["camera.snap"], "approvedAtMs": 5}),
        "created_at_ms": 1,
        "approved_at_ms": 2,
    }
    theirs = tmp_path / "theirs"
    with closing(database(theirs, row)):
        before = {file.name: file.read_bytes() for file in (theirs / "state").iterdir()}
        report = await bring(w, theirs)
        assert {file.name: file.read_bytes() for file in (theirs / "state").iterdir()} == before
    assert (report.count("imported"), report.count("imported", "node"), report.unplaced) == (1, 1, ())
    await w.session(device, LAPTOP_TOKEN, scopes=READ)
    assert (await (await w.admin()).entry(device))["operatorLabel"] == "front desk"


async def test_nobody_without_the_rights_imports(world: Make, tmp_path: Path) -> None:
    """A1, A2: an import grants, and is held to what its caller holds."""
    w = await world()
    theirs = files(tmp_path / "theirs", laptop(w.device()))
    for scopes in (None, (), ("operator.read",), ("operator.pairing",)):
        caller = Caller(actor=Actor("local", "1000"), scopes=scopes)
        report = await bring(w, theirs, by=caller)
        assert (report.count("imported"), "import denied" in whys(report)) == (0, True)
    enough = Caller(actor=Actor("local", "1000"), scopes=("operator.pairing", "operator.read"))
    assert (await bring(w, theirs, by=enough)).count("imported") == 1
