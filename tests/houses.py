"""A gateway in a state folder of its own, and the command line as its operator and as devices elsewhere use it."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cli.main import pairing
from pairing.refusals import Exit

REMOTE = ("--header", "X-Forwarded-For: 203.0.113.7")
NOBODY = "0" * 64


class House:
    """A state folder, a port, and the command line as its operator and as devices elsewhere use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "gateway"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return (self.home / "shared-token").read_text().strip()

    def run(self, *args: str, stdin: str = "", **env: str) -> Result:
        clean = dict.fromkeys(name for name in os.environ if name.startswith("PAIRING_"))
        here = {"PAIRING_HOME": str(self.home), "PAIRING_GATEWAY_PORT": str(self.port)}
        return CliRunner().invoke(pairing, args, input=stdin, env={**clean, **here, **env})

    def say(self, *args: str, exit: int = 0) -> str:
        result = self.run(*args)
        assert result.exit_code == exit, result.output
        return result.stdout

    def json(self, *args: str, exit: int = 0) -> dict[str, Any]:
        found = json.loads(self.say(*args, "--json", exit=exit))
        assert isinstance(found, dict)
        assert found["ok"] is (exit == 0)
        return found

    def knock(self, who: str, *args: str, exit: int = Exit.REFUSED) -> dict[str, Any]:
        """Connect as a remote device with a state folder of its own."""
        home = ("--home", str(self.folder / who), "--name", who)
        return self.json("connect", *home, "--url", self.url, "--token", self.token, *REMOTE, *args, exit=exit)

    def device(self, who: str) -> str:
        return str(json.loads((self.folder / who / "identity" / "identity.json").read_text())["deviceId"])

    def request(self, who: str, *args: str) -> str:
        return str(self.knock(who, *args)["error"]["details"]["requestId"])

    def pair(self, who: str, *args: str) -> str:
        self.say("devices", "approve", self.request(who, *args))
        return self.device(who)


def started(house: House) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAIRING_")}
    command = [sys.executable, "-m", "cli.main", "serve", "--home", str(house.home), "--port", str(house.port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    assert process.stdout is not None
    assert "listening" in process.stdout.readline()
    return process


def stopped(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
