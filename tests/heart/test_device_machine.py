"""Many devices, operators and logins in any order, beside a register kept on paper: sets and dicts that know no code of ours.

The register answers what must happen and what must then be true; the laws below it look at every single decision.
"""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from pairing.commands import Approve, Caller, CloseHandoff, Expire, Knock, Reject, Remove, Rename, Revoke, Rotate, Silence, Wanted
from pairing.decide import decide
from pairing.device import INITIAL, Grant, Pending
from pairing.events import (
    Actor,
    DeviceEvent,
    GlassBroken,
    TokenIssued,
    TokenRevoked,
    TokenRotated,
    TokenWidened,
    Unknown,
    kind_of,
)
from pairing.evolve import evolve
from pairing.refusals import Reason, Refused
from pairing.tokens import GatewayKey, Keyring
from pairing.verdict import Presented, judge

TTL = 1000
LONGEST = 1000
DEVICES = ("device-a", "device-b")
ADMIN, PAIRING, READ, WRITE = "operator.admin", "operator.pairing", "operator.read", "operator.write"
TALK, MADE_UP, EXEC = "operator.talk", "operator.made-up", "node.exec"
SCOPES = (ADMIN, PAIRING, READ, WRITE, TALK, MADE_UP, EXEC, "foo", f" {READ} ", "")
EVERYTHING = (ADMIN, PAIRING, READ, WRITE, TALK)
NEEDS = ("not-paired", "metadata-upgrade", "role-upgrade", "scope-upgrade")
TERMINAL = {"request.approved", "request.rejected", "request.expired", "request.superseded", "request.withdrawn"}


# --- the register --------------------------------------------------------------------------------------------------

# Protocol §7.2: what else gives a scope, besides itself and admin.
ALSO_BY = {READ: {WRITE}, TALK: {WRITE}}


def clean(scopes):
    return {scope.strip() for scope in scopes} - {""}


def full(scopes):
    """Protocol §7.3."""
    more = {READ, WRITE} if ADMIN in scopes else {READ} if WRITE in scopes else set()
    return set(scopes) | more


def within(role, scopes, held):
    """Protocol §7.2, scope by scope."""
    for scope in scopes:
        if not scope.startswith(role + "."):
            return False
        if role == "operator" and (ADMIN in held or ALSO_BY.get(scope, set()) & set(held)):
            continue
        if scope not in held:
            return False
    return True


def of(role, scopes):
    return {scope for scope in scopes if scope.startswith(role + ".")}


def plain(platform):
    word = (platform or "").strip().lower()
    return {"darwin": "macos", "win32": "windows"}.get(word, word)


@dataclass
class Badge:
    issue: str
    scopes: set
    under: str | None
    revoked: bool = False
    past: tuple | None = None  # the one before, while it is handed over: issue, scopes, until


@dataclass
class Entry:
    roles: set
    scopes: set
    platform: str | None
    badges: dict = field(default_factory=dict)


@dataclass
class Line:
    request: str
    roles: set
    scopes: set
    platform: str | None
    silent: bool
    opened: int
    expires: int
    client: str
    digest: str = ""


