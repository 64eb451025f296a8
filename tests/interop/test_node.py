"""OpenClaw's own node host: asks, is approved, stays, survives a rotation, and is thrown out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.interop.conftest import Client, Gateway, Node

pytestmark = pytest.mark.interop

PAIRED = ["request.opened", "request.approved", "device.paired", "token.issued"]


def connected(operator: Client, device: str, node: Node) -> dict[str, Any]:
    """Wait until `nodes status` shows the node as connected, and return its entry."""
    for _ in range(20):
        assert node.running(), node.said
        for entry in operator("nodes", "status", "--json").json()["nodes"]:
            if entry["nodeId"] == device and entry.get("connected"):
                found: dict[str, Any] = entry
                return found
        time.sleep(0.2)
    raise AssertionError(f"{device} never showed up: {node.said}")


def until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(what)


def waiting(host: Client) -> str:
    """Run the node host until it ends because somebody has to approve it; return the request's id."""
    with host.node() as node:
        assert node.ended() == 13, node.said
    assert "detail=PAIRING_REQUIRED; waiting for operator action" in node.said
    found = re.search(r"device pairing required \(requestId: (\S+)\)", node.said)
    assert found is not None, node.said
    return found[1]


def test_a_node_on_the_host_is_in_at_once(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """A local node with the shared token is paired silently, shows up, and is shown as gone after it left (NR-01)."""
    operator, host = openclaw("operator", gateway.port), openclaw("host", gateway.port)
    with host.node("--display-name", "nodeling") as node:
        until(lambda: (host.folder / "state" / "identity" / "device-auth.json").exists(), "no token was stored")
        entry = connected(operator, host.device, node)
        assert entry["displayName"] == "nodeling"
        assert entry["paired"] is True
        assert gateway.story(host.device) == PAIRED
        assert gateway.last(host.device, "device.paired").body["roles"] == ["node"]
        shown = operator("nodes", "status")
        assert shown.code == 0
        assert re.search(r"^Known: \d+ · Paired: \d+ · Connected: 1$", shown.out, re.MULTILINE)
        stored = host.stored("node")
        assert stored is not None
        assert stored["scopes"] == []
    gone = operator("nodes", "status")
    assert gone.code == 0
    assert "Connected: 0" in gone.out


def test_a_far_node_waits_for_its_approval_and_then_stays(gateway: Gateway, far: int, openclaw: Callable[..., Client]) -> None:
    """Ask, exit 13, approve, run again: it stays; a rotation costs it one reconnection, a removal the access (NR-03, CL-05)."""
    operator, host = openclaw("operator", gateway.port), openclaw("host", far)
    request = waiting(host)
    assert gateway.story(host.device) == ["request.opened"]
    row = operator("devices", "list").row(request)
    assert row["Requested"] == "roles:node;scopes:none"
    approved = operator("devices", "approve", request)
    assert (approved.code, approved.out) == (0, f"Approved {host.device} ({request})\n")
    assert gateway.story(host.device) == PAIRED

    with host.node() as node:
        connected(operator, host.device, node)
        first = host.stored("node")
        assert first is not None
        assert operator("devices", "rotate", "--device", host.device, "--role", "node").code == 0
        until(lambda: host.stored("node") not in (None, first), "the rotated token never arrived")
        assert "(4001): device removed" in node.said, "the session that held the old one was closed"
        connected(operator, host.device, node)
        assert gateway.story(host.device) == [*PAIRED, "token.rotated"]

        assert operator("devices", "remove", host.device).code == 0
        assert node.ended() == 13, node.said
    assert gateway.story(host.device) == [*PAIRED, "token.rotated", "device.removed", "request.opened"]


def test_a_node_with_a_stale_shared_token_returns_with_its_own(
    gateway: Gateway, far: int, openclaw: Callable[..., Client]
) -> None:
    """After one refusal the node host retries once with the token it keeps beside the wrong one, and is in (NR-05, AU-06)."""
    operator, host = openclaw("operator", gateway.port), openclaw("host", far)
    assert operator("devices", "approve", waiting(host)).code == 0
    with host.node() as node:
        connected(operator, host.device, node)
    host.token = "of-last-year"
    before = gateway.position
    with host.node() as node:
        until(lambda: "gateway token mismatch" in node.said, "the first try was not refused")
        connected(operator, host.device, node)
    assert [fact.kind for fact in gateway.facts(host.device, after=before)] == []


def test_a_node_whose_token_was_revoked_has_to_ask_again(gateway: Gateway, far: int, openclaw: Callable[..., Client]) -> None:
    """Without the shared secret a revoked token is the end; the node host forgets it and says what to do (NR-04, AU-37)."""
    operator, host = openclaw("operator", gateway.port), openclaw("host", far)
    assert operator("devices", "approve", waiting(host)).code == 0
    with host.node() as node:
        connected(operator, host.device, node)
    assert operator("devices", "revoke", "--device", host.device, "--role", "node").code == 0
    assert gateway.story(host.device) == [*PAIRED, "token.revoked"]
    host.token = None
    with host.node() as node:
        assert node.ended() in (1, 13), node.said
    assert "unauthorized: device token mismatch" in node.said
    assert host.stored("node") is None
