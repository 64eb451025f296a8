"""What the host has left for a process: descriptors and disk. Reads the kernel's own figures and changes nothing.

What cannot be told is None, which is neither enough nor too little.
"""

import os
from pathlib import Path

from msgspec import Struct

LEAST_DESCRIPTORS = 64
LEAST_DISK = 64 * 1024 * 1024


class Machine(Struct, frozen=True, kw_only=True):
    """What is left: descriptors, bytes on the log's disk; whether the log's file is there; when the certificate ends (ms)."""

    descriptors: int | None = None
    disk: int | None = None
    log_there: bool = True
    certificate_ends: int | None = None


def descriptor_limit() -> int | None:
    """Return how many descriptors a process started like this one may have."""
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError):
        return None
    return None if soft == resource.RLIM_INFINITY else soft


def descriptors_left() -> int | None:
    """Return how many more descriptors this process may open."""
    limit = descriptor_limit()
    try:
        return None if limit is None else limit - len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:
        return None
    except OSError:
        return 0


def disk_left(folder: Path) -> int | None:
    """Return the bytes that this user may still write beside a folder's files."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
