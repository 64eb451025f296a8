"""A busy gateway's years, as the service itself would have recorded them: dice choose who comes and who acts, the heart decides.

Every event is one that `decide` gave for a command, under the authority of who asked, so that whatever reads logs can be measured
on it. The same for the same seed, key included. Read `lives` first; `write` makes a state folder of it.
"""

import hashlib
import random
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_desk import build
from bench_history import START, Command, records

from pairing import keyring
from pairing import settings as configured
from pairing.authority import NODE, OPERATOR, OPERATOR_SCOPES
from pairing.commands import (
    Acknowledge,
    Approve,
    ApproveNode,
    AskNode,
    Caller,
    Deliver,
    DeviceCommand,
    EnrolmentCommand,
    Expire,
    Knock,
    Lock,
    Mint,
    NodeCommand,
    Redeem,
    Reject,
    Remove,
    Rename,
    RenameNode,
    Revoke,
    Rotate,
    Silence,
    Standing,
    Start,
    Stop,
    Unlock,
    VoidCode,
    Wanted,
)
from pairing.commands import Ban as LockTerms
from pairing.decide import decide
from pairing.device import INITIAL
from pairing.enrolment import Enrolment, decide_enrolment, evolve_enrolment
from pairing.events import GATEWAY_STREAM, Actor, AnyEvent, Meta, Personal, device_stream, enrolment_stream, node_stream
from pairing.evolve import evolve
from pairing.identity import b64url, device_id
from pairing.nodes import NodeState, decide_node, evolve_node
from pairing.policy import EMPTY_HOUSE, decide_house, evolve_house
from pairing.redemption import redeem
from pairing.refusals import Refused
from pairing.tokens import GatewayKey, Keyring

READ, WRITE = ("operator.read",), ("operator.read", "operator.write")
_TTL = 300_000
_HOUR = 3_600_000
_OPERATORS_EVERY = 4_000
_NEEDS = ("not-paired", "scope-upgrade", "metadata-upgrade")
_REASONS = ("new phone", "left the team", "found again", "quarterly rotation", "asked for by phone", "seen at the desk")
_PEOPLE = ("Ada", "Grace", "Edsger", "Barbara", "Tony", "Radia")
_KINDS = (("linux", None, "openclaw", "cli"), ("ios", "iPhone", "openclaw-ios", "ui"), ("darwin", "Mac", "openclaw-macos", "ui"))
_TIMER = Caller(actor=Actor("timer"), scopes=None)


def name(number: int) -> str:
    """Return the id of the n-th device."""
    return device_id(_key(number))


def _key(number: int) -> bytes:
    return hashlib.sha256(b"bench key %d" % number).digest()


class Life:
    """One device as it is, and how it presents itself."""

    def __init__(self, number: int, dice: random.Random) -> None:
        self.number, self.id = number, name(number)
        self.key = b64url(_key(number))
        self.node = dice.randrange(5) == 0 and not self.operator
        self.kind = _KINDS[dice.randrange(len(_KINDS))]
        self.name = f"{dice.choice(_PEOPLE)}'s {self.kind[1] or 'host'} {number}"
        self.address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        self.state, self.surface = INITIAL, NodeState()

    @property
    def operator(self) -> bool:
        """Say whether this is one of the few that approve others: the second device, and every few thousandth."""
        return self.number == 1 or self.number % _OPERATORS_EVERY == 0


