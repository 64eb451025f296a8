"""Reviewing: list, approve, reject, remove, rename on a real socket (group RP)."""

import anyio
import pytest

PAIRING, READ, WRITE, ADMIN = ("operator.pairing",), ("operator.read",), ("operator.write",), ("operator.admin",)
REVIEWER = ("operator.pairing", "operator.read")


async def reviewer(w, admin, scopes=PAIRING):
    """Return a remote session by the shared token that holds just these scopes."""
    return await w.grant(admin, w.device(), scopes=scopes)


async def bound(w, scopes=PAIRING, role="operator"):
    """Return a device and its remote session by device token."""
    device = w.device()
    token = (await w.inside(device, scopes=scopes, role=role)).token
    return device, await w.session(device, token, scopes=scopes, role=role)


def refusal(answer):
    return answer.error["code"], answer.message


async def test_a_list_has_two_keys(world):
    """RP-01: with empty params and with none."""
    w = await world()
    admin = await w.admin()
    for params in ({}, ...):
        answer = await admin.call("device.pair.list", params)
        assert set(answer.payload) == {"pending", "paired"}
    assert refusal(await admin.call("device.pair.list", {"x": 1}))[1].startswith("invalid device.pair.list params: ")


async def test_a_paired_entry_has_everything_but_the_token(world):
    """RP-03, V9-11, T4: optional keys where known, tokens without their values, no second list of scopes."""
    w = await world()
    device, admin = w.device(), await w.admin()
    token = (await w.inside(device, scopes=READ)).token
    again = await w.session(device, token, scopes=READ)
    entry = await admin.entry(device)
    assert set(entry) == {
        "deviceId",
        "publicKey",
        "platform",
        "clientId",
        "clientMode",
        "role",
        "roles",
        "scopes",
        "createdAtMs",
        "approvedAtMs",
        "approvedVia",
        "lastSeenAtMs",
        "connected",
        "tokens",
    }
    (shown,) = entry["tokens"]
    assert set(shown) == {"role", "scopes", "createdAtMs", "lastUsedAtMs"}
    assert (await admin.call("device.token.rotate", {"deviceId": device.device, "role": "operator"})).ok
    assert await again.closed() == (4001, "device removed")
    (shown,) = (await admin.entry(device))["tokens"]
    assert set(shown) >= {"rotatedAtMs"}
    assert (await admin.call("device.token.revoke", {"deviceId": device.device, "role": "operator"})).ok
    (shown,) = (await admin.entry(device))["tokens"]
    assert set(shown) >= {"revokedAtMs"}
    assert token not in str(await admin.call("device.list", {}))


async def test_a_bound_session_sees_its_own_device_and_nothing_else(world):
    """RP-05, A8: by its device token without admin; in our own list too."""
    w = await world()
    await w.ask(w.device(), scopes=READ)
    await w.inside(w.device(), scopes=READ)
    device, mine = await bound(w)
    request = await w.ask(device, scopes=ADMIN)
    for method in ("device.pair.list", "device.list"):
        seen = (await mine.call(method, {})).payload
        assert [entry["requestId"] for entry in seen["pending"]] == [request]
        assert [entry["deviceId"] for entry in seen["paired"]] == [device.device]
    other = await mine.call("device.list", {"device": (await w.admin()).hello["server"]["connId"]})
    assert other.message == "unknown deviceId"


async def test_a_bound_session_with_admin_sees_everything(world):
    """RP-07."""
    w = await world()
    await w.ask(w.device(), scopes=READ)
    _, mine = await bound(w, ADMIN)
    await w.inside(w.device(), scopes=READ)
    assert len(await mine.pending()) == 1
    assert len(await mine.paired()) == 2


async def test_an_approved_device_comes_back_for_its_token_and_then_needs_nothing_else(world):
    """RP-11."""
    w = await world()
    admin, device = await w.admin(), w.device()
    client = await w.grant(admin, device, scopes=READ)
    await w.session(device, client.token, scopes=READ)


@pytest.mark.parametrize("params", [{}, {"requestId": ""}, {"requestId": 1}, {"requestId": "x", "y": 1}, ...])
async def test_params_that_do_not_fit_are_named(world, params):
    """RP-13."""
    w = await world()
    admin = await w.admin()
    for method in ("device.pair.approve", "device.pair.reject"):
        code, message = refusal(await admin.call(method, params))
        assert code == "INVALID_REQUEST"
        assert message.startswith(f"invalid {method} params: ")


