"""Tokens that end by themselves, on a live gateway: told beforehand, refused for what they are, and never on a guess."""

from pairing.gateway import aging

DAY = 86_400_000
READ = ("operator.read",)
EXPIRED = (4001, "device token expired")
AGING = {"gateway.tokens.operator.lifetime": "30d", "gateway.tokens.node.idle": "90d"}


async def paired(w, admin, **more):
    device = w.device()
    await w.grant(admin, device, **({"scopes": READ} | more))
    return device, (await w.inside(device, remote=True, **({"scopes": READ} | more))).token


async def node(w, admin):
    return await paired(w, admin, role="node", scopes=())


async def kinds(w, *wanted):
    return [row.kind for row in await w.records() if row.kind in wanted]


async def walk(w):
    for _ in range(4):
        w.gateway.aging._rested = 0
        await w.gateway.aging.look()


async def away(w):
    """Wait until nobody is connected."""
    for client in list(w.gateway.registry._all.values()):
        client.wire.end(1000, "")
    w.gateway.registry._all.clear()
    w.gateway.registry._by_device.clear()


async def test_without_a_lifetime_nothing_is_said_and_nothing_ends(world):
    """Off by default: no key in hello or lists, no event however old a token gets."""
    w = await world()
    admin = await w.admin()
    device, token = await paired(w, admin)
    (entry,) = (await admin.entry(device))["tokens"]
    assert "expiresAtMs" not in entry
    w.clock.ahead += 1000 * DAY
    await w.gateway.aging.look()
    again = await w.by_token(device, token, scopes=READ)
    assert "expiresAtMs" not in again.hello["auth"]
    assert await kinds(w, "token.due", "token.expired") == []


async def test_an_end_is_told_and_kept(world):
    """R12: hello and lists say when; at that time the token is refused, whether or not the clock has passed."""
    w = await world(AGING)
    admin = await w.admin()
    device, token = await paired(w, admin)
    (entry,) = (await admin.entry(device))["tokens"]
    end = entry["expiresAtMs"]
    assert (await w.by_token(device, token, scopes=READ)).hello["auth"]["expiresAtMs"] == end
    w.clock.ahead += end - w.clock()
    refused = await w.by_token(device, token, scopes=READ, remote=True)
    assert refused.message.startswith("unauthorized: device token expired")
    assert (refused.details["code"], refused.details["authReason"]) == ("AUTH_DEVICE_TOKEN_MISMATCH", "device_token_expired")
    assert await kinds(w, "token.expired") == []


async def test_a_session_ends_with_its_token_and_a_new_approval_brings_a_fresh_one(world):
    """V2, L3, T2: the clock records the end once and closes what lived by it; asking again and approval give the next."""
    w = await world(AGING)
    admin = await w.admin()
    device, token = await paired(w, admin)
    live = await w.session(device, token, scopes=READ)
    w.clock.ahead += 30 * DAY
    await w.gateway.aging.look()
    assert await live.closed() == EXPIRED
    await w.gateway.aging.look()
    mine = [row for row in await w.records("token.expired") if row.stream.endswith(device.device)]
    assert len(mine) == 1
    admin = await w.admin()
    (entry,) = (await admin.entry(device))["tokens"]
    assert entry["expiredAtMs"]
    request = await w.ask(device, scopes=READ)
    assert (await admin.approve(request)).ok
    fresh = await w.inside(device, remote=True, scopes=READ)
    assert fresh.token != token
    assert fresh.hello["auth"]["expiresAtMs"] > w.clock()


async def test_a_warning_goes_to_operators_and_to_the_device_itself(world):
    """Seven days and one day before: once each, and not again after a restart of the clock's hand."""
    w = await world(AGING)
    admin = await w.admin(auth={"token": "example-shared-token"})
    device, token = await paired(w, admin)
    own = await w.session(device, token, scopes=READ)
    await w.gateway.aging.look()
    w.clock.ahead += 23 * DAY + 60_000
    await w.gateway.aging.look()
    told = (await own.event("device.token.due"))["payload"]
    assert (told["deviceId"], told["role"]) == (device.device, "operator")
    fresh = aging.Aging(w.gateway.service, w.gateway.registry, w.gateway.house.activity, (7 * DAY, DAY))
    await fresh.look()
    await fresh.look()
    w.clock.ahead += 6 * DAY
    await fresh.look()
    mine = [row for row in await w.records("token.due") if row.stream.endswith(device.device)]
    assert len(mine) == 2


async def test_due_lists_what_expires_when(world):
    """The next first, within the time asked for; idle ends beside lifetimes."""
    w = await world(AGING)
    admin = await w.admin()
    phone, _ = await paired(w, admin)
    host, _ = await node(w, admin)
    await away(w)
    admin = await w.admin()
    assert (await admin.call("device.due", {})).payload["due"] == []
    found = (await admin.call("device.due", {"withinMs": 100 * DAY})).payload["due"]
    mine = [(entry["deviceId"], entry["how"]) for entry in found if entry["deviceId"] in {phone.device, host.device}]
    assert mine == [(phone.device, "lifetime"), (host.device, "idle")]


async def test_a_token_that_nobody_uses_expires(world):
    """T13: ninety days after its last use, and not after its issue."""
    w = await world(AGING)
    admin = await w.admin()
    host, token = await node(w, admin)
    w.clock.ahead += 60 * DAY
    assert (await w.by_token(host, token, role="node")).hello
    await away(w)
    w.clock.ahead += 89 * DAY
    await walk(w)
    assert [row for row in await w.records("token.expired") if row.stream.endswith(host.device)] == []
    w.clock.ahead += 2 * DAY
    await walk(w)
    (expired,) = [row for row in await w.records("token.expired") if row.stream.endswith(host.device)]
    assert b'"idle"' in expired.body
    assert (await w.by_token(host, token, role="node", remote=True)).details["authReason"] == "device_token_expired"


async def test_a_connected_device_is_in_use(world):
    """T13: a session that stays for a year is use."""
    w = await world(AGING)
    admin = await w.admin()
    host, token = await node(w, admin)
    await w.session(host, token, role="node")
    w.clock.ahead += 400 * DAY
    await walk(w)
    assert [row for row in await w.records("token.expired") if row.stream.endswith(host.device)] == []
