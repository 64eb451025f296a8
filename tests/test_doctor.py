"""`pairing doctor`: every finding is raised by its own defect alone, and its next command works; a healthy home has none."""

import asyncio
import json
import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner, Result

from cli import findings, symptoms
from cli.compose import local_caller, open_service
from cli.findings import CHECKS, Answering, Skipped
from cli.main import pairing
from pairing import ids, methods
from pairing.commands import AddHook, GiveUpHook, Knock, Redeem, Wanted
from pairing.log.port import Draft, Slice
from pairing.log.sqlite import SqliteLog
from pairing.refusals import Exit
from pairing.settings import load
from projections.views import Views
from tests.certificates import make

DAY_MS = 86_400_000
REMOTE = ("--header", "X-Forwarded-For: 203.0.113.7")


class Patient(NamedTuple):
    """A copy of a healthy home, beside a gateway that answers on the port the copy is configured for."""

    home: Path
    env: dict[str, str]
    patch: pytest.MonkeyPatch

    def run(self, *args: str) -> Result:
        clean = dict.fromkeys(name for name in os.environ if name.startswith("PAIRING_"))
        return CliRunner().invoke(pairing, args, env={**clean, "PAIRING_HOME": str(self.home), **self.env})

    def report(self, *args: str) -> dict[str, Any]:
        return json.loads(self.run("doctor", "--json", *args).stdout)

    def names(self) -> list[str]:
        return [finding["name"] for finding in self.report()["findings"]]

    def config(self, text: str) -> None:
        (self.home / "config.toml").write_text(text)
        (self.home / "config.toml").chmod(0o600)

    def write(self, kind: str, *, ahead: int = 0, followed: bool = True) -> None:
        """Append an event of some kind to a stream that is no device's, and let the views follow, or not."""

        async def work() -> None:
            log = await SqliteLog.open(self.home / "log.db")
            now = symptoms.clock() + ahead
            await log.append([Slice("elsewhere", 0, (Draft(kind, b"{}", b"{}"),))], command=ids.uuid7(now), now=now)
            if followed:
                views = await Views.open(log, self.home / "views.db")
                await views.catch_up()
                await views.close()
            await log.close()

        asyncio.run(work())

    def drop(self, name: str) -> None:
        for path in self.home.glob(f"{name}*"):
            path.unlink()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A home with a paired device, a device that waits, and the gateway that made them, still answering."""
    folder, port = tmp_path_factory.mktemp("doctor"), free_port()
    home = folder / "gateway"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAIRING_")}
    env |= {"PAIRING_HOME": str(home), "PAIRING_GATEWAY_PORT": str(port)}
    program = [sys.executable, "-m", "cli.main"]
    process = subprocess.Popen([*program, "serve"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    try:
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        token, url = (home / "shared-token").read_text().strip(), f"ws://127.0.0.1:{port}"
        for name, more, code in (("here", (), 0), ("afar", REMOTE, 3)):
            ask = [*program, "connect", "--home", str(folder / name), "--url", url, "--token", token, *more]
            assert subprocess.run(ask, env=env, capture_output=True, check=False).returncode == code
        listed = subprocess.run([*program, "devices", "list", "--json"], env=env, capture_output=True, check=True)
        assert len(json.loads(listed.stdout)["pending"]) == 1
        signing = [*program, "log", "checkpoint", "--out", "-"]
        assert subprocess.run(signing, env=env, capture_output=True, check=False).returncode == 0
        frozen = folder / "frozen"
        shutil.copytree(home, frozen)
        yield frozen, port
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def patient(healthy: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    template, port = healthy
    home = tmp_path / "home"
    shutil.copytree(template, home)
    home.chmod(0o700)
    monkeypatch.setattr(symptoms, "_WAIT_S", 0.0)
    return Patient(home, {"PAIRING_GATEWAY_PORT": str(port)}, monkeypatch)


def test_a_healthy_home_raises_nothing_and_is_left_as_it_is(patient: Patient) -> None:
    """Exit 0, every check run, and not a byte of log, key or settings changed."""
    before = {path.name: path.read_bytes() for path in patient.home.iterdir() if path.suffix not in {".db-shm"}}
    result = patient.run("doctor", "--json")
    assert json.loads(result.stdout) == {"ok": True, "home": str(patient.home), "findings": [], "notRun": []}
    assert result.exit_code == Exit.OK
    assert patient.run("doctor").stdout == f"Nothing is wrong with {patient.home}.\n"
    assert before.items() <= {path.name: path.read_bytes() for path in patient.home.iterdir()}.items()


# --- one defect each ---


def mode(name: str, bits: int) -> Callable[[Patient], None]:
    return lambda patient: (patient.home / name).chmod(bits)


def damaged_row(patient: Patient) -> None:
    with sqlite3.connect(patient.home / "log.db") as database:
        guards = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE events SET recorded_at = recorded_at + 1 WHERE position = 2")
        for _, guard in guards:
            database.execute(guard)
    database.close()


def cut_off(patient: Patient) -> None:
    """The last row goes, as cleanly as a file that was put back: only a checkpoint can tell."""
    with sqlite3.connect(patient.home / "log.db") as database:
        (guard,) = database.execute("SELECT sql FROM sqlite_schema WHERE name = 'events_kept'").fetchone()
        database.execute("DROP TRIGGER events_kept")
        database.execute("DELETE FROM events WHERE position = (SELECT max(position) FROM events)")
        database.execute(guard)
    database.close()
    patient.drop("views.db")


def no_log(patient: Patient) -> None:
    patient.drop("log.db")


def another_file(patient: Patient) -> None:
    no_log(patient)
    (patient.home / "log.db").write_text("hello")


def large_wal(patient: Patient) -> None:
    with sqlite3.connect(patient.home / "log.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with (patient.home / "log.db-wal").open("wb") as wal:
        wal.truncate(findings.LARGE_WAL + 1)


def broken_views(patient: Patient) -> None:
    patient.drop("views.db")
    (patient.home / "views.db").write_bytes(b"no database " * 1000)


def old_secret(patient: Patient) -> None:
    """The shared token was replaced, and a gateway has served under the new one."""
    (patient.home / "shared-token").write_text("another-example-shared-token\n")

    async def serve_once() -> None:
        from cli.compose import open_all
        from cli.serve import _started

        settings = load(patient.home, env={}, flags={})
        async with open_all(settings, env={}) as opened:
            await _started(opened, settings, "instance", [("127.0.0.1", 1)])
            await opened.views.catch_up()

    asyncio.run(serve_once())


def somebody_else(patient: Patient) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listening.accept()
        with connection, listening:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    threading.Thread(target=answer, daemon=True).start()
    patient.env["PAIRING_GATEWAY_PORT"] = str(listening.getsockname()[1])


def certified(days: int, later: int = 0) -> Callable[[Patient], None]:
    def configure(patient: Patient) -> None:
        cert, key = make(patient.home.parent, days=days)
        patient.config(f'[gateway.tls]\ncert = "{cert}"\nkey = "{key}"\n')
        patient.patch.setattr(symptoms, "_port", lambda settings: Answering("gateway"))
        now = symptoms.clock
        patient.patch.setattr(symptoms, "clock", lambda: now() + later)

    return configure


def unreadable_certificate(patient: Patient) -> None:
    certified(days=365)(patient)
    next(patient.home.parent.glob("*.crt")).write_text("no certificate")


def nobody_answers(patient: Patient) -> None:
    patient.env["PAIRING_GATEWAY_PORT"] = str(free_port())


def open_settings(patient: Patient) -> None:
    patient.config('[log]\nlevel = "info"\n')
    mode("config.toml", 0o666)(patient)


def never_started(patient: Patient) -> None:
    shutil.rmtree(patient.home)


def paused_hook(patient: Patient) -> None:
    """A webhook whose receiver was not there for too long."""

    async def work() -> None:
        async with open_service(load(patient.home, env={}, flags={})) as service:
            now, by = service.clock(), local_caller()
            base: dict[str, Any] = {"now": now, "by": by, "hook": "cafe"}
            url = "https://example.org/in"
            added = AddHook(id=ids.uuid7(now), **base, url=url, kinds=(), people=False, key=service.keyring.current.id, after=0)
            await service.desk.handle_hook(added)
            up = GiveUpHook(id=ids.uuid7(now), **base, why="failing", undelivered=1, error="HTTP 500")
            await service.desk.handle_hook(up)
            await service.views.position()

    asyncio.run(work())


def overused_code(patient: Patient) -> None:
    """A setup code that a second device has tried."""

    def came(service: Any, device: str, code: str) -> Redeem:
        now = service.clock()
        base: dict[str, Any] = {"id": ids.uuid7(now), "now": now, "by": local_caller()}
        wanted = Wanted(key=f"key of {device}", role="node", scopes=(), under=service.under)
        about = {
            "client_id": None,
            "client_mode": None,
            "request": device,
            "issue": device,
            "key": "k",
            "seen": "s",
            "named": "n",
        }
        return Redeem(**base, code=code, knock=Knock(**base, device=device, wanted=wanted, ttl=1_000, **about))

    async def work() -> None:
        async with open_service(load(patient.home, env={}, flags={})) as service:
            raw = msgspec.Raw(b'{"url":"wss://gateway.example.net","profile":"node"}')
            made = await methods.call(service, local_caller(), "enroll.new", raw)
            for device in ("a" * 64, "b" * 64):
                await service.desk.handle_redemption(came(service, device, made.enrolment.enrolment_id))
            await service.views.position()

    asyncio.run(work())


DEFECTS: dict[str, tuple[str, str, Callable[[Patient], None]]] = {
    "home-missing": ("home-missing", "info", never_started),
    "home-open": ("home-open", "error", lambda patient: patient.home.chmod(0o755)),
    "token-open": ("token-open", "error", mode("shared-token", 0o644)),
    "key-missing": ("key-missing", "error", lambda patient: patient.drop("gateway-key")),
    "key-open": ("key-open", "error", mode("gateway-key", 0o640)),
    "key-damaged": ("key-damaged", "error", lambda patient: (patient.home / "gateway-key").write_text("x\n")),
    "log-missing": ("log-missing", "warning", no_log),
    "log-unreadable": ("log-unreadable", "error", another_file),
    "log-damaged": ("log-damaged", "error", damaged_row),
    "checkpoint-never": ("checkpoint-never", "info", lambda patient: (patient.home / "last-checkpoint").unlink()),
    "cut off": ("checkpoint-broken", "error", cut_off),
    "clock-behind-log": ("clock-behind-log", "warning", lambda patient: patient.write("request.expired", ahead=3_600_000)),
    "wal-large": ("wal-large", "warning", large_wal),
    "newer-events": ("newer-events", "warning", lambda patient: patient.write("device.teleported")),
    "views-damaged": ("views-damaged", "warning", broken_views),
    "views-behind": ("views-behind", "warning", lambda patient: patient.write("request.expired", followed=False)),
    "settings-wrong": ("settings-wrong", "error", lambda patient: patient.config('[gateway]\nbind = "nowhere"\n')),
    "cidr of all": (
        "settings-dangerous",
        "warning",
        lambda patient: patient.config('[gateway.nodes.pairing]\nautoApproveCidrs = ["0.0.0.0/0"]\n'),
    ),
    "mode none": ("settings-dangerous", "warning", lambda patient: patient.config('[gateway.auth]\nmode = "none"\n')),
    "settings-open": (
        "settings-open",
        "error",
        open_settings,
    ),
    "port-taken-by-another": ("port-taken-by-another", "error", somebody_else),
    "gateway-not-running": ("gateway-not-running", "info", nobody_answers),
    "descriptors-low": (
        "descriptors-low",
        "warning",
        lambda patient: patient.patch.setattr(symptoms, "descriptor_limit", lambda: 256),
    ),
    "disk-low": ("disk-low", "warning", lambda patient: patient.patch.setattr(symptoms, "disk_left", lambda _: 100 * 2**20)),
    "disk-full": ("disk-low", "error", lambda patient: patient.patch.setattr(symptoms, "disk_left", lambda _: 2**20)),
    "tls-expired": ("tls-expired", "error", certified(days=1, later=2 * DAY_MS)),
    "tls-expiring": ("tls-expiring", "warning", certified(days=10)),
    "tls-unreadable": ("tls-unreadable", "error", unreadable_certificate),
    "token-under-old-secret": ("token-under-old-secret", "info", old_secret),
    "setup-code-overused": ("setup-code-overused", "warning", overused_code),
    "hook-paused": ("hook-paused", "warning", paused_hook),
    "pending-many": ("pending-many", "warning", lambda patient: patient.config("[gateway.pairing]\nmaxPending = 1\n")),
}


def test_every_finding_has_a_defect_here() -> None:
    """No name without a story."""
    assert {name for check in CHECKS for name in check.names} == {name for name, _, _ in DEFECTS.values()}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_raises_its_finding_alone(patient: Patient, defect: str) -> None:
    """One defect, one finding, with the exit code of its severity; and the next command it names can be run here."""
    name, severity, break_ = DEFECTS[defect]
    break_(patient)
    result = patient.run("doctor", "--json")
    report = json.loads(result.stdout)
    assert [(finding["name"], finding["severity"]) for finding in report["findings"]] == [(name, severity)]
    worst = {"error": Exit.BROKEN, "warning": Exit.FAILED, "info": Exit.FAILED if report["notRun"] else Exit.OK}
    assert result.exit_code == worst[severity]
    assert report["ok"] == (result.exit_code == 0)
    works(patient, name, report["findings"][0]["next"])


def works(patient: Patient, name: str, command: str) -> None:
    """Run the next command: one that repairs repairs; one that shows is understood; how to serve is what --help knows."""
    words = shlex.split(command)
    if words[0] in {"chmod", "rm"}:
        subprocess.run(words, check=True)
        assert patient.names() == []
    elif words[:3] == ["pairing", "config", "unset"]:
        assert patient.run(*words[1:]).exit_code == 0
        assert patient.names() == []
    elif "serve" in words:
        assert words[-1] in {"serve", "--new-key"} or words[-2] == "--port"
    elif words[0] == "pairing":
        # The gateway that answers is the template's; the copy's own commands go by its log.
        nobody_answers(patient)
        assert patient.run(*words[1:]).exit_code in {Exit.OK, Exit.BROKEN}
        assert "usage" not in patient.run(*words[1:]).stderr.lower()
    else:
        assert shutil.which(words[0]), (name, command)


# --- what was not looked at ---


def test_a_check_that_could_not_run_is_said_not_to_have_run(patient: Patient) -> None:
    """L10: without a log seven checks have nothing to look at; none of them is called fine, and the exit code is not 0."""
    never_started(patient)
    report = patient.report()
    not_run = {entry["check"]: entry["why"] for entry in report["notRun"]}
    assert {"log-damaged", "clock-behind-log", "newer-events", "pending-many", "disk-low"} <= set(not_run)
    assert not_run["log-damaged"] == "there is no log that can be read"
    result = patient.run("doctor")
    assert result.exit_code == Exit.FAILED
    assert "not run: log-damaged" in result.stderr
    assert not patient.home.exists()


def test_quick_leaves_out_the_verification_and_says_so(patient: Patient) -> None:
    """A damaged row is not found by `--quick`, nor called sound."""
    damaged_row(patient)
    report = patient.report("--quick")
    assert report["findings"] == []
    assert {"check": "log-damaged", "why": "--quick was given"} in report["notRun"]
    assert patient.run("doctor", "--quick").exit_code == Exit.FAILED


def test_wrong_settings_leave_their_checks_undone(patient: Patient) -> None:
    """What rests on a value that cannot be read is not judged on its default."""
    DEFECTS["settings-wrong"][2](patient)
    not_run = {entry["check"] for entry in patient.report()["notRun"]}
    assert {"settings-dangerous", "gateway-not-running", "tls-expired", "pending-many"} <= not_run


def test_no_secret_is_told(patient: Patient) -> None:
    """T9: neither token nor key, whatever is wrong with them."""
    token = (patient.home / "shared-token").read_text().strip()
    key = (patient.home / "gateway-key").read_text().partition(":")[2].strip()
    for break_ in (mode("shared-token", 0o644), mode("gateway-key", 0o644)):
        break_(patient)
    (patient.home / "gateway-key").write_text(f"wrong-prefix:{key}\n")
    result = patient.run("doctor")
    for secret in (token, key):
        assert secret not in result.output


@pytest.mark.parametrize("need", sorted({need for check in CHECKS for need in check.needs}))
def test_every_fact_that_is_missing_names_the_checks_that_rest_on_it(need: str, patient: Patient) -> None:
    """Skip one fact at a time: exactly the checks that need it are not run, and nothing is found instead."""
    facts = asyncio.run(symptoms.look(patient.home, {**patient.env}, quick=False))
    report = findings.examine(facts._replace(**{need: Skipped("unseen")}))
    assert report.findings == ()
    assert {name for name, why in report.not_run} == {n for check in CHECKS if need in check.needs for n in check.names}
