"""A pinned certificate: the one that is talked to, and every other one, which is shown nothing."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from pairing.client import BadAddress, PinMismatch, Unreachable, as_device, connect
from pairing.client.dialling import fingerprint, pinned
from tests.certificates import make


class Speaker:
    """A gateway that says no to the shared token and yes to the device's own; it writes down what it was shown."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    async def __call__(self, socket: ServerConnection) -> None:
        await socket.send(json.dumps({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n"}}))
        frame = json.loads(await socket.recv())
        auth = frame["params"].get("auth", {})
        self.shown.append(auth)
        if auth.get("token") == "stale" and "deviceToken" not in auth:
            details = {"code": "AUTH_TOKEN_MISMATCH", "canRetryWithDeviceToken": True}
            error = {"code": "INVALID_REQUEST", "message": "no", "details": details}
            await socket.send(json.dumps({"type": "res", "id": frame["id"], "ok": False, "error": error}))
            await socket.close(1008, "no")
            return
        granted = {"role": "node", "scopes": [], "deviceToken": "n" * 43}
        granted["deviceTokens"] = [{"deviceToken": "o" * 43, "role": "operator", "scopes": ["operator.read"], "issuedAtMs": 1}]
        await socket.send(json.dumps({"type": "res", "id": frame["id"], "ok": True, "payload": {"auth": granted}}))
        await socket.wait_closed()


@asynccontextmanager
async def secured(folder: Path, speaker: Speaker) -> AsyncIterator[tuple[str, str]]:
    """Lend the URL of a gateway with a certificate that nobody signed, and the certificate's fingerprint."""
    cert, key = make(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with serve(speaker, "127.0.0.1", 0, ssl=context) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"wss://127.0.0.1:{port}", fingerprint(ssl.PEM_cert_to_DER_cert(cert.read_text()))


async def test_the_pinned_certificate_needs_no_authority_behind_it(tmp_path: Path) -> None:
    """However the fingerprint is written; every token of hello is kept, each for its role."""
    async with secured(tmp_path, Speaker()) as (url, right):
        for written in (right, "SHA256:" + right.upper(), ":".join(right[i : i + 2] for i in range(0, 64, 2))):
            login = as_device(tmp_path / "device", token="stale-but-unused", pin=written)
            async with connect(url, login) as session:
                assert session.hello.role == "node"
        assert login.identity is not None
        assert login.store is not None
        place = url.removeprefix("wss://")
        for role, first in (("node", "n"), ("operator", "o")):
            kept = login.store.token(login.identity.device, place, role)
            assert kept is not None
            assert kept.secret.reveal() == first * 43


async def test_another_certificate_is_shown_nothing(tmp_path: Path) -> None:
    """T11: the error names what was found; neither token nor device id had left this host."""
    speaker = Speaker()
    async with secured(tmp_path, speaker) as (url, right):
        with pytest.raises(PinMismatch, match=right):
            async with connect(url, as_device(tmp_path / "device", token="stale", pin="0" * 64)):
                pass
        with pytest.raises(Unreachable, match="TLS failed"):
            async with connect(url, as_device(tmp_path / "device", token="stale")):
                pass
    assert speaker.shown == []


async def test_a_pin_makes_a_far_gateway_one_that_may_be_shown_the_stored_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T11: elsewhere than on this host the one retry needs the pin."""
    speaker = Speaker()
    async with secured(tmp_path, speaker) as (url, right):
        async with connect(url, as_device(tmp_path / "device", token="fresh", pin=right)):
            pass
        # A gateway elsewhere, as far as the client can tell.
        monkeypatch.setattr("pairing.client.address.Endpoint.loopback", property(lambda self: False))
        monkeypatch.setattr("pairing.client.address.Endpoint.gateway", property(lambda self: url.removeprefix("wss://")))
        async with connect(url, as_device(tmp_path / "device", token="stale", pin=right)):
            pass
    assert [sorted(shown) for shown in speaker.shown] == [["token"], ["token"], ["deviceToken", "token"]]


@pytest.mark.parametrize("pin", ["", "0" * 63, "g" * 64, "sha1:" + "0" * 40])
async def test_what_is_no_pin_is_refused_before_anything_is_dialled(pin: str, tmp_path: Path) -> None:
    """A pin that cannot match is a mistake, not a certificate that changed; plain text has nothing to pin."""
    with pytest.raises(BadAddress, match="64 hex digits"):
        pinned(pin)
    with pytest.raises(BadAddress, match="no certificate that could be pinned"):
        async with connect("ws://127.0.0.1:9", as_device(tmp_path / "device", pin="0" * 64)):
            pass


def test_a_role_that_no_client_has_is_refused(tmp_path: Path) -> None:
    """Before a key is made."""
    with pytest.raises(ValueError, match="a role is operator or node"):
        as_device(tmp_path / "device", role="admin")
    assert not (tmp_path / "device").exists()