@dataclass
class Register:
    """What must be true of one device."""

    name: str
    entry: Entry | None = None
    line: Line | None = None
    ended: list = field(default_factory=list)
    dead: set = field(default_factory=set)

    def works(self, role, under):
        """A16, A18, T6."""
        badge = self.entry and self.entry.badges.get(role)
        return bool(
            badge
            and not badge.revoked
            and role in self.entry.roles
            and badge.under in (None, under)
            and within(role, badge.scopes, self.entry.scopes)
        )

    def may(self, caller, verb, access=None):
        """Vouched for, pairing rights, own device, containment."""
        if caller.scopes is None or not {ADMIN, PAIRING} & set(caller.scopes):
            return False
        if caller.own not in (None, self.name):
            return False
        if verb in {"read", "reject", "rename"}:
            return True
        held = clean(caller.scopes) | clean(caller.ceiling)
        return all(ADMIN in held if role != "operator" else within(role, scopes, held) for role, scopes in access.items())

    def shut(self, badge):
        """Whatever ends a badge, or follows it, ends what it was left as well."""
        if badge and badge.past:
            self.dead.add(badge.past[0])
            badge.past = None

    def lacks(self, role, scopes, platform, under):
        if self.entry is None:
            return ["not-paired"]
        changed = plain(self.entry.platform) not in ("", plain(platform))
        missing = not within(role, scopes, self.entry.scopes)
        tests = (changed, "metadata-upgrade"), (not self.works(role, under), "role-upgrade"), (missing, "scope-upgrade")
        return [need for wrong, need in tests if wrong]

    def will_hold(self, role, line, under):
        asked = full(of(role, line.scopes))
        badge = self.entry and self.entry.badges.get(role)
        if not self.entry:
            return asked
        if not badge:
            return asked or full(of(role, self.entry.scopes))
        if self.works(role, under):
            return full(badge.scopes | asked)
        return asked or full({scope for scope in of(role, badge.scopes) if within(role, {scope}, self.entry.scopes)})

    def fits(self, line):
        return all(any(scope.startswith(role + ".") for role in line.roles) for scope in line.scopes)

    def close(self, request, how):
        self.ended.append((request, how))
        self.line = None

    def fate(self, request):
        return dict(self.ended[-32:]).get(request)

    def knock(self, c):
        want, role, under = clean(c.wanted.scopes), c.wanted.role, c.wanted.under
        needs = self.lacks(role, want, c.wanted.platform, under)
        if not needs:
            badge = self.entry.badges[role]
            if not within(role, want, badge.scopes):
                badge.scopes = full(badge.scopes | want)
            return "in"
        fresh = self.line is None
        quiet = bool(
            c.silence
            and set(needs) <= set(c.silence.needs)
            and within("operator", of("operator", want), clean(c.silence.ceiling))
        )
        line = self._queue(c, want, quiet)
        lets_in = all(scope.startswith(role + ".") for scope in want) and plain(line.platform) in ("", plain(c.wanted.platform))
        if quiet and line.silent and self.fits(line) and lets_in:
            gained = set()
            if "operator" in line.roles:
                gained = of("operator", line.scopes) if self.works("operator", under) else self.will_hold("operator", line, under)
            if within("operator", gained, clean(c.silence.ceiling)):
                self._queued(line, c)
                self.admit(line, c.silence.means, under, c.issue)
                return "granted"
        if c.full and fresh:
            return Reason.TOO_MANY_PENDING
        self._queued(line, c)
        return "waits"

    def _queue(self, c, want, quiet):
        old, role = self.line, c.wanted.role
        new = Line(c.request, {role}, want, c.wanted.platform, quiet, c.now, c.now + c.ttl, c.client_id)
        if old is None or c.now > old.expires:
            return new
        if role in old.roles and all(s in full(old.scopes) or within(role, {s}, full(old.scopes)) for s in full(want)):
            again = Line(**vars(old))
            again.platform, again.silent, again.client = c.wanted.platform or old.platform, quiet and old.silent, c.client_id
            if vars(again) != vars(old) or (old.expires - c.now) * 4 <= 3 * c.ttl:
                again.expires = c.now + c.ttl
            return again
        new.roles, new.scopes, new.silent = old.roles | {role}, old.scopes | want, quiet and old.silent
        return new

    def _queued(self, line, c):
        if self.line and self.line.request != line.request:
            self.close(self.line.request, "expired" if c.now > self.line.expires else "superseded")
        self.line = line

    def admit(self, line, means, under, issue):
        future = {role: (self.will_hold(role, line, under), self.works(role, under)) for role in line.roles}
        self.entry = self.entry or Entry(set(), set(), None)
        for role, (scopes, alive) in future.items():
            old = self.entry.badges.get(role)
            if alive:
                silently = old.under if scopes == old.scopes else under
                self.entry.badges[role] = Badge(old.issue, scopes, None if means == "owner" else silently, past=old.past)
                continue
            if old:
                self.dead.add(old.issue)
                self.shut(old)
            self.entry.badges[role] = Badge(f"{issue}.{role}", scopes, None if means == "owner" else under)
        # What a dead badge had shut off comes back only as far as it was asked for and looked at.
        back = {role: scopes for role, (scopes, alive) in future.items() if not alive}
        shut = {s for s in self.entry.scopes for role, held in back.items() if of(role, {s}) and not within(role, {s}, held)}
        self.entry.roles |= line.roles
        self.entry.scopes = self.entry.scopes - shut | line.scopes
        self.entry.platform = line.platform
        self.close(line.request, "approved")

    def answer(self, c, verb, again):
        if not self.may(c.by, "reject"):
            return "denied"
        if self.line and self.line.request == c.request and c.now <= self.line.expires:
            return None
        return "nothing" if self.fate(c.request) in again else Reason.UNKNOWN_REQUEST

    def approve(self, c):
        told = self.answer(c, "approve", {"approved"})
        if told:
            return told
        if c.seen not in (None, self.line.digest):
            return Reason.REQUEST_CHANGED
        if not self.fits(self.line):
            return Reason.INVALID_SCOPE
        if not self.may(c.by, "approve", {role: self.will_hold(role, self.line, c.under) for role in self.line.roles}):
            return "denied"
        self.admit(self.line, "owner", c.under, c.issue)
        return "granted"

    def reject(self, c):
        told = self.answer(c, "reject", {"rejected", "withdrawn"})
        if not told:
            self.close(c.request, "rejected")
        return told or "rejected"

    def expire(self, c):
        if not self.line or self.line.request != c.request or c.now <= self.line.expires:
            return "nothing"
        self.close(c.request, "expired")
        return "expired"

    def remove(self, c):
        if not self.may(c.by, "read"):
            return "denied"
        if not self.entry:
            return Reason.UNKNOWN_DEVICE
        badges = self.entry.badges
        held = {r: of(r, self.entry.scopes) | (badges[r].scopes if r in badges else set()) for r in self.entry.roles}
        if not self.may(c.by, "remove", held):
            return "denied"
        self.dead |= {badge.issue for badge in badges.values()}
        for badge in badges.values():
            self.shut(badge)
        self.entry = None
        if self.line:
            self.close(self.line.request, "withdrawn")
        return "removed"

    def rename(self, c):
        if not self.may(c.by, "rename"):
            return "denied"
        return "renamed" if self.entry else Reason.UNKNOWN_DEVICE

    def rotate(self, c):
        if not self.entry or c.role not in self.entry.roles:
            return "denied"
        old = self.entry.badges[c.role]
        scopes = full(old.scopes if c.scopes is None else clean(c.scopes))
        ends = of(c.role, self.entry.scopes) if old.revoked else old.scopes
        if not within(c.role, scopes, self.entry.scopes) or not self.may(c.by, "rotate", {c.role: scopes | ends}):
            return "denied"
        if c.handoff > c.longest:
            return Reason.HANDOFF_TOO_LONG
        self.shut(old)
        stays = c.handoff and not old.revoked and not c.compromised and within(c.role, old.scopes, self.entry.scopes)
        past = (old.issue, set(old.scopes), c.now + c.handoff) if stays else None
        if not stays:
            self.dead.add(old.issue)
        self.entry.badges[c.role] = Badge(f"{c.issue}.{c.role}", scopes, old.under, past=past)
        return "rotated"

    def close_handoff(self, c):
        badge = self.entry and self.entry.badges.get(c.role)
        if not badge or not badge.past or badge.issue != c.issue or not (c.used or c.now > badge.past[2]):
            return "nothing"
        self.shut(badge)
        return "closed"

    def revoke(self, c):
        badge = self.entry and self.entry.badges.get(c.role)
        if not badge or not self.may(c.by, "revoke", {c.role: badge.scopes}):
            return "denied"
        badge.revoked = True
        self.dead.add(badge.issue)
        self.shut(badge)
        return "revoked"

    def login(self, role, scopes, platform, under, candidate, shown, now):
        """Protocol §4.5, §5.1: the credential first, then the pairing; `shown` is (device, role, issue)."""
        if candidate:
            badge = self.entry and self.entry.badges.get(role)
            past = badge and badge.past and now <= badge.past[2] and shown == (self.name, role, badge.past[0])
            right = badge and (past or shown == (self.name, role, badge.issue)) and self.works(role, under)
            if not right:
                return Reason.TOKEN_MISMATCH if candidate == "token" else Reason.DEVICE_TOKEN_MISMATCH
            if not within(role, clean(scopes), badge.scopes) or (past and not within(role, clean(scopes), badge.past[1])):
                return Reason.SCOPE_MISMATCH
        lacks = self.lacks(role, clean(scopes), platform, under)
        return Reason[lacks[0].upper().replace("-", "_")] if lacks else None


