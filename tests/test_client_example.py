"""The example of docs/client.md, run as it is printed there against a gateway that is killed and comes back."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

EXAMPLE = re.search(r"```python\n(.*?)```", (Path(__file__).parent.parent / "docs" / "client.md").read_text(), re.DOTALL)


class Scene:
    """A gateway's folder and port, and whatever runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *args: str, **pipes: object) -> subprocess.Popen[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PAIRING_")}
        process: subprocess.Popen[str] = subprocess.Popen([sys.executable, *args], env=env, **pipes)  # type: ignore[call-overload]
        self.running.append(process)
        return process

    def gateway(self) -> subprocess.Popen[str]:
        home = ("--home", str(self.folder / "gateway"), "--port", str(self.port))
        process = self.start("-m", "cli.main", "serve", *home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        return process

    def device(self, program: Path) -> None:
        url = f"ws://127.0.0.1:{self.port}"
        said = (self.folder / "said").open("w")
        with said, (self.folder / "gateway" / "shared-token").open() as token:
            self.start("-u", str(program), url, str(self.folder / "device"), stdin=token, stdout=said, stderr=said)

    def until(self, holds: Callable[[list[str]], bool]) -> None:
        for _ in range(200):
            if holds((self.folder / "said").read_text().splitlines()):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "said").read_text())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_the_example_connects_and_comes_back_to_a_gateway_that_was_killed(scene: Scene, tmp_path: Path) -> None:
    """It prints the answer to its call, notices that the gateway is gone, tries, and is in again without anybody's help."""
    assert EXAMPLE is not None
    program = tmp_path / "thermometer.py"
    program.write_text(EXAMPLE[1])
    gateway = scene.gateway()
    scene.device(program)
    scene.until(lambda lines: any(line.startswith("{'ok': True") for line in lines))
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    scene.until(lambda lines: any(line.startswith("retrying") for line in lines))
    scene.gateway()
    scene.until(lambda lines: sum(line.startswith("connected") for line in lines) == 2)
    stored = tmp_path / "device" / "identity" / "device-auth.json"
    assert stored.stat().st_mode & 0o777 == 0o600
