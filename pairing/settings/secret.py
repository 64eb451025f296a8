"""A secret that cannot be printed by accident: every rendering shows its fingerprint.

Only `reveal()` gives the value, so that grepping for it finds every place a secret leaves the process.
"""

import hashlib
import hmac
import re
from typing import NoReturn

_DOMAIN = b"pairing secret fingerprint v1\x00"
_PLACEHOLDER = re.compile(
    r"[*\u2022\u2026.x]{3,}|\W*_*redacted_*\W*|__\w+_redacted__|fingerprint [0-9a-f]{8}.*|Secret\(.*\)",
    re.IGNORECASE,
)


class Secret:
    """Hold one non-blank shared secret, trimmed, as both sides trim before they compare (protocol §4.1).

    Raises ValueError, which never quotes the value, for a blank text (T3), for a redaction placeholder (T15), and for
    what UTF-8 cannot carry, which is how Python hands over a variable of other bytes.
    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        trimmed = value.strip()
        if not trimmed:
            raise ValueError("a secret may not be blank")
        if _PLACEHOLDER.fullmatch(trimmed):
            raise ValueError("a redaction placeholder is not a secret")
        if any("\ud800" <= character <= "\udfff" for character in trimmed):
            raise ValueError("a secret is UTF-8 text")
        object.__setattr__(self, "_value", trimmed)

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def fingerprint(self) -> str:
        """Return 8 hex digits that tell two secrets apart: a prefix of a domain-separated SHA-256."""
        return hashlib.sha256(_DOMAIN + _octets(self._value)).hexdigest()[:8]

    def matches(self, presented: str) -> bool:
        """Compare with a presented text, trimmed, in a time that tells neither text nor length; blank never matches (T3)."""
        return hmac.compare_digest(_digest(self._value), _digest(presented.strip()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return f"Secret({self.fingerprint()})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret does not change")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not copied into pickles")


def _digest(text: str) -> bytes:
    return hashlib.sha256(_octets(text)).digest()


def _octets(text: str) -> bytes:
    # JSON can present a lone surrogate; it must compare as wrong rather than raise.
    return text.encode("utf-8", "surrogatepass")
