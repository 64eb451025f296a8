"""The gateway's certificate on the way into TLS: what is wrong with the two files is told by the setting that names the file."""

import ssl
from pathlib import Path
from typing import NoReturn

from pairing.certificate import CertificateUnreadable, expires_at
from pairing.refusals import Exit
from pairing.settings import Settings

from .voice import Failure

_CERT, _KEY = "gateway.tls.cert", "gateway.tls.key"


class _Encrypted(Exception):
    """The key asks for a passphrase."""


def context(settings: Settings) -> ssl.SSLContext | None:
    """Return what serves TLS with the configured files, None without any. Raises `Failure`."""
    cert, key = settings.gateway.tls.cert, settings.gateway.tls.key
    if cert is None or key is None:
        return None
    try:
        expires_at(cert)
    except CertificateUnreadable as error:
        raise _unfit(settings, _CERT, str(error).partition(" Try: ")[0]) from None
    try:
        key.read_bytes()
    except OSError as error:
        raise _unfit(settings, _KEY, f"{key} cannot be read: {error.strerror or error}") from None
    return _loaded(settings, cert, key)


def _loaded(settings: Settings, cert: Path, key: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        made.load_cert_chain(cert, key, password=_passphrase)
    except _Encrypted:
        raise _unfit(settings, _KEY, f"{key} is encrypted, and a service has nobody to ask for its passphrase") from None
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        why = f"{key} does not belong to the certificate {cert}" if mismatch else f"{key} is not a private key in PEM"
        raise _unfit(settings, _KEY, why) from None
    return made


def _passphrase() -> NoReturn:
    # Without this OpenSSL would ask on the terminal, and hold up a service for ever.
    raise _Encrypted


def _unfit(settings: Settings, name: str, why: str) -> Failure:
    flag = "--tls-cert" if name == _CERT else "--tls-key"
    details = {"key": name, "source": settings.source(name)}
    message = f"{name} ({settings.source(name)}): {why}"
    return Failure(
        Exit.BROKEN, "certificate", message, f"Name another file with {flag}, or see: pairing config get {name}", details=details
    )
