"""The client's looks at a gateway: health, probe, status, nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import run
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.interop.conftest import Client, Gateway

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
MISMATCH = "unauthorized: gateway token mismatch"


def test_it_is_the_client_that_the_suite_is_written_against(openclaw: Callable[..., Client]) -> None:
    """The script becomes the pinned client, and what the suite starts is that client too."""
    script = run([ROOT / "scripts" / "openclaw", "--version"], capture_output=True, text=True, timeout=90, check=True)
    assert script.stdout.startswith("OpenClaw 2026.4.29 ")
    assert openclaw("client", 9)("--version").out == script.stdout


def test_it_cannot_leave_this_machine(openclaw: Callable[..., Client]) -> None:
    """An address outside is refused inside the client's process, so that no story here depends on a network."""
    away = openclaw("client", 9)
    away.extra["OPENCLAW_ALLOW_INSECURE_PRIVATE_WS"] = "1"
    refused = away("gateway", "call", "health", "--url", "ws://10.255.255.1:9", "--token", "x")
    assert refused.code == 1
    assert away.turned_back == ["10.255.255.1"]


def test_health_is_well(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """`gateway health` prints that the gateway is well."""
    said = openclaw("operator", gateway.port)("gateway", "health", named=True)
    assert said.code == 0
    assert "OK" in said.out


def test_a_probe_without_a_device_connects_and_may_not_look(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """The probe of a fresh state folder shows no device, so it loses its scopes, and says so; it pairs nothing (AU-17)."""
    client, before = openclaw("client", gateway.port), gateway.position
    probe = client("gateway", "probe", named=True)
    assert probe.code == 0, probe
    assert "Reachable: yes\nCapability: connected-no-operator-scope\n" in probe.out
    assert "missing scope: operator.read" in probe.out
    assert gateway.position == before


def test_a_probe_of_a_paired_client_reads_everything(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """Once it keeps a token the probe proves its device and reads health, status, presence and configuration."""
    client = openclaw("client", gateway.port)
    assert client("gateway", "health", named=True).code == 0
    probe = client("gateway", "probe", "--json", named=True).json()
    assert (probe["ok"], probe["degraded"], probe["warnings"]) == (True, False, [])
    (target,) = probe["targets"]
    assert target["connect"]["rpcOk"] is True
    assert target["health"]["ok"] is True
    assert target["config"]["gateway"]["authMode"] == "token"
    assert target["self"] is not None
    assert isinstance(target["presence"], list)
    spoken = client("gateway", "probe", named=True)
    assert "Reachable: yes\nCapability: read-only\n" in spoken.out
    assert "Read probe: ok" in spoken.out
    assert str(client.token) not in str(probe) + spoken.out


def test_a_probe_with_a_wrong_token_fails(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """A probe that is not let in exits 1 with the reason (CL-23)."""
    probe = openclaw("client", gateway.port, token="not-the-secret")("gateway", "probe", named=True)
    assert probe.code == 1
    assert "Reachable: no\n" in probe.out
    assert f"Connect: failed - {MISMATCH}" in probe.out


def test_status_shows_the_gateway(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """`status` finds the gateway, reachable, and what it says of itself."""
    client = openclaw("client", gateway.port)
    assert client("gateway", "health").code == 0
    seen = client("status", "--json", named=True).json()["gateway"]
    assert (seen["reachable"], seen["error"], seen["misconfigured"]) == (True, None, False)
    assert seen["url"] == f"ws://127.0.0.1:{gateway.port}"
    shown = client("status", named=True)
    assert shown.code == 0
    assert shown.row("Gateway")["Value"].startswith(f"local·ws://127.0.0.1:{gateway.port}(localloopback)·reachable")


def test_status_says_why_it_may_not_look(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """`status` never fails; with a wrong token it shows our reason."""
    shown = openclaw("client", gateway.port, token="not-the-secret")("status", named=True)
    assert shown.code == 0
    assert f"unreachable({MISMATCH.replace(' ', '')}" in shown.row("Gateway")["Value"]


def test_no_nodes_is_an_answer(empty_gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """`nodes status` counts what there is, here nothing, and fails where it is refused."""
    said = openclaw("client", empty_gateway.port)("nodes", "status")
    assert (said.code, said.out.strip()) == (0, "Known: 0 · Paired: 0 · Connected: 0")
    refused = openclaw("thief", empty_gateway.port, token="not-the-secret")("nodes", "status")
    assert refused.code == 1
    assert f"nodes status failed: GatewayTransportError: gateway closed (1008): {MISMATCH}" in refused.err
