"""`pairing log` and its proofs and copies: beside a gateway and through it, for a person and for a script."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from click.testing import CliRunner, Result

from cli import anchoring
from cli.compose import open_custody
from cli.main import pairing
from pairing.log import checkpoint
from pairing.refusals import Exit
from pairing.settings import load
from tests.receiver import Answer, receiving

CHECKER = Path(__file__).resolve().parent.parent / "scripts" / "verify_log.py"
PROGRAM = [sys.executable, "-m", "cli.main"]
REMOTE = ("--header", "X-Forwarded-For: 203.0.113.7")


class Gateway(NamedTuple):
    """A gateway that runs, its state folder, and how to name it from outside."""

    home: Path
    url: str
    token: str

    def run(self, *args: str, home: Path | None = None) -> Result:
        clean = dict.fromkeys(name for name in os.environ if name.startswith("PAIRING_"))
        return CliRunner().invoke(pairing, ["log", *args], env={**clean, "PAIRING_HOME": str(home or self.home)})

    def json(self, *args: str, home: Path | None = None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*args, "--json", home=home).stdout)
        return found

    @property
    def there(self) -> tuple[str, ...]:
        return ("--url", self.url, "--token", self.token)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a paired device, one that waits, and a fixed log: whoever tampers does so on a copy."""
    folder = tmp_path_factory.mktemp("trust")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    home = folder / "gateway"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAIRING_")}
    env |= {"PAIRING_HOME": str(home), "PAIRING_GATEWAY_PORT": str(port)}
    process = subprocess.Popen([*PROGRAM, "serve"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    try:
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        token, url = (home / "shared-token").read_text().strip(), f"ws://127.0.0.1:{port}"
        for name, more, code in (("here", (), 0), ("afar", REMOTE, 3)):
            ask = [*PROGRAM, "connect", "--home", str(folder / name), "--url", url, "--token", token, *more]
            assert subprocess.run(ask, env=env, capture_output=True, check=False).returncode == code
        yield Gateway(home, url, token)
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def copy(gateway: Gateway, tmp_path: Path) -> Path:
    """A state folder of its own: the log as a backup, and the key."""
    assert gateway.run("backup", str(tmp_path / "b.db"), "--with-key").exit_code == 0
    made = gateway.run("import", str(tmp_path / "b.db"), "--into", str(tmp_path / "copy"), "--with-key")
    assert made.exit_code == 0, made.output
    return tmp_path / "copy"


def tamper(home: Path, *statements: str) -> None:
    with closing(sqlite3.connect(home / "log.db")) as database:
        guards = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            database.execute(f"DROP TRIGGER {name}")
        for sql in statements:
            database.execute(sql)
        for _, guard in guards:
            database.execute(guard)
        database.commit()


def stranger(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-I", str(CHECKER), *args], capture_output=True, text=True, check=False)


def test_both_doors_say_the_same(gateway: Gateway) -> None:
    """Status and verification of the file, and of the gateway that has it open (D5)."""
    here, there = gateway.json("status"), gateway.json("status", *gateway.there)
    assert here == there
    assert here["position"] >= 4
    one, other = gateway.json("verify"), gateway.json("verify", *gateway.there)
    assert other["path"] == f"the log of {gateway.url}"
    assert {**one, "path": ""} == {**other, "path": ""}
    assert one["notChecked"] == ["truncation"]
    assert gateway.json("key")["verifiers"] == here["verifiers"] == gateway.json("key", *gateway.there)["verifiers"]


@pytest.mark.parametrize("way", ["file", "gateway"])
def test_a_checkpoint_kept_elsewhere_shows_a_cut_off_end(gateway: Gateway, copy: Path, tmp_path: Path, way: str) -> None:
    """L5, L10: with it the end is checked, and missing rows are counted; without it that is said."""
    kept = tmp_path / "kept"
    there = gateway.there if way == "gateway" else ()
    assert gateway.run("checkpoint", "--out", str(kept), *there).exit_code == 0
    assert kept.stat().st_mode & 0o777 == 0o600
    told = gateway.run("verify", "--checkpoint", str(kept), *there)
    assert (told.exit_code, "are those that were signed for" in told.stdout) == (0, True)
    assert "Not checked" not in told.stderr
    size = checkpoint.unjudged(kept.read_text()).size
    assert gateway.json("verify", "--checkpoint", str(kept), home=copy)["anchor"] == {
        "origin": checkpoint.unjudged(kept.read_text()).origin,
        "size": size,
        "why": None,
    }
    tamper(copy, f"DELETE FROM events WHERE position > {size - 1}")
    assert gateway.run("verify", home=copy).exit_code == 0
    cut = gateway.run("verify", "--checkpoint", str(kept), home=copy)
    assert cut.exit_code == Exit.BROKEN
    assert f"the log ends at position {size - 1}, but {size} rows were signed for: its end was cut off" in cut.stderr
    error = gateway.json("checkpoint", "--since", str(kept), home=copy)["error"]
    assert (error["reason"], "its end was cut off" in error["message"]) == ("log-forked", True)
    before = kept.read_text()
    assert gateway.run("checkpoint", "--out", str(kept), home=copy).exit_code == Exit.BROKEN
    assert kept.read_text() == before


def test_a_history_written_anew_is_not_the_one_signed_for(gateway: Gateway, copy: Path, tmp_path: Path) -> None:
    """L5: a chain forged whole fits itself, and not the checkpoint."""
    from pairing.log.chain import personal_hash, row_hash

    kept = tmp_path / "kept"
    gateway.run("checkpoint", "--out", str(kept))
    every = "SELECT e.*, s.name FROM events AS e JOIN streams AS s ON s.id = e.stream ORDER BY position"
    with closing(sqlite3.connect(copy / "log.db")) as database:
        rows = database.execute(every).fetchall()
    changes, previous = [], b""
    for n, (position, _, version, kind, at, _, meta, body, personal, veiled, digest, name) in enumerate(rows):
        if n:
            shown = None if personal is None else personal_hash(personal.encode())
            assert shown == veiled
            digest = row_hash(previous, position, name, version, kind, at + 1, meta.encode(), body.encode(), veiled)
            changes.append(f"UPDATE events SET recorded_at = {at + 1}, hash = x'{digest.hex()}' WHERE position = {position}")
        previous = digest
    tamper(copy, *changes)
    assert gateway.run("verify", home=copy).exit_code == 0
    told = gateway.run("verify", "--checkpoint", str(kept), home=copy)
    assert told.exit_code == Exit.BROKEN
    assert "history was written anew" in told.stderr


def test_a_checkpoint_is_trusted_for_its_key_alone(gateway: Gateway, copy: Path, tmp_path: Path) -> None:
    """Without the gateway key a verifier key will do; one that was altered, or another's, is refused by name."""
    kept = tmp_path / "kept"
    gateway.run("checkpoint", "--out", str(kept))
    key = gateway.json("key")["verifiers"][0]
    (copy / "gateway-key").unlink()
    refused = gateway.run("verify", "--checkpoint", str(kept), home=copy)
    assert (refused.exit_code, "--key VKEY" in refused.stderr) == (Exit.BROKEN, True)
    assert gateway.run("verify", "--checkpoint", str(kept), "--key", key, home=copy).exit_code == 0
    kept.write_text(kept.read_text().replace("chain ", "chain 0", 1))
    changed = gateway.run("verify", "--checkpoint", str(kept), "--key", key, home=copy)
    assert (changed.exit_code, "does not fit" in changed.stderr) == (Exit.BROKEN, True)
    assert gateway.run("verify", "--checkpoint", str(tmp_path / "nothing")).exit_code == Exit.NOT_FOUND
    assert gateway.run("verify", "--checkpoint", str(kept), "--key", "nonsense").exit_code == Exit.BROKEN
    assert gateway.run("checkpoint", home=copy).exit_code == Exit.BROKEN


@pytest.mark.parametrize("way", ["file", "gateway"])
def test_a_receipt_is_checked_by_a_stranger(gateway: Gateway, tmp_path: Path, way: str) -> None:
    """One event, proven offline without our code; changed, it proves nothing (L5)."""
    there = gateway.there if way == "gateway" else ()
    file, key = tmp_path / "receipt", gateway.json("key")["verifiers"][0]
    assert gateway.run("receipt", "2", "--out", str(file), *there).exit_code == 0
    told = stranger("receipt", str(file), "--key", key)
    kind = json.loads(file.read_text())["row"]["kind"]
    assert (told.returncode, told.stdout.partition(" of ")[0]) == (0, kind)
    assert "salt" not in file.read_text()
    file.write_text(file.read_text().replace('"recorded_at": 1', '"recorded_at": 2'))
    changed = stranger("receipt", str(file), "--key", key)
    assert (changed.returncode, "not what its hash stands for" in changed.stderr) == (1, True)
    missing = gateway.run("receipt", "100000", *there)
    assert (missing.exit_code, "no event at position 100000" in missing.stderr) == (Exit.NOT_FOUND, True)


def test_a_stranger_checks_checkpoints(gateway: Gateway, copy: Path, tmp_path: Path) -> None:
    """The signature, an older one as the beginning by the proof that is printed, and an export under it."""
    old, new, key = tmp_path / "old", tmp_path / "new", gateway.json("key")["verifiers"][0]
    gateway.run("checkpoint", "--out", str(old))
    settings = load(copy, env={}, flags={"gateway.auth.token": "an-example-of-a-token"})

    async def start() -> None:
        from cli.compose import open_all
        from cli.serve import _started

        async with open_all(settings, env={}) as opened:
            await _started(opened, settings, "instance", [("127.0.0.1", 1)])

    anyio.run(start)
    found = gateway.json("checkpoint", "--since", str(old), "--out", str(new), home=copy)
    assert found["since"] == checkpoint.unjudged(old.read_text()).size < found["size"]
    assert stranger("checkpoint", str(new), "--key", key, "--since", str(old), "--proof", *found["proof"]).returncode == 0
    assert stranger("checkpoint", str(new), "--key", key, "--since", str(old), "--proof", *found["proof"][:-1]).returncode == 1
    export = tmp_path / "e"
    assert gateway.run("export", str(export), home=copy).exit_code == 0
    assert "is theirs" in stranger("export", str(export), "--checkpoint", str(new), "--key", key).stdout
    short = tmp_path / "short"
    assert gateway.run("export", str(short), "--to", "3", home=copy).exit_code == 0
    cut = stranger("export", str(short), "--checkpoint", str(new), "--key", key)
    assert (cut.returncode, "the end was cut off" in cut.stderr) == (1, True)


def test_both_doors_export_the_same_bytes(gateway: Gateway, tmp_path: Path) -> None:
    """From the file, from the gateway's pages, and on standard output."""
    one, other = tmp_path / "one", tmp_path / "other"
    assert gateway.run("export", str(one)).exit_code == 0
    assert gateway.run("export", str(other), *gateway.there).exit_code == 0
    assert one.read_bytes() == other.read_bytes() == gateway.run("export", "-").stdout_bytes
    assert one.stat().st_mode & 0o777 == 0o600
    assert gateway.json("export", str(tmp_path / "part"), "--from", "2", "--to", "3")["rows"] == 2
    taken = gateway.run("export", str(one))
    assert (taken.exit_code, "left as it is" in taken.stderr) == (Exit.REFUSED, True)
    assert gateway.run("export", str(tmp_path / "x"), "--from", "100000").exit_code == Exit.NOT_FOUND
    assert gateway.run("export", str(tmp_path / "x"), "--redact", "--from", "2").exit_code == Exit.USAGE


def test_a_support_bundle_comes_in_and_says_nothing(gateway: Gateway, tmp_path: Path) -> None:
    """L7: no secret, no device, no address; and it is a log that verifies."""
    bundle = tmp_path / "bundle"
    assert gateway.json("export", str(bundle), "--redact")["redacted"] is True
    text = bundle.read_text()
    env = {"PAIRING_HOME": str(gateway.home), "PAIRING_GATEWAY_URL": gateway.url, "PAIRING_GATEWAY_TOKEN": gateway.token}
    listing = [*PROGRAM, "devices", "list", "--json"]
    listed = subprocess.run(listing, env={**os.environ, **env}, capture_output=True, text=True, check=True)
    document = json.loads(listed.stdout)
    for entry in (*document["pending"], *document["paired"]):
        for word in (entry["deviceId"], entry.get("publicKey"), entry.get("displayName"), entry.get("remoteIp")):
            assert not word or word not in text
    for name in ("shared-token", "gateway-key"):
        assert (gateway.home / name).read_text().strip().rpartition(":")[2] not in text
    assert socket.gethostname() not in text
    made = gateway.run("import", str(bundle), "--into", str(tmp_path / "in"))
    assert (made.exit_code, "redacted history" in made.stderr) == (0, True)
    assert gateway.run("verify", home=tmp_path / "in").exit_code == 0
    assert stranger("export", str(bundle)).returncode == 0


def test_a_backup_through_either_door(gateway: Gateway, copy: Path, tmp_path: Path) -> None:
    """A gateway keeps it beside its log; here it goes where it is told; both come in as the same log."""
    there = gateway.json("backup", *gateway.there)
    assert Path(there["path"]).parent == gateway.home / "backups"
    assert Path(there["path"]).stat().st_mode & 0o777 == 0o600
    assert gateway.json("import", there["path"], "--into", str(tmp_path / "in"))["hash"] == there["hash"]
    assert gateway.run("backup", str(tmp_path / "x"), *gateway.there).exit_code == Exit.USAGE
    assert gateway.run("backup").exit_code == Exit.USAGE
    assert gateway.json("status", home=copy)["hash"] == there["hash"]
    assert (copy / "gateway-key").read_text() == (gateway.home / "gateway-key").read_text()
    full = gateway.run("import", there["path"], "--into", str(copy))
    assert (full.exit_code, "left as it is" in full.stderr) == (Exit.REFUSED, True)
    assert gateway.run("import", str(tmp_path / "none"), "--into", str(tmp_path / "y")).exit_code == Exit.NOT_FOUND
    nothing = gateway.run("import", str(CHECKER), "--into", str(tmp_path / "y"))
    assert (nothing.exit_code, "no export" in nothing.stderr) == (Exit.BROKEN, True)


def test_the_gateway_writes_checkpoints_and_never_over_its_evidence(copy: Path, tmp_path: Path) -> None:
    """The timer's checkpoint continues the one before; where the log does not, the old one stays as it was."""
    file = tmp_path / "kept"

    async def once() -> None:
        async with open_custody(copy, env={}) as custody:
            assert custody.notary is not None
            await anchoring.once(custody.notary, file, copy)

    anyio.run(once)
    first = file.read_text()
    assert (copy / "last-checkpoint").read_text() == first
    size = checkpoint.unjudged(first).size
    tamper(copy, f"DELETE FROM events WHERE position = {size}")
    anyio.run(once)
    assert file.read_text() == first
    file.write_bytes(b"\xff no checkpoint")
    anyio.run(once)
    assert file.read_bytes() == b"\xff no checkpoint"


def test_a_running_gateway_writes_it_by_itself(copy: Path, tmp_path: Path) -> None:
    """With a file in the settings the gateway writes a checkpoint soon after its start."""
    (copy / "config.toml").write_text(f'[gateway.log.checkpoint]\nfile = "{tmp_path / "kept"}"\neveryMs = 1000\n')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAIRING_")}
    env["PAIRING_HOME"] = str(copy)
    serve = [*PROGRAM, "serve", "--port", port]
    process = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stderr is not None
        assert any("checkpoint written" in line for line in process.stderr)
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert checkpoint.unjudged((tmp_path / "kept").read_text()).size > 1


def test_checkpoints_are_posted_where_the_settings_say(copy: Path) -> None:
    """Each continues the one before; what was not taken is tried again, and an inside address is refused unless allowed."""
    (copy / "last-checkpoint").unlink(missing_ok=True)

    async def story() -> None:
        async with receiving() as receiver, open_custody(copy, env={}) as custody:
            assert custody.notary is not None
            allowed = {"gateway.hooks.allowPrivate": True, "gateway.log.checkpoint.url": receiver.url}
            open_rules = load(copy, env={}, flags=allowed)
            await anchoring.posted(custody.notary, receiver.url, load(copy, env={}, flags={}))
            assert (receiver.attempts, (copy / "last-checkpoint").exists()) == ([], False)
            receiver.answer = lambda message: Answer(503)
            await anchoring.posted(custody.notary, receiver.url, open_rules)
            assert not (copy / "last-checkpoint").exists()
            receiver.answer = lambda message: Answer()
            await anchoring.posted(custody.notary, receiver.url, open_rules)
            (taken,) = receiver.taken
            assert (taken.headers["content-type"], "Bearer" in str(taken.headers)) == ("text/plain; charset=utf-8", False)
            assert (copy / "last-checkpoint").read_text() == taken.body.decode()

    anyio.run(story)
    tamper(copy, f"DELETE FROM events WHERE position = {checkpoint.unjudged((copy / 'last-checkpoint').read_text()).size}")

    async def after_a_cut() -> None:
        async with receiving() as receiver, open_custody(copy, env={}) as custody:
            assert custody.notary is not None
            await anchoring.posted(custody.notary, receiver.url, load(copy, env={}, flags={"gateway.hooks.allowPrivate": True}))
            assert receiver.attempts == []

    anyio.run(after_a_cut)


def test_a_checkpoint_is_posted_once_on_demand(copy: Path) -> None:
    """A person names the address; what is not taken is said, and a URL with a secret in it is refused."""

    async def story() -> None:
        async with receiving() as receiver:
            run = partial(CliRunner().invoke, pairing, env={"PAIRING_HOME": str(copy)})
            done = await anyio.to_thread.run_sync(partial(run, ["log", "checkpoint", "--post", receiver.url]))
            assert (done.exit_code, len(receiver.taken)) == (0, 1)
            receiver.answer = lambda message: Answer(500)
            refused = await anyio.to_thread.run_sync(partial(run, ["log", "checkpoint", "--post", receiver.url]))
            assert (refused.exit_code, "HTTP 500" in refused.stderr) == (Exit.UNREACHABLE, True)
            unfit = await anyio.to_thread.run_sync(partial(run, ["log", "checkpoint", "--post", "https://x.example/?token=1"]))
            assert unfit.exit_code == Exit.USAGE

    anyio.run(story)


def test_a_log_without_events_is_not_signed_for(tmp_path: Path) -> None:
    """Each command says so, and what to run (A20)."""
    for args in (("checkpoint",), ("receipt", "1"), ("key",), ("export", "-"), ("backup", str(tmp_path / "b"))):
        told = CliRunner().invoke(pairing, ["log", *args], env={"PAIRING_HOME": str(tmp_path / "home")})
        assert (told.exit_code, "pairing serve" in told.stderr) == (Exit.NOT_FOUND, True)
    assert not (tmp_path / "home").exists()
