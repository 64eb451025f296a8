"""Every way in which the answer is no: one closed enum, with what each says to the wire, to a person and to a script.

`Refused` is the domain's no. Broken machinery raises `PairingError`; the two never mix.
"""

from enum import Enum
from typing import Any

from msgspec import Struct


class Exit:
    """Exit codes of the command line, one meaning each."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    AMBIGUOUS = 5
    UNREACHABLE = 6
    BROKEN = 7


class Saying(Struct, frozen=True):
    """What one reason says: templates over the fields of the refusal; `detail` is the wire's details.code."""

    code: str
    message: str
    hint: str
    detail: str | None = None
    exit: int = Exit.REFUSED
    step: str | None = None
    terminal: bool = True


class Reason(Enum):
    """Why not. The value is the short name used in logs, the audit and `--json`."""

    # credentials (protocol §4.3)
    TOKEN_MISSING = "token_missing"
    TOKEN_MISMATCH = "token_mismatch"
    TOKEN_NOT_CONFIGURED = "token_missing_config"
    PASSWORD_MISSING = "password_missing"
    PASSWORD_MISMATCH = "password_mismatch"
    PASSWORD_NOT_CONFIGURED = "password_missing_config"
    BOOTSTRAP_INVALID = "bootstrap_token_invalid"
    DEVICE_TOKEN_MISMATCH = "device_token_mismatch"
    TOKEN_EXPIRED = "device_token_expired"
    SCOPE_MISMATCH = "scope_mismatch"
    RATE_LIMITED = "rate_limited"
    UNAUTHORIZED = "unauthorized"
    AUTH_REQUIRED = "auth_required"
    # handshake (protocol §2.3, §2.4)
    PROTOCOL_MISMATCH = "protocol-mismatch"
    INVALID_ROLE = "invalid-role"
    # identity (protocol §3.4, §4.4)
    DEVICE_REQUIRED = "device-required"
    UI_DEVICE_REQUIRED = "control-ui-device-required"
    DEVICE_ID_MISMATCH = "device-id-mismatch"
    SIGNATURE_STALE = "device-signature-stale"
    NONCE_MISSING = "device-nonce-missing"
    NONCE_MISMATCH = "device-nonce-mismatch"
    SIGNATURE_INVALID = "device-signature"
    ORIGIN_NOT_ALLOWED = "origin-not-allowed"
    # pairing (protocol §5.7)
    NOT_PAIRED = "not-paired"
    METADATA_UPGRADE = "metadata-upgrade"
    ROLE_UPGRADE = "role-upgrade"
    SCOPE_UPGRADE = "scope-upgrade"
    TOO_MANY_PENDING = "too-many-pending"
    TOO_MANY_REQUESTS = "too-many-requests"
    DEVICE_LOCKED = "device-locked"
    # commands (protocol §6)
    UNKNOWN_REQUEST = "unknown-request"
    UNKNOWN_DEVICE = "unknown-device"
    AMBIGUOUS_DEVICE = "ambiguous-device"
    INVALID_SCOPE = "invalid-scope"
    MISSING_SCOPE = "missing-scope"
    NO_SUCH_MOMENT = "no-such-moment"
    APPROVAL_DENIED = "approval-denied"
    REJECTION_DENIED = "rejection-denied"
    REMOVAL_DENIED = "removal-denied"
    RENAME_DENIED = "rename-denied"
    FORGETTING_DENIED = "forgetting-denied"
    ROTATION_DENIED = "rotation-denied"
    REVOCATION_DENIED = "revocation-denied"
    LOCK_DENIED = "lock-denied"
    UNLOCK_DENIED = "unlock-denied"
    LOCK_PAST = "lock-past"
    LOCK_TERMS = "lock-terms"
    DEVICE_USED = "device-used"
    DEVICE_CHANGED = "device-changed"
    HANDOFF_TOO_LONG = "handoff-too-long"
    KEY_REUSED = "idempotency-key-reused"
    LABEL_REQUIRED = "label-required"
    UNKNOWN_REFERENCE = "unknown-reference"
    IMPORT_DENIED = "import-denied"
    REMOVED_HERE = "removed-here"
    RESTORE_DENIED = "restore-denied"
    UNDO_DENIED = "undo-denied"
    UNKNOWN_COMMAND = "unknown-command"
    TIMELINE_LEFT = "timeline_left"
    UNKNOWN_NODE = "unknown-node"
    NODE_REQUIRED = "node-required"
    NODE_NAME_REQUIRED = "node-name-required"
    NODE_DENIED = "node-denied"
    UNKNOWN_HOOK = "unknown-hook"
    HOOK_DENIED = "hook-denied"
    HOOK_URL = "hook-url"
    HOOK_KINDS = "hook-kinds"
    TOO_MANY_HOOKS = "too-many-hooks"
    ENROLMENT_DENIED = "enrolment-denied"
    UNKNOWN_ENROLMENT = "unknown-setup-code"
    ENROLMENT_BOUNDS = "setup-code-bounds"
    ENROLMENT_ADDRESS = "setup-code-address"
    REQUEST_CHANGED = "request-changed"
    LAST_OPERATOR = "last-operator"
    REASON_REQUIRED = "reason-required"
    MORE_APPROVALS = "more-approvals"
    OWN_VOTE = "own-vote"
    NEWER_WRITER = "newer-writer"
    UNKNOWN_POSITION = "unknown-position"
    LOG_FORKED = "log-forked"
    NO_LOG_FILE = "no-log-file"
    BUSY = "busy"
    HISTORY_CHANGED = "history-changed"
    FENCED = "session-ended"
    # methods (protocol §1.5)
    ROLE_NOT_ALLOWED = "unauthorized-role"
    UNKNOWN_METHOD = "unknown-method"
    INVALID_PARAMS = "invalid-params"
    CONNECT_TWICE = "connect-twice"


