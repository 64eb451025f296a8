"""A device's own files: its key and its tokens."""

import json
import stat
from pathlib import Path

import pytest

from pairing.client.credentials import Credentials, DeviceToken, choose, with_stored
from pairing.client.errors import StoreUnusable
from pairing.client.store import Store
from pairing.settings.secret import Secret

NOW = 1_777_000_000_000
HERE, THERE = "127.0.0.1:18789", "gate.example:443"


def a_token(text: str = "first-device-token", *scopes: str, role: str = "operator") -> DeviceToken:
    return DeviceToken(role, scopes, Secret(text))


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """A store that is only read leaves no trace (A20)."""
    store = Store(tmp_path / "home")
    assert store.load() is None
    assert store.token("some-device", HERE, "operator") is None
    assert not (tmp_path / "home").exists()


def test_a_key_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    """The key stays the same from then on, in a 0600 file of a 0700 folder."""
    store = Store(tmp_path / "home")
    made = store.make(NOW)
    assert store.make(NOW + 1) == made == Store(tmp_path / "home").load()
    assert stat.S_IMODE(store.identity_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert json.loads(store.identity_path.read_text())["deviceId"] == made.device


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version":1}', "\xff"])
def test_an_unreadable_key_is_never_taken_for_a_missing_one(tmp_path: Path, text: str) -> None:
    """A damaged file is an error and stays as it is (D1)."""
    store = Store(tmp_path / "home")
    store.make(NOW)
    store.identity_path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreUnusable):
        store.make(NOW)
    assert store.identity_path.read_bytes() == text.encode("latin-1")


def test_a_key_of_another_device_is_not_used(tmp_path: Path) -> None:
    """The file's device id must be that of its key (N1)."""
    store = Store(tmp_path / "home")
    store.make(NOW)
    file = json.loads(store.identity_path.read_text())
    store.identity_path.write_text(json.dumps({**file, "deviceId": "0" * 64}))
    with pytest.raises(StoreUnusable, match="the key of the device"):
        store.load()


def test_a_key_that_others_can_read_is_refused_with_the_command_that_closes_it(tmp_path: Path) -> None:
    """Open permissions are refused, and the refusal names what helps."""
    store = Store(tmp_path / "home")
    store.make(NOW)
    store.identity_path.chmod(0o644)
    with pytest.raises(StoreUnusable, match="chmod 600"):
        store.load()


def test_tokens_are_kept_by_gateway_and_role(tmp_path: Path) -> None:
    """A token is for its device, role and gateway; no other gateway is ever shown it (T12)."""
    store = Store(tmp_path / "home")
    device = store.make(NOW).device
    assert store.keep(device, HERE, a_token("here", "operator.read"), NOW)
    assert store.keep(device, THERE, a_token("there"), NOW)
    assert store.keep(device, HERE, a_token("as-a-node", role="node"), NOW)
    assert store.token(device, HERE, "operator") == a_token("here", "operator.read")
    assert store.token(device, THERE, "operator") == a_token("there")
    assert store.token(device, "other:1", "operator") is None
    assert stat.S_IMODE(store.tokens_path.stat().st_mode) == 0o600


def test_keeping_says_whether_the_token_is_new(tmp_path: Path) -> None:
    """The same token again is no news; other scopes of the same token are stored but not a new token."""
    store = Store(tmp_path / "home")
    device = store.make(NOW).device
    assert store.keep(device, HERE, a_token("one"), NOW)
    assert not store.keep(device, HERE, a_token("one"), NOW)
    assert not store.keep(device, HERE, a_token("one", "operator.read"), NOW)
    assert store.token(device, HERE, "operator") == a_token("one", "operator.read")
    assert store.keep(device, HERE, a_token("two"), NOW)


def test_forgetting_drops_the_dead_token_alone(tmp_path: Path) -> None:
    """What took the dead token's place meanwhile stays."""
    store = Store(tmp_path / "home")
    device = store.make(NOW).device
    store.keep(device, HERE, a_token("dead"), NOW)
    store.keep(device, THERE, a_token("alive"), NOW)
    store.forget(device, HERE, a_token("an-older-one"))
    assert store.token(device, HERE, "operator") == a_token("dead")
    store.forget(device, HERE, a_token("dead"))
    assert store.token(device, HERE, "operator") is None
    assert store.token(device, THERE, "operator") == a_token("alive")


def test_tokens_of_another_device_are_ignored_reported_and_not_lost(tmp_path: Path) -> None:
    """A token file that belongs to another key counts for nothing, and is moved aside rather than overwritten."""
    store = Store(tmp_path / "home")
    device = store.make(NOW).device
    store.keep("f" * 64, HERE, a_token("of-another"), NOW)
    assert store.token(device, HERE, "operator") is None
    assert store.stranger(device) == "f" * 64
    store.keep(device, HERE, a_token("mine"), NOW)
    assert store.stranger(device) is None
    assert "of-another" in (store.folder / f"device-auth.{'f' * 12}.json").read_text()


def test_an_explicit_secret_is_used_alone() -> None:
    """The stored token is presented only where neither token nor password was given (protocol §4.7)."""
    stored = a_token("stored", "operator.pairing")
    given = choose(Credentials(token=Secret("shared")), stored, "operator", ("operator.read",))
    assert given.auth() == {"token": "shared"}
    assert given.signed == "shared"
    assert not given.stored
    by_password = choose(Credentials(password=Secret("word")), stored, "operator", ())
    assert by_password.auth() == {"password": "word"}
    assert by_password.signed == ""


def test_the_stored_token_goes_in_both_fields_with_its_scopes() -> None:
    """The stored token's scopes replace what it does not cover (CL-32); asked for exactly, they do not."""
    stored = a_token("stored", "operator.pairing")
    wider = choose(Credentials(), stored, "operator", ("operator.admin",))
    assert wider.auth() == {"token": "stored", "deviceToken": "stored"}
    assert wider.scopes == ("operator.pairing",)
    assert choose(Credentials(), stored, "operator", ("operator.admin",), exact=True).scopes == ("operator.admin",)
    admin = a_token("stored", "operator.admin")
    assert choose(Credentials(), admin, "operator", ("operator.read",)).scopes == ("operator.read",)
    assert choose(Credentials(), None, "operator", ("operator.read",)).auth() == {}


def test_the_retry_signs_over_the_shared_token() -> None:
    """The one retry sends both, and the signature covers the first (protocol §4.7)."""
    first = choose(Credentials(token=Secret("shared")), a_token("stored"), "operator", ("operator.read",))
    retry = with_stored(first, a_token("stored"))
    assert retry.auth() == {"token": "shared", "deviceToken": "stored"}
    assert (retry.signed, retry.scopes, retry.stored) == ("shared", ("operator.read",), True)


def test_nothing_that_holds_a_secret_shows_it() -> None:
    """No repr holds a secret (L7)."""
    stored = a_token("very-secret-text")
    shown = repr((stored, Credentials(stored.secret, stored.secret), choose(Credentials(), stored, "operator", ())))
    assert "very-secret-text" not in shown
