"""`pairing connect`: be a device, for trying things out and for scripts.

Makes or loads the device's key, asks for access, keeps the token that comes; never prints one.
"""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Reach, reaching
from .running import answer
from .voice import Failure, Told, clock, fields, hint, plain, remark

if TYPE_CHECKING:
    from pairing.client.errors import ConnectRefused, NotApproved
    from pairing.client.session import Login, Session

    from .target import Target

WAIT_S = 300.0
_PAUSE_S = 1.0
_LOGINS = {
    "token": "shared token",
    "password": "shared password",
    "device-token": "its own token",
    "bootstrap-token": "setup code",
    "none": "no secret needed",
}
# Ids and modes of protocol §2.2: the roles differ in what a gateway lets be silent.
_CLIENTS = {"operator": ("cli", "cli"), "node": ("node-host", "node")}
_DEFAULT_SCOPES = {"operator": ("operator.read",), "node": ()}


@click.command("connect", short_help="Connect to a gateway as a device.")
@click.option(
    "--role", type=click.Choice(["operator", "node"]), help="What to be: operator, or with a setup code node, unless given."
)
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Ask for exactly these; may be repeated.")
@click.option("--name", metavar="NAME", help="What the device calls itself; this host's name unless given.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 86_400),
    is_flag=False,
    flag_value=WAIT_S,
    metavar="[SECONDS]",
    help=f"Wait for the approval, {WAIT_S:.0f} seconds unless given.",
)
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder of the device.")
@click.option("--setup-code-stdin", is_flag=True, help="Read a setup code from standard input; it names the gateway.")
@click.option(
    "--setup-code-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Read the setup code from a file."
)
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Send an HTTP header; may be repeated.")
@reaching
def connect(
    role: str | None,
    scopes: tuple[str, ...],
    name: str | None,
    wait: float | None,
    home: Path | None,
    setup_code_stdin: bool,
    setup_code_file: Path | None,
    headers: tuple[str, ...],
    reach: Reach,
) -> None:
    """Connect to a gateway as a device, say what came of it, and end.

    The device's key and tokens are kept in the folder identity of its state folder. A token that the gateway gave it before is
    used where no secret is given. While somebody must approve first, the exit code is 3.

    A setup code, as `pairing enroll new` makes it, names the gateway and lets a new device in. It is read from standard input or
    a file, never from an argument, and is of no more use once the device has come back by its own token.

    A header like 'X-Forwarded-For: 203.0.113.7' makes a connection from this host count as a remote one.
    """
    pairs = tuple(_header(text) for text in headers)

    async def work() -> Told:
        from .target import find

        if setup_code_stdin or setup_code_file is not None:
            from .setup_codes import by_code

            target, usual = by_code(reach, setup_code_stdin, setup_code_file, home), "node"
        else:
            target, usual = find(reach, os.environ, home, lenient=True), "operator"
        login = _login(target, role or usual, scopes, name, pairs)
        return await _connect(target, login, wait, reach.timeout_ms / 1000)

    answer(work, reach.as_json)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not name or not name.isascii() or any(c.isspace() for c in name) or not value.isprintable():
        raise click.UsageError(f"--header takes 'NAME: VALUE', not {plain(text)!r}.")
    return name, value


def _login(
    target: "Target", role: str, scopes: tuple[str, ...], name: str | None, headers: tuple[tuple[str, str], ...]
) -> "Login":
    from importlib.metadata import version

    from pairing.client.handshake import here
    from pairing.client.session import Login
    from pairing.client.store import Store

    store = Store(target.home)
    identity = store.load()
    if identity is None:
        identity = store.make(clock())
        remark(f"Made a device identity: {store.identity_path}")
    if other := store.stranger(identity.device):
        remark(f"{store.tokens_path} holds tokens of another device ({other[:12]}); they are not used")
    client_id, mode = _CLIENTS[role]
    return Login(
        client=here(client_id, mode, version=version("pairing-gateway"), name=name or socket.gethostname() or None),
        credentials=target.credentials,
        identity=identity,
        store=store,
        role=role,
        scopes=scopes or _DEFAULT_SCOPES[role],
        exact=bool(scopes),
        headers=headers,
        allow_private=target.allow_private,
        tls=target.tls,
    )


async def _connect(target: "Target", login: "Login", wait: float | None, timeout: float) -> Told:
    """Try once, or with `wait` (seconds) until somebody has answered."""
    from pairing.client.errors import ConnectRefused
    from pairing.client.session import connect as dial

    try:
        async with dial(target.place.url, login, timeout=timeout) as session:
            return _told(target, login, session)
    except ConnectRefused as refused:
        if wait is None or refused.request is None:
            raise
        asked = refused
    remark(f"Waiting for approval of request {asked.request}")
    hint(f"on the gateway's host: pairing devices approve {asked.request}")
    return await _wait(target, login, asked, wait, timeout)


async def _wait(target: "Target", login: "Login", asked: "ConnectRefused", wait: float, timeout: float) -> Told:
    """Go on asking, which keeps the request alive, until it is answered or the time is up; a gateway may go and come back."""
    import anyio

    from pairing.client.errors import ClientError, NotApproved, Stopped
    from pairing.client.pacing import Backoff
    from pairing.client.staying import Turn, stay

    latest: ClientError = asked

    def hear(turn: Turn) -> None:
        nonlocal latest
        latest = turn.why or latest

    pace = Backoff(first=_PAUSE_S, most=_PAUSE_S)
    try:
        with anyio.move_on_after(wait):
            async with stay(target.place.url, login, asked=asked.request, timeout=timeout, hear=hear, backoff=pace) as line:
                return _told(target, login, await line.session())
    except NotApproved as no:
        raise _rejected(no) from None
    except Stopped as stopped:
        raise stopped.refused from None
    raise latest


def _rejected(no: "NotApproved") -> Failure:
    from pairing.refusals import Exit

    return Failure(
        Exit.REFUSED,
        "rejected",
        f"request {no.request} was closed without approval; this last try opened {no.refused.request}",
        "Ask the gateway's operator, then try again: pairing connect --wait",
        details={"requestId": no.request, "openRequestId": no.refused.request},
    )


def _told(target: "Target", login: "Login", session: "Session") -> Told:
    hello, store, identity = session.hello, login.store, login.identity
    kept = str(store.tokens_path) if store is not None and hello.token is not None else None
    document = {
        "url": target.place.url,
        "deviceId": identity.device if identity else None,
        "role": hello.role,
        "scopes": list(hello.scopes),
        "protocol": hello.protocol,
        "server": hello.server,
        "method": hello.method,
        "tokenStored": kept,
        "tokenIsNew": session.token_is_new,
        **({"tokensFor": [other.role for other in hello.others]} if hello.others else {}),
    }
    rows = [
        ("device", identity.device if identity else ""),
        ("role", plain(hello.role)),
        ("scopes", ", ".join(plain(scope) for scope in hello.scopes) or "none"),
        ("protocol", str(hello.protocol)),
        ("login by", _LOGINS.get(hello.method or "", plain(hello.method or ""))),
        ("also for", ", ".join(plain(other.role) for other in hello.others)),
        ("token", f"{'new' if session.token_is_new else 'as before'}, stored in {kept}" if kept else "none came"),
    ]
    return Told(document, f"Connected to {target.place.url}\n" + fields([row for row in rows if row[1]]))
