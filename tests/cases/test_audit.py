"""The audit through a running gateway: what was done, by whom, from where, why, and what it changed."""

import anyio

from pairing.commands import Remove

ADMIN, PAIRING, READ = ("operator.admin",), ("operator.pairing",), ("operator.read",)
WRITE = ("operator.write",)
VIA = {"X-Forwarded-For": "203.0.113.77"}
PROXIED = {"gateway.trustedProxies": ["127.0.0.1"]}


async def audit(client, **params):
    answer = await client.call("audit.list", params)
    assert answer.ok, answer.error
    return answer.payload


async def follow(client, **params):
    answer = await client.call("audit.follow", params)
    assert answer.ok, answer.error
    return answer.payload


def kinds(page):
    return [event["kind"] for event in page["events"]]


async def story(w):
    """A phone is let in by a laptop, is upgraded, rotated and removed; another device only asks."""
    admin = await w.admin()
    laptop = w.device()
    owner = await w.grant(admin, laptop, scopes=ADMIN, client={"displayName": "Laptop"})
    phone = w.device()
    request = await w.ask(phone, scopes=READ, client={"displayName": "Phone"}, headers=VIA, remote=False)
    assert (await owner.call("device.pair.approve", {"requestId": request, "reason": "new phone", "ticket": "OPS-7"})).ok
    session = await w.inside(phone, scopes=READ, client={"displayName": "Phone"}, headers=VIA)
    await session.close()
    wider = await w.ask(phone, scopes=WRITE, client={"displayName": "Phone"}, headers=VIA, remote=False)
    assert (await admin.approve(wider)).ok
    assert (await admin.call("device.token.rotate", {"deviceId": phone.device, "role": "operator"})).ok
    assert (await owner.call("device.pair.remove", {"deviceId": phone.device})).ok
    await w.ask(w.device(), scopes=READ)
    return admin, owner, laptop, phone


async def test_each_line_answers_who_whom_why_and_what_changed(world):
    """L2: actor, authority, address, target, reason, ticket; before, after; gained and lost."""
    w = await world(PROXIED)
    admin, _owner, laptop, phone = await story(w)
    page = await audit(admin, device=phone.device, limit=100)
    assert page["position"] == (await w.opened.log.head()).position
    assert kinds(page)[-4:] == ["token.issued", "device.paired", "request.approved", "request.opened"]
    found = {event["kind"]: event for event in page["events"]}
    approved = found["request.approved"]
    assert approved["says"].startswith('"Phone" (')
    assert '"Laptop" (' in approved["says"]
    assert approved["by"] == {"kind": "shared-secret", "id": laptop.device}
    assert (approved["reason"], approved["ticket"]) == ("new phone", "OPS-7")
    assert "operator.admin" in approved["authority"]
    (change,) = approved["changes"]
    assert (change["what"], change["before"]["outcome"], change["after"]["outcome"]) == ("request", "pending", "approved")
    opened = next(event for event in reversed(page["events"]) if event["kind"] == "request.opened")
    assert opened["personal"]["address"] == "203.0.113.77"
    assert "gained" not in opened
    paired = next(event for event in page["events"] if event["kind"] == "device.paired")
    assert paired["gained"] == {"roles": ["operator"], "scopes": ["operator.read"]}
    assert "before" not in paired["changes"][0]
    upgraded = next(event for event in page["events"] if event["kind"] == "device.upgraded")
    assert upgraded["gained"] == {"scopes": ["operator.write"]}
    assert upgraded["changes"][0]["before"]["scopes"] == ["operator.read"]
    removed = next(event for event in page["events"] if event["kind"] == "device.removed")
    assert removed["lost"]["roles"] == ["operator"]
    assert set(removed["lost"]["scopes"]) == {"operator.read", "operator.write"}
    assert {change["what"] for change in removed["changes"]} == {"access", "token"}


FILTERS = (
    ({"kind": ["token.rotated"]}, lambda e: e["kind"] == "token.rotated"),
    ({"kind": ["token.*", "device.removed"]}, lambda e: e["kind"].startswith("token.") or e["kind"] == "device.removed"),
    ({"actor": "shared-secret"}, lambda e: e["by"]["kind"] == "shared-secret"),
    ({"actor": "Laptop-label"}, lambda e: e["by"].get("id") == "LAPTOP"),
    ({"address": "203.0.113.77"}, lambda e: e.get("personal", {}).get("address") == "203.0.113.77"),
    ({"reason": "ops-7"}, lambda e: e.get("ticket") == "OPS-7"),
    ({"reason": "New phone "}, lambda e: e.get("reason") == "new phone"),
    ({"reason": "scope-upgrade"}, lambda e: e["event"].get("need") == "scope-upgrade"),
    ({"reason": "owner", "kind": ["device.*"]}, lambda e: e["event"].get("means") == "owner" and e["kind"][0] == "d"),
    ({"device": "PHONE", "actor": "LAPTOP"}, lambda e: e["deviceId"] == "PHONE" and e["by"].get("id") == "LAPTOP"),
    ({"from": 5, "to": 9}, lambda e: 5 < e["position"] <= 9),
    ({"kind": ["no.such"]}, lambda e: False),
    ({"reason": "nobody said so"}, lambda e: False),
)


