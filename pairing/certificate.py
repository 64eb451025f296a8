"""When a certificate ends, read from its own bytes (X.509, RFC 5280 §4.1): enough DER for the one field an operator must watch.

It verifies nothing and trusts nothing; TLS does that. Only the first certificate of a file is looked at, which is the one shown.
"""

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

from .refusals import PairingError

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC, _GENERAL = 0x30, 0xA0, 0x17, 0x18


class CertificateUnreadable(PairingError):
    """A file holds no certificate that can be read."""

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be read as a certificate: {why}. Try: pairing config get gateway.tls.cert")


def expires_at(path: Path) -> int:
    """Return the end of a PEM file's first certificate in ms since the epoch. Raises `CertificateUnreadable`."""
    try:
        found = _BLOCK.search(path.read_text("ascii"))
    except OSError as error:
        raise CertificateUnreadable(path, error.strerror or str(error)) from None
    except UnicodeError:
        raise CertificateUnreadable(path, "it is not PEM text") from None
    if found is None:
        raise CertificateUnreadable(path, "it holds no PEM certificate")
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(found[0]))
    except (ValueError, IndexError) as error:
        raise CertificateUnreadable(path, f"its bytes make no sense ({type(error).__name__})") from None


def _not_after(der: bytes) -> int:
    body = _inside(_inside(der, _SEQUENCE)[0], _SEQUENCE)[0]
    if body[0] == _VERSION:
        body = _inside(body, _VERSION)[1]
    for _ in range(3):  # serial number, signature algorithm, issuer
        body = _inside(body)[1]
    validity = _inside(body, _SEQUENCE)[0]
    end = _inside(validity)[1]
    return _time(end[0], _inside(end)[0].decode("ascii"))


def _inside(der: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """Return the contents of the first element, and what follows it."""
    if tag is not None and der[0] != tag:
        raise ValueError("another element was expected")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("an element is cut off")
    return der[start : start + length], der[start + length :]


def _time(tag: int, text: str) -> int:
    if tag == _UTC:
        # Two digits of a year count from 1950 (RFC 5280 §4.1.2.5.1).
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERAL:
        raise ValueError("it is no time")
    return int(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()) * 1000
