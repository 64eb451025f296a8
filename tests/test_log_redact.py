"""A support bundle: the same history about nobody, in which every decision comes out the same (L6)."""

import importlib.util
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pairing.commands import Wanted
from pairing.device import INITIAL, Device, Pending, digest
from pairing.events import (
    Actor,
    AnyEvent,
    Meta,
    NodeRequested,
    Personal,
    PolicyChanged,
    RequestOpened,
    RequestRefreshed,
    TokenIssued,
)
from pairing.evolve import evolve
from pairing.identity import Identity, b64url, device_id
from pairing.log.chain import GENESIS, link, verify
from pairing.log.codec import decode, decode_meta, draft
from pairing.log.port import Draft, Mark, Record
from pairing.log.redact import NotRedacted, Redactor
from pairing.nodes import surface_digest
from pairing.verdict import Presented, judge

HISTORY = Path(__file__).resolve().parent.parent / "scripts" / "bench_history.py"
GOLDEN = HISTORY.parent.parent / "tests" / "golden" / "events"
SECRET, OTHER = bytes(range(32)), bytes(32)
DEVICES = 40
QUINN = Identity(b"a" * 32)


_TELLING = {"key", "seen", "named", "labelled", "issue", "retires", "digest", "salt", "name", "label", "address"}


