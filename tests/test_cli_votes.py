"""Transcripts of approvals that take several operators, or a reason, against a real gateway."""

import json
from collections.abc import Iterator

import anyio
import msgspec
import pytest

from cli.compose import local_caller, open_service
from pairing import methods
from pairing.refusals import Exit, Refused
from pairing.settings import config_path, ensure_home, load
from tests.houses import House, started, stopped

RULES = '[gateway.pairing.approval]\nvotes = ["operator.admin=2"]\nrequireReason = ["node"]\n'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    ensure_home(house.home)
    config_path(house.home).write_text(RULES)
    process = started(house)
    yield house
    stopped(process)


def on_the_host(house: House, method: str, **params: str) -> str:
    """Call a method as this host's user, beside the gateway; return the reason of a refusal, or nothing."""

    async def work() -> str:
        async with open_service(load(house.home, env={}, flags={})) as service:
            try:
                await methods.call(service, local_caller(), method, msgspec.Raw(json.dumps(params).encode()))
            except Refused as refused:
                return str(refused)
        return ""

    return anyio.run(work)


def test_the_first_of_two_is_told_what_is_missing_and_the_second_lets_in(house: House) -> None:
    """A1, R2, D6: who approves, how many must, whose is recorded where; the same again changes nothing."""
    request = house.request("chief", "--scope", "operator.admin")
    assert "    approvals  0 of 2\n" in house.say("devices", "list")
    said = house.say("devices", "approve", request, exit=Exit.REFUSED)
    assert said.startswith("1 of 2 approvals, waiting for another operator — recorded as request.endorsed at position ")
    result = house.run("devices", "approve", request)
    assert (result.exit_code, result.stdout) == (
        Exit.REFUSED,
        "1 of 2 approvals, waiting for another operator. You had approved it already; nothing was changed\n",
    )
    assert f"Another operator approves the same request: pairing devices approve {request}" in result.stderr
    told = house.json("devices", "approve", request, exit=Exit.REFUSED)
    assert (told["approvals"], told["needed"], told["waiting"], told["changed"]) == (1, 2, True, False)
    assert "    approvals  1 of 2: the shared secret (" in house.say("devices", "list")
    assert on_the_host(house, "device.pair.approve", requestId=request) == ""
    assert house.json("devices", "list")["paired"][0]["deviceId"] == house.device("chief")


def test_a_vote_for_what_has_changed_is_shown_as_void(house: House) -> None:
    """R2: a request that asks for more by now has no approvals, and the device's page says which counted once."""
    request = house.request("climber", "--scope", "operator.admin")
    house.say("devices", "approve", request, exit=Exit.REFUSED)
    wider = house.request("climber", "--role", "node")
    assert wider != request
    shown = house.say("devices", "show", house.device("climber"))
    assert "    approvals  0 of 2\n" in shown
    void = shown.partition("Approvals that count no longer\n\n")[2].splitlines()[1]
    assert void.startswith(f"the shared secret  {request}  a wider request took its place  ")
    assert house.json("devices", "show", house.device("climber"))["voided"][0]["why"] == "superseded"


def test_what_takes_no_second_is_approved_as_before(house: House) -> None:
    """Rules for chosen scopes leave the others alone, and silence too where no person need look."""
    assert house.say("devices", "approve", house.request("reader", "--scope", "operator.read")).startswith("Approved ")
    assert house.json("connect", "--home", str(house.folder / "local"), "--url", house.url, "--token", house.token)["ok"]


def test_an_approval_that_must_say_why_is_refused_without(house: House) -> None:
    """On every door; the hint is the option that is missing."""
    request = house.request("lamp", "--role", "node")
    result = house.run("devices", "approve", request)
    assert result.exit_code == Exit.USAGE
    assert "reason required" in result.stderr
    assert "--reason TEXT" in result.stderr
    assert "reason required" in on_the_host(house, "device.pair.approve", requestId=request)
    assert house.say("devices", "approve", request, "--reason", "the lamp in the hall").startswith("Approved ")
