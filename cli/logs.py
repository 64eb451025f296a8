"""The operator's log lines: readable on a terminal, JSON lines otherwise, always on standard error, never a secret.

The event log is something else: this is what a process says while it works.
"""

import logging
import sys
from typing import Any

import structlog

from .voice import plain

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CHARACTERS = 1000


def configure(level: str, form: str, *, lasting: bool = False) -> None:
    """Set up structlog: `level` debug|info|warning|error, `form` auto|console|json; `lasting` for the whole life of a process."""
    terminal = sys.stderr.isatty()
    console = form == "console" or (form == "auto" and terminal)
    renderer: Any = structlog.dev.ConsoleRenderer(colors=terminal) if console else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        _plain,
    ]
    if not console:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=lasting,
    )


def _plain(_logger: Any, _method: str, event: Any) -> Any:
    """Let no value draw on the operator's terminal or begin a line of its own: some of them were chosen by peers."""
    return {key: plain(value, _CHARACTERS) if isinstance(value, str) else value for key, value in event.items()}
