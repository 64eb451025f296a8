"""`pairing connect` as a device, against a real gateway."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import pairing
from pairing.refusals import Exit

REMOTE = ("--header", "X-Forwarded-For: 203.0.113.7")


class House:
    """A running gateway and the two sides that talk to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "gateway"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"

    def run(self, *args: str, home: Path | None = None, **env: str) -> Result:
        clean = dict.fromkeys(name for name in os.environ if name.startswith("PAIRING_"))
        here = {"PAIRING_HOME": str(home or self.home), "PAIRING_GATEWAY_PORT": str(self.port)}
        return CliRunner().invoke(pairing, args, env={**clean, **here, **env})

    def spawn(self, *args: str) -> subprocess.Popen[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PAIRING_")}
        env |= {"PAIRING_HOME": str(self.home), "PAIRING_GATEWAY_PORT": str(self.port)}
        command = [sys.executable, "-m", "cli.main", *args]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    @property
    def token(self) -> str:
        return (self.home / "shared-token").read_text().strip()

    def shared(self, device: Path) -> tuple[str, ...]:
        return ("connect", "--home", str(device), "--url", self.url, "--token", self.token, *REMOTE)

    def alone(self, device: Path) -> tuple[str, ...]:
        return ("connect", "--home", str(device), "--url", self.url, *REMOTE)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("house"))
    process = found.spawn("serve")
    assert process.stdout is not None
    assert "listening" in process.stdout.readline()
    yield found
    process.terminate()
    process.communicate(timeout=20)


def failed(result: Result) -> dict[str, Any]:
    document = json.loads(result.stdout)
    assert document["ok"] is False
    error = document["error"]
    assert isinstance(error, dict)
    return error


def test_a_device_asks_is_approved_and_returns_with_its_token(house: House, tmp_path: Path) -> None:
    """The main path: pending with exit 3 and the operator's command, then a token, then the token alone."""
    asked = house.run(*house.shared(tmp_path), "--role", "node", "--name", "kitchen")
    assert asked.exit_code == Exit.REFUSED
    command = re.search(r"hint: On the gateway's host: pairing (devices approve \S+)\n", asked.stderr)
    assert command is not None
    assert house.run(*command[1].split()).exit_code == 0
    got = house.run(*house.shared(tmp_path), "--role", "node")
    assert got.exit_code == 0
    device = json.loads((tmp_path / "identity" / "identity.json").read_text())["deviceId"]
    assert re.search(rf"device +{device}\n", got.stdout)
    assert re.search(r"token +new, stored in .*device-auth\.json\n", got.stdout)
    back = house.run(*house.alone(tmp_path), "--role", "node", "--json")
    document = json.loads(back.stdout)
    assert (document["ok"], document["method"], document["tokenIsNew"]) == (True, "device-token", False)
    bearer = json.loads((tmp_path / "identity" / "device-auth.json").read_text())["gateways"]
    (kept,) = (entry["token"] for roles in bearer.values() for entry in roles.values())
    assert kept not in asked.output + got.output + back.output
    assert house.token not in asked.output + got.output + back.output


def test_waiting_ends_with_the_approval(house: House, tmp_path: Path) -> None:
    """With --wait the approval is waited for, and the answer is that of a connection."""
    waiting = house.spawn(*house.shared(tmp_path), "--scope", "operator.read", "--wait", "60")
    assert waiting.stderr is not None
    request = None
    while request is None:
        request = re.search(r"pairing devices approve (\S+)", waiting.stderr.readline())
    assert house.run("devices", "approve", request[1]).exit_code == 0
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert "operator.read" in out


def test_waiting_ends_with_the_rejection(house: House, tmp_path: Path) -> None:
    """A no is told as a no, with both ids, and is not asked again for ever."""
    waiting = house.spawn(*house.shared(tmp_path), "--wait", "60", "--json")
    assert waiting.stderr is not None
    request = None
    while request is None:
        request = re.search(r"pairing devices approve (\S+)", waiting.stderr.readline())
    assert house.run("devices", "reject", request[1]).exit_code == 0
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == Exit.REFUSED
    error = json.loads(out)["error"]
    assert (error["reason"], error["details"]["requestId"]) == ("rejected", request[1])


def test_waiting_ends_with_the_time(house: House, tmp_path: Path) -> None:
    """When the time is up the answer is that it is still pending; the same request has been kept alive all along."""
    first = failed(house.run(*house.shared(tmp_path), "--json"))["details"]["requestId"]
    result = house.run(*house.shared(tmp_path), "--wait", "1.5", "--json")
    assert result.exit_code == Exit.REFUSED
    assert failed(result)["details"]["requestId"] == first


def test_a_wider_ask_with_the_devices_own_token_is_refused_and_keeps_it(house: House, tmp_path: Path) -> None:
    """More than the token covers needs the shared secret; the good token stays (T8)."""
    request = failed(house.run(*house.shared(tmp_path), "--scope", "operator.read", "--json"))["details"]["requestId"]
    house.run("devices", "approve", request)
    assert house.run(*house.shared(tmp_path), "--scope", "operator.read").exit_code == 0
    wider = house.run(*house.alone(tmp_path), "--scope", "operator.admin", "--json")
    assert failed(wider)["reason"] == "scope_mismatch"
    assert json.loads(house.run(*house.alone(tmp_path), "--json").stdout)["scopes"] == ["operator.read"]
    upgrade = failed(house.run(*house.shared(tmp_path), "--scope", "operator.admin", "--json"))
    assert upgrade["reason"] == "scope-upgrade"


def test_on_the_gateways_own_host_a_device_is_let_in_silently(house: House, tmp_path: Path) -> None:
    """A local connection with the right secret needs nobody; the secret comes from the state folder's settings."""
    result = house.run("connect", "--home", str(tmp_path), "--json", PAIRING_GATEWAY_TOKEN=house.token)
    assert json.loads(result.stdout)["scopes"] == ["operator.read"]


def test_without_a_secret_the_refusal_says_what_is_missing(house: House, tmp_path: Path) -> None:
    """Exit 3, and the flag that helps."""
    result = house.run(*house.alone(tmp_path))
    assert result.exit_code == Exit.REFUSED
    assert "gateway token missing" in result.stderr
    assert "--token" in result.stderr


def test_nothing_listening_is_exit_6(tmp_path: Path) -> None:
    """Unreachable is told apart from refused, also while waiting for an approval nobody has been asked for."""
    for more in ((), ("--wait", "5")):
        started = time.monotonic()
        args = ["connect", "--home", str(tmp_path), "--url", "ws://127.0.0.1:1", "--token", "x-y-z", *more]
        result = CliRunner().invoke(pairing, args)
        assert result.exit_code == Exit.UNREACHABLE
        assert "connection refused" in result.stderr
        assert time.monotonic() - started < 5


def test_a_damaged_key_is_never_replaced(tmp_path: Path) -> None:
    """An unreadable identity is an error, not a reason to become another device (D1)."""
    folder = tmp_path / "identity"
    folder.mkdir(mode=0o700)
    path = folder / "identity.json"
    path.write_text("{")
    path.chmod(0o600)
    result = CliRunner().invoke(pairing, ["connect", "--home", str(tmp_path), "--url", "ws://127.0.0.1:1", "--token", "x-y-z"])
    assert result.exit_code == Exit.BROKEN
    assert path.read_text() == "{"
