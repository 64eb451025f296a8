"""More scopes, another role, a changed machine: what a paired device may become, on a real socket (group UP)."""

import pytest

from pairing.events import DeviceUpgraded, TokenIssued

UI = {"id": "openclaw-control-ui", "mode": "webchat"}
NATIVE = {"id": "openclaw-macos", "mode": "ui"}
PAGE = {"Origin": "http://localhost:5173"}
READ, WRITE, ADMIN = ("operator.read",), ("operator.write",), ("operator.admin",)


async def test_on_the_own_host_more_scopes_are_granted_at_once_and_recorded_as_silent(world):
    """UP-01 and V9-05 by difference 2: accepted; record, token and session agree, and the log says that nobody was asked (N7)."""
    w = await world()
    device, admin = w.device(), await w.admin()
    token = (await w.inside(device, scopes=READ)).token
    wider = await w.inside(device, scopes=WRITE)
    assert wider.token == token
    assert (await wider.call("status")).ok
    entry = await admin.entry(device)
    assert entry["scopes"] == ["operator.read", "operator.write"]
    assert entry["tokens"][0]["scopes"] == ["operator.read", "operator.write"]
    mine = [row for row in await w.records("request.approved") if row.stream.endswith(device.device)]
    assert [b'"means":"silent"' in row.body for row in mine] == [True, True]


async def test_from_elsewhere_more_scopes_wait_for_a_person(world):
    """UP-01, A12: scope-upgrade, with what is asked beside what is approved; meanwhile the earlier grant stays as it was."""
    w = await world()
    device, admin = w.device(), await w.admin()
    token = (await w.inside(device, scopes=READ)).token
    refused = await w.outside(device, scopes=WRITE, remote=True)
    text = "pairing required: device is asking for more scopes than currently approved"
    assert (refused.error["code"], refused.message) == ("NOT_PAIRED", text)
    assert refused.details == {
        "code": "PAIRING_REQUIRED",
        "reason": "scope-upgrade",
        "requestId": refused.details["requestId"],
        "remediationHint": "Review the requested scopes, then approve the pending upgrade.",
        "deviceId": device.device,
        "requestedRole": "operator",
        "requestedScopes": ["operator.write"],
        "approvedRoles": ["operator"],
        "approvedScopes": ["operator.read"],
    }
    assert refused.reason == f"{text} (requestId: {refused.details['requestId']})"[:120]
    (pending,) = await admin.pending(device)
    assert (pending["isRepair"], pending["silent"]) == (True, False)
    again = await w.session(device, token, scopes=READ)
    assert again.token == token
    assert (await admin.entry(device))["scopes"] == ["operator.read"]


async def test_write_covers_read_for_the_record_too(world):
    """UP-03."""
    w = await world()
    device = w.device()
    await w.inside(device, scopes=WRITE)
    await w.inside(device, scopes=READ, remote=True)


async def test_who_asks_for_nothing_gets_nothing_and_keeps_its_token(world):
    """UP-05, A10: with an empty list and with none."""
    w = await world()
    device = w.device()
    token = (await w.inside(device, scopes=READ)).token
    for scopes in ((), None):
        client = await w.inside(device, scopes=scopes)
        assert client.token == token
        assert (await client.call("status")).message == "missing scope: operator.read"


async def test_another_role_than_operator_is_never_added_silently(world):
    """UP-07 and V9-29 by difference 2: an operator's device that connects as node waits, also on the own host."""
    w = await world()
    device, admin = w.device(), await w.admin()
    await w.inside(device, scopes=READ)
    refused = await w.outside(device, role="node")
    assert refused.message == "pairing required: device is asking for a higher role than currently approved"
    assert refused.details["reason"] == "role-upgrade"
    assert refused.details["remediationHint"] == "Review the requested role upgrade, then approve the pending request."
    assert refused.details["approvedRoles"] == ["operator"]
    assert (await admin.entry(device))["roles"] == ["operator"]
    assert (await admin.approve(refused.details["requestId"])).ok
    entry = await admin.entry(device)
    assert (entry["role"], entry["roles"]) == ("node", ["operator", "node"])
    assert [token["role"] for token in entry["tokens"]] == ["node", "operator"]
    await w.inside(device, role="node")


