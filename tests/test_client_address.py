"""Where a gateway is, and whether a secret may travel there."""

import pytest

from pairing.client.address import endpoint, guard
from pairing.client.errors import BadAddress


@pytest.mark.parametrize(
    ("text", "url", "gateway"),
    [
        ("ws://127.0.0.1:18789", "ws://127.0.0.1:18789", "127.0.0.1:18789"),
        ("http://LOCALHOST:18789/", "ws://localhost:18789", "127.0.0.1:18789"),
        ("https://gate.example", "wss://gate.example:443", "gate.example:443"),
        ("ws://[::1]:1", "ws://[::1]:1", "127.0.0.1:1"),
        ("wss://[2001:db8::1]:7/base/", "wss://[2001:db8::1]:7/base", "[2001:db8::1]:7"),
    ],
)
def test_a_url_names_one_gateway_however_it_is_written(text: str, url: str, gateway: str) -> None:
    """Spellings of one address share one name, under which its tokens are kept."""
    place = endpoint(text)
    assert (place.url, place.gateway) == (url, gateway)


@pytest.mark.parametrize("text", ["", "18789", "ftp://x:1", "ws://", "ws://x:99999", "ws://a b", "ws://x\x1b[2J:1"])
def test_what_is_no_url_is_said_to_be_none(text: str) -> None:
    """A URL that is none is refused before anything is sent."""
    with pytest.raises(BadAddress):
        endpoint(text)


@pytest.mark.parametrize("text", ["ws://user:hunter2@x:1", "ws://x:1?token=hunter2", "ws://x:1#hunter2"])
def test_a_url_holds_no_secret_and_none_is_quoted(text: str) -> None:
    """Credentials in a URL are refused without being shown (L7)."""
    with pytest.raises(BadAddress) as refused:
        endpoint(text)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "localhost"])
def test_plain_text_may_stay_on_this_host(host: str) -> None:
    """Loopback needs no TLS."""
    guard(endpoint(f"ws://{host}:1"), allow_private=False)


@pytest.mark.parametrize("host", ["203.0.113.5", "gate.example", "127.0.0.1.example", "10.0.0.1", "[fd00::2]", "0.0.0.0"])
def test_plain_text_to_another_host_is_refused(host: str) -> None:
    """A secret in plain text never leaves this host unasked (CL-39); a name is not trusted for what it looks like."""
    with pytest.raises(BadAddress):
        guard(endpoint(f"ws://{host}:1"), allow_private=False)
    guard(endpoint(f"wss://{host}:1"), allow_private=False)


def test_a_person_may_allow_plain_text_to_private_addresses_alone() -> None:
    """The exception is for private addresses, never for public ones or names (CL-39)."""
    for host in ("10.0.0.1", "172.31.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "[fd00::2]", "[fe80::1]"):
        guard(endpoint(f"ws://{host}:1"), allow_private=True)
    for host in ("203.0.113.5", "172.32.0.1", "gate.local", "[2001:db8::1]"):
        with pytest.raises(BadAddress):
            guard(endpoint(f"ws://{host}:1"), allow_private=True)
