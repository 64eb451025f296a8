"""Setup codes and join keys on a real socket: minted, shown, redeemed, collected again, taken back (group BS, B1-B8)."""

import anyio
import pytest

from pairing.events import enrolment_stream
from pairing.log.codec import decode_meta
from pairing.setup_code import decode

HANDED_OUT = ["operator.approvals", "operator.read", "operator.talk.secrets", "operator.write"]
URL = "wss://gateway.example.net"
INVALID = "AUTH_BOOTSTRAP_TOKEN_INVALID"


async def mint(client, **params):
    """Mint a code; return its token and its entry."""
    answer = await client.call("enroll.new", {"url": URL, **params})
    assert answer.ok, answer.error
    held = decode(answer.payload["setupCode"])
    assert held.url == URL
    return held.bootstrap_token, answer.payload["enrolment"]


def showing(token, *, role="node", scopes=(), **more):
    """How a device connects with a code, from afar."""
    return {"role": role, "scopes": scopes, "auth": {"bootstrapToken": token}, "remote": True, **more}


async def kinds(w, code):
    return [row.kind for row in await w.opened.log.stream(enrolment_stream(code))]


async def until(w, code, last):
    """Wait until the code's stream ends with an event of a kind: what follows a hello is recorded right behind it."""
    for _ in range(500):
        if (await kinds(w, code))[-1] == last:
            return
        await anyio.sleep(0.01)
    assert (await kinds(w, code))[-1] == last


async def test_a_fresh_node_gets_a_token_for_every_role(world):
    """BS-01: the node's own token and the operator's with the four scopes; the code is used up."""
    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin)
    device = w.device()
    client = await w.inside(device, **showing(token))
    auth = client.hello["auth"]
    assert (auth["role"], auth["scopes"]) == ("node", [])
    (other,) = auth["deviceTokens"]
    assert set(other) == {"deviceToken", "role", "scopes", "issuedAtMs"}
    assert (other["role"], other["scopes"]) == ("operator", HANDED_OUT)
    assert len({auth["deviceToken"], other["deviceToken"], token}) == 3
    await w.session(device, other["deviceToken"], scopes=HANDED_OUT)
    await w.session(device, auth["deviceToken"], role="node", scopes=())
    refused = await w.outside(w.device(), **showing(token))
    assert refused.details["code"] == INVALID
    paired = await admin.entry(device)
    assert (paired["approvedVia"], sorted(paired["roles"])) == ("bootstrap", ["node", "operator"])
    assert "enrolment.overused" in await kinds(w, entry["enrolmentId"])


async def test_a_code_lives_ten_minutes(world):
    """BS-03: 601 s after it was issued it is refused, 590 s after it is accepted; that it ran out is recorded."""
    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin)
    w.clock.ahead += 590_000
    await w.inside(w.device(), **showing(token))
    late, entry = await mint(admin)
    w.clock.ahead += 601_000
    refused = await w.outside(w.device(), **showing(late))
    assert (refused.details["code"], refused.code) == (INVALID, 1008)
    assert refused.message == "unauthorized: bootstrap token invalid or expired (scan a fresh setup code)"
    assert refused.details["recommendedNextStep"] == "review_auth_configuration"
    await until(w, entry["enrolmentId"], "enrolment.expired")


@pytest.mark.parametrize("scope", ["operator.admin", "operator.pairing"])
async def test_more_than_the_profile_is_asked_in_vain(world, scope):
    """BS-05, B3, B5: refused as a wrong code, nothing is opened, and the attempt spends nothing."""
    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin)
    device = w.device()
    refused = await w.outside(device, **showing(token, role="operator", scopes=(scope,)))
    assert refused.details["code"] == INVALID
    assert await admin.pending(device) == []
    assert await kinds(w, entry["enrolmentId"]) == ["enrolment.issued"]
    await w.inside(device, **showing(token))


async def test_a_code_needs_a_device(world):
    """BS-07."""
    w = await world()
    token, _ = await mint(await w.admin())
    refused = await w.outside(None, **showing(token))
    assert (refused.error["code"], refused.message) == ("NOT_PAIRED", "device identity required")


