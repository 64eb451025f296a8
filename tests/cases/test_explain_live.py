"""Every refusal of a real gateway, explained: by its reference, the explanation says no for the same reason."""

from collections.abc import Awaitable, Callable
from typing import Any

from tests.cases.conftest import Client, Refusal, World

Worlds = Callable[..., Awaitable[World]]


async def explained(world: World, admin: Client, refusal: Refusal, finding: str) -> dict[str, Any]:
    """Explain the latest refusal by its reference; it must be the one that was met, for the reason that was told."""
    (latest, *_) = await world.opened.activity.recent(limit=1)
    assert refusal.details["code"] == latest.code
    answer = await admin.call("history.explain", {"reference": latest.reference})
    assert answer.ok, answer.error
    found: dict[str, Any] = answer.payload
    assert (found["reason"], found["code"], found["finding"]) == (latest.reason, latest.code, finding)
    assert found["contact"]["reference"] == latest.reference
    judged = [(step["rule"], step["passed"], step["found"]) for step in found["steps"]]
    assert judged == [(step.rule, step.passed, step.found) for step in latest.trace]
    return found


async def test_the_gateway_and_the_explanation_agree_on_every_refusal(world: Worlds) -> None:
    """L8: one device through all its troubles; whatever is judged is judged again by its reference and comes out the same."""
    there = await world()
    admin = await there.admin()
    device = there.device()

    waiting = await there.outside(device, scopes=("operator.read",), remote=True)
    found = await explained(there, admin, waiting, "waiting")
    request = waiting.details["requestId"]
    assert found["next"]["command"] == ["pairing", "devices", "approve", request]
    assert (await admin.approve(request)).ok
    first = (await there.inside(device, scopes=("operator.read",), remote=True)).token

    async def by(token: str, **more: Any) -> Refusal:
        refused = await there.by_token(device, token, **({"remote": True, "scopes": ("operator.read",)} | more))
        assert isinstance(refused, Refusal)
        return refused

    await explained(there, admin, await by(first, scopes=("operator.write",)), "scope-shortfall")
    upgrade = await there.outside(device, scopes=("operator.write",), remote=True)
    await explained(there, admin, upgrade, "waiting")
    changed = await there.outside(device, scopes=("operator.read",), remote=True, client={"platform": "windows"})
    await explained(there, admin, changed, "waiting")
    await explained(there, admin, await by("A" * 43), "unrecognised")

    rotated = await admin.call("device.token.rotate", {"deviceId": device.device, "role": "operator", "receipt": True})
    found = await explained(there, admin, await by(first), "superseded")
    assert found["parted"]["position"] == rotated.payload["recorded"]["position"]
    told = await admin.call("history.explain", {"device": device.device, "token": first})
    assert told.payload["finding"] == "never-collected"

    second = (await there.inside(device, scopes=("operator.read",), remote=True)).token
    revoked = await admin.call("device.token.revoke", {"deviceId": device.device, "role": "operator", "receipt": True})
    found = await explained(there, admin, await by(second), "revoked")
    assert found["parted"]["position"] == revoked.payload["recorded"]["position"]
    assert found["next"]["command"][:3] == ["pairing", "devices", "rotate"]

    wrong = await there.outside(device, scopes=("operator.read",), remote=True, auth={"token": "a wrong secret"})
    await explained(there, admin, wrong, "wrong-secret")
    await admin.call("device.pair.remove", {"deviceId": device.device})
    await there.ask(device, scopes=("operator.read",))
    await explained(there, admin, await by(second), "revoked")


async def test_a_refusal_is_explained_as_it_was_then(world: Worlds) -> None:
    """What has happened since changes nothing about why; of now it may be another matter."""
    there = await world()
    admin = await there.admin()
    device = there.device()
    refusal = await there.outside(device, scopes=("operator.read",), remote=True)
    before = await explained(there, admin, refusal, "waiting")
    assert (await admin.approve(refusal.details["requestId"])).ok
    assert await explained(there, admin, refusal, "waiting") == before
    now = await admin.call("history.explain", {"device": device.device})
    assert now.payload["finding"] == "let-in"


async def test_who_was_turned_away_since_it_was_inside_is_said_so(world: Worlds) -> None:
    """L8: asked about the device alone, the answer leads to the refusal that somebody most likely asks about."""
    there = await world()
    admin, device = await there.admin(), there.device()
    first = (await there.grant(admin, device, scopes=("operator.read",))).token
    assert (await admin.call("device.token.rotate", {"deviceId": device.device, "role": "operator"})).ok
    there.clock.ahead += 5
    assert isinstance(await there.by_token(device, first, remote=True, scopes=("operator.read",)), Refusal)
    told = (await admin.call("history.explain", {"device": device.device})).payload
    assert (told["finding"], told["lastRefused"]["reason"]) == ("let-in", "device_token_mismatch")
    asked = (await admin.call("history.explain", {"reference": told["lastRefused"]["reference"]})).payload
    assert (asked["finding"], "lastRefused" in asked) == ("superseded", False)
    there.clock.ahead += 5
    await there.inside(device, remote=True, scopes=("operator.read",))
    await there.opened.activity.flush()
    assert "lastRefused" not in (await admin.call("history.explain", {"device": device.device})).payload