class Town:
    """Everybody, the clock, and the commands they give. `happen` yields what came of one turn of the dice."""

    def __init__(self, key: GatewayKey, devices: int, seed: int) -> None:
        self.dice, self.key, self.most = random.Random(seed), key, devices
        self.there: list[Life] = []
        self.operators: list[Life] = []
        self.waiting: deque[tuple[int, Life, str]] = deque()
        self.codes: list[tuple[str, Enrolment]] = []
        self.house, self.now = EMPTY_HOUSE, START
        self.under = key.tag("shared-secret", "token", "bench")
        self.policy = self._hex()[:16]

    def begin(self, instance: str) -> Iterator[Command]:
        """A gateway starts; one that served before has stopped."""
        for old in self.house.serving:
            yield from self._gateway(Stop(instance=old, **self._stamp(_TIMER)))
        start = Start(
            instance=instance,
            version="0.1.0",
            listen="127.0.0.1:18789",
            key=self.key.id,
            ruling=self.policy,
            secret=self.under,
            settings={},
            **self._stamp(_TIMER),
        )
        yield from self._gateway(start)

    def happen(self) -> Iterator[Command]:
        """Yield the commands of one turn: somebody new, or something that happens to somebody who is there."""
        self.now += self.dice.randrange(1, 90_000)
        while self.waiting and self.waiting[0][0] < self.now:
            _, life, request = self.waiting.popleft()
            yield from self._do(life, Expire(device=life.id, request=request, **self._stamp(_TIMER)))
        if len(self.there) < self.most and (not self.there or self.dice.randrange(5) == 0):
            life = Life(len(self.there), self.dice)
            self.there.append(life)
            yield from self._arrive(life)
        else:
            yield from self._live(self.dice.choice(self.there))

    # --- who comes in ---

    def _arrive(self, life: Life) -> Iterator[Command]:
        roll = self.dice.randrange(20)
        if life.operator:
            yield from self._asked(life, OPERATOR_SCOPES, Silence("silent", _NEEDS, OPERATOR_SCOPES))
            self.operators.append(life)
        elif roll == 0:
            yield from self._by_code(life)
        elif roll < 3 and not life.node:
            yield from self._asked(life, READ, Silence("silent", _NEEDS, READ))
        elif life.node and roll < 8:
            yield from self._asked(life, (), Silence("trusted-cidr", ("not-paired",), ()))
        else:
            yield from self._review(life, () if life.node else READ)

    def _review(self, life: Life, scopes: tuple[str, ...]) -> Iterator[Command]:
        """A device asks, and most of the time somebody answers."""
        yield from self._asked(life, scopes, None)
        pending, roll = life.state.pending, self.dice.randrange(20)
        if pending is None:
            return
        if roll == 0:
            life.name = f"{life.name} again"
            yield from self._asked(life, scopes, None)
        if roll == 1:
            self.waiting.append((pending.expires_at, life, pending.request))
            return
        self.now += self.dice.randrange(500, 30_000)
        told = {"device": life.id, "request": pending.request, **self._by_somebody()}
        if roll == 2:
            yield from self._do(life, Reject(**told))
        else:
            yield from self._do(life, Approve(**told, issue=self._hex(), key=self.key.id, seen=None, under=self.under))

    def _asked(self, life: Life, scopes: tuple[str, ...], silence: Silence | None) -> Iterator[Command]:
        yield from self._do(life, self._knock(life, scopes, silence))

    def _knock(self, life: Life, scopes: tuple[str, ...], silence: Silence | None) -> Knock:
        platform, family, client, mode = life.kind
        agent = f"{client}/2026.{self.dice.randrange(1, 12)}"
        return Knock(
            device=life.id,
            wanted=Wanted(
                key=life.key,
                role=NODE if life.node else OPERATOR,
                scopes=scopes,
                platform=platform,
                family=family,
                under=self.under,
            ),
            client_id=client,
            client_mode=mode,
            request=self._uuid(4),
            issue=self._hex(),
            key=self.key.id,
            seen=self.key.tag("seen", life.name, life.address, agent, platform, family, client, mode),
            named=self.key.tag("named", life.name),
            ttl=_TTL,
            silence=silence,
            **self._stamp(self._itself(life)),
            personal=Personal(salt=self._hex(), name=life.name, address=life.address, agent=agent),
        )

    def _by_code(self, life: Life) -> Iterator[Command]:
        if not self.codes or self.dice.randrange(3) == 0:
            yield from self._mint()
        code, state = self.codes[-1]
        knock = self._knock(life, () if life.node else READ, None)
        asked = Redeem(code=code, knock=knock, id=knock.id, now=knock.now, by=knock.by, personal=knock.personal)
        minter = next((one.state for one in self.operators if state.code and one.id == state.code.minter), None)
        try:
            news, events = redeem(state, life.state, minter, asked)
        except Refused:
            return
        for event in events:
            life.state = evolve(life.state, event)
        meta = self._meta(asked)
        if news:
            yield enrolment_stream(code), self._code(news), meta, None
        if events:
            yield device_stream(life.id), events, meta, asked.personal
        for step in (Deliver, Acknowledge):
            self.now += 20
            yield from self._enrol(step(code=code, device=life.id, **self._stamp(self._itself(life))))

    def _mint(self) -> Iterator[Command]:
        if self.codes and self.dice.randrange(4) == 0:
            yield from self._enrol(VoidCode(code=self.codes[-1][0], **self._by_somebody()))
        code = self._hex()[:16]
        self.codes.append((code, Enrolment()))
        minted = Mint(
            code=code,
            secret=self._hex() + self._hex(),
            key=self.key.id,
            profile="custom",
            roles=(OPERATOR, NODE),
            scopes=READ,
            uses=20,
            approves=True,
            expires_at=self.now + 48 * _HOUR,
            **self._by_somebody(),
        )
        yield from self._enrol(minted)

    # --- what happens to who is in ---

    def _live(self, life: Life) -> Iterator[Command]:
        role, roll = NODE if life.node else OPERATOR, self.dice.randrange(100)
        if life.state.lock is not None:
            yield from self._do(life, Unlock(device=life.id, **self._by_somebody()))
        elif life.state.grant is None:
            if life.state.pending is None and roll < 60:
                yield from self._review(life, () if life.node else READ)
        elif roll < 45:
            yield from self._rotate(life, role, compromised=roll == 0)
        elif roll < 55:
            life.name = f"{life.name.split(' (')[0]} ({self.dice.randrange(100)})"
            yield from self._asked(life, () if life.node else life.state.grant.scopes, None)
        elif roll < 65 and not life.node:
            yield from self._review(life, WRITE)
        elif roll < 72 and life.node:
            yield from self._surface(life)
        elif roll < 80:
            yield from self._label(life)
        elif not life.operator:
            yield from self._end(life, role, roll)

    def _rotate(self, life: Life, role: str, *, compromised: bool) -> Iterator[Command]:
        by = self._by_somebody() if self.dice.randrange(2) else self._stamp(self._holder(life))
        turn = Rotate(
            device=life.id,
            role=role,
            scopes=None,
            issue=f"{self._hex()}.{role}",
            key=self.key.id,
            compromised=compromised,
            **by,
        )
        yield from self._do(life, turn)

    def _label(self, life: Life) -> Iterator[Command]:
        label = f"{life.name.split(' ')[0].lower()}-{life.number}-{self.dice.randrange(100)}"
        asked = self._by_somebody()
        asked["personal"] = Personal(salt=self._hex(), label=label, address=asked["by"].address)
        yield from self._do(life, Rename(device=life.id, labelled=self.key.tag("labelled", label), **asked))

    def _surface(self, life: Life) -> Iterator[Command]:
        request = self._uuid(4)
        ask = AskNode(
            node=life.id,
            request=request,
            caps=("camera",),
            commands=("camera.snap", f"camera.mode{self.dice.randrange(5)}"),
            platform=life.kind[0],
            named=self.key.tag("named", life.name),
            connecting=True,
            since=life.state.grant.created_at if life.state.grant else 0,
            **self._stamp(self._itself(life)),
            personal=Personal(salt=self._hex(), name=life.name, address=life.address),
        )
        yield from self._node(life, ask)
        if self.dice.randrange(4):
            issue = self._hex()
            yield from self._node(
                life, ApproveNode(node=life.id, request=request, issue=issue, key=self.key.id, **self._by_somebody())
            )
        if self.dice.randrange(8) == 0:
            asked = self._by_somebody()
            asked["personal"] = Personal(salt=self._hex(), label=f"camera {life.number}", address=asked["by"].address)
            yield from self._node(life, RenameNode(node=life.id, labelled=self.key.tag("labelled", f"{life.number}"), **asked))

    def _end(self, life: Life, role: str, roll: int) -> Iterator[Command]:
        if roll < 86:
            yield from self._do(life, Revoke(device=life.id, role=role, **self._by_somebody()))
        elif roll < 91:
            yield from self._do(life, Remove(device=life.id, **self._by_somebody()))
        elif roll < 94:
            terms = LockTerms(until=None, message="see the front desk")
            yield from self._do(life, Lock(device=life.id, terms=terms, **self._by_somebody()))

    # --- deciding, and what the desk writes beside it ---

    def _do(self, life: Life, command: DeviceCommand) -> Iterator[Command]:
        try:
            events = decide(life.state, command)
        except Refused:
            return
        for event in events:
            life.state = evolve(life.state, event)
        if events:
            yield device_stream(life.id), events, self._meta(command), command.personal

    def _node(self, life: Life, command: NodeCommand) -> Iterator[Command]:
        try:
            events = decide_node(life.surface, command)
        except Refused:
            return
        for event in events:
            life.surface = evolve_node(life.surface, event)
        if events:
            yield node_stream(life.id), events, self._meta(command), command.personal

    def _enrol(self, command: EnrolmentCommand) -> Iterator[Command]:
        try:
            events = decide_enrolment(self.codes[-1][1], command)
        except Refused:
            return
        if events:
            yield enrolment_stream(command.code), self._code(events), self._meta(command), command.personal

    def _code(self, events: tuple[Any, ...]) -> tuple[AnyEvent, ...]:
        code, state = self.codes[-1]
        for event in events:
            state = evolve_enrolment(state, event)
        self.codes[-1] = (code, state)
        return events

    def _gateway(self, command: Start | Stop) -> Iterator[Command]:
        events = decide_house(self.house, command)
        for event in events:
            self.house = evolve_house(self.house, event)
        if events:
            yield GATEWAY_STREAM, events, self._meta(command), None

    def _meta(self, command: Any) -> Meta:
        by = command.by
        return Meta(
            actor=by.actor,
            command=command.id,
            authority=tuple(dict.fromkeys((*(by.scopes or ()), *by.ceiling))),
            origin=by.origin,
            cause=command.cause,
            reason=command.reason,
            ticket=command.ticket,
            policy=self.policy,
            gateway="0.1.0",
        )

    def _stamp(self, by: Caller) -> dict[str, Any]:
        return {"id": self._uuid(7), "now": self.now, "by": by}

    def _by_somebody(self) -> dict[str, Any]:
        """An operator acts, or the host's own user; sometimes with a reason and a ticket."""
        by = self._operator()
        personal = Personal(salt=self._hex(), address=by.address) if by.address else None
        reason = self.dice.choice(_REASONS) if self.dice.randrange(4) == 0 else None
        ticket = f"OPS-{self.dice.randrange(5_000)}" if reason and self.dice.randrange(2) else None
        return {**self._stamp(by), "personal": personal, "reason": reason, "ticket": ticket}

    def _operator(self) -> Caller:
        if self.dice.randrange(6) == 0:
            return Caller(actor=Actor("local", "1000"), scopes=OPERATOR_SCOPES, method="local", origin="local")
        one = self.dice.choice(self.operators)
        return Caller(
            actor=Actor("shared-secret" if self.dice.randrange(8) == 0 else "device", one.id),
            scopes=OPERATOR_SCOPES,
            standing=Standing(one.id, OPERATOR, None),
            method="device-token",
            origin="direct",
            address=one.address,
        )

    def _itself(self, life: Life) -> Caller:
        return Caller(actor=Actor("device", life.id), scopes=(), method="token", origin="direct", address=life.address)

    def _holder(self, life: Life) -> Caller:
        scopes = life.state.grant.scopes if life.state.grant else ()
        return Caller(
            actor=Actor("device", life.id),
            scopes=tuple(dict.fromkeys((*scopes, "operator.pairing"))),
            own=life.id,
            standing=Standing(life.id, OPERATOR, None),
            method="device-token",
            origin="direct",
            address=life.address,
        )

    def _hex(self) -> str:
        return f"{self.dice.getrandbits(128):032x}"

    def _uuid(self, version: int) -> str:
        text = self._hex() if version == 4 else f"{self.now:012x}{self.dice.getrandbits(80):020x}"
        return f"{text[:8]}-{text[8:12]}-{version}{text[13:16]}-8{text[17:20]}-{text[20:]}"


def gateway_key(seed: int = 1) -> GatewayKey:
    """Return the key of a made-up gateway; it guards nothing."""
    return GatewayKey(hashlib.sha256(b"bench gateway key %d" % seed).digest())


def lives(devices: int, seed: int = 1) -> Iterator[Command]:
    """Yield what each command of many devices' lives wrote, for ever."""
    town, turn = Town(gateway_key(seed), devices, seed), 0
    while True:
        if turn % 20_000 == 0:
            yield from town.begin(f"{turn:032x}")
        yield from town.happen()
        turn += 1


def write(home: Path, events: int, devices: int, seed: int = 1) -> int:
    """Make a state folder with its key and a log of so many events, and return how many they are."""
    configured.ensure_home(home)
    key = home / keyring.FILE
    key.touch(mode=0o600)
    key.write_text(keyring.text(Keyring(gateway_key(seed))))
    return build(home / "log.db", records(lives(devices, seed), events), named=True)


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
