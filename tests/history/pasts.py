"""Pasts: rows of a log as devices, operators and nodes would have caused them, by the decisions; and a service on them."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
from hypothesis import strategies as st

from pairing import methods
from pairing.authority import OPERATOR_SCOPES
from pairing.commands import (
    Approve,
    ApproveNode,
    AskNode,
    Ban,
    Caller,
    Elapse,
    Expire,
    Knock,
    Lock,
    Reject,
    Remove,
    RemoveNode,
    Rename,
    Revoke,
    Rotate,
    Silence,
    Unlock,
    Wanted,
)
from pairing.decide import decide
from pairing.desk import Desk
from pairing.device import INITIAL, Device
from pairing.events import GATEWAY_STREAM, Actor, AnyEvent, Meta, Personal, PolicyChanged, device_stream, node_stream
from pairing.evolve import evolve
from pairing.following import Following
from pairing.ids import uuid7
from pairing.log.chain import GENESIS, link
from pairing.log.codec import decode_meta, draft
from pairing.log.memory import MemoryLog
from pairing.log.port import Draft, Mark, Record, Slice
from pairing.nodes import EMPTY_NODE, NodeState, decide_node, evolve_node
from pairing.refusals import Refused
from pairing.service import Service
from pairing.tokens import GatewayKey, Keyring
from projections.views import Views

START = 1_777_000_000_000
TTL = 300_000
DEVICES = ("a" * 64, "b" * 64)
KEYS = Keyring(GatewayKey(b"k" * 32))
HOST = Caller(actor=Actor("local", "1000"), scopes=OPERATOR_SCOPES, method="local", origin="local")
ALL_NEEDS = ("not-paired", "metadata-upgrade", "role-upgrade", "scope-upgrade")


class Past:
    """A log in the making: commands are decided on the state so far, and what follows is recorded."""

    def __init__(self, now: int = START) -> None:
        self.now = now
        self.records: list[Record] = []
        self.devices: dict[str, Device] = {}
        self.nodes: dict[str, NodeState] = {}
        self.secret: str | None = None
        self._last: Mark = GENESIS
        self._versions: dict[str, int] = {}
        self._names = 0

    @property
    def position(self) -> int:
        return self._last.position

    def name(self, kind: str) -> str:
        """A fresh name, the same in every run."""
        self._names += 1
        return f"{kind}-{self._names}"

    def device(self, device: str = DEVICES[0]) -> Device:
        return self.devices.get(device, INITIAL)

    def rows(self, *streams: str) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.stream in streams)

    def of(self, device: str = DEVICES[0]) -> tuple[Record, ...]:
        """All that a device's rights rest on."""
        return self.rows(device_stream(device), node_stream(device), GATEWAY_STREAM)

    def tell(self, stream: str, *events: AnyEvent, by: Actor = HOST.actor, personal: Personal | None = None) -> "Past":
        """Record events as one command's."""
        meta = Meta(actor=by, command=uuid7(self.now))
        for event in events:
            self._versions[stream] = self._versions.get(stream, 0) + 1
            record = link(self._last, stream, self._versions[stream], self.now, draft(event, meta, personal))
            self.records.append(record)
            self._last = Mark(record.position, record.hash)
        return self

    def do(self, command: Any, personal: Personal | None = None) -> tuple[Any, ...]:
        """Decide a command, record what follows, and return it; nothing where it is refused."""
        try:
            if hasattr(command, "node"):
                events: tuple[Any, ...] = decide_node(self.nodes.get(command.node, EMPTY_NODE), command)
                stream = node_stream(command.node)
                for event in events:
                    self.nodes[command.node] = evolve_node(self.nodes.get(command.node, EMPTY_NODE), event)
            else:
                events = decide(self.device(command.device), command)
                stream = device_stream(command.device)
                for event in events:
                    self.devices[command.device] = evolve(self.device(command.device), event)
        except Refused:
            return ()
        self.tell(stream, *events, by=command.by.actor, personal=personal)
        return events

    def swap_secret(self, secret: str | None) -> "Past":
        """Let the gateway serve under another shared secret."""
        self.secret = secret
        changed = PolicyChanged(at=self.now, policy=self.name("policy"), secret=secret, settings={})
        return self.tell(GATEWAY_STREAM, changed, by=Actor("policy"))

    def base(self, device: str = DEVICES[0], by: Caller = HOST) -> dict[str, Any]:
        return {"id": uuid7(self.now), "now": self.now, "by": by, "device": device}

    def wanted(self, *scopes: str, device: str = DEVICES[0], role: str = "operator", platform: str | None = "linux") -> Wanted:
        return Wanted(key=f"key of {device[:4]}", role=role, scopes=scopes, platform=platform, under=self.secret)

    def knock(
        self,
        *scopes: str,
        device: str = DEVICES[0],
        role: str = "operator",
        silence: Silence | None = None,
        platform: str | None = "linux",
        name: str | None = None,
    ) -> tuple[Any, ...]:
        """Let a device connect with the shared secret."""
        command = Knock(
            **self.base(device, Caller(actor=Actor("device", device), scopes=())),
            wanted=self.wanted(*scopes, device=device, role=role, platform=platform),
            client_id="test",
            client_mode="test",
            request=self.name("request"),
            issue=self.name("issue"),
            key=KEYS.current.id,
            seen=f"seen {name}",
            named=f"named {name}",
            ttl=TTL,
            silence=silence,
        )
        return self.do(command, Personal(salt="00" * 16, name=name, address="192.0.2.7"))

    def approve(self, device: str = DEVICES[0]) -> tuple[Any, ...]:
        pending = self.device(device).pending
        request = pending.request if pending else "none"
        command = Approve(**self.base(device), request=request, issue=self.name("issue"), key=KEYS.current.id, under=self.secret)
        return self.do(command)

    def pair(self, *scopes: str, device: str = DEVICES[0], role: str = "operator", name: str | None = None) -> "Past":
        self.knock(*scopes, device=device, role=role, name=name)
        assert self.approve(device)
        return self

    def take(self, *events: Any, device: str = DEVICES[0]) -> "Past":
        """Record events of a device that nobody has decided here."""
        for event in events:
            self.devices[device] = evolve(self.device(device), event)
        return self.tell(device_stream(device), *events)

    def rotate(
        self, device: str = DEVICES[0], role: str = "operator", scopes: tuple[str, ...] | None = None, **more: Any
    ) -> tuple[Any, ...]:
        key = KEYS.current.id
        return self.do(Rotate(**self.base(device), role=role, scopes=scopes, issue=self.name("issue"), key=key, **more))

    def revoke(self, device: str = DEVICES[0], role: str = "operator") -> tuple[Any, ...]:
        return self.do(Revoke(**self.base(device), role=role))

    def remove(self, device: str = DEVICES[0]) -> tuple[Any, ...]:
        return self.do(Remove(**self.base(device)))

    def reject(self, device: str = DEVICES[0]) -> tuple[Any, ...]:
        pending = self.device(device).pending
        return self.do(Reject(**self.base(device), request=pending.request if pending else "none"))

    def expire(self, device: str = DEVICES[0]) -> tuple[Any, ...]:
        pending = self.device(device).pending
        return self.do(Expire(**self.base(device), request=pending.request if pending else "none"))

    def rename(self, label: str | None, device: str = DEVICES[0]) -> tuple[Any, ...]:
        personal = Personal(salt="00" * 16, label=label) if label else None
        return self.do(Rename(**self.base(device), labelled=label and f"tag of {label}"), personal)

    def token(self, device: str = DEVICES[0], role: str = "operator") -> str:
        """The present token of a device, as it holds it."""
        token = self.device(device).token(role)
        assert token is not None
        return KEYS.current.token(device, role, token.issue)

    def surface(self, *commands: str, device: str = DEVICES[0], approve: bool = True) -> "Past":
        """Let a node ask for commands, and have them approved."""
        base = {key: value for key, value in self.base(device).items() if key != "device"} | {"node": device}
        asked = self.do(AskNode(**base, request=self.name("request"), caps=(), commands=commands, named="n"))
        if asked and approve:
            key = KEYS.current.id
            self.do(ApproveNode(**base, request=asked[0].request, issue=self.name("issue"), key=key))
        return self

    def lay_down(self, device: str = DEVICES[0]) -> None:
        """End the approval of a node's surface."""
        base = {key: value for key, value in self.base(device).items() if key != "device"} | {"node": device}
        self.do(RemoveNode(**base))