async def test_every_filter_finds_exactly_what_fits(world):
    """L11: a list with a filter is the list without it, filtered; following with it from the beginning says the same."""
    w = await world(PROXIED)
    admin, _, laptop, phone = await story(w)
    assert (await admin.call("device.pair.rename", {"deviceId": laptop.device, "label": "Laptop-label"})).ok
    swap = {"LAPTOP": laptop.device, "PHONE": phone.device}
    back = {id: name for name, id in swap.items()}

    def named(event):
        by = event.get("by", {})
        return {**event, "deviceId": back.get(event.get("deviceId")), "by": {**by, "id": back.get(by.get("id"))}}

    every = (await audit(admin, limit=500))["events"]
    for given, fits in FILTERS:
        sought = {key: swap.get(value, value) if isinstance(value, str) else value for key, value in given.items()}
        expected = [event for event in every if fits(named(event))]
        assert bool(expected) is not any("no" in str(value)[:4] for value in given.values()), given
        assert (await audit(admin, **sought))["events"] == expected, given
        if not {"from", "to"} & set(sought):
            assert (await follow(admin, **{"from": 0}, **sought, limit=500))["events"] == expected[::-1], given


async def test_pages_of_any_size_are_the_whole_trail(world):
    """L11: page after page, with and without refused contacts, nothing is missing, repeated or out of order."""
    w = await world()
    admin, _, _, phone = await story(w)
    for _ in range(3):
        await w.outside(phone, auth={"token": "x", "deviceToken": "x"}, remote=True)
        await w.ask(phone, scopes=READ)
    whole = await audit(admin, limit=500, refusals=True)
    assert whole["refused"]
    assert "next" not in whole
    for size in (1, 2, 7):
        events, refused, cursor = [], [], {}
        for _ in range(500):
            page = await audit(admin, limit=size, refusals=True, **cursor)
            assert len(page["events"]) + len(page["refused"]) <= size
            events += page["events"]
            refused += page["refused"]
            if "next" not in page:
                break
            cursor = {"cursor": page["next"]}
        assert events == whole["events"]
        assert refused == whole["refused"]


async def test_times_bound_the_trail(world):
    """D10: from a time on, and before one; a time before the log's beginning is the beginning."""
    w = await world()
    admin, *_ = await story(w)
    every = (await audit(admin, limit=500))["events"]
    middle = every[len(every) // 2]["recordedAtMs"]
    late = await audit(admin, sinceMs=middle, limit=500)
    early = await audit(admin, untilMs=middle, limit=500)
    assert late["events"] + early["events"] == every
    assert all(event["recordedAtMs"] >= middle for event in late["events"])
    assert (await audit(admin, sinceMs=1, limit=500))["events"] == every
    assert (await audit(admin, untilMs=1))["events"] == []


async def test_a_command_is_found_by_its_id(world):
    """L2: all events of one command share its id, and no others."""
    w = await world()
    admin, _, _, phone = await story(w)
    approved = (await audit(admin, kind=["request.approved"], device=phone.device))["events"][0]
    page = await audit(admin, commandId=approved["commandId"])
    assert kinds(page)[-2:] == ["device.upgraded", "request.approved"]
    assert (await audit(admin, commandId="0199c6a0-0000-7000-8000-00000000dead"))["events"] == []
    refused = await admin.call("audit.list", {"commandId": "not an id"})
    assert refused.error["details"]["code"] == "INVALID_PARAMS"


async def test_following_goes_on_where_it_stopped(world):
    """D6: what another process writes is heard, once, in order, from the position where the follower was."""
    w = await world()
    admin, _owner, laptop, _phone = await story(w)
    first = await follow(admin, **{"from": 0}, limit=3)
    rest = await follow(admin, **{"from": first["position"], "hash": first["hash"]}, limit=500)
    positions = [event["position"] for event in first["events"] + rest["events"]]
    assert positions == list(range(1, rest["position"] + 1))
    heard = []

    async def wait():
        heard.append(await follow(admin, **{"from": rest["position"], "hash": rest["hash"]}, waitMs=10_000))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(0.1)
        await w.behind(Remove(device=laptop.device, **w.stamp()))
    assert kinds(heard[0]) == ["device.removed"]
    assert heard[0]["events"][0]["lost"]["roles"] == ["operator"]


async def test_a_bound_session_reads_of_its_own_device_alone(world):
    """A8, N14: neither other devices, nor from where others acted, nor who was turned away."""
    w = await world(PROXIED)
    admin = await w.admin()
    device, other = w.device(), w.device()
    first = await w.grant(admin, device, scopes=PAIRING, headers=VIA, remote=False)
    await w.grant(admin, other, scopes=READ)
    bound = await w.session(device, first.token, scopes=PAIRING, headers=VIA, remote=False)
    page = await audit(bound, limit=500, refusals=True)
    assert {event["deviceId"] for event in page["events"]} == {device.device}
    assert all("personal" not in event for event in page["events"] if event["kind"] == "request.approved")
    assert page["refused"] == []
    refused = await bound.call("audit.list", {"device": other.device})
    assert refused.message == "unknown deviceId"
    followed = await follow(bound, **{"from": 0}, limit=500)
    assert {event["deviceId"] for event in followed["events"]} == {device.device}


async def test_the_trail_needs_pairing_rights(world):
    """N14: a reader's session is turned away."""
    w = await world()
    admin = await w.admin()
    reader = await w.grant(admin, w.device(), scopes=READ)
    for method in ("audit.list", "audit.follow"):
        assert (await reader.call(method, {})).message == "missing scope: operator.pairing"
