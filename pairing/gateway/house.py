"""What stands behind one port, in one place for all that serve there. It does nothing itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pairing.listing import Notes
from pairing.log.port import EventLog
from pairing.machine import Machine
from pairing.service import Service
from pairing.settings import Gateway as Rules

from .limits import RateLimiter
from .session import Registry


@dataclass(frozen=True)
class House:
    """What a gateway is made of; the composition root fills it."""

    service: Service
    registry: Registry
    events: EventLog
    rules: Rules
    activity: Notes
    limiter: RateLimiter
    describe: Callable[[], dict[str, str]] = field(default=dict)
    machine: Callable[[], Machine] = field(default=Machine)
    requests_lock: Path | None = None
