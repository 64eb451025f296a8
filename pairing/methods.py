"""The method table: every operation once, and who may call it. What each takes and does stands in its own `*_methods`.

Two doors lead here: the gateway with frames, and the command line on the log itself. Neither can do what the other cannot.
No method decides: they find the stream, build the command, hand it to the desk, and shape the answer (protocol §6).
"""

from typing import Any

import msgspec
from msgspec import Raw

from . import (
    audit_methods,
    blast,
    contact_methods,
    due_methods,
    enrol_methods,
    explain_methods,
    forgetting,
    gateway_methods,
    history_methods,
    hook_methods,
    host_methods,
    list_methods,
    lock_methods,
    log_methods,
    node_methods,
    pair_methods,
    provenance,
    prune_methods,
    rehearse_methods,
    restore_methods,
    token_methods,
    view_methods,
    watch_methods,
)
from .authority import ADMIN, OPERATOR, READ, WRITE
from .commands import Caller
from .refusals import Reason, Refused
from .service import Call, Method, Service
from .shapes import BadParams, decode_params

_TABLE: tuple[Method[Any], ...] = (
    *gateway_methods.METHODS,
    *pair_methods.METHODS,
    *token_methods.METHODS,
    *list_methods.METHODS,
    *watch_methods.METHODS,
    *node_methods.METHODS,
    *contact_methods.METHODS,
    *lock_methods.METHODS,
    *due_methods.METHODS,
    *history_methods.METHODS,
    *explain_methods.METHODS,
    *prune_methods.METHODS,
    *forgetting.METHODS,
    *log_methods.METHODS,
    *enrol_methods.METHODS,
    *hook_methods.METHODS,
    *audit_methods.METHODS,
    *restore_methods.METHODS,
    *provenance.METHODS,
    *blast.METHODS,
    *view_methods.METHODS,
    *rehearse_methods.METHODS,
    *host_methods.METHODS,
)
METHODS: dict[str, Method[Any]] = {method.name: method for method in _TABLE}


def permit(caller: Caller, name: str) -> Method[Any]:
    """Return the method if this session may call it: role, then scope, then whether it exists (protocol §1.5, §7.5).

    A method that nobody classified needs operator.admin. Raises `Refused`.
    """
    method = METHODS.get(name)
    if name == "health" and method is not None:
        return method
    if caller.role not in (method.roles if method else (OPERATOR,)):
        raise Refused(Reason.ROLE_NOT_ALLOWED, role=caller.role)
    held = caller.scopes or ()
    needed = method.scope if method else ADMIN
    if needed is not None and needed not in held and ADMIN not in held and not (needed == READ and WRITE in held):
        raise Refused(Reason.MISSING_SCOPE, scope=needed)
    if name == "connect":
        raise Refused(Reason.CONNECT_TWICE)
    if method is None:
        raise Refused(Reason.UNKNOWN_METHOD, method=name)
    return method


async def call(service: Service, caller: Caller, name: str, params: Raw | None) -> Any:
    """Run one method for one caller and return its result Struct. Raises `Refused`, `PairingError`."""
    method = permit(caller, name)
    try:
        decoded = decode_params(name, method.params, params)
    except BadParams as bad:
        raise Refused(Reason.INVALID_PARAMS, method=name, problems=bad.problems) from None
    return await method.run(Call(service, caller, decoded))


def encode(result: Any) -> Raw:
    """Return a result as JSON."""
    return Raw(msgspec.json.encode(result))
