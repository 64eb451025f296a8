"""Fresh identifiers: the only randomness of the service besides keys. Never imported by the pure heart."""

import os
import uuid


def uuid7(now: int) -> str:
    """Return a time-ordered UUIDv7 (RFC 9562 §5.7) of a time in ms."""
    raw = bytearray(now.to_bytes(6, "big") + os.urandom(10))
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(raw)))


def request_id() -> str:
    """Return a fresh request id (UUIDv4), which clients accept as such (protocol §5.7)."""
    return str(uuid.uuid4())


def issue_id() -> str:
    """Return the base of fresh token generations: 128 random bits, hex."""
    return os.urandom(16).hex()


def salt() -> str:
    """Return the salt of personal fields: 128 random bits, hex."""
    return os.urandom(16).hex()
