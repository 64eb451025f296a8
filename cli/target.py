"""Which gateway a command talks to and with which secrets (protocol §8.2). Decides before anything is sent; contacts nobody."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pairing.client.address import Endpoint, endpoint, guard
from pairing.client.credentials import Credentials
from pairing.refusals import Exit
from pairing.settings import Settings, load
from pairing.settings.home import default_home
from pairing.settings.secret import Secret

from .options import Reach
from .voice import Failure

URL: Final = "PAIRING_GATEWAY_URL"
TOKEN = "PAIRING_GATEWAY_TOKEN"  # noqa: S105  the name of the variable
PASSWORD = "PAIRING_GATEWAY_PASSWORD"  # noqa: S105  the name of the variable
INSECURE = "PAIRING_ALLOW_INSECURE_PRIVATE_WS"

Source = Literal["--url", "PAIRING_GATEWAY_URL", "gateway.remote.url", "this host", "setup code"]


class Target(NamedTuple):
    """A gateway, how it was named, and what to show it. `settings`: this state folder's, for the local gateway alone."""

    place: Endpoint
    source: Source
    credentials: Credentials
    home: Path
    allow_private: bool
    settings: Settings | None = None
    tls: ssl.SSLContext | None = None


def find(reach: Reach, env: Mapping[str, str], home: Path | None = None, *, lenient: bool = False) -> Target:
    """Return where to go.

    `--url` takes its secrets from the command line alone, a URL of the environment from command line and environment alone, so
    that no secret of one gateway ever reaches another. `lenient`: a URL without a secret will do, for devices that have a token
    of their own.
    Raises `Failure`, `BadAddress`, `SettingsError`.
    """
    given = _given(reach)
    folder = (home or default_home(env)).absolute()
    private = env.get(INSECURE) == "1"
    if reach.url:
        return _named(reach.url, "--url", given, folder, private, lenient)
    if url := env.get(URL):
        return _named(url, URL, given or _secrets(env.get(TOKEN), env.get(PASSWORD)), folder, private, lenient)
    settings = load(folder, env=env, flags={})
    if settings.gateway.mode == "remote":
        return _remote(settings, given, env, private)
    return _local(settings, given)


def _named(url: str, source: Source, credentials: Credentials, home: Path, private: bool, lenient: bool) -> Target:
    place = endpoint(url)
    guard(place, allow_private=private)
    if not credentials and not lenient:
        where = "--token or --password" if source == "--url" else f"{TOKEN} or {PASSWORD}, or --token or --password"
        raise Failure(
            Exit.USAGE,
            "credentials-required",
            f"{source} names a gateway, and a gateway named so is shown no secret from elsewhere",
            f"Give its secret with {where}.",
        )
    return Target(place, source, credentials, home, private)


def _remote(settings: Settings, given: Credentials, env: Mapping[str, str], private: bool) -> Target:
    remote = settings.gateway.remote
    if remote.url is None:
        raise Failure(
            Exit.USAGE,
            "remote-url-missing",
            'gateway.mode is "remote" but gateway.remote.url is not set',
            "pairing config set gateway.remote.url wss://HOST:PORT",
        )
    place = endpoint(remote.url)
    guard(place, allow_private=private)
    configured = Credentials(remote.token, remote.password) or _secrets(env.get(TOKEN), env.get(PASSWORD))
    return Target(place, "gateway.remote.url", given or configured, settings.home, private)


def _local(settings: Settings, given: Credentials) -> Target:
    gateway = settings.gateway
    host = gateway.host if gateway.on_loopback else "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    place = endpoint(f"{'wss' if gateway.tls.cert else 'ws'}://{shown}:{gateway.port}")
    own = {
        "token": Credentials(token=gateway.auth.token),
        "password": Credentials(password=gateway.auth.password),
        "none": Credentials(),
    }[gateway.auth.mode]
    return Target(place, "this host", given or own, settings.home, False, settings, _own_certificate(gateway.tls.cert))


def _own_certificate(path: Path | None) -> ssl.SSLContext | None:
    """Trust this host's own certificate, and no other, for its own gateway: its name is rarely `127.0.0.1`."""
    if path is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise Failure(
            Exit.BROKEN, "certificate", f"{path} cannot be read: {error.strerror or error}", "pairing config get gateway.tls.cert"
        ) from None
    return context


def _given(reach: Reach) -> Credentials:
    return _secrets(reach.token, reach.password)


def _secrets(token: str | None, password: str | None) -> Credentials:
    try:
        return Credentials(Secret(token) if token else None, Secret(password) if password else None)
    except ValueError as error:
        raise Failure(Exit.USAGE, "unfit-secret", f"that cannot be the secret: {error}", "Give the secret itself.") from None