@pytest.mark.parametrize(
    ("asked", "held", "missing"),
    [(READ, PAIRING, "operator.read"), (ADMIN, (*PAIRING, *READ, *WRITE), "operator.admin")],
)
async def test_nobody_grants_what_they_do_not_hold(world, asked, held, missing):
    """RP-15, RP-17, A1 for sessions from elsewhere: the first missing scope is named, and the request stays."""
    w = await world()
    admin, device = await w.admin(), w.device()
    weak = await reviewer(w, admin, held)
    request = await w.ask(device, scopes=asked)
    assert refusal(await weak.approve(request)) == ("INVALID_REQUEST", f"missing scope: {missing}")
    assert [entry["requestId"] for entry in await admin.pending()] == [request]
    assert (await admin.approve(request)).ok


async def test_the_own_host_with_the_right_secret_grants_up_to_its_ceiling(world):
    """RP-15, RP-17 by difference 3: a local session with pairing rights alone approves any operator's request, and no further."""
    w = await world()
    local = await w.inside(w.device(), scopes=PAIRING)
    for asked in (READ, ADMIN):
        assert (await local.approve(await w.ask(w.device(), scopes=asked))).ok
    low = await world({"gateway.pairing.localCeiling": ["operator.pairing", "operator.read"]}, home="low")
    local = await low.inside(low.device(), scopes=PAIRING)
    assert (await local.approve(await low.ask(low.device(), scopes=READ))).ok
    assert (await local.approve(await low.ask(low.device(), scopes=WRITE))).message == "missing scope: operator.write"


async def test_a_node_is_an_admins_to_approve(world):
    """RP-19 and V9-13 by difference 4: from elsewhere pairing rights are not enough; on the own host difference 3 lends them."""
    w = await world()
    admin = await w.admin()
    weak, local = await reviewer(w, admin), await w.inside(w.device(), scopes=PAIRING)
    one = await w.ask(w.device(), role="node")
    two = await w.ask(w.device(), role="node")
    assert refusal(await weak.approve(one)) == ("INVALID_REQUEST", "device pairing approval denied")
    assert (await admin.approve(one)).ok
    assert (await local.approve(two)).ok


async def test_a_bound_session_approves_nobody_else(world):
    """RP-21, A8: denied for a request of another device and for one that never was, in the same words."""
    w = await world()
    _, mine = await bound(w, REVIEWER)
    request = await w.ask(w.device(), scopes=READ)
    for id in (request, "never-was"):
        assert refusal(await mine.approve(id)) == ("INVALID_REQUEST", "device pairing approval denied")
    admin = await w.admin()
    assert refusal(await admin.approve("never-was")) == ("INVALID_REQUEST", "unknown requestId")
    assert len(await admin.pending()) == 1


async def test_a_device_does_not_lift_itself(world):
    """RP-23, A21: it may approve its own request only within what it holds."""
    w = await world()
    device, mine = await bound(w)
    request = await w.ask(device, scopes=ADMIN)
    assert refusal(await mine.approve(request)) == ("INVALID_REQUEST", "missing scope: operator.admin")
    admin = await w.admin()
    assert [entry["requestId"] for entry in await admin.pending(device)] == [request]
    assert (await admin.entry(device))["scopes"] == ["operator.pairing"]


async def test_an_admins_device_token_approves_others(world):
    """RP-25."""
    w = await world()
    device, mine = await bound(w, ADMIN)
    assert (await mine.approve(await w.ask(w.device(), scopes=WRITE))).ok
    meta = (await w.records("request.approved"))[-1].meta
    assert device.device.encode() in meta


