"""Framing, dispatch and hello-ok on a real socket (groups FR and HE)."""

import asyncio
import json
import urllib.request
import uuid

import anyio
import pytest


async def test_the_first_frame_is_the_challenge_and_nothing_else(world):
    """FR-01: an event without seq, its payload exactly a UUID nonce and the time in ms."""
    w = await world()
    socket = await w.socket()
    frame = json.loads(await socket.recv())
    assert set(frame) == {"type", "event", "payload"}
    assert (frame["type"], frame["event"]) == ("event", "connect.challenge")
    assert set(frame["payload"]) == {"nonce", "ts"}
    assert uuid.UUID(frame["payload"]["nonce"]).version == 4
    assert abs(frame["payload"]["ts"] - w.clock()) < 5_000


@pytest.mark.parametrize(
    ("sent", "close"),
    [
        ("hello", (1000, "")),
        ('{"type":"req","method":"connect"}', (1008, "invalid request frame")),
        ('{"type":"req","id":"","method":"connect"}', (1008, "invalid request frame")),
        ("[]", (1008, "invalid request frame")),
        ("null", (1008, "invalid request frame")),
        ('{"type":"event","event":"x"}', (1008, "invalid request frame")),
        ('{"type":"req","id":"1","method":"health","extra":1}', (1008, "invalid request frame")),
    ],
)
async def test_before_login_what_is_no_request_is_closed_without_an_answer(world, sent, close):
    """FR-03, FR-05 and the rest of the table of protocol §1.4."""
    w = await world()
    socket = await w.socket()
    await socket.send(sent)
    refused = await w.outcome(socket)
    assert refused.error is None
    assert (refused.code, refused.reason) == close


async def test_the_first_request_must_be_connect(world):
    """FR-07: answered by its id, then closed with the same text."""
    w = await world()
    socket = await w.socket()
    await socket.send(json.dumps({"type": "req", "id": "1", "method": "health"}))
    refused = await w.outcome(socket)
    text = "invalid handshake: first request must be connect"
    assert (refused.error["code"], refused.message) == ("INVALID_REQUEST", text)
    assert (refused.code, refused.reason) == (1008, text)


@pytest.mark.parametrize(("size", "answered"), [(65_536, True), (65_537, False)])
async def test_before_login_a_frame_may_have_64_kib_and_not_a_byte_more(world, size, answered):
    """FR-09: exactly 65536 bytes are judged as a connect; one byte more is 1009 without a word."""
    w = await world()
    socket = await w.socket()
    frame = {"type": "req", "id": "1", "method": "connect", "params": {"junk": ""}}
    frame["params"]["junk"] = "x" * (size - len(json.dumps(frame)))
    await socket.send(json.dumps(frame))
    refused = await w.outcome(socket)
    if answered:
        assert refused.code == 1008
        assert refused.message.startswith("invalid connect params: ")
    else:
        assert (refused.error, refused.code, refused.reason) == (None, 1009, "")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p["client"].update(id="my-client"), "/client/id: must be equal to one of the allowed values"),
        (lambda p: p.update(foo=1), "at root: unexpected property 'foo'"),
        (lambda p: p["client"].update(version=""), "/client/version: must NOT have fewer than 1 characters"),
        (lambda p: p["auth"].update(x="y"), "at /auth: unexpected property 'x'"),
        (lambda p: p.pop("minProtocol"), "must have required property 'minProtocol'"),
        (lambda p: p.update(minProtocol=0), "at /minProtocol: must be >= 1"),
        (lambda p: p.update(minProtocol=1.5), "at /minProtocol: must be integer"),
        (lambda p: p["client"].update(mode="operator"), "at /client/mode: must be equal to one of the allowed values"),
    ],
)
async def test_params_of_connect_that_break_the_schema_are_named(world, spoil, said):
    """FR-11, FR-13, FR-15 and protocol §1.4: INVALID_REQUEST with every violation, closed 1008 with the same text."""
    w = await world()
    refused = await w.outside(None, tamper=spoil)
    assert refused.error["code"] == "INVALID_REQUEST"
    assert refused.message.startswith("invalid connect params: ")
    assert said in refused.message
    assert (refused.code, refused.reason) == (1008, refused.message[:120])


async def test_newer_clients_may_send_keys_that_are_unknown_here(world):
    """Protocol §2.2: what speaks protocol 4 is not refused for what a later version added."""
    w = await world()
    client = await w.inside(w.device(), protocol=(4, 4), tamper=lambda p: p.update(foo=1, computerUse={}))
    assert client.hello["protocol"] == 4


@pytest.mark.parametrize(("asked", "spoken"), [((3, 3), 3), ((1, 9), 4), ((4, 4), 4), ((3, 4), 4), ((1, 3), 3), ((4, 9), 4)])
async def test_the_highest_common_protocol_is_spoken(world, asked, spoken):
    """FR-19 for a gateway that speaks 3 and 4: every range with one of them is accepted."""
    w = await world()
    client = await w.inside(w.device(), protocol=asked)
    assert client.hello["protocol"] == spoken


