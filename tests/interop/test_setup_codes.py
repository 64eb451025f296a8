"""OpenClaw's own client redeems our setup codes, lives by the tokens it got, and makes codes that ours reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pairing.setup_code import decode, encode
from tests.interop.conftest import PATIENCE, TOKEN

if TYPE_CHECKING:
    from tests.interop.conftest import Client, Gateway

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent
SCOPES = ["operator.approvals", "operator.read", "operator.talk.secrets", "operator.write"]
LET_IN = ["request.opened", "request.approved", "device.paired", "token.issued", "token.issued"]


def minted(gateway: Gateway, *args: str) -> dict[str, Any]:
    """Mint a code at our own command line, on the gateway's host."""
    command = [sys.executable, "-m", "cli.main", "enroll", "new", "--json"]
    command += ["--gateway-url", f"ws://127.0.0.1:{gateway.port}", *args]
    here = {"PAIRING_HOME": str(gateway.home), "PAIRING_GATEWAY_PORT": str(gateway.port), "PAIRING_GATEWAY_TOKEN": TOKEN}
    env = {**os.environ, **here}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def redeem(client: Client, code: str, role: str = "node", scopes: str = "") -> dict[str, Any]:
    """Let the real client log in with the code's token, to the code's address."""
    held = decode(code)
    assert held is not None
    env = {**client._environment(False), "SETUP_TOKEN": held.bootstrap_token}
    command = [client.argv[0], str(HERE / "redeem.mjs"), client.argv[1], held.url, role, scopes]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_its_client_redeems_a_code_and_its_node_host_lives_by_the_token(
    gateway: Gateway, openclaw: Callable[..., Client]
) -> None:
    """BS-01, B5: no shared token anywhere; the client itself stores what the code gave, and its node host acknowledges it."""
    code = minted(gateway)
    host = openclaw("phone", gateway.port, token=None)
    auth = redeem(host, code["setupCode"])["hello"]["auth"]
    assert (auth["role"], auth["scopes"]) == ("node", [])
    assert [(other["role"], other["scopes"]) for other in auth["deviceTokens"]] == [("operator", SCOPES)]
    again = redeem(openclaw("thief", gateway.port, token=None), code["setupCode"])
    assert "bootstrap token invalid" in again.get("refused", "") + again.get("reason", "")
    assert gateway.story(host.device)[: len(LET_IN)] == LET_IN
    stored = host.stored("node")
    assert stored is not None
    assert stored["token"] == auth["deviceToken"]
    stream = f"enrolment:{code['enrolment']['enrolmentId']}"
    with host.node() as node:
        for _ in range(600):
            kinds = [fact.kind for fact in gateway.facts() if fact.stream == stream]
            if "enrolment.acknowledged" in kinds:
                break
            assert node.running(), node.said
            time.sleep(0.1)
    assert kinds[:3] == ["enrolment.issued", "enrolment.redeemed", "enrolment.delivered"]
    assert kinds[-1] == "enrolment.acknowledged"
    assert "enrolment.overused" in kinds
    assert host.turned_back == []


def test_what_is_no_bare_node_is_told_to_wait(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """BS-11: the real client as operator with a code gets the pairing refusal it knows."""
    code = minted(gateway, "--role", "operator", "--scope", "operator.admin")
    said = redeem(openclaw("desk", gateway.port, token=None), code["setupCode"], "operator", "operator.admin")
    # On this host a device would be let in by the shared token alone; a code's device waits for a person even here.
    assert said["details"]["code"] == "PAIRING_REQUIRED", said


def test_the_code_it_makes_is_the_code_we_make(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """Protocol §6.9: `openclaw qr` and we write the same characters for the same address and token."""
    client = openclaw("qr", gateway.port)
    made = client("qr", "--setup-code-only", "--url", f"ws://127.0.0.1:{gateway.port}", "--token", "x")
    assert made.code == 0, made
    code = made.out.strip().splitlines()[-1]
    held = decode(code)
    assert held is not None, made
    assert held.url == f"ws://127.0.0.1:{gateway.port}"
    assert encode(held.url, held.bootstrap_token) == code