async def test_the_code_wins_over_the_shared_token(world):
    """BS-09: both are right; the device is let in by the code, with its tokens."""
    w = await world()
    token, entry = await mint(await w.admin())
    both = {"token": "example-shared-token", "bootstrapToken": token}
    client = await w.inside(w.device(), **showing(token) | {"auth": both})
    assert [other["role"] for other in client.hello["auth"]["deviceTokens"]] == ["operator"]
    assert "enrolment.redeemed" in await kinds(w, entry["enrolmentId"])


async def test_a_wrong_code_beside_a_right_credential_does_not_matter(world):
    """Protocol §4.5: the shared secret, or the device's own token, lets in."""
    w = await world()
    device = w.device()
    first = await w.inside(device, scopes=("operator.read",), auth={"token": "example-shared-token", "bootstrapToken": "wrong"})
    both = {"deviceToken": first.token, "bootstrapToken": "wrong"}
    await w.inside(device, scopes=("operator.read",), auth=both, remote=True)
    refused = await w.outside(device, auth={"token": "nonsense", "bootstrapToken": "wrong"}, remote=True)
    assert refused.details["code"] == INVALID, "of two wrong ones the code is blamed"


async def test_what_is_no_bare_node_waits_for_a_person_and_cannot_grow(world):
    """BS-11: bound to its device, it asks; asking for admin with the same code is refused and the request stays as it was."""
    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin, roles=["operator"], scopes=["operator.read"])
    device = w.device()
    asked = await w.outside(device, **showing(token, role="operator", scopes=("operator.read",)))
    assert asked.details["code"] == "PAIRING_REQUIRED"
    refused = await w.outside(device, **showing(token, role="operator", scopes=("operator.admin",)))
    assert refused.details["code"] == INVALID
    (pending,) = await admin.pending(device)
    assert (pending["requestId"], pending["scopes"]) == (asked.details["requestId"], ["operator.read"])
    other = await w.outside(w.device(), **showing(token, role="operator", scopes=("operator.read",)))
    assert other.details["code"] == INVALID
    assert (await admin.approve(pending["requestId"])).ok
    client = await w.inside(device, **showing(token, role="operator", scopes=("operator.read",)))
    await w.session(device, client.token, scopes=("operator.read",))
    await until(w, entry["enrolmentId"], "enrolment.acknowledged")


async def test_a_record_is_never_upgraded_silently(world):
    """BS-13: paired as operator, a code as node: role-upgrade, and the request asks for that role alone."""
    w = await world()
    admin = await w.admin()
    device = w.device()
    await w.grant(admin, device, scopes=("operator.read",))
    token, _ = await mint(admin)
    refused = await w.outside(device, **showing(token))
    assert (refused.error["code"], refused.details["reason"]) == ("NOT_PAIRED", "role-upgrade")
    (pending,) = await admin.pending(device)
    assert pending["roles"] == ["node"]


async def test_a_lost_reply_does_not_spend_the_code(world):
    """B5: the same device gets the same tokens again until it has used one; then the code is of no more use."""
    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin)
    device = w.device()
    first = await w.inside(device, **showing(token))
    await first.close()
    w.clock.ahead += 3_600_000
    again = await w.inside(device, **showing(token))
    for key in ("deviceToken", "deviceTokens"):
        assert again.hello["auth"][key] == first.hello["auth"][key]
    stranger = await w.outside(w.device(), **showing(token))
    assert stranger.details["code"] == INVALID
    status = await admin.call("device.pair.setupStatus", {"setupId": entry["enrolmentId"]})
    assert status.payload["deliveryUncertain"] is True
    await w.session(device, again.token, role="node", scopes=())
    await until(w, entry["enrolmentId"], "enrolment.acknowledged")
    refused = await w.outside(device, **showing(token))
    assert refused.details["code"] == INVALID
    status = await admin.call("device.pair.setupStatus", {"setupId": entry["enrolmentId"]})
    assert status.payload["completion"]["deviceId"] == device.device
    assert "deliveryUncertain" not in status.payload
    assert (await kinds(w, entry["enrolmentId"])).count("enrolment.delivered") == 1


