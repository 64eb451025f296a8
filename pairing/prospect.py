"""What other settings would mean for all open requests together, for devices as they stand, and for whom was turned away.

Pure, and by the same rules as the door: `gateway.crowding`, `verdict.judge`, `aging.unused`. One device's past is `rehearsal`'s.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from .aging import unused
from .commands import Wanted
from .device import Device
from .eras import Eras, Rules
from .gateway.crowding import full, source
from .listing import RefusedContact
from .rehearsal import IDLE, MAX_PENDING, PER_ADDRESS, SECRET, WAITED, Line, Move, What
from .verdict import Presented, judge


def capped(moves: Iterable[Move], standing: Iterable[tuple[str, str | None]], eras: Eras, new: Rules) -> Iterator[Line]:
    """Yield the requests that would have been one too many: every move in order, after what was open, each with its address."""
    open_ = {request: source(address) for request, address in standing}
    near = Counter(open_.values())
    for move in moves:
        place = source(move.address)
        if move.fresh:
            then = eras.of(move.position, move.digest).gateway.pairing
            total, here = len(open_), near[place]
            caps = new.gateway.pairing
            if full(caps, total, here, local=move.local) and not full(then, total, here, local=move.local):
                by_all = total >= caps.max_pending
                name, count = (MAX_PENDING, total) if by_all else (PER_ADDRESS, here)
                would = f"turned away: {count} were open already" + ("" if by_all else " from its address")
                settings = (name,)
                yield Line("capped", move.position, move.at, move.device, WAITED, would, settings, move.request)
        if move.request in open_:
            before = open_.pop(move.request)
            near[before] -= 1
            place = before if move.address is None else place
        if move.opens:
            open_[move.request] = place
            near[place] += 1


# --- devices as they stand, and contacts that were refused -----------------------------------------------------------


class Standing(Struct, frozen=True):
    """A device as it stands at a position and a time (ms). `used`: until when each role's token is known to be in use."""

    device: str
    state: Device
    position: int
    now: int
    used: dict[str, int]


def standing(case: Standing, then: Rules, new: Rules) -> Iterator[Line]:
    """Yield the tokens that would be dead, or alive again, if the other policy held from now on."""
    grant = case.state.grant
    for token in grant.tokens if grant else ():
        wanted = Wanted(key=grant.key if grant else "", role=token.role, scopes=token.scopes)
        shown = Presented(candidate="deviceToken", issue=token.issue)
        before, after = (
            judge(case.state, shown, replace(wanted, under=rules.under), case.now).method is not None for rules in (then, new)
        )
        held = f"the {token.role} token"
        line = Line("token-dead", case.position, case.now, case.device, f"{held} works", "", ())
        if before and not after:
            yield replace(line, would=f"{held} dead: it rests on the present secret", settings=(SECRET,))
        elif after and not before:
            yield replace(line, what="token-works", then=f"{held} is dead", would=f"{held} good again", settings=(SECRET,))
        elif before and (limit := dict(new.gateway.tokens.idle).get(token.role)) is not None:
            since = max(token.issued_at, case.used.get(token.role, case.now))
            present = dict(then.gateway.tokens.idle).get(token.role)
            if unused(since, limit, case.now) and not (present is not None and unused(since, present, case.now)):
                yield replace(line, would=f"{held} dead of disuse", settings=(IDLE[token.role],))


def refused_again(contact: RefusedContact, state: Device, then: Rules, new: Rules) -> Line | None:
    """Judge a contact again that was turned away; None where the answer would be the same, or what was shown is not kept."""
    if contact.presented is None or contact.wanted is None or contact.wanted.under != then.under:
        return None
    shown, wanted = contact.presented, contact.wanted
    before = judge(state, shown, wanted, contact.at)
    after = judge(state, shown, replace(wanted, under=new.under), contact.at)
    if before.reason is None or before.reason.value != contact.reason or after.reason is before.reason:
        return None
    would = "let in" if after.reason is None else f"refused: {after.reason.value}"
    what: What = "token-works" if after.method else "token-dead"
    then_ = f"turned away: {contact.reason}"
    return Line(what, contact.position, contact.at, contact.device or "", then_, would, (SECRET,))
