"""Fresh identifiers: the only randomness of the service besides keys. Never imported by the pure heart."""

import hashlib
import os


def uuid7(now: int) -> str:
    """Return a time-ordered UUIDv7 (RFC 9562 §5.7) of a time in ms."""
    return _uuid(now.to_bytes(6, "big") + os.urandom(10), version=7)


def keyed_uuid(*parts: str) -> str:
    """Return the UUIDv8 (RFC 9562 §5.8) of some texts: the same for the same, 122 bits of SHA-256 over them."""
    lengths = b"".join(len(part.encode("utf-8", "surrogatepass")).to_bytes(4, "big") for part in parts)
    texts = "".join(parts).encode("utf-8", "surrogatepass")
    return _uuid(hashlib.sha256(b"pairing command v1" + lengths + texts).digest()[:16], version=8)


def uuid4() -> str:
    """Return a random UUIDv4 (RFC 9562 §5.4): a nonce, or the id of a connection."""
    return _uuid(os.urandom(16), version=4)


def request_id() -> str:
    """Return a fresh request id (UUIDv4), which clients accept as such (protocol §5.7)."""
    return uuid4()


def issue_id() -> str:
    """Return the base of fresh token generations: 128 random bits, hex."""
    return os.urandom(16).hex()


def hook_id() -> str:
    """Return the id of a webhook: 64 random bits, hex."""
    return os.urandom(8).hex()


def salt() -> str:
    """Return the salt of personal fields: 128 random bits, hex."""
    return os.urandom(16).hex()


def _uuid(random: bytes, version: int) -> str:
    raw = bytearray(random)
    raw[6] = version << 4 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