@pytest.mark.parametrize(("asked", "expected"), [((5, 9), 4), ((1, 2), 3)])
async def test_a_range_without_a_common_protocol_is_refused_with_the_nearest(world, asked, expected):
    """FR-17 for a gateway that speaks 3 and 4: close 1002, details name what would be understood."""
    w = await world()
    refused = await w.outside(w.device(), protocol=asked)
    assert (refused.error["code"], refused.message) == ("INVALID_REQUEST", "protocol mismatch")
    assert refused.details["expectedProtocol"] == expected
    assert (refused.code, refused.reason) == (1002, "protocol mismatch")


async def test_a_role_is_operator_or_node(world):
    """FR-21."""
    w = await world()
    refused = await w.outside(None, role="admin")
    assert (refused.error["code"], refused.message) == ("INVALID_REQUEST", "invalid role")
    assert (refused.code, refused.reason) == (1008, "invalid role")


async def test_without_a_role_a_client_is_an_operator(world):
    """FR-23."""
    w = await world()
    client = await w.inside(None, role=None)
    assert client.hello["auth"]["role"] == "operator"


async def test_after_login_a_bad_frame_is_answered_and_the_socket_stays(world):
    """FR-25 and protocol §1.5: the frame's own id of any type is echoed, else `invalid`; what is no JSON is ignored."""
    w = await world()
    admin = await w.admin()
    answer = await admin.raw(json.dumps({"type": "req", "id": "7", "method": ""}))
    assert (answer["id"], answer["ok"]) == ("7", False)
    assert answer["error"]["code"] == "INVALID_REQUEST"
    assert answer["error"]["message"].startswith("invalid request frame: ")
    assert (await admin.raw("[]"))["id"] == "invalid"
    assert (await admin.raw('{"type":"req","id":7,"method":"health"}'))["id"] == 7
    await admin.socket.send("not json")
    assert (await admin.call("health")).ok


async def test_an_unknown_method_is_named_to_an_admin_and_only_to_an_admin(world):
    """FR-27, and protocol §1.5: for others it is a missing admin scope."""
    w = await world()
    admin = await w.admin()
    answer = await admin.call("no.such")
    assert (answer.error["code"], answer.message) == ("INVALID_REQUEST", "unknown method: no.such")
    reader = await w.inside(w.device(), scopes=("operator.read",))
    assert (await reader.call("no.such")).message == "missing scope: operator.admin"


async def test_connect_is_only_valid_first(world):
    """FR-29, ID-27: for an admin it is named; for others it is an unclassified method."""
    w = await world()
    admin = await w.admin()
    answer = await admin.call("connect", {})
    assert (answer.error["code"], answer.message) == ("INVALID_REQUEST", "connect is only valid as the first request")
    assert (await admin.call("health")).ok
    reader = await w.inside(w.device(), scopes=("operator.read",))
    assert (await reader.call("connect", {})).message == "missing scope: operator.admin"


async def test_an_operator_may_not_call_what_is_a_nodes(world):
    """FR-31."""
    w = await world()
    admin = await w.admin()
    answer = await admin.call("node.event", {})
    assert (answer.error["code"], answer.message) == ("INVALID_REQUEST", "unauthorized role: operator")


async def test_eleven_forbidden_calls_in_a_row_end_a_session_and_any_other_answer_starts_anew(world):
    """FR-33 and protocol §1.5: the eleventh is answered, then 1008 `repeated unauthorized calls`."""
    w = await world()
    node = await w.inside(w.device(), role="node")
    for _ in range(10):
        assert (await node.call("device.pair.list")).message == "unauthorized role: node"
    assert (await node.call("health")).ok
    for _ in range(10):
        assert (await node.call("device.pair.list")).message == "unauthorized role: node"
    assert (await node.call("health")).ok
    for _ in range(11):
        assert (await node.call("device.pair.list")).message == "unauthorized role: node"
    assert await node.closed() == (1008, "repeated unauthorized calls")


async def test_health_needs_neither_role_nor_scope(world):
    """FR-35."""
    w = await world()
    node = await w.inside(w.device(), role="node")
    bare = await w.inside(w.device(), scopes=())
    assert (await node.call("health")).ok
    assert (await bare.call("health")).ok


async def test_broadcasts_are_numbered_for_each_connection_from_one(world):
    """FR-37: seq counts what was delivered on this connection."""
    w = await world()
    admin = await w.admin()
    for _ in range(2):
        await w.inside(w.device(), scopes=("operator.read",))
    await admin.call("health")
    await admin.quiet()
    assert [event["seq"] for event in admin.events] == [1, 2]
    assert {event["event"] for event in admin.events} == {"device.pair.resolved"}


