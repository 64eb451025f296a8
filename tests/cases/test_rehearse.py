"""Rehearsing other settings on a live gateway: what it says beside what then happens, and that nothing happens meanwhile."""

import anyio
import pytest

from cli.compose import admitting
from pairing import rehearse_methods
from pairing.commands import Start
from pairing.settings import policy_digest

CEILING, CIDRS = "gateway.pairing.localCeiling", "gateway.nodes.pairing.autoApproveCidrs"
pytestmark = pytest.mark.anyio


async def rehearse(client, settings, **more):
    answer = await client.call("rehearse.run", {"settings": settings, **more})
    assert answer.ok, answer.error
    return answer.payload


def lines(found, device):
    return [line for line in found.get("lines", ()) if line["deviceId"] == device.device]


async def test_the_settings_in_force_make_no_difference(world):
    """L13: a past with every answer in it, under its own policy; and no event, to the log or to anybody."""
    w = await world()
    admin = await w.admin()
    phone, laptop, stranger = w.device(), w.device(), w.device()
    await w.grant(admin, phone, scopes=("operator.read",))
    await w.inside(laptop, scopes=("operator.read",))
    await w.inside(laptop, scopes=("operator.write",))
    request = await w.ask(stranger)
    await admin.call("device.pair.reject", {"requestId": request})
    await w.ask(w.device(), role="node")
    await admin.quiet()
    admin.events.clear()
    before = await w.records()
    found = await rehearse(admin, {})
    assert "lines" not in found
    assert "notChecked" not in found
    again = await rehearse(admin, {"gateway.pairing.maxRequestsPerDevice": 19, CIDRS: ["198.51.100.77"]})
    assert "lines" not in again
    assert (again["devices"], again["commands"]) == (5, 8)
    assert await w.records() == before
    assert await admin.quiet() == []


async def test_a_trusted_address_would_have_let_the_node_in_and_then_does(world, elsewhere):
    """A19: what was said comes true with the settings that it was said of."""
    w = await world()
    admin, node = await w.admin(), w.device()
    await w.ask(node, role="node", source=elsewhere["192.0.2.2"], remote=False)
    found = await rehearse(admin, {CIDRS: ["192.0.2.0/24"]})
    (line,) = lines(found, node)
    assert (line["what"], line["settings"], line["unsaid"]) == ("silent", [CIDRS], ["page"])
    assert found["counts"] == {"silent": 1}
    assert found["settings"] == [{"setting": CIDRS, "now": "[]", "other": '["192.0.2.0/24"]'}]
    trusting = await world({CIDRS: "192.0.2.0/24"}, home="other")
    await trusting.inside(node, role="node", source=elsewhere["192.0.2.2"])


async def test_a_ceiling_would_have_asked_a_person_who_was_not_asked(world):
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.inside(device, scopes=("operator.admin",))
    found = await rehearse(admin, {CEILING: ["operator.read"]})
    (line,) = lines(found, device)
    assert (line["what"], line["then"]) == ("asks", "let in without a person")
    assert found["counts"]["asks"] == 2
    assert CEILING in {one.get("setting") for one in found["notChecked"]}
    narrow = await world({CEILING: "operator.read"}, home="other")
    await narrow.outside(device, scopes=("operator.admin",))


async def test_another_secret_is_compared_by_its_tag_alone(world):
    """T6, L10: tokens that rest on the secret would be dead; whether it is another one is told by a tag."""
    w = await world()
    admin, silent, approved = await w.admin(), w.device(), w.device()
    await w.inside(silent, scopes=("operator.read",))
    await w.grant(admin, approved, scopes=("operator.read",))
    key = w.opened.service.keyring.current
    same, other = (key.tag("shared-secret", "token", secret) for secret in (w.rules.gateway.auth.token.reveal(), "another-one"))
    assert "lines" not in await rehearse(admin, {}, under=same)
    found = await rehearse(admin, {}, under=other)
    assert [line["what"] for line in lines(found, silent)] == ["token-dead"]
    assert lines(found, approved) == []
    assert {"setting": "gateway.auth"} in found["settings"]


async def test_who_would_be_one_too_many(world):
    """R10: counted as it was then."""
    w = await world()
    admin, devices = await w.admin(), [w.device() for _ in range(3)]
    for device in devices:
        await w.ask(device, via="198.51.100.9")
    found = await rehearse(admin, {"gateway.pairing.maxPending": 2})
    assert found["counts"] == {"capped": 1}
    assert [line["what"] for line in lines(found, devices[2])] == ["capped"]
    later = await rehearse(admin, {"gateway.pairing.maxPending": 2}, since=lines(found, devices[2])[0]["position"] - 1)
    assert later["counts"] == {"capped": 1}
    assert later["devices"] == 1


