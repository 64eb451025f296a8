#!/usr/bin/env python
"""Kill the gateway with SIGKILL at random moments under load, start it again, and check that nothing answered was lost.

    scripts/campaign_kill.py [--rounds 200] [--seed N]

After every kill: each answered command is in the log and to be seen through the methods; the events of each command are there
together or not at all; the chain verifies; views followed agree with views built anew. Exit 1 and the findings otherwise.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peer import LOST, CallFailed, Server, Session, Turned, dial, elsewhere, identity, inside

from pairing.device import INITIAL, Device
from pairing.events import GATEWAY_STREAM, device_stream
from pairing.evolve import evolve
from pairing.identity import Identity
from pairing.log import chain
from pairing.log.codec import decode, decode_meta
from pairing.log.port import Record
from pairing.log.sqlite import SqliteLog
from projections.views import Views

ROUNDS_A_HOME = 20
ADMIN = ("operator.admin",)
PAIRED = ("request.approved", "device.paired", "token.issued")
WHOLE = {
    ("gateway.started",),
    ("gateway.started", "policy.changed"),
    ("policy.changed",),
    ("request.opened",),
    ("request.refreshed",),
    ("request.superseded", "request.opened"),
    ("request.opened", *PAIRED),
    PAIRED,
    ("request.approved", "device.upgraded", "token.rotated"),
    ("request.rejected",),
    ("request.withdrawn", "device.removed"),
    ("device.removed",),
    ("device.described",),
    ("device.renamed",),
    ("token.rotated",),
    ("token.revoked",),
}
"""The kinds that one command stores together; half of one of them is none of them."""


@dataclass
class Peer:
    """A device as an outsider knows it: a `token` that works while `live`, and the dead ones, which never may again.

    `sure`: nothing about it was asked that has not been answered.
    """

    identity: Identity
    address: str
    request: str | None = None
    token: str | None = None
    live: bool = False
    paired: bool = False
    sure: bool = True
    dead: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.identity.device

    def bury(self) -> None:
        """Its token was rotated or revoked, or it was removed."""
        if self.token is not None:
            self.dead.append(self.token)
        self.token, self.live = None, False


@dataclass
class Home:
    """One state folder, what was answered from it, and how far its log was checked."""

    path: Path
    operator: Identity
    peers: list[Peer] = field(default_factory=list)
    receipts: dict[int, tuple[str, str]] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    verifier: chain.Verifier = field(default_factory=chain.Verifier)
    states: dict[str, Device] = field(default_factory=dict)
    rows: dict[int, Record] = field(default_factory=dict)


@dataclass
class Tally:
    """What a campaign has seen."""

    rounds: int = 0
    answered: int = 0
    cut_off: int = 0
    starting: int = 0
    events: int = 0
    ready_s: list[float] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Round:
    """One life of the gateway: load until it is killed, another life to look at what is left."""

    def __init__(self, home: Home, chance: random.Random, tally: Tally) -> None:
        self.home, self.chance, self.tally = home, chance, tally
        self._over = False

    # --- load ---

    async def load(self, server: Server, seconds: float) -> None:
        """Let devices and operators go about their business until the kill."""
        workers = [self._operate(server.port) for _ in range(3)] + [self._arrive(server.port) for _ in range(3)]
        workers += [self._return(server.port) for _ in range(2)]
        tasks = [asyncio.create_task(self._until_lost(worker)) for worker in workers]
        await asyncio.sleep(seconds)
        server.kill()
        self._over = True
        await asyncio.wait_for(asyncio.gather(*tasks), 20)

    async def _until_lost(self, worker: Awaitable[None]) -> None:
        with suppress(*LOST):
            await worker

    async def _idle(self) -> None:
        await asyncio.sleep(0.005)
        if self._over:
            raise ConnectionResetError

    async def _arrive(self, port: int) -> None:
        """New devices ask from elsewhere, with the shared token."""
        while True:
            peer = Peer(identity(self.chance), elsewhere(self.chance), sure=False)
            self.home.peers.append(peer)
            answer = await dial(port, peer.identity, address=peer.address)
            if isinstance(answer, Session) or answer.code != "PAIRING_REQUIRED":
                self.tally.faults.append(f"a new device was not asked to pair: {answer}")
                return
            peer.request, peer.sure = answer.details["requestId"], True
            self.home.requests[answer.details["requestId"]] = peer.id
            self.tally.answered += 1

    async def _return(self, port: int) -> None:
        """Approved devices collect their token with the shared one, and return with it."""
        while True:
            waiting = [peer for peer in self.home.peers if peer.paired and peer.sure]
            if not waiting:
                await self._idle()
                continue
            peer = self.chance.choice(waiting)
            async with _owning(peer):
                known = peer.token if peer.live else None
                answer = await dial(port, peer.identity, token=known, address=peer.address)
                if isinstance(answer, Session):
                    if known is not None and answer.token != known:
                        self.tally.faults.append(f"a live token was answered with another one: {peer.id}")
                    if answer.token is not None:
                        peer.token, peer.live = answer.token, True
                    self.tally.answered += 1
                    await answer.close()
                elif known is None and answer.code == "PAIRING_REQUIRED":
                    peer.request = answer.details["requestId"]
                    self.home.requests[peer.request] = peer.id
                    self.tally.answered += 1
                elif known is not None:
                    self.tally.faults.append(f"a live token was refused: {answer.code} {peer.id}")

    async def _operate(self, port: int) -> None:
        """An operator approves, rejects, renames, rotates, revokes and removes."""
        session = await inside(port, self.home.operator, scopes=ADMIN)
        while True:
            free = [peer for peer in self.home.peers if peer.sure and (peer.request or peer.paired)]
            if not free:
                await self._idle()
                continue
            peer = self.chance.choice(free)
            async with _owning(peer):
                await self._act(session, peer)

    async def _act(self, session: Session, peer: Peer) -> None:
        target = {"deviceId": peer.id}
        token = {**target, "role": "operator"}
        if peer.request is not None:
            verb = self.chance.choice(("approve", "approve", "approve", "reject"))
            await self._call(session, peer, f"device.pair.{verb}", {"requestId": peer.request})
            peer.request, peer.paired = None, peer.paired or verb == "approve"
            return
        match self.chance.choice(("rename", "rename", "rotate", "rotate", "revoke", "remove")):
            case "rename":
                await self._call(session, peer, "device.pair.rename", {**target, "label": f"label {self.chance.random()}"})
            case "rotate":
                await self._call(session, peer, "device.token.rotate", token)
                peer.bury()
            case "revoke":
                await self._call(session, peer, "device.token.revoke", token)
                peer.bury()
            case "remove":
                await self._call(session, peer, "device.pair.remove", target)
                peer.bury()
                peer.request, peer.paired = None, False

    async def _call(self, session: Session, peer: Peer, method: str, params: dict[str, Any]) -> None:
        try:
            answer = await session.call(method, {**params, "receipt": True})
        except LOST:
            self.tally.cut_off += 1
            raise
        except CallFailed as failed:
            self.tally.faults.append(f"{method} failed: {failed.message}")
            raise ConnectionResetError from None
        self.home.receipts[answer["recorded"]["position"]] = (answer["recorded"]["kind"], peer.id)
        self.tally.answered += 1
        self.tally.calls[method] += 1

    # --- what is left ---

    async def inspect(self, port: int) -> None:
        """Compare log, methods, tokens and views with what was answered before the kill."""
        log = await SqliteLog.open(self.home.path / "log.db", readonly=True)
        try:
            await self._log(log)
            await self._views(log)
        finally:
            await log.close()
        session = await inside(port, self.home.operator, scopes=ADMIN)
        await self._methods(session)
        await session.close()
        await self._tokens(port)

    def _fault(self, text: str) -> None:
        self.tally.faults.append(f"round {self.tally.rounds}: {text}")

    async def _log(self, log: SqliteLog) -> None:
        home, groups = self.home, dict[str, list[Record]]()
        for why in await log.examine():
            self._fault(f"the file: {why}")
        while rows := await log.scan(after=home.verifier.mark.position, limit=5000):
            for fault in home.verifier.faults(rows):
                self._fault(f"{fault.stream} at {fault.position}: {fault.why}")
            for row in rows:
                home.rows[row.position] = row
                groups.setdefault(decode_meta(row).command, []).append(row)
                if row.stream != GATEWAY_STREAM:
                    home.states[row.stream] = evolve(home.states.get(row.stream, INITIAL), decode(row))  # type: ignore[arg-type]
        self.tally.events += sum(map(len, groups.values()))
        for command, group in groups.items():
            kinds = tuple(row.kind for row in group)
            if kinds not in WHOLE or group[-1].position - group[0].position != len(group) - 1:
                self._fault(f"command {command} is not whole: {kinds}")
        for position, (kind, device) in home.receipts.items():
            stored = home.rows.get(position)
            if stored is None or (stored.kind, stored.stream) != (kind, device_stream(device)):
                self._fault(f"the answered {kind} at {position} is not in the log")
        opened = {decode(row).request for row in home.rows.values() if row.kind == "request.opened"}  # type: ignore[union-attr]
        for request in home.requests.keys() - opened:
            self._fault(f"the answered request {request} is not in the log")

    async def _views(self, log: SqliteLog) -> None:
        followed, anew = await Views.open(log, self.home.path / "views.db"), await Views.open(log, None)
        try:
            for ask in ("pending", "paired", "damaged"):
                if await getattr(followed, ask)() != await getattr(anew, ask)():
                    self._fault(f"views followed and views built anew differ in {ask}")
        finally:
            await followed.close()
            await anew.close()

    async def _methods(self, session: Session) -> None:
        listed = await session.call("device.pair.list")
        shown = {entry["deviceId"]: entry for entry in listed["paired"]}
        open_now = {entry["deviceId"]: entry["requestId"] for entry in listed["pending"]}
        for stream, state in self.home.states.items():
            device = stream.removeprefix("device:")
            if (state.grant is not None) != (device in shown):
                self._fault(f"{device} is {'missing from' if state.grant else 'wrongly in'} the list")
            if (state.pending.request if state.pending else None) != open_now.get(device):
                self._fault(f"the open request of {device} is not listed as it is")
        for peer in self.home.peers:
            state = self.home.states.get(device_stream(peer.id), INITIAL)
            if peer.sure and (state.grant is not None) != peer.paired:
                self._fault(f"{peer.id} was answered as {'paired' if peer.paired else 'not paired'}, and is not")
            if not peer.sure:
                # Done or not done, and from now on known.
                peer.sure, peer.paired = True, state.grant is not None
                peer.request = state.pending.request if state.pending else None
                peer.token, peer.live = None, False

    async def _tokens(self, port: int) -> None:
        buried = [peer for peer in self.home.peers if peer.dead]
        living = [peer for peer in self.home.peers if peer.live]
        for peer in self.chance.sample(buried, min(4, len(buried))):
            for token in peer.dead[-3:]:
                answer = await dial(port, peer.identity, token=token, address=elsewhere(self.chance))
                if isinstance(answer, Session):
                    self._fault(f"a dead token is let in: {peer.id}")
                    await answer.close()
                elif answer.code != "AUTH_DEVICE_TOKEN_MISMATCH":
                    self._fault(f"a dead token is refused as {answer.code}")
        for peer in self.chance.sample(living, min(4, len(living))):
            answer = await dial(port, peer.identity, token=peer.token, address=peer.address)
            if isinstance(answer, Turned):
                self._fault(f"a live token is refused: {answer.code} {peer.id}")
            else:
                await answer.close()


class _owning:
    """One command about a device at a time, so that its outcome is known; if no answer comes, it is not."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def __aenter__(self) -> None:
        self._peer.sure = False

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._peer.sure = kind is None