async def test_merged_roles_are_approved_together(world):
    """RP-27, A13: two tokens, each with the scopes of its own role."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.ask(device, scopes=READ)
    request = await w.ask(device, role="node")
    answer = await admin.approve(request)
    assert answer.payload["device"] == await admin.entry(device)
    entry = answer.payload["device"]
    assert entry["roles"] == ["operator", "node"]
    assert [(token["role"], token["scopes"]) for token in entry["tokens"]] == [("node", []), ("operator", ["operator.read"])]


async def test_an_approval_leaves_live_sessions_as_they_are_and_tells_them(world):
    """RP-29 with difference 5: the session stays open with its old scopes, and hears that it may ask for more."""
    w = await world()
    admin, device = await w.admin(), w.device()
    token = (await w.inside(device, scopes=READ)).token
    live = await w.session(device, token, scopes=READ)
    request = await w.ask(device, scopes=PAIRING)
    assert (await admin.approve(request)).ok
    resolved = (await live.event("device.pair.resolved"))["payload"]
    assert (resolved["requestId"], resolved["decision"]) == (request, "approved")
    assert (await live.call("status")).ok
    assert (await live.call("device.pair.list")).message == "missing scope: operator.pairing"
    again = await w.session(device, token, scopes=PAIRING)
    assert (await again.call("device.pair.list")).ok


async def test_saying_no_needs_no_scopes(world):
    """RP-31: rejecting asks for pairing rights alone."""
    w = await world()
    admin, device = await w.admin(), w.device()
    weak = await reviewer(w, admin)
    request = await w.ask(device, scopes=ADMIN)
    answer = await weak.call("device.pair.reject", {"requestId": request})
    assert answer.payload == {"requestId": request, "deviceId": device.device}
    assert await admin.pending() == []
    refused = await w.ask(device, scopes=ADMIN)
    assert refused != request


async def test_a_bound_session_says_no_to_itself_alone(world):
    """RP-33."""
    w = await world()
    device, mine = await bound(w)
    own, other = await w.ask(device, scopes=ADMIN), await w.ask(w.device(), scopes=READ)
    for id in (other, "never-was"):
        answer = await mine.call("device.pair.reject", {"requestId": id})
        assert refusal(answer) == ("INVALID_REQUEST", "device pairing rejection denied")
    assert (await mine.call("device.pair.reject", {"requestId": own})).ok


async def test_removing_a_device_takes_its_request_along(world):
    """RP-41 with R5, R9: the open upgrade ends, is announced, and cannot bring the device back."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.inside(device, scopes=READ)
    request = await w.ask(device, scopes=ADMIN)
    answer = await admin.call("device.pair.remove", {"deviceId": device.device, "receipt": True})
    assert answer.payload["deviceId"] == device.device
    (row,) = await w.records("device.removed")
    assert answer.payload["recorded"] == {"position": row.position, "kind": "device.removed"}
    assert await admin.pending() == []
    assert (await admin.event("device.pair.resolved"))["payload"]["decision"] == "approved"
    assert (await admin.event("device.pair.resolved"))["payload"]["requestId"] == request
    stale = await admin.approve(request)
    assert (stale.message, stale.error["details"]["outcome"]) == ("unknown requestId", "withdrawn")
    gone = await admin.call("device.pair.remove", {"deviceId": device.device})
    assert refusal(gone) == ("INVALID_REQUEST", "unknown deviceId")


async def test_blanks_around_an_id_do_not_matter(world):
    """RP-43: the answer has the id as it is."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.inside(device, scopes=READ)
    answer = await admin.call("device.pair.remove", {"deviceId": f"  {device.device} "})
    assert answer.payload == {"deviceId": device.device}


async def test_removing_ends_access_and_so_needs_it(world):
    """RP-45 by difference 4, A6: pairing rights do not remove an admin's device from elsewhere; on the own host they do."""
    w = await world()
    admin, target = await w.admin(), w.device()
    weak, local = await reviewer(w, admin), await w.inside(w.device(), scopes=PAIRING)
    await w.inside(target, scopes=ADMIN)
    denied = await weak.call("device.pair.remove", {"deviceId": target.device})
    assert refusal(denied) == ("INVALID_REQUEST", "device pairing removal denied")
    assert (await local.call("device.pair.remove", {"deviceId": target.device})).ok


