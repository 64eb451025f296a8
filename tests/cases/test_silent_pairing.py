"""Who is let in without a person: locality and trusted networks, on a real socket (groups PL and CI)."""

import anyio
import pytest

from pairing.commands import Rename

READ = ("operator.read",)
TRUSTED = {"gateway.nodes.pairing.autoApproveCidrs": ["192.0.2.0/24"]}
PROXIED = {"gateway.nodes.pairing.autoApproveCidrs": ["203.0.113.0/24"]}


async def test_a_device_on_the_own_host_is_paired_at_once(world):
    """PL-01, V9-11: hello-ok, one record with one token and no address, nothing left open; the record says that it was silent."""
    w = await world()
    device, admin = w.device(), await w.admin()
    client = await w.inside(device, scopes=READ)
    assert client.token
    entry = await admin.entry(device)
    assert entry["scopes"] == ["operator.read"]
    assert [token["role"] for token in entry["tokens"]] == ["operator"]
    assert "remoteIp" not in entry
    assert (entry["approvedVia"], entry["connected"]) == ("silent", True)
    assert await admin.pending() == []


async def test_a_device_from_elsewhere_waits_for_a_person(world, elsewhere):
    """PL-03: remote by its TCP source; the details say what it waits for and no more; the close frame names the request."""
    w = await world()
    device = w.device()
    refused = await w.outside(device, scopes=READ, source=elsewhere["192.0.2.2"])
    text = "pairing required: device is not approved yet"
    assert (refused.error["code"], refused.message) == ("NOT_PAIRED", text)
    request = refused.details["requestId"]
    assert refused.details == {
        "code": "PAIRING_REQUIRED",
        "reason": "not-paired",
        "requestId": request,
        "remediationHint": "Approve this device from the pending pairing requests.",
        "deviceId": device.device,
        "requestedRole": "operator",
        "requestedScopes": ["operator.read"],
    }
    assert (refused.code, refused.reason) == (1008, f"{text} (requestId: {request})")


@pytest.mark.parametrize("header", [{"X-Forwarded-Port": "443"}, {"Via": "x"}])
async def test_some_headers_do_not_matter(world, header):
    """PL-05."""
    w = await world()
    await w.inside(w.device(), headers=header)


