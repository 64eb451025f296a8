"""What a client says on connecting, to the byte."""

import msgspec
import pytest

from pairing.client.credentials import Credentials, choose
from pairing.client.errors import CallRefused, ConnectRefused
from pairing.client.handshake import Challenge, ClientInfo, Message, challenge, connect_params, hello, here
from pairing.identity import Identity
from pairing.refusals import Reason
from pairing.settings.secret import Secret

# Protocol §3.3, computed with an independent Ed25519 library.
SEED = bytes(range(32))
NONCE = "00000000-0000-4000-8000-000000000000"
AT = 1_777_000_000_000


def test_the_signature_of_an_operator_is_the_published_one() -> None:
    """Signed in the form v3 over exactly what is in the frame (protocol §3.3, N2)."""
    client = ClientInfo(id="cli", mode="cli", version="1", platform="linux")
    presented = choose(Credentials(token=Secret("T")), None, "operator", ("operator.pairing",))
    params = connect_params(client, presented, "operator", Identity(SEED), Challenge(NONCE, AT), 1)
    assert params["device"] == {
        "id": "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c",
        "publicKey": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",
        "signature": "m6kYXClPve0oVkdUDVjJX-rAiL54aXqJoyLkfq2z-JlrBjddbdSgaajMlEKOntE3m5Rpcpp2a1dlap2wzkfwCQ",
        "signedAt": AT,
        "nonce": NONCE,
    }
    assert params["auth"] == {"token": "T"}
    assert (params["minProtocol"], params["maxProtocol"]) == (3, 4)


def test_the_signature_of_a_node_is_the_published_one() -> None:
    """Platform and family are signed in their folded form, nothing is signed where no token is sent (protocol §3.3)."""
    client = ClientInfo(id="node-host", mode="node", version="1", platform="Darwin", device_family=" Mac ")
    presented = choose(Credentials(), None, "node", ())
    params = connect_params(client, presented, "node", Identity(SEED), Challenge(NONCE), AT)
    assert params["device"]["signature"] == (
        "x0pc5z_zyWkZswh8q5Y0M5xHlXjh1bQCOt5wUZk9XW_3XJ6NQ-GfBkoB64M_2fUuzkPOYz5bn3yv7D_-A8lSDg"
    )
    assert "auth" not in params


def test_without_an_identity_there_is_no_device() -> None:
    """A connect without a device proves nothing and sends no half of it."""
    params = connect_params(
        here("cli", "cli", version="1"), choose(Credentials(), None, "operator", ()), "operator", None, Challenge(NONCE), 1
    )
    assert "device" not in params


@pytest.mark.parametrize("payload", [b"null", b"{}", b'{"nonce":" "}', b'{"nonce":7}', b"[]"])
def test_a_challenge_without_a_nonce_is_none(payload: bytes) -> None:
    """Nothing is signed for a server that gives nothing to sign."""
    assert challenge(Message("event", event="connect.challenge", payload=msgspec.Raw(payload))) is None


@pytest.mark.parametrize("payload", [None, {}, [], {"auth": None}, {"auth": {"scopes": "x", "role": 3, "deviceToken": 9}}])
def test_hello_may_leave_out_everything(payload: object) -> None:
    """No field of hello-ok is needed (CL-29)."""
    got = hello(payload, "operator")
    assert (got.role, got.scopes, got.token) == ("operator", (), None)


def test_hello_brings_the_devices_token() -> None:
    """The token, its role and its scopes are kept; no repr shows the token (L7)."""
    got = hello({"protocol": 4, "auth": {"role": "node", "scopes": ["node.x"], "deviceToken": "fresh-token"}}, "operator")
    assert got.token is not None
    assert (got.token.role, got.token.scopes, got.token.secret.reveal()) == ("node", ("node.x",), "fresh-token")
    assert "fresh-token" not in repr(got)


@pytest.mark.parametrize(
    ("message", "details", "reason"),
    [
        ("unknown requestId", {}, Reason.UNKNOWN_REQUEST),
        ("unknown requestId", {"code": "UNKNOWN_REQUEST"}, Reason.UNKNOWN_REQUEST),
        ("anything", {"code": "AUTH_TOKEN_MISMATCH"}, Reason.TOKEN_MISMATCH),
        ("anything", {"code": "PAIRING_REQUIRED", "reason": "scope-upgrade"}, Reason.SCOPE_UPGRADE),
        ("anything", {"code": "PAIRING_REQUIRED", "reason": "of a later version"}, Reason.NOT_PAIRED),
        ("missing scope: operator.read", {}, Reason.MISSING_SCOPE),
        ("of a later version", {"code": "NEW"}, None),
        ("", {}, None),
    ],
)
def test_a_refusal_is_known_by_its_details_or_its_words(message: str, details: dict[str, str], reason: Reason | None) -> None:
    """Gateways with and without details are understood alike; what is not known is not guessed."""
    assert CallRefused("INVALID_REQUEST", message, details).reason is reason


def test_a_refusals_words_fill_its_hint() -> None:
    """The fields of the message are found again in it."""
    assert CallRefused("X", "missing scope: operator.read", {}).fields == {"scope": "operator.read"}


@pytest.mark.parametrize("given", [None, 7, "", "-x", "a b", "x" * 129, "a\n"])
def test_a_request_id_of_another_form_is_ignored(given: object) -> None:
    """Only an id that can be typed back is shown (protocol §5.7)."""
    assert ConnectRefused("NOT_PAIRED", "m", {"requestId": given}).request is None