@cache
def history() -> Any:
    spec = importlib.util.spec_from_file_location("bench_history", HISTORY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def original() -> tuple[Record, ...]:
    """Eight hundred rows of forty devices, then some that hold all that must not get out."""
    rows: list[Record] = list(history().records(history().history(DEVICES), 800))
    now = rows[-1].recorded_at + 1
    meta = Meta(
        actor=Actor("device", QUINN.device),
        command="0190-quinn",
        reason="Quinn's phone",
        ticket="QUINN-1",
        policy="quinn",
        gateway="0.1.0",
        authority=("operator.admin", "node.quinn"),
        origin="direct",
    )
    person = Personal(salt="5a17" * 8, name="Quinn's phone", label="Quinn", address="203.0.113.7", agent="Quinn/1.0")
    surface = NodeRequested(
        at=now,
        request="r1",
        node="quinns-mac",
        caps=("quinn",),
        commands=("system.run", "quinn.sing"),
        platform="QuinnOS",
        family="Quinn",
        model="Quinn1,1",
        version="1.2.3-quinn",
        core_version=None,
        ui_version="2.0",
        silent=False,
        repair=False,
        replaces=None,
        named="cafe" * 4,
        digest="",
    )
    surface = msgspec.structs.replace(surface, digest=surface_digest(surface, "r1"))
    asked = RequestOpened(
        at=now,
        request="r0",
        device=QUINN.device,
        key=QUINN.key,
        need="not-paired",
        role="operator",
        roles=("operator",),
        scopes=("operator.read",),
        platform="QuinnOS",
        family=None,
        client_id="cli",
        client_mode="cli",
        silent=False,
        repair=False,
        replaces=None,
        expires_at=now,
        seen="beef" * 4,
        named="cafe" * 4,
        digest=digest(request="r0", key=QUINN.key, roles=("operator",), scopes=("operator.read",), seen="beef" * 4),
    )
    seen = digest(request="r0", key=QUINN.key, roles=("operator",), scopes=("operator.read",), seen="dead" * 4)
    refreshed = RequestRefreshed(
        at=now,
        request="r0",
        platform=None,
        family=None,
        client_id=None,
        client_mode=None,
        silent=False,
        expires_at=now + 1,
        seen="dead" * 4,
        named="cafe" * 4,
        digest=seen,
    )
    issued = TokenIssued(at=now, role="operator", scopes=("operator.quinn",), issue="quinn", key="k" * 16, under=None)
    settings = {"gateway.port": "1", "gateway.trustedProxies": '["203.0.113.0/24"]', "gateway.auth.mode": '"quinn"'}
    own: tuple[AnyEvent, ...] = (asked, refreshed, issued)
    for version, event in enumerate(own, 1):
        made = draft(event, meta, person)
        rows.append(link(Mark(rows[-1].position, rows[-1].hash), f"device:{QUINN.device}", version, now, made))
    others: tuple[tuple[str, AnyEvent], ...] = (
        ("node:quinns-mac", surface),
        ("gateway", PolicyChanged(at=now, policy="quinn", secret="cafe" * 4, settings=settings)),
    )
    for stream, event in others:
        made = draft(event, meta, person)
        rows.append(link(Mark(rows[-1].position, rows[-1].hash), stream, 1, now, made))
    strange = b'{"kind":"device.sung","who":{"called":"Quinn","at":["203.0.113.7",7,true,null]},"Quinn":1}'
    rows.append(link(Mark(rows[-1].position, rows[-1].hash), "song:quinn", 1, now, Draft("device.sung", b"{}", strange)))
    return tuple(rows)


@cache
def redacted(secret: bytes = SECRET) -> tuple[Record, ...]:
    redactor, mark, rows = Redactor(secret), GENESIS, list[Record]()
    for row in original():
        made, command = redactor(row, "c", mark)
        assert command == "c"
        rows.append(made)
        mark = Mark(made.position, made.hash)
    return tuple(rows)


def states(rows: tuple[Record, ...]) -> dict[str, Device]:
    found: dict[str, Device] = {}
    for row in rows:
        if row.stream.startswith("device:"):
            found[row.stream[7:]] = evolve(found.get(row.stream[7:], INITIAL), decode(row))  # type: ignore[arg-type]
    return found


def test_it_is_a_chain_of_its_own() -> None:
    """Every row where it was, of the same kind, time and version, and chained anew."""
    assert verify(redacted()) is None
    assert verify(original()) is None
    for one, other in zip(original(), redacted(), strict=True):
        assert (one.position, one.version, one.kind, one.recorded_at) == (
            other.position,
            other.version,
            other.kind,
            other.recorded_at,
        )
        assert (one.personal is None, one.personal_hash is None) == (other.personal is None, other.personal_hash is None)
        assert one.hash != other.hash


def test_nothing_of_anybody_is_left() -> None:
    """No name, label, address, word of a person, device id, key or tag of the original stands in the bundle (L6, L7)."""
    text = b"\n".join(b"|".join((row.stream.encode(), row.meta, row.body, row.personal or b"")) for row in redacted()).lower()
    for word in (b"quinn", b"203.0.113", b"grace", b"edsger", b"barbara", b"phone", b"10.0."):
        assert word not in text
    for row in original():
        if row.stream.startswith("device:"):
            assert row.stream[7:].encode() not in text
        for raw in (row.body, row.meta, row.personal or b"{}"):
            for name, value in msgspec.json.decode(raw).items():
                if name in _TELLING and isinstance(value, str) and len(value) > 6:
                    assert value.lower().encode() not in text, name
    assert b"(redacted)" in text


def test_the_same_is_always_the_same_and_two_bundles_share_nothing() -> None:
    """One made-up device for one device, in streams, actors and bodies; another secret makes others."""
    pairs = {(one.stream, other.stream) for one, other in zip(original(), redacted(), strict=True)}
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})
    again = {row.stream for row in redacted(OTHER)}
    assert {row.stream for row in redacted()} & again == {"gateway"}
    redactor = Redactor(SECRET)
    assert redactor.device(QUINN.device) == device_id(redactor._key(QUINN.device))
    assert redactor.key(QUINN.key) == b64url(redactor._key(QUINN.device))
    assert redactor.word(QUINN.key) == redactor.key(QUINN.key)


