"""What the heart's stories share: given what happened, when a command comes, then these events or this refusal."""

from dataclasses import dataclass, field
from itertools import count

import pytest
from msgspec.structs import replace

from pairing.authority import OPERATOR_SCOPES
from pairing.commands import (
    Approve,
    Ban,
    Caller,
    CloseHandoff,
    Elapse,
    Expire,
    ExpireIdle,
    Forget,
    ImportDevice,
    Knock,
    Lock,
    Reject,
    Remind,
    Remove,
    Rename,
    RestoreDevice,
    Revoke,
    Rotate,
    Silence,
    Unlock,
    Vouched,
    Wanted,
)
from pairing.decide import decide
from pairing.device import INITIAL, Device
from pairing.events import Actor, kind_of
from pairing.evolve import evolve
from pairing.refusals import Refused
from pairing.restoring import former

NOW = 1_777_000_000_000
TTL = 300_000
DAY = 86_400_000
DEVICE, KEY = "d" * 64, "device-key"

ALL_NEEDS = ("not-paired", "metadata-upgrade", "role-upgrade", "scope-upgrade")


def _caller(*scopes, own=None, ceiling=(), kind="shared-secret"):
    return Caller(actor=Actor(kind="device" if own else kind, id=own), scopes=scopes, own=own, ceiling=ceiling)


@dataclass
class Make:
    """Commands of one device, with a clock that stands still until it is moved."""

    now: int = NOW
    numbers: count = field(default_factory=lambda: count(1))
    device: str = DEVICE
    lifetimes: tuple = ()

    admin = _caller("operator.admin")
    pairer = _caller("operator.pairing")
    nobody = Caller(actor=Actor(kind="local"), scopes=None)
    timer = Caller(actor=Actor(kind="timer"), scopes=None)
    host = _caller("operator.pairing", ceiling=OPERATOR_SCOPES, kind="local")

    def caller(self, *scopes, own=None, ceiling=()):
        return _caller(*scopes, own=own, ceiling=ceiling)

    def silence(self, *needs, means="silent", ceiling=OPERATOR_SCOPES):
        return Silence(means=means, needs=needs or ALL_NEEDS, ceiling=tuple(ceiling))

    def wanted(self, *scopes, role="operator", platform="linux", family=None, under="S1", key=KEY):
        return Wanted(key=key, role=role, scopes=scopes, platform=platform, family=family, under=under)

    def _base(self, by):
        return {"id": f"command-{next(self.numbers)}", "now": self.now, "by": by, "device": self.device}

    def knock(
        self,
        *scopes,
        role="operator",
        platform="linux",
        family=None,
        under="S1",
        client=("cli", "cli"),
        silence=None,
        full=False,
        ttl=TTL,
        seen="seen-1",
        named="named-1",
        request=None,
        key=KEY,
    ):
        number = next(self.numbers)
        return Knock(
            **self._base(_caller(own=self.device)),
            wanted=self.wanted(*scopes, role=role, platform=platform, family=family, under=under, key=key),
            client_id=client[0],
            client_mode=client[1],
            request=request or f"request-{number}",
            issue=f"issue-{number}",
            key="gateway-key",
            seen=seen,
            named=named,
            ttl=ttl,
            silence=silence,
            full=full,
            lifetimes=self.lifetimes,
        )

    def approve(self, request, by=None, *, seen=None, under="S1"):
        issue = f"issue-{next(self.numbers)}"
        by = by or self.admin
        command = Approve(**self._base(by), request=request, issue=issue, key="gateway-key", seen=seen, under=under)
        return replace(command, lifetimes=self.lifetimes)

    def reject(self, request, by=None, ban=None):
        return Reject(**self._base(by or self.admin), request=request, ban=ban)

    def lock(self, by=None, *, until=None, message=None):
        return Lock(**self._base(by or self.admin), terms=Ban(until, message))

    def unlock(self, by=None):
        return Unlock(**self._base(by or self.admin))

    def elapse(self):
        return Elapse(**self._base(self.timer))

    def remind(self, distance, issue="i", role="operator"):
        return Remind(**self._base(self.timer), role=role, issue=issue, distance=distance)

    def expireidle(self, since, issue="i", role="operator"):
        return ExpireIdle(**self._base(self.timer), role=role, issue=issue, since=since)

    def expire(self, request):
        return Expire(**self._base(Caller(actor=Actor(kind="timer"), scopes=())), request=request)

    def remove(self, by=None):
        return Remove(**self._base(by or self.admin))

    def rename(self, labelled, by=None):
        return Rename(**self._base(by or self.admin), labelled=labelled)

    def forget(self, rows=3, by=None):
        return Forget(**self._base(by or self.admin), rows=rows)

    def rotate(self, role="operator", scopes=None, by=None, *, handoff=0, longest=DAY, compromised=False):
        issue = f"issue-{next(self.numbers)}"
        command = Rotate(**self._base(by or self.admin), role=role, scopes=scopes, issue=issue, key="gateway-key")
        return replace(command, lifetimes=self.lifetimes, handoff=handoff, longest=longest, compromised=compromised)

    def closehandoff(self, issue="issue", *, used=False, role="operator"):
        return CloseHandoff(**self._base(Caller(actor=Actor(kind="timer"), scopes=None)), role=role, issue=issue, used=used)

    def revoke(self, role="operator", by=None):
        return Revoke(**self._base(by or self.admin), role=role)

    def restoredevice(self, state=None, by=None, *, ended=(), to=1, epoch=1):
        grant = state.grant if state else None
        return RestoreDevice(
            **self._base(by or self.admin),
            to=to,
            epoch=epoch,
            former=former(grant) if grant else None,
            ended=ended,
            issue=f"issue-{next(self.numbers)}",
            key="gateway-key",
        )

    def importdevice(self, by=None, *, scopes=("operator.read",), tokens=None):
        days = {"created_at": 1, "rotated_at": None, "revoked_at": None}
        token = Vouched(role="operator", scopes=scopes, issue=f"issue-{next(self.numbers)}", proof="proof", **days)
        about = dict.fromkeys(("platform", "family", "client_id", "client_mode", "labelled"))
        grant = {"role": "operator", "roles": ("operator",), "scopes": scopes, "named": "n", "created_at": 1, "approved_at": 2}
        return ImportDevice(
            **self._base(by or self.admin),
            key=KEY,
            source="elsewhere",
            vouched="gateway-key",
            tokens=(token,) if tokens is None else tokens,
            **grant,
            **about,
        )