async def test_the_last_operator_would_have_stayed(world):
    """A22: only where no other device could approve then."""
    w = await world({"gateway.pairing.keepLastOperator": False})
    admin, first, second = await w.inside(None, client={"id": "cli", "mode": "cli"}, protocol=(4, 4),
                                          scopes=("operator.admin",)), w.device(), w.device()  # fmt: skip
    for device in (first, second):
        await w.inside(device, scopes=("operator.admin",))
    for device in (first, second):
        answer = await admin.call("device.pair.remove", {"deviceId": device.device})
        assert answer.ok, answer.error
    found = await rehearse(admin, {"gateway.pairing.keepLastOperator": True})
    assert lines(found, first) == []
    assert [line["what"] for line in lines(found, second)] == ["last-operator"]


async def test_a_device_that_nobody_uses_would_lose_its_token(world):
    """T13: as far as it is known that nobody uses it."""
    w = await world()
    device = w.device()
    session = await w.inside(device, scopes=("operator.read",))
    admin = await w.admin()
    w.clock.ahead = 3 * 3_600_000
    idle = {"gateway.tokens.operator.idle": "1h"}
    assert "lines" not in await rehearse(admin, idle)
    await session.close()
    with anyio.fail_after(5):
        while w.opened.service.sessions.connected(device.device):  # noqa: ASYNC110  nothing tells of it
            await anyio.sleep(0.01)
    found = await rehearse(admin, idle)
    assert [line["what"] for line in lines(found, device)] == ["token-dead"]


async def test_each_event_is_judged_beside_the_policy_that_it_names(world):
    """A policy that has changed since: what happened under the old one differs from the new one, and is said."""
    w = await world()
    rules, service = w.rules, w.opened.service
    texts = admitting(rules)

    async def begin(settings, digest):
        start = Start(**w.stamp(), instance=digest, version="1", listen="x", key="k", ruling=digest, secret=service.under,
                      settings=settings)  # fmt: skip
        await service.desk.handle_house(start)

    await begin(texts, policy_digest(rules))
    admin = await w.admin()
    await w.inside(device := w.device(), scopes=("operator.write",))
    assert "lines" not in await rehearse(admin, {})
    await begin({**texts, CEILING: '["operator.read"]'}, "next")
    (line,) = lines(await rehearse(admin, {}), device)
    assert (line["what"], line["settings"]) == ("asks", [CEILING])


async def test_what_cannot_be_checked_is_named(world):
    """L10: a rate limit, a proxy, a page; never passed over in silence."""
    w = await world()
    admin = await w.admin()
    settings = {
        "gateway.trustedProxies": ["192.0.2.1"],
        "gateway.controlUi.allowedOrigins": ["*"],
        "gateway.auth.rateLimit.maxAttempts": 3,
        "gateway.pairing.maxPending": 2_000,
        "gateway.tokens.operator.lifetime": "90d",
    }
    found = await rehearse(admin, settings)
    assert {one["setting"] for one in found["notChecked"]} == set(settings) - {"gateway.tokens.operator.lifetime"}
    assert found["fromNowOn"] == ["gateway.tokens.operator.lifetime"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gateway.port": 1}, "gateway.port is no setting that decides who gets in"),
        ({"gateway.pairing.requestTtlMs": "soon"}, "gateway.pairing.requestTtlMs must be an integer"),
        ({"gateway.auth.token": "s3cret-value"}, "gateway.auth.token is no setting"),
    ],
)
async def test_settings_that_are_none_are_refused_by_name(world, settings, said):
    w = await world()
    answer = await (await w.admin()).call("rehearse.run", {"settings": settings})
    assert said in answer.message
    assert "s3cret-value" not in answer.message


async def test_rehearsing_takes_an_administrator(world):
    w = await world()
    client = await w.inside(w.device(), scopes=("operator.pairing",))
    answer = await client.call("rehearse.run", {"settings": {}})
    assert answer.message == "missing scope: operator.admin"


async def test_a_past_of_too_many_devices_is_judged_as_far_as_it_says(world, monkeypatch):
    """L10: the latest devices first, and from which position on that is all of it."""
    w = await world()
    admin, devices = await w.admin(), [w.device() for _ in range(3)]
    for device in devices:
        await w.ask(device)
    monkeypatch.setattr(rehearse_methods, "MOST_DEVICES", 1)
    found = await rehearse(admin, {"gateway.pairing.maxPending": 1})
    (line,) = found["lines"]
    assert line["deviceId"] == devices[2].device
    assert found["since"] == line["position"] - 1
    assert found["notChecked"][0]["why"].startswith(f"what was recorded up to position {found['since']}")
