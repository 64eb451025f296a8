"""Whether too many requests are open, and whose are counted together (R10). Pure: `opening` counts, a rehearsal counts again."""

from pairing.settings.keys import Pairing

from .address import neighbourhood


def source(address: str | None) -> str | None:
    """Return whose requests are counted together: one host has all of an IPv6 network; None are those nobody knows."""
    return neighbourhood(address) if address and ":" in address else address


def full(caps: Pairing, total: int, near: int, *, local: bool) -> bool:
    """Say whether one more is one too many: of all that are open, or of those from its source."""
    return total >= caps.max_pending or (not local and near >= caps.max_pending_per_address)