@pytest.mark.parametrize("both", [True, False])
async def test_a_bound_session_removes_itself_unless_it_is_more_than_an_operator(world, both):
    """V9-27, V9-23, A7: its own device only, and not where it has another role besides; its socket closes after the answer."""
    w = await world()
    admin, device = await w.admin(), w.device()
    token = (await w.inside(device, scopes=PAIRING)).token
    if both:
        assert (await admin.approve(await w.ask(device, role="node"))).ok
    mine = await w.session(device, token, scopes=PAIRING)
    other = await mine.call("device.pair.remove", {"deviceId": (await admin.paired())[-1]["deviceId"]})
    assert refusal(other) == ("INVALID_REQUEST", "device pairing removal denied")
    answer = await mine.call("device.pair.remove", {"deviceId": device.device})
    if both:
        assert refusal(answer) == ("INVALID_REQUEST", "device pairing removal denied")
        return
    assert answer.ok
    assert await mine.closed() == (4001, "device removed")
    dead = await w.by_token(device, token, scopes=PAIRING)
    assert dead.details["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


async def test_scopes_of_a_node_are_held_by_its_token_alone(world):
    """RP-47 with differences 4 and 1: an admin approves node.exec; the token covers it; a wish too wide is called just that."""
    w = await world()
    admin, device = await w.admin(), w.device()
    weak = await reviewer(w, admin)
    request = await w.ask(device, role="node", scopes=("node.exec",))
    assert refusal(await weak.approve(request)) == ("INVALID_REQUEST", "device pairing approval denied")
    answer = await admin.approve(request)
    assert answer.payload["device"]["tokens"][0]["scopes"] == ["node.exec"]
    token = (await w.inside(device, role="node", remote=True)).token
    await w.session(device, token, role="node", scopes=("node.exec",))
    refused = await w.by_token(device, token, role="node", scopes=("node.other",), remote=True)
    assert refused.details["code"] == "AUTH_SCOPE_MISMATCH"


async def test_scopes_outside_the_requested_roles_cannot_be_approved(world):
    """A13, protocol §6.4: the request names a scope that none of its roles can hold."""
    w = await world()
    admin = await w.admin()
    request = await w.ask(w.device(), role="node", scopes=READ)
    answer = await admin.approve(request)
    assert refusal(answer) == ("INVALID_REQUEST", "invalid scope for requested roles: operator.read")


async def test_a_repair_that_asks_for_nothing_gets_back_what_was(world):
    """RP-49, A9, A10: the new token has the old one's scopes, and only who may grant those may approve it."""
    w = await world()
    admin, device = await w.admin(), w.device()
    weak = await reviewer(w, admin)
    await w.inside(device, scopes=ADMIN)
    assert (await admin.call("device.token.revoke", {"deviceId": device.device, "role": "operator"})).ok
    refused = await w.outside(device, scopes=(), remote=True)
    assert refused.details["reason"] == "role-upgrade"
    request = refused.details["requestId"]
    assert (await weak.approve(request)).message == "missing scope: operator.admin"
    entry = (await admin.approve(request)).payload["device"]
    assert entry["tokens"][0]["scopes"] == ["operator.admin", "operator.read", "operator.write"]
    assert entry["scopes"] == ["operator.admin"]


async def test_the_second_of_two_equal_answers_learns_of_the_first(world):
    """R6, D11: both succeed, one event; the receipt says which, that the others changed nothing; the opposite answer fails."""
    w = await world()
    request = await w.ask(w.device(), scopes=READ)
    admins, answers = [await w.admin() for _ in range(4)], []

    async def one(admin):
        answers.append(await admin.call("device.pair.approve", {"requestId": request, "receipt": True}))

    async with anyio.create_task_group() as tasks:
        for admin in admins:
            tasks.start_soon(one, admin)
    row = (await w.records("request.approved"))[-1]
    receipts = [answer.payload["recorded"] for answer in answers]
    assert {(receipt["position"], receipt["kind"]) for receipt in receipts} == {(row.position, "request.approved")}
    assert sorted(receipt.get("changed", True) for receipt in receipts) == [False, False, False, True]
    late = await admins[0].call("device.pair.reject", {"requestId": request})
    assert late.message == "unknown requestId"
    details = late.error["details"]
    assert (details["outcome"], details["position"], details["atMs"]) == ("approved", row.position, row.recorded_at)
    assert details["by"]["kind"] == "shared-secret"


async def test_who_rejects_after_a_rejection_changes_nothing(world):
    """R6, D11 for saying no; an approval that comes after it learns who said so and when (difference 8)."""
    w = await world()
    admin = await w.admin()
    request = await w.ask(w.device(), scopes=READ)
    first = await admin.call("device.pair.reject", {"requestId": request, "receipt": True})
    again = await admin.call("device.pair.reject", {"requestId": request, "receipt": True})
    position = first.payload["recorded"]["position"]
    assert first.payload["recorded"] == {"position": position, "kind": "request.rejected"}
    assert again.payload["recorded"] == {"position": position, "kind": "request.rejected", "changed": False}
    late = await admin.approve(request)
    assert (late.message, late.error["details"]["outcome"]) == ("unknown requestId", "rejected")
    assert late.error["details"]["position"] == position


async def test_an_approval_covers_what_was_seen_and_nothing_later(world):
    """R2: the digest of what the reviewer saw; if the request has changed in its name alone, it must be looked at again."""
    w = await world()
    admin, device = await w.admin(), w.device()
    request = await w.ask(device, scopes=READ, client={"displayName": "One"})
    (shown,) = (await admin.call("device.list", {})).payload["pending"]
    await w.ask(device, scopes=READ, client={"displayName": "Two"})
    changed = await admin.call("device.pair.approve", {"requestId": request, "seen": shown["digest"]})
    assert refusal(changed) == ("INVALID_REQUEST", "request changed since it was shown")
    (shown,) = (await admin.call("device.list", {})).payload["pending"]
    assert (await admin.call("device.pair.approve", {"requestId": request, "seen": shown["digest"]})).ok


async def test_our_own_list_says_more_and_where_it_is_true(world):
    """`device.list`: why, until when, digest, position; one device by prefix or label; ambiguity lists candidates (L14)."""
    w = await world()
    admin, device, other = await w.admin(), w.device(), w.device()
    request = await w.ask(device, scopes=READ)
    await w.inside(other, scopes=READ)
    everything = (await admin.call("device.list", {})).payload
    assert everything["position"] == (await w.opened.log.head()).position
    (pending,) = everything["pending"]
    assert (pending["requestId"], pending["reason"]) == (request, "not-paired")
    assert (await w.records("request.opened"))[-2].position == pending["position"]
    one = (await admin.call("device.list", {"device": other.device[:12]})).payload
    assert [entry["deviceId"] for entry in one["paired"]] == [other.device]
    assert [closed["outcome"] for closed in one["closed"]] == ["approved"]
    assert (await admin.approve(request)).ok
    for name in (device, other):
        assert (await admin.call("device.pair.rename", {"deviceId": name.device, "label": "twin"})).ok
    ambiguous = await admin.call("device.list", {"device": "twin"})
    assert ambiguous.message == "ambiguous device: twin means 2 devices"
    found = {candidate["deviceId"] for candidate in ambiguous.error["details"]["candidates"]}
    assert found == {device.device, other.device}
    assert (await admin.call("device.list", {"device": "nobody"})).message == "unknown deviceId"


async def test_a_device_is_renamed_by_who_may_and_listeners_are_told(world):
    """`device.pair.rename` (V9-28, A7): trimmed, 1 to 64 characters, null takes it away; a bound session renames itself alone."""
    w = await world()
    admin, target = await w.admin(), w.device()
    device, mine = await bound(w)
    await w.inside(target, scopes=READ)
    answer = await admin.call("device.pair.rename", {"deviceId": target.device, "label": "  Kitchen "})
    assert answer.payload == {"deviceId": target.device, "label": "Kitchen"}
    assert (await admin.event("device.pair.changed"))["payload"] == {}
    assert (await admin.entry(target))["operatorLabel"] == "Kitchen"
    denied = await mine.call("device.pair.rename", {"deviceId": target.device, "label": "Mine"})
    assert refusal(denied) == ("INVALID_REQUEST", "device pairing rename denied")
    assert (await mine.call("device.pair.rename", {"deviceId": device.device, "label": "Mine"})).ok
    for label, said in (("   ", "label required"), ("x" * 65, "label required")):
        assert (await admin.call("device.pair.rename", {"deviceId": target.device, "label": label})).message == said
    unknown = await admin.call("device.pair.rename", {"deviceId": "nobody", "label": "x"})
    assert refusal(unknown) == ("INVALID_REQUEST", "unknown deviceId")
    assert (await admin.call("device.pair.rename", {"deviceId": target.device, "label": None})).ok
    assert "operatorLabel" not in await admin.entry(target)


async def test_every_answer_to_an_operator_can_bring_its_receipt(world):
    """`receipt: true`: the position and kind of the event that recorded the answer."""
    w = await world()
    admin, device = await w.admin(), w.device()
    request = await w.ask(device, scopes=READ)
    name = {"deviceId": device.device}
    calls = [
        ("device.pair.approve", {"requestId": request}, "request.approved"),
        ("device.pair.rename", name | {"label": "a"}, "device.renamed"),
        ("device.token.rotate", name | {"role": "operator"}, "token.rotated"),
        ("device.token.revoke", name | {"role": "operator"}, "token.revoked"),
        ("device.pair.remove", name, "device.removed"),
    ]
    for method, params, kind in calls:
        answer = await admin.call(method, params | {"receipt": True, "reason": "because", "ticket": "T-1"})
        (row,) = [r for r in await w.records(kind) if r.stream == f"device:{device.device}"]
        assert answer.payload["recorded"] == {"position": row.position, "kind": kind}
        assert b'"reason":"because"' in row.meta