# --- the machine ---------------------------------------------------------------------------------------------------

DENIALS = {
    Reason.APPROVAL_DENIED,
    Reason.REJECTION_DENIED,
    Reason.REMOVAL_DENIED,
    Reason.RENAME_DENIED,
    Reason.ROTATION_DENIED,
    Reason.REVOCATION_DENIED,
    Reason.MISSING_SCOPE,
}
KEYS = Keyring(GatewayKey(b"k" * 32))
OTHER_GATEWAY = Keyring(GatewayKey(b"o" * 32))

ADMINISTRATOR = Caller(actor=Actor(kind="shared-secret"), scopes=(ADMIN,))
roles = st.sampled_from(("operator", "operator", "node"))
scope_lists = st.lists(st.sampled_from(SCOPES), max_size=3).map(tuple)
few_scopes = st.sampled_from([(), (READ,), (READ,), (WRITE,), (ADMIN,), (PAIRING,), (PAIRING, READ), (EXEC,)])
asked = st.one_of(few_scopes, few_scopes, scope_lists)
devices = st.sampled_from(DEVICES)
platforms = st.sampled_from(["linux", "linux", "linux", " LINUX ", "darwin", "macOS", None])
ceilings = st.sampled_from([(), (), EVERYTHING, (READ,), (PAIRING, WRITE)])
silences = st.one_of(
    st.none(),
    st.builds(
        Silence,
        means=st.sampled_from(["silent", "trusted-cidr"]),
        needs=st.sampled_from([NEEDS, NEEDS, ("not-paired",), ("role-upgrade", "scope-upgrade"), ("metadata-upgrade",)]),
        ceiling=st.sampled_from([EVERYTHING, EVERYTHING, (READ, PAIRING), ()]),
    ),
)
callers = st.builds(
    lambda scopes, ceiling, own: Caller(
        actor=Actor(kind="device" if own else "shared-secret", id=own), scopes=scopes, ceiling=ceiling, own=own
    ),
    scopes=st.one_of(
        st.sampled_from([(ADMIN,), (ADMIN,), (ADMIN,), (PAIRING,), (PAIRING, READ), (PAIRING, WRITE), (READ, WRITE), None]),
        st.sampled_from([(ADMIN,), (ADMIN, PAIRING), (PAIRING,), (PAIRING, READ, MADE_UP)]),
        scope_lists.map(lambda scopes: (PAIRING, *scopes)),
    ),
    ceiling=ceilings,
    own=st.sampled_from([None, None, None, None, None, *DEVICES]),
)
pick = st.integers(min_value=0, max_value=10**6)
encode, read_back = msgspec.json.Encoder(order="deterministic").encode, msgspec.json.Decoder(DeviceEvent).decode


