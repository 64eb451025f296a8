"""From what went wrong to what is said about it: message, next command, exit code. The only place that knows every error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pairing.client.errors import BadAddress, CallRefused, ConnectRefused, Disconnected, StoreUnusable, Unreachable, WireRefusal
from pairing.refusals import SAYINGS, Exit, PairingError, Reason, Refused
from pairing.settings.problems import SettingsError

from .voice import Failure, moment, plain

_LIST = "pairing devices list"
_PAIRING = frozenset(
    {
        Reason.NOT_PAIRED,
        Reason.ROLE_UPGRADE,
        Reason.SCOPE_UPGRADE,
        Reason.METADATA_UPGRADE,
        Reason.TOO_MANY_PENDING,
        Reason.TOO_MANY_REQUESTS,
    }
)


@contextmanager
def about(*, device: str = "<device>", request: str = "<request>") -> Iterator[None]:
    """Name the device or request that a refusal is about in its next command, which is then one that can be run as it is."""
    try:
        yield
    except (Refused, WireRefusal) as error:
        failure = explained(error)
        if failure is None:
            raise
        failure.hint = failure.hint.replace("<device>", device).replace("<request>", request)
        raise failure from None


def wants_pairing(refused: ConnectRefused) -> bool:
    """Say whether a connection was refused for want of pairing, not of a credential."""
    return refused.reason in _PAIRING or refused.reason is Reason.DEVICE_REQUIRED


def explained(error: Exception) -> Failure | None:
    """Return what to say about an error, or None for one that nobody expected."""
    match error:
        case Failure():
            return error
        case Refused():
            return _no(error.reason, error.message, error.hint, error.details)
        case WireRefusal():
            return _wire(error)
        case Unreachable():
            return _unreachable(error)
        case Disconnected():
            exit = Exit.REFUSED if error.code in {1008, 4001} else Exit.UNREACHABLE
            return Failure(exit, "disconnected", str(error), f"See what was recorded: {_LIST}", details={"code": error.code})
        case BadAddress():
            hint = "Use wss://, or a tunnel to a loopback port."
            if error.private:
                hint += " If this network is to be trusted: PAIRING_ALLOW_INSECURE_PRIVATE_WS=1"
            return Failure(Exit.USAGE, "bad-address", str(error), hint)
        case StoreUnusable():
            return Failure(Exit.BROKEN, "identity-unusable", str(error), "See to the file, then try again.")
        case SettingsError():
            return Failure(Exit.REFUSED, "settings", str(error), "Correct them in the file that `pairing config path` names.")
        case PairingError():
            return _broken(error)
        case OSError():
            where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            return Failure(Exit.BROKEN, "system", where, "See to the file or the folder, then try again.")
        case _:
            return None


def _wire(error: WireRefusal) -> Failure:
    reason = error.reason
    if reason is None:
        hint = "Run it on the gateway's host, or ask its operator." if isinstance(error, CallRefused) else ""
        return Failure(Exit.REFUSED, error.code.lower() or "refused", error.message, hint, details=error.details)
    if isinstance(error, ConnectRefused) and reason in _PAIRING:
        return pending(error)
    said = Refused(reason, **_fields(error))
    return _no(reason, error.message, said.hint, error.details)


def _fields(error: WireRefusal) -> dict[str, Any]:
    outcome = error.details.get("outcome")
    fate = f"It was {plain(outcome)}. See what is open: {_LIST}" if outcome else f"See what is open: {_LIST}"
    # What a hint speaks of may stand in the details alone.
    told = {name: value for name, value in error.details.items() if isinstance(value, str | int)}
    return {"fate": fate, **told, "request": "<request>", **error.fields}


def _no(reason: Reason, message: str, hint: str, details: dict[str, Any]) -> Failure:
    lines: list[str] = []
    if reason is Reason.UNKNOWN_REQUEST and details.get("outcome"):
        message, lines = f"{message}: {fate(details)}", []
    if reason is Reason.AMBIGUOUS_DEVICE:
        lines = [_candidate(entry) for entry in details.get("candidates", ())]
    return Failure(SAYINGS[reason].exit, reason.value, message, hint, details=details, lines=lines)


def fate(details: dict[str, Any]) -> str:
    """Say what became of a request, from the details of a refusal."""
    text = f"it was {plain(details['outcome'])}"
    if isinstance(by := details.get("by"), dict):
        text += f" by {plain(by.get('kind', ''))} {plain(by.get('id', ''))}".rstrip()
    if isinstance(at := details.get("atMs", details.get("at")), int):
        text += f" at {moment(at)}"
    if later := details.get("supersededBy"):
        text += f", replaced by {plain(later)}"
    return text + (f" (position {details['position']})" if isinstance(details.get("position"), int) else "")


def _candidate(entry: dict[str, Any]) -> str:
    name = entry.get("label") or entry.get("displayName") or ""
    return f"  {plain(entry.get('deviceId', ''), 64)}  {plain(name)}  {plain(entry.get('status', ''))}".rstrip()


def pending(error: ConnectRefused) -> Failure:
    """Say that somebody must approve first, and with which command."""
    details = dict(error.details)
    request = error.request
    if request is None:
        hint = f"An operator must look at it first: {_LIST}"
        return Failure(Exit.REFUSED, _value(error), error.message, hint, details=details)
    details["approveCommand"] = f"pairing devices approve {request}"
    return Failure(
        Exit.REFUSED,
        _value(error),
        f"{error.message} (request {request})",
        f"On the gateway's host: {details['approveCommand']}",
        details=details,
    )


def _value(error: WireRefusal) -> str:
    return error.reason.value if error.reason else error.code.lower()


def _unreachable(error: Unreachable) -> Failure:
    hint = "Is it running there? Start it with: pairing serve" if error.refused else "Check the URL, the port and the network."
    if error.late:
        hint = "Check the URL, the port and the network, or give it more time: --timeout 60000"
    if error.sent:
        hint = f"It may have been done all the same; see: {_LIST}. For more time: --timeout 60000"
    reason = "connection-refused" if error.refused else "unreachable"
    return Failure(Exit.UNREACHABLE, reason, str(error), hint, details={"url": error.url})


def _broken(error: PairingError) -> Failure:
    # Errors of the log end with the command to try; it is said once, as the hint.
    message, found, command = str(error).rpartition(" Try: ")
    if not found:
        message, found, command = str(error).rpartition("; then try: ")
    name = type(error).__name__
    reason = "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")
    return Failure(Exit.BROKEN, reason, message or command, command if found else "")
