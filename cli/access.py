"""Access in words and in scopes: what is asked beside what is approved, of which kind, and what an operator must hold to decide.

Works on the entries of `device.list` alone, whichever door they came through; entries may lack any key (protocol §8.4, §8.7).
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from pairing.authority import ADMIN, OPERATOR, covers, normalise

from .voice import plain

Entry: TypeAlias = Mapping[str, Any]

KINDS = {
    "not-paired": "new pairing",
    "role-upgrade": "role upgrade",
    "scope-upgrade": "scope upgrade",
    "metadata-upgrade": "re-approval",
}
_NOTES = {
    "new pairing": "This device has no access yet.",
    "role upgrade": "This device is paired and asks for another role.",
    "scope upgrade": "This device is paired and asks for more scopes.",
    "re-approval": "This device is paired and says it has changed: look at its name, platform and address.",
}


def texts(entry: Entry, key: str) -> tuple[str, ...]:
    """Return a list of texts, empty where there is none."""
    found = entry.get(key)
    return tuple(text for text in found if isinstance(text, str)) if isinstance(found, list) else ()


def roles(entry: Entry) -> tuple[str, ...]:
    """Return the roles of a request or device."""
    one = entry.get("role")
    return tuple(dict.fromkeys((*texts(entry, "roles"), *((one,) if isinstance(one, str) else ()))))


def words(roles: Iterable[str], scopes: Iterable[str]) -> str:
    """Say what roles and scopes are."""
    named = [", ".join(plain(text) for text in group) or "none" for group in (roles, scopes)]
    return f"roles: {named[0]}; scopes: {named[1]}"


def access(entry: Entry | None) -> str:
    """Say what an entry asks for, or has."""
    return "none" if entry is None else words(roles(entry), texts(entry, "scopes"))


def kind(pending: Entry, paired: Entry | None) -> str:
    """Say of which kind a request is: by the gateway's own word, otherwise by comparing (protocol §8.4)."""
    reason = pending.get("reason")
    if isinstance(reason, str) and reason in KINDS:
        return KINDS[reason]
    if paired is None or paired.get("publicKey") != pending.get("publicKey"):
        return "new pairing"
    if not set(roles(pending)) <= set(live_roles(paired)):
        return "role upgrade"
    return "re-approval" if covers(OPERATOR, texts(paired, "scopes"), normalise(texts(pending, "scopes"))) else "scope upgrade"


def note(kind: str) -> str:
    """Say what a kind means for the reviewer."""
    return _NOTES[kind]


def tokens(entry: Entry) -> list[Entry]:
    """Return a device's tokens."""
    found = entry.get("tokens")
    return [token for token in found if isinstance(token, dict)] if isinstance(found, list) else []


def live_roles(entry: Entry) -> tuple[str, ...]:
    """Return the approved roles that have a token which is not revoked."""
    approved = roles(entry)
    return tuple(
        str(t["role"])
        for t in tokens(entry)
        if t.get("role") in approved and not t.get("revokedAtMs") and not t.get("expiredAtMs")
    )


def token_words(entry: Entry) -> str:
    """Name a device's tokens, the revoked ones marked."""
    named = (plain(t.get("role", "?")) + _life(t) for t in tokens(entry))
    return ", ".join(named) or "none"


def _life(token: Entry) -> str:
    return " (revoked)" if token.get("revokedAtMs") else " (expired)" if token.get("expiredAtMs") else ""


def to_grant(roles: Iterable[str], scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the operator scopes that somebody needs to grant or end this: the scopes themselves, admin for another role."""
    other = any(role != OPERATOR for role in roles)
    return tuple(scope for scope in scopes if scope.startswith(f"{OPERATOR}.")) + ((ADMIN,) if other else ())


def to_end(entry: Entry | None) -> tuple[str, ...]:
    """Return the operator scopes needed to end all of a device's access; admin where it is not in sight."""
    if entry is None:
        return (ADMIN,)
    held = (scope for token in tokens(entry) for scope in texts(token, "scopes"))
    return to_grant(roles(entry), dict.fromkeys((*texts(entry, "scopes"), *held)))


def to_touch_token(entry: Entry | None, role: str, scopes: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the operator scopes needed to rotate or revoke the token of a role; admin where it is not in sight."""
    token = next((t for t in tokens(entry or {}) if t.get("role") == role), None)
    if entry is None or token is None:
        return (ADMIN,)
    return to_grant((role,), dict.fromkeys((*texts(token, "scopes"), *scopes)))


def called(entry: Entry) -> str:
    """Return what people call a device: its label, its own name, or the start of its id."""
    for key in ("operatorLabel", "displayName", "clientId"):
        if name := plain(entry.get(key) or "", 40):
            return name
    return short(entry)


def short(entry: Entry) -> str:
    """Return the start of a device id, enough to name it by."""
    return plain(entry.get("deviceId", "?"))[:12]


def full(entry: Entry) -> str:
    """Return a device's whole id."""
    return plain(entry.get("deviceId", "?"), 128)