async def test_of_many_devices_at_once_as_many_get_in_as_there_are_uses(world):
    """B1: a join key of three uses and twelve devices on twelve sockets."""
    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin, uses=3, profile="node")
    outcomes = []

    async def come(device):
        outcomes.append(type(await w.dial(device, **showing(token))).__name__)

    async with anyio.create_task_group() as tasks:
        for device in [w.device() for _ in range(12)]:
            tasks.start_soon(come, device)
    assert outcomes.count("Client") == 3
    shown = (await admin.call("enroll.show", {"enrolmentId": entry["enrolmentId"]})).payload["enrolment"]
    assert (shown["state"], shown["taken"], shown["redeemed"], shown["overuses"]) == ("spent", 3, 3, 1)
    assert {held["step"] for held in shown["holders"]} <= {"redeemed", "delivered"}


async def test_rejecting_the_request_voids_the_code(world):
    """B7."""
    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin, roles=["operator"], scopes=["operator.read"], uses=5)
    device = w.device()
    asked = await w.outside(device, **showing(token, role="operator", scopes=("operator.read",)))
    answer = await admin.call("device.pair.reject", {"requestId": asked.details["requestId"], "receipt": True})
    assert (answer.ok, answer.payload["recorded"]["kind"]) == (True, "request.rejected")
    assert (await kinds(w, entry["enrolmentId"]))[-1] == "enrolment.revoked"
    for other in (device, w.device()):
        refused = await w.outside(other, **showing(token, role="operator", scopes=("operator.read",)))
        assert refused.details["code"] == INVALID


async def test_a_removed_device_does_not_come_back_by_its_code(world):
    """R9, V7: neither before it acknowledged nor after."""
    w = await world()
    admin = await w.admin()
    token, _ = await mint(admin)
    device = w.device()
    client = await w.inside(device, **showing(token))
    assert (await admin.call("device.pair.remove", {"deviceId": device.device})).ok
    assert await client.closed() == (4001, "device removed")
    refused = await w.outside(device, **showing(token))
    assert refused.details["code"] == INVALID


async def test_a_revoked_code_is_refused_at_once_and_whoever_is_in_stays(world):
    """B6, V1: also where another process takes it back."""
    from pairing.commands import VoidCode

    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin, uses=2)
    client = await w.inside(w.device(), **showing(token))
    async with w.beside() as other:
        await other.service.desk.handle_enrolment(VoidCode(code=entry["enrolmentId"], **w.stamp()))
    refused = await w.outside(w.device(), **showing(token))
    assert refused.details["code"] == INVALID
    assert (await client.call("health")).ok


async def test_who_may_not_pair_has_no_codes(world):
    """B6: minting, listing, showing and taking back need pairing rights; a device's own session has none of them."""
    w = await world()
    admin = await w.admin()
    _, entry = await mint(admin)
    weak = await w.inside(w.device(), scopes=("operator.read", "operator.write"))
    device = w.device()
    bound = await w.grant(admin, device, scopes=("operator.pairing",))
    own = await w.session(device, bound.token, scopes=("operator.pairing",))
    calls = {
        "enroll.new": {"url": URL, "roles": ["operator"], "scopes": []},
        "enroll.list": {},
        "enroll.show": {"enrolmentId": entry["enrolmentId"]},
        "enroll.revoke": {"enrolmentId": entry["enrolmentId"]},
        "device.pair.setupCode": {"publicUrl": URL},
        "device.pair.setupStatus": {"setupId": entry["enrolmentId"]},
    }
    for method, params in calls.items():
        for session in (weak, own):
            answer = await session.call(method, params)
            assert not answer.ok, method
    assert await kinds(w, entry["enrolmentId"]) == ["enrolment.issued"]
    assert len(await w.records("enrolment.issued")) == 1


