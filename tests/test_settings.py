"""Settings: what a person wrote, where they wrote it, and what is refused before anything starts."""

import copy
import ipaddress
import json
import os
import pickle
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from pairing.authority import OPERATOR_SCOPES
from pairing.settings import (
    KEYS,
    Secret,
    Settings,
    SettingsError,
    conflicts,
    default_home,
    edit,
    ensure_home,
    load,
    policy_digest,
)
from pairing.settings.edit import with_value, without
from pairing.settings.home import config_path, read_text, write_private
from pairing.settings.kinds import Choice, Flag, Integer, Limit, ListOf, SecretText, plain
from pairing.settings.lines import locate
from pairing.settings.load import examine
from pairing.settings.problems import Problem
from pairing.settings.reference import reference

ROOT = Path(__file__).parents[1]
HUSH = "correct-horse-battery-staple"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def write(home: Path, text: str, mode: int = 0o600) -> Path:
    path = config_path(home)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def loaded(home: Path, text: str = "", *, env: Mapping[str, str] | None = None, **more: Any) -> Settings:
    if text:
        write(home, text)
    return load(home, env=env or {}, flags=more.pop("flags", {}), **more)


def refused(home: Path, text: str = "", **more: Any) -> tuple[Problem, ...]:
    with pytest.raises(SettingsError) as caught:
        loaded(home, text, **more)
    return caught.value.problems


def lines_of(problems: tuple[Problem, ...]) -> list[str]:
    return [str(problem) for problem in problems]


# --- the table ---------------------------------------------------------------------------------------------------------


def test_without_configuration_the_service_has_safe_defaults(home: Path) -> None:
    """Nothing configured means: loopback, protocol's port, token mode, limits on (N10), no automatic approval (A19)."""
    gateway = loaded(home).gateway
    assert (gateway.port, gateway.bind, gateway.host, gateway.mode) == (18789, "loopback", "127.0.0.1", "local")
    assert gateway.auth.mode == "token"
    assert gateway.auth.token is None
    limit = gateway.auth.rate_limit
    assert (limit.max_attempts, limit.window_ms, limit.lockout_ms, limit.exempt_loopback) == (10, 60_000, 300_000, True)
    assert gateway.nodes.pairing.auto_approve_cidrs == gateway.trusted_proxies == gateway.control_ui.allowed_origins == ()
    assert gateway.pairing.local_ceiling == OPERATOR_SCOPES
    assert (gateway.pairing.max_pending, gateway.pairing.max_pending_per_address) == (1000, 50)
    assert gateway.pairing.request_ttl_ms == 300_000
    assert (gateway.handshake_timeout_ms, gateway.max_preauth_per_address) == (15_000, 32)
    assert not gateway.control_ui.dangerously_disable_device_auth


def test_every_setting_has_one_source_and_an_unchanged_default(home: Path) -> None:
    """The table is the tree: every name answers with its default, and says so."""
    settings = loaded(home)
    assert set(settings.sources) == set(KEYS)
    for name, key in KEYS.items():
        assert settings.value(name) == key.default
        assert settings.source(name) == "default"
    with pytest.raises(KeyError):
        settings.source("gateway.prot")


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.default is not None])
def test_every_default_is_a_value_that_its_kind_accepts(name: str) -> None:
    """A default written out by hand is the same setting."""
    key = KEYS[name]
    assert key.setting.kind.read(plain(key.default)) == key.default


def test_the_reference_is_not_stale() -> None:
    """Every key is documented: docs/settings.md is what the table says today."""
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == reference(), "run: .venv/bin/python -m pairing.settings.reference > docs/settings.md"
    for name in ("gateway.port", "gateway.pairing.localCeiling", "log.format"):
        assert f"## `{name}`" in written


# --- layers and sources ------------------------------------------------------------------------------------------------


def test_flags_override_environment_overrides_file_overrides_default(home: Path) -> None:
    """The later layer wins, and each value knows its source."""
    text = "# mine\n\n[gateway]\nport = 1\n"
    env = {"PAIRING_GATEWAY_PORT": "2"}
    in_file, in_env = loaded(home, text), loaded(home, env=env)
    by_flag = loaded(home, env=env, flags={"gateway.port": 3, "gateway.bind": None})
    assert (in_file.gateway.port, in_file.source("gateway.port")) == (1, f"file {home / 'config.toml'}:4")
    assert (in_env.gateway.port, in_env.source("gateway.port")) == (2, "env PAIRING_GATEWAY_PORT")
    assert (by_flag.gateway.port, by_flag.source("gateway.port")) == (3, "flag --port")
    assert by_flag.source("gateway.bind") == "default"


def test_an_empty_variable_is_not_set(home: Path) -> None:
    """Compose files pass unset variables on as empty texts; a blank one is not a token (T3)."""
    settings = loaded(home, env={"PAIRING_GATEWAY_TOKEN": "", "PAIRING_GATEWAY_PORT": ""})
    assert settings.source("gateway.auth.token") == "default"
    assert refused(home, env={"PAIRING_GATEWAY_TOKEN": "  "})[0].key == "gateway.auth.token"