_INVALID = "INVALID_REQUEST"
_PAIR = "NOT_PAIRED"
_LIST = "pairing devices list"
_CONFIGURE = "update_auth_configuration"
_CREDENTIALS = "update_auth_credentials"
_REVIEW = "review_auth_configuration"

SAYINGS: dict[Reason, Saying] = {
    Reason.TOKEN_MISSING: Saying(
        _INVALID,
        "unauthorized: gateway token missing ({token_hint})",
        "Give the gateway's shared token with --token or PAIRING_GATEWAY_TOKEN.",
        "AUTH_TOKEN_MISSING",
        step=_CONFIGURE,
    ),
    Reason.TOKEN_MISMATCH: Saying(
        _INVALID,
        "unauthorized: gateway token mismatch ({token_hint})",
        "The shared token is not this gateway's. On its host: pairing config get gateway.auth.token --reveal",
        "AUTH_TOKEN_MISMATCH",
        step=_CREDENTIALS,
    ),
    Reason.TOKEN_NOT_CONFIGURED: Saying(
        _INVALID,
        "unauthorized: gateway token not configured on gateway (set gateway.auth.token)",
        "On the gateway's host: pairing config set gateway.auth.token -",
        "AUTH_TOKEN_NOT_CONFIGURED",
        step=_CONFIGURE,
    ),
    Reason.PASSWORD_MISSING: Saying(
        _INVALID,
        "unauthorized: gateway password missing ({password_hint})",
        "Give the gateway's password with --password or PAIRING_GATEWAY_PASSWORD.",
        "AUTH_PASSWORD_MISSING",
        step=_CONFIGURE,
    ),
    Reason.PASSWORD_MISMATCH: Saying(
        _INVALID,
        "unauthorized: gateway password mismatch ({password_hint})",
        "The password is not this gateway's.",
        "AUTH_PASSWORD_MISMATCH",
        step=_CREDENTIALS,
    ),
    Reason.PASSWORD_NOT_CONFIGURED: Saying(
        _INVALID,
        "unauthorized: gateway password not configured on gateway (set gateway.auth.password)",
        "On the gateway's host: pairing config set gateway.auth.password -",
        "AUTH_PASSWORD_NOT_CONFIGURED",
        step=_CONFIGURE,
    ),
    Reason.BOOTSTRAP_INVALID: Saying(
        _INVALID,
        "unauthorized: bootstrap token invalid or expired (scan a fresh setup code)",
        "Ask the operator for a fresh setup code.",
        "AUTH_BOOTSTRAP_TOKEN_INVALID",
        step=_REVIEW,
    ),
    Reason.DEVICE_TOKEN_MISMATCH: Saying(
        _INVALID,
        "unauthorized: device token mismatch (rotate/reissue device token)",
        "The device's token is no longer valid. Connect once with the shared token to collect the current one.",
        "AUTH_DEVICE_TOKEN_MISMATCH",
        step=_CREDENTIALS,
    ),
    # The client is to drop this token, and does so on this code; the words say why.
    Reason.TOKEN_EXPIRED: Saying(
        _INVALID,
        "unauthorized: device token expired (connect with the gateway's shared secret to collect or ask for a new one)",
        "Connect once with the shared token: it collects a rotated token, or asks an operator for a new one.",
        "AUTH_DEVICE_TOKEN_MISMATCH",
        step=_CREDENTIALS,
    ),
    Reason.SCOPE_MISMATCH: Saying(
        _INVALID,
        "unauthorized: device token scope mismatch (re-pair or approve scope upgrade)",
        "The token is good but does not cover these scopes. Ask for fewer, or connect with the shared token to request more.",
        "AUTH_SCOPE_MISMATCH",
        step=_REVIEW,
    ),
    Reason.RATE_LIMITED: Saying(
        _INVALID,
        "unauthorized: too many failed authentication attempts (retry later)",
        "Wait until the lockout has passed, then use the right credential.",
        "AUTH_RATE_LIMITED",
        step="wait_then_retry",
        terminal=False,
    ),
    Reason.UNAUTHORIZED: Saying(
        _INVALID,
        "{unauthorized}",
        "Give the gateway's shared token with --token, or pair this device.",
        "AUTH_UNAUTHORIZED",
        step=_REVIEW,
    ),
    Reason.AUTH_REQUIRED: Saying(
        _INVALID,
        "{unauthorized}",
        "Give the gateway's shared token with --token, or pair this device.",
        "AUTH_REQUIRED",
        step=_REVIEW,
    ),
    Reason.DEVICE_REQUIRED: Saying(
        _PAIR,
        "device identity required",
        "This role needs a device identity: pairing connect makes one.",
        "DEVICE_IDENTITY_REQUIRED",
    ),
    Reason.UI_DEVICE_REQUIRED: Saying(
        _INVALID,
        "control ui requires device identity (use HTTPS or localhost secure context)",
        "Open the page over HTTPS or on localhost, so that the browser can hold a key.",
        "CONTROL_UI_DEVICE_IDENTITY_REQUIRED",
    ),
    Reason.DEVICE_ID_MISMATCH: Saying(
        _INVALID,
        "device identity mismatch",
        "The device id must be the lower-case hex SHA-256 of the public key.",
        "DEVICE_AUTH_DEVICE_ID_MISMATCH",
    ),
    Reason.SIGNATURE_STALE: Saying(
        _INVALID,
        "device signature expired",
        "The device's clock is more than two minutes off. Set it, then connect again.",
        "DEVICE_AUTH_SIGNATURE_EXPIRED",
        terminal=False,
    ),
    Reason.NONCE_MISSING: Saying(
        _INVALID,
        "device nonce required",
        "Sign the nonce of this connection's connect.challenge.",
        "DEVICE_AUTH_NONCE_REQUIRED",
    ),
    Reason.NONCE_MISMATCH: Saying(
        _INVALID,
        "device nonce mismatch",
        "Sign the nonce of this connection's connect.challenge; a nonce belongs to one socket.",
        "DEVICE_AUTH_NONCE_MISMATCH",
    ),
    Reason.SIGNATURE_INVALID: Saying(
        _INVALID,
        "device signature invalid",
        "The signature does not fit what was sent. Sign the v3 payload over exactly the values in the frame.",
        "DEVICE_AUTH_SIGNATURE_INVALID",
    ),
    Reason.ORIGIN_NOT_ALLOWED: Saying(
        _INVALID,
        "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)",
        "On the gateway's host, add the page's origin to gateway.controlUi.allowedOrigins.",
        "CONTROL_UI_ORIGIN_NOT_ALLOWED",
    ),
    Reason.NOT_PAIRED: Saying(
        _PAIR,
        "pairing required: device is not approved yet",
        "Approve this device from the pending pairing requests.",
        "PAIRING_REQUIRED",
        terminal=False,
    ),
    Reason.ROLE_UPGRADE: Saying(
        _PAIR,
        "pairing required: device is asking for a higher role than currently approved",
        "Review the requested role upgrade, then approve the pending request.",
        "PAIRING_REQUIRED",
        terminal=False,
    ),
    Reason.SCOPE_UPGRADE: Saying(
        _PAIR,
        "pairing required: device is asking for more scopes than currently approved",
        "Review the requested scopes, then approve the pending upgrade.",
        "PAIRING_REQUIRED",
        terminal=False,
    ),
    Reason.METADATA_UPGRADE: Saying(
        _PAIR,
        "pairing required: device identity changed and must be re-approved",
        "Review the refreshed device details, then approve the pending request.",
        "PAIRING_REQUIRED",
        terminal=False,
    ),
    Reason.TOO_MANY_PENDING: Saying(
        _PAIR,
        "pairing required: too many pending requests",
        "An operator must answer pending requests first: pairing devices list",
        "PAIRING_REQUIRED",
        step="wait_then_retry",
        terminal=False,
    ),
    # No code that makes a client drop its token: it is good, and works again once the lock is over.
    Reason.DEVICE_LOCKED: Saying(
        _INVALID,
        "device locked{until}{told}",
        "An operator can end the lock: pairing devices unlock <device>",
        "DEVICE_LOCKED",
        step="wait_then_retry",
        terminal=False,
    ),
    Reason.TOO_MANY_REQUESTS: Saying(
        _PAIR,
        "pairing required: this device has opened too many requests",
        "Wait an hour, then ask for everything at once; or have an operator answer what is open: pairing devices list",
        "PAIRING_REQUIRED",
        step="wait_then_retry",
        terminal=False,
    ),
    Reason.UNKNOWN_REQUEST: Saying(_INVALID, "unknown requestId", "{fate}", "UNKNOWN_REQUEST", exit=Exit.NOT_FOUND),
    Reason.UNKNOWN_DEVICE: Saying(
        _INVALID, "unknown deviceId", f"See which devices there are: {_LIST}", "UNKNOWN_DEVICE", exit=Exit.NOT_FOUND
    ),
    Reason.AMBIGUOUS_DEVICE: Saying(
        _INVALID,
        "ambiguous device: {name} means {count} devices",
        "Give more characters of the id, or the whole of it.",
        "AMBIGUOUS_DEVICE",
        exit=Exit.AMBIGUOUS,
    ),
    Reason.INVALID_SCOPE: Saying(
        _INVALID,
        "invalid scope for requested roles: {scope}",
        "The device asked for a scope that none of its roles can hold. Reject the request; the device must ask anew.",
        "INVALID_SCOPE",
    ),
    Reason.MISSING_SCOPE: Saying(
        _INVALID,
        "missing scope: {scope}",
        "You may only grant what you hold. Ask an operator with {scope}, or decide on the gateway's host.",
        "MISSING_SCOPE",
    ),
    Reason.APPROVAL_DENIED: Saying(
        _INVALID,
        "device pairing approval denied",
        "This needs an operator with operator.admin, or the gateway's host.",
        "APPROVAL_DENIED",
    ),
    Reason.REJECTION_DENIED: Saying(
        _INVALID,
        "device pairing rejection denied",
        "A device without operator.admin may reject its own requests only.",
        "REJECTION_DENIED",
    ),
    Reason.REMOVAL_DENIED: Saying(
        _INVALID,
        "device pairing removal denied",
        "Removing a device needs every scope it holds, and operator.admin for other roles than operator.",
        "REMOVAL_DENIED",
    ),
    Reason.RENAME_DENIED: Saying(
        _INVALID,
        "device pairing rename denied",
        "A device without operator.admin may rename itself only.",
        "RENAME_DENIED",
    ),
    Reason.FORGETTING_DENIED: Saying(
        _INVALID,
        "device forgetting denied",
        "Forgetting cannot be undone and needs operator.admin. Who on this host may: pairing devices list",
        "FORGETTING_DENIED",
    ),
    Reason.ROTATION_DENIED: Saying(
        _INVALID,
        "device token rotation denied",
        "The role and scopes must be approved for the device, and you must hold them: pairing devices show <device>",
        "ROTATION_DENIED",
    ),
    Reason.REVOCATION_DENIED: Saying(
        _INVALID,
        "device token revocation denied",
        "The device must have a token of this role, and you must hold its scopes: pairing devices show <device>",
        "REVOCATION_DENIED",
    ),
    Reason.LOCK_DENIED: Saying(
        _INVALID,
        "device lock denied",
        "Locking a device ends its access and needs every scope it holds, and operator.admin for other roles than operator.",
        "LOCK_DENIED",
    ),
    Reason.UNLOCK_DENIED: Saying(
        _INVALID,
        "device unlock denied",
        "Unlocking gives back all access the device has; you must hold it: pairing devices show <device>",
        "UNLOCK_DENIED",
    ),
    Reason.LOCK_PAST: Saying(
        _INVALID,
        "a lock cannot end in the past",
        "Give an end that is still to come, or none: pairing devices lock <device>",
        "LOCK_PAST",
        exit=Exit.USAGE,
    ),
    Reason.RESTORE_DENIED: Saying(
        _INVALID,
        "restore denied: it takes {scope}",
        "On the gateway's host, as the owner of its state folder: pairing restore",
        "RESTORE_DENIED",
    ),
    Reason.UNKNOWN_COMMAND: Saying(
        _INVALID,
        "unknown command: {command}",
        "See what was done, with positions and commands: pairing audit",
        "UNKNOWN_COMMAND",
        Exit.NOT_FOUND,
    ),
    Reason.UNDO_DENIED: Saying(
        _INVALID,
        "undo denied: it takes {scope}",
        "Only who may give and end the access concerned may undo it; the owner of the gateway's state folder may: pairing undo",
        "UNDO_DENIED",
    ),
    Reason.TIMELINE_LEFT: Saying(
        _INVALID,
        "unauthorized: device token mismatch (the token is of a timeline that a restore has left)",
        "The device's token ended with a restore. Let it ask again, and approve that: pairing devices list",
        "AUTH_DEVICE_TOKEN_MISMATCH",
        step=_CREDENTIALS,
    ),
    Reason.IMPORT_DENIED: Saying(
        _INVALID,
        "device import denied",
        "Import on the gateway's host, as the owner of its state folder: pairing import openclaw <folder>",
        "IMPORT_DENIED",
    ),
    Reason.REMOVED_HERE: Saying(
        _INVALID,
        "the device was removed here, and an import brings nobody back",
        "Let it ask again, and approve that: pairing devices list",
        "REMOVED_HERE",
    ),
    Reason.DEVICE_USED: Saying(
        _INVALID,
        "device was used since the plan was made",
        "Make a new plan: pairing devices prune --idle 90d --plan FILE",
        "DEVICE_USED",
    ),
    Reason.DEVICE_CHANGED: Saying(
        _INVALID,
        "device has changed since the plan was made",
        "Make a new plan: pairing devices prune --idle 90d --plan FILE",
        "DEVICE_CHANGED",
    ),
    Reason.LOCK_TERMS: Saying(
        _INVALID, "a lock cannot have these terms: {problem}", "Mend the terms named.", "LOCK_TERMS", exit=Exit.USAGE
    ),
    Reason.LABEL_REQUIRED: Saying(
        _INVALID, "label required", "Give a label of 1 to 64 characters.", "LABEL_REQUIRED", exit=Exit.USAGE
    ),
    Reason.ENROLMENT_DENIED: Saying(
        _INVALID,
        "setup codes denied",
        "Setup codes are for operators with operator.pairing; a device's own session has none. On the gateway's host: "
        "pairing enroll list",
        "ENROLMENT_DENIED",
    ),
    Reason.UNKNOWN_ENROLMENT: Saying(
        _INVALID,
        "unknown setup code",
        "See which there are: pairing enroll list",
        "UNKNOWN_SETUP_CODE",
        Exit.NOT_FOUND,
    ),
    Reason.ENROLMENT_BOUNDS: Saying(
        _INVALID,
        "a setup code has 1 to {uses} uses and lives for up to {days} days",
        "For example: pairing enroll new --uses 10 --expires 1d",
        "SETUP_CODE_BOUNDS",
        Exit.USAGE,
    ),
    Reason.ENROLMENT_ADDRESS: Saying(
        _INVALID,
        "no setup code for this address: {why}",
        "Give the address at which devices reach the gateway: pairing enroll new --gateway-url wss://gateway.example.net",
        "SETUP_CODE_ADDRESS",
        Exit.USAGE,
    ),
    Reason.REQUEST_CHANGED: Saying(
        _INVALID,
        "request changed since it was shown",
        "Look again, then approve what it is now: pairing devices approve {request}",
        "REQUEST_CHANGED",
    ),
    Reason.LAST_OPERATOR: Saying(
        _INVALID,
        "last operator: no other device could approve after this"
        " (approve another operator first, or on the gateway's host: pairing devices ... --break-glass --reason TEXT)",
        "Let another device be an operator first: pairing devices approve <request>. To end this one all the same, add"
        " --break-glass --reason TEXT; after that, only the gateway's host can approve.",
        "LAST_OPERATOR",
    ),
    Reason.MORE_APPROVALS: Saying(
        _INVALID,
        "{said}: {given} of {needed} approvals, waiting for another operator",
        "Another operator approves the same request: pairing devices approve {request}",
        "MORE_APPROVALS_NEEDED",
        terminal=False,
    ),
    Reason.OWN_VOTE: Saying(
        _INVALID,
        "a device's own approval does not count where several are needed",
        "Operators on other devices approve it: pairing devices approve <request>",
        "OWN_APPROVAL",
    ),
    Reason.REASON_REQUIRED: Saying(
        _INVALID,
        "reason required: give one with pairing devices ... --reason TEXT",
        "Say why, for the record: --reason TEXT",
        "REASON_REQUIRED",
        exit=Exit.USAGE,
    ),
    Reason.NEWER_WRITER: Saying(
        "UNAVAILABLE",
        "this device's history holds an event written by a newer version",
        "Update this service, then try again; nothing was changed.",
        "NEWER_WRITER",
        exit=Exit.BROKEN,
    ),
    Reason.UNKNOWN_POSITION: Saying(
        _INVALID,
        "no event at position {position}; the last is {last}",
        "See how far the log goes: pairing log status",
        "UNKNOWN_POSITION",
        exit=Exit.NOT_FOUND,
    ),
    Reason.NO_LOG_FILE: Saying(
        "UNAVAILABLE",
        "this gateway keeps its log in no file, or has no key to sign for it",
        "Ask the gateway whose log it is: pairing log status",
        "NO_LOG_FILE",
        exit=Exit.BROKEN,
    ),
    Reason.LOG_FORKED: Saying(
        "UNAVAILABLE",
        "the log does not continue the checkpoint of {size} rows: {why}",
        "Keep log and checkpoint as they are, and look for what is wrong: pairing log verify --checkpoint FILE",
        "LOG_FORKED",
        exit=Exit.BROKEN,
    ),
    Reason.BUSY: Saying(
        "UNAVAILABLE",
        "too many writers are changing this device at once",
        "Nothing was changed. Try again.",
        "BUSY",
        terminal=False,
    ),
}

