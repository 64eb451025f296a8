"""May this connection in? `judge` answers with ordered rules, each with what it compared; gateway and explanation both call it.

Pure. It never looks at a secret: which generation a presented token is was found out before, in constant time.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

from .authority import covers
from .commands import Wanted
from .device import Device, Grant, Token
from .events import Need
from .refusals import Reason
from .shortfall import shortfalls
from .standing import handed_over, lapsed

Method: TypeAlias = Literal["token", "password", "none", "device-token", "bootstrap-token"]


class Offered(Struct, frozen=True):
    """A setup code's token that a connection showed: the code it is (None: none of ours), and why it cannot be used, if so.

    `locked` means that it was not even looked at: too many wrong ones came from there.
    """

    code: str | None
    fault: str | None
    locked: bool = False


class Presented(Struct, frozen=True, kw_only=True):
    """What a connection showed.

    `method` is set where the gateway's own secret was right, otherwise `shared` says why not. `candidate` is the field that held
    a possible device token, `issue` the generation it equals (None: no current one of this role); `locked` means that the
    address has failed too often with device tokens. `offered` is the setup code, if one was shown.
    """

    method: Literal["token", "password", "none"] | None = None
    shared: Reason | None = None
    candidate: Literal["deviceToken", "token"] | None = None
    issue: str | None = None
    locked: bool = False
    offered: Offered | None = None


class Step(Struct, frozen=True):
    """One rule as it was applied: its name, whether it let the connection pass, and what it compared (never a secret)."""

    rule: str
    passed: bool
    found: str
    needed: str = ""


class Verdict(Struct, frozen=True):
    """The answer and its trace. `reason` None means in; `needs` are set where pairing is what is missing.

    `issue` is the generation of the device token that was accepted, where one was; `presented` is what was judged.
    """

    method: Method | None
    reason: Reason | None
    needs: tuple[Need, ...]
    steps: tuple[Step, ...]
    issue: str | None = None
    presented: Presented | None = None


PAIRING_REASONS: dict[Need, Reason] = {
    "not-paired": Reason.NOT_PAIRED,
    "metadata-upgrade": Reason.METADATA_UPGRADE,
    "role-upgrade": Reason.ROLE_UPGRADE,
    "scope-upgrade": Reason.SCOPE_UPGRADE,
}


def judge(state: Device, presented: Presented, wanted: Wanted, now: int) -> Verdict:
    """Judge a device whose key is proven, at a time (ms).

    First whether it is locked, then its credential (protocol §4.5), then its pairing (§5.1).
    """
    state, steps = lapsed(state, now), list[Step]()
    if state.lock is not None:
        end = "unlocked" if state.lock.until is None else str(state.lock.until)
        steps.append(Step("lock", False, f"locked at {state.lock.at} until {end}"))
        return Verdict(None, Reason.DEVICE_LOCKED, (), tuple(steps), None, presented)
    method, reason = _credential(state, presented, wanted, now, steps)
    if method is None:
        return Verdict(None, reason, (), tuple(steps), None, presented)
    needs = shortfalls(state.grant, wanted)
    steps.extend(_pairing(state, wanted, needs))
    issue = presented.issue if method == "device-token" else None
    return Verdict(method, PAIRING_REASONS[needs[0]] if needs else None, needs, tuple(steps), issue, presented)


def _credential(
    state: Device, presented: Presented, wanted: Wanted, now: int, steps: list[Step]
) -> tuple[Method | None, Reason | None]:
    shared = presented.shared or Reason.AUTH_REQUIRED
    found = "right" if presented.method else shared.value
    steps.append(Step("shared-secret", presented.method is not None, found))
    if (offered := presented.offered) is not None:
        steps.append(Step("setup-code", offered.fault is None, offered.fault or f"good: {offered.code}"))
        if offered.fault is None:
            return "bootstrap-token", None
        shared = Reason.RATE_LIMITED if offered.locked else Reason.BOOTSTRAP_INVALID
    if presented.method is not None:
        return presented.method, None
    if presented.candidate is None:
        return None, shared
    failed = _device_token(state, presented, wanted, now, steps)
    if failed is None:
        return "device-token", None
    # A bad token in the shared secret's own field is a wrong shared secret: blame the class that was used (T10).
    blame_shared = presented.candidate == "token" and failed is Reason.DEVICE_TOKEN_MISMATCH
    return None, shared if blame_shared else failed


def _device_token(state: Device, presented: Presented, wanted: Wanted, now: int, steps: list[Step]) -> Reason | None:
    def check(rule: str, passed: bool, found: str, needed: str = "") -> bool:
        steps.append(Step(rule, passed, found, needed))
        return passed

    mismatch = Reason.DEVICE_TOKEN_MISMATCH
    if not check("token-attempts", not presented.locked, "locked out" if presented.locked else "free"):
        return Reason.RATE_LIMITED
    grant = state.grant
    if grant is None or grant.key != wanted.key:
        check("paired", False, "no grant for this key")
        return _dead(state, presented)
    token = grant.token(wanted.role)
    if token is None:
        check("token-of-role", False, "none", wanted.role)
        return _dead(state, presented)
    past = token.handoff if token.handoff and token.handoff.issue == presented.issue else None
    if past is not None:
        # The one before, of which the last rotation said how long it may still be used.
        if not check("handoff", handed_over(token, past.issue, now), f"{past.issue}, until {past.until}", token.issue):
            return mismatch
    elif not check("token-current", presented.issue == token.issue, presented.issue or "not the current one", token.issue):
        return _dead(state, presented)
    if token.expired_at is not None:
        check("token-age", False, f"expired at {token.expired_at}")
        return Reason.TOKEN_EXPIRED
    # A sound token of a role that was never approved is no bad credential: what is missing is the role (§5.1).
    if not check("token-live", grant.sound(wanted.role, wanted.under) is not None, _life(grant, token, wanted)):
        return mismatch
    held = token.scopes if past is None else past.scopes
    inside = covers(wanted.role, held, wanted.scopes) and covers(wanted.role, token.scopes, wanted.scopes)
    if not check("token-scopes", inside, ", ".join(held) or "none", ", ".join(wanted.scopes)):
        return Reason.SCOPE_MISMATCH
    return None


def _dead(state: Device, presented: Presented) -> Reason:
    """Name a token that ended with the timeline it was issued on: nobody rotated or revoked it, and its device is to know."""
    left = any(old.issue == presented.issue and old.how == "abandoned" for old in state.retired)
    return Reason.TIMELINE_LEFT if left else Reason.DEVICE_TOKEN_MISMATCH


def _life(grant: Grant, token: Token, wanted: Wanted) -> str:
    if token.revoked_at is not None:
        return f"revoked at {token.revoked_at}"
    if token.under is not None and token.under != wanted.under:
        return "issued under an earlier shared secret"
    if not covers(token.role, grant.scopes, token.scopes):
        return f"outside the approved scopes: {', '.join(token.scopes)}"
    return f"issued at {token.issued_at}"


def _pairing(state: Device, wanted: Wanted, needs: tuple[Need, ...]) -> list[Step]:
    grant = state.grant
    if grant is None or "not-paired" in needs:
        return [Step("paired", False, "no grant for this key")]
    metadata = Step(
        "metadata",
        "metadata-upgrade" not in needs,
        f"{grant.platform or '-'} / {grant.family or '-'}",
        f"{wanted.platform or '-'} / {wanted.family or '-'}",
    )
    role = Step("role", "role-upgrade" not in needs, ", ".join(grant.roles) or "none", wanted.role)
    found, asked = ", ".join(grant.scopes) or "none", ", ".join(wanted.scopes) or "none"
    return [metadata, role, Step("scopes", "scope-upgrade" not in needs, found, asked)]
