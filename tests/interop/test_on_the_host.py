"""The client on the gateway's own host, with the shared token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.interop.conftest import Client, Gateway

pytestmark = pytest.mark.interop

PAIRED = ["request.opened", "request.approved", "device.paired", "token.issued"]
WIDENED = ["request.opened", "request.approved", "device.upgraded", "token.widened"]


def test_the_first_list_pairs_the_client_silently(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """A local client with the shared token is paired without a question, and the log says so (CL-01, CL-33)."""
    operator = openclaw("operator", gateway.port)
    first = operator("devices", "list", "--json", "--url", f"ws://127.0.0.1:{gateway.port}", "--token", str(operator.token))
    listed = first.json()
    assert sorted(listed) == ["paired", "pending"]
    (mine,) = [entry for entry in listed["paired"] if entry["deviceId"] == operator.device]
    assert (mine["roles"], mine["scopes"]) == (["operator"], ["operator.pairing"])
    assert (mine["clientId"], mine["clientMode"], mine["platform"]) == ("cli", "cli", "linux")
    assert [(token["role"], token["scopes"]) for token in mine["tokens"]] == [("operator", ["operator.pairing"])]
    assert gateway.story(operator.device) == PAIRED
    assert gateway.last(operator.device, "request.approved").body["means"] == "silent"

    before = gateway.position
    assert operator("devices", "list", "--json").json()["paired"]
    assert gateway.position == before, "coming back is not an event"


def test_a_list_names_the_device_and_never_its_token(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """What a device keeps as its token is shown in no list and lies in no file of ours (T1)."""
    operator = openclaw("operator", gateway.port)
    listed = operator("devices", "list")
    assert listed.code == 0
    assert f"Paired ({len(gateway_devices(operator))})" in listed.out
    stored = operator.stored()
    assert stored is not None
    assert len(stored["token"]) == 43
    assert stored["scopes"] == ["operator.pairing"]
    secrets = [stored["token"].encode(), str(operator.token).encode()]
    assert not any(secret.decode() in listed.out + listed.err for secret in secrets)
    for file in gateway.home.glob("*.db*"):
        assert not any(secret in file.read_bytes() for secret in secrets), file.name
    assert not any(secret in gateway.spoken.read_bytes() for secret in secrets)


def test_another_command_of_the_same_client_widens_its_access(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """The client asks for one scope a command; on the host the next is granted silently, where the original refuses (CL-37)."""
    operator = openclaw("operator", gateway.port)
    assert operator("devices", "list").code == 0
    health = operator("gateway", "call", "health", "--json").json()
    assert health["ok"] is True
    assert gateway.story(operator.device) == PAIRED + WIDENED
    assert gateway.last(operator.device, "device.upgraded").body["scopes"] == ["operator.pairing", "operator.read"]
    spoken = operator("gateway", "call", "health")
    assert spoken.code == 0
    assert spoken.out.startswith("Gateway call: health\n")
    assert operator("devices", "list").code == 0, "and what it had it keeps"


def test_it_returns_with_its_own_token_and_no_shared_one(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """The token of the first call is enough for the next, and using it changes nothing (AU-27)."""
    operator = openclaw("operator", gateway.port)
    assert operator("devices", "list").code == 0
    kept, before = operator.stored(), gateway.position
    operator.token = None
    own = operator("devices", "list", "--json").json()["paired"]
    assert [entry["deviceId"] for entry in own] == [operator.device], "a device on its own token sees itself alone"
    assert gateway.position == before
    assert kept is not None
    assert operator.stored() is not None
    assert operator.stored()["token"] == kept["token"]  # type: ignore[index]


def test_a_method_that_does_not_exist_is_called_by_its_name(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """An operator with everything is told that the method is unknown; the client prints our sentence and fails (FR-27)."""
    operator = openclaw("operator", gateway.port)
    refused = operator("gateway", "call", "no.such")
    assert refused.code == 1
    assert "Gateway call failed: GatewayClientRequestError: unknown method: no.such" in refused.err


def gateway_devices(operator: Client) -> list[str]:
    return [entry["deviceId"] for entry in operator("devices", "list", "--json").json()["paired"]]