SAYINGS |= {
    Reason.KEY_REUSED: Saying(
        _INVALID,
        "idempotency key was used for something else",
        "What it was used for is unchanged. Use a fresh key for another call.",
        "IDEMPOTENCY_KEY_REUSED",
        exit=Exit.USAGE,
    ),
    Reason.HANDOFF_TOO_LONG: Saying(
        _INVALID,
        "handoff longer than {longest} ms",
        "Ask for a shorter one, or raise gateway.pairing.maxHandoffMs on the gateway's host.",
        "HANDOFF_TOO_LONG",
        exit=Exit.USAGE,
    ),
    Reason.UNKNOWN_REFERENCE: Saying(
        _INVALID,
        "unknown reference",
        "Only the latest refusals are kept. See which: pairing devices refusals",
        "UNKNOWN_REFERENCE",
        exit=Exit.NOT_FOUND,
    ),
    Reason.NO_SUCH_MOMENT: Saying(
        _INVALID,
        "no such moment: {why}",
        "This log goes from position 1{since} to {head}. See where it stands: pairing log status",
        "NO_SUCH_MOMENT",
        exit=Exit.NOT_FOUND,
    ),
    Reason.UNKNOWN_NODE: Saying(
        _INVALID, "unknown nodeId", "See which nodes are approved: pairing nodes status", "UNKNOWN_NODE", exit=Exit.NOT_FOUND
    ),
    Reason.NODE_REQUIRED: Saying("UNAVAILABLE", "Error: nodeId required", "Give the node's id.", exit=Exit.USAGE),
    Reason.NODE_NAME_REQUIRED: Saying(
        _INVALID, "displayName required", "Give a name of 1 to 64 characters.", "NAME_REQUIRED", exit=Exit.USAGE
    ),
    Reason.NODE_DENIED: Saying(
        _INVALID, "node pairing denied", "A device without operator.admin may manage its own node only.", "NODE_DENIED"
    ),
    Reason.UNKNOWN_HOOK: Saying(
        _INVALID, "unknown hookId", "See which hooks there are: pairing hooks list", "UNKNOWN_HOOK", exit=Exit.NOT_FOUND
    ),
    Reason.HOOK_DENIED: Saying(_INVALID, "webhook management denied", "Webhooks need operator.admin.", "HOOK_DENIED"),
    Reason.HOOK_URL: Saying(_INVALID, "unfit webhook URL: {why}", "{hint}", "HOOK_URL", exit=Exit.USAGE),
    Reason.HOOK_KINDS: Saying(
        _INVALID,
        "no kind of event is called {kind}",
        "Name kinds such as request.opened, or families such as token.*; docs/events.md lists them.",
        "HOOK_KINDS",
        exit=Exit.USAGE,
    ),
    Reason.TOO_MANY_HOOKS: Saying(
        _INVALID, "too many webhooks: there are {count}", "Remove one first: pairing hooks list", "TOO_MANY_HOOKS"
    ),
    Reason.PROTOCOL_MISMATCH: Saying(
        _INVALID, "protocol mismatch", "This gateway speaks protocol 3 and 4; update the client or the gateway."
    ),
    Reason.INVALID_ROLE: Saying(_INVALID, "invalid role", "A role is operator or node."),
    Reason.HISTORY_CHANGED: Saying(
        _INVALID,
        "the log is not the one that was followed to position {position}; it ends at {head}",
        "Begin anew at a position that it has. Whether its history is whole: pairing log verify",
        "HISTORY_CHANGED",
        exit=Exit.NOT_FOUND,
    ),
    Reason.FENCED: Saying(
        "UNAVAILABLE",
        "session ended: the device or token it logged in with is no longer valid",
        "Connect again.",
        "SESSION_ENDED",
    ),
    Reason.ROLE_NOT_ALLOWED: Saying(
        _INVALID, "unauthorized role: {role}", "This method is for another role than {role}.", "UNAUTHORIZED_ROLE"
    ),
    Reason.UNKNOWN_METHOD: Saying(
        _INVALID, "unknown method: {method}", "hello-ok lists what this gateway serves.", "UNKNOWN_METHOD", exit=Exit.USAGE
    ),
    Reason.INVALID_PARAMS: Saying(
        _INVALID, "invalid {method} params: {problems}", "Mend the parameters named.", "INVALID_PARAMS", exit=Exit.USAGE
    ),
    Reason.CONNECT_TWICE: Saying(
        _INVALID, "connect is only valid as the first request", "Open another socket to connect again.", "CONNECT_TWICE"
    ),
}


class _Blank(dict[str, Any]):
    """Fields of a template; a missing one shows as nothing rather than fail a refusal."""

    def __missing__(self, key: str) -> str:
        return ""


class Refused(Exception):
    """The domain's no. `fields` fill the templates; `details` are added to the wire's details and must hold no secret."""

    def __init__(self, reason: Reason, *, details: dict[str, Any] | None = None, **fields: Any) -> None:
        self.reason = reason
        self.fields = fields
        self.details = details or {}
        super().__init__(self.message)

    @property
    def saying(self) -> Saying:
        """What this reason says."""
        return SAYINGS[self.reason]

    @property
    def message(self) -> str:
        """The wire's message."""
        return self.saying.message.format_map(_Blank(self.fields))

    @property
    def hint(self) -> str:
        """What a person can do next."""
        return self.saying.hint.format_map(_Blank(self.fields))


class PairingError(Exception):
    """Broken machinery: nothing about who may do what."""
