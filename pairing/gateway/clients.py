"""Who a client says it is: the ids and modes of the protocol, the classes made of them (§2.2), and their hints (§4.3).

A class is a claim. It chooses words and narrows what may be silent; it never grants anything by itself.
"""

from typing import Final, Literal, TypeAlias

from msgspec import Struct

ClientId: TypeAlias = Literal[
    "webchat-ui",
    "openclaw-control-ui",
    "openclaw-tui",
    "webchat",
    "cli",
    "gateway-client",
    "openclaw-macos",
    "openclaw-ios",
    "openclaw-android",
    "node-host",
    "test",
    "fingerprint",
    "openclaw-probe",
    "openclaw-browser-copilot",
    "openclaw-linux",
    "openclaw-watchos",
    "openclaw-worker",
]
ClientMode: TypeAlias = Literal["webchat", "cli", "ui", "backend", "node", "probe", "test", "worker"]

_CONTROL_UIS: Final = ("openclaw-control-ui", "openclaw-tui")
_NATIVE_UIS: Final = ("openclaw-macos", "openclaw-ios", "openclaw-android")


def is_cli(id: str, mode: str) -> bool:
    """Say whether this is the command line itself, not a probe made by it."""
    return id == "cli" and mode == "cli"


def is_control_ui(id: str) -> bool:
    """Say whether this is an operator UI, in a browser or a terminal."""
    return id in _CONTROL_UIS


def is_browser_ui(id: str) -> bool:
    """Say whether this is the operator UI that runs in a browser."""
    return id == "openclaw-control-ui"


def is_webchat(id: str, mode: str) -> bool:
    """Say whether this is a web chat."""
    return mode == "webchat" or id == "webchat-ui"


def is_native_ui(id: str, mode: str) -> bool:
    """Say whether this is the UI of a native app."""
    return mode == "ui" and id in _NATIVE_UIS


def is_backend_self(id: str, mode: str) -> bool:
    """Say whether this is the gateway host's own backend calling itself."""
    return id == "gateway-client" and mode == "backend"


def is_probe(id: str, mode: str) -> bool:
    """Say whether this only looks: a probe never creates a pairing (A20)."""
    return mode == "probe" or id == "openclaw-probe"


class Hints(Struct, frozen=True):
    """What a client can do about a missing or wrong secret, for the messages of protocol §4.3."""

    token_hint: str
    password_hint: str


_CLI_HINTS: Final = Hints(
    "set gateway.remote.token to match gateway.auth.token", "set gateway.remote.password to match gateway.auth.password"
)
_UI_HINTS: Final = Hints(
    "open the dashboard URL and paste the token in Control UI settings", "enter the password in Control UI settings"
)
_PLAIN_HINTS: Final = Hints("provide gateway auth token", "provide gateway auth password")


def hints(id: str, mode: str) -> Hints:
    """Return the hints for a client's class."""
    if is_cli(id, mode):
        return _CLI_HINTS
    if is_control_ui(id) or is_webchat(id, mode):
        return _UI_HINTS
    return _PLAIN_HINTS
