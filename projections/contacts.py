"""The ring of refused contacts: who was turned away lately, why, and under which reference they were told so.

Pure: it folds what repeats into one counted contact, keeps the ring within its bounds, and says what a file must hear of it.
Everything a stranger can choose is clipped.
"""

from collections import OrderedDict
from typing import TypeAlias

from msgspec.structs import replace

from pairing.commands import Wanted
from pairing.listing import RefusedContact

MOST = 10_000
MOST_EACH = 100
_TEXT = 128
_ITEMS = 32

_Face: TypeAlias = tuple[object, ...]
_Party: TypeAlias = tuple[str | None, bool]


class Ring:
    """Refused contacts by reference, the longest silent first; at most `most`, and `each` of one party."""

    def __init__(self, most: int = MOST, each: int = MOST_EACH) -> None:
        self._most, self._each = most, each
        self._all: dict[bool, OrderedDict[str, RefusedContact]] = {True: OrderedDict(), False: OrderedDict()}
        self._faces: dict[_Face, str] = {}
        self._parties: dict[_Party, OrderedDict[str, None]] = {}
        self._changed: dict[str, None] = {}
        self._gone: dict[str, None] = {}

    def __contains__(self, reference: str) -> bool:
        return any(reference in kept for kept in self._all.values())

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._all.values())

    def add(self, contact: RefusedContact, reference: str) -> str:
        """Keep a contact, and return its reference: the one given, or that of the same refusal before."""
        contact = _clipped(contact)
        known = self._faces.get(_face(contact))
        if known is None:
            contact = replace(contact, reference=reference, count=1, first_at=contact.at)
        else:
            before = self._all[contact.proven][known]
            contact = replace(contact, reference=known, count=before.count + 1, first_at=before.first_at)
        self._keep(contact)
        self._changed[contact.reference] = None
        return contact.reference

    def restore(self, contact: RefusedContact) -> None:
        """Take back a contact that the file has kept."""
        self._keep(contact)

    def changes(self) -> tuple[list[RefusedContact], list[str]]:
        """Return the contacts to be written and the references to be deleted since the last call."""
        changed = [kept[reference] for kept in self._all.values() for reference in self._changed if reference in kept]
        gone = list(self._gone)
        self._changed, self._gone = {}, {}
        return changed, gone

    def unwritten(self, changed: list[RefusedContact], gone: list[str]) -> None:
        """Take back changes that could not be written."""
        self._changed.update((contact.reference, None) for contact in changed)
        self._gone.update((reference, None) for reference in gone)

    def forget(self, device: str) -> None:
        """Drop what a device met, or what was met in its name."""
        for proven, kept in self._all.items():
            for reference in [contact.reference for contact in kept.values() if contact.device == device]:
                self._drop(proven, reference)

    def _keep(self, contact: RefusedContact) -> None:
        kept = self._all[contact.proven]
        kept[contact.reference] = contact
        kept.move_to_end(contact.reference)
        self._faces[_face(contact)] = contact.reference
        party = self._parties.setdefault(_party(contact), OrderedDict())
        party[contact.reference] = None
        party.move_to_end(contact.reference)
        if len(party) > self._each:
            self._drop(contact.proven, next(iter(party)))
        while len(self) > self._most:
            # Claims cost nothing to make: they give way to each other before a proven device's contacts do.
            crowded = not self._all[False]
            self._drop(crowded, next(iter(self._all[crowded])))

    def _drop(self, proven: bool, reference: str) -> None:
        contact = self._all[proven].pop(reference)
        self._faces.pop(_face(contact), None)
        party = self._parties[_party(contact)]
        del party[reference]
        if not party:
            del self._parties[_party(contact)]
        self._gone[reference] = None


def _party(contact: RefusedContact) -> _Party:
    """Return whose contacts are counted together: a known device's, or those of an address, whatever it says it is."""
    return (contact.device if contact.proven else f"@{contact.address}", contact.proven)


def _face(contact: RefusedContact) -> _Face:
    """Return what makes a refusal the same again. A stranger's words do not: another device id is made in no time."""
    met = (_party(contact), contact.address, contact.reason, contact.code, contact.role)
    return (*met, contact.scopes, contact.reuse and contact.reuse.issue) if contact.proven else met


def _clipped(contact: RefusedContact) -> RefusedContact:
    return replace(
        contact,
        device=_clip(contact.device),
        address=_clip(contact.address),
        role=_clip(contact.role),
        scopes=tuple(scope[:_TEXT] for scope in contact.scopes[:_ITEMS]),
        trace=tuple(replace(step, found=step.found[:_TEXT], needed=step.needed[:_TEXT]) for step in contact.trace[:_ITEMS]),
        wanted=contact.wanted if _modest(contact.wanted) else None,
    )


def _modest(wanted: Wanted | None) -> bool:
    """A wish that would have to be clipped would be another one: it is not kept."""
    if wanted is None or len(wanted.scopes) > _ITEMS:
        return False
    texts = (wanted.key, wanted.role, wanted.platform or "", wanted.family or "", *wanted.scopes)
    return all(len(text) <= _TEXT for text in texts)


def _clip(text: str | None) -> str | None:
    return text and text[:_TEXT]
