"""Taking a device over from another gateway's store: what an import may bring here, and what it must leave as it is.

Pure, like `decide`, which calls it.
"""

from .authority import normalise, of_role, tidy
from .commands import ImportDevice, Vouched
from .device import Device
from .events import DeviceEvent, DeviceImported, TokenImported
from .permits import permit
from .refusals import Reason, Refused


def adopt(state: Device, c: ImportDevice) -> tuple[DeviceEvent, ...]:
    """Return the events that bring the device and its tokens; `()` where it is paired here. Raises `Refused`.

    What was ended here stays ended, whatever the other store still holds (V7).
    """
    access = tuple((token.role, tidy((*of_role(c.scopes, token.role), *token.scopes))) for token in c.tokens)
    permit("import", c, (*access, *((role, ()) for role in c.roles)), Reason.IMPORT_DENIED)
    if state.grant is not None:
        return ()
    if state.gone_at is not None:
        raise Refused(Reason.REMOVED_HERE)
    imported = DeviceImported(
        at=c.now,
        device=c.device,
        key=c.key,
        source=c.source,
        role=c.role,
        roles=c.roles,
        scopes=c.scopes,
        platform=c.platform,
        family=c.family,
        client_id=c.client_id,
        client_mode=c.client_mode,
        named=c.named,
        labelled=c.labelled,
        created_at=c.created_at,
        approved_at=c.approved_at,
    )
    return (imported, *(_token(c, token) for token in c.tokens))


def _token(c: ImportDevice, token: Vouched) -> TokenImported:
    return TokenImported(
        at=c.now,
        role=token.role,
        scopes=normalise(token.scopes),
        issue=token.issue,
        key=c.vouched,
        proof=token.proof,
        created_at=token.created_at,
        rotated_at=token.rotated_at,
        revoked_at=token.revoked_at,
    )
