"""`pairing config`: what it prints, what it refuses, and what it leaves as it was."""

import json
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import pairing
from pairing.settings import KEYS, Secret, ensure_home

ROOT = Path(__file__).parents[1]
HUSH = "correct-horse-battery-staple"

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PAIRING_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PAIRING_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def run(home: Path) -> Run:
    def run(*arguments: str, stdin: str | bytes = "") -> Result:
        result = CliRunner().invoke(pairing, ("config", *arguments), input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    return run


def write(home: Path, text: str, mode: int = 0o600) -> Path:
    home.mkdir(mode=0o700, exist_ok=True)
    path = home / "config.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def document(result: Result) -> dict[str, Any]:
    """Return the one document on standard output."""
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


# --- get, list, path ---------------------------------------------------------------------------------------------------


def test_get_prints_the_value_alone(run: Run, home: Path) -> None:
    """A script takes standard output as it is."""
    write(home, "[gateway]\nport = 7\ntrustedProxies = ['10.0.0.0/8', '192.0.2.1']\nallowRealIpFallback = true\n")
    assert run("get", "gateway.port").stdout == "7\n"
    assert run("get", "gateway.trustedProxies").stdout == "10.0.0.0/8,192.0.2.1/32\n"
    assert run("get", "gateway.allowRealIpFallback").stdout == "true\n"
    assert run("get", "gateway.tls.cert").stdout == ""
    assert document(run("get", "gateway.port", "--json")) == {
        "ok": True,
        "key": "gateway.port",
        "value": 7,
        "source": f"file {home / 'config.toml'}:2",
    }


def test_reading_makes_nothing(run: Run, home: Path) -> None:
    """Looking at settings is no first start (A20)."""
    for arguments in (["get", "gateway.port"], ["list"], ["path"], ["unset", "gateway.prot"]):
        run(*arguments)
    assert not home.exists()


def test_a_secret_is_shown_by_source_and_fingerprint_unless_revealed(run: Run, home: Path) -> None:
    """Only --reveal prints a secret, and then nothing else (L7)."""
    ensure_home(home)
    secret = (home / "shared-token").read_text().strip()
    source = f"generated {home / 'shared-token'}"
    plain, told = run("get", "gateway.auth.token"), run("get", "gateway.auth.token", "--json")
    assert plain.stdout == f"fingerprint {Secret(secret).fingerprint()}, {source}\n"
    assert document(told) == {
        "ok": True,
        "key": "gateway.auth.token",
        "secret": True,
        "fingerprint": Secret(secret).fingerprint(),
        "source": source,
    }
    assert run("get", "gateway.auth.token", "--reveal").stdout == secret + "\n"
    assert document(run("get", "gateway.auth.token", "--reveal", "--json"))["value"] == secret
    for result in (plain, told, run("list"), run("list", "--json")):
        assert secret not in result.output


def test_what_get_shows_of_a_secret_is_no_secret(run: Run, home: Path) -> None:
    """The fingerprint line, taken for the token by a script, is refused as a token (T15)."""
    ensure_home(home)
    line = run("get", "gateway.auth.token").stdout
    assert run("set", "gateway.auth.token", "-", stdin=line).exit_code == 3


def test_list_names_every_key_with_value_and_source(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row a key, in the order of the table; secrets as fingerprints."""
    write(home, f"log.level = 'debug'\ngateway.auth.password = '{HUSH}'\ngateway.maxPreauthPerAddress = 0\n")
    monkeypatch.setenv("PAIRING_GATEWAY_PORT", "7")
    rows = run("list").stdout.splitlines()
    assert [row.split()[0] for row in rows] == list(KEYS)
    assert rows[0].split() == ["gateway.port", "7", "env", "PAIRING_GATEWAY_PORT"]
    told = document(run("list", "--json"))
    assert told["ok"] is True
    assert told["home"] == str(home)
    assert [row["key"] for row in told["settings"]] == list(KEYS)
    by_key = {row["key"]: row for row in told["settings"]}
    assert by_key["log.level"]["source"].endswith("config.toml:1")
    assert by_key["gateway.auth.mode"]["value"] == "password"
    assert "value" not in by_key["gateway.auth.password"]
    assert "maxPreauthPerAddress" in told["warnings"][0]
    assert "maxPreauthPerAddress" in run("list").stderr
    assert HUSH not in run("list").output + json.dumps(told)


def test_path_names_the_file_whether_or_not_it_is_there(run: Run, home: Path) -> None:
    """The way to the file that an editor needs."""
    assert run("path").stdout == f"{home / 'config.toml'}\n"
    assert document(run("path", "--json")) == {"ok": True, "path": str(home / "config.toml")}


# --- set, unset --------------------------------------------------------------------------------------------------------


def test_set_writes_a_closed_file_and_keeps_its_comments(run: Run, home: Path) -> None:
    """The change is one value; the rest of the file is as the person wrote it."""
    before = "# my gateway\n[gateway] # here\nport = 1 # not the usual one\n\n# lines\n[log]\nlevel = 'debug'\n"
    path = write(home, before, 0o644)
    result = run("set", "gateway.port", "7")
    assert result.exit_code == 0
    assert result.stdout.startswith("Set: gateway.port = 7 ")
    assert path.read_text() == before.replace("port = 1", "port = 7")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(home) == ["config.toml"]


def test_set_closes_the_file_even_where_nothing_changes(run: Run, home: Path) -> None:
    """A file that was left open to others is closed by the first command that touches it."""
    path = write(home, "gateway.port = 7\n", 0o644)
    run("set", "gateway.port", "7")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("gateway.port = 7\n", 0o600)


def test_set_makes_what_is_missing(run: Run, home: Path) -> None:
    """On a fresh machine the folder and the file come into being, closed."""
    assert run("set", "gateway.auth.rateLimit.maxAttempts", "3").exit_code == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "config.toml").stat().st_mode) == 0o600
    assert run("get", "gateway.auth.rateLimit.maxAttempts").stdout == "3\n"


@pytest.mark.parametrize(
    ("key", "value", "as_json", "written"),
    [
        ("gateway.trustedProxies", "10.0.0.0/8, 192.0.2.1", False, ["10.0.0.0/8", "192.0.2.1"]),
        ("gateway.trustedProxies", '["10.0.0.0/8"]', True, ["10.0.0.0/8"]),
        ("gateway.trustedProxies", "", False, []),
        ("gateway.allowRealIpFallback", "true", False, True),
        ("gateway.port", "7", True, 7),
        ("gateway.bind", '"lan"', True, "lan"),
        ("gateway.bind", "lan", False, "lan"),
    ],
)
def test_values_are_written_in_their_type(run: Run, home: Path, key: str, value: str, as_json: bool, written: object) -> None:
    """Text is read as the key's kind needs it; --json-value says it exactly."""
    assert run("set", key, value, *(["--json-value"] if as_json else [])).exit_code == 0
    found: Any = tomllib.loads((home / "config.toml").read_text())
    for part in key.split("."):
        found = found[part]
    assert found == written
    assert type(found) is type(written)


def test_a_path_is_written_as_it_is_meant(run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path given here does not move to the state folder."""
    monkeypatch.chdir(tmp_path)
    run("set", "gateway.tls.cert", "cert.pem")
    assert run("get", "gateway.tls.cert").stdout == f"{tmp_path / 'cert.pem'}\n"


@pytest.mark.parametrize(
    ("key", "value", "extra"),
    [
        ("gateway.port", "x", []),
        ("gateway.port", "65536", []),
        ("gateway.port", "true", ["--json-value"]),
        ("gateway.port", "null", ["--json-value"]),
        ("gateway.port", "{", ["--json-value"]),
        ("gateway.port", "[" * 100_000, ["--json-value"]),
        ("gateway.bind", "localhost", []),
        ("gateway.trustedProxies", "10.0.0.1/8", []),
        ("gateway.auth.rateLimit.maxAttempts", "0", []),
        ("gateway.allowRealIpFallback", "yes", []),
    ],
)
def test_a_value_that_does_not_fit_is_refused_before_writing(
    run: Run, home: Path, key: str, value: str, extra: list[str]
) -> None:
    """Nothing is written that the next start would complain about; a limit is not quietly put aside either (N10)."""
    path = write(home, "# as it was\n")
    result = run("set", key, value, "--json", *extra)
    error = document(result)["error"]
    assert result.exit_code == 3
    assert set(error) == {"type", "reason", "message", "hint", "details"}
    assert error["message"].startswith(key)
    assert path.read_text() == "# as it was\n"


def test_a_secret_is_not_taken_from_an_argument(run: Run, home: Path) -> None:
    """Arguments are public; the refusal says how to do it and does not repeat the secret (L7)."""
    for key in ("gateway.auth.token", "gateway.auth.password", "gateway.remote.token", "gateway.remote.password"):
        result = run("set", key, HUSH)
        assert (result.exit_code, result.stdout) == (3, "")
        assert f"pairing config set {key} -" in result.stderr
        assert HUSH not in result.output
    assert not home.exists()


def test_a_secret_comes_by_standard_input_and_is_not_repeated(run: Run, home: Path) -> None:
    """`-` reads the secret; no output has it (L7)."""
    result = run("set", "gateway.auth.token", "-", stdin=HUSH + "\n")
    assert result.exit_code == 0
    assert HUSH not in result.output
    assert tomllib.loads((home / "config.toml").read_text()) == {"gateway": {"auth": {"token": HUSH}}}
    assert run("get", "gateway.auth.token", "--reveal").stdout == HUSH + "\n"


@pytest.mark.parametrize("stdin", ["", " \n", "***\n", "[REDACTED]", b"\xff\xfe\n"])
def test_blank_input_is_no_secret(run: Run, home: Path, stdin: str | bytes) -> None:
    """A pipe that delivered nothing does not take the lock off the door (T3, T15)."""
    result = run("set", "gateway.auth.password", "-", "--json", stdin=stdin)
    assert result.exit_code == 3
    assert document(result)["ok"] is False
    assert not (home / "config.toml").exists()


def test_a_success_that_changed_nothing_says_so(run: Run, home: Path) -> None:
    """Setting what is set, and unsetting what is not, are done and said to be nothing (D11)."""
    run("set", "gateway.port", "7")
    before = (home / "config.toml").stat()
    again = run("set", "gateway.port", "7")
    assert (again.exit_code, again.stdout.split(":")[0]) == (0, "Already set")
    assert document(run("set", "gateway.port", "7", "--json"))["changed"] is False
    assert (home / "config.toml").stat().st_ino == before.st_ino
    absent = run("unset", "gateway.bind")
    assert (absent.exit_code, absent.stdout.split(":")[0]) == (0, "Nothing to do")
    assert document(run("unset", "gateway.bind", "--json"))["changed"] is False


def test_unset_brings_the_default_back(run: Run, home: Path) -> None:
    """The key is gone, the comments of the others are not."""
    path = write(home, "# mine\n[gateway]\nport = 7\nbind = 'lan' # all\n")
    assert run("unset", "gateway.port").exit_code == 0
    assert path.read_text() == "# mine\n[gateway]\nbind = 'lan' # all\n"
    assert run("get", "gateway.port").stdout == "18789\n"


def test_a_key_that_is_in_the_way_can_be_taken_out(run: Run, home: Path) -> None:
    """An unknown key stops everything else, so the command that removes it does not need it to be known."""
    write(home, "gateway.prot = 1\n")
    assert run("get", "gateway.port").exit_code == 3
    assert run("unset", "gateway.prot").exit_code == 0
    assert run("get", "gateway.port").exit_code == 0


def test_one_mistake_after_another_can_be_put_right(run: Run, home: Path) -> None:
    """A good value is taken while others are still wrong; they are named."""
    write(home, "gateway.port = 'x'\nlog.level = 'loud'\n")
    result = run("set", "gateway.port", "7")
    assert result.exit_code == 0
    assert "still wrong: config.toml:2: log.level" in result.stderr


def test_set_says_what_keeps_it_from_working(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment overrides, and what cannot be served, is said at once."""
    monkeypatch.setenv("PAIRING_GATEWAY_PORT", "9")
    assert "PAIRING_GATEWAY_PORT" in run("set", "gateway.port", "7").stderr
    assert "gateway.tls.key is missing" in run("set", "gateway.tls.cert", "/c").stderr
    assert "gateway.auth.password" in run("set", "gateway.auth.mode", "password").stderr


def test_a_file_that_is_not_understood_is_left_alone(run: Run, home: Path) -> None:
    """What cannot be read is not replaced (D1)."""
    path = write(home, "gateway = [ # half\n")
    for arguments in (["set", "gateway.port", "7"], ["unset", "gateway.port"], ["get", "gateway.port"], ["list"]):
        result = run(*arguments, "--json")
        assert result.exit_code == 3, arguments
        assert "config.toml:" in document(result)["error"]["message"]
    assert path.read_text() == "gateway = [ # half\n"
    path.unlink()
    path.mkdir()
    assert run("set", "gateway.port", "7").exit_code == 3


def test_a_write_that_fails_is_reported_and_changes_nothing(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an answer with an exit code of its own, and the old file stands."""
    path = write(home, "# as it was\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run("set", "gateway.port", "7", "--json")
    assert (result.exit_code, document(result)["error"]["reason"]) == (7, "system")
    assert path.read_text() == "# as it was\n"
    assert os.listdir(home) == ["config.toml"]


def test_two_that_set_at_once_both_have_their_way(home: Path) -> None:
    """Reading, changing and writing is one step: no change of another process is lost (D4)."""
    ensure_home(home)
    wanted = {"gateway.port": "7", "gateway.bind": "lan", "log.level": "debug", "gateway.maxConnections": "9"}
    program = "from cli.config import config; config()"
    started = [
        subprocess.Popen([sys.executable, "-c", program, "set", *pair], cwd=ROOT, stdout=subprocess.DEVNULL)
        for pair in wanted.items()
    ]
    assert [process.wait(60) for process in started] == [0] * 4
    found = tomllib.loads((home / "config.toml").read_text())
    assert found == {"gateway": {"port": 7, "bind": "lan", "maxConnections": 9}, "log": {"level": "debug"}}


# --- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["get"], ["set"], ["unset"]])
def test_an_unknown_key_is_not_found_and_guessed(run: Run, command: list[str]) -> None:
    """4 is the exit code of what is not there, and the message names the nearest key."""
    value = ["1"] if command == ["set"] else []
    result = run(*command, "gateway.prot", *value, "--json")
    assert result.exit_code == 4
    error = document(result)["error"]
    assert (error["reason"], "did you mean gateway.port?" in error["message"]) == ("unknown-key", True)
    plain = run(*command, "gateway.prot", *value)
    assert (plain.exit_code, plain.stdout) == (4, "")
    assert "did you mean gateway.port?" in plain.stderr


@pytest.mark.parametrize("arguments", [["get"], ["set", "gateway.port"], ["list", "--nope"], ["path", "extra"]])
def test_a_usage_error_is_one_document_too(run: Run, arguments: list[str]) -> None:
    """With --json standard output has exactly one document, also when the command was misspelt (L12)."""
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    assert document(result)["error"]["type"] == "usage"
    plain = run(*arguments)
    assert (plain.exit_code, plain.stdout) == (2, "")


def test_problems_of_the_file_are_told_all_at_once(run: Run, home: Path) -> None:
    """Text: one line a problem on standard error. JSON: the same in one message (L12)."""
    write(home, "gateway.port = 'x'\nlog.level = 'loud'\n")
    plain, told = run("get", "gateway.bind"), document(run("list", "--json"))
    assert plain.exit_code == 3
    for number, key in ((1, "gateway.port"), (2, "log.level")):
        assert f"config.toml:{number}: {key} must be" in plain.stderr
        assert f"config.toml:{number}: {key} must be" in told["error"]["message"]


def test_the_module_costs_nothing_until_a_command_runs() -> None:
    """Heavy imports wait, so that starting stays cheap."""
    program = "import sys, cli.config; sys.exit(bool({'msgspec', 'tomlkit', 'rich', 'pairing.settings'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False).returncode == 0
