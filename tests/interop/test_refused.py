"""The client with the wrong credential, or with none: turned away with the protocol's words, and nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.interop.conftest import Client, Gateway

pytestmark = pytest.mark.interop

MISMATCH = "unauthorized: gateway token mismatch (set gateway.remote.token to match gateway.auth.token)"
MISSING = "unauthorized: gateway token missing (set gateway.remote.token to match gateway.auth.token)"


@pytest.mark.parametrize("where", ["here", "far away"])
def test_a_wrong_shared_token_is_refused_and_leaves_no_request(
    gateway: Gateway, far: int, openclaw: Callable[..., Client], where: str
) -> None:
    """Who cannot prove the secret does not get as far as asking (CL-23, AU-04)."""
    port = gateway.port if where == "here" else far
    client, before = openclaw("client", port, token="not-the-secret"), gateway.position
    refused = client("devices", "list", "--json", "--url", f"ws://127.0.0.1:{port}", "--token", "not-the-secret")
    assert (refused.code, refused.out) == (1, "")
    assert f"gateway connect failed: GatewayClientRequestError: {MISMATCH}" in refused.err
    assert f"gateway closed (1008): {MISMATCH}" in refused.err
    assert f"Gateway target: ws://127.0.0.1:{port}\nSource: cli --url\n" in refused.err
    called = client("gateway", "call", "health")
    assert called.code == 1
    assert f"Gateway call failed: GatewayTransportError: gateway closed (1008): {MISMATCH}" in called.err
    assert gateway.position == before
    assert "not-the-secret" not in gateway.spoken.read_text()


def test_no_token_at_all_is_refused(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """Loopback alone is no credential; the client's fall-back to its own files does not come into play (AU-01, CL-26)."""
    client, before = openclaw("client", gateway.port, token=None), gateway.position
    refused = client("devices", "list")
    assert (refused.code, refused.out) == (1, "")
    assert f"gateway closed (1008): {MISSING}" in refused.err
    assert gateway.position == before


def test_another_devices_token_opens_nothing(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """A token is worth something only with the key it was issued to (AU-29, A3)."""
    owner, thief = openclaw("owner", gateway.port), openclaw("thief", gateway.port)
    assert owner("devices", "list").code == 0
    stolen = owner.stored()
    assert stolen is not None
    thief.token = stolen["token"]
    before = gateway.position
    refused = thief("devices", "list")
    assert refused.code == 1
    assert f"gateway closed (1008): {MISMATCH}" in refused.err
    assert gateway.position == before
