"""The methods on refused contacts: who was turned away lately, and the evidence behind one reference.

They read what the gateway noted in passing and decide nothing. The evidence is the operator's alone: a session bound to its own
device learns nothing from it (L8).
"""

from typing import Annotated

from msgspec import Meta

from .authority import PAIRING
from .entries import Entry, RefusedEntry
from .entries import refused as shown
from .listing import RefusedContact
from .refusals import Reason, Refused
from .service import Call, Method, Params
from .shapes import Name

MOST = 1_000


class ContactFindParams(Params, frozen=True, kw_only=True):
    """The reference that a refusal gave, in either case; hyphens do not matter."""

    reference: Name


class ContactListParams(Params, frozen=True, kw_only=True):
    """`device` is a full device id; absent, the contacts of all and of nobody known."""

    device: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100


class ContactEntry(RefusedEntry, frozen=True, kw_only=True):
    """A contact that was turned away, and the device it said it was; `proven` says whether it proved that."""

    device_id: str | None = None
    proven: bool


class ContactList(Entry, frozen=True, kw_only=True):
    """The answer to `contact.list`: the latest first."""

    contacts: tuple[ContactEntry, ...]


async def contact_find(call: Call[ContactFindParams]) -> ContactEntry:
    """Return what stands behind a reference. Raises `Refused` for one that is not, or no longer, known."""
    notes = call.service.notes
    found = await notes.find(call.params.reference) if notes is not None and call.caller.own is None else None
    if found is None:
        raise Refused(Reason.UNKNOWN_REFERENCE)
    return entry(found)


async def contact_list(call: Call[ContactListParams]) -> ContactList:
    """List the contacts that were turned away lately."""
    notes, p = call.service.notes, call.params
    if notes is None or call.caller.own is not None:
        return ContactList(contacts=())
    return ContactList(contacts=tuple(entry(found) for found in await notes.recent(p.device, limit=p.limit)))


def entry(contact: RefusedContact) -> ContactEntry:
    """Return a refused contact, with whom it was met by, as an operator sees it."""
    known = shown(contact)
    told = {name: getattr(known, name) for name in known.__struct_fields__}
    return ContactEntry(device_id=contact.device, proven=contact.proven, **told)


METHODS = (
    Method("contact.find", ContactFindParams, contact_find, PAIRING),
    Method("contact.list", ContactListParams, contact_list, PAIRING),
)
