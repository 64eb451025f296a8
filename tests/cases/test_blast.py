"""What follows from whom: devices, codes and nodes that got in because of somebody, and shutting all of it out."""

from collections.abc import Awaitable, Callable
from typing import Any

from pairing import setup_code

from .conftest import Client, World

Make = Callable[..., Awaitable[World]]
READ = ("operator.read",)


async def found(by: Client, what: str, **more: Any) -> dict[str, tuple[str, int, str | None]]:
    """By id: how it got in, how far away, and because of whom."""
    answer = await by.call("blast.find", {"what": what, **more})
    assert answer.ok, answer.error
    return {one["id"]: (one["how"], one["depth"], one.get("because")) for one in answer.payload["reached"]}


async def operator(w: World, by: Client) -> tuple[str, Client]:
    """An operator on its own device, whom somebody let in from afar."""
    device = w.device()
    await w.grant(by, device, scopes=("operator.admin",))
    first = await w.inside(device, remote=True, scopes=("operator.admin",))
    session = await w.session(device, first.token, scopes=("operator.admin",))
    return device.device, session


async def test_whoever_a_device_let_in_follows_from_it_and_whom_those_let_in_too(world: Make) -> None:
    """By cause: each is named with the event that let it in, and with whom it follows from."""
    w = await world()
    admin = await w.admin()
    rogue, session = await operator(w, admin)
    accomplice, other = await operator(w, session)
    victim, bystander = w.device(), w.device()
    await w.grant(other, victim, scopes=READ)
    await w.grant(admin, bystander, scopes=READ)
    reached = await found(admin, rogue)
    assert reached[rogue] == ("root", 0, None)
    assert reached[accomplice] == ("paired", 1, rogue)
    assert reached[victim.device] == ("paired", 2, accomplice)
    assert bystander.device not in reached


async def test_a_code_and_who_came_by_it_follow_from_whoever_minted_it(world: Make) -> None:
    """B6: minting is letting in."""
    w = await world()
    admin = await w.admin()
    rogue, session = await operator(w, admin)
    minted = await session.call("enroll.new", {"profile": "node", "url": "wss://gateway.example"})
    assert minted.ok, minted.error
    code = setup_code.decode(minted.payload["setupCode"])
    assert code is not None
    (mine,) = [id for id, (how, _, _) in (await found(admin, rogue)).items() if how == "minted"]
    phone = w.device()
    await w.inside(phone, role="node", scopes=(), auth={"bootstrapToken": code.bootstrap_token}, remote=True)
    assert (await found(admin, mine))[phone.device] == ("redeemed", 1, mine)
    assert (await found(admin, rogue))[phone.device] == ("redeemed", 2, mine)


async def test_an_address_leads_to_who_asked_from_there(world: Make) -> None:
    """Where a device asked from is on record with what it asked."""
    w = await world({"gateway.trustedProxies": ["127.0.0.1"]})
    admin, device, other = await w.admin(), w.device(), w.device()
    await w.grant(admin, device, scopes=READ, remote=False, via="203.0.113.9")
    await w.grant(admin, other, scopes=READ, remote=False, via="198.51.100.7")
    reached = await found(admin, "203.0.113.9")
    assert (reached[device.device][0], other.device in reached) == ("asked-from", False)


async def test_a_session_bound_to_its_device_finds_nobody(world: Make) -> None:
    """A8: who let whom in is not for everybody."""
    w = await world()
    admin, device = await w.admin(), w.device()
    first = await w.grant(admin, device, scopes=("operator.pairing",))
    bound = await w.session(device, first.token, scopes=("operator.pairing",))
    answer = await bound.call("blast.find", {"what": device.device})
    assert (answer.ok, answer.message) == (False, "unknown deviceId")


async def test_what_nobody_knows_is_refused(world: Make) -> None:
    """L14: a name that means no device means nothing."""
    w = await world()
    answer = await (await w.admin()).call("blast.find", {"what": "no-such-device"})
    assert (answer.ok, answer.message) == (False, "unknown deviceId")
