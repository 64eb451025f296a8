"""What a device does with a setup code: when its token is presented, what is signed over it, and which tokens are kept."""

from pairing.client.credentials import Credentials, DeviceToken, Presented, choose
from pairing.client.handshake import hello
from pairing.settings.secret import Secret

CODE, SHARED = Secret("bootstrap"), Secret("shared")
STORED = DeviceToken("node", (), Secret("stored"))


def test_a_code_is_for_a_device_that_has_nothing_else() -> None:
    """Protocol §4.7: a shared secret, or the device's own token, comes first; the code is then kept back."""
    alone = choose(Credentials(bootstrap=CODE), None, "node", ())
    assert alone.auth() == {"bootstrapToken": "bootstrap"}
    assert alone.signed == "bootstrap"
    stored = choose(Credentials(bootstrap=CODE), STORED, "node", ())
    assert stored.auth() == {"token": "stored", "deviceToken": "stored"}
    shared = choose(Credentials(token=SHARED, bootstrap=CODE), None, "node", ())
    assert shared.auth() == {"token": "shared"}
    assert "s3cret" not in repr(Credentials(bootstrap=Secret("s3cret"))) + repr(Presented((), bootstrap=Secret("s3cret")))


def test_the_tokens_of_other_roles_are_read_as_tolerantly_as_the_rest() -> None:
    """Protocol §2.5: what does not fit is passed over."""
    good = {"deviceToken": "t", "role": "operator", "scopes": ["operator.read", 5], "issuedAtMs": 1}
    told = hello(
        {"auth": {"role": "node", "deviceToken": "n", "deviceTokens": [good, {}, 7, {"role": "x"}, {"deviceToken": "y"}]}}, "node"
    )
    assert told.others == (DeviceToken("operator", ("operator.read",), Secret("t")),)
    assert told.token == DeviceToken("node", (), Secret("n"))
    assert hello({"auth": {"deviceTokens": "nonsense"}}, "node").others == ()