def test_a_wrong_variable_or_flag_is_named_like_a_wrong_line(home: Path) -> None:
    """A problem says where: variable, flag or line, all of them at once."""
    problems = refused(
        home,
        "gateway.port = 0\n",
        env={"PAIRING_GATEWAY_PORT": "x", "PAIRING_GATEWAY_URL": "ftp://h"},
        flags={"log.level": "loud", "gateway.port": 70_000},
    )
    assert lines_of(problems) == [
        "config.toml:1: gateway.port must be an integer from 1 to 65535, not 0",
        'PAIRING_GATEWAY_PORT: gateway.port must be an integer from 1 to 65535, not "x"',
        "PAIRING_GATEWAY_URL: gateway.remote.url must be a ws:// or wss:// URL without credentials, query or fragment,"
        ' not "ftp://h"',
        '--log-level: log.level must be "debug", "info", "warning" or "error", not "loud"',
        "--port: gateway.port must be an integer from 1 to 65535, not 70000",
    ]


def test_a_flag_of_an_unknown_name_is_a_mistake_in_the_program(home: Path) -> None:
    """Only people make typing errors that deserve a friendly word."""
    with pytest.raises(KeyError):
        loaded(home, flags={"gateway.prot": 1})


def test_the_state_folder_is_chosen_by_variable_else_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PAIRING_HOME wins, empty counts as unset, and the answer is absolute."""
    assert default_home({"PAIRING_HOME": "/srv/p", "HOME": "/h"}) == Path("/srv/p")
    assert default_home({"PAIRING_HOME": "", "HOME": "/h"}) == Path("/h/.pairing")
    monkeypatch.chdir(tmp_path)
    assert default_home({"PAIRING_HOME": "here"}) == tmp_path / "here"


def test_a_host_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run under users that no file knows."""

    def nowhere() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(SettingsError, match="set PAIRING_HOME"):
        default_home({})


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", "token"),
        ('gateway.auth.password = "p"', "password"),
        ('gateway.auth.password = "p"\ngateway.auth.mode = "token"', "token"),
        ('gateway.remote.password = "p"', "token"),
        ('gateway.auth.mode = "none"', "none"),
    ],
)
def test_the_mode_follows_a_configured_password_unless_it_is_set(home: Path, text: str, mode: str) -> None:
    """Unset mode means password if the gateway has one, else token (protocol §4.1)."""
    assert loaded(home, text).gateway.auth.mode == mode


def test_all_layouts_of_toml_mean_the_same(home: Path) -> None:
    """Dotted keys, tables and inline tables are one tree."""
    layouts = (
        'gateway.auth.mode = "none"\ngateway.tls.cert = "c.pem"\n',
        '[gateway]\ntls = {cert = "c.pem"}\n[gateway.auth]\nmode = "none"\n',
        'gateway = {auth = {mode = "none"}, tls.cert = "c.pem"}\r\n',
        '"gateway".\'auth\'.mode = "none"\n[gateway.tls]\ncert = """c.pem"""\n',
    )
    found = [loaded(home, layout).gateway for layout in layouts]
    assert all(gateway == found[0] for gateway in found)
    assert found[0].tls.cert == home / "c.pem"