async def test_nobody_mints_what_they_do_not_hold(world):
    """B4, B6, A1: from afar a session holds its scopes and no ceiling."""
    w = await world()
    admin = await w.admin()
    device = w.device()
    client = await w.grant(admin, device, scopes=("operator.pairing", "operator.read"))
    for params in (
        {"profile": "default"},
        {"profile": "node"},
        {"roles": ["operator"], "scopes": ["operator.write"]},
        {"roles": ["operator"], "scopes": ["operator.pairing"]},
    ):
        answer = await client.call("enroll.new", {"url": URL, **params})
        assert not answer.ok, params
    assert (await client.call("enroll.new", {"url": URL, "roles": ["operator"], "scopes": ["operator.read"]})).ok
    unsure = await client.call("enroll.new", {"url": URL, "profile": "default", "ceiling": ["operator.read"]})
    assert not unsure.ok, "a node's token is an admin's to give"
    owned = await admin.call("enroll.new", {"url": URL, "profile": "default", "ceiling": ["operator.read"]})
    assert owned.payload["enrolment"]["scopes"] == ["operator.read"]


async def test_a_code_dies_with_whoever_minted_it(world):
    """A1: its minter is removed, and nobody gets in by it."""
    w = await world()
    admin, root = await w.admin(), w.device()
    minter = await w.inside(root, scopes=("operator.admin",))
    token, _ = await mint(minter)
    assert (await admin.call("device.pair.remove", {"deviceId": root.device})).ok
    refused = await w.outside(w.device(), **showing(token))
    assert refused.details["code"] == INVALID


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ws://gateway.example.net", "ws:// to another network"),
        ("http://203.0.113.9:18789", "ws:// to another network"),
        ("ws://100.64.0.1", "ws:// to another network"),
        ("wss://user:secret@gateway.example.net", "credentials"),
        ("ftp://gateway.example.net", "not a URL"),
        ("wss:gateway.example.net", "not a URL"),
        ("wss://", "not a URL"),
        ("nonsense url", "not a URL"),
        (None, "this host's own address alone"),
    ],
)
async def test_a_bad_address_is_refused_before_there_is_a_code(world, url, why):
    """B8: and no address at all is refused while the gateway listens on loopback alone."""
    w = await world()
    admin = await w.admin()
    answer = await admin.call("enroll.new", {} if url is None else {"url": url})
    assert not answer.ok
    assert why in answer.message
    assert "secret@" not in str(answer.error)
    assert await w.records("enrolment.issued") == []


async def test_the_protocols_own_way_to_ask_for_a_code(world):
    """Protocol §6.1: `device.pair.setupCode`, with a picture where one is asked for, and `device.pair.setupStatus`."""
    w = await world()
    admin = await w.admin()
    made = (await admin.call("device.pair.setupCode", {"publicUrl": URL, "includeQr": True})).payload
    assert made["qrDataUrl"].startswith("data:image/png;base64,")
    assert (made["gatewayUrl"], made["gatewayUrls"], made["auth"], made["urlSource"]) == (URL, [URL], "token", "given")
    assert (await admin.call("device.pair.setupStatus", {"setupId": made["setupId"]})).payload == {}
    await w.inside(w.device(), **showing(decode(made["setupCode"]).bootstrap_token))
    node = (await admin.call("device.pair.setupCode", {"publicUrl": URL, "bootstrapProfile": "node"})).payload
    client = await w.inside(w.device(), **showing(decode(node["setupCode"]).bootstrap_token))
    assert "deviceTokens" not in client.hello["auth"]


async def test_the_settings_say_where_devices_reach_the_gateway(world):
    """B8: `gateway.publicUrl` is what codes name unless another address is given."""
    w = await world({"gateway.publicUrl": "wss://pair.example.org:8443/"})
    answer = await (await w.admin()).call("enroll.new", {"label": " front desk "})
    assert (answer.payload["gatewayUrl"], answer.payload["urlSource"]) == ("wss://pair.example.org:8443", "gateway.publicUrl")
    assert answer.payload["enrolment"]["label"] == "front desk"


async def test_the_token_of_a_code_is_nowhere_but_in_the_code(world):
    """B2, L7: not in the log, the views, a list or the receipt."""
    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin, label="desk")
    await w.inside(w.device(), **showing(token))
    await w.outside(w.device(), **showing(token))
    listed = await admin.call("enroll.list", {"all": True})
    shown = await admin.call("enroll.show", {"enrolmentId": entry["enrolmentId"]})
    assert token not in str(listed.payload) + str(shown.payload) + str(entry)
    for path in w.rules.home.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path


