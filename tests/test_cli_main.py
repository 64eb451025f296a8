"""The root of the command line: what it costs, what it says of itself, how it fails."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cli.main import COMMANDS, EPILOG, pairing
from cli.voice import FAMILIES, age, duration, plain, table
from pairing.refusals import Exit


def run(*args: str, home: Path | None = None, **env: str) -> Result:
    clean = dict.fromkeys(("PAIRING_GATEWAY_URL", "PAIRING_GATEWAY_TOKEN", "PAIRING_GATEWAY_PASSWORD"))
    return CliRunner().invoke(pairing, args, env={**clean, "PAIRING_HOME": str(home) if home else "/nonexistent/home", **env})


def test_help_loads_nothing_heavy() -> None:
    """Starting costs click and nothing else: every heavy import waits for the command that needs it."""
    code = (
        "import sys; from cli.main import pairing; from contextlib import suppress\n"
        "with suppress(SystemExit): pairing.main(['--help'])\n"
        "print(*{m.partition('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in ran.stdout
    heavy = {
        "anyio",
        "asyncio",
        "aiosqlite",
        "msgspec",
        "nacl",
        "pairing",
        "projections",
        "rich",
        "sqlite3",
        "structlog",
        "websockets",
    }
    assert heavy & set(ran.stderr.split()) == set()


def test_every_exit_code_is_documented() -> None:
    """Help names each code, and each has one family for `--json`."""
    codes = {value for name, value in vars(Exit).items() if name.isupper()}
    listed = {int(line.split()[0]) for line in EPILOG.splitlines() if line[:3].strip().isdigit()}
    assert listed == codes
    assert set(FAMILIES) == codes - {Exit.OK}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_summed_up_as_it_sums_itself_up(name: str) -> None:
    """The summaries that stand in for unloaded commands are the commands' own."""
    command = pairing.get_command(click.Context(pairing), name)
    assert command is not None
    assert command.get_short_help_str(200).rstrip(".") == COMMANDS[name][1].rstrip(".")


def test_the_version_is_that_of_the_distribution() -> None:
    """`--version` names the program and its version."""
    from importlib.metadata import version

    assert run("--version").output == f"pairing {version('pairing-gateway')}\n"


@pytest.mark.parametrize("args", [(), ("devices",), ("log",)])
def test_a_group_alone_prints_its_help(args: tuple[str, ...]) -> None:
    """Help is no failure."""
    result = run(*args)
    assert result.exit_code == 0
    assert "Usage: pairing" in result.output


@pytest.mark.parametrize(
    "args",
    [
        ("nonsense",),
        ("devices", "nonsense"),
        ("devices", "list", "--nonsense"),
        ("devices", "list", "--timeout", "soon"),
        ("devices", "approve", "x", "--latest"),
        ("devices", "approve", "--seen", "x"),
        ("devices", "rotate", "--device", "x"),
        ("devices", "rotate", "--device", "x", "--role", "node", "--scope", "a", "--no-scopes"),
        ("devices", "rename", "x"),
        ("devices", "rename", "x", "y", "--clear"),
        ("devices", "clear"),
        ("devices", "list", "--token", " "),
        ("connect", "--header", "nonsense"),
        ("connect", "--role", "king"),
    ],
)
def test_what_is_not_understood_is_said_in_both_forms(args: tuple[str, ...]) -> None:
    """A usage error is exit code 2: `pairing:` and a hint on standard error, or one document on standard output (L12)."""
    plainly = run(*args)
    assert (plainly.exit_code, plainly.stdout) == (Exit.USAGE, "")
    assert plainly.stderr.startswith("pairing: ")
    assert "\nhint: " in plainly.stderr
    as_json = run(*args, "--json")
    assert as_json.exit_code == Exit.USAGE
    document = json.loads(as_json.stdout)
    assert document["ok"] is False
    assert document["error"]["type"] == "usage"
    assert set(document["error"]) == {"type", "reason", "message", "hint", "details"}


def test_an_unforeseen_error_shows_nothing_of_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw may hold a secret in its message; only its kind is told (L7)."""

    def burst(*args: object, **kwargs: object) -> None:
        raise LookupError("hunter2")

    monkeypatch.setattr("cli.door.find", burst)
    result = run("devices", "list")
    assert result.exit_code == Exit.BROKEN
    assert "LookupError" in result.stderr
    assert "hunter2" not in result.output


def test_a_broken_settings_file_is_told_with_its_lines(tmp_path: Path) -> None:
    """Settings that cannot be used stop a command before any connection."""
    (tmp_path / "config.toml").write_text("[gateway]\nport = 'x'\n")
    result = run("devices", "list", home=tmp_path)
    assert result.exit_code == Exit.REFUSED
    assert "config.toml:2" in result.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kitchen", "kitchen"),
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("a\nb\r\tc", "a\ufffdb\ufffd\ufffdc"),
        ("\u202egnp.exe", "\ufffdgnp.exe"),
        ("x" * 100, "x" * 63 + "…"),
        ("  ", ""),
        (7, "7"),
    ],
)
def test_what_a_device_calls_itself_cannot_draw_on_the_terminal(text: object, shown: str) -> None:
    """Control characters and reversals become marks, long texts are cut."""
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (-5, "0s"),
        (999, "0s"),
        (59_999, "59s"),
        (60_000, "1m"),
        (299_000, "4m59s"),
        (660_000, "11m"),
        (7_260_000, "2h1m"),
        (90_000_000, "1d1h"),
        (1_000_000_000, "11d"),
    ],
)
def test_spans_are_said_in_their_largest_units(ms: int, shown: str) -> None:
    """Short enough for a table, exact enough to act on."""
    assert duration(ms) == shown


def test_ages() -> None:
    """Never, just now, and how long ago."""
    assert [age(None, 5), age(5, 5), age(0, 90_000)] == ["never", "just now", "1m30s ago"]


def test_a_table_for_a_pipe_is_plain_and_aligned() -> None:
    """Without a terminal nothing is drawn."""
    assert table(("A", "Bee"), [("1", "x"), ("22", "")]) == "A   Bee\n1   x\n22"


def test_a_table_for_a_terminal_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal no line is wider than it, and what looks like markup stays text."""
    monkeypatch.setattr("cli.voice.on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    drawn = table(("Id", "Scopes"), [("0123456789ab", "[bold]operator.read, operator.write, operator.admin, operator.pairing")])
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in drawn.splitlines()) <= 40
    assert "[bold]" in drawn
