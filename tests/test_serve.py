"""`pairing serve` as an operator meets it: first start, second start, wrong settings, a lost key, the end."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PAIRING = str(Path(sys.executable).with_name("pairing"))
Serve = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def serve(tmp_path: Path, port: int) -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, home: Path = tmp_path / "home", **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [PAIRING, "serve", "--port", str(port), *args],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PAIRING_HOME": str(home)} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def ready(port: int) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the gateway did not come up")


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def kinds(home: Path) -> list[str]:
    with sqlite3.connect(f"file:{home / 'log.db'}?mode=ro", uri=True) as log:
        return [kind for (kind,) in log.execute("SELECT kind FROM history ORDER BY position")]


def test_the_first_start_needs_nothing_and_says_where_everything_is(serve: Serve, port: int, tmp_path: Path) -> None:
    """State folder 0700, key and token 0600; it prints where it listens, where its state is, and one command to try."""
    process, home = serve(), tmp_path / "home"
    ready(port)
    process.send_signal(signal.SIGTERM)
    code, out, _ = ended(process)
    assert code == 0
    assert out.splitlines() == [
        f"pairing gateway listening on ws://127.0.0.1:{port}",
        f"state in {home} (auth: token)",
        "try next: pairing devices list",
    ]
    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in home.iterdir() if path.is_file()} == {
        path.name: 0o600 for path in home.iterdir() if path.is_file()
    }
    assert len((home / "shared-token").read_text().strip()) == 43
    assert kinds(home) == ["gateway.started", "policy.changed", "gateway.stopped"]


def test_sigterm_says_goodbye_to_everyone(serve: Serve, port: int, tmp_path: Path) -> None:
    """A shutdown event, then close 1012 `service restart`; the log is closed in order and a second start goes on with it."""
    home = tmp_path / "home"
    for _ in range(2):
        process = serve()
        ready(port)
        with connect(f"ws://127.0.0.1:{port}", compression=None) as socket_:
            assert json.loads(socket_.recv())["event"] == "connect.challenge"
            socket_.send(
                json.dumps(
                    {
                        "type": "req",
                        "id": "1",
                        "method": "connect",
                        "params": {
                            "minProtocol": 4,
                            "maxProtocol": 4,
                            "client": {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"},
                            "auth": {"token": (home / "shared-token").read_text().strip()},
                        },
                    }
                )
            )
            assert json.loads(socket_.recv())["ok"]
            process.send_signal(signal.SIGTERM)
            goodbye = json.loads(socket_.recv(timeout=10))
            assert (goodbye["event"], goodbye["payload"]["reason"]) == ("shutdown", "gateway stopping")
            with pytest.raises(ConnectionClosed) as closed:
                socket_.recv(timeout=10)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "service restart")
        assert ended(process)[0] == 0
    assert kinds(home) == [
        "gateway.started",
        "policy.changed",
        "gateway.stopped",
        "gateway.started",
        "gateway.stopped",
    ]


def test_a_second_serve_on_the_port_says_who_has_it(serve: Serve, port: int, tmp_path: Path) -> None:
    """And leaves no trace in its own log: nothing starts half."""
    first = serve()
    ready(port)
    second = serve(home=tmp_path / "other")
    code, out, err = ended(second)
    assert (code, out) == (1, "")
    assert f"port {port} is taken by pid {first.pid} (" in err
    assert f"pairing serve --port {port + 1}" in err
    assert kinds(tmp_path / "other") == []


def test_wrong_settings_are_all_named_with_their_lines_and_nothing_is_made(serve: Serve, tmp_path: Path) -> None:
    """A wrong key, type and value in one file: three problems, each with its line; no log, no key, no token."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('[gateway]\nport = "x"\nbindd = "lan"\n\n[gateway.auth]\nmode = "secret"\n')
    (home / "config.toml").chmod(0o600)
    code, out, err = ended(serve(home=home))
    assert (code, out) == (3, "")
    for line, key in ((2, "gateway.port must"), (3, "unknown key gateway.bindd"), (6, "gateway.auth.mode must")):
        assert f"config.toml:{line}: {key}" in err
    assert sorted(path.name for path in home.iterdir()) == ["config.toml"]


def test_a_lost_gateway_key_is_never_replaced_unasked(serve: Serve, port: int, tmp_path: Path) -> None:
    """Every token derives from it: a log that has events and no key is an error that names both ways out."""
    home = tmp_path / "home"
    process = serve()
    ready(port)
    process.send_signal(signal.SIGTERM)
    ended(process)
    (home / "gateway-key").unlink()
    code, _, err = ended(serve())
    assert code == 7
    assert "gateway-key is missing" in err
    assert "pairing serve --new-key" in err
    assert not (home / "gateway-key").exists()
    process = serve("--new-key")
    ready(port)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0


def test_an_empty_key_file_is_not_a_missing_one(serve: Serve, tmp_path: Path) -> None:
    """D1: unreadable is never taken for empty."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "gateway-key").touch(mode=0o600)
    code, _, err = ended(serve())
    assert code == 7
    assert "gateway-key is empty" in err


def test_what_it_logs_is_json_lines_without_a_secret(serve: Serve, port: int, tmp_path: Path) -> None:
    """L7: standard error that is no terminal gets one JSON object a line; neither the token nor the key is in any."""
    home = tmp_path / "home"
    process = serve("--log-level", "debug")
    ready(port)
    token = (home / "shared-token").read_text().strip()
    for presented in (token, token[:-1] + "x"):
        with connect(f"ws://127.0.0.1:{port}", compression=None) as socket_:
            socket_.recv()
            params = {
                "minProtocol": 4,
                "maxProtocol": 4,
                "client": {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"},
                "auth": {"token": presented},
            }
            socket_.send(json.dumps({"type": "req", "id": "1", "method": "connect", "params": params}))
            socket_.recv()
    process.send_signal(signal.SIGTERM)
    _, out, err = ended(process)
    assert [json.loads(line)["event"] for line in err.splitlines()].count("connected") == 1
    key = (home / "gateway-key").read_text().partition(":")[2].strip()
    for secret in (token, token[:-1], key):
        assert secret not in out + err
        for file in home.glob("*.db*"):
            assert secret.encode() not in file.read_bytes()