async def test_the_role_is_looked_at_before_the_scopes(world):
    """UP-09: a node's device that asks for an operator's scopes from afar is told of the role."""
    w = await world()
    device = w.device()
    await w.inside(device, role="node")
    refused = await w.outside(device, scopes=READ, remote=True)
    assert refused.details["reason"] == "role-upgrade"


async def test_a_device_whose_token_was_revoked_is_paired_anew_on_its_own_host(world):
    """UP-11, V7: accepted silently with a new token; the revoked one stays dead."""
    w = await world()
    device, admin = w.device(), await w.admin()
    old = (await w.inside(device, scopes=READ)).token
    assert (await admin.call("device.token.revoke", {"deviceId": device.device, "role": "operator"})).ok
    remote = await w.outside(device, scopes=READ, remote=True)
    assert remote.details["reason"] == "role-upgrade"
    assert (await admin.call("device.pair.reject", {"requestId": remote.details["requestId"]})).ok
    new = (await w.inside(device, scopes=READ)).token
    assert new != old
    dead = await w.by_token(device, old, scopes=READ)
    assert dead.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


async def test_a_platform_is_the_same_in_any_case_and_under_any_of_its_names(world):
    """UP-13; difference 7: ` LINUX ` is linux, and darwin is macos (N5)."""
    w = await world()
    tux, mac = w.device(), w.device()
    await w.inside(tux, client={"platform": "linux"})
    await w.inside(tux, client={"platform": " LINUX "}, remote=True)
    await w.inside(mac, client={"platform": "darwin"})
    await w.inside(mac, client={"platform": "macOS"}, remote=True)


async def test_a_family_that_was_known_and_is_missing_now_is_another_machine(world):
    """UP-15: metadata-upgrade, also on the own host."""
    w = await world()
    device, admin = w.device(), await w.admin()
    await w.inside(device, client={"deviceFamily": "Mac"})
    refused = await w.outside(device)
    assert refused.message == "pairing required: device identity changed and must be re-approved"
    assert refused.details["reason"] == "metadata-upgrade"
    assert refused.details["remediationHint"] == "Review the refreshed device details, then approve the pending request."
    (pending,) = await admin.pending(device)
    assert "deviceFamily" not in pending
    assert (await admin.entry(device))["deviceFamily"] == "Mac"


async def test_a_name_that_is_not_sent_any_more_is_forgotten(world):
    """UP-17."""
    w = await world()
    device, admin = w.device(), await w.admin()
    await w.inside(device, client={"displayName": "One"})
    assert (await admin.entry(device))["displayName"] == "One"
    await w.inside(device)
    assert "displayName" not in await admin.entry(device)


async def test_a_native_app_that_changed_gets_on_its_own_host_what_is_recorded_and_no_more(world):
    """UP-19 by difference 2: what is silent is granted at once, in one step and on the record as it stands; nothing is stale."""
    w = await world()
    device, admin = w.device(), await w.admin()
    await w.inside(device, scopes=READ, client=NATIVE | {"platform": "linux"})
    client = await w.inside(device, scopes=ADMIN, client=NATIVE | {"platform": "macos"})
    assert (await client.call("no.such")).message == "unknown method: no.such"
    entry = await admin.entry(device)
    assert (entry["platform"], entry["scopes"]) == ("macos", ["operator.read", "operator.admin"])


async def test_what_needs_a_person_merges_nothing_before_that_person_spoke(world):
    """UP-19, UP-23: the defect of old cannot come back; refused once is refused again, and the record has not moved."""
    w = await world({"gateway.pairing.localCeiling": ["operator.read"]})
    app, node = w.device(), w.device()
    await w.inside(app, scopes=READ, client=NATIVE | {"platform": "linux"})
    await w.inside(node, role="node")
    for _ in range(2):
        refused = await w.outside(app, scopes=ADMIN, client=NATIVE | {"platform": "macos"})
        assert (refused.error["code"], refused.details["approvedScopes"]) == ("NOT_PAIRED", ["operator.read"])
        refused = await w.outside(node, scopes=ADMIN)
        assert (refused.error["code"], refused.details["approvedRoles"]) == ("NOT_PAIRED", ["node"])
        assert "approvedScopes" not in refused.details
    (row,) = (await w.opened.service.views.paired(device=app.device)).rows
    assert (row.platform, row.scopes) == ("linux", READ)


