"""What stands between a device and what it wants: held against its grant, or against what it already asks for.

Pure; the order of the needs is that of protocol §5.1.
"""

from .authority import belongs, covers, normalise
from .commands import Wanted
from .device import Grant, Pending
from .events import Need
from .platforms import fold_case, same_platform


def shortfalls(grant: Grant | None, wanted: Wanted) -> tuple[Need, ...]:
    """Return what stands between a proven device and what it wants, in the order of protocol §5.1; nothing where it may in."""
    if grant is None or grant.key != wanted.key:
        return ("not-paired",)
    needs: list[Need] = []
    if _changed(grant, wanted):
        needs.append("metadata-upgrade")
    if grant.live(wanted.role, wanted.under) is None:
        needs.append("role-upgrade")
    if wanted.scopes and not covers(wanted.role, grant.scopes, wanted.scopes):
        needs.append("scope-upgrade")
    return tuple(needs)


def _changed(grant: Grant, wanted: Wanted) -> bool:
    """A stored value that differs or is now missing counts; one that was never stored does not (N5)."""
    platform = bool(fold_case(grant.platform)) and not same_platform(grant.platform, wanted.platform)
    family = bool(fold_case(grant.family)) and fold_case(grant.family) != fold_case(wanted.family)
    return platform or family


def covered_by(pending: Pending, wanted: Wanted) -> bool:
    """Say whether an open request already asks for all of this: the same, a narrower, or one of several merged roles (R3)."""
    if pending.key != wanted.key or wanted.role not in pending.roles:
        return False
    asked = normalise(pending.scopes)
    return all(
        scope in asked or (belongs(scope, wanted.role) and covers(wanted.role, asked, (scope,)))
        for scope in normalise(wanted.scopes)
    )
