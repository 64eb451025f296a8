"""One short hash of what decides who gets in, so that an event can say under which policy it was decided.

Never covers a secret, nor anything that only moves the service (port, certificate, log lines).
"""

import hashlib

import msgspec

from .keys import KEYS, Settings
from .kinds import plain

_DOMAIN = b"pairing policy v1\x00"


def policy_digest(settings: Settings) -> str:
    """Return 12 hex digits over every setting that admits, defaults included; the order of lists does not count."""
    policy = {name: _canonical(settings.value(name)) for name, key in KEYS.items() if key.setting.admits}
    octets = msgspec.json.encode(policy, order="deterministic")
    return hashlib.sha256(_DOMAIN + octets).hexdigest()[:12]


def _canonical(value: object) -> object:
    found = plain(value)
    return sorted(found, key=str) if isinstance(found, list) else found
