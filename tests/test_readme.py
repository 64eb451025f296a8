"""The sessions of README and docs/operation.md, run as they stand there: a real gateway, real commands, a real shell.

In them, `<name>` stands for what differs from run to run: the first time it is learned, from then on it must be the same.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import pairing as entry
from pairing.identity import Identity

ROOT = Path(__file__).parent.parent
PROMPT = "$ "


def steps(document: str) -> list[tuple[str, list[str], int]]:
    """Return command, expected lines and expected exit code of every prompt in a document's console blocks."""
    found: list[tuple[str, list[str], int]] = []
    for block in re.findall(r"```console\n(.*?)```", (ROOT / document).read_text(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith(PROMPT):
                found.append((line[len(PROMPT) :], [], 0))
            elif code := re.fullmatch(r"\[exit (\d+)\]", line):
                found[-1] = (found[-1][0], found[-1][1], int(code[1]))
            else:
                found[-1][1].append(line)
    return found


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Shell:
    """One bash that keeps its jobs and its folder from one step to the next."""

    def __init__(self, folder: Path, port: int) -> None:
        self.learned: dict[str, str] = {}
        self._port = str(port)
        env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            # The sources beside this test, wherever the command itself was installed from.
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "PAIRING_HOME": str(folder / "home"),
            "PAIRING_GATEWAY_PORT": self._port,
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, expected: list[str], code: int) -> None:
        """Type a command, read until it is done, and compare."""
        for name, value in self.learned.items():
            command = command.replace(f"<{name}>", value)
        command = command.replace("18789", self._port)
        background = command.endswith("&")
        self._type(f"{command}\n" if background else f"{{ {command}\n}}; printf '[exit %s]\\n' $?\n")
        said = self._lines_until(len(expected)) if background else self._lines_until_exit(command, code)
        self._compare(command, [line.replace("18789", self._port) for line in expected if line.strip()], said)

    def _type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the shell ended"
        return line.rstrip("\n")

    def _lines_until(self, count: int) -> list[str]:
        # A gateway in the background logs beside what it prints; JSON lines are its log.
        said: list[str] = []
        while len(said) < count:
            line = self._line()
            if line.strip() and not line.startswith("{"):
                said.append(line)
        return said

    def _lines_until_exit(self, command: str, code: int) -> list[str]:
        said: list[str] = []
        while not (ended := re.fullmatch(r"\[exit (\d+)\]", line := self._line())):
            if not line.startswith("{"):
                said.append(line)
        assert int(ended[1]) == code, f"{command}: {said}"
        return said

    def _compare(self, command: str, expected: list[str], said: list[str]) -> None:
        """Every expected line begins some line that was printed, in order; others may stand between."""
        rest = iter(said)
        for line in expected:
            assert any(self._fits(line, candidate) for candidate in rest), f"{command}\nexpected: {line}\nsaid: {said}"

    def _fits(self, line: str, candidate: str) -> bool:
        known = line
        for name, value in self.learned.items():
            known = known.replace(f"<{name}>", value)
        names = re.findall(r"<(\w+)>", known)
        pattern = re.sub(r"\\?<(\w+)\\?>", r"(\\S+?)", re.escape(known))
        match = re.match(pattern + (r"(?![\w-])" if pattern.endswith("?)") else ""), candidate)
        if match is None:
            return False
        self.learned |= dict(zip(names, match.groups(), strict=True))
        return True

    def end(self) -> None:
        """End the shell and what it started: they are a session of their own."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.communicate(timeout=10)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path, free_port())
    yield made
    made.end()


def test_the_sessions_of_the_readme(shell: Shell) -> None:
    """Serve, ask as a remote device, approve, return by token, be refused; explain a drifted token, restore what was cleared.

    V7: what was revoked on purpose stays out of a restore.
    """
    session = steps("README.md")
    assert len(session) >= 28
    for command, expected, code in session:
        shell.run(command, expected, code)
    assert {"request", "digest", "device", "reference", "evening", "stolen"} <= set(shell.learned)


def test_what_to_do_when_something_has_happened(shell: Shell, tmp_path: Path) -> None:
    """Every command of the runbook works: explain, lock, blast, undo, restore, backup, checkpoint, import, webhooks."""
    session = steps("docs/operation.md")
    assert len(session) >= 25
    store(tmp_path / ".openclaw")
    for command, expected, code in SCENE + session:
        shell.run(command, expected, code)


def test_every_command_that_the_readme_names_is_one() -> None:
    """`pairing devices list`, and what follows as a bare word in the same cell, are commands of the command line."""
    table = (ROOT / "README.md").read_text().partition("| you want to |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| .* \| (.*) \|$", table, re.MULTILINE)
    named = 0
    for row in rows:
        group: click.Group = entry
        for words in (text.split() for text in re.findall(r"`([a-z][^`]*)`", row)):
            if "." in words[0]:
                continue
            if words[0] == "pairing":
                group, words = entry, words[1:]
                if isinstance(inner := find(entry, words[0]), click.Group):
                    group, words = inner, words[1:]
            assert find(group, words[0]) is not None, f"{row}: {words}"
            named += 1
    assert named >= 30


def find(group: click.Group, name: str) -> click.Command | None:
    return group.get_command(click.Context(group), name)


URL = "ws://127.0.0.1:18789"
JOIN = f"pairing connect --home {{0}} --name {{0}} --scope {{1}} --url {URL} --token - < $PAIRING_HOME/shared-token"
SCENE: list[tuple[str, list[str], int]] = [
    ("pairing serve &", ["pairing gateway listening"], 0),
    *(
        step
        for name, scope in (("laptop", "admin"), ("desk", "admin"), ("till", "read"), ("tablet", "read"))
        for step in (
            (JOIN.format(name, f"operator.{scope}"), ["Connected to", f"  device    <{name}_id>"], 0),
            (f"pairing devices rename <{name}_id> {name}", ["Renamed"], 0),
        )
    ),
    ("PAIRING_HOME=desk pairing devices rotate --device till --role operator --reason 'monthly rotation'", ["Rotated"], 0),
]


def store(folder: Path) -> None:
    """Write the state folder of OpenClaw's own gateway, with one device. Its token is made up, and says so."""
    device = Identity((1).to_bytes(32, "big"))
    token = {"token": "made-up-laptop-token-abcdefghijklmnopqrstuv"}
    record = {
        "deviceId": device.device,
        "publicKey": device.key,
        "displayName": "Ada's laptop",
        "platform": "linux",
        "role": "operator",
        "roles": ["operator"],
        "scopes": ["operator.read"],
        "approvedScopes": ["operator.read"],
        "tokens": {"operator": {**token, "role": "operator", "scopes": ["operator.read"], "createdAtMs": 1_700_000_000_000}},
        "createdAtMs": 1_700_000_000_000,
        "approvedAtMs": 1_700_000_000_000,
    }
    (folder / "devices").mkdir(parents=True)
    (folder / "devices" / "paired.json").write_text(json.dumps({device.device: record}))
