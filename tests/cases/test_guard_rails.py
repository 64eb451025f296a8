"""The last operator, and approvals that take several, over real sockets: what a client of the protocol is told."""

import pytest
from msgspec.structs import replace

from pairing import ids
from pairing.commands import Approve

ADMIN, PAIRING, READ = ("operator.admin",), ("operator.pairing", "operator.read"), ("operator.read",)
TWO = {"gateway.pairing.approval.votes": ["operator.admin=2"]}


async def paired(w, scopes):
    device = w.device()
    return device, (await w.inside(device, scopes=scopes)).token


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("device.pair.remove", {}),
        ("device.token.revoke", {"role": "operator"}),
        ("device.token.rotate", {"role": "operator", "scopes": ["operator.read"]}),
        ("device.lock", {"forMs": 60_000}),
    ],
)
async def test_the_last_operator_ends_itself_by_no_method_without_the_word(world, method, more):
    """A22, difference 17: an unmodified client is told what to do; the session goes on; with the word and a reason it ends."""
    w = await world()
    device, token = await paired(w, ADMIN)
    mine = await w.session(device, token, scopes=ADMIN)
    params = {"deviceId": device.device, **more}
    answer = await mine.call(method, params)
    assert (answer.error["code"], answer.error["details"]["code"]) == ("INVALID_REQUEST", "LAST_OPERATOR")
    assert "approve another operator first" in answer.error["message"]
    assert (await mine.call(method, {**params, "breakGlass": True})).error["details"]["code"] == "REASON_REQUIRED"
    assert (await mine.call("device.pair.list")).ok
    assert (await mine.call(method, {**params, "breakGlass": True, "reason": "sold"})).ok
    await mine.closed()
    (broken,) = await w.records("glass.broken")
    assert b"sold" in broken.meta


async def test_a_session_below_admin_does_not_break_the_glass(world):
    """A22, A6: to leave the host alone with the gateway takes operator.admin, whatever else the caller may end."""
    w = await world()
    device, token = await paired(w, PAIRING)
    mine = await w.session(device, token, scopes=PAIRING)
    answer = await mine.call("device.pair.remove", {"deviceId": device.device, "breakGlass": True, "reason": "bored"})
    assert answer.error["message"] == "missing scope: operator.admin"


async def test_with_the_rule_off_the_last_operator_goes_as_it_does_elsewhere(world):
    """Difference 17: `gateway.pairing.keepLastOperator = false` is the original's way."""
    w = await world({"gateway.pairing.keepLastOperator": False})
    device, token = await paired(w, ADMIN)
    mine = await w.session(device, token, scopes=ADMIN)
    assert (await mine.call("device.pair.remove", {"deviceId": device.device})).ok
    assert await w.records("glass.broken") == []


async def test_the_first_of_two_approvers_is_told_that_another_must(world):
    """A1, D6: what is not approved yet is an error with words that a person understands; the second gets the device."""
    w = await world({**TWO, "gateway.pairing.localCeiling": ["operator.admin"]})
    device = w.device()
    # Nobody is let in with admin silently any more: the two operators were in before there was a rule.
    first, second = [await w.inside(w.device(), scopes=PAIRING) for _ in range(2)]
    request = await w.ask(device, scopes=ADMIN)
    told = await first.approve(request)
    assert told.error["code"] == "INVALID_REQUEST"
    assert told.error["message"] == "approval recorded: 1 of 2 approvals, waiting for another operator"
    details = told.error["details"]
    assert (details["approvals"], details["needed"], details["requestId"]) == (1, 2, request)
    assert (await second.approve(request)).error["message"].startswith("already approved by you: 1 of 2")
    assert (await w.outside(device, scopes=ADMIN, remote=True)).details["requestId"] == request
    listed = (await first.call("device.list")).payload["pending"][0]
    assert (listed["approvalsNeeded"], [vote["voter"] for vote in listed["approvals"]]) == (2, ["shared-secret"])
    local = w.stamp()
    command = Approve(
        device=device.device, request=request, issue=ids.issue_id(), key=w.opened.service.keyring.current.id, **local
    )
    service = w.opened.service
    await w.behind(replace(command, terms=service.terms, under=service.under))
    assert (await w.inside(device, scopes=ADMIN, remote=True)).hello["auth"]["scopes"]


async def test_silence_is_no_second_voice(world):
    """A19, N7: on the own host with the right secret, what takes two people waits for them; the rest is let in as ever."""
    w = await world(TWO)
    assert (await w.outside(w.device(), scopes=ADMIN)).details["reason"] == "not-paired"
    await w.inside(w.device(), scopes=READ)


async def test_a_reason_given_for_a_rejection_is_for_operators(world):
    """L8: it is in the log, and nothing that the device is told holds it."""
    w = await world()
    admin, device = await w.admin(), w.device()
    request = await w.ask(device, scopes=READ)
    assert (await admin.call("device.pair.reject", {"requestId": request, "reason": "smells of theft"})).ok
    again = await w.outside(device, scopes=READ, remote=True)
    assert "theft" not in str(again.error)
    assert all("theft" not in str(event) for event in admin.events)
    (rejected,) = await w.records("request.rejected")
    assert b"smells of theft" in rejected.meta
