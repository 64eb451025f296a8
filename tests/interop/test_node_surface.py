"""What a real node host declares waits for a person, who answers with OpenClaw's own client."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.interop.conftest import TOKEN
from tests.interop.test_node import connected, until

if TYPE_CHECKING:
    from tests.interop.conftest import Client, Gateway

pytestmark = pytest.mark.interop


def told(gateway: Gateway, node: str) -> list[str]:
    return [fact.kind for fact in gateway.facts() if fact.stream == f"node:{node}"]


def ours(gateway: Gateway, *args: str) -> str:
    """Run our own command line on the gateway's host."""
    command = [str(Path(sys.executable).with_name("pairing")), *args]
    env = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "PAIRING_HOME": str(gateway.home),
        "PAIRING_GATEWAY_URL": f"ws://127.0.0.1:{gateway.port}",
        "PAIRING_GATEWAY_TOKEN": TOKEN,
    }
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done
    return done.stdout


def test_a_node_without_commands_is_approved_by_the_real_client(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """`nodes approve`, `pending` and `remove` for what needs `operator.pairing` alone; its answer is the protocol's (NP-03)."""
    operator = openclaw("operator", gateway.port)
    asked = operator(
        "gateway", "call", "node.pair.request", "--params", '{"nodeId":"shelf","displayName":"Shelf"}', "--json"
    ).json()
    request = asked["request"]["requestId"]
    assert (asked["status"], asked["created"]) == ("pending", True)
    approved = operator("nodes", "approve", request).json()
    assert (approved["requestId"], approved["node"]["nodeId"]) == (request, "shelf")
    assert len(approved["node"]["token"]) == 43
    assert told(gateway, "shelf") == ["node.requested", "node.approved"]
    assert "Shelf" in operator("nodes", "status").out
    again = operator("nodes", "approve", "nothing-of-the-kind")
    assert again.code == 1
    assert "unknown requestId" in again.err


def test_a_node_works_while_its_commands_wait_and_are_approved(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """`nodes pending`, `approve`, `rename` and `status` of the real client, which asks for `operator.pairing` alone and so cannot
    approve what runs programs; our own can. The approved node asks for nothing again (NP-01)."""
    operator, host = openclaw("operator", gateway.port), openclaw("host", gateway.port)
    with host.node("--display-name", "nodeling") as node:
        until(lambda: (host.folder / "state" / "identity" / "device-auth.json").exists(), "no token was stored")
        connected(operator, host.device, node)
        held = operator("nodes", "pending", "--json").json()
        pending = held["pending"] if isinstance(held, dict) else held
        (request,) = [entry for entry in pending if entry["nodeId"] == host.device]
        assert "system.run" in request["commands"]
        assert request["requiredApproveScopes"] == ["operator.pairing", "operator.admin"]
        assert request["requestId"][:8] in re.sub(r"\s", "", operator("nodes", "pending").out)

        refused = operator("nodes", "approve", request["requestId"])
        assert (refused.code, told(gateway, host.device)) == (1, ["node.requested"])
        assert "missing scope: operator.admin" in refused.err
        approved = ours(gateway, "nodes", "approve", request["requestId"])
        assert approved.startswith(f"Approved nodeling {host.device} ({request['requestId']}) — recorded as node.approved")
        assert told(gateway, host.device) == ["node.requested", "node.approved"]
        assert node.running(), node.said
        renamed = operator("nodes", "rename", "--node", host.device, "--name", "porch")
        assert renamed.code == 0, renamed
        assert connected(operator, host.device, node)["displayName"] == "porch"

    with host.node("--display-name", "nodeling") as node:
        connected(operator, host.device, node)
        assert told(gateway, host.device) == ["node.requested", "node.approved", "node.renamed"]