def test_every_verdict_comes_out_the_same() -> None:
    """Whatever a device presents and wants, the made-up one is refused for the same reason at the same rule, or let in alike."""
    redactor, before, after = Redactor(SECRET), states(original()), states(redacted())
    assert len(before) == len(after) == DEVICES + 1
    reasons = set()
    for device, state in before.items():
        twin = after[redactor.device(device)]
        key = state.grant.key if state.grant else QUINN.key
        token = state.token("operator")
        issues = [token.issue if token else "none", state.retired[-1].issue if state.retired else "gone"]
        wants = itertools.product(
            ("operator", "node"),
            ((), ("operator.read",), ("operator.write",), ("operator.admin",)),
            ("linux", "macos", None),
            (key, "other"),
            issues,
        )
        for role, scopes, platform, shown, issue in wants:
            mine = Wanted(key=shown, role=role, scopes=scopes, platform=platform)
            theirs = Wanted(key=redactor.word(shown), role=role, scopes=scopes, platform=platform)
            one = judge(state, Presented(candidate="deviceToken", issue=issue), mine, 1)
            other = judge(twin, Presented(candidate="deviceToken", issue=redactor.word(issue)), theirs, 1)
            assert (one.method, one.reason, one.needs) == (other.method, other.reason, other.needs)
            assert [(step.rule, step.passed) for step in one.steps] == [(step.rule, step.passed) for step in other.steps]
            reasons.add(one.reason)
    assert len(reasons) >= 4


def is_digest(one: Pending) -> bool:
    return one.digest == digest(request=one.request, key=one.key, roles=one.roles, scopes=one.scopes, seen=one.seen)


def test_digests_are_those_of_what_is_there_now() -> None:
    """A request's digest still stands for the request, so that asking again and approving as seen come out the same."""
    checked = 0
    real, bundle = states(original()), states(redacted())
    redactor = Redactor(SECRET)
    for device, state in real.items():
        pending, twin = state.pending, bundle[redactor.device(device)].pending
        assert (pending is None) == (twin is None)
        if pending is None or twin is None:
            continue
        assert is_digest(pending) == is_digest(twin)
        checked += is_digest(twin)
    assert checked == 1
    node = next(row for row in redacted() if row.kind == "node.requested")
    event = decode(node)
    assert isinstance(event, NodeRequested)
    assert event.digest == surface_digest(event, event.request)
    assert event.commands[0] == "system.run"


def test_what_cannot_be_told_apart_is_not_written_out() -> None:
    """A row that is no JSON object stops it: nothing goes out unseen."""
    row = link(GENESIS, "d:1", 1, 1, Draft("k", b"{}", b"Quinn"))
    with pytest.raises(NotRedacted, match="position 1"):
        Redactor(SECRET)(row, "c", GENESIS)
    with pytest.raises(NotRedacted):
        Redactor(SECRET)(link(GENESIS, "d:1", 1, 1, Draft("k", b"[]", b"{}")), "c", GENESIS)


@pytest.mark.parametrize("file", sorted(GOLDEN.iterdir()), ids=lambda file: file.stem)
def test_every_kind_keeps_its_shape_and_nothing_else(file: Path) -> None:
    """Each kind ever stored reads as itself afterwards, and of its texts only words of the service's own are the same (L7)."""
    stored = msgspec.json.decode(file.read_bytes())
    parts = [msgspec.json.encode(stored[name]) for name in ("meta", "body")]
    row = link(GENESIS, "device:" + "a" * 64, 1, 1, Draft(stored["body"]["kind"], *parts))
    made, _ = Redactor(SECRET)(row, "c", GENESIS)
    assert type(decode(made)) is type(decode(row))
    decode_meta(made)
    for part, other in ((row.meta, made.meta), (row.body, made.body)):
        same = set(texts(msgspec.json.decode(part))) & set(texts(msgspec.json.decode(other)))
        assert all(name == "command" or _OURS.fullmatch(text) for name, text in same), same


_OURS = re.compile(r"[a-z]+([.-][a-z]+)*|[0-9.]+")


def texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with the field it stands in."""
    if isinstance(value, str):
        yield name, value
    for key, held in value.items() if isinstance(value, dict) else ():
        yield from texts(held, key)
    for held in value if isinstance(value, list) else ():
        yield from texts(held, name)
