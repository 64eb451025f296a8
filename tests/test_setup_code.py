"""Setup codes as text: what goes in comes out, what is none is none, and which addresses may stand in one (B8)."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairing import reach
from pairing.reach import Reach, default_address
from pairing.refusals import Reason, Refused
from pairing.setup_code import SetupCode, address, decode, encode

URL = "wss://gateway.example.net"


def test_a_code_is_what_other_clients_read() -> None:
    """Protocol §6.9: base64url without padding of exactly two keys."""
    code = encode(URL, "token")
    raw = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
    assert json.loads(raw) == {"url": URL, "bootstrapToken": "token"}
    assert not set(code) & set("+/=")
    assert decode(f"  {code}\n") == SetupCode(URL, "token")
    assert "token" not in repr(decode(code)).replace("bootstrap_token", "")


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_is_no_code_is_none(text: str) -> None:
    """Total: nothing that somebody pastes raises."""
    decode(text)


@pytest.mark.parametrize("held", [{"url": URL}, {"bootstrapToken": "t"}, {"url": "", "bootstrapToken": "t"}, [], 5, {"url": 1}])
def test_half_a_code_is_none(held: object) -> None:
    """Unreadable is not empty: there is no code without address and token."""
    assert decode(base64.urlsafe_b64encode(json.dumps(held).encode()).decode()) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, URL),
        ("https://Gateway.Example.net/path/", URL),
        ("gateway.example.net:8443", "wss://gateway.example.net:8443"),
        ("http://192.168.1.5:18789", "ws://192.168.1.5:18789"),
        ("ws://10.0.2.2:18789", "ws://10.0.2.2:18789"),
        ("ws://172.31.0.1", "ws://172.31.0.1"),
        ("ws://169.254.1.1", "ws://169.254.1.1"),
        ("ws://[fe80::1]:5", "ws://[fe80::1]:5"),
        ("ws://[fd00::1]", "ws://[fd00::1]"),
        ("ws://127.0.0.1:1", "ws://127.0.0.1:1"),
        ("ws://localhost:1", "ws://localhost:1"),
        ("wss://100.64.0.1", "wss://100.64.0.1"),
        ("wss://8.8.8.8", "wss://8.8.8.8"),
    ],
)
def test_addresses_that_may_stand_in_a_code(text: str, shown: str) -> None:
    """B8: TLS anywhere, plain text to this host and to private addresses; what follows the host is dropped."""
    assert address(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ws://gateway.example.net",
        "ws://8.8.8.8",
        "ws://100.64.0.1",
        "ws://172.32.0.1",
        "ws://[2001:db8::1]",
        "ws://[::ffff:8.8.8.8]",
        "ws://0.0.0.0:1",
        "wss://0.0.0.0",
        "wss://[::]",
        "wss://224.0.0.1",
        "wss://1.2.3",
        "wss://0x7f000001",
        "ws://127.1",
        "wss://a b",
        "wss://-x.example",
        "wss://x..example",
        "wss://user@gateway.example.net",
        "wss://user:pw@gateway.example.net",
        "wss://gateway.example.net?x=1",
        "wss://gateway.example.net#x",
        "wss://gateway.example.net:0",
        "wss://gateway.example.net:99999",
        "wss://gateway.example.net:x",
        "wss:gateway.example.net",
        "https:/gateway.example.net",
        "javascript:alert(1)",
        "ftp://gateway.example.net",
        "wss://gate\\way",
        "wss://gateway.example.net\n",
        "wss://gate\x00way",
        "wss://" + "a" * 3000,
    ],
)
def test_addresses_that_may_not(text: str) -> None:
    """B8: malformed, with more than an address in it, nowhere, or in plain text through other people's networks."""
    if text == "wss://gateway.example.net\n":
        assert address(text) == URL, "blanks around it are the paste's"
        return
    with pytest.raises(Refused) as no:
        address(text)
    assert no.value.reason is Reason.ENROLMENT_ADDRESS
    assert no.value.fields["why"]


def test_the_address_that_the_settings_lead_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """B8: what an operator set, else what the gateway listens on, unless only this host gets there."""
    assert default_address(Reach(public_url="https://pair.example.org/")) == ("wss://pair.example.org", "gateway.publicUrl")
    assert default_address(Reach(host="192.168.0.7", port=5)) == ("ws://192.168.0.7:5", "gateway.bind")
    assert default_address(Reach(host="203.0.113.7", port=5, secure=True))[0] == "wss://203.0.113.7:5"
    monkeypatch.setattr(reach, "lan_address", lambda: "10.1.2.3")
    assert default_address(Reach(host="0.0.0.0", port=5))[0] == "ws://10.1.2.3:5"
    monkeypatch.setattr(reach, "lan_address", lambda: None)
    for nowhere in (
        Reach(),
        Reach(host="0.0.0.0"),
        Reach(host="::1"),
        Reach(host="203.0.113.7"),
        Reach(public_url="ws://8.8.8.8"),
    ):
        with pytest.raises(Refused):
            default_address(nowhere)


def test_the_address_of_this_host_is_found_without_sending_anything() -> None:
    """Where there is a network it is this host's address in it, never loopback."""
    found = reach.lan_address()
    assert found is None or not found.startswith("127.")