async def test_an_approved_upgrade_adds_to_the_token_and_takes_nothing_away(world):
    """UP-21 and V9-22 by difference 5: the record is the union in order, the token holds both, and its value stays."""
    w = await world()
    device, admin = w.device(), await w.admin()
    first = await w.grant(admin, device, scopes=("operator.pairing",))
    second = await w.grant(admin, device, scopes=READ)
    assert second.token == first.token
    entry = await admin.entry(device)
    assert entry["scopes"] == ["operator.pairing", "operator.read"]
    assert entry["tokens"][0]["scopes"] == ["operator.pairing", "operator.read"]
    assert entry["approvedVia"] == "owner"
    await w.session(device, first.token, scopes=("operator.pairing", "operator.read"))


async def test_a_node_on_the_own_host_becomes_an_operator_at_once(world):
    """UP-23 by difference 2: role and scopes are judged on one fresh record, in one step."""
    w = await world()
    device, admin = w.device(), await w.admin()
    await w.inside(device, role="node")
    client = await w.inside(device, scopes=READ)
    assert (await client.call("status")).ok
    entry = await admin.entry(device)
    assert (entry["roles"], entry["scopes"]) == (["node", "operator"], ["operator.read"])
    assert await admin.pending(device) == []


@pytest.mark.parametrize("remote", [True, False])
@pytest.mark.parametrize(("paired", "smuggled"), [("operator", "node"), ("node", "operator")])
async def test_a_token_does_not_bring_its_role_along(world, paired, smuggled, remote):
    """UP-25, A5, A16: a token smuggled into another role's record is no role, here or elsewhere; what is missing is the role."""
    w = await world()
    device = w.device()
    await w.inside(device, role=paired)
    key = w.opened.service.keyring.current
    await w.smuggle(device, TokenIssued(at=w.clock(), role=smuggled, scopes=(), issue="smuggled", key=key.id, under=None))
    refused = await w.by_token(device, key.token(device.device, smuggled, "smuggled"), role=smuggled, remote=remote)
    assert (refused.error["code"], refused.details["reason"]) == ("NOT_PAIRED", "role-upgrade")


async def test_a_page_gets_no_upgrade_without_a_person(world):
    """UP-27: a Control UI on the own host, paired to read, asks for admin: refused, and its token does not gain it."""
    w = await world()
    device, admin = w.device(), await w.admin()
    token = (await w.inside(device, scopes=READ, client=UI, headers=PAGE)).token
    refused = await w.outside(device, scopes=ADMIN, client=UI, headers=PAGE)
    assert refused.details["reason"] == "scope-upgrade"
    (pending,) = await admin.pending(device)
    assert pending["silent"] is False
    assert (await admin.entry(device))["tokens"][0]["scopes"] == ["operator.read"]
    narrow = await w.by_token(device, token, scopes=ADMIN, client=UI, headers=PAGE)
    assert narrow.details["code"] == "AUTH_SCOPE_MISMATCH"


@pytest.mark.parametrize("scopes", [READ, ()])
async def test_a_record_with_scopes_that_fit_no_role_lets_nobody_in(world, scopes):
    """A18, A13: a record whose role is node and whose scopes are an operator's refuses rather than falls back."""
    w = await world()
    device = w.device()
    await w.inside(device, scopes=READ)
    await w.smuggle(
        device,
        DeviceUpgraded(
            at=w.clock(),
            request="r",
            means="owner",
            role="node",
            roles=("node",),
            scopes=READ,
            platform="linux",
            family=None,
            client_id="test",
            client_mode="test",
            named="",
        ),
    )
    refused = await w.outside(device, scopes=scopes, remote=True)
    assert refused.details["reason"] == "role-upgrade"


async def test_probing_for_a_paired_device_creates_nothing(world):
    """A20: a connection that is satisfied with what it has leaves no request behind."""
    w = await world()
    device = w.device()
    await w.inside(device, scopes=READ)
    before = len(await w.records())
    for _ in range(3):
        await w.inside(device, scopes=READ)
    assert len(await w.records()) == before
