"""Taking the devices of an OpenClaw store over: each by one command at the desk, in one line of cause. It reads no file.

Values of tokens end here: what goes on is their keyed hash.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from pairing import ids
from pairing.adoption import adopt
from pairing.commands import Caller, ImportDevice, ImportNode, Vouched
from pairing.events import Personal
from pairing.nodes import adopt_node
from pairing.refusals import PairingError, Refused
from pairing.service import Service

from . import records
from .records import HeldDevice, HeldNode, Unplaced
from .stores import Store

Outcome: TypeAlias = Literal["imported", "already-here", "not-placed"]


class Line(Struct, frozen=True, kw_only=True):
    """What became of one device or node. `position` of its event, 0 where there is none; `why` where it was not placed."""

    kind: Literal["device", "node"]
    id: str
    outcome: Outcome
    name: str | None = None
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    tokens: int = 0
    position: int = 0
    why: str | None = None


class Report(Struct, frozen=True):
    """What an import did, or would do: a line for each device and node, what could not be placed, and what nobody needs here."""

    lines: tuple[Line, ...]
    unplaced: tuple[Unplaced, ...]
    left: tuple[Unplaced, ...]

    def count(self, outcome: Outcome, kind: str = "device") -> int:
        """Count the lines of one outcome."""
        return sum(line.outcome == outcome and line.kind == kind for line in self.lines)


Watch: TypeAlias = Callable[[int, int], None]


async def move(service: Service, caller: Caller, store: Store, words: Mapping[str, Any], *, dry: bool, watch: Watch) -> Report:
    """Import a store; `dry` only says what would come of it. `watch` is told how many of how many are done.

    It can be repeated: what is here already stays as it is. Raises `LogUnavailable`.
    """
    mover = _Mover(service, caller, store, words, dry)
    for done, (id, raw) in enumerate(store.paired.items(), 1):
        device, unplaced = records.device(id, raw)
        mover.unplaced += unplaced
        if device is None:
            mover.lines.append(Line(kind="device", id=id, outcome="not-placed", why=unplaced[-1].why))
        elif await mover.device(device) and device.node is not None:
            await mover.node(device.node)
        watch(done, len(store.paired))
    placed = {line.id for line in mover.lines if line.kind == "device" and line.outcome != "not-placed"}
    for id, raw in store.nodes.items():
        node, unplaced = records.node(id, raw)
        mover.unplaced += unplaced
        if id not in placed and id in store.paired:
            mover.unplaced.append(Unplaced(f"node {id}, what it may run", "its device could not be placed"))
        elif node is not None:
            await mover.node(node)
    return Report(tuple(mover.lines), tuple(mover.unplaced), _left(store))


def _left(store: Store) -> tuple[Unplaced, ...]:
    left = [Unplaced(f"request {id}", "nobody has answered it; the device asks again when it connects") for id in store.pending]
    if store.codes:
        left.append(Unplaced(f"{store.codes} setup codes", "they live for minutes; make new ones: pairing enroll new"))
    return tuple(left)


class _Mover:
    def __init__(self, service: Service, caller: Caller, store: Store, words: Mapping[str, Any], dry: bool) -> None:
        self._service, self._caller, self._store, self._words, self._dry = service, caller, store, words, dry
        self._cause: int | None = None
        self.lines: list[Line] = []
        self.unplaced: list[Unplaced] = []

    async def device(self, held: HeldDevice) -> bool:
        """Take one device over, and say whether it is here now."""
        told: dict[str, Any] = {"kind": "device", "id": held.device, "name": held.label or held.name}
        told |= {"roles": held.roles, "scopes": held.scopes, "tokens": len(held.tokens)}
        command = self._import_device(held)
        try:
            if self._dry:
                # The same decision, on the state as it is; nothing is stored.
                state = await self._service.desk.device(held.device)
                done, position = bool(adopt(state, command)), 0
            else:
                handled = await self._service.desk.handle(command)
                done, position = bool(handled.records), handled.position
        except (Refused, PairingError) as no:
            self._refused(told, no)
            return False
        self._done(told, done, position)
        return True

    async def node(self, held: HeldNode) -> None:
        """Take what one node may run over."""
        told: dict[str, Any] = {"kind": "node", "id": held.node, "name": held.name, "commands": held.surface.commands}
        command = self._import_node(held)
        try:
            if self._dry:
                state = await self._service.desk.node(held.node)
                done, position = bool(adopt_node(state, command)), 0
            else:
                handled = await self._service.desk.handle_node(command)
                done, position = bool(handled.records), handled.position
        except (Refused, PairingError) as no:
            self._refused(told, no)
            return
        self._done(told, done, position)

    def _done(self, told: dict[str, Any], done: bool, position: int) -> None:
        if done and self._cause is None and position:
            self._cause = position
        self.lines.append(Line(**told, outcome="imported" if done else "already-here", position=position))

    def _refused(self, told: dict[str, Any], no: Exception) -> None:
        self.lines.append(Line(**told, outcome="not-placed", why=str(no)))
        self.unplaced.append(Unplaced(f"{told['kind']} {told['id']}", str(no)))

    def _stamp(self, name: str | None, label: str | None, address: str | None) -> dict[str, Any]:
        now = self._service.clock()
        return {
            "id": ids.uuid7(now),
            "now": now,
            "by": self._caller,
            "personal": Personal(salt=ids.salt(), name=name, label=label, address=address),
            "cause": self._cause,
            **self._words,
        }

    def _import_device(self, held: HeldDevice) -> ImportDevice:
        stamp = self._stamp(held.name, held.label, held.address)
        key, now, issue = self._service.keyring.current, stamp["now"], ids.issue_id()
        tokens = [
            Vouched(
                role=token.role,
                scopes=token.scopes,
                issue=f"{issue}.{token.role}",
                proof=key.proof("device", held.device, token.role, token.value),
                created_at=_at(token.created_at, now),
                rotated_at=None if token.rotated_at is None else _at(token.rotated_at, now),
                revoked_at=None if token.revoked_at is None else _at(token.revoked_at, now),
            )
            for token in held.tokens
        ]
        return ImportDevice(
            **stamp,
            device=held.device,
            key=held.key,
            source=self._store.source,
            role=held.role,
            roles=held.roles,
            scopes=held.scopes,
            platform=held.platform,
            family=held.family,
            client_id=held.client_id,
            client_mode=held.client_mode,
            named=key.tag("named", held.name),
            labelled=None if held.label is None else key.tag("label", held.label),
            created_at=_at(held.created_at, now),
            approved_at=_at(held.approved_at, now),
            vouched=key.id,
            tokens=tuple(tokens),
        )

    def _import_node(self, held: HeldNode) -> ImportNode:
        stamp = self._stamp(held.name, None, held.address)
        key, now = self._service.keyring.current, stamp["now"]
        return ImportNode(
            **stamp,
            node=held.node,
            source=self._store.source,
            surface=held.surface,
            issue=ids.issue_id(),
            key=key.id,
            proof=None if held.value is None else key.proof("node", held.node, "", held.value),
            created_at=_at(held.created_at, now),
            approved_at=_at(held.approved_at, now),
        )


def _at(then: int | None, now: int) -> int:
    """No time of another clock lies in the future here."""
    return now if then is None else max(0, min(then, now))