SCOPES = ("operator.admin", "operator.pairing", "operator.read", "operator.write", "node.exec")


@st.composite
def pasts(draw: st.DrawFn, most: int = 25, devices: Sequence[str] = DEVICES) -> Past:
    """Any past that decisions allow, on a few devices, under changing secrets."""
    past = Past()
    scopes = st.lists(st.sampled_from(SCOPES), max_size=2).map(tuple)
    roles = st.sampled_from(("operator", "operator", "node"))
    lifetimes = st.sampled_from(((), (), (("operator", 6_000),)))
    silences = st.sampled_from((None, None, Silence("silent", ("not-paired", "scope-upgrade", "role-upgrade"), OPERATOR_SCOPES)))
    for _ in range(draw(st.integers(1, most))):
        past.now += draw(st.sampled_from((0, 1, 5_000, TTL + 1)))
        device, role = draw(st.sampled_from(devices)), draw(roles)
        match draw(st.integers(0, 14)):
            case 0 | 1 | 2:
                platform = draw(st.sampled_from(("linux", "linux", "windows")))
                past.knock(*draw(scopes), device=device, role=role, silence=draw(silences), platform=platform)
            case 3 | 4 | 5:
                past.approve(device)
            case 6:
                handoff = draw(st.sampled_from((0, 0, 4_000)))
                past.rotate(device, role, draw(st.none() | scopes), handoff=handoff, longest=60_000, lifetimes=draw(lifetimes))
            case 7:
                past.revoke(device, role)
            case 8:
                past.remove(device)
            case 9:
                past.rename(draw(st.sampled_from(("Hall", "Porch", None))), device)
            case 10:
                past.swap_secret(draw(st.sampled_from(("S1", "S2", None))))
            case 11:
                past.reject(device) if draw(st.booleans()) else past.expire(device)
            case 12:
                until = draw(st.sampled_from((None, past.now + 4_000)))
                past.do(Lock(**past.base(device), terms=Ban(until=until)))
            case 13:
                past.do(Unlock(**past.base(device)) if draw(st.booleans()) else Elapse(**past.base(device)))
            case _:
                commands = draw(st.sampled_from((("camera.snap",), ("system.run",), ())))
                past.surface(*commands, device=device, approve=draw(st.booleans()))
    return past


