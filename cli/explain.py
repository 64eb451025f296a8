"""`pairing explain`: why a device is let in or not, what a token is, one next command. A token comes on standard input alone."""

import shlex
import sys
from collections.abc import Mapping
from typing import Any

import click

from .history import line
from .moments import Params, as_of, at_option
from .options import Reach, reaching
from .running import answer
from .voice import Failure, Told, age, clock, fields, plain

_FINDINGS = {
    "let-in": "it is let in",
    "superseded": "its token was replaced; it uses an old one",
    "never-collected": "its token was replaced, and it has not been back since to collect the new one",
    "handoff-over": "its token was replaced, and the time that was left to the old one is over",
    "revoked": "its token was revoked",
    "expired": "its token has expired",
    "removed": "the device was removed",
    "paired-anew": "its token is of an earlier pairing; the device was removed and paired anew since",
    "other-role": "its token is of another role",
    "other-device": "the token is another device's",
    "node-token": "the token is the one of a node's approval, which lets nobody in",
    "shared-secret": "that is the gateway's shared secret, and no device token",
    "foreign": "the token was not issued by this gateway: it is another gateway's, or invented",
    "never-issued": "that has not the form of a token, and was never one",
    "unrecognised": "it showed none of its own tokens",
    "abandoned": "its token is of a timeline that a restore has left",
    "secret-changed": "its token rested on the shared secret alone, and that was changed",
    "wrong-secret": "it showed a shared secret that is not this gateway's",
    "nothing-shown": "it showed neither a token nor the shared secret",
    "not-paired": "it is not paired, and has asked for nothing",
    "waiting": "it asked, and waits for an answer",
    "ask-expired": "it asked, and nobody answered in time",
    "rejected": "it asked, and was rejected",
    "role-missing": "it wants a role that it was not given",
    "scope-shortfall": "it wants scopes that its token does not cover",
    "changed": "it comes back as another machine than was approved",
    "locked": "it is locked",
    "attempts": "its address has failed too often",
    "clock": "its clock is off: what it signed was not fresh",
    "proof": "it could not prove its key",
    "newer-version": "its history holds an event of a newer version, past which nobody is let in",
    "other": "it was refused",
}
_WHERE = {"here": "Next", "gateway-host": "Next, on the gateway's host", "device": "Next, on the device"}


@click.command("explain", short_help="Say why a device is let in or not, and what to do next.")
@click.argument("device", required=False, metavar="[DEVICE]")
@click.option("--role", metavar="ROLE", help="As what it wants to be let in; what its token is for unless given.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What it wants to use; may be repeated.")
@click.option("--ref", "reference", metavar="REF", help="Explain the refusal that told this reference, as it was then.")
@click.option("--token-stdin", is_flag=True, help="Read the token that it shows from standard input, and say what it is.")
@at_option
@reaching
def explain(
    device: str | None,
    role: str | None,
    scopes: tuple[str, ...],
    reference: str | None,
    token_stdin: bool,
    at: Params | None,
    reach: Reach,
) -> None:
    """Say why a DEVICE is let in or not: where it and the gateway parted, and one next command, which was tried on a copy.

    The judgement is the gateway's own. Without --ref and --token-stdin it is about the device's present token. With --token-stdin
    DEVICE can be left out: the token is then looked for among those of all devices.
    """
    if device is None and reference is None and not token_stdin:
        raise click.UsageError("Give a device, --ref or --token-stdin.")
    given = {"device": device, "role": role, "reference": reference, "token": _token() if token_stdin else None}
    asked: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if scopes:
        asked["scopes"] = list(scopes)
    answer(lambda: _explain(reach, {**asked, **(at or {})}, at is not None or reference is not None), reach.as_json)


def _token() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("token", hide_input=True, err=True))
    text = sys.stdin.readline().strip()
    if not text:
        raise click.UsageError("--token-stdin found nothing on standard input.")
    return text


async def _explain(reach: Reach, asked: Mapping[str, Any], past: bool) -> Told:
    from .door import open_door

    async with open_door(reach, fallback=True) as door:
        found = await door.call("history.explain", asked)
    if found.get("finding") not in _FINDINGS:
        raise Failure(7, "newer-gateway", f"the gateway found {plain(found.get('finding', '?'))}", "Update this command.")
    said = as_of(found.get("position"), found.get("recordedAtMs"), past)
    return Told(found, "\n\n".join((*_parts(found), said)))


def _parts(found: Mapping[str, Any]) -> list[str]:
    device, role = plain(found.get("deviceId") or ""), plain(found.get("role") or "")
    code = f" ({plain(found['code'])})" if found.get("code") else ""
    whom = f"{plain(device, 128)}, as {role}: " if device else ""
    parts = [f"{whom}{_FINDINGS[str(found['finding'])]}{code}."]
    rows = [
        ("wanted", ", ".join(plain(scope) for scope in found.get("scopes", ())) or "no scopes" if device else ""),
        ("parted", line(found["parted"]).strip() if found.get("parted") else ""),
        *_was(found.get("token") or {}),
    ]
    if shown := [row for row in rows if row[1]]:
        parts.append(fields(shown))
    if found.get("steps"):
        parts.append("Rules, as the gateway applies them\n\n" + "\n".join(_step(step) for step in found["steps"]))
    if step := found.get("next"):
        parts.append(_next(step))
    if last := found.get("lastRefused"):
        parts.append(_last(last))
    return parts


def _last(last: Mapping[str, Any]) -> str:
    """Without a reference this is about what would happen; somebody may have asked because of what did."""
    at = last.get("atMs")
    when = age(at, clock()) if isinstance(at, int) else "once"
    why, again = plain(last.get("reason") or "?"), f"pairing explain --ref {plain(last.get('reference') or '?')}"
    return f"It was last turned away {when} ({why}), and has not been inside since. About that: {again}"


def _was(token: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not token:
        return []
    fate = plain(token.get("fate") or token.get("what") or "?")
    whose = f", {plain(token['role'])} token of {plain(token['deviceId'], 128)}" if token.get("role") else ""
    rows = [("token", fate + whose)]
    for key, name in (("issued", "begun"), ("ended", "ended")):
        if token.get(key):
            rows.append((name, line(token[key]).strip()))
    if token.get("searched"):
        rows.append(("searched", f"{token['searched']} generations of tokens"))
    return rows


def _step(step: Mapping[str, Any]) -> str:
    needed = f", needed {plain(step['needed'], 128)}" if step.get("needed") else ""
    passed = "pass" if step.get("passed") else "FAIL"
    text = f"  {passed}  {plain(step.get('rule', '?'))}: {plain(step.get('found', '?'), 128)}{needed}"
    return f"{text}\n        since {line(step['since']).strip()}" if step.get("since") else text


def _next(step: Mapping[str, Any]) -> str:
    command = shlex.join(plain(word, 256) for word in step.get("command", ()))
    then = f"\n  {plain(step['then'], 256)}" if step.get("then") else ""
    return f"{_WHERE.get(str(step.get('where')), 'Next')}:\n\n  {command}\n\n  {plain(step.get('does', ''), 256)}{then}"
