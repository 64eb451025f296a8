"""The doors against gateways that refuse, stay silent, or want a device; fakes on loopback."""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from websockets.asyncio.server import ServerConnection, serve

from cli.main import pairing
from pairing.refusals import Exit

DEVICE, REQUEST = "d" * 64, "11111111-2222-4333-8444-555555555555"
TOKEN = "fake-shared-token"
PENDING = {"requestId": REQUEST, "deviceId": DEVICE, "role": "node", "roles": ["node"], "scopes": [], "ts": 1}
PAIRED = {
    "deviceId": DEVICE,
    "role": "operator",
    "roles": ["operator"],
    "scopes": ["operator.read", "operator.talk"],
    "tokens": [{"role": "operator", "scopes": ["operator.read"], "createdAtMs": 1}],
}


class Gateway:
    """A gateway in a thread of its own. `admit` answers a connect by its params, `serve` a call by its method."""

    def __init__(self) -> None:
        self.admit: Callable[[dict[str, Any]], dict[str, Any] | None] = welcome
        self.listed: dict[str, Any] = {"position": 3, "pending": [PENDING], "paired": [PAIRED], "closed": []}
        self.answers: dict[str, dict[str, Any] | None] = {}
        self.connects: list[dict[str, Any]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.port = 0

    async def handle(self, socket: ServerConnection) -> None:
        await socket.send(json.dumps({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n", "ts": 5}}))
        frame = json.loads(await socket.recv())
        self.connects.append(frame["params"])
        answer = self.admit(frame["params"])
        if answer is None:
            await socket.wait_closed()
            return
        await socket.send(json.dumps({"type": "res", "id": frame["id"], **answer}))
        if not answer["ok"]:
            await socket.close(1008, answer["error"]["message"][:120])
            return
        async for data in socket:
            call = json.loads(data)
            self.calls.append((call["method"], call["params"]))
            said = {"ok": True, "payload": self.listed} if call["method"] == "device.list" else self.answers[call["method"]]
            if said is not None:
                await socket.send(json.dumps({"type": "res", "id": call["id"], **said}))

    @property
    def scopes(self) -> list[list[str]]:
        return [sent["scopes"] for sent in self.connects]


def welcome(params: dict[str, Any]) -> dict[str, Any]:
    auth = {"role": "operator", "scopes": params["scopes"]}
    return {"ok": True, "payload": {"type": "hello-ok", "protocol": 4, "auth": auth}}


def welcome_devices_alone(params: dict[str, Any]) -> dict[str, Any]:
    return welcome(params if "device" in params else {**params, "scopes": []})


def pairing_required(params: dict[str, Any]) -> dict[str, Any]:
    details = {"code": "PAIRING_REQUIRED", "reason": "not-paired", "requestId": REQUEST}
    return {"ok": False, "error": {"code": "NOT_PAIRED", "message": "pairing required: x", "details": details}}


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    fake = Gateway()
    ready, done = threading.Event(), []

    async def work() -> None:
        end = asyncio.Event()
        done.append((asyncio.get_running_loop(), end))
        async with serve(fake.handle, "127.0.0.1", 0) as server:
            fake.port = next(iter(server.sockets)).getsockname()[1]
            ready.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    assert ready.wait(10)
    yield fake
    loop, end = done[0]
    loop.call_soon_threadsafe(end.set)
    thread.join(10)


Run = Callable[..., Result]


@pytest.fixture
def run(gateway: Gateway, tmp_path: Path) -> Run:
    def run(*args: str, **env: str) -> Result:
        clean = dict.fromkeys(name for name in os.environ if name.startswith("PAIRING_"))
        here = {"PAIRING_HOME": str(tmp_path / "home"), "PAIRING_GATEWAY_PORT": str(gateway.port), "PAIRING_GATEWAY_TOKEN": TOKEN}
        result = CliRunner().invoke(pairing, args, env={**clean, **here, **env})
        assert TOKEN not in result.output
        return result

    return run


def recorded(kind: str, **more: Any) -> dict[str, Any]:
    return {"ok": True, "payload": {"deviceId": DEVICE, **more, "recorded": {"position": 4, "kind": kind}}}


def test_on_this_host_the_command_line_sends_no_device(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    """With the shared secret on loopback no device is made or sent (CL-34), and only pairing is asked for."""
    assert run("devices", "list").exit_code == 0
    assert gateway.scopes == [["operator.pairing"]]
    assert "device" not in gateway.connects[0]
    assert gateway.connects[0]["client"]["id"] == gateway.connects[0]["client"]["mode"] == "cli"
    assert not (tmp_path / "home").exists()


def test_where_a_session_without_a_device_is_powerless_the_device_is_used(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    """A gateway that gives such a session no scopes is asked again with this state folder's identity."""
    gateway.admit = welcome_devices_alone
    (tmp_path / "home").mkdir(mode=0o700)
    gateway.answers["device.pair.reject"] = recorded("request.rejected")
    assert run("devices", "reject", REQUEST).exit_code == 0
    assert ["device" in sent for sent in gateway.connects] == [False, True]
    assert (tmp_path / "home" / "identity" / "identity.json").exists()


@pytest.mark.parametrize(
    ("args", "method", "asked"),
    [
        (("approve", REQUEST), "device.pair.approve", ["operator.pairing", "operator.admin"]),
        (("reject", REQUEST), "device.pair.reject", None),
        (("rename", DEVICE, "x"), "device.pair.rename", None),
        (("remove", DEVICE), "device.pair.remove", ["operator.pairing", "operator.read", "operator.talk"]),
        (("rotate", "--device", DEVICE, "--role", "operator"), "device.token.rotate", ["operator.pairing", "operator.read"]),
        (
            ("rotate", "--device", DEVICE, "--role", "operator", "--scope", "operator.write"),
            "device.token.rotate",
            ["operator.pairing", "operator.read", "operator.write"],
        ),
        (("revoke", "--device", DEVICE, "--role", "node"), "device.token.revoke", ["operator.pairing", "operator.admin"]),
        (("clear", "--yes"), "device.pair.remove", ["operator.pairing", "operator.read", "operator.talk"]),
    ],
)
def test_a_command_asks_for_what_it_needs_and_no_more(
    gateway: Gateway, run: Run, args: tuple[str, ...], method: str, asked: list[str] | None
) -> None:
    """Least privilege: pairing first, then the scopes that this very decision needs (protocol §8.7, CL-37)."""
    gateway.answers[method] = recorded("something.done")
    assert run("devices", *args).exit_code == 0
    assert gateway.scopes == [["operator.pairing"], *([asked] if asked else [])]
    assert gateway.calls[-1][0] == method


def test_a_successor_of_ones_own_token_is_stored_and_never_printed(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    """Rotating oneself brings the successor to this device, into its file (T4, T5)."""
    gateway.admit = welcome_devices_alone
    run("devices", "reject", REQUEST)
    own = json.loads((tmp_path / "home" / "identity" / "identity.json").read_text())["deviceId"]
    gateway.listed["paired"] = [{**PAIRED, "deviceId": own}]
    gateway.answers["device.token.rotate"] = recorded(
        "token.rotated", deviceId=own, role="operator", scopes=["operator.read"], token="the-successor"
    )
    result = run("devices", "rotate", "--device", own, "--role", "operator", "--json")
    assert result.exit_code == 0
    assert "the-successor" not in result.output
    kept = Path(json.loads(result.stdout)["tokenStored"])
    assert "the-successor" in kept.read_text()


def test_a_token_for_somebody_else_is_dropped(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    """Should a gateway ever hand over another device's token, it is neither printed nor kept (T4)."""
    gateway.admit = welcome_devices_alone
    gateway.answers["device.token.rotate"] = recorded("token.rotated", role="operator", scopes=[], token="not-for-us")
    result = run("devices", "rotate", "--device", DEVICE, "--role", "operator", "--json")
    assert result.exit_code == 0
    assert "not-for-us" not in result.output
    assert not (tmp_path / "home" / "identity" / "device-auth.json").exists()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A state folder with an empty log, as a gateway leaves it behind."""
    from pairing import keyring
    from pairing.log.sqlite import SqliteLog

    home = tmp_path / "home"
    home.mkdir(mode=0o700)

    async def make() -> None:
        await (await SqliteLog.open(home / "log.db")).close()

    asyncio.run(make())
    keyring.create(home)
    return home / "log.db"


def test_a_gateway_that_wants_pairing_leaves_list_and_approve_the_log(gateway: Gateway, run: Run, log: Path) -> None:
    """Listing and approving work where the loopback gateway wants this command paired first (CL-27), and say so."""
    gateway.admit = pairing_required
    result = run("devices", "list", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["pending"] == []
    assert result.stderr == (
        f"The gateway on 127.0.0.1:{gateway.port} would have this command paired first: working on the log {log}\n"
    )
    assert run("devices", "approve", REQUEST).exit_code == Exit.NOT_FOUND


@pytest.mark.parametrize("args", [("reject", REQUEST), ("remove", DEVICE), ("show", DEVICE), ("clear", "--yes")])
def test_other_commands_do_not_go_round_the_gateway(gateway: Gateway, run: Run, log: Path, args: tuple[str, ...]) -> None:
    """Only list and approve fall back; the rest say who must approve what."""
    gateway.admit = pairing_required
    result = run("devices", *args)
    assert result.exit_code == Exit.REFUSED
    assert f"pairing devices approve {REQUEST}" in result.stderr


def test_nobody_falls_back_from_a_url_that_was_named(gateway: Gateway, run: Run, log: Path) -> None:
    """Neither --url nor a URL of the environment ever leads to the log (protocol §8.6)."""
    gateway.admit = pairing_required
    url = f"ws://127.0.0.1:{gateway.port}"
    assert run("devices", "list", "--url", url, "--token", TOKEN).exit_code == Exit.REFUSED
    assert run("devices", "list", PAIRING_GATEWAY_URL=url).exit_code == Exit.REFUSED


def test_a_gateway_without_a_secret_is_listed_without_making_a_device(gateway: Gateway, run: Run, log: Path) -> None:
    """With auth mode none a listing pairs nobody: it reads the log (A20)."""

    def none(params: dict[str, Any]) -> dict[str, Any]:
        if "device" in params:
            return welcome(params)
        details = {"code": "DEVICE_IDENTITY_REQUIRED"}
        return {"ok": False, "error": {"code": "NOT_PAIRED", "message": "device identity required", "details": details}}

    gateway.admit = none
    (log.parent / "config.toml").write_text('[gateway.auth]\nmode = "none"\n')
    assert "working on the log" in run("devices", "list", PAIRING_GATEWAY_TOKEN="").stderr
    assert not (log.parent / "identity").exists()
    gateway.answers["device.pair.reject"] = recorded("request.rejected")
    assert run("devices", "reject", REQUEST, PAIRING_GATEWAY_TOKEN="").exit_code == 0
    assert (log.parent / "identity").exists()


def test_a_silent_gateway_is_given_the_time_that_was_set(gateway: Gateway, run: Run, log: Path) -> None:
    """The whole command is bounded (CL-25); the log is no refuge from a gateway that is there."""
    gateway.admit = lambda params: None
    result = run("devices", "list", "--timeout", "300")
    assert result.exit_code == Exit.UNREACHABLE
    assert "no answer within 300 ms" in result.stderr
    assert "working on the log" not in result.output


def test_a_change_whose_answer_was_lost_is_not_called_undone(gateway: Gateway, run: Run) -> None:
    """Time running out after the call was sent says that it may have been done (D6)."""
    gateway.answers["device.pair.reject"] = None
    result = run("devices", "reject", REQUEST, "--timeout", "500")
    assert result.exit_code == Exit.UNREACHABLE
    assert "It may have been done all the same" in result.stderr


def test_entries_may_lack_anything(gateway: Gateway, run: Run) -> None:
    """A foreign gateway's entries are shown as far as they go (CL-45)."""
    gateway.listed = {
        "pending": [{"requestId": REQUEST, "deviceId": "device-9", "displayName": "   "}],
        "paired": [{}, {"tokens": [{}]}],
    }
    listed = run("devices", "list")
    assert listed.exit_code == 0
    assert "device-9: new pairing" in listed.stdout
    preview = run("devices", "approve")
    assert preview.exit_code == Exit.FAILED
    assert "roles: none; scopes: none" in preview.stdout


def test_two_requests_may_not_share_the_start_that_was_typed(gateway: Gateway, run: Run) -> None:
    """An ambiguous start lists the candidates and approves none (L14)."""
    other = "11111111-9999-4333-8444-555555555555"
    gateway.listed["pending"] = [PENDING, {**PENDING, "requestId": other, "displayName": "other"}]
    result = run("devices", "approve", "11111111")
    assert result.exit_code == Exit.AMBIGUOUS
    assert REQUEST in result.stderr
    assert other in result.stderr
    assert [method for method, _ in gateway.calls] == ["device.list"]


def test_what_could_not_be_cleared_is_told_and_the_rest_is_done(gateway: Gateway, run: Run) -> None:
    """One refusal does not hide what was done, nor the exit code what was not."""
    gateway.listed["paired"] = [PAIRED, {**PAIRED, "deviceId": "e" * 64}]
    refused = {"code": "INVALID_REQUEST", "message": "device pairing removal denied", "details": {"code": "REMOVAL_DENIED"}}
    gateway.answers["device.pair.remove"] = {"ok": False, "error": refused}
    result = run("devices", "clear", "--yes", "--json")
    assert result.exit_code == Exit.REFUSED
    error = json.loads(result.stdout)["error"]
    assert error["details"]["removedDevices"] == []
    assert [entry["id"] for entry in error["details"]["refused"]] == [DEVICE, "e" * 64]
