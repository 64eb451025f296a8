"""What is shipped for running the gateway as a service: the unit, the image's recipe, and the health check in it."""

import http.server
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from cli.main import pairing
from pairing.refusals import Exit

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "scripts" / "deploy"
UNIT = DEPLOY / "pairing.service"
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictNamespaces": "yes",
    "LockPersonality": "yes",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "SystemCallArchitectures": "native",
    "Restart": "on-failure",
    "StateDirectory": "pairing",
    "StateDirectoryMode": "0700",
}


def unit() -> dict[str, list[str]]:
    """Return the unit's [Service] section; a key may be given several times."""
    section, found = "", dict[str, list[str]]()
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def options(words: list[str]) -> None:
    """Have click parse a command line of `pairing serve`; raises where it does not exist."""
    assert words[0].rpartition("/")[2] == "pairing"
    command = pairing.get_command(click.Context(pairing), words[1])
    assert command is not None
    command.make_context(words[1], words[2:])


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` has no complaint; the program is stood in for, because it is not installed where it will be."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("NOT TESTED: systemd-analyze is not here; the unit's structure is tested all the same")
    copy = tmp_path / "pairing.service"
    copy.write_text(UNIT.read_text().replace("/opt/pairing/bin/pairing", sys.executable))
    result = subprocess.run([program, "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_unit_is_shut_tight_and_starts_what_exists() -> None:
    """Every line of defence is there once, the state is its own, and the command line is one that `pairing serve` takes."""
    service = unit()
    assert {key: service.get(key) for key in HARDENED} == {key: [value] for key, value in HARDENED.items()}
    assert service["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert service["User"] == ["pairing"]
    assert int(service["LimitNOFILE"][0]) >= 65_536
    assert "Environment" in service
    assert not any(re.search("TOKEN|PASSWORD|KEY", value) for value in service["Environment"])
    options(shlex.split(service["ExecStart"][0]))
    assert service["RestartPreventExitStatus"] == [f"{Exit.USAGE} {Exit.REFUSED}"]


LOCKED = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-m", "cli.main", "serve"])
"""


def test_the_gateway_runs_without_memory_that_is_written_and_executed(tmp_path: Path) -> None:
    """The kernel itself denies it here as MemoryDenyWriteExecute= does: every library that the gateway loads can do without."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAIRING_")}
    env |= {"PAIRING_HOME": str(tmp_path / "home"), "PAIRING_GATEWAY_PORT": str(port)}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", LOCKED], env=env, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        if not first and process.wait(timeout=10) == 77:
            pytest.skip("NOT TESTED: this kernel has no PR_SET_MDWE")
        assert "listening" in first
        client = [sys.executable, "-m", "cli.main", "devices", "list", "--json"]
        listed = subprocess.run(client, env=env, capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(listed.stdout)["ok"]
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def steps() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())]


def test_the_image_is_slim_and_runs_as_nobody_special() -> None:
    """Its last user is not root, the state is a volume that user owns, it asks itself whether it is ready, and starts `serve`.

    No image is built here: what is tested is the recipe.
    """
    recipe = steps()
    last = dict(recipe)
    assert [rest.split()[0] for name, rest in recipe if name == "FROM"] == ["python:3.13-slim"] * 2
    user, _, group = last["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    names = [name for name, _ in recipe]
    assert names.index("USER") < names.index("CMD")
    assert last["VOLUME"] == "/var/lib/pairing"
    assert "install -d -m 0700 -o pairing -g pairing /var/lib/pairing" in last["RUN"]
    assert "PAIRING_HOME=/var/lib/pairing" in last["ENV"]
    options(json.loads(last["CMD"]))
    assert json.loads(last["HEALTHCHECK"].partition("CMD ")[2]) == ["python", "/opt/pairing/healthcheck.py"]


def test_the_image_is_made_of_what_is_there() -> None:
    """Everything copied exists, and everything that the distribution is built from is copied."""
    copied = [rest for name, rest in steps() if name == "COPY" and "--from" not in rest]
    sources = [word for rest in copied for word in rest.split()[:-1] if not word.startswith("--")]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", project["project"]["readme"], *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert needed <= set(sources)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_is_the_gateways_readiness(status: int, code: int) -> None:
    """0 where `/readyz` says yes; 1, with the reasons printed, where it says no."""

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b'{"failing":["herald-behind"]}')

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = check(server.server_port)
        server.shutdown()
    assert (result.returncode, result.stdout) == (code, '{"failing":["herald-behind"]}\n')


def test_the_health_check_of_nothing_fails() -> None:
    """No answer is no health."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = check(port)
    assert result.returncode == 1
    assert "ConnectionRefusedError" in result.stderr


def check(port: int) -> subprocess.CompletedProcess[str]:
    env = {"PAIRING_GATEWAY_PORT": str(port), "PATH": os.environ["PATH"]}
    program = [sys.executable, "-I", str(DEPLOY / "healthcheck.py")]
    return subprocess.run(program, env=env, capture_output=True, text=True, timeout=30, check=False)