class Pairings(RuleBasedStateMachine):
    """Real decisions on the left, the register on the right."""

    def __init__(self):
        super().__init__()
        self.now = 10_000
        self.count = 0
        self.secret = 0
        self.states = dict.fromkeys(DEVICES, INITIAL)
        self.registers = {name: Register(name) for name in DEVICES}
        self.logs = {name: [] for name in DEVICES}
        self.requests = [(DEVICES[0], "never")]
        self.digests = ["0" * 32]
        self.issues = {}  # issue -> (device, role, issue)
        self.terminal = {}  # request -> kind of its end

    def fresh(self, what):
        self.count += 1
        return f"{what}-{self.count}"

    @property
    def under(self):
        return f"secret-{self.secret}"

    def base(self, device, by):
        return {"id": self.fresh("command"), "now": self.now, "by": by, "device": device}

    # rules

    @initialize(scopes=few_scopes, other=few_scopes)
    def begin(self, scopes, other):
        self.let_in(DEVICES[0], "operator", scopes, True)
        self.let_in(DEVICES[1], "operator", other, False)

    @rule(passed=st.sampled_from([1, 2, 10, 249, 250, 500, 1000, 1001]))
    def wait(self, passed):
        self.now += passed

    @rule()
    def change_the_shared_secret(self):
        self.secret += 1

    @rule(
        device=devices,
        role=roles,
        scopes=asked,
        platform=platforms,
        silence=silences,
        full=st.sampled_from([False] * 7 + [True]),
        client=st.sampled_from(["cli", "tui"]),
    )
    def knock(self, device, role, scopes, platform, silence, full, client):
        wanted = Wanted(key=f"key of {device}", role=role, scopes=scopes, platform=platform, under=self.under)
        command = Knock(
            **self.base(device, Caller(actor=Actor(kind="device", id=device), scopes=(), own=device)),
            wanted=wanted,
            client_id=client,
            client_mode=None,
            request=self.fresh("request"),
            issue=self.fresh("issue"),
            key=KEYS.current.id,
            seen="seen",
            named="named",
            ttl=TTL,
            silence=silence,
            full=full,
        )
        self.requests.append((device, command.request))
        self.decide(command, self.registers[device].knock)

    @rule(which=pick, by=callers, seen=st.sampled_from(["nothing", "nothing", "it", "another"]), other=pick)
    def approve(self, which, by, seen, other):
        device, request = self.chosen(which)
        line = self.registers[device].line
        shown = {"nothing": None, "it": line.digest if line else None, "another": self.digests[other % len(self.digests)]}[seen]
        command = Approve(
            **self.base(device, by),
            request=request,
            issue=self.fresh("issue"),
            key=KEYS.current.id,
            seen=shown,
            under=self.under,
        )
        self.decide(command, self.registers[device].approve)

    @precondition(lambda self: any(register.line for register in self.registers.values()))
    @rule(which=pick)
    def approve_what_waits(self, which):
        self.approve(which * 2 + 1, ADMINISTRATOR, "it", 0)

    @rule(device=devices, role=roles, scopes=few_scopes, by_a_person=st.booleans())
    def let_in(self, device, role, scopes, by_a_person):
        """A knock that fits, answered by policy or by an admin."""
        silence = None if by_a_person else Silence("silent", NEEDS, EVERYTHING)
        self.knock(device, role, tuple(s for s in scopes if s.startswith(role)), "linux", silence, False, "cli")
        if by_a_person and self.registers[device].line:
            request = self.registers[device].line.request
            self.approve(2 * self.requests.index((device, request)), ADMINISTRATOR, "nothing", 0)

    @rule(device=devices, scopes=few_scopes, silence=silences, how=st.sampled_from(["secret", "revoked", "narrowed"]))
    def come_back(self, device, scopes, silence, how):
        """A device returns after its token has died, or lost its scopes, by somebody else's doing."""
        if how == "secret":
            self.secret += 1
        else:
            if how == "narrowed":
                self.rotate(device, "operator", (), ADMINISTRATOR)
            self.revoke(device, "operator", ADMINISTRATOR)
        self.knock(device, "operator", scopes, "linux", silence, False, "cli")

    @rule(which=pick, by=callers)
    def reject(self, which, by):
        device, request = self.chosen(which)
        self.decide(Reject(**self.base(device, by), request=request), self.registers[device].reject)

    @precondition(lambda self: any(r.line and self.now > r.line.expires for r in self.registers.values()))
    @rule(which=pick)
    def expire(self, which):
        device, request = self.chosen(which)
        by = Caller(actor=Actor(kind="timer"), scopes=None)
        self.decide(Expire(**self.base(device, by), request=request), self.registers[device].expire)

    @rule(device=devices, by=callers)
    def remove(self, device, by):
        self.decide(Remove(**self.base(device, by)), self.registers[device].remove)

    @rule(device=devices, by=callers)
    def rename(self, device, by):
        self.decide(Rename(**self.base(device, by), labelled=self.fresh("label")), self.registers[device].rename)

    @rule(
        device=devices,
        role=roles,
        scopes=st.one_of(st.none(), asked),
        by=callers,
        handoff=st.sampled_from([0, 0, 0, 100, 1000, 1001]),
        compromised=st.sampled_from([False, False, True]),
    )
    def rotate(self, device, role, scopes, by, handoff=0, compromised=False):
        issue, key = self.fresh("issue"), KEYS.current.id
        command = Rotate(
            **self.base(device, by),
            role=role,
            scopes=scopes,
            issue=issue,
            key=key,
            handoff=handoff,
            longest=LONGEST,
            compromised=compromised,
        )
        self.decide(command, self.registers[device].rotate)

    @rule(device=devices, role=roles, handoff=st.sampled_from([10, 1000]))
    def hand_over(self, device, role, handoff):
        """An admin rotates a token and leaves the old one a while."""
        self.rotate(device, role, None, ADMINISTRATOR, handoff)

    @rule(device=devices, role=roles, used=st.sampled_from([False, False, True]), stale=st.booleans())
    def close_handoff(self, device, role, used, stale):
        """T1: the timer asks, or a login by the successor; about a generation that is no more nothing happens."""
        token = self.states[device].token(role)
        issue = "issue-0.operator" if stale or token is None else token.issue
        by = Caller(actor=Actor(kind="timer"), scopes=None)
        command = CloseHandoff(**self.base(device, by), role=role, issue=issue, used=used)
        self.decide(command, self.registers[device].close_handoff)

    @rule(device=devices, role=roles, by=callers)
    def revoke(self, device, role, by):
        self.decide(Revoke(**self.base(device, by), role=role), self.registers[device].revoke)

    @precondition(lambda self: self.issues)
    @rule(
        device=devices,
        role=roles,
        scopes=asked,
        which=pick,
        platform=platforms,
        candidate=st.sampled_from(["token", "deviceToken"]),
    )
    def login_with_a_token(self, device, role, scopes, which, platform, candidate):
        """T1, T10, T12, V7, A16: only the present token, of this device and role, within its scopes and the baseline, lets in."""
        shown = list(self.issues.values())[-1 - which % len(self.issues)]
        secret = KEYS.current.token(*shown)
        state = self.states[device]
        issue = KEYS.recognise(state, device, role, secret)
        assert issue in (None, shown[2])
        assert issue is None or shown[:2] == (device, role)
        assert OTHER_GATEWAY.recognise(state, device, role, secret) is None
        presented = Presented(shared=Reason.TOKEN_MISMATCH, candidate=candidate, issue=issue)
        verdict = self.login(device, role, scopes, platform, presented, shown)
        token = state.token(role)
        assert verdict.issue in (None, issue)
        if verdict.issue is not None and verdict.issue == token.issue:
            self.close_handoff(device, role, True, False)
            assert not self.accepted(device, role) - {token.issue}

    @precondition(lambda self: any(t.handoff for s in self.states.values() if s.grant for t in s.grant.tokens))
    @rule(which=pick, scopes=few_scopes, before=st.booleans())
    def login_during_a_handoff(self, which, scopes, before):
        """T1: either generation, as long as nobody has come by the newer."""
        open_ones = [(d, t) for d, s in self.states.items() if s.grant for t in s.grant.tokens if t.handoff]
        device, token = open_ones[which % len(open_ones)]
        issue = token.handoff.issue if before else token.issue
        self.login_with_a_token(device, token.role, scopes, self.place_of(issue), "linux", "deviceToken")

    def place_of(self, issue):
        return list(reversed(self.issues)).index(issue)

    def accepted(self, device, role):
        """The generations that let their device in right now, asking for nothing."""
        wanted = Wanted(key=f"key of {device}", role=role, scopes=(), platform="linux", under=self.under)
        shown = (issue for issue in self.issues if self.issues[issue][:2] == (device, role))
        presented = (Presented(shared=Reason.TOKEN_MISSING, candidate="deviceToken", issue=issue) for issue in shown)
        return {p.issue for p in presented if judge(self.states[device], p, wanted, self.now).method is not None}

    @rule(device=devices, role=roles, scopes=asked, platform=platforms)
    def login_with_the_shared_secret(self, device, role, scopes, platform):
        """A15, A20, T8: a right secret makes nobody an operator, and looking changes nothing."""
        self.login(device, role, scopes, platform, Presented(method="token"), None)

    def login(self, device, role, scopes, platform, presented, shown):
        wanted = Wanted(key=f"key of {device}", role=role, scopes=scopes, platform=platform, under=self.under)
        verdict = judge(self.states[device], presented, wanted, self.now)
        expected = self.registers[device].login(role, scopes, platform, self.under, presented.candidate, shown, self.now)
        assert verdict.reason is expected, verdict
        assert all(step.passed for step in verdict.steps if step.rule != "shared-secret") == (expected is None), verdict
        self.no_secret_in(encode(verdict.steps))
        return verdict

    @rule()
    def restart(self):
        """D10: the events, written and read back, give the state that was alive."""
        for device, log in self.logs.items():
            state = INITIAL
            for event in log:
                state = evolve(state, read_back(encode(event)))
            assert state == self.states[device]

    # how a decision is looked at

    def chosen(self, which):
        """Half of the time an open request, if there is one."""
        waiting = [(name, register.line.request) for name, register in self.registers.items() if register.line]
        pool = waiting if which % 2 and waiting else self.requests
        return pool[which // 2 % len(pool)]

    def decide(self, command, predict):
        device = command.device
        before = self.states[device]
        expected = predict(command)
        try:
            events, got = decide(before, command), None
        except Refused as refused:
            events, got = (), refused
            self.no_secret_in(repr((refused.message, refused.hint, refused.details)).encode())
        assert self.as_foreseen(command, expected, events, got), (command, expected, events, got)
        after = before
        for event in events:
            previous, after = after, evolve(after, event)
            self.look_at(command, previous, event, after)
        self.states[device] = after
        self.logs[device] += events
        if self.registers[device].line and after.pending:
            self.registers[device].line.digest = after.pending.digest
            self.digests.append(after.pending.digest)
        self.no_more_than_the_caller_has(command, before, after, events)
        self.grant_keeps_while_waiting(command, before, after, events)
        self.same_again_is_nothing(command, after, got)

    def as_foreseen(self, command, expected, events, got):
        """A1, A3-A9, A17, A21, R2-R7, R9: allowed where the register allows it, refused for its reason otherwise."""
        if expected == "denied":
            return got is not None and got.reason in DENIALS
        if isinstance(expected, Reason):
            return got is not None and got.reason is expected
        kinds = {kind_of(event) for event in events}
        granted = "request.approved" in kinds
        return got is None and granted == (expected == "granted") and bool(events) >= (expected not in {"in", "waits", "nothing"})

    def look_at(self, command, before, event, after):
        self.ends_once(event)
        self.grants_one_revision(before, event)
        self.has_a_lineage(command, before, event)
        raw = encode(event)
        self.no_secret_in(raw)
        assert read_back(raw) == event
        assert event.at == command.now
        if before.pending and after.pending and before.pending.request == after.pending.request:
            self.keeps_its_place(before.pending, after.pending)

    def ends_once(self, event):
        """R5: each request ends in exactly one terminal state."""
        if kind_of(event) in TERMINAL:
            assert event.request not in self.terminal, self.terminal
            self.terminal[event.request] = kind_of(event)

    def grants_one_revision(self, before, event):
        """R2: what is approved is the stored revision, whole, under its digest."""
        if kind_of(event) == "request.approved":
            line = before.pending
            assert (event.request, event.digest, event.roles, event.scopes) == (
                line.request,
                line.digest,
                line.roles,
                line.scopes,
            )

    def keeps_its_place(self, before, after):
        """R3, R4: a refresh changes neither the place in the order nor what carries authority, and never shortens life."""
        same = ("request", "key", "need", "role", "roles", "scopes", "opened_at")
        assert all(getattr(before, name) == getattr(after, name) for name in same)
        assert after.expires_at >= before.expires_at

    def has_a_lineage(self, command, before, event):
        """T2, T7, V7: a first token only where there was none, a next one retires the present one, no generation comes twice."""
        if not isinstance(event, TokenIssued | TokenRotated | TokenWidened | TokenRevoked):
            return
        device = command.device
        old = before.token(event.role)
        assert before.grant is not None
        assert event.role in before.grant.roles
        if isinstance(event, TokenIssued | TokenRotated):
            assert event.issue == f"{command.issue}.{event.role}"
            assert event.issue not in self.issues
            assert event.key == KEYS.current.id
            assert (old is None) if isinstance(event, TokenIssued) else event.retires == old.issue
            self.issues[event.issue] = (device, event.role, event.issue)
        else:
            assert event.issue == old.issue
        if isinstance(event, TokenWidened):
            assert set(old.scopes) <= set(event.scopes)
            assert old.revoked_at is None

    def no_secret_in(self, raw):
        """T4, T14: neither events nor refusals nor traces hold a token or the gateway's key."""
        for shown in self.issues.values():
            assert KEYS.current.token(*shown).encode() not in raw
        assert KEYS.current.secret not in raw
        assert KEYS.current.secret.hex().encode() not in raw

    def no_more_than_the_caller_has(self, command, before, after, events):
        """A1, A3, A6, A7, A8, A9, A14, A21: nobody gives or ends what they do not hold, nor touches another's device."""
        if not events or isinstance(command, Knock | Expire | CloseHandoff):
            return
        by = command.by
        assert by.scopes is not None
        assert {ADMIN, PAIRING} & set(by.scopes)
        assert by.own in (None, command.device)
        held = clean(by.scopes) | clean(by.ceiling)
        tokens = {t.role: t for t in (before.grant.tokens if before.grant else ())}
        for role, token in ((t.role, t) for t in (after.grant.tokens if after.grant else ())):
            old = tokens.pop(role, None)
            if token == old or isinstance(command, Rename):
                continue
            ended = set(old.scopes) if old and before.grant.live(role, self.under) else set()
            changed = set(token.scopes) | ended
            assert ADMIN in held if role != "operator" else within(role, changed, held), (command, old, token)
        for role, token in tokens.items():
            assert ADMIN in held if role != "operator" else within(role, token.scopes, held), (command, token)

    def grant_keeps_while_waiting(self, command, before, after, events):
        """A12, A19, N7, T13: a knock changes tokens within the baseline only, or by a silent approval within its ceiling."""
        if not isinstance(command, Knock) or before.grant is None or after.grant is None:
            return
        kinds = [kind_of(event) for event in events]
        if "request.approved" not in kinds:
            assert after.grant.scopes == before.grant.scopes
            assert after.grant.roles == before.grant.roles
            assert {t.role: t.issue for t in after.grant.tokens} == {t.role: t.issue for t in before.grant.tokens}
            return
        assert command.silence is not None
        ceiling = clean(command.silence.ceiling)
        for token in after.grant.tokens:
            old = before.grant.token(token.role)
            kept = set(old.scopes) if old and before.grant.live(token.role, self.under) else set()
            if old != token and token.role == "operator":
                assert within("operator", set(token.scopes) - kept, ceiling), (command, old, token)

    def same_again_is_nothing(self, command, after, got):
        """The idempotency law: a command that was obeyed finds nothing left to do; rotate, revoke and remove say otherwise."""
        if isinstance(command, Rotate | Revoke) and got is None:
            return
        try:
            events, again = decide(after, command), None
        except Refused as refused:
            events, again = (), refused.reason
        assert events == (), command
        gone = isinstance(command, Remove) and again is Reason.UNKNOWN_DEVICE
        assert gone or again is (got.reason if got else None), (command, got, again)

    # what is always true

    @invariant()
    def the_register_agrees(self):
        """A4, A5, A10, A12, T6, R3, R4, R9, R12: roles, baseline, tokens and the open request are what the register says."""
        for name, register in self.registers.items():
            state = self.states[name]
            entry, line = register.entry, register.line
            assert (state.grant is None) == (entry is None)
            if entry is not None:
                assert set(state.grant.roles) == entry.roles
                assert set(state.grant.scopes) == entry.scopes
                badges = {t.role: self.badge(t) for t in state.grant.tokens}
                assert badges == entry.badges
            assert (state.pending is None) == (line is None)
            if line is not None:
                p = state.pending
                seen = Line(
                    p.request, set(p.roles), set(p.scopes), p.platform, p.silent, p.opened_at, p.expires_at, p.client_id, p.digest
                )
                assert seen == line

    def badge(self, token):
        past = token.handoff and (token.handoff.issue, set(token.handoff.scopes), token.handoff.until)
        return Badge(token.issue, set(token.scopes), token.under, token.revoked_at is not None, past)

    @invariant()
    def tokens_are_in_order(self):
        """A13, A16, A18, T2, T4, T6, T12, V7: one live generation a role, in its namespace and baseline, none from the dead."""
        for name, state in self.states.items():
            register = self.registers[name]
            for role in ("operator", "node"):
                live = state.grant.live(role, self.under) if state.grant else None
                assert (live is not None) == register.works(role, self.under)
                if live is None:
                    continue
                assert live.issue not in register.dead
                assert all(scope.startswith(role + ".") for scope in live.scopes)
                assert within(role, live.scopes, set(state.grant.scopes))
                assert KEYS.token_of(state, name, role) == KEYS.current.token(name, role, live.issue)
            names = [token.role for token in state.grant.tokens] if state.grant else []
            assert names == sorted(set(names))
            assert not {retired.issue for retired in state.retired} - register.dead
            for token in state.grant.tokens if state.grant else ():
                accepted = self.accepted(name, token.role)
                assert accepted <= {token.issue, token.handoff and token.handoff.issue}
                assert not accepted & register.dead

    def teardown(self):
        self.restart()


SUITE = settings(
    max_examples=100,
    stateful_step_count=80,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def test_every_order_of_events_obeys_the_register():
    """Groups A, T, R and V7: any order of asks, answers, rotations, revocations, removals, logins, secrets and restarts."""
    run_state_machine_as_test(Pairings, settings=SUITE)


# --- evolve is total -----------------------------------------------------------------------------------------------

POOLS = {
    "at": st.integers(0, 9),
    "expires_at": st.integers(0, 9),
    "request": st.sampled_from(["r1", "r2"]),
    "replaces": st.sampled_from([None, "r1"]),
    "role": roles,
    "roles": st.sampled_from([(), ("operator",), ("node", "operator")]),
    "scopes": few_scopes,
    "issue": st.sampled_from(["i1", "i2", "i3"]),
    "issues": st.just(("i1",)),
    "retires": st.sampled_from(["i1", "i2"]),
    "under": st.sampled_from([None, "S1"]),
    "voter": st.sampled_from(["x", "y"]),
    "voters": st.sampled_from([(), ("x",), ("x", "y")]),
    "held": few_scopes,
    "lent": few_scopes,
    "need": st.sampled_from(NEEDS),
    "means": st.sampled_from(["owner", "silent"]),
    "silent": st.booleans(),
    "handoff_until": st.sampled_from([None, 5]),
    "compromised": st.booleans(),
    "how": st.sampled_from(["used", "expired"]),
    "repair": st.booleans(),
}
TEXT = st.sampled_from([None, "x", "y"])
KINDS = DeviceEvent.__args__


def any_event(kind):
    names = [name.name for name in msgspec.structs.fields(kind)]
    return st.builds(kind, **{name: POOLS.get(name, TEXT) for name in names})


events_in_any_order = st.lists(
    st.one_of(*(any_event(kind) for kind in KINDS), st.builds(Unknown, kind=st.just("token.blessed"), raw=st.just(b"{}"))),
    max_size=25,
)


def fold_any(events):
    state = INITIAL
    for event in events:
        state = evolve(state, event)
        if state.grant:
            assert len({token.role for token in state.grant.tokens}) == len(state.grant.tokens)
            for role in ("operator", "node"):
                state.grant.live(role, "S1")
        assert len(state.retired) <= 32
        assert len(state.closed) <= 32
        assert len(state.voided) <= 32
        assert isinstance(state.grant, Grant | None)
        assert isinstance(state.pending, Pending | None)
    return state


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(events_in_any_order)
def test_evolve_takes_any_event_in_any_order(events):
    """D2, D10: folding is total and a function: whatever order, it never raises and gives the same state twice."""
    assert fold_any(events) == fold_any(events)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(events_in_any_order)
def test_events_of_tokens_and_requests_alone_pair_nobody(events):
    """A18, V7: without a pairing event there is no grant, whatever token events claim."""
    tame = [event for event in events if kind_of(event) not in {"device.paired", "device.imported", "device.restored"}]
    assert fold_any(tame).grant is None


BEFORE = {
    "at": 1,
    "labelled": "x",
    "request": "r1",
    "role": "operator",
    "roles": ("operator",),
    "issue": "i1",
    "expires_at": 5,
    "silent": False,
}
FIRST = {"handoff.closed": ("token.rotated",)}
AFTER = {"at": 2, "request": "r1", "role": "operator", "roles": ("operator",), "retires": "i1", "issues": ("i1",), "issue": "i1"}


def filled(kind, values):
    return kind(
        **{name.name: values.get(name.name, ("x",) if name.name == "scopes" else "x") for name in msgspec.structs.fields(kind)}
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not GlassBroken], ids=lambda kind: kind.__struct_config__.tag)
def test_every_kind_is_folded(kind):
    """D10: each kind of the catalogue changes a state that it concerns; a forgotten one would change nothing.

    `glass.broken` says of the event before it that it was meant, and changes nothing itself.
    """
    tags = {each.__struct_config__.tag: each for each in KINDS}
    there = ("request.opened", "device.paired", "device.renamed", "token.issued", "device.locked")
    begun = (*there, *FIRST.get(str(kind.__struct_config__.tag), ()))
    state = fold_any([filled(tags[tag], BEFORE) for tag in begun])
    assert evolve(state, filled(kind, {**AFTER, "scopes": ("y",), "named": "y", "labelled": "y"})) != state