def test_a_path_of_a_flag_starts_where_the_person_stands(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in the file starts from the file; one on the command line from the working folder."""
    monkeypatch.chdir(tmp_path)
    settings = loaded(home, 'gateway.tls.cert = "c"\n', flags={"gateway.tls.key": "k"})
    assert (settings.gateway.tls.cert, settings.gateway.tls.key) == (home / "c", tmp_path / "k")


# --- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("gateway.bind", '"lan"', "lan"),
        ("gateway.bind", '"::1"', "::1"),
        ("gateway.nodes.pairing.autoApproveCidrs", '["192.0.2.7"]', (ipaddress.ip_network("192.0.2.7/32"),)),
        ("gateway.trustedProxies", '["::ffff:10.0.0.0/104"]', (ipaddress.ip_network("10.0.0.0/8"),)),
        ("gateway.trustedProxies", '["fd00::/8", "fd00::/8"]', (ipaddress.ip_network("fd00::/8"),)),
        ("gateway.controlUi.allowedOrigins", '["https://UI.example:8443", "*"]', ("https://ui.example:8443", "*")),
        ("gateway.controlUi.allowedOrigins", '["tauri://localhost"]', ("tauri://localhost",)),
        ("gateway.pairing.localCeiling", "[]", ()),
        ("gateway.remote.url", '"wss://gw.example/path"', "wss://gw.example/path"),
        ("gateway.port", "0x10", 16),
    ],
)
def test_what_is_accepted(home: Path, key: str, raw: str, value: object) -> None:
    """Values are typed and in one spelling; origins compare in lower case (OR-05)."""
    assert loaded(home, f"{key} = {raw}\n").value(key) == value


@pytest.mark.parametrize(
    ("key", "raw", "complaint"),
    [
        ("gateway.port", '"x"', 'gateway.port must be an integer from 1 to 65535, not "x"'),
        ("gateway.port", "true", "gateway.port must be an integer from 1 to 65535, not true"),
        ("gateway.port", "18789.0", "gateway.port must be an integer from 1 to 65535, not 18789.0"),
        ("gateway.port", "0x" + "f" * 5000, "gateway.port must be an integer from 1 to 65535, not an integer"),
        ("gateway.port", "2020-01-01", "gateway.port must be an integer from 1 to 65535, not a date or time"),
        ("gateway.bind", '"localhost"', 'gateway.bind must be "loopback", "lan" or an IP address, not "localhost"'),
        ("gateway.auth.mode", '"Token"', 'gateway.auth.mode must be "token", "password" or "none", not "Token"'),
        ("gateway.auth.rateLimit.exemptLoopback", "1", "gateway.auth.rateLimit.exemptLoopback must be true or false, not 1"),
        (
            "gateway.trustedProxies",
            '"10.0.0.1"',
            'gateway.trustedProxies must be a list of IP addresses or CIDRs, not "10.0.0.1"',
        ),
        (
            "gateway.trustedProxies",
            '["10.0.0.1/8"]',
            'gateway.trustedProxies[0] must be an IP address or CIDR, not "10.0.0.1/8"'
            " (the network of that address is 10.0.0.0/8)",
        ),
        (
            "gateway.pairing.localCeiling",
            '["operator.raed"]',
            'gateway.pairing.localCeiling[0] must be an operator scope, not "operator.raed" (did you mean operator.read?)',
        ),
        ("gateway.tls.cert", '""', 'gateway.tls.cert must be the path of a file, not ""'),
        ("log.format", "[]", 'log.format must be "auto", "console" or "json", not a list'),
        ("gateway.auth.token", '" "', "gateway.auth.token must be a string that is not blank: a secret may not be blank"),
    ],
)
def test_what_is_refused_says_what_it_should_be(home: Path, key: str, raw: str, complaint: str) -> None:
    """A wrong value is an error that names the key, what it should be, and the line."""
    assert lines_of(refused(home, f"# a comment\n{key} = {raw}\n")) == [f"config.toml:2: {complaint}"]


@pytest.mark.parametrize(
    "raw",
    [
        "https://ui.example/",
        "https://ui.example/path",
        "ui.example",
        "https://",
        "null",
        "https://a b",
        "https://h:",
        "https://h:x",
    ],
)
def test_an_origin_is_scheme_host_and_port_alone(home: Path, raw: str) -> None:
    """Anything more would never equal what a browser sends, and admit nobody in silence."""
    assert refused(home, f"gateway.controlUi.allowedOrigins = [{json.dumps(raw)}]\n")[0].line == 1


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("gatway.port", "gateway.port"),
        ("gateway.Port", "gateway.port"),
        ("port", "gateway.port"),
        ("gateway.rateLimit.maxAttempts", "gateway.auth.rateLimit.maxAttempts"),
        ("gateway.controlUI.allowedOrigins", "gateway.controlUi.allowedOrigins"),
        ('"gateway.port"', "gateway.port"),
    ],
)
def test_an_unknown_key_is_an_error_that_guesses_what_was_meant(home: Path, written: str, meant: str) -> None:
    """A key that nothing reads is refused loudly, never ignored (D3)."""
    problem = refused(home, f"{written} = 1\n")[0]
    assert problem.line == 1
    assert problem.text == f"unknown key {written}; did you mean {meant}?"


def test_all_problems_are_reported_at_once_each_on_its_line(home: Path) -> None:
    """Nothing starts half: one reading of the file names every mistake in it."""
    problems = refused(
        home,
        """\
# "gateway" = [ not a table
[gateway]
port = "x"
trustedProxies = [   # proxies
  "10.0.0.0/8", # fine: "]"

  "bogus", 7,
]
controlUi = { allowedOrigins = ["*"], nope = 1 }
[gateway.auth]
token = '''
'''
rateLimit.maxAttempts = "many"
[log]
level = 1
[[nodes]]
name = "a"
[empty]
""",
    )
    assert [(problem.line, problem.key) for problem in problems] == [
        (3, "gateway.port"),
        (7, "gateway.trustedProxies"),
        (7, "gateway.trustedProxies"),
        (9, "gateway.controlUi.nope"),
        (11, "gateway.auth.token"),
        (13, "gateway.auth.rateLimit.maxAttempts"),
        (15, "log.level"),
        (16, "nodes"),
        (18, "empty"),
    ]


@pytest.mark.parametrize("raw", ['"s"', "1", "[]", "[[1]]"])
def test_a_value_where_a_table_belongs_is_named(home: Path, raw: str) -> None:
    """A section is never half a section."""
    problems = refused(home, f"gateway.auth = {raw}\n")
    assert lines_of(problems)[0].startswith("config.toml:1: gateway.auth must be a table, not a")


@pytest.mark.parametrize("figure", ["0", "-1", "1001", "9223372036854775807"])
def test_a_limit_cannot_be_switched_off(home: Path, figure: str) -> None:
    """Zero and nonsense mean the default, with a warning; neither "off" nor "always locked" (N10)."""
    settings = loaded(home, f"gateway.auth.rateLimit.maxAttempts = {figure}\n")
    assert settings.gateway.auth.rate_limit.max_attempts == 10
    assert settings.source("gateway.auth.rateLimit.maxAttempts") == "default"
    (warning,) = settings.warnings
    assert warning.startswith("config.toml:1: gateway.auth.rateLimit.maxAttempts must be an integer from 1 to 1000, not")
    assert "ignored" in warning


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if isinstance(key.setting.kind, Limit)])
def test_every_limit_survives_zero_and_refuses_a_wrong_type(home: Path, name: str) -> None:
    """Nonsense of the right type is ignored, a wrong type is an error, for each limit alike (N10)."""
    assert loaded(home, f"{name} = 0\n").value(name) == KEYS[name].default
    assert refused(home, f"{name} = '10'\n")[0].key == name
    assert refused(home, f"{name} = true\n")[0].key == name
    assert refused(home, f"{name} = nan\n")[0].key == name


def test_dangerous_values_are_allowed_and_pointed_at(home: Path) -> None:
    """What opens the gateway wide is said at every start."""
    text = """\
[gateway]
trustedProxies = ["0.0.0.0/0"]
nodes.pairing.autoApproveCidrs = ["::/0"]
[gateway.controlUi]
allowedOrigins = ["*"]
dangerouslyDisableDeviceAuth = true
dangerouslyAllowHostHeaderOriginFallback = false
"""
    warnings = " | ".join(loaded(home, text).warnings)
    for name in ("trustedProxies", "autoApproveCidrs", "allowedOrigins", "dangerouslyDisableDeviceAuth"):
        assert name in warnings
    assert "HostHeader" not in warnings


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('gateway.auth.mode = "password"', ["gateway.auth.mode"]),
        ('gateway.auth.mode = "none"\ngateway.bind = "lan"', ["gateway.auth.mode"]),
        ('gateway.auth.mode = "none"\ngateway.bind = "127.0.0.9"', []),
        ('gateway.tls.cert = "c"\ngateway.mode = "remote"', ["gateway.mode", "gateway.tls.key"]),
        ('gateway.tls.key = "k"', ["gateway.tls.cert"]),
    ],
)
def test_settings_that_cannot_be_served_together_stop_the_start_only(home: Path, text: str, keys: list[str]) -> None:
    """A client reads the file that a gateway would refuse; a gateway does not start half."""
    assert [problem.key for problem in conflicts(loaded(home, text))] == keys
    if keys:
        assert [problem.key for problem in refused(home, serving=True)] == keys
    else:
        loaded(home, serving=True)


# --- the file itself ---------------------------------------------------------------------------------------------------


def test_what_is_not_toml_is_refused_with_its_line(home: Path) -> None:
    """A broken file is never taken for an empty one (D1)."""
    assert str(refused(home, "[gateway]\nport = \n")[0]).startswith("config.toml:2: not TOML: ")
    assert str(refused(home, "a = 1\nb = '''\n\n")[0]).startswith("config.toml:4: not TOML: ")
    assert refused(home, "a = 1\na = 2\n")[0].place == "config.toml"


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "{b=" * 5000, ".".join("a" * 5000) + " = 1", "a = " + "9" * 5000])
def test_absurd_toml_is_refused_and_not_a_crash(home: Path, text: str) -> None:
    """Depth and length end in a sentence."""
    assert refused(home, text)[0].place == "config.toml"


def test_bytes_that_are_no_text_are_refused_with_their_line(home: Path) -> None:
    """Not UTF-8 is an error, not a replacement character (D1)."""
    config_path(home).write_bytes(b"# fine\n# caf\xe9\n")
    assert lines_of(refused(home)) == ["config.toml:2: not UTF-8 text"]


def test_a_byte_order_mark_is_no_reason_to_fail(home: Path) -> None:
    """Some editors write one."""
    config_path(home).write_bytes(b"\xef\xbb\xbfgateway.port = 7\n")
    assert loaded(home).gateway.port == 7


def test_unreadable_is_never_empty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a pipe, a broken link, a closed file: each is an error, none the defaults (D1)."""
    path = config_path(home)
    path.mkdir()
    assert "Is a directory" in str(refused(home)[0])
    path.rmdir()
    os.mkfifo(path)
    assert "it is a special file" in str(refused(home)[0])
    path.unlink()
    path.symlink_to(home / "nothing")
    assert "a link to nothing" in str(refused(home)[0])
    path.unlink()

    def closed(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", closed)
    assert all("Permission denied" in str(problem) for problem in refused(home))


def test_a_file_in_the_place_of_the_state_folder_is_an_error(tmp_path: Path) -> None:
    """PAIRING_HOME that names a file is refused, not ignored."""
    (tmp_path / "file").write_text("")
    assert "Not a directory" in str(refused(tmp_path / "file")[0])
    with pytest.raises(SettingsError, match="cannot be used"):
        ensure_home(tmp_path / "file")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_secret_in_a_file_that_others_can_open_is_refused(home: Path, mode: int) -> None:
    """The error gives the command that closes the file, and not the secret (L7)."""
    path = write(home, f"# s\ngateway.auth.token = '{HUSH}'\n", mode)
    problem = refused(home)[0]
    assert (problem.key, problem.line) == ("gateway.auth.token", 2)
    assert problem.text.endswith(f"run: chmod 600 {path}")
    assert HUSH not in str(problem)
    path.chmod(0o600)
    assert loaded(home).gateway.auth.token == Secret(HUSH)


def test_a_file_without_secrets_may_be_read_by_others(home: Path) -> None:
    """Only being changed by others is worth a word then."""
    write(home, "gateway.port = 7\n", 0o644)
    assert loaded(home).warnings == ()
    write(home, "gateway.port = 7\n", 0o664)
    assert "can be changed by other users" in loaded(home).warnings[0]


# --- first start -------------------------------------------------------------------------------------------------------


def modes(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_first_start_makes_a_closed_folder_and_a_random_token(tmp_path: Path) -> None:
    """0700 and 0600, 256 random bits (T3), and the token says that it was generated; a second start changes nothing."""
    home = tmp_path / "a" / "b"
    before = os.umask(0)
    try:
        ensure_home(home)
    finally:
        os.umask(before)
    token = home / "shared-token"
    assert (modes(home), modes(token)) == (0o700, 0o600)
    settings = load(home, env={}, flags={}, serving=True)
    assert settings.gateway.auth.token is not None
    assert len(settings.gateway.auth.token.reveal()) == 43
    assert settings.source("gateway.auth.token") == f"generated {token}"
    ensure_home(home)
    assert load(home, env={}, flags={}) == settings
    assert os.listdir(home) == ["shared-token"]
    ensure_home(tmp_path / "other")
    assert load(tmp_path / "other", env={}, flags={}).gateway.auth.token != settings.gateway.auth.token


def test_a_configured_token_goes_before_the_generated_one(home: Path) -> None:
    """The generated token holds only where neither file, environment nor flag has another."""
    ensure_home(home)
    assert loaded(home, "gateway.auth.token = 'mine'\n").source("gateway.auth.token").startswith("file ")
    config_path(home).unlink()
    assert loaded(home, env={"PAIRING_GATEWAY_TOKEN": "m"}).source("gateway.auth.token") == "env PAIRING_GATEWAY_TOKEN"
    assert loaded(home, flags={"gateway.auth.token": "m"}).source("gateway.auth.token") == "flag --token"


def test_the_generated_token_is_not_for_a_gateway_elsewhere(home: Path) -> None:
    """In remote mode the secret of the gateway on this host is not among the credentials."""
    ensure_home(home)
    assert loaded(home, 'gateway.mode = "remote"\n').gateway.auth.token is None


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"***"])
def test_a_spoilt_token_file_is_an_error_and_never_replaced(home: Path, content: bytes) -> None:
    """An empty token file is damage, not a first start (D1, T3, T15)."""
    path = home / "shared-token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="shared-token"):
        ensure_home(home)
    assert refused(home)[0].place == "shared-token"
    assert path.read_bytes() == content


def test_a_token_file_that_others_can_read_or_nobody_is_an_error(home: Path) -> None:
    """It may be known already; a person decides."""
    ensure_home(home)
    (home / "shared-token").chmod(0o644)
    assert refused(home)[0].text.endswith(f"run: chmod 600 {home / 'shared-token'}")
    with pytest.raises(SettingsError):
        ensure_home(home)
    (home / "shared-token").unlink()
    (home / "shared-token").mkdir()
    with pytest.raises(SettingsError, match="Is a directory"):
        ensure_home(home)


def test_an_open_folder_is_closed_if_it_is_ours_and_refused_if_not(tmp_path: Path) -> None:
    """A mistaken PAIRING_HOME locks nobody out of their folder."""
    for name, content, ours in (("empty", None, True), ("used", "config.toml", True), ("foreign", "letters.txt", False)):
        folder = tmp_path / name
        folder.mkdir()
        folder.chmod(0o755)
        if content:
            (folder / content).touch(mode=0o600)
        if ours:
            ensure_home(folder)
            assert modes(folder) == 0o700
        else:
            with pytest.raises(SettingsError, match="run: chmod 700"):
                ensure_home(folder)
            assert modes(folder) == 0o755
            assert not (folder / "shared-token").exists()


def test_threads_that_start_together_get_one_token(tmp_path: Path) -> None:
    """However many make the token at once, one wins and all read the same, never a half-written one."""
    for attempt in range(20):
        home, gate, seen = tmp_path / str(attempt), threading.Barrier(8), set[str]()

        def start(home: Path = home, gate: threading.Barrier = gate, seen: set[str] = seen) -> None:
            gate.wait(10)
            ensure_home(home)
            token = load(home, env={}, flags={}).gateway.auth.token
            assert token is not None
            seen.add(token.reveal())

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(seen) == 1
        assert os.listdir(home) == ["shared-token"]


def test_processes_that_start_together_get_one_token(tmp_path: Path) -> None:
    """The same between processes."""
    program = (
        "import sys, pathlib; from pairing.settings import ensure_home, load; home = pathlib.Path(sys.argv[1]);"
        "ensure_home(home); sys.stdout.write(load(home, env={}, flags={}).gateway.auth.token.reveal())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "home")], stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(4)
    ]
    tokens = {process.communicate(timeout=60)[0] for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert len(tokens) == 1
    assert len(tokens.pop()) == 43


def test_a_replaced_file_is_closed_whole_and_keeps_its_link(home: Path, tmp_path: Path) -> None:
    """A write is all or nothing: after a failure the old text stands and no draft is left."""
    real = tmp_path / "real.toml"
    real.write_text("old")
    real.chmod(0o644)
    config_path(home).symlink_to(real)
    write_private(config_path(home), "new")
    assert (real.read_text(), modes(real), config_path(home).is_symlink()) == ("new", 0o600, True)
    with pytest.raises(UnicodeEncodeError):
        write_private(config_path(home), "\udcff")
    assert real.read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["real.toml", "state"]


# --- secrets -----------------------------------------------------------------------------------------------------------


def test_a_secret_is_not_in_any_rendering_of_the_settings(home: Path) -> None:
    """No secret in repr, str, format, JSON, pickle or copy (L7)."""
    settings = loaded(home, f"gateway.auth.token = '{HUSH}'\ngateway.remote.password = '{HUSH}'\n")
    secret = settings.gateway.auth.token
    assert secret is not None
    for text in (repr(settings), str(settings), f"{secret}", f"{secret!r}", f"{settings.gateway.auth}", policy_digest(settings)):
        assert HUSH not in text
    assert f"Secret({secret.fingerprint()})" in repr(settings)
    for copying in (pickle.dumps, copy.deepcopy, json.dumps, msgspec.json.encode):
        with pytest.raises(TypeError):
            copying(secret)
    with pytest.raises(AttributeError):
        secret._value = "other"
    with pytest.raises(TypeError):
        plain(secret)


@pytest.mark.parametrize(
    "text",
    [
        f"gateway.auth = '{HUSH}'",
        f"gateway.auth.token = ['{HUSH}']",
        f"gateway.auth.token = {{value = '{HUSH}'}}",
        f"gateway.auth.tokn = '{HUSH}'",
        f"gateway.remote.url = 'wss://user:{HUSH}@gw.example'",
        f"gateway.remote.url = 'wss://gw.example/?token={HUSH}'",
        f"gateway.remote.url = 'wss://gw.example/#token={HUSH}'",
        f"gateway.controlUi.allowedOrigins = ['https://user:{HUSH}@ui.example']",
        f"gateway.auth.token = '{HUSH}",
        f"gateway.auth.token = '{HUSH}' 1",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(home: Path, text: str) -> None:
    """An error about a misplaced secret names the key and not the text (L7)."""
    assert HUSH not in "\n".join(lines_of(refused(home, text + "\n")))


def test_a_number_given_as_secret_is_not_repeated(home: Path) -> None:
    """Forgotten quotes around a password of digits do not print it (L7)."""
    assert lines_of(refused(home, "gateway.auth.password = 918273645\n")) == [
        "config.toml:1: gateway.auth.password must be a string that is not blank, not an integer"
    ]


def test_secrets_compare_trimmed_and_blank_never_matches() -> None:
    """Both sides are trimmed (protocol §4.1); what is blank, or not text, matches nothing (T3)."""
    secret = Secret(f" {HUSH}\n")
    assert secret.reveal() == HUSH
    assert secret == Secret(HUSH)
    assert hash(secret) == hash(Secret(HUSH))
    assert secret.matches(f"{HUSH} ")
    for wrong in ("", " ", HUSH[:-1], HUSH + "x", "\ud800", HUSH.upper()):
        assert not secret.matches(wrong)
    assert secret != HUSH
    for blank in ("", " \n"):
        with pytest.raises(ValueError, match="blank"):
            Secret(blank)


@pytest.mark.parametrize(
    "text",
    ["***", "••••", "xxxx", "REDACTED", "<redacted>", "[REDACTED]", "__OPENCLAW_REDACTED__", "...", "\udcff",
     Secret("a").fingerprint().join(("fingerprint ", "")), "fingerprint 0123abcd, default", repr(Secret("a"))],
)  # fmt: skip
def test_a_placeholder_never_becomes_a_credential(text: str) -> None:
    """What some program shows instead of a secret is refused as a secret, ours included (T15)."""
    with pytest.raises(ValueError, match="secret"):
        Secret(text)


def test_a_fingerprint_is_short_stable_and_of_its_own_domain() -> None:
    """8 hex digits that are no prefix of the plain SHA-256 of the secret."""
    assert Secret("T").fingerprint() == "4893288d"
    assert Secret("T").fingerprint() != Secret("t").fingerprint()


# --- policy ------------------------------------------------------------------------------------------------------------


def test_the_policy_digest_follows_what_admits_and_nothing_else(home: Path) -> None:
    """Who gets in decides the digest; secrets, port and spelling do not (L2)."""
    digest = policy_digest(loaded(home, "gateway.port = 1\n"))
    for same in (
        "gateway.port = 2\nlog.level = 'debug'",
        f"gateway.auth.token = '{HUSH}'",
        "gateway.auth.mode = 'token'",
        "gateway.auth.rateLimit.maxAttempts = 0",
        f"gateway.pairing.localCeiling = {json.dumps(sorted(OPERATOR_SCOPES, reverse=True))}",
    ):
        assert policy_digest(loaded(home, same)) == digest, same
    changes = (
        f"gateway.auth.password = '{HUSH}'",
        "gateway.auth.mode = 'none'",
        "gateway.nodes.pairing.autoApproveCidrs = ['192.0.2.0/24']",
        "gateway.pairing.localCeiling = ['operator.read']",
        "gateway.trustedProxies = ['192.0.2.0/24']",
        "gateway.controlUi.allowedOrigins = ['*']",
        "gateway.controlUi.dangerouslyDisableDeviceAuth = true",
        "gateway.auth.rateLimit.maxAttempts = 3",
        "gateway.pairing.maxPending = 3",
    )
    assert len({policy_digest(loaded(home, change)) for change in changes} - {digest}) == len(changes)
    assert len(digest) == 12


# --- properties --------------------------------------------------------------------------------------------------------

RAW = {
    "integer": ["7", "-1", "0b11", "1_000"],
    "float": ["1.5", "nan", "-inf", "1e3"],
    "boolean": ["true", "false"],
    "string": ['"x"', "'y#[='", '"""a\nb"""', "'''\n#]\n'''"],
    "date": ["2020-01-01", "07:32:00", "2020-01-01 07:32:28.5Z"],
    "list": ["[]", "[ # c\n 1,\n]", '[["]"], [2]]'],
    "table": ["{}", "{ a = 1 }", '{ a.b = "}" }'],
}


def right_types(kind: object) -> set[str]:
    if isinstance(kind, Integer):
        return {"integer"}
    if isinstance(kind, Flag):
        return {"boolean"}
    return {"list"} if isinstance(kind, ListOf) else {"string"}


@st.composite
def mistyped(draw: st.DrawFn) -> tuple[str, str, int]:
    """Draw a key, a text that gives it a value of a wrong type, and the line on which the key stands."""
    key = draw(st.sampled_from(list(KEYS.values())))
    kind = draw(st.sampled_from(sorted(set(RAW) - right_types(key.setting.kind))))
    raw = draw(st.sampled_from(RAW[kind]))
    above = draw(st.lists(st.sampled_from(["", "# [gateway]", '# """', "   ", "# port = 'x"]), max_size=4))
    *section, leaf = key.path
    depth = draw(st.integers(0, len(section)))
    header = [f"[{'.'.join(section[:depth])}]"] if depth else []
    rest = [*section[depth:], leaf]
    quoted = [draw(st.sampled_from([part, f'"{part}"', f"'{part}'"])) for part in rest]
    inline = draw(st.integers(1, len(rest))) if "\n" not in raw else len(rest)
    statement = " . ".join(quoted[:inline]) + " = "
    statement += "".join(f"{{ {part} = " for part in quoted[inline:]) + raw + " }" * (len(rest) - inline)
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = newline.join([*above, *header, statement + " # end", ""]).replace("\r\n", "\n").replace("\n", newline)
    return key.name, text, len(above) + len(header) + 1


@profile(max_examples=300, deadline=None)
@given(mistyped())
def test_a_wrong_type_always_names_the_key_and_its_line(case: tuple[str, str, int]) -> None:
    """Whatever the layout, a value of a wrong type is one problem with the key and the line of it (D3)."""
    name, text, line = case
    layer = examine(text, Path("config.toml"))
    assert [(problem.key, problem.line) for problem in layer.problems] == [(name, line)]
    assert layer.found == {}
    assert layer.problems[0].text.startswith(f"{name} must be ")


names = st.sampled_from(["a", "b-c", "1", "d.e", "f g", "é", '"', "", "\\"])
values = st.recursive(
    st.sampled_from([1, True, 1.5, "s", "two\nlines", "#", "]", "'''", '"""']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def paths_of(value: object, above: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = set()
    for name, inner in items:
        found |= {(*above, name)} | paths_of(inner, (*above, name))
    return found


@profile(max_examples=300, deadline=None)
@given(st.dictionaries(names, values, max_size=4))
def test_every_path_of_a_document_has_a_line(document: dict[str, Any]) -> None:
    """The line finder sees the same keys as the TOML reader, however they are laid out, and each on a line that shows it."""
    import tomlkit

    text = tomlkit.dumps(document)
    located = locate(text)
    assert set(located) == paths_of(tomllib.loads(text))
    lines = text.split("\n")
    for path, line in located.items():
        if isinstance(path[-1], str) and path[-1].isascii() and path[-1].isalnum():
            assert path[-1] in lines[line - 1]


def test_quotes_at_the_end_of_a_long_string_belong_to_it() -> None:
    """A string of three quotes may end in one or two more, and the keys behind it stay on their lines."""
    text = "a = \"\"\"x\"\"\"\"\"\nb = '''\ny''''\n\"c.d\" = 1 # '''\n[[e]]\n[[e]]\nf = [1,\n2]\n"
    assert locate(text) == {
        ("a",): 1,
        ("b",): 2,
        ("c.d",): 4,
        ("e",): 5,
        ("e", 0): 5,
        ("e", 1): 6,
        ("e", 1, "f"): 7,
        ("e", 1, "f", 0): 7,
        ("e", 1, "f", 1): 8,
    }


TOMLISH = st.text(st.sampled_from(list("ab.=[]{},\"'#\\\n\r\t 01-:Tué\x00\ud800")), max_size=40)


@profile(max_examples=400, deadline=None)
@given(TOMLISH | st.text(max_size=60))
def test_no_text_is_too_odd_to_be_judged(text: str) -> None:
    """Any text gives settings or problems, never a crash, and the lines are those of the reader."""
    layer = examine(text, Path("config.toml"))
    assert layer.problems or not tomllib.loads(text)
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    assert set(locate(text)) == paths_of(document)


def fitting(kind: object) -> st.SearchStrategy[Any]:
    match kind:
        case Integer(low=low, high=high):
            return st.integers(low, high)
        case Flag():
            return st.booleans()
        case Choice(options=options):
            return st.sampled_from(options)
        case SecretText():
            return st.sampled_from([HUSH, 'quo"te', "back\\slash", "# no comment", "pass word", "ünïcode"])
        case ListOf(element=element):
            return st.lists(fitting(element), max_size=3, unique=True)
    examples = ["lan", "10.0.0.0/8", "fd00::/8", "wss://gw.example", "https://ui.example", "operator.read", "cert.pem"]
    examples += ["operator.admin=2", "*=16", "node.exec=3", "90d", "12h"]
    return st.sampled_from([text for text in examples if accepts(kind, text)])


def accepts(kind: Any, text: str) -> bool:
    try:
        kind.read(text)
    except ValueError:
        return False
    return True


FILES = (
    "",
    "# only a comment\n",
    "gateway.port = 1 # port\n# between\nlog.level = 'info' # level\n# end\n",
    "# top\n[gateway]\nport = 1 # port\n\n# about auth\n[gateway.auth]\nmode = 'token' # mode\n\n# about log\n[log]\n# end\n",
    "# top\n[log]\nlevel = 'debug' # level\n# about tls\n[gateway.tls]\n# about auth\n[gateway.auth]\n# end",
    "gateway = {port = 1, auth = {mode = 'token'}} # all\n# end\n",
    "[gateway]\nauth.mode = 'token' # mode\ntls = {} # tls\ntrustedProxies = [ # proxies\n  '10.0.0.0/8', # ten\n]\n# end\n",
    "gateway.port = 1 # port\nlog.level = 'info' # level\ngateway.bind = 'lan' # bind\n# end\n[gateway.auth.rateLimit]\n",
    "[gateway.auth.rateLimit] # rate\n[log] # log\n[gateway.auth] # auth\nmode = 'none'\n",
    "# out of order\n[gateway.auth]\n# first\n[log]\n# second\n[gateway]\nport = 1 # third\n# end\n",
)


def comments(text: str) -> list[str]:
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


def test_a_key_is_found_in_whichever_part_of_its_table_it_stands() -> None:
    """A file may come back to one table any number of times; the first part is as good as the last."""
    text = (
        "gateway.port = 1 # port\nlog.level = 'info'\ngateway.bind = 'lan'\ngateway.mode = \"local\"\n# end\n"
        "[gateway.auth.rateLimit]\n"
    )
    assert with_value(text, ("gateway", "port"), 2) == text.replace("port = 1", "port = 2", 1)


@profile(max_examples=200, deadline=None)
@given(st.data())
def test_setting_a_key_changes_that_key_alone_and_keeps_every_comment(data: st.DataObject) -> None:
    """Set, then read: the value is there, all others are as before, and so is every comment."""
    text = data.draw(st.sampled_from(FILES))
    # What is written inside a list may go with the elements that it is about.
    kept = [comment for comment in comments(text) if comment not in ("# proxies", "# ten")]
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(list(KEYS.values())))
        raw = data.draw(fitting(key.setting.kind))
        edited = with_value(text, key.path, raw)
        assert sorted(map(edited.find, kept)) == [edited.find(comment) for comment in kept]
        assert -1 not in map(edited.find, kept)
        assert examine(edited, Path("config.toml")).found[key.name].value == examine_one(key.name, raw)
        back = without(edited, key.path)
        assert key.name not in examine(back, Path("config.toml")).found
        text = edited


def examine_one(name: str, raw: object) -> object:
    value = KEYS[name].setting.kind.read(raw)
    return Path(value) if isinstance(value, Path) else value


def test_a_new_key_stands_before_the_comment_of_the_next_table() -> None:
    """A comment stays above what it is about."""
    text = "[gateway]\nport = 1\n\n# about log\n[log]\nlevel = 'info'\n"
    assert with_value(text, ("gateway", "bind"), "lan") == (
        "[gateway]\nport = 1\nbind = \"lan\"\n\n# about log\n[log]\nlevel = 'info'\n"
    )


def test_the_comments_of_the_elements_that_stay_are_kept() -> None:
    """Adding to a list does not flatten it."""
    text = "gateway.trustedProxies = [\n  '10.0.0.0/8', # ten\n  '192.0.2.0/24', # doc\n]\n"
    edited = with_value(text, ("gateway", "trustedProxies"), ["10.0.0.0/8", "198.51.100.0/24"])
    assert "'10.0.0.0/8', # ten" in edited
    assert tomllib.loads(edited)["gateway"]["trustedProxies"] == ["10.0.0.0/8", "198.51.100.0/24"]


def test_an_edit_that_would_disturb_the_rest_is_refused() -> None:
    """The edited text must mean what was meant, or the file stays as it is."""
    with pytest.raises(SettingsError, match="edit the file by hand"):
        with_value("gateway = 1\n", ("gateway", "port"), 2)
    with pytest.raises(KeyError):
        without("gateway = 1\n", ("gateway", "port"))


def test_an_edit_is_read_back_before_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid TOML that means anything else than what was asked for is not written."""
    monkeypatch.setattr(edit, "_set", lambda document, path, raw, choice: document.update(other=1))
    with pytest.raises(SettingsError, match="edit the file by hand"):
        with_value("", ("gateway", "port"), 2)


def test_reading_keeps_the_mode_beside_the_text(home: Path) -> None:
    """Whoever reads a file with secrets can judge who else reads it."""
    path = write(home, "x", 0o640)
    found = read_text(path)
    assert found is not None
    assert (found.text, found.mode) == ("x", 0o640)
    assert read_text(home / "absent") is None


@pytest.mark.parametrize("text", ["operator.admin=2", "node = 16", "*=3", "node.exec=2", "operator=4"])
def test_a_rule_for_several_approvals_is_a_scope_or_role_and_a_number(text: str) -> None:
    """What it grants, then how many: from the file, the environment's way and back again."""
    layer = examine(f'gateway.pairing.approval.votes = ["{text}"]', Path("config.toml"))
    assert not layer.problems
    assert plain(layer.found["gateway.pairing.approval.votes"].value) == [text.replace(" ", "")]


@pytest.mark.parametrize(
    "text",
    [
        "operator.admin",
        "operator.admin=1",
        "operator.admin=17",
        "operator.admin=two",
        "operator.admn=2",
        "root=2",
        "=2",
        "node.=2",
    ],
)
def test_a_rule_that_names_nothing_or_no_number_is_refused(text: str) -> None:
    """One approval is no rule, and a scope that does not exist would guard nothing."""
    (problem,) = examine(f'gateway.pairing.approval.votes = ["{text}"]', Path("config.toml")).problems
    assert 'must be a rule like "operator.admin=2"' in str(problem)
    word = text.partition("=")[0]
    reasons = f'gateway.pairing.approval.requireReason = ["{word}"]'
    assert bool(examine(reasons, Path("config.toml")).problems) == (word != "operator.admin")
