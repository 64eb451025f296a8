"""Nodes and what they may run: a second approval, beside the device's (protocol §6.7)."""

from collections.abc import Awaitable, Callable
from typing import Any

from tests.cases.conftest import Client, World

Make = Callable[..., Awaitable[World]]
RUNS = ["system.run", "system.which", "weird.cmd"]


def surface(*commands: str, caps: tuple[str, ...] = ("system",)) -> Callable[[dict[str, Any]], None]:
    """Let a connect declare commands and capabilities."""

    def declare(params: dict[str, Any]) -> None:
        params |= {"caps": list(caps), "commands": list(commands)}

    return declare


async def listed(client: Client) -> dict[str, Any]:
    answer = await client.call("node.pair.list", {})
    assert answer.ok, answer.error
    return dict(answer.payload)


async def asked(client: Client, node: str, *commands: str) -> str:
    answer = await client.call("node.pair.request", {"nodeId": node, "commands": list(commands)})
    assert answer.ok, answer.error
    return str(answer.payload["request"]["requestId"])


async def test_a_node_is_in_and_its_commands_wait(world: Make) -> None:
    """NP-01, A11: silent pairing lets a local node in, and approves nothing of what it declares."""
    w = await world()
    admin, device = await w.admin(), w.device()
    node = await w.inside(device, role="node", tamper=surface(*RUNS))
    told = (await admin.event("node.pair.requested"))["payload"]
    (pending,) = (await listed(admin))["pending"]
    assert pending == told
    assert (pending["nodeId"], pending["caps"], pending["commands"]) == (device.device, ["system"], RUNS)
    assert pending["requiredApproveScopes"] == ["operator.pairing", "operator.admin"]
    assert pending["silent"] is False
    assert (await node.call("health", {})).ok
    shown = (await admin.call("node.list", {})).payload["nodes"]
    assert [(n["nodeId"], n["connected"], n["commands"]) for n in shown] == [(device.device, True, RUNS)]


async def test_a_node_that_returns_asks_for_what_is_new_alone(world: Make) -> None:
    """NP-01: the same surface again is the same request; an approved one is none; a wider one is announced as another."""
    w = await world()
    admin, device = await w.admin(), w.device()
    for _ in range(2):
        node = await w.inside(device, role="node", tamper=surface("camera.snap"))
        assert (await node.call("health", {})).ok
        (pending,) = (await listed(admin))["pending"]
    first = pending["requestId"]
    assert (await admin.call("node.pair.approve", {"requestId": first})).ok
    node = await w.inside(device, role="node", tamper=surface("camera.snap"))
    assert (await node.call("health", {})).ok
    assert (await listed(admin))["pending"] == []
    node = await w.inside(device, role="node", tamper=surface("camera.snap", "system.run"))
    assert (await node.call("health", {})).ok
    (pending,) = (await listed(admin))["pending"]
    assert pending["isRepair"] is True
    (approved,) = (await listed(admin))["paired"]
    assert (approved["commands"], approved["connected"]) == (["camera.snap"], True)
    assert [row.kind for row in await w.records() if row.kind.startswith("node.")] == [
        "node.requested",
        "node.approved",
        "node.requested",
    ]


async def test_an_operator_session_of_a_device_asks_for_no_surface(world: Make) -> None:
    """Commands that an operator's connect carries are nobody's surface."""
    w = await world()
    admin = await w.admin()
    other = await w.inside(w.device(), tamper=surface("system.run"))
    assert (await other.call("health", {})).ok
    assert (await listed(admin))["pending"] == []


async def test_a_node_cannot_fill_the_log_by_connecting(world: Make) -> None:
    """N10: surfaces that change with every connection are let in and, past a few in a minute, no longer written."""
    w = await world()
    device = w.device()
    for number in range(9):
        node = await w.inside(device, role="node", tamper=surface(f"made.up{number}"))
        assert (await node.call("health", {})).ok
    assert len(await w.records("node.requested")) == 6


async def test_a_device_paired_anew_is_asked_about_anew(world: Make) -> None:
    """A11: what was approved for a device that has been removed is not in force for the one that comes back with its key."""
    w = await world()
    admin, device = await w.admin(), w.device()
    await w.inside(device, role="node", tamper=surface("camera.snap"))
    await admin.event("node.pair.requested")
    (pending,) = (await listed(admin))["pending"]
    assert (await admin.call("node.pair.approve", {"requestId": pending["requestId"]})).ok
    w.clock.ahead += 10
    assert (await admin.call("device.pair.remove", {"deviceId": device.device})).ok
    w.clock.ahead += 10
    await w.inside(device, role="node", tamper=surface("camera.snap"))
    assert (await admin.event("node.pair.requested"))["payload"]["isRepair"] is True


