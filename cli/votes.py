"""Approvals that take several, as a reviewer reads them: who has approved, how many more must, and whose counts no longer."""

from typing import Any

from pairing.refusals import Exit, Reason

from .voice import Failure, Told, age, moment, plain, table

_TOLD = ("requestId", "approvals", "needed", "changed", "recorded")
_WHY = {"changed": "the request changed", "superseded": "a wider request took its place", "lapsed": "the voter no longer may"}


def waiting(failure: Failure) -> Told | None:
    """Return the answer to an approval that was taken but is not the last one needed; None for a failure."""
    if failure.reason != Reason.MORE_APPROVALS.value:
        return None
    details = failure.details
    given, needed = (plain(details.get(key, "?")) for key in ("approvals", "needed"))
    said = f"{given} of {needed} approvals, waiting for another operator"
    recorded: Any = details.get("recorded")
    if isinstance(recorded, dict):
        said += f" — recorded as {plain(recorded.get('kind', '?'))} at position {plain(recorded.get('position', '?'))}"
    else:
        said += ". You had approved it already; nothing was changed"
    document: dict[str, Any] = {key: details[key] for key in _TOLD if key in details}
    return Told({**document, "waiting": True}, said, (f"hint: {failure.hint}",), exit=Exit.REFUSED)


def so_far(entry: Any, now: int) -> str:
    """Say who has approved a request, of how many who must; nothing where one is enough."""
    needed, given = entry.get("approvalsNeeded"), entry.get("approvals")
    given = [vote for vote in given if isinstance(vote, dict)] if isinstance(given, list) else []
    if not isinstance(needed, int) or (needed < 2 and not given):
        return ""
    who = ", ".join(f"{_voter(vote)} ({age(vote.get('atMs'), now)})" for vote in given)
    return f"{len(given)} of {needed}" + (f": {who}" if who else "")


def voided(entries: Any) -> str:
    """Lay out approvals that count no longer."""
    rows = []
    for entry in entries:
        at, why = entry.get("atMs"), str(entry.get("why", "?"))
        when = moment(at) if isinstance(at, int) else ""
        rows.append((_voter(entry), plain(entry.get("requestId", "?"), 128), _WHY.get(why, plain(why)), when))
    return table(("Approved by", "Request", "Counts no longer", "Since"), rows)


def _voter(entry: Any) -> str:
    kind, _, id = str(entry.get("voter", "?")).partition(":")
    names = {"device": "device", "local": "local user", "shared-secret": "the shared secret"}
    return f"{names.get(kind, plain(kind))} {plain(id)[:12]}".rstrip()
