"""`pairing devices refusals`: who was turned away lately, and the evidence behind the reference of one refusal. Reads only."""

from typing import Any

import click

from .options import Reach, reaching
from .running import answer
from .voice import Told, age, clock, fields, moment, plain, table


@click.command("refusals", short_help="Show who was turned away, and why.")
@click.argument("device", required=False)
@click.option("--ref", "reference", metavar="REF", help="Show what stands behind this reference of a refusal.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="How many, the latest first.")
@reaching
def refusals(device: str | None, reference: str | None, limit: int, reach: Reach) -> None:
    """Show the connections that were turned away lately: all, or those of one DEVICE.

    The same refusal again is one contact, with a count and a first and last time. A refusal tells its client a reference and
    little else; with --ref the rules that were tried are shown, and what each of them compared.
    """
    if device is not None and reference is not None:
        raise click.UsageError("Give a device or --ref, not both.")
    answer(lambda: _found(reach, reference) if reference is not None else _list(reach, device, limit), reach.as_json)


async def _found(reach: Reach, reference: str) -> Told:
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        entry = await door.call("contact.find", {"reference": reference})
    return Told(entry, _card(entry, clock()))


async def _list(reach: Reach, device: str | None, limit: int) -> Told:
    from .door import open_door
    from .naming import find_device

    async with open_door(reach, fallback=True) as door:
        which = {} if device is None else {"device": (await find_device(door, device)).id}
        found = await door.call("contact.list", {**which, "limit": limit})
    held = found.get("contacts", ())
    document = {"contacts": list(held)}
    if not held:
        return Told(document, "Nobody was turned away lately.")
    return Told(document, _table(held, clock()), ("What stands behind one: pairing devices refusals --ref REF",))


def _table(entries: Any, now: int) -> str:
    rows = [
        (
            plain(entry.get("reference", "?")),
            _who(entry)[:20],
            plain(entry.get("reason", "?")),
            f"{entry.get('count', 1)}x",
            _age(entry.get("atMs"), now),
            plain(entry.get("remoteIp") or ""),
            rule_that_failed(entry),
        )
        for entry in entries
    ]
    return table(("Reference", "Device", "Reason", "Times", "Last", "From", "Rule that failed"), rows)


def _card(entry: Any, now: int) -> str:
    from .access import texts

    first, last = entry.get("firstAtMs"), entry.get("atMs")
    rows = [
        ("device", plain(entry.get("deviceId") or "none given", 128) + ("" if entry.get("proven") else " (not proven)")),
        ("reason", f"{plain(entry.get('reason', '?'))} ({plain(entry.get('code', '?'))})"),
        ("from", plain(entry.get("remoteIp") or "unknown address")),
        ("role", plain(entry.get("role") or "")),
        ("scopes", ", ".join(plain(scope) for scope in texts(entry, "scopes"))),
        ("token", reused(entry, now)),
        ("times", f"{entry.get('count', 1)}"),
        ("first", _when(first, now)),
        ("last", _when(last, now)),
    ]
    parts = [f"Refusal {plain(entry.get('reference', '?'))}\n" + fields([row for row in rows if row[1]])]
    if trace := entry.get("trace", ()):
        steps = [
            (plain(s.get("rule", "")), "passed" if s.get("passed") else "FAILED", said(s.get("found")), said(s.get("needed")))
            for s in trace
        ]
        parts.append(table(("Rule", "", "Found", "Needed"), steps))
    return "\n\n".join(parts)


def rule_that_failed(entry: Any) -> str:
    """Say by which rule a contact was turned away, and what that rule compared."""
    rule: Any = next((step for step in reversed(entry.get("trace", ())) if not step.get("passed")), None)
    if rule is None:
        return ""
    why = f"{plain(rule.get('rule', ''))}: {said(rule.get('found'))}"
    return why + (f", needed {said(rule['needed'])}" if rule.get("needed") else "")


def reused(entry: Any, now: int) -> str:
    """Say that a token was shown which had ended, since when, and from where the one in its place was last used."""
    found = entry.get("reuse")
    if not isinstance(found, dict):
        return ""
    present = f"; the present one was used from {plain(found['presentIp'])}" if found.get("presentIp") else ""
    when = f" {_age(found.get('presentAtMs'), now)}" if present else ""
    return f"one that was {plain(found.get('how', 'ended'))} {_age(found.get('retiredAtMs'), now)}{present}{when}"


def said(value: Any) -> str:
    """Return what a rule found or needed, fit to print."""
    return plain(value or "", 64)


def _who(entry: Any) -> str:
    device = entry.get("deviceId")
    return "-" if not device else plain(device)[:12] + ("" if entry.get("proven") else " (said)")


def _age(at: Any, now: int) -> str:
    return age(at, now) if isinstance(at, int) else ""


def _when(at: Any, now: int) -> str:
    return f"{moment(at)} ({age(at, now)})" if isinstance(at, int) else ""