async def copy(log: MemoryLog, records: Sequence[Record]) -> None:
    """Write rows into an empty log as they are: their hashes come out the same."""
    for record in records:
        held = Draft(record.kind, record.meta, record.body, record.personal)
        slices = [Slice(record.stream, record.version - 1, (held,))]
        # Each row goes by itself: the rows of one command would otherwise be taken for its repetition.
        command = f"{decode_meta(record).command[:24]}{record.position:012x}"
        done = await log.append(slices, command=command, now=record.recorded_at)
        assert not hasattr(done, "expected"), done


class House:
    """The service on a log, and calls of its methods by the log's owner."""

    def __init__(self, log: MemoryLog, service: Service, views: Views) -> None:
        self.log, self.service, self.views = log, service, views

    @classmethod
    async def on(cls, log: MemoryLog, records: Sequence[Record], *, now: int | None = None, **more: Any) -> "House":
        await copy(log, records)
        views = await Views.open(log, None)
        clock = now if now is not None else (records[-1].recorded_at if records else START)
        service = Service(
            desk=Desk(log, version="test"),
            views=views,
            following=Following(log),
            keyring=KEYS,
            clock=lambda: clock,
            version="test",
            **more,
        )
        return cls(log, service, views)

    async def close(self) -> None:
        await self.views.close()

    @classmethod
    @asynccontextmanager
    async def of(cls, records: Sequence[Record], **more: Any) -> AsyncIterator["House"]:
        """Lend a service on a log of its own."""
        house = await cls.on(MemoryLog(), records, **more)
        try:
            yield house
        finally:
            await house.close()

    async def call(self, method: str, by: Caller = HOST, **params: Any) -> dict[str, Any]:
        """Call a method as the wire would, and return its answer as JSON values."""
        raw = msgspec.Raw(json.dumps(params).encode())
        result = await methods.call(self.service, by, method, raw)
        return cast("dict[str, Any]", msgspec.json.decode(methods.encode(result)))