async def test_a_silent_socket_is_closed_when_the_handshake_time_is_up(world):
    """FR-39: 1000 without a reason, after gateway.handshakeTimeoutMs."""
    w = await world({"gateway.handshakeTimeoutMs": 400})
    socket = await w.socket()
    with anyio.fail_after(5):
        refused = await w.outcome(socket)
    assert (refused.error, refused.code, refused.reason) == (None, 1000, "")


async def test_any_path_is_the_gateway(world):
    """FR-41."""
    w = await world()
    socket = await w.socket(path="/any/path")
    assert json.loads(await socket.recv())["event"] == "connect.challenge"


@pytest.mark.parametrize("path", ["/health", "/healthz"])
async def test_liveness_needs_no_credentials(world, path):
    """FR-45."""
    w = await world()

    def get() -> tuple[int, bytes]:
        with urllib.request.urlopen(f"http://127.0.0.1:{w.port}{path}", timeout=5) as answer:
            return answer.status, answer.read()

    status, body = await asyncio.to_thread(get)
    assert (status, json.loads(body)) == (200, {"ok": True, "status": "live"})


async def test_hello_has_what_the_published_schema_demands(world):
    """HE-01, with the payload cap of our own and the buffer that we really keep."""
    w = await world()
    client = await w.inside(w.device(), scopes=("operator.read",))
    hello = client.hello
    assert set(hello) == {"type", "protocol", "server", "features", "snapshot", "auth", "policy"}
    assert (hello["type"], hello["protocol"]) == ("hello-ok", 3)
    assert set(hello["server"]) == {"version", "connId"}
    assert "device.pair.approve" in hello["features"]["methods"]
    assert "device.pair.requested" in hello["features"]["events"]
    snapshot = hello["snapshot"]
    assert {"presence", "health", "stateVersion", "uptimeMs", "sessionDefaults"} <= set(snapshot)
    assert set(snapshot["stateVersion"]) == {"presence", "health"}
    assert set(hello["auth"]) == {"role", "scopes", "deviceToken", "issuedAtMs"}
    assert hello["policy"] == {"maxPayload": 1_048_576, "maxBufferedBytes": 1_048_576, "tickIntervalMs": 30_000}


async def test_only_an_admin_learns_where_the_gateway_keeps_its_state(world):
    """Protocol §2.5: configPath, stateDir and authMode are for sessions with operator.admin."""
    w = await world()
    admin, reader = await w.admin(), await w.inside(w.device(), scopes=("operator.read",))
    assert admin.hello["snapshot"]["authMode"] == "token"
    assert not {"configPath", "stateDir", "authMode"} & set(reader.hello["snapshot"])


async def test_a_success_has_no_error_key(world):
    """HE-03: clients drop a response that has one."""
    w = await world()
    client = await w.inside(w.device())
    assert set(client.frame) == {"type", "id", "ok", "payload"}
    answer = await client.raw('{"type":"req","id":"h","method":"health"}')
    assert set(answer) == {"type", "id", "ok", "payload"}


async def test_a_session_has_the_scopes_it_asked_for_and_hello_shows_the_tokens(world):
    """HE-05: paired with admin, connecting for read gives a session that reads; protocol 4 shows the session's scopes."""
    w = await world()
    device = w.device()
    await w.inside(device, scopes=("operator.admin",))
    reader = await w.inside(device, scopes=("operator.read",))
    assert (await reader.call("device.pair.list")).message == "missing scope: operator.pairing"
    assert reader.hello["auth"]["scopes"] == ["operator.admin", "operator.read", "operator.write"]
    newer = await w.inside(device, scopes=("operator.read",), protocol=(4, 4))
    assert newer.hello["auth"]["scopes"] == ["operator.read"]


async def test_an_operator_without_a_device_has_no_scopes_and_no_token(world):
    """HE-07: hello auth is exactly the role and an empty list."""
    w = await world()
    client = await w.inside(None, scopes=("operator.admin",))
    assert client.hello["auth"] == {"role": "operator", "scopes": []}


@pytest.mark.parametrize(("size", "survives"), [(1_048_576, True), (1_048_577, False)])
async def test_after_login_a_frame_may_have_a_mebibyte(world, size, survives):
    """Difference 11 in place of 25 MiB: larger is closed with 1009 and an empty reason."""
    w = await world()
    admin = await w.admin()
    frame = {"type": "req", "id": "1", "method": "health", "params": {"x": ""}}
    frame["params"]["x"] = "y" * (size - len(json.dumps(frame)))
    await admin.socket.send(json.dumps(frame))
    if survives:
        assert (await admin.raw('{"type":"req","id":"2","method":"health"}'))["ok"]
    else:
        assert await admin.closed() == (1009, "")
