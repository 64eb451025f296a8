"""`pairing serve`: make the state folder if there is none, open the log, listen, and end in order.

Nothing starts half: settings, keys and port are found good before the first event is written.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pairing.settings import Settings

    from .compose import Opened


@click.command("serve")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder (PAIRING_HOME, ~/.pairing).")
@click.option("--port", type=int, help="TCP port (18789).")
@click.option("--bind", help="loopback, lan, or an IP address.")
@click.option("--auth", type=click.Choice(["token", "password", "none"]), help="Which shared secret admits.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="PEM file with the certificate chain.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="PEM file with the private key.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["auto", "console", "json"]))
@click.option("--new-key", is_flag=True, help="Make a new gateway key where the old one is lost; every token is void then.")
def serve(
    home: Path | None,
    port: int | None,
    bind: str | None,
    auth: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    log_level: str | None,
    log_format: str | None,
    new_key: bool,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    Without any configuration it makes its state folder, a gateway key and a shared token, and listens on 127.0.0.1:18789.
    """
    flags: dict[str, object] = {
        "gateway.port": port,
        "gateway.bind": bind,
        "gateway.auth.mode": auth,
        "gateway.tls.cert": tls_cert and str(tls_cert),
        "gateway.tls.key": tls_key and str(tls_key),
        "log.level": log_level,
        "log.format": log_format,
    }
    from pairing.settings import default_home, ensure_home, load

    from . import logs

    folder = home or default_home(os.environ)
    # The file is judged before anything is made, so that a mistake in it leaves nothing behind.
    load(folder, env=os.environ, flags=flags)
    ensure_home(folder)
    settings = load(folder, env=os.environ, flags=flags, serving=True)
    logs.configure(settings.log.level, settings.log.format, lasting=True)
    try:
        _run(settings, new_key=new_key)
    except OSError as error:
        raise _unbound(error, settings.gateway.port, settings.gateway.host) from None


def _run(settings: "Settings", *, new_key: bool) -> None:
    import anyio

    try:
        import uvloop  # noqa: F401

        options = {"use_uvloop": True}
    except ImportError:
        options = {}
    try:
        anyio.run(_serve, settings, new_key, backend_options=options)
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    """Return the one error behind nested task groups, so that it is told as itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(settings: "Settings", new_key: bool) -> None:
    import anyio
    import structlog

    from pairing import ids
    from pairing.gateway.house import House
    from pairing.gateway.limits import RateLimiter
    from pairing.gateway.server import Gateway
    from pairing.gateway.session import Registry

    from . import anchoring, tls
    from .compose import clock, machine, open_all

    secure, registry = tls.context(settings), Registry()
    log = structlog.get_logger("pairing.serve")
    async with open_all(settings, sessions=registry, new_key=new_key) as opened:
        for warning in settings.warnings:
            log.warning("setting", says=warning)
        house = House(
            service=opened.service,
            registry=registry,
            events=opened.log,
            rules=settings.gateway,
            activity=opened.activity,
            limiter=RateLimiter(settings.gateway.auth.rate_limit),
            describe=lambda: {"stateDir": str(settings.home), "configPath": str(settings.home / "config.toml")},
            machine=partial(machine, settings),
            requests_lock=settings.home / "requests.lock",
        )
        gateway, instance = Gateway(house), ids.uuid7(clock())
        opened.log.timed = gateway.metrics.appended
        # Closing views and log afterwards must not be cut short, so the signals end the gateway alone.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(opened.activity.keep)
            tasks.start_soon(anchoring.keep, settings, opened.service.custody)
            # Once the port is ours and before anybody is let in: whoever connects finds the start recorded.
            record = partial(_started, opened, settings, instance)
            addresses = await tasks.start(partial(gateway.run, ssl=secure, opening=record))
            _say_hello(settings, addresses[0])
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for number in signals:
                    log.info("stopping", signal=signal.Signals(number).name)
                    break
            gateway.farewell()
            tasks.cancel_scope.cancel()
        await _stopped(opened, instance)
        log.info("stopped")


async def _started(opened: "Opened", settings: "Settings", instance: str, addresses: "Sequence[tuple[str, int]]") -> None:
    """Record that this process serves, and under which policy."""
    from pairing import ids
    from pairing.commands import Start
    from pairing.settings import policy_digest

    from .compose import admitting, clock, local_caller

    service, now = opened.service, clock()
    await service.desk.handle_house(
        Start(
            id=ids.uuid7(now),
            now=now,
            by=local_caller(),
            instance=instance,
            version=service.version,
            listen=f"{addresses[0][0]}:{addresses[0][1]}",
            key=service.keyring.current.id,
            ruling=policy_digest(settings),
            secret=service.under,
            settings=admitting(settings),
        )
    )


async def _stopped(opened: "Opened", instance: str) -> None:
    from pairing import ids
    from pairing.commands import Stop

    from .compose import clock, local_caller

    now = clock()
    await opened.service.desk.handle_house(Stop(id=ids.uuid7(now), now=now, by=local_caller(), instance=instance))


def _say_hello(settings: "Settings", address: tuple[str, int]) -> None:
    scheme = "wss" if settings.gateway.tls.cert else "ws"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    click.echo(f"pairing gateway listening on {scheme}://{host}:{address[1]}")
    click.echo(f"state in {settings.home} (auth: {settings.gateway.auth.mode})")
    click.echo("try next: pairing devices list")
    sys.stdout.flush()


def _unbound(error: OSError, port: int, host: str) -> Exception:
    import errno

    from pairing.refusals import Exit

    from .occupant import occupant
    from .voice import Failure

    if error.errno == errno.EADDRINUSE:
        holder = occupant(port) or "another program"
        hint = f"Stop it, or choose another port: pairing serve --port {port + 1}"
        return Failure(Exit.FAILED, "port-taken", f"port {port} is taken by {holder}", hint)
    if error.errno in {errno.EADDRNOTAVAIL, errno.EACCES}:
        why = (error.strerror or str(error)).lower()
        hint = "Choose an address of this host with --bind, and a port above 1023 with --port."
        return Failure(Exit.FAILED, "cannot-listen", f"cannot listen on {host}:{port}: {why}", hint)
    return error
