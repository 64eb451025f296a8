"""Transcripts of `pairing nodes`, against a real gateway and on the log where none runs."""

import json
from pathlib import Path
from typing import Any

import anyio
import msgspec

from cli.compose import local_caller, open_service
from pairing import methods
from pairing.refusals import Exit
from pairing.settings import load
from tests.houses import House, started, stopped


def ask(house: House, node: str, *commands: str, **more: Any) -> str:
    """Have a node's surface asked for, and return the request's id."""
    raw = msgspec.Raw(json.dumps({"nodeId": node, "commands": commands, **more}).encode())

    async def work() -> str:
        async with open_service(load(house.home, env={}, flags={})) as service:
            asked = await methods.call(service, local_caller(), "node.pair.request", raw)
        return str(asked.request.request_id)

    return anyio.run(work)


def test_a_node_is_reviewed_approved_named_and_removed(house: House) -> None:
    """Every decision names the event that records it; what is shown before is what is approved; no terminal sees the token."""
    assert house.say("nodes", "pending") == "No node waits for approval.\n"
    assert house.say("nodes", "status") == "No node is approved.\n"
    request = ask(house, "porch-node", "system.run", "camera.snap", displayName="Porch", caps=["camera"], remoteIp="192.0.2.7")
    shown = house.say("nodes", "pending")
    assert shown.startswith("Pending (1)\n\n  Porch\n")
    for words in (
        "node            porch-node",
        "commands        system.run, camera.snap",
        "capabilities    camera",
        "from            192.0.2.7",
        "approver needs  operator.pairing, operator.admin",
        f"request         {request}",
    ):
        assert f"    {words}\n" in shown
    approved = house.json("nodes", "approve", request[:8], "--reason", "known")
    assert approved["node"]["nodeId"] == "porch-node"
    assert "token" not in approved["node"]
    assert approved["recorded"]["kind"] == "node.approved"
    again = house.say("nodes", "approve", request)
    assert again.startswith(f"Already approved: Porch porch-node ({request}). Nothing was changed")
    assert house.say("nodes", "rename", "porc", "Front door").startswith(
        "Renamed porch-node to Front door — recorded as node.renamed"
    )
    status = house.say("nodes", "status").splitlines()
    assert status[0].split() == ["Id", "Node", "Now", "Approved", "Commands", "Capabilities"]
    assert "porch-node  Front door  away" in status[1]
    assert house.say("nodes", "remove", "front DOOR").startswith("Removed Front door porch-node — recorded as node.removed")
    gone = house.json("nodes", "remove", "porch-node", exit=Exit.NOT_FOUND)["error"]
    assert (gone["reason"], gone["hint"]) == ("unknown-node", "See which nodes are approved: pairing nodes status")


def test_a_rejected_request_tells_the_next_reviewer(house: House) -> None:
    """The truth about a request that was answered, and where to look."""
    request = ask(house, "shed-node", "camera.snap")
    said = house.say("nodes", "reject", request)
    assert said.startswith(f"Rejected shed-node ({request}) — recorded as node.rejected")
    error = house.json("nodes", "approve", request, exit=Exit.NOT_FOUND)["error"]
    assert error["reason"] == "unknown-request"
    assert "it was rejected" in error["message"]
    assert "pairing nodes pending" in error["hint"]


def test_what_is_ambiguous_is_listed(house: House) -> None:
    """Several nodes that a name may mean are shown, and none is touched (L14)."""
    for node in ("twin-one", "twin-two"):
        house.say("nodes", "approve", ask(house, node))
    error = house.json("nodes", "remove", "twin", exit=Exit.AMBIGUOUS)["error"]
    assert {entry["nodeId"] for entry in error["details"]["candidates"]} == {"twin-one", "twin-two"}
    assert {entry["nodeId"] for entry in house.json("nodes", "status")["nodes"]} >= {"twin-one", "twin-two"}
    assert house.run("nodes", "remove", " ").exit_code == Exit.USAGE
    assert house.run("nodes").exit_code == 0


def test_a_node_that_connects_shows_up(house: House) -> None:
    """A11: a device approved as a node is one thing, what it may do another."""
    device = house.pair("garage", "--role", "node")
    house.knock("garage", "--role", "node", exit=0)
    (entry,) = (entry for entry in house.json("nodes", "pending")["pending"] if entry["nodeId"] == device)
    assert entry["displayName"] == "garage"
    assert house.say("nodes", "approve", entry["requestId"]).startswith(f"Approved garage {device}")


def test_with_no_gateway_it_works_on_the_log(tmp_path: Path) -> None:
    """The local door does what the other does (D5)."""
    house = House(tmp_path)
    stopped(started(house))
    request = ask(house, "cellar", "system.run")
    ran = house.run("nodes", "approve", request)
    assert ran.exit_code == 0
    assert "working on the log" in ran.stderr
    assert ran.stdout.startswith(f"Approved cellar ({request}) — recorded as node.approved")