async def test_the_same_request_twice_is_one(world: Make) -> None:
    """NP-03: the second is told that it is the first; the list says what its approver must hold."""
    w = await world()
    admin = await w.admin()
    params = {"nodeId": "n", "displayName": "Nodeling", "commands": ["camera.snap"], "remoteIp": "192.0.2.7", "silent": True}
    first = (await admin.call("node.pair.request", params)).payload
    second = (await admin.call("node.pair.request", params)).payload
    assert (first["status"], first["created"]) == ("pending", True)
    assert (second["status"], second["created"]) == ("pending", False)
    assert first["request"] == second["request"]
    assert (await listed(admin))["pending"] == [first["request"]]
    assert first["request"]["requiredApproveScopes"] == ["operator.pairing", "operator.write"]
    assert (first["request"]["displayName"], first["request"]["remoteIp"]) == ("Nodeling", "192.0.2.7")
    blank = await admin.call("node.pair.request", {"nodeId": "  "})
    assert (blank.error["code"], blank.message) == ("UNAVAILABLE", "Error: nodeId required")
    assert "unexpected property" in (await admin.call("node.pair.request", {"nodeId": "n", "token": "t"})).message


async def test_an_approver_must_hold_what_the_commands_need(world: Make) -> None:
    """Protocol §6.7: write for any command, admin for those that run programs, on a local session too."""
    w = await world()
    admin = await w.admin()
    small = await w.inside(w.device(), scopes=("operator.pairing",))
    runs, snaps, none = [
        await asked(admin, node, *commands) for node, commands in (("a", ["system.run"]), ("b", ["camera.snap"]), ("c", []))
    ]
    answers = [await small.call("node.pair.approve", {"requestId": request}) for request in (runs, snaps, none)]
    assert [answer.message for answer in answers] == ["missing scope: operator.admin", "missing scope: operator.write", ""]
    assert answers[2].payload["node"]["nodeId"] == "c"
    writer = await w.inside(w.device(), scopes=("operator.pairing", "operator.write"))
    assert (await writer.call("node.pair.approve", {"requestId": snaps})).ok
    assert (await writer.call("node.pair.approve", {"requestId": runs})).message == "missing scope: operator.admin"
    assert (await admin.call("node.pair.approve", {"requestId": runs})).ok
    reader = await w.inside(w.device(), scopes=("operator.read",))
    for method in ("list", "approve", "reject", "remove", "request", "verify"):
        assert (await reader.call(f"node.pair.{method}", {})).message == "missing scope: operator.pairing"


async def test_the_token_of_an_approval_is_verified_and_never_stored(world: Make) -> None:
    """NP-05, T1: right and wrong are told apart; the token is in the approver's answer and nowhere else."""
    w = await world()
    admin = await w.admin()
    request = await asked(admin, "n", "camera.snap")
    approved = (await admin.call("node.pair.approve", {"requestId": request})).payload
    assert approved["requestId"] == request
    token = approved["node"]["token"]
    small = await w.inside(w.device(), scopes=("operator.pairing",))
    second = (await small.call("node.pair.approve", {"requestId": request})).payload
    assert second["node"] == {key: value for key, value in approved["node"].items() if key != "token"}
    right = (await admin.call("node.pair.verify", {"nodeId": "n", "token": token})).payload
    assert right["ok"] is True
    assert right["node"] == {key: value for key, value in approved["node"].items() if key != "token"}
    assert (await admin.call("node.pair.verify", {"nodeId": "n", "token": token + "x"})).payload == {"ok": False}
    assert (await admin.call("node.pair.verify", {"nodeId": "other", "token": token})).payload == {"ok": False}
    assert token not in str(await listed(admin))
    assert all(token.encode() not in row.body + row.meta + (row.personal or b"") for row in await w.records())
    assert (await admin.call("node.pair.remove", {"nodeId": "n"})).ok
    assert (await admin.call("node.pair.verify", {"nodeId": "n", "token": token})).payload == {"ok": False}


