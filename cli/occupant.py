"""Who holds a port: asked of the kernel, so that "address in use" names a process instead of a number.

Linux's /proc only; elsewhere, or for processes that may not be looked into, the answer is None.
"""

import os
from pathlib import Path

_LISTEN = "0A"


def occupant(port: int) -> str | None:
    """Return the process that listens on a TCP port, as `pid 123 (command line)`; None where it cannot be told."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(Path("/proc/net") / table, port)}
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if _holds(process, inodes):
            return f"pid {process.name} ({_command(process)})"
    return None


def _listening(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port]


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(os.readlink(entry) in inodes for entry in (process / "fd").iterdir())
    except OSError:
        return False


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "another user's"
    # Arguments may carry what is nobody's business; the program and its first words say enough.
    return " ".join(word.decode(errors="replace") for word in words[:4] if word)[:120] or "unnamed"
