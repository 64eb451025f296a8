"""What each kind of event does to the rows of its device or node: the one table that joins events and views.

Total, as `evolve` is: an event that does not fit leaves the rows as they were.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from pairing.events import (
    DeviceAbandoned,
    DeviceDescribed,
    DeviceForgotten,
    DeviceImported,
    DeviceLocked,
    DevicePaired,
    DeviceRemoved,
    DeviceRenamed,
    DeviceRestored,
    DeviceUnlocked,
    DeviceUpgraded,
    EnrolmentAcknowledged,
    EnrolmentBound,
    EnrolmentDelivered,
    EnrolmentExpired,
    EnrolmentIssued,
    EnrolmentOverused,
    EnrolmentRedeemed,
    EnrolmentRevoked,
    HandoffClosed,
    NodeAbandoned,
    NodeApproved,
    NodeForgotten,
    NodeImported,
    NodeRejected,
    NodeRemoved,
    NodeRenamed,
    NodeRequested,
    NodeRestored,
    RequestApproved,
    RequestExpired,
    RequestOpened,
    RequestRefreshed,
    RequestRejected,
    RequestSuperseded,
    RequestWithdrawn,
    TokenAbandoned,
    TokenDue,
    TokenExpired,
    TokenImported,
    TokenIssued,
    TokenNarrowed,
    TokenRevoked,
    TokenRotated,
    TokenWidened,
    device_stream,
    enrolment_stream,
    node_stream,
)

from . import devices, enrolments, locks, nodes, requests, tokens
from .reading import Read
from .spans import Sheet


class Sheets:
    """The rows of all views that some events touch.

    Beside them: which request of a stream is open, for which roles it has tokens, how many more requests are open by now, and
    which streams were forgotten, below which position.
    """

    def __init__(self) -> None:
        self.requests: Sheet[requests.Asked] = Sheet(requests.TABLE)
        self.devices: Sheet[devices.Grant] = Sheet(devices.DEVICES)
        self.labels: Sheet[devices.Label] = Sheet(devices.LABELS)
        self.tokens: Sheet[tokens.Held] = Sheet(tokens.TABLE)
        self.locks: Sheet[locks.Locked] = Sheet(locks.TABLE)
        self.node_requests: Sheet[nodes.Surface] = Sheet(nodes.ASKED)
        self.nodes: Sheet[nodes.Approved] = Sheet(nodes.NODES)
        self.enrolments: Sheet[enrolments.Minted] = Sheet(enrolments.CODES)
        self.holders: Sheet[enrolments.Held] = Sheet(enrolments.HOLDERS)
        self.open: dict[int, str] = {}
        self.roles: dict[int, dict[str, None]] = {}
        self.opened = 0
        self.forgotten: list[tuple[int, int]] = []

    def all(self) -> tuple[Sheet[Any], ...]:
        """Return every sheet, in the order in which they are written."""
        return (
            self.requests,
            self.devices,
            self.labels,
            self.tokens,
            self.locks,
            self.node_requests,
            self.nodes,
            self.enrolments,
            self.holders,
        )

    def seed(self, load: str, stored: tuple[Any, ...]) -> None:
        """Take one stored row, by the name of its load."""
        sheet: Sheet[Any] = self.requests if load == "open" else getattr(self, load)
        sheet.seed(stored)
        if stored[1] is not None:
            return
        if sheet is self.requests:
            self.open[stored[2]] = stored[3]
        elif sheet is self.tokens:
            self.roles.setdefault(stored[2], {})[stored[3]] = None


Apply: TypeAlias = Callable[[Sheets, int, Read, Any], None]


class Step(Struct, frozen=True):
    """How an event is applied, and which stored rows of its stream (and of the request that it names) that takes.

    It counts in streams whose names begin with `family`.
    """

    apply: Apply
    loads: tuple[str, ...]
    family: str = device_stream("")


def _opened(sheets: Sheets, stream: int, read: Read, event: RequestOpened) -> None:
    # One open request a device: what was open has given way, even where nobody said so.
    position, before = read.record.position, sheets.open.get(stream)
    if before is None:
        sheets.opened += 1
    else:
        sheets.requests.end((stream, before), position, **requests.superseded(event, read.meta))
    sheets.requests.put((stream, event.request), requests.opened(event, read.personal, position), position)
    sheets.open[stream] = event.request


def _refreshed(sheets: Sheets, stream: int, read: Read, event: RequestRefreshed) -> None:
    key = (stream, event.request)
    row = sheets.requests.row(key)
    if row is not None:
        sheets.requests.put(key, requests.refreshed(row, event, read.personal), read.record.position)


def _ended(sheets: Sheets, stream: int, read: Read, event: requests.Ending) -> None:
    sheets.requests.end((stream, event.request), read.record.position, **requests.ending(event, read.meta))
    if sheets.open.get(stream) == event.request:
        del sheets.open[stream]
        sheets.opened -= 1


def _paired(sheets: Sheets, stream: int, read: Read, event: DevicePaired) -> None:
    _drop_tokens(sheets, stream, read.record.position)
    asked = sheets.requests.last((stream, event.request))
    sheets.devices.put((stream,), devices.paired(event, asked), read.record.position)


def _upgraded(sheets: Sheets, stream: int, read: Read, event: DeviceUpgraded) -> None:
    grant = sheets.devices.row((stream,))
    if grant is not None:
        asked = sheets.requests.last((stream, event.request))
        sheets.devices.put((stream,), devices.upgraded(grant, event, asked), read.record.position)


def _described(sheets: Sheets, stream: int, read: Read, event: DeviceDescribed) -> None:
    grant = sheets.devices.row((stream,))
    if grant is not None:
        sheets.devices.put((stream,), devices.described(grant, event, read.personal), read.record.position)


def _renamed(sheets: Sheets, stream: int, read: Read, event: DeviceRenamed) -> None:
    sheets.labels.put((stream,), devices.renamed(event, read.personal), read.record.position)


def _removed(sheets: Sheets, stream: int, read: Read, event: DeviceRemoved | DeviceAbandoned) -> None:
    sheets.devices.end((stream,), read.record.position)
    _drop_tokens(sheets, stream, read.record.position)


def _imported(sheets: Sheets, stream: int, read: Read, event: DeviceImported) -> None:
    position = read.record.position
    _drop_tokens(sheets, stream, position)
    sheets.devices.put((stream,), devices.imported(event, read.personal), position)
    label = sheets.labels.row((stream,))
    if event.labelled is not None and (label is None or label.label is None):
        sheets.labels.put((stream,), devices.renamed(event, read.personal), position)


def _locked(sheets: Sheets, stream: int, read: Read, event: DeviceLocked) -> None:
    sheets.locks.put((stream,), locks.locked(event, read.meta), read.record.position)


def _unlocked(sheets: Sheets, stream: int, read: Read, event: DeviceUnlocked) -> None:
    sheets.locks.end((stream,), read.record.position)


def _restored(sheets: Sheets, stream: int, read: Read, event: DeviceRestored) -> None:
    row = devices.restored(sheets.devices.last((stream,)), event)
    sheets.devices.put((stream,), row, read.record.position)


def _token_abandoned(sheets: Sheets, stream: int, read: Read, event: TokenAbandoned) -> None:
    row = sheets.tokens.row((stream, event.role))
    if row is not None and row.issue == event.issue:
        sheets.tokens.end((stream, event.role), read.record.position)
        sheets.roles.get(stream, {}).pop(event.role, None)


def _token(sheets: Sheets, stream: int, read: Read, event: tokens.TokenEvent) -> None:
    if sheets.devices.row((stream,)) is None:
        return
    key = (stream, event.role)
    before = sheets.tokens.row(key)
    after = tokens.apply(before, event)
    if after is not None and after is not before:
        sheets.tokens.put(key, after, read.record.position)
        if before is None:
            sheets.roles.setdefault(stream, {})[event.role] = None


def _drop_tokens(sheets: Sheets, stream: int, position: int) -> None:
    for role in sheets.roles.pop(stream, ()):
        sheets.tokens.end((stream, role), position)


def _node_requested(sheets: Sheets, stream: int, read: Read, event: NodeRequested) -> None:
    sheets.node_requests.end((stream,), read.record.position, outcome="superseded")
    sheets.node_requests.put((stream,), nodes.requested(event, read.personal), read.record.position)


def _node_approved(sheets: Sheets, stream: int, read: Read, event: NodeApproved) -> None:
    _node_answered(sheets, stream, read, event, "approved")
    row = nodes.approved(event, sheets.node_requests.last((stream,)), sheets.nodes.row((stream,)))
    sheets.nodes.put((stream,), row, read.record.position)


def _node_rejected(sheets: Sheets, stream: int, read: Read, event: NodeRejected) -> None:
    _node_answered(sheets, stream, read, event, "rejected")


def _node_answered(sheets: Sheets, stream: int, read: Read, event: NodeApproved | NodeRejected, outcome: str) -> None:
    asked = sheets.node_requests.row((stream,))
    if asked is not None and asked.request == event.request:
        sheets.node_requests.end((stream,), read.record.position, outcome=outcome)


def _node_removed(sheets: Sheets, stream: int, read: Read, event: NodeRemoved | NodeAbandoned) -> None:
    sheets.nodes.end((stream,), read.record.position)


def _node_restored(sheets: Sheets, stream: int, read: Read, event: NodeRestored) -> None:
    sheets.nodes.put((stream,), nodes.restored(event, sheets.nodes.last((stream,))), read.record.position)


def _node_imported(sheets: Sheets, stream: int, read: Read, event: NodeImported) -> None:
    sheets.nodes.put((stream,), nodes.imported(event, read.personal), read.record.position)


def _node_renamed(sheets: Sheets, stream: int, read: Read, event: NodeRenamed) -> None:
    row = sheets.nodes.row((stream,))
    if row is not None:
        label = read.personal.label if read.personal else None
        sheets.nodes.put((stream,), replace(row, label=label), read.record.position)


def _forgotten(sheets: Sheets, stream: int, read: Read, event: DeviceForgotten | NodeForgotten) -> None:
    for sheet in sheets.all():
        sheet.forget(stream)
    sheets.forgotten.append((stream, read.record.position))


def _minted(sheets: Sheets, stream: int, read: Read, event: EnrolmentIssued) -> None:
    sheets.enrolments.put((stream,), enrolments.minted(event, read.meta, read.personal), read.record.position)


def _code_ended(sheets: Sheets, stream: int, read: Read, event: enrolments.End) -> None:
    row = sheets.enrolments.row((stream,))
    if row is not None:
        sheets.enrolments.put((stream,), enrolments.ended(row, event), read.record.position)


def _holder(sheets: Sheets, stream: int, read: Read, event: enrolments.Step) -> None:
    before = sheets.holders.row((stream, event.device))
    after = enrolments.held(before, event)
    if after is not None and after != before:
        sheets.holders.put((stream, event.device), after, read.record.position)
    code = sheets.enrolments.row((stream,))
    if code is not None and isinstance(event, EnrolmentRedeemed) and (before is None or before.redeemed_at is None):
        sheets.enrolments.put((stream,), replace(code, redeemed=code.redeemed + 1), read.record.position)


_NODE, _ENROLMENT = node_stream(""), enrolment_stream("")
_CODE_ENDED = Step(_code_ended, ("enrolments",), _ENROLMENT)
_HOLDER = Step(_holder, ("holders", "enrolments"), _ENROLMENT)
_ENDED = Step(_ended, ("requests",))
_TOKEN = Step(_token, ("devices", "tokens"))

STEPS: dict[type, Step] = {
    RequestOpened: Step(_opened, ("requests", "open")),
    RequestRefreshed: Step(_refreshed, ("requests",)),
    RequestSuperseded: _ENDED,
    RequestApproved: _ENDED,
    RequestRejected: _ENDED,
    RequestExpired: _ENDED,
    RequestWithdrawn: _ENDED,
    DevicePaired: Step(_paired, ("requests", "devices", "tokens")),
    DeviceUpgraded: Step(_upgraded, ("requests", "devices")),
    DeviceDescribed: Step(_described, ("devices",)),
    DeviceRenamed: Step(_renamed, ("labels",)),
    DeviceRemoved: Step(_removed, ("devices", "tokens")),
    DeviceForgotten: Step(_forgotten, ()),
    DeviceImported: Step(_imported, ("devices", "labels", "tokens")),
    DeviceRestored: Step(_restored, ("devices",)),
    DeviceAbandoned: Step(_removed, ("devices", "tokens")),
    TokenAbandoned: Step(_token_abandoned, ("tokens",)),
    TokenNarrowed: _TOKEN,
    TokenImported: _TOKEN,
    DeviceLocked: Step(_locked, ("locks",)),
    DeviceUnlocked: Step(_unlocked, ("locks",)),
    TokenIssued: _TOKEN,
    TokenRotated: _TOKEN,
    TokenWidened: _TOKEN,
    TokenRevoked: _TOKEN,
    TokenDue: _TOKEN,
    TokenExpired: _TOKEN,
    HandoffClosed: _TOKEN,
    NodeRequested: Step(_node_requested, ("node_requests",), _NODE),
    NodeApproved: Step(_node_approved, ("node_requests", "nodes"), _NODE),
    NodeRejected: Step(_node_rejected, ("node_requests",), _NODE),
    NodeRemoved: Step(_node_removed, ("nodes",), _NODE),
    NodeRestored: Step(_node_restored, ("nodes",), _NODE),
    NodeAbandoned: Step(_node_removed, ("nodes",), _NODE),
    NodeImported: Step(_node_imported, ("nodes",), _NODE),
    NodeRenamed: Step(_node_renamed, ("nodes",), _NODE),
    NodeForgotten: Step(_forgotten, (), _NODE),
    EnrolmentIssued: Step(_minted, ("enrolments",), _ENROLMENT),
    EnrolmentRevoked: _CODE_ENDED,
    EnrolmentExpired: _CODE_ENDED,
    EnrolmentOverused: _CODE_ENDED,
    EnrolmentBound: _HOLDER,
    EnrolmentRedeemed: _HOLDER,
    EnrolmentDelivered: _HOLDER,
    EnrolmentAcknowledged: _HOLDER,
}
