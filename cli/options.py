"""The options that commands share: where the gateway is, what to show it, how to answer, and a person's words for the record."""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_PATIENCE_MS = 300_000
TIMEOUT_MS = 10_000
# What a person says beside a command, for the record, by the names of the wire.
Words: TypeAlias = Mapping[str, str | bool | None]
IDEMPOTENCY_KEY = "pairing.idempotency-key"


class Reach(NamedTuple):
    """How to reach a gateway, as it was typed. `token` and `password` are secrets: its repr shows neither."""

    url: str | None
    token: str | None
    password: str | None
    timeout_ms: int
    as_json: bool

    def __repr__(self) -> str:
        return f"Reach(url={self.url!r}, token={'…' if self.token else None}, password={'…' if self.password else None})"


def patience(reach: Reach) -> int:
    """Return the time in ms for a call that may have to read most of a log, however little the command gave."""
    return max(reach.timeout_ms, _PATIENCE_MS)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, also on failure.")


def reaching(command: F) -> F:
    """Give a command the options that say how to reach a gateway, as one `reach`."""

    @functools.wraps(command)
    def reached(*args: Any, url: str | None, token: str | None, password: str | None, timeout_ms: int, **rest: Any) -> Any:
        token, password = _typed_in(token, password)
        reach = Reach(url, token, password, timeout_ms, rest.pop("as_json"))
        return command(*args, reach=reach, **rest)

    options = (
        click.option("--url", metavar="URL", help="Talk to this gateway and no other; needs --token or --password."),
        click.option("--token", metavar="TOKEN", help='Shared token; "-" reads it from standard input.'),
        click.option("--password", metavar="PASSWORD", help='Shared password; "-" reads it from standard input.'),
        click.option(
            "--timeout",
            "timeout_ms",
            type=click.IntRange(1, 3_600_000),
            default=TIMEOUT_MS,
            metavar="MS",
            help=f"Time for the whole command, in milliseconds ({TIMEOUT_MS}).",
        ),
        json_option,
    )
    for option in reversed(options):
        reached = option(reached)
    return reached  # type: ignore[return-value]


def recorded(command: F) -> F:
    """Give a command `--reason` and `--ticket`, which are stored with what it does, as one `words`."""

    @functools.wraps(command)
    def asked(*args: Any, reason: str | None, ticket: str | None, **rest: Any) -> Any:
        return command(*args, words={"reason": reason, "ticket": ticket}, **rest)

    asked = click.option("--ticket", metavar="TEXT", help="A ticket's number, stored with the event.")(asked)
    return click.option("--reason", metavar="TEXT", help="Why, stored with the event.")(asked)  # type: ignore[return-value]


def repeatable(command: F) -> F:
    """Give a command `--idempotency-key`; `receipts.params` sends it with each of its calls."""

    def remember(context: click.Context, _: click.Parameter, key: str | None) -> None:
        if key is not None and not key.strip():
            raise click.BadParameter("a blank key tells no call from another.")
        context.meta[IDEMPOTENCY_KEY] = key

    return click.option(
        "--idempotency-key",
        metavar="KEY",
        expose_value=False,
        callback=remember,
        help="Do it once: the same command with the same key gets the first answer again.",
    )(command)


def _typed_in(token: str | None, password: str | None) -> tuple[str | None, str | None]:
    """Read the secrets given as "-", and warn where one was typed for other users to see."""
    if {token, password} == {"-"}:
        raise click.UsageError("Only one of --token and --password can be read from standard input.")
    if sys.stderr.isatty() and any(secret not in {None, "-", ""} for secret in (token, password)):
        from .voice import hint

        hint('other users of this host can read arguments; "--token -" reads the token from standard input instead')
    return _read("--token", token), _read("--password", password)


def _read(name: str, given: str | None) -> str | None:
    if given is not None and given != "-":
        if not given.strip():
            raise click.UsageError(f"{name} is blank.")
        return given
    if given is None:
        return None
    if sys.stdin.isatty():
        return str(click.prompt(name.removeprefix("--"), hide_input=True, err=True))
    line = sys.stdin.readline().strip()
    if not line:
        raise click.UsageError(f"{name} - found nothing on standard input.")
    return line
