"""What a program or a page on the gateway's own host tries to be more than the host lends it."""

import pytest

NARROW = {"gateway.pairing.localCeiling": ["operator.read", "operator.pairing"]}
BACKEND = {"id": "gateway-client", "mode": "backend"}
PAGE = {"Origin": "http://localhost:18789"}
UI = {"id": "openclaw-control-ui", "mode": "ui"}


async def test_calling_oneself_the_backend_is_no_way_past_the_ceiling(world):
    """N7, A15: an unpaired device that says it is the gateway's own backend keeps what the ceiling covers, and is no admin."""
    w = await world(NARROW)
    session = await w.inside(w.device(), client=BACKEND, scopes=("operator.admin", "operator.read"))
    assert session.hello["auth"]["scopes"] == ["operator.read"]
    assert "admin" in (await session.call("config.set", {})).message
    assert not await w.records("device.paired")


async def test_a_nameless_command_line_is_held_to_the_ceiling_too(world):
    """N7: the same without any device, by the clients that need none."""
    w = await world(NARROW)
    for client in (BACKEND, {"id": "cli", "mode": "cli"}):
        session = await w.inside(client=client, scopes=("operator.admin", "operator.pairing"), protocol=(4, 4))
        assert session.hello["auth"]["scopes"] == ["operator.pairing"], client


async def test_in_mode_none_the_terminal_ui_is_no_admin_by_its_name(world):
    """A15: where no secret is asked for, the ceiling is all there is; a client's name does not lift it."""
    w = await world(NARROW | {"gateway.auth.mode": "none"})
    session = await w.inside(w.device(), auth=None, client={"id": "openclaw-tui", "mode": "cli"}, scopes=("operator.admin",))
    assert session.hello["auth"]["scopes"] == []


async def test_a_page_does_not_approve_its_own_upgrade(world):
    """A21: a browser page gets no silent upgrade, and its being local lends it nothing with which to approve one itself."""
    w = await world()
    page = w.device()
    session = await w.inside(page, client=UI, headers=PAGE, scopes=("operator.pairing",))
    refused = await w.outside(page, client=UI, headers=PAGE, scopes=("operator.admin",))
    answer = await session.approve(refused.details["requestId"])
    assert answer.message == "missing scope: operator.admin"


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP"])
async def test_a_proxy_on_the_host_makes_nobody_local(world, header):
    """N6: whatever the header says, loopback addresses included, its presence alone takes locality away."""
    w = await world()
    refused = await w.outside(w.device(), headers={header: "127.0.0.1"}, scopes=("operator.read",))
    assert refused.details["reason"] == "not-paired"
