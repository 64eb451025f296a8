"""What can go wrong between a client and a gateway, each named by the condition. None of them ever holds a secret."""

import re
from typing import Any

from pairing.refusals import SAYINGS, PairingError, Reason

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class ClientError(PairingError):
    """Something between this client and its gateway."""


class BadAddress(ClientError):
    """A URL that is none, or one that must not be used; the text never quotes its credentials.

    `private`: plain text was refused towards a private address, where a person may allow it.
    """

    def __init__(self, text: str, *, private: bool = False) -> None:
        self.private = private
        super().__init__(text)


class StoreUnusable(ClientError):
    """The device's own files are there but cannot be used. They are left as they are, never replaced (D1)."""


class Unreachable(ClientError):
    """No gateway answered. `refused`: nothing listens there. `late`: not in the time there was for it.

    `sent`: a call was under way whose outcome is not known.
    """

    def __init__(self, url: str, why: str, *, refused: bool = False, sent: bool = False, late: bool = False) -> None:
        self.url, self.why, self.refused, self.sent, self.late = url, why, refused, sent, late
        super().__init__(f"no gateway answers at {url}: {why}")


class PinMismatch(ClientError):
    """The gateway's certificate is not the pinned one, and was shown nothing; `found` is its fingerprint, empty for none."""

    def __init__(self, url: str, found: str) -> None:
        self.url, self.found = url, found
        super().__init__(f"{url} has another certificate than the pinned one: {found or 'none'}")


class NoAnswer(ClientError):
    """A call was not answered in time; what became of it is not known."""

    def __init__(self, method: str, seconds: float) -> None:
        self.method, self.seconds = method, seconds
        super().__init__(f"no answer to {method} within {seconds:g} s; what became of it is not known")


class Disconnected(ClientError):
    """The gateway ended the session: close code and reason of RFC 6455 §7."""

    def __init__(self, url: str, code: int, reason: str) -> None:
        self.url, self.code, self.reason = url, code, reason
        super().__init__(f"the gateway ended the session: {code} {reason or '(no reason given)'}")


class WireRefusal(ClientError):
    """The gateway said no: code, message and details of the error frame (protocol §1.2)."""

    def __init__(self, code: str, message: str, details: dict[str, Any]) -> None:
        self.code, self.message, self.details = code, message, details
        super().__init__(message)

    @property
    def reason(self) -> Reason | None:
        """The reason in our own words, or None for one that this version does not know."""
        return known_reason(self.message, self.details)

    @property
    def fields(self) -> dict[str, str]:
        """What the message says where its reason's template has a field."""
        match = _template(self.reason).fullmatch(self.message) if self.reason else None
        return match.groupdict() if match else {}


class CallRefused(WireRefusal):
    """A call was refused."""


class ConnectRefused(WireRefusal):
    """The connection was refused; `close_code` and `close_reason` are those of the close frame, where one came.

    `retry_after_ms` is what the gateway asks to be given before the next try, where it says so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        details: dict[str, Any],
        close_code: int | None = None,
        close_reason: str = "",
        *,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(code, message, details)
        self.close_code, self.close_reason = close_code, close_reason
        self.retry_after_ms = retry_after_ms

    @property
    def request(self) -> str | None:
        """The pairing request that was opened or is still open, if pairing is what is missing (protocol §5.7)."""
        found = self.details.get("requestId")
        return found if isinstance(found, str) and _REQUEST_ID.fullmatch(found) else None


class Stopped(ClientError):
    """Trying again would not help: somebody has to do something first, and `advice` says what. `refused` is the gateway's no."""

    def __init__(self, refused: ConnectRefused, what: str = "") -> None:
        self.refused = refused
        self.advice = advice(refused)
        super().__init__(f"{what or refused}. {self.advice}".strip())


class CredentialRefused(Stopped):
    """The token or password that was shown is wrong, expired or missing (protocol §4.3)."""


class ApprovalNeeded(Stopped):
    """The device has asked, and waits for an operator; `request` is what to approve, None where nothing was opened."""

    def __init__(self, refused: ConnectRefused) -> None:
        self.request = refused.request
        super().__init__(refused)


class NotApproved(Stopped):
    """The request that the device waited for was closed without approval: somebody said no."""

    def __init__(self, refused: ConnectRefused, request: str) -> None:
        self.request = request
        super().__init__(refused, f"request {request} was closed without approval")


def advice(refused: ConnectRefused) -> str:
    """Return what a person can do about a refusal: the gateway's own words for it, else ours for its reason."""
    told = refused.details.get("remediationHint")
    if isinstance(told, str) and told:
        return told
    return SAYINGS[refused.reason].hint.format_map(refused.fields) if refused.reason else ""


def final(refused: ConnectRefused) -> bool:
    """Say whether trying again without a person's help is in vain: as the gateway says, else by what this version knows."""
    told = refused.details.get("terminal")
    if isinstance(told, bool):
        return told
    if refused.reason is not None:
        return SAYINGS[refused.reason].terminal
    code = refused.details.get("code")
    return isinstance(code, str) and code.startswith(("AUTH_", "DEVICE_"))


def known_reason(message: str, details: dict[str, Any]) -> Reason | None:
    """Return the reason that an error frame stands for: by its details, or by its message where an older gateway gives none."""
    code, why = details.get("code"), details.get("reason") or details.get("authReason")
    coded = [reason for reason, saying in SAYINGS.items() if code is not None and saying.detail == code]
    exact = [reason for reason in coded if reason.value == why]
    if exact or coded:
        return (exact or coded)[0]
    spoken = (reason for reason in SAYINGS if _LITERAL.search(SAYINGS[reason].message))
    return next((reason for reason in spoken if _template(reason).fullmatch(message)), None)


# A template without words of its own would fit every message.
_LITERAL = re.compile(r"^[^{}]{4}")
_FIELD = re.compile(r"\{(\w+)\}")


def _template(reason: Reason) -> re.Pattern[str]:
    parts = _FIELD.split(SAYINGS[reason].message)
    return re.compile("".join(f"(?P<{part}>.*)" if index % 2 else re.escape(part) for index, part in enumerate(parts)), re.DOTALL)
