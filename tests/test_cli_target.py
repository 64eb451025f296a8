"""Which gateway a command talks to and with which secrets (protocol §8.2)."""

from pathlib import Path

import pytest

from cli.options import Reach
from cli.target import Target, find
from cli.voice import Failure
from pairing.client.errors import BadAddress
from pairing.refusals import Exit

NO_FLAGS = Reach(None, None, None, 10_000, False)
LOCAL = '[gateway]\nport = 2000\n[gateway.auth]\ntoken = "file-token"\n'
REMOTE = '[gateway]\nmode = "remote"\n[gateway.remote]\nurl = "wss://gate.example:7"\n'


def settle(tmp_path: Path, text: str = "") -> Path:
    (tmp_path / "config.toml").write_text(text)
    (tmp_path / "config.toml").chmod(0o600)
    return tmp_path


def secrets(target: Target) -> tuple[str | None, str | None]:
    given = target.credentials
    return given.token and given.token.reveal(), given.password and given.password.reveal()


def test_a_named_url_takes_its_secret_from_the_command_line_alone(tmp_path: Path) -> None:
    """With --url no secret of file or environment is used (CL-18)."""
    env = {"PAIRING_GATEWAY_TOKEN": "env-token", "PAIRING_GATEWAY_URL": "wss://env.example"}
    reach = NO_FLAGS._replace(url="wss://other.example", token="flag-token")
    target = find(reach, env, settle(tmp_path, LOCAL))
    assert (target.place.host, target.source, secrets(target)) == ("other.example", "--url", ("flag-token", None))
    assert target.settings is None


@pytest.mark.parametrize("env", [{}, {"PAIRING_GATEWAY_TOKEN": "env-token", "PAIRING_GATEWAY_PASSWORD": "env-word"}])
def test_a_named_url_without_a_secret_is_an_error_before_any_connection(tmp_path: Path, env: dict[str, str]) -> None:
    """None given is an error, whatever lies about (CL-20)."""
    with pytest.raises(Failure) as failed:
        find(NO_FLAGS._replace(url="wss://other.example"), env, settle(tmp_path, LOCAL))
    assert (failed.value.exit, failed.value.reason) == (Exit.USAGE, "credentials-required")


def test_a_url_of_the_environment_takes_secrets_of_the_environment(tmp_path: Path) -> None:
    """Environment with environment (CL-19); the file's secret is not for it."""
    env = {"PAIRING_GATEWAY_URL": "wss://env.example", "PAIRING_GATEWAY_TOKEN": "env-token"}
    target = find(NO_FLAGS, env, settle(tmp_path, LOCAL))
    assert (target.place.host, secrets(target)) == ("env.example", ("env-token", None))
    with pytest.raises(Failure):
        find(NO_FLAGS, {"PAIRING_GATEWAY_URL": "wss://env.example"}, settle(tmp_path, LOCAL))
    by_flag = find(NO_FLAGS._replace(password="flag-word"), env, settle(tmp_path, LOCAL))
    assert secrets(by_flag) == (None, "flag-word")


def test_this_hosts_gateway_is_found_by_its_own_settings(tmp_path: Path) -> None:
    """Without flags: the port and the secret of this state folder (CL-21)."""
    target = find(NO_FLAGS, {}, settle(tmp_path, LOCAL))
    assert (target.place.url, target.source, secrets(target)) == ("ws://127.0.0.1:2000", "this host", ("file-token", None))
    assert target.settings is not None


def test_the_generated_token_serves_where_none_is_configured(tmp_path: Path) -> None:
    """A fresh gateway's own token is what its command line shows it."""
    (tmp_path / "shared-token").write_text("generated-token\n")
    (tmp_path / "shared-token").chmod(0o600)
    assert secrets(find(NO_FLAGS, {}, tmp_path)) == ("generated-token", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[gateway.auth]\nmode = "password"\npassword = "word"\ntoken = "unused"\n', (None, "word")),
        ('[gateway.auth]\nmode = "none"\ntoken = "unused"\n', (None, None)),
    ],
)
def test_only_the_secret_that_counts_is_shown(tmp_path: Path, text: str, expected: tuple[str | None, str | None]) -> None:
    """The mode fixes which secret is sent; the other stays here."""
    assert secrets(find(NO_FLAGS, {}, settle(tmp_path, text))) == expected


def test_flags_replace_every_other_secret(tmp_path: Path) -> None:
    """If any flag is given, only flags count."""
    assert secrets(find(NO_FLAGS._replace(password="flag-word"), {}, settle(tmp_path, LOCAL))) == (None, "flag-word")


def test_in_remote_mode_the_remote_token_wins_over_the_environment(tmp_path: Path) -> None:
    """The secret configured for the remote gateway is its secret (CL-41)."""
    home = settle(tmp_path, REMOTE + 'token = "remote-token"\n')
    target = find(NO_FLAGS, {"PAIRING_GATEWAY_TOKEN": "env-token"}, home)
    assert (target.place.url, target.source, secrets(target)) == (
        "wss://gate.example:7",
        "gateway.remote.url",
        ("remote-token", None),
    )


def test_in_remote_mode_this_hosts_own_secret_stays_here(tmp_path: Path) -> None:
    """A local gateway's token, configured or generated, is nothing for a remote one."""
    (tmp_path / "shared-token").write_text("generated-token\n")
    (tmp_path / "shared-token").chmod(0o600)
    assert secrets(find(NO_FLAGS, {}, settle(tmp_path, REMOTE))) == (None, None)
    home = settle(tmp_path, REMOTE + '[gateway.auth]\ntoken = "own-token"\n')
    assert secrets(find(NO_FLAGS, {}, home)) == (None, None)


def test_remote_mode_without_a_url_says_how_to_set_it(tmp_path: Path) -> None:
    """A half-configured remote mode is an error with its remedy."""
    with pytest.raises(Failure, match="is not set"):
        find(NO_FLAGS, {}, settle(tmp_path, '[gateway]\nmode = "remote"\n'))


def test_plain_text_to_another_host_is_refused_whoever_named_it(tmp_path: Path) -> None:
    """Flag, environment or file: no secret leaves this host in plain text (CL-39)."""
    home = settle(tmp_path, '[gateway]\nmode = "remote"\n[gateway.remote]\nurl = "ws://10.0.0.1:7"\ntoken = "t-t-t"\n')
    with pytest.raises(BadAddress):
        find(NO_FLAGS._replace(url="ws://203.0.113.5:1", token="x-y-z"), {}, home)
    with pytest.raises(BadAddress):
        find(NO_FLAGS, {"PAIRING_GATEWAY_URL": "ws://203.0.113.5:1", "PAIRING_GATEWAY_TOKEN": "x-y-z"}, home)
    with pytest.raises(BadAddress):
        find(NO_FLAGS, {}, home)
    assert find(NO_FLAGS, {"PAIRING_ALLOW_INSECURE_PRIVATE_WS": "1"}, home).place.host == "10.0.0.1"


def test_a_listener_that_is_not_on_loopback_is_still_sought_there(tmp_path: Path) -> None:
    """The command line talks to this host, whatever else the gateway listens on."""
    assert find(NO_FLAGS, {}, settle(tmp_path, '[gateway]\nbind = "lan"\n')).place.host == "127.0.0.1"
    assert find(NO_FLAGS, {}, settle(tmp_path, '[gateway]\nbind = "::1"\n')).place.url == "ws://[::1]:18789"


def test_what_was_typed_is_not_shown() -> None:
    """The options' repr holds no secret (L7)."""
    assert "hunter2" not in repr(Reach(None, "hunter2", "hunter2", 1, False))
