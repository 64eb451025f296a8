"""`pairing hooks` against a gateway that is killed between sending and keeping, one of two, and on the log where none runs."""

from pathlib import Path

import anyio
import anyio.to_thread

from pairing.refusals import Exit
from tests.houses import House, started, stopped
from tests.receiver import Answer, Message, receiving


async def _off_loop(work, *args):  # type: ignore[no-untyped-def]
    return await anyio.to_thread.run_sync(work, *args)


def _kept(house: House) -> None:
    """Return once what was delivered is kept; before that a crash would repeat it."""
    for _ in range(50):
        if house.json("hooks", "list")["hooks"][0]["lag"] == 0:
            return
    raise AssertionError("the hook stays behind")


def _house(tmp_path: Path) -> House:
    house = House(tmp_path)
    house.say("config", "set", "gateway.hooks.allowPrivate", "true")
    return house


async def test_a_gateway_that_is_killed_while_it_delivers_leaves_nothing_out(tmp_path: Path) -> None:
    """D9: kill -9 between the receiver's taking and our keeping gives a repeat under the same id, never a gap."""
    house = _house(tmp_path)
    gateway = await _off_loop(started, house)
    async with receiving() as receiver:
        added = await _off_loop(house.json, "hooks", "add", receiver.url)
        assert added["secret"].startswith("whsec_")
        taken_in_vain: list[Message] = []

        def dawdle(message: Message) -> Answer:
            # Taken, and its sender will not live to hear of it.
            taken_in_vain.append(message)
            return Answer(204, delay=30)

        receiver.answer = dawdle
        request = await _off_loop(house.request, "phone")
        await receiver.until(lambda: bool(taken_in_vain))
        with gateway:
            gateway.kill()
        await _off_loop(house.say, "devices", "approve", request)
        receiver.answer = lambda message: Answer()
        gateway = await _off_loop(started, house)
        await receiver.until(lambda: len(receiver.taken) >= 4)
        kinds = [message.kind for message in receiver.taken]
        assert kinds[:4] == ["request.opened", "request.approved", "device.paired", "token.issued"]
        assert receiver.taken[0].id == taken_in_vain[0].id
        assert all(message.signed_with(added["secret"]) for message in receiver.taken)
        ids = [message.id for message in receiver.taken]
        assert len(ids) == len(set(ids))
    await _off_loop(stopped, gateway)


async def test_of_two_gateways_on_one_log_one_delivers_and_the_other_takes_over(tmp_path: Path) -> None:
    """D4: every event once while both live; when the one that delivers dies, the other goes on where it was."""
    house, beside = _house(tmp_path), House(tmp_path)
    first = await _off_loop(started, house)
    async with receiving() as receiver:
        await _off_loop(house.json, "hooks", "add", receiver.url, "--kinds", "request.opened")
        await _off_loop(house.request, "one")
        await receiver.until(lambda: len(receiver.taken) == 1)
        second = await _off_loop(started, beside)
        await _off_loop(house.request, "two")
        await receiver.until(lambda: len(receiver.taken) == 2)
        await _off_loop(_kept, house)
        with first:
            first.kill()
        await _off_loop(beside.request, "three")
        await receiver.until(lambda: len(receiver.taken) == 3)
        await anyio.sleep(0.2)
        assert [message.kind for message in receiver.attempts] == ["request.opened"] * 3
    await _off_loop(stopped, second)


def test_hooks_are_managed_on_the_log_where_no_gateway_runs(tmp_path: Path) -> None:
    """L12, L14: every answer names what was recorded, every refusal the next command; nothing is sent by looking."""
    house = House(tmp_path)
    stopped(started(house))
    refused = house.json("hooks", "add", "http://127.0.0.1:9/in", exit=Exit.USAGE)
    assert refused["error"]["reason"] == "hook-url"
    assert "gateway.hooks.allowPrivate" in refused["error"]["hint"]
    query = house.json("hooks", "add", "https://example.org/?key=abc", exit=Exit.USAGE)
    assert "abc" not in str(query)
    assert (
        house.json("hooks", "add", "https://example.org/", "--kinds", "request.open", exit=Exit.USAGE)["error"]["reason"]
        == "hook-kinds"
    )
    assert house.say("hooks", "list") == "There is no hook.\n"
    added = house.json("hooks", "add", "https://example.org/in", "--kinds", "request.*,token.revoked", "--reason", "the pager")
    hook = added["hookId"]
    assert added["recorded"]["kind"] == "hook.added"
    shown = house.say("hooks", "list")
    assert added["secret"] not in shown
    for words in (
        "to              https://example.org/in",
        "events          request.*, token.revoked",
        "status          sending",
    ):
        assert f"  {words}\n" in shown
    assert "recorded as hook.paused" in house.say("hooks", "pause", hook[:6])
    assert house.say("hooks", "pause", hook).startswith("Paused before")
    assert "status          paused (asked)" in house.say("hooks", "list")
    assert "recorded as hook.resumed" in house.say("hooks", "resume", hook)
    assert "recorded as hook.replayed" in house.say("hooks", "replay", hook, "--from", "0")
    assert house.json("hooks", "replay", hook, "--from", "99999", exit=Exit.USAGE)["error"]["reason"] == "invalid-params"
    assert "recorded as hook.removed" in house.say("hooks", "remove", hook)
    assert house.json("hooks", "remove", hook, exit=Exit.NOT_FOUND)["error"]["reason"] == "unknown-hook"
