"""`pairing devices approve`: exactly one request, by its id. Without one it only shows what it would be about (R1)."""

import shlex
from typing import TYPE_CHECKING, Any

import click

from .options import TIMEOUT_MS, Reach, Words, reaching, recorded, repeatable
from .running import answer
from .voice import Failure, Told, clock, fields, plain

if TYPE_CHECKING:
    from .access import Entry
    from .door import Door
    from .naming import Listing


@click.command("approve", short_help="Approve exactly one open request.")
@click.argument("request", required=False, metavar="[REQUEST]")
@click.option("--latest", is_flag=True, help="Show the newest request and the command that approves it; approves nothing.")
@click.option("--seen", metavar="DIGEST", help="Approve only if the request still is what this digest was shown for.")
@recorded
@repeatable
@reaching
def approve(request: str | None, latest: bool, seen: str | None, words: Words, reach: Reach) -> None:
    """Approve exactly one open REQUEST, by its id or the start of it.

    Without REQUEST, or with --latest, nothing is approved: the newest request is shown with the command to run, and the exit
    code is 1. Where several operators must approve, yours is recorded, and the exit code is 3 until the last one has.
    """
    if request is not None and latest:
        raise click.UsageError("Give a request or --latest, not both.")
    if seen is not None and request is None:
        raise click.UsageError("--seen goes with a request.")
    if request is None:
        answer(lambda: _preview(reach), reach.as_json)
    else:
        words = {"seen": seen, **words}
        answer(lambda: _approve(reach, request, words), reach.as_json)


async def _approve(reach: Reach, text: str, words: Words) -> Told:
    from .access import access, full, roles, texts, to_grant
    from .door import open_door
    from .failures import about
    from .naming import find_request
    from .receipts import params, recorded_as
    from .votes import waiting

    async with open_door(reach, fallback=True) as door:
        request, held = await find_request(door, text)
        entry = next((e for e in held.pending if e.get("requestId") == request), None)
        if entry is not None:
            await door.ask_for(to_grant(roles(entry), texts(entry, "scopes")))
        try:
            with about(request=request):
                result = await door.call("device.pair.approve", params(words, requestId=request))
        except Failure as failure:
            if (told := waiting(failure)) is not None:
                return told
            raise await _changed(reach, door, failure, request) from None
    device = result.get("device") or entry or {}
    said = recorded_as(result, f"Approved {full(device)} ({plain(request, 128)})", "Already approved")
    return Told(result, f"{said}\n  {access(device)}" if result.get("device") else said)


async def _changed(reach: Reach, door: "Door", failure: Failure, request: str) -> Failure:
    """Show what a request is now, where it is no longer what its approver saw; anything else stays as it is."""
    from pairing.refusals import Reason

    from .devices_show import card
    from .naming import listing

    if failure.reason != Reason.REQUEST_CHANGED.value:
        return failure
    held = await listing(door)
    entry = next((entry for entry in held.pending if entry.get("requestId") == request), None)
    if entry is not None:
        failure.lines = ("It is now:", "", card(entry, held.device(entry.get("deviceId")), clock()), "")
        failure.hint = f"If that is right: {_command(reach, entry)}"
        failure.details |= {"requestId": request, "request": entry}
    return failure


async def _preview(reach: Reach) -> Told:
    from pairing.refusals import Exit

    from .door import open_door
    from .naming import listing

    async with open_door(reach, fallback=True) as door:
        held = await listing(door)
    if not held.pending:
        raise Failure(
            Exit.NOT_FOUND, "nothing-pending", "no device asks to be approved", "Let it connect: pairing connect --wait"
        )
    newest = max(held.pending, key=lambda entry: entry.get("ts") or 0)
    command = _command(reach, newest)
    secret = next((name for name, given in (("--token", reach.token), ("--password", reach.password)) if given), None)
    notes = [f"\nNothing was approved. Approve this exact request with:\n  {command}"]
    if secret:
        notes.append(f"Give the same {secret} again.")
    others = len(held.pending) - 1
    if others:
        notes.append(f"{others} more {'is' if others == 1 else 'are'} waiting: pairing devices list")
    return Told(_document(reach, newest, held, command), _text(newest, held), tuple(notes), exit=Exit.FAILED)


def _document(reach: Reach, entry: "Entry", held: "Listing", command: str) -> dict[str, Any]:
    from .access import kind, roles, texts

    paired = held.device(entry.get("deviceId"))
    approved = None if paired is None else {"roles": roles(paired), "scopes": texts(paired, "scopes")}
    return {
        "selected": entry,
        "approvalState": {
            "kind": kind(entry, paired).replace(" ", "-"),
            "requested": {"roles": roles(entry), "scopes": texts(entry, "scopes")},
            "approved": approved,
        },
        "approveCommand": command,
        "requiresAuthFlags": {"token": reach.token is not None, "password": reach.password is not None},
    }


def _text(entry: "Entry", held: "Listing") -> str:
    from .access import access, called, full, kind, note
    from .devices_show import origin, when

    paired = held.device(entry.get("deviceId"))
    what = kind(entry, paired)
    rows = [
        ("device", full(entry)),
        ("named", called(paired or entry)),
        ("kind", what),
        ("requested", access(entry)),
        ("approved", access(paired)),
        ("from", origin(entry)),
        ("asked", when(entry, clock())),
        ("digest", plain(entry.get("digest") or "", 128)),
        ("note", note(what)),
    ]
    head = f"Selected pending device request {plain(entry.get('requestId', '?'), 128)}"
    return f"{head}\n\n" + fields([row for row in rows if row[1]])


def _command(reach: Reach, entry: "Entry") -> str:
    parts = ["pairing", "devices", "approve", str(entry.get("requestId", ""))]
    if digest := entry.get("digest"):
        parts += ["--seen", str(digest)]
    if reach.url:
        parts += ["--url", reach.url]
    if reach.timeout_ms != TIMEOUT_MS:
        parts += ["--timeout", str(reach.timeout_ms)]
    if reach.as_json:
        parts.append("--json")
    return shlex.join(parts)