@pytest.mark.parametrize(
    "header",
    [{"Forwarded": "for=127.0.0.1"}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-Proto": "https"}, {"X-Real-IP": "::1"}],
)
async def test_any_sign_of_a_proxy_takes_locality_away(world, header):
    """N6, PL-03: also where the header claims loopback, and whether or not the proxy is trusted."""
    for proxies in ([], ["127.0.0.1"]):
        w = await world({"gateway.trustedProxies": proxies}, home=f"home{len(proxies)}")
        refused = await w.outside(w.device(), scopes=READ, headers=header)
        assert refused.details["reason"] == "not-paired"


async def test_the_reviewer_sees_the_address(world, elsewhere):
    """PL-07: the request carries the TCP source as remoteIp."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.outside(device, source=elsewhere["192.0.2.2"])
    (pending,) = await admin.pending(device)
    assert pending["remoteIp"] == "192.0.2.2"


async def test_the_host_header_is_no_part_of_locality(world):
    """PL-09."""
    w = await world()
    await w.inside(w.device(), name="evil.example")


async def test_silence_fails_where_a_scope_lies_outside_the_role(world):
    """PL-11, A13: a node on the own host that asks for an operator's scope; its request stays, is silent, and is announced."""
    w = await world()
    admin, device = await w.admin(), w.device()
    refused = await w.outside(device, role="node", scopes=READ)
    assert (refused.error["code"], refused.details["reason"]) == ("NOT_PAIRED", "not-paired")
    (pending,) = await admin.pending(device)
    assert (pending["silent"], pending["requestId"]) == (True, refused.details["requestId"])
    announced = await admin.event("device.pair.requested")
    assert announced["payload"] == pending


async def test_an_unknown_scope_of_the_role_is_harmless(world):
    """PL-13: it may be held, and grants nothing."""
    w = await world()
    client = await w.inside(w.device(), scopes=("operator.made-up",))
    assert client.hello["auth"]["scopes"] == ["operator.made-up"]
    assert (await client.call("status")).message == "missing scope: operator.read"


async def test_ten_sockets_of_one_fresh_device_are_one_device(world):
    """PL-15, T2: all at the same moment; one record, one token, the same for all."""
    w = await world()
    admin, device, tokens = await w.admin(), w.device(), []

    async def one():
        tokens.append((await w.inside(device, scopes=READ)).token)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(one)
    assert len(tokens) == 10
    assert len(set(tokens)) == 1
    entry = await admin.entry(device)
    assert len(entry["tokens"]) == 1
    mine = [row.kind for row in await w.records() if row.stream == f"device:{device.device}"]
    assert mine == ["request.opened", "request.approved", "device.paired", "token.issued"]


async def test_a_node_on_the_own_host_is_paired_at_once(world):
    """PL-17."""
    w = await world()
    node = await w.inside(w.device(), role="node")
    assert node.hello["auth"].keys() == {"role", "scopes", "deviceToken", "issuedAtMs"}
    assert (node.hello["auth"]["role"], node.hello["auth"]["scopes"]) == ("node", [])


async def test_silence_has_a_ceiling(world):
    """N7, difference 2: what lies above gateway.pairing.localCeiling waits for a person; nothing of it is merged meanwhile."""
    w = await world({"gateway.pairing.localCeiling": ["operator.read", "operator.pairing"]})
    device = w.device()
    await w.inside(device, scopes=READ)
    for _ in range(2):
        refused = await w.outside(device, scopes=("operator.admin",))
        assert refused.details["reason"] == "scope-upgrade"
    fresh = await w.outside(w.device(), scopes=("operator.write",))
    assert fresh.details["reason"] == "not-paired"
    (row,) = (await w.opened.service.views.paired(device=device.device)).rows
    assert row.scopes == READ
    assert row.tokens[0].scopes == READ


async def test_a_node_of_a_trusted_network_is_paired_at_first_contact(world, elsewhere):
    """CI-01, A19: the record has the address and says by which means; an operator from there waits like everybody."""
    w = await world(TRUSTED)
    admin, device = await w.admin(), w.device()
    node = await w.inside(device, role="node", source=elsewhere["192.0.2.2"])
    assert node.token
    entry = await admin.entry(device)
    assert (entry["remoteIp"], entry["approvedVia"]) == ("192.0.2.2", "trusted-cidr")
    operator = await w.outside(w.device(), source=elsewhere["192.0.2.2"])
    assert operator.details["reason"] == "not-paired"
    wrong = await w.outside(w.device(), role="node", source=elsewhere["192.0.2.2"], auth={"token": "wrong"})
    assert wrong.details["code"] == "AUTH_TOKEN_MISMATCH"


async def test_a_trusted_network_is_no_blank_cheque(world, elsewhere):
    """CI-03: only a node that asks for no scopes, and that no page opened."""
    w = await world(TRUSTED | {"gateway.controlUi.allowedOrigins": ["*"]})
    page = {"Origin": "https://ui.example"}
    by_page = await w.outside(w.device(), role="node", source=elsewhere["192.0.2.2"], headers=page)
    assert by_page.details["reason"] == "not-paired"
    refused = await w.outside(w.device(), role="node", scopes=("node.exec",), source=elsewhere["192.0.2.2"])
    assert refused.details["reason"] == "not-paired"


async def test_an_address_outside_the_network_is_not_in_it(world, elsewhere):
    """CI-01 turned round: another source waits."""
    w = await world(TRUSTED)
    refused = await w.outside(w.device(), role="node", source=elsewhere["198.51.100.9"])
    assert refused.details["reason"] == "not-paired"


async def test_an_address_that_a_loopback_proxy_reports_is_not_good_enough(world):
    """CI-05: anybody on the host can be that proxy."""
    w = await world(PROXIED | {"gateway.trustedProxies": ["127.0.0.1"]})
    refused = await w.outside(w.device(), role="node", via="203.0.113.9")
    assert refused.details["reason"] == "not-paired"


async def test_an_address_that_a_trusted_proxy_reports_counts(world, elsewhere):
    """CI-07: a proxy off this host vouches for 203.0.113.9, which is in the list, and for 198.51.100.9, which is not."""
    w = await world(PROXIED | {"gateway.trustedProxies": ["192.0.2.2"]})
    admin, inside, outside = await w.admin(), w.device(), w.device()
    source = elsewhere["192.0.2.2"]
    await w.inside(inside, role="node", source=source, via="203.0.113.9")
    assert (await admin.entry(inside))["remoteIp"] == "203.0.113.9"
    refused = await w.outside(outside, role="node", source=source, via="198.51.100.9")
    assert refused.details["reason"] == "not-paired"
    (pending,) = await admin.pending(outside)
    assert pending["remoteIp"] == "198.51.100.9"


async def test_the_client_may_write_what_it_likes_left_of_its_own_address(world, elsewhere):
    """N8, CI-07: read from the right; what a client claims of itself moves it into no network."""
    w = await world(PROXIED | {"gateway.trustedProxies": ["192.0.2.2"]})
    refused = await w.outside(w.device(), role="node", source=elsewhere["192.0.2.2"], via="203.0.113.9, 198.51.100.9")
    assert refused.details["reason"] == "not-paired"


async def test_an_older_request_that_needs_a_person_spoils_the_silence(world, elsewhere):
    """CI-09: the device has an open operator's request; the merged one is silent only if all were."""
    w = await world(TRUSTED)
    admin, device = await w.admin(), w.device()
    await w.outside(device, scopes=READ, source=elsewhere["192.0.2.2"])
    refused = await w.outside(device, role="node", source=elsewhere["192.0.2.2"])
    assert refused.error["code"] == "NOT_PAIRED"
    (pending,) = await admin.pending(device)
    assert (pending["silent"], pending["roles"]) == (False, ["operator", "node"])
    assert await admin.paired(device) == []


async def test_a_herd_on_the_own_host_is_let_in_to_the_last(world):
    """PL-01, PL-15: sixty fresh devices at once, while another process writes to the same log; nobody is sent away as busy."""
    w = await world({"gateway.maxPreauthPerAddress": 100})
    known, inside = w.device(), []
    await w.inside(known, scopes=READ)

    async def one():
        inside.append(await w.inside(w.device(), scopes=READ))

    async with w.beside() as other, anyio.create_task_group() as tasks:
        for _ in range(60):
            tasks.start_soon(one)
        for number in range(60):
            await other.service.desk.handle(Rename(device=known.device, labelled=str(number), **w.stamp()))
    assert len({client.token for client in inside}) == 60
