"""Histories as a busy gateway would write them, made up but legal: the same for the same arguments.

Devices come, are approved, rejected or left to expire; those that stay are renamed, described anew, rotated, widened, upgraded,
revoked, removed, and some come back.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator
from itertools import islice

from pairing.events import (
    Actor,
    AnyEvent,
    DeviceDescribed,
    DeviceEvent,
    DevicePaired,
    DeviceRemoved,
    DeviceRenamed,
    DeviceUpgraded,
    Meta,
    Personal,
    RequestApproved,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    TokenIssued,
    TokenRevoked,
    TokenRotated,
    TokenWidened,
    device_stream,
)
from pairing.log.chain import GENESIS, link
from pairing.log.codec import draft
from pairing.log.port import Mark, Record

Command = tuple[str, tuple[AnyEvent, ...], Meta, Personal | None]

START = 1_700_000_000_000
_READ, _WRITE = ("operator.read",), ("operator.read", "operator.write")
_TTL = 300_000


class _Device:
    def __init__(self, number: int) -> None:
        self.id = device_id(number)
        self.key = self.id[:43]
        self.name = f"Device {number}"
        self.label: str | None = None
        self.address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        self.request: RequestOpened | None = None
        self.scopes: tuple[str, ...] = ()
        self.issue: str | None = None
        self.revoked = False


def device_id(number: int) -> str:
    """Return the id of the n-th device."""
    return hashlib.sha256(b"bench device %d" % number).hexdigest()


def history(devices: int, seed: int = 1, busy: int = 7) -> Iterator[Command]:
    """Yield (stream, events, meta, personal) for each command, for ever.

    One command of every `busy + 1` brings a new device, until there are `devices`; the others happen to those that are there.
    """
    dice = random.Random(seed)
    there: list[_Device] = []
    now = START
    while True:
        now += dice.randrange(1, 2_000)
        if len(there) < devices and (not there or dice.randrange(busy + 1) == 0):
            there.append(_Device(len(there)))
            device = there[-1]
        else:
            device = there[dice.randrange(len(there))]
        events, personal = _happen(device, dice, now)
        if events:
            yield device_stream(device.id), events, _meta(dice, device, now), personal


def records(commands: Iterable[Command], count: int, after: Mark = GENESIS) -> Iterator[Record]:
    """Yield the first `count` rows that a log would hold after these commands, chained, without storing them anywhere."""
    return islice(_chained(commands, after), count)


def _chained(commands: Iterable[Command], last: Mark) -> Iterator[Record]:
    versions: dict[str, int] = {}
    for stream, events, meta, personal in commands:
        for event in events:
            versions[stream] = versions.get(stream, 0) + 1
            record = link(last, stream, versions[stream], event.at, draft(event, meta, personal))
            last = Mark(record.position, record.hash)
            yield record


def _happen(device: _Device, dice: random.Random, now: int) -> tuple[tuple[DeviceEvent, ...], Personal | None]:
    if device.request is not None:
        return _answer(device, device.request, dice, now)
    if device.issue is None:
        return (_ask(device, dice, _READ, now),), _person(device, dice)
    return _live(device, dice, now)


def _answer(
    device: _Device, asked: RequestOpened, dice: random.Random, now: int
) -> tuple[tuple[DeviceEvent, ...], Personal | None]:
    roll = dice.randrange(20)
    if now > asked.expires_at or roll == 0:
        device.request = None
        return (RequestExpired(at=now, request=asked.request),), None
    if roll < 3:
        return (_refresh(asked, now),), _person(device, dice)
    device.request = None
    if roll == 3:
        return (RequestRejected(at=now, request=asked.request, digest=asked.digest),), _person(device, dice)
    approved = RequestApproved(
        at=now, request=asked.request, digest=asked.digest, means="owner", roles=asked.roles, scopes=asked.scopes
    )
    device.scopes = asked.scopes
    if device.issue is not None:
        widened = TokenWidened(at=now, role="operator", issue=device.issue, scopes=asked.scopes, under=None)
        return (approved, _upgrade(asked, now), widened), _person(device, dice)
    device.issue, device.revoked = _hex(dice), False
    issued = TokenIssued(at=now, role="operator", scopes=asked.scopes, issue=device.issue, key="k1", under=None)
    return (approved, _pair(asked, now), issued), _person(device, dice)


def _live(device: _Device, dice: random.Random, now: int) -> tuple[tuple[DeviceEvent, ...], Personal | None]:
    assert device.issue is not None
    roll = dice.randrange(20)
    person = _person(device, dice)
    if roll < 5 and device.scopes == _READ:
        return (_ask(device, dice, _WRITE, now),), person
    if roll < 14:
        retired, device.issue, device.revoked = device.issue, _hex(dice), False
        rotated = TokenRotated(
            at=now, role="operator", scopes=device.scopes, retires=retired, issue=device.issue, key="k1", under=None
        )
        return (rotated,), person
    if roll < 16:
        device.name = f"{device.name.split(' (')[0]} ({dice.randrange(100)})"
        return (DeviceDescribed(at=now, client_id="openclaw", client_mode="cli", named=_hex(dice)),), _person(device, dice)
    if roll == 16:
        device.label = f"{device.name} of {dice.choice(('Ada', 'Grace', 'Edsger', 'Barbara'))}"
        return (DeviceRenamed(at=now, labelled=_hex(dice)),), _person(device, dice)
    if roll == 17:
        device.revoked = True
        return (TokenRevoked(at=now, role="operator", issue=device.issue),), person
    if roll == 18:
        removed = DeviceRemoved(at=now, roles=("operator",), issues=(device.issue,))
        device.issue, device.scopes = None, ()
        return (removed,), person
    return (), None


def _ask(device: _Device, dice: random.Random, scopes: tuple[str, ...], now: int) -> RequestOpened:
    device.request = RequestOpened(
        at=now,
        request=_uuid(dice, 4),
        device=device.id,
        key=device.key,
        need="scope-upgrade" if device.issue else "not-paired",
        role="operator",
        roles=("operator",),
        scopes=scopes,
        platform="linux",
        family=None,
        client_id="openclaw",
        client_mode="cli",
        silent=False,
        repair=device.issue is not None,
        replaces=None,
        expires_at=now + _TTL * 1_000,
        seen=_hex(dice),
        named=_hex(dice),
        digest=_hex(dice),
    )
    return device.request


def _refresh(asked: RequestOpened, now: int) -> RequestRefreshed:
    return RequestRefreshed(
        at=now,
        request=asked.request,
        platform=asked.platform,
        family=asked.family,
        client_id=asked.client_id,
        client_mode=asked.client_mode,
        silent=asked.silent,
        expires_at=now + _TTL * 1_000,
        seen=asked.seen,
        named=asked.named,
        digest=asked.digest,
    )


def _pair(asked: RequestOpened, now: int) -> DevicePaired:
    return DevicePaired(
        at=now,
        device=asked.device,
        key=asked.key,
        request=asked.request,
        means="owner",
        role=asked.role,
        roles=asked.roles,
        scopes=asked.scopes,
        platform=asked.platform,
        family=asked.family,
        client_id=asked.client_id,
        client_mode=asked.client_mode,
        named=asked.named,
    )


def _upgrade(asked: RequestOpened, now: int) -> DeviceUpgraded:
    return DeviceUpgraded(
        at=now,
        request=asked.request,
        means="owner",
        role=asked.role,
        roles=asked.roles,
        scopes=asked.scopes,
        platform=asked.platform,
        family=asked.family,
        client_id=asked.client_id,
        client_mode=asked.client_mode,
        named=asked.named,
    )


def _meta(dice: random.Random, device: _Device, now: int) -> Meta:
    actor = Actor("local", "1000") if dice.randrange(2) else Actor("device", device.id)
    return Meta(
        actor=actor, command=_uuid(dice, 7, now), authority=_WRITE, origin="direct", policy=device.id[:16], gateway="0.1.0"
    )


def _person(device: _Device, dice: random.Random) -> Personal:
    return Personal(salt=_hex(dice), name=device.name, label=device.label, address=device.address)


def _hex(dice: random.Random) -> str:
    return f"{dice.getrandbits(128):032x}"


def _uuid(dice: random.Random, version: int, now: int | None = None) -> str:
    text = _hex(dice) if now is None else f"{now:012x}{dice.getrandbits(80):020x}"
    return f"{text[:8]}-{text[8:12]}-{version}{text[13:16]}-8{text[17:20]}-{text[20:]}"