@dataclass
class Story:
    """One device's story. `given` and `when` take commands or events; `events` or `refusal` is what the last one came to."""

    state: Device = INITIAL
    events: tuple = ()
    refusal: Refused | None = None
    history: list = field(default_factory=list)

    def given(self, *steps):
        for step in steps:
            self.when(step)
            assert self.refusal is None, self.refusal
        return self

    def when(self, step):
        self.events, self.refusal = (), None
        try:
            self.events = decide(self.state, step) if hasattr(step, "by") and hasattr(step, "now") else (step,)
        except Refused as refused:
            self.refusal = refused
        for event in self.events:
            self.state = evolve(self.state, event)
        self.history += self.events
        return self

    def then(self, *kinds):
        """The kinds of what happened, in order; nothing at all where none is given."""
        assert self.refusal is None, self.refusal
        assert [kind_of(event) for event in self.events] == list(kinds)
        return self.events

    def refused(self, reason, **fields):
        assert self.refusal is not None, f"not refused: {self.events}"
        assert self.refusal.reason is reason
        assert {name: self.refusal.fields.get(name) for name in fields} == fields
        return self.refusal

    @property
    def grant(self):
        assert self.state.grant is not None
        return self.state.grant

    @property
    def pending(self):
        assert self.state.pending is not None
        return self.state.pending

    def scopes(self, role="operator"):
        return self.grant.token(role).scopes

    def live(self, role="operator", under="S1"):
        return self.state.grant is not None and self.grant.live(role, under) is not None


@pytest.fixture
def make():
    return Make()


@pytest.fixture
def story():
    return Story()


@pytest.fixture
def paired(make):
    """A story in which a person has approved a device for some scopes of a role; no pending request is left."""

    def build(*scopes, role="operator", **knock):
        return Story().given(make.knock(*scopes, role=role, request="first", **knock), make.approve("first"))

    return build


@pytest.fixture
def silently(make):
    """A story in which a local device let itself in with the shared secret's generation S1."""

    def build(*scopes, role="operator", under="S1"):
        return Story().given(make.knock(*scopes, role=role, under=under, request="first", silence=make.silence()))

    return build
