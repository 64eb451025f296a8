"""The client of a gateway: what a device or a program needs to connect, and nothing of the service. See docs/client.md.

Read in this order: `errors`, `address`, `credentials`, `store` (identity and tokens on disk), `handshake` (what is said on
connecting), `dialling` and `session` (the socket; `connect` is the way in), `pacing`, `staying` (`stay` comes again), `device`.
What is named here is imported when it is first asked for, so that a command line starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .address import Endpoint as Endpoint
    from .address import endpoint as endpoint
    from .credentials import Credentials as Credentials
    from .credentials import DeviceToken as DeviceToken
    from .device import as_device as as_device
    from .errors import ApprovalNeeded as ApprovalNeeded
    from .errors import BadAddress as BadAddress
    from .errors import CallRefused as CallRefused
    from .errors import ClientError as ClientError
    from .errors import ConnectRefused as ConnectRefused
    from .errors import CredentialRefused as CredentialRefused
    from .errors import Disconnected as Disconnected
    from .errors import NoAnswer as NoAnswer
    from .errors import NotApproved as NotApproved
    from .errors import PinMismatch as PinMismatch
    from .errors import Stopped as Stopped
    from .errors import StoreUnusable as StoreUnusable
    from .errors import Unreachable as Unreachable
    from .handshake import ClientInfo as ClientInfo
    from .handshake import Hello as Hello
    from .handshake import here as here
    from .session import Heard as Heard
    from .session import Login as Login
    from .session import Session as Session
    from .session import connect as connect
    from .staying import Line as Line
    from .staying import Turn as Turn
    from .staying import stay as stay
    from .store import Store as Store

_WHERE = {
    "address": ("Endpoint", "endpoint"),
    "credentials": ("Credentials", "DeviceToken"),
    "device": ("as_device",),
    "errors": (
        "ApprovalNeeded",
        "BadAddress",
        "CallRefused",
        "ClientError",
        "ConnectRefused",
        "CredentialRefused",
        "Disconnected",
        "NoAnswer",
        "NotApproved",
        "PinMismatch",
        "Stopped",
        "StoreUnusable",
        "Unreachable",
    ),
    "handshake": ("ClientInfo", "Hello", "here"),
    "session": ("Heard", "Login", "Session", "connect"),
    "staying": ("Line", "Turn", "stay"),
    "store": ("Store",),
}
_HOME = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
