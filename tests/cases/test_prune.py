"""Clearing out by a plan: what it says is what goes, and nothing that has shown a sign of life since."""

DAY = 86_400_000
READ = ("operator.read",)


async def paired(w, admin, scopes=READ):
    device = w.device()
    await w.grant(admin, device, scopes=scopes)
    return device, (await w.inside(device, remote=True, scopes=scopes)).token


async def alone(w):
    """Let every session end, and come back as an admin."""
    for session in list(w.gateway.registry._all.values()):
        session.wire.end(1000, "")
        w.gateway.registry.discard(session)
    return await w.admin()


async def plan(admin, days):
    found = (await admin.call("device.prune.plan", {"idleMs": days * DAY})).payload
    return found, {line["deviceId"]: line for line in found["lines"]}


async def test_a_plan_names_who_was_not_there_and_changes_nothing(world):
    """A20: planning is looking; who was seen since, or is connected, is not named."""
    w = await world()
    admin = await w.admin()
    (old, _), (used, token), (live, badge) = [await paired(w, admin) for _ in range(3)]
    w.clock.ahead += 100 * DAY
    await w.by_token(used, token, scopes=READ)
    admin = await alone(w)
    await w.session(live, badge, scopes=READ)
    before = len(await w.records())
    found, lines = await plan(admin, 90)
    assert old.device in lines
    assert {used.device, live.device} & set(lines) == set()
    assert (found["idleMs"], found["position"]) == (90 * DAY, before)
    assert len(await w.records()) == before


async def test_lines_are_removed_unless_used_or_changed_since(world):
    """Each line for itself; the removals of one plan name the first as their cause."""
    w = await world()
    admin = await w.admin()
    devices = [await paired(w, admin) for _ in range(5)]
    (one, _), (two, _), (used, token), (renamed, _), (gone, _) = devices
    w.clock.ahead += 100 * DAY
    admin = await alone(w)
    _, lines = await plan(admin, 90)
    await (await w.by_token(used, token, scopes=READ)).close()
    assert (await admin.call("device.pair.rename", {"deviceId": renamed.device, "label": "kept"})).ok
    assert (await admin.call("device.pair.remove", {"deviceId": gone.device})).ok
    chosen = [lines[device.device] for device, _ in devices]
    result = (await admin.call("device.prune.apply", {"lines": chosen, "reason": "spring"})).payload
    assert [entry["deviceId"] for entry in result["removed"]] == [one.device, two.device]
    assert {entry["deviceId"]: entry["reason"] for entry in result["refused"]} == {
        used.device: "device-used",
        renamed.device: "device-changed",
        gone.device: "unknown-device",
    }
    first, second = (entry["position"] for entry in result["removed"])
    assert result["cause"] == first
    metas = {row.position: row.meta for row in await w.records("device.removed")}
    assert b'"cause"' not in metas[first]
    assert b'"cause":%d' % first in metas[second]
    assert b'"reason":"spring"' in metas[second]


async def test_a_plan_lends_no_authority(world):
    """A6: whoever applies a plan must be able to remove each of its devices."""
    w = await world()
    admin = await w.admin()
    target, _ = await paired(w, admin, ("operator.write",))
    helper, badge = await paired(w, admin, ("operator.pairing",))
    w.clock.ahead += 100 * DAY
    admin = await alone(w)
    _, lines = await plan(admin, 90)
    weak = await w.session(helper, badge, scopes=("operator.pairing",))
    result = (await weak.call("device.prune.apply", {"lines": [lines[target.device]]})).payload
    assert [entry["reason"] for entry in result["refused"]] == ["removal-denied"]
    assert "removed" not in result
    assert await admin.entry(target)