async def test_wrong_codes_are_counted_in_a_class_of_their_own(world, elsewhere):
    """RL, N11: after ten a device is not looked at for a while; its shared secret and the codes of others are."""
    w = await world()
    device, source = w.device(), elsewhere["192.0.2.2"]
    token, _ = await mint(await w.admin(), profile="node")
    wrong = {"role": "node", "scopes": (), "auth": {"bootstrapToken": "wrong"}, "source": source}
    codes = [(await w.outside(device, **wrong)).details["code"] for _ in range(11)]
    assert codes == [INVALID] * 10 + ["AUTH_RATE_LIMITED"]
    right = wrong | {"auth": {"bootstrapToken": token}}
    assert (await w.outside(device, **right)).details["code"] == "AUTH_RATE_LIMITED"
    assert (await w.outside(device, scopes=("operator.read",), source=source)).details["code"] == "PAIRING_REQUIRED"
    await w.inside(w.device(), **right)


async def test_whoever_was_sent_here_with_a_code_that_is_no_good_can_be_explained(world):
    """L8: outside one answer for all, with a reference; inside what was wrong."""
    w = await world()
    admin = await w.admin()
    token, _ = await mint(admin)
    w.clock.ahead += 601_000
    refused = await w.outside(w.device(), **showing(token))
    found = (await admin.call("contact.find", {"reference": refused.details["reference"]})).payload
    assert "expired at" in str(found)
    assert token not in str(found)


async def test_the_figures_say_what_became_of_codes(world):
    """Counted from the log, whichever process wrote it."""
    w = await world()
    admin = await w.admin()
    token, entry = await mint(admin)
    await w.inside(w.device(), **showing(token))
    await w.outside(w.device(), **showing(token))
    assert (await admin.call("enroll.revoke", {"enrolmentId": entry["enrolmentId"]})).ok
    text = w.gateway.metrics.text().decode()
    for outcome, count in {"issued": 1, "redeemed": 1, "overused": 1, "revoked": 1, "expired": 0}.items():
        assert f'pairing_setup_codes_total{{outcome="{outcome}"}} {count}.0' in text
    assert 'pairing_decisions_total{means="bootstrap",outcome="approved"} 1.0' in text


async def test_a_probe_redeems_nothing(world):
    """A20: looking is not asking."""
    w = await world()
    token, entry = await mint(await w.admin())
    probe = {"client": {"id": "openclaw-probe", "mode": "probe"}}
    refused = await w.outside(w.device(), **showing(token), **probe)
    assert refused.details["code"] == "PAIRING_REQUIRED"
    assert await kinds(w, entry["enrolmentId"]) == ["enrolment.issued"]


async def test_a_session_of_a_code_is_bound_to_its_device(world):
    """A7, A14: whoever came by a code is no holder of the shared secret, and may manage itself alone."""
    w = await world()
    admin = await w.admin()
    token, _ = await mint(admin, roles=["operator"], scopes=["operator.pairing"], approves=True)
    client = await w.inside(w.device(), **showing(token, role="operator", scopes=("operator.pairing",)))
    assert len(await client.paired()) == 1
    other = await w.ask(w.device(), scopes=("operator.read",))
    assert not (await client.approve(other)).ok


async def test_what_a_session_of_a_code_does_is_its_devices_doing(world):
    """L2, N7: the actor is the device, also on this host, where the shared secret alone would lend a ceiling."""
    w = await world()
    token, _ = await mint(await w.admin(), roles=["operator"], scopes=["operator.admin"], approves=True)
    device = w.device()
    client = await w.inside(device, role="operator", scopes=("operator.admin",), auth={"bootstrapToken": token})
    assert (await client.call("device.pair.rename", {"deviceId": device.device, "label": "mine"})).ok
    (renamed,) = await w.records("device.renamed")
    meta = decode_meta(renamed)
    assert (meta.actor.kind, meta.actor.id) == ("device", device.device)
    assert meta.authority == ("operator.admin",)