async def campaign(folder: Path, rounds: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Tally:
    """Run some rounds in a folder and return what was seen."""
    chance, tally = random.Random(seed), Tally()
    server: Server | None = None
    home: Home | None = None
    try:
        while tally.rounds < rounds and not tally.faults:
            if home is None or server is None or tally.rounds % ROUNDS_A_HOME == 0:
                if server is not None:
                    server.kill()
                home = Home(folder / f"home-{tally.rounds}", identity(chance))
                server = await _started(home, chance, tally)
            tally.rounds += 1
            life = Round(home, chance, tally)
            await life.load(server, chance.uniform(0.05, 0.7))
            server = await _started(home, chance, tally)
            await asyncio.wait_for(life.inspect(server.port), 60)
            if "Traceback" in server.said() or '"error"' in server.said():
                tally.faults.append(f"round {tally.rounds}: the gateway said: {server.said()[-3000:]}")
            say(
                f"round {tally.rounds}: {tally.answered} answered, {tally.events} events, ready in {server.ready_s * 1000:.0f} ms"
            )
    finally:
        if server is not None:
            server.kill()
    return tally


async def _started(home: Home, chance: random.Random, tally: Tally) -> Server:
    """Start the gateway; now and then kill it while it starts, and start it again."""
    while chance.random() < 0.2:
        server = Server(home.path)
        await asyncio.sleep(chance.uniform(0.0, 0.6))
        server.kill()
        tally.starting += 1
    server = Server(home.path)
    tally.ready_s.append(await asyncio.to_thread(server.ready))
    return server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--dir", type=Path, help="where the state folders go; they stay there if something is found")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.rounds} rounds")
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="campaign-kill-", dir=options.dir))
    tally = asyncio.run(campaign(folder, options.rounds, options.seed, lambda line: print(line, end="\r", flush=True)))
    if not tally.faults:
        shutil.rmtree(folder)
    ready = sorted(tally.ready_s)
    print(f"\n{tally.rounds} kills under load and {tally.starting} while starting, in {time.monotonic() - began:.0f} s")
    print(f"{tally.answered} answered commands, {tally.cut_off} cut off, {tally.events} events checked; {dict(tally.calls)}")
    print(f"ready again after {statistics.median(ready):.2f} s in the middle, {ready[-1]:.2f} s at most")
    for fault in tally.faults:
        print("FAULT", fault)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
