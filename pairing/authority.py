"""Roles, scopes and who may do what to whom: the one place that answers, with no default other than no.

Pure. Called in the step that decides, on state that is current at commit. The algebra follows protocol §7.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, TypeAlias

from msgspec import Struct

from .commands import Caller

OPERATOR = "operator"
NODE = "node"
ROLES = (OPERATOR, NODE)

ADMIN = "operator.admin"
PAIRING = "operator.pairing"
READ = "operator.read"
WRITE = "operator.write"
OPERATOR_SCOPES = (
    ADMIN,
    "operator.approvals",
    PAIRING,
    "operator.questions",
    READ,
    "operator.sessions.read",
    "operator.sessions.write",
    "operator.talk",
    "operator.talk.secrets",
    WRITE,
)

# Which held scopes satisfy a wanted one, besides itself and operator.admin.
_IMPLIED_BY: dict[str, tuple[str, ...]] = {
    READ: (WRITE,),
    "operator.sessions.read": (READ, WRITE),
    "operator.sessions.write": (WRITE,),
    "operator.talk": (WRITE,),
}

Verb: TypeAlias = Literal[
    "read",
    "approve",
    "reject",
    "rename",
    "rotate",
    "revoke",
    "remove",
    "lock",
    "unlock",
    "approve-node",
    "remove-node",
    "hooks",
    "break-glass",
    "forget",
    "enrol",
    "import",
    "restore",
    "undo",
]
_FREE: frozenset[Verb] = frozenset({"read", "reject", "rename", "remove-node"})
_HELD: frozenset[Verb] = frozenset({"approve-node", "hooks"})
_CONTAINED: frozenset[Verb] = frozenset(
    {"approve", "rotate", "revoke", "remove", "lock", "unlock", "break-glass", "forget", "enrol", "import", "restore", "undo"}
)


def tidy(scopes: Iterable[str]) -> tuple[str, ...]:
    """Trim, drop blanks and duplicates; keep the order sent."""
    return tuple(dict.fromkeys(s for s in (scope.strip() for scope in scopes) if s))


def normalise(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return scopes as tokens hold them: tidy, admin adding read and write, write adding read, sorted (protocol §7.3)."""
    held = set(tidy(scopes))
    if ADMIN in held:
        held.add(WRITE)
    if WRITE in held:
        held.add(READ)
    return tuple(sorted(held))


def belongs(scope: str, role: str) -> bool:
    """Say whether a scope is of a role's namespace: `operator.read` of operator, `node.exec` of node (A13)."""
    return scope.startswith(f"{role}.") and len(scope) > len(role) + 1


def of_role(scopes: Iterable[str], role: str) -> tuple[str, ...]:
    """Return those scopes that a role's token can hold."""
    return tuple(scope for scope in tidy(scopes) if belongs(scope, role))


def missing(role: str, allowed: Iterable[str], wanted: Iterable[str]) -> str | None:
    """Return the first wanted scope, in sorted order, that `allowed` does not cover for a role; None where all are.

    Wanting nothing is always covered; nothing but nothing is covered by nothing (protocol §7.2).
    """
    return _missing(role, tuple(allowed), tuple(wanted))


# One login asks the same question several times, and the next device asks it too. Only who proved a credential gets this far.
@lru_cache
def _missing(role: str, allowed: tuple[str, ...], wanted: tuple[str, ...]) -> str | None:
    held = set(tidy(allowed))
    for scope in sorted(tidy(wanted)):
        if not belongs(scope, role) or not _satisfied(role, held, scope):
            return scope
    return None


def covers(role: str, allowed: Iterable[str], wanted: Iterable[str]) -> bool:
    """Say whether `allowed` covers every wanted scope for a role."""
    return missing(role, allowed, wanted) is None


def _satisfied(role: str, held: set[str], scope: str) -> bool:
    if role != OPERATOR:
        return scope in held
    return ADMIN in held or scope in held or any(wider in held for wider in _IMPLIED_BY.get(scope, ()))


class Target(Struct, frozen=True):
    """Whom a verb is about: a device, and for every role concerned the scopes that would be granted or ended."""

    device: str
    access: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Ruling(Struct, frozen=True):
    """The answer: the rule that decided, and the scope that was missing where one was."""

    allowed: bool
    rule: Literal["no-caller", "no-pairing", "foreign", "role", "scope", "contained", "allowed", "unknown-verb"]
    scope: str | None = None


def may(verb: Verb, caller: Caller, target: Target) -> Ruling:
    """Rule on one verb.

    A caller nobody vouched for may nothing (A2). Everybody needs pairing rights (B6, A14). A session bound to its device touches
    that device only (A7, A8). Granting and ending access needs the access itself: every operator scope concerned, and
    operator.admin where another role is concerned (A1, A3, A6, A9); a local session's ceiling counts towards it, but not towards
    what a node may run (A11), nor to where events are sent. Forgetting cannot be undone, so it needs operator.admin besides (L6).
    """
    if caller.scopes is None:
        return Ruling(False, "no-caller")
    held = tidy((*caller.scopes, *caller.ceiling))
    if PAIRING not in caller.scopes and ADMIN not in caller.scopes:
        return Ruling(False, "no-pairing", PAIRING)
    if caller.own is not None and caller.own != target.device:
        return Ruling(False, "foreign")
    if verb in _FREE:
        return Ruling(True, "allowed")
    if verb in {"forget", "restore"} and ADMIN not in held:
        return Ruling(False, "scope", ADMIN)
    if verb in _HELD:
        return _contained(tidy(caller.scopes), target)
    return _contained(held, target) if verb in _CONTAINED else Ruling(False, "unknown-verb")


def _contained(held: tuple[str, ...], target: Target) -> Ruling:
    for role, scopes in target.access:
        if role != OPERATOR:
            if ADMIN not in held:
                return Ruling(False, "role", ADMIN)
        elif scope := missing(OPERATOR, held, scopes):
            return Ruling(False, "scope", scope)
    return Ruling(True, "contained")


def bound_device(*, method: str, device: str | None, scopes: Iterable[str]) -> str | None:
    """Return the one device that a session may manage, or None where it is not so bound (protocol §6.2).

    Sessions that logged in by device token or setup code without operator.admin are bound; those of the shared secret never are.
    """
    return device if method in {"device-token", "bootstrap-token"} and ADMIN not in tuple(scopes) else None
