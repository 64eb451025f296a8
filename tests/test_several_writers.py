"""Two gateways and the command line's local door on one state folder at the same time: one log, one truth, told by both."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from cli.compose import local_caller, open_service
from pairing import methods
from pairing import settings as configured
from pairing.device import INITIAL
from pairing.events import device_stream
from pairing.evolve import evolve
from pairing.log import chain
from pairing.log.codec import decode, decode_meta
from pairing.log.sqlite import SqliteLog
from pairing.refusals import Refused
from pairing.service import Service
from projections.views import Views

READ, ADMIN = ("operator.read",), ("operator.admin",)


def _peer() -> ModuleType:
    """Import the wire's other side, which campaigns and benches share."""
    if "peer" not in sys.modules:
        path = Path(__file__).resolve().parents[1] / "scripts" / "peer.py"
        spec = util.spec_from_file_location("peer", path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["peer"] = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["peer"]


peer = _peer()


@dataclass
class Place:
    """One state folder with two gateways on it."""

    home: Path
    ports: tuple[int, int]
    chance: random.Random

    def device(self) -> Any:
        return peer.identity(self.chance)

    async def operator(self, side: int) -> Any:
        return await peer.inside(self.ports[side], self.device(), scopes=ADMIN)

    async def asking(self, side: int, device: Any) -> str:
        """Let a device ask from elsewhere, and return its request."""
        refused = await peer.dial(self.ports[side], device, scopes=READ, address=peer.elsewhere(self.chance))
        assert refused.code == "PAIRING_REQUIRED", refused
        return str(refused.details["requestId"])

    async def paired(self, operator: Any, side: int) -> tuple[Any, str]:
        """Pair a device from elsewhere, and return it with its token."""
        device = self.device()
        await operator.call("device.pair.approve", {"requestId": await self.asking(side, device)})
        session = await self.back(side, device)
        await session.close()
        return device, session.token

    async def back(self, side: int, device: Any, token: str | None = None) -> Any:
        return await peer.inside(self.ports[side], device, scopes=READ, token=token, address=peer.elsewhere(self.chance))

    @asynccontextmanager
    async def door(self) -> AsyncIterator["Door"]:
        """Open the local door, as the command line does where no gateway answers."""
        rules = configured.load(self.home, env={}, flags={"gateway.auth.token": peer.TOKEN})
        async with open_service(rules) as service:
            yield Door(service)

    @asynccontextmanager
    async def log(self) -> AsyncIterator[SqliteLog]:
        log = await SqliteLog.open(self.home / "log.db", readonly=True)
        yield log
        await log.close()


class Door:
    """The methods on the log itself, answered as a session answers them."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        try:
            raw = msgspec.Raw(msgspec.json.encode(params or {}))
            return msgspec.to_builtins(await methods.call(self.service, local_caller(), method, raw))
        except Refused as refused:
            raise peer.CallFailed(refused.message, refused.details) from None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("several") / "home"
    with peer.serving(home) as one, peer.serving(home) as two:
        yield Place(home, (one.port, two.port), random.Random(11))
        assert "Traceback" not in one.said()


async def sure(place: Place) -> dict[str, Any]:
    """Check the log and the views that all have written, and return the states of all devices."""
    states: dict[str, Any] = {}
    async with place.log() as log:
        rows = await log.scan(limit=100_000)
        assert chain.verify(rows) is None
        assert await log.examine() == ()
        for row in rows:
            if row.stream != "gateway":
                states[row.stream] = evolve(states.get(row.stream, INITIAL), decode(row))  # type: ignore[arg-type]
        shared, anew = await Views.open(log, place.home / "views.db"), await Views.open(log, None)
        for ask in ("pending", "paired", "damaged"):
            assert await getattr(shared, ask)() == await getattr(anew, ask)()
        assert {device_stream(row.device) for row in (await anew.paired()).rows} == {s for s in states if states[s].grant}
        await shared.close()
        await anew.close()
    return states


async def test_no_event_is_lost_and_no_version_given_twice_whoever_writes(place: Place):
    """D4, D5, D6: three processes change the same devices at once; every answer is a row of its own, views are right."""
    one, two = await place.operator(0), await place.operator(1)
    devices = [await place.paired(one, number % 2) for number in range(4)]
    receipts: list[tuple[int, str, str]] = []
    refusals: list[str] = []

    async def work(who: Any, chance: random.Random) -> None:
        for turn in range(25):
            device, _ = chance.choice(devices)
            target = {"deviceId": device.device, "receipt": True}
            method, params = chance.choice(
                (
                    ("device.pair.rename", {**target, "label": f"{id(who)} {turn}"}),
                    ("device.token.rotate", {**target, "role": "operator"}),
                    ("device.token.revoke", {**target, "role": "operator"}),
                )
            )
            try:
                told = (await who.call(method, params))["recorded"]
                receipts.append((told["position"], told["kind"], device_stream(device.device)))
            except peer.CallFailed as failed:
                refusals.append(failed.message)

    async def arrive(side: int, operator: Any) -> None:
        for turn in range(8):
            answer = "approve" if turn % 2 else "reject"
            request = await place.asking(side, place.device())
            told = await operator.call(f"device.pair.{answer}", {"requestId": request, "receipt": True})
            receipts.append((told["recorded"]["position"], told["recorded"]["kind"], ""))

    async with place.door() as door:
        workers = [work(who, random.Random(number)) for number, who in enumerate((one, two, door))]
        await asyncio.gather(*workers, arrive(0, two), arrive(1, one))
    assert refusals == []
    assert len(receipts) == 91
    assert len({position for position, _, _ in receipts}) == 91
    async with place.log() as log:
        rows = {row.position: row for row in await log.scan(limit=100_000)}
    for position, kind, stream in receipts:
        assert rows[position].kind == kind
        assert stream in {"", rows[position].stream}
    assert {decode_meta(row).actor.kind for row in rows.values()} >= {"shared-secret", "device", "local"}
    states = await sure(place)
    for session in (one, two):
        listed = await session.call("device.pair.list")
        assert {device_stream(entry["deviceId"]) for entry in listed["paired"]} == {s for s in states if states[s].grant}
        await session.close()


@pytest.mark.parametrize("by", ["the other gateway", "the local door"])
@pytest.mark.parametrize("how", ["remove", "rotate", "revoke"])
async def test_a_session_is_closed_whichever_process_ends_its_credential(place: Place, by: str, how: str):
    """V1, V2: 4001 to the session on one gateway when another process removed, rotated or revoked; the token is dead at once."""
    one = await place.operator(0)
    async with place.door() as door:
        for _ in range(5):
            device, token = await place.paired(one, 1)
            session = await place.back(1, device, token)
            asker = one if by == "the other gateway" else door
            target = {"deviceId": device.device} | ({} if how == "remove" else {"role": "operator"})
            await asker.call("device.pair.remove" if how == "remove" else f"device.token.{how}", target)
            # The other gateway has not been told by anybody: it must look for itself before it lets the token in.
            again = await peer.dial(place.ports[1], device, scopes=READ, token=token, address=peer.elsewhere(place.chance))
            assert isinstance(again, peer.Turned)
            assert (await asyncio.wait_for(session.ended, 10))[:2] == (4001, "device removed")
    await one.close()


async def test_news_is_told_by_both_gateways_whoever_made_it(place: Place):
    """R5: what one gateway opens and another process answers is announced once to every operator of each."""
    one, two = await place.operator(0), await place.operator(1)
    by_one = await place.asking(0, place.device())
    by_two = await place.asking(1, place.device())
    async with place.door() as door:
        await door.call("device.pair.approve", {"requestId": by_one})
        await one.call("device.pair.reject", {"requestId": by_two})
    for session in (one, two):
        told: list[tuple[str, str, str]] = []
        async with asyncio.timeout(10):
            while len(told) < 4:
                await asyncio.sleep(0.01)
                payloads = [(frame["event"], frame["payload"]) for frame in session.events]
                told = [
                    (name, payload["requestId"], payload.get("decision", ""))
                    for name, payload in payloads
                    if payload.get("requestId") in {by_one, by_two}
                ]
        assert sorted(told) == sorted(
            [
                ("device.pair.requested", by_one, ""),
                ("device.pair.resolved", by_one, "approved"),
                ("device.pair.requested", by_two, ""),
                ("device.pair.resolved", by_two, "rejected"),
            ]
        )
        await session.close()


async def test_of_two_answers_to_one_request_the_first_holds_and_the_second_is_told_of_it(place: Place):
    """R6, R8, A1: approve and reject race on two gateways; one is recorded, the other refused with the truth."""
    one, two = await place.operator(0), await place.operator(1)
    for _ in range(10):
        request = await place.asking(0, place.device())
        answers = await asyncio.gather(
            one.call("device.pair.approve", {"requestId": request, "receipt": True}),
            two.call("device.pair.reject", {"requestId": request, "receipt": True}),
            return_exceptions=True,
        )
        lost = [answer for answer in answers if isinstance(answer, peer.CallFailed)]
        assert len(lost) == 1, answers
        outcome = "rejected" if answers.index(lost[0]) == 0 else "approved"
        assert (lost[0].message, lost[0].details["outcome"]) == ("unknown requestId", outcome)
    await one.close()
    await two.close()
    await sure(place)


async def test_an_operator_who_was_revoked_elsewhere_changes_nothing_more(place: Place):
    """V1, R8: its next command on the other gateway is refused or unheard, however soon it comes; no row of it follows."""
    one = await place.operator(0)
    target, _ = await place.paired(one, 0)
    for turn in range(5):
        device = place.device()
        token = (await _admin(place, one, device)).token
        fallen = await peer.inside(place.ports[1], device, scopes=ADMIN, token=token, address=peer.elsewhere(place.chance))
        rename = {"deviceId": target.device, "label": f"before {turn}"}
        assert (await fallen.call("device.pair.rename", rename))["label"] == f"before {turn}"
        told = await one.call("device.token.revoke", {"deviceId": device.device, "role": "operator", "receipt": True})
        with pytest.raises((peer.CallFailed, *peer.LOST)):
            await fallen.call("device.pair.rename", {"deviceId": target.device, "label": f"after {turn}"})
        assert (await asyncio.wait_for(fallen.ended, 10))[:2] == (4001, "device removed")
        async with place.log() as log:
            later = await log.scan(after=told["recorded"]["position"])
        assert device.device not in {decode_meta(row).actor.id for row in later}
    await one.close()


async def _admin(place: Place, operator: Any, device: Any) -> Any:
    """Pair a device from elsewhere with every operator right."""
    refused = await peer.dial(place.ports[0], device, scopes=ADMIN, address=peer.elsewhere(place.chance))
    await operator.call("device.pair.approve", {"requestId": refused.details["requestId"]})
    session = await peer.inside(place.ports[0], device, scopes=ADMIN, address=peer.elsewhere(place.chance))
    await session.close()
    return session