async def test_every_end_of_a_request_is_announced(world: Make) -> None:
    """Protocol §6.7: approved, rejected, replaced and removed, to those who may answer and to nobody else."""
    w = await world()
    admin = await w.admin()
    reader = await w.inside(w.device(), scopes=("operator.read",))
    node = await w.inside(w.device(), role="node")
    one = await asked(admin, "n")
    two = await asked(admin, "n", "camera.snap")
    assert (await admin.call("node.pair.approve", {"requestId": two})).ok
    three = await asked(admin, "n", "camera.clip")
    rejected = await admin.call("node.pair.reject", {"requestId": three})
    assert rejected.payload == {"requestId": three, "nodeId": "n"}
    assert (await admin.call("node.pair.remove", {"nodeId": "n"})).payload == {"nodeId": "n"}
    events = [e["payload"] for e in await admin.quiet() if e["event"] == "node.pair.resolved"]
    assert [(e["requestId"], e["nodeId"], e["decision"]) for e in events] == [
        (one, "n", "rejected"),
        (two, "n", "approved"),
        (three, "n", "rejected"),
        ("", "n", "removed"),
    ]
    assert all(isinstance(e["ts"], int) for e in events)
    for outsider in (reader, node):
        assert [e["event"] for e in await outsider.quiet() if e["event"].startswith("node.pair")] == []


async def test_what_cannot_be_answered_says_why(world: Make) -> None:
    """Protocol §6.7, R6: the wire's words, and what became of it."""
    w = await world()
    admin = await w.admin()
    assert (await admin.call("node.pair.approve", {"requestId": "r"})).message == "unknown requestId"
    assert (await admin.call("node.pair.reject", {"requestId": "r"})).message == "unknown requestId"
    assert (await admin.call("node.pair.remove", {"nodeId": "n"})).message == "unknown nodeId"
    assert (await admin.call("node.rename", {"nodeId": "n", "displayName": "x"})).message == "unknown nodeId"
    request = await asked(admin, "n")
    assert (await admin.call("node.pair.reject", {"requestId": request})).ok
    again = await admin.call("node.pair.approve", {"requestId": request})
    assert again.error["details"]["outcome"] == "rejected"


async def test_removal_of_an_approval_leaves_the_node_connected(world: Make) -> None:
    """Protocol §6.7, A11: the surface is one thing, the device's access another; its sessions stay."""
    w = await world()
    admin, device = await w.admin(), w.device()
    node = await w.inside(device, role="node", tamper=surface("camera.snap"))
    request = (await admin.event("node.pair.requested"))["payload"]["requestId"]
    assert (await admin.call("node.pair.approve", {"requestId": request})).ok
    assert (await admin.call("node.pair.remove", {"nodeId": device.device})).ok
    assert (await node.call("health", {})).ok
    assert (await admin.entry(device))["connected"] is True


async def test_a_name_is_shown_where_nodes_are_listed(world: Make) -> None:
    """Protocol §6.7: a renamed node has its new name in both lists, and a blank one is refused."""
    w = await world()
    admin = await w.admin()
    assert (await admin.call("node.pair.approve", {"requestId": await asked(admin, "n")})).ok
    assert (await admin.call("node.rename", {"nodeId": "n", "displayName": " Porch "})).payload == {
        "nodeId": "n",
        "displayName": "Porch",
    }
    assert (await admin.call("node.rename", {"nodeId": "n", "displayName": " "})).message == "displayName required"
    assert (await listed(admin))["paired"][0]["displayName"] == "Porch"
    (entry,) = (await admin.call("node.list", {})).payload["nodes"]
    assert (entry["displayName"], entry["paired"], entry["connected"]) == ("Porch", True, False)


async def test_a_bound_session_manages_its_own_node_alone(world: Make) -> None:
    """A7, A8: by device token without admin, nothing of other nodes is seen or answered."""
    w = await world()
    admin, device = await w.admin(), w.device()
    token = (await w.grant(admin, device, scopes=("operator.pairing",))).token
    bound = await w.session(device, token, scopes=("operator.pairing",))
    request = await asked(admin, "n")
    assert (await listed(bound))["pending"] == []
    for method, params in (
        ("node.pair.approve", {"requestId": request}),
        ("node.pair.approve", {"requestId": "never"}),
        ("node.pair.reject", {"requestId": request}),
        ("node.pair.remove", {"nodeId": "n"}),
        ("node.pair.verify", {"nodeId": "n", "token": "t"}),
        ("node.pair.request", {"nodeId": "n"}),
        ("node.rename", {"nodeId": "n", "displayName": "x"}),
    ):
        assert (await bound.call(method, params)).message == "node pairing denied", method
    assert await asked(bound, device.device)
    assert len((await listed(bound))["pending"]) == 1
