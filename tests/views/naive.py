"""An oracle for the views that shares nothing with them: the whole history is folded anew, in dicts, for every question.

Written from the meaning of the events alone; as slow as it is plain.
"""

from collections.abc import Sequence
from typing import Any

from pairing.events import (
    DeviceAbandoned,
    DeviceDescribed,
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
)
from pairing.log.codec import decode, decode_meta, decode_personal
from pairing.log.port import Record

ENDINGS = {
    RequestApproved: "approved",
    RequestRejected: "rejected",
    RequestExpired: "expired",
    RequestSuperseded: "superseded",
    RequestWithdrawn: "withdrawn",
}
TOKENS = (
    TokenImported,
    TokenIssued,
    TokenRotated,
    TokenWidened,
    TokenNarrowed,
    TokenRevoked,
    TokenDue,
    TokenExpired,
    HandoffClosed,
)


class Naive:
    """The world after some rows of a log."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.requests: dict[tuple[str, str], dict[str, Any]] = {}
        self.fates: dict[str, dict[str, Any]] = {}
        self.grants: dict[str, dict[str, Any]] = {}
        self.last_grants: dict[str, dict[str, Any]] = {}
        self.labels: dict[str, tuple[str | None, int]] = {}
        self.known: set[str] = set()
        self.locked: dict[str, tuple[Any, ...]] = {}
        self.surfaces: dict[str, tuple[Any, ...]] = {}
        self.last_surface: dict[str, tuple[Any, ...]] = {}
        self.approvals: dict[str, dict[str, Any]] = {}
        self.last_approvals: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, dict[str, Any]] = {}
        self.holders: dict[str, dict[str, dict[str, Any]]] = {}
        for record in records:
            if record.stream.startswith("node:"):
                self._take_node(record.stream.removeprefix("node:"), record)
            if record.stream.startswith("enrolment:"):
                self._take_code(record.stream.removeprefix("enrolment:"), record)
            if record.stream.startswith("device:"):
                self._take(record.stream.removeprefix("device:"), record)

    def _take(self, device: str, record: Record) -> None:
        self.known.add(device)
        event, position = decode(record), record.position
        person = decode_personal(record)
        name, address = (person.name, person.address) if person else (None, None)
        grant = self.grants.get(device)
        if grant is not None:
            self.last_grants[device] = grant
        if isinstance(event, RequestOpened):
            for row in self.requests.values():
                if row["device"] == device and row["outcome"] == "pending":
                    self._end(row, "superseded", record, event.at, event.request)
            row = {"device": device, "event": event, "name": name, "address": address, "opened": position, "by": None}
            row |= {"outcome": "pending", "at": event.at, "position": position, "ended": position, "actor": None}
            row |= {
                k: getattr(event, k) for k in ("platform", "family", "client_id", "client_mode", "silent", "expires_at", "digest")
            }
            self.requests[device, event.request] = self.fates[event.request] = row
        elif isinstance(event, RequestRefreshed):
            row = self.requests.get((device, event.request))
            if row and row["outcome"] == "pending":
                given = {"name": name, "address": address}
                given |= {k: getattr(event, k) for k in ("platform", "family", "client_id", "client_mode")}
                row |= {k: v for k, v in given.items() if v}
                row |= {"silent": event.silent, "expires_at": event.expires_at, "digest": event.digest, "position": position}
                self.fates[event.request] = row
        elif type(event) in ENDINGS:
            row = self.requests.get((device, event.request))
            if row and row["outcome"] == "pending":
                self._end(row, ENDINGS[type(event)], record, event.at, getattr(event, "by", None))
        elif isinstance(event, DevicePaired):
            asked = self.requests.get((device, event.request), {})
            self.grants[device] = {
                "event": event,
                "key": event.key,
                "name": asked.get("name"),
                "address": asked.get("address"),
                "client": (event.client_id, event.client_mode),
                "created_at": event.at,
                "position": position,
                "tokens": {},
            }
        elif isinstance(event, DeviceImported):
            self.grants[device] = {
                "event": event,
                "key": event.key,
                "name": name,
                "address": address,
                "client": (event.client_id, event.client_mode),
                "created_at": event.created_at,
                "position": position,
                "tokens": {},
            }
            if event.labelled is not None and self.labels.get(device, (None, 0))[0] is None:
                self.labels[device] = (person.label if person else None, position)
        elif isinstance(event, DeviceUpgraded) and grant:
            asked = self.requests.get((device, event.request), grant)
            grant |= {"event": event, "name": asked["name"], "address": asked["address"]}
            grant |= {"client": (event.client_id, event.client_mode), "position": position}
        elif isinstance(event, DeviceDescribed) and grant:
            grant |= {"name": name, "client": (event.client_id, event.client_mode), "position": position}
        elif isinstance(event, DeviceRenamed):
            self.labels[device] = (person.label if person and event.labelled is not None else None, position)
        elif isinstance(event, DeviceRemoved | DeviceAbandoned):
            self.grants.pop(device, None)
        elif isinstance(event, DeviceLocked):
            self.locked[device] = (event, decode_meta(record), position)
        elif isinstance(event, DeviceUnlocked):
            self.locked.pop(device, None)
        elif isinstance(event, DeviceRestored):
            known = self.last_grants.get(device, {})
            self.grants[device] = {
                "event": event,
                "key": event.key,
                "name": known.get("name"),
                "address": known.get("address"),
                "client": (event.client_id, event.client_mode),
                "created_at": event.created_at,
                "position": position,
                "tokens": grant["tokens"] if grant else {},
            }
        elif isinstance(event, TokenAbandoned) and grant:
            if grant["tokens"].get(event.role, {}).get("issue") == event.issue:
                del grant["tokens"][event.role]
        elif isinstance(event, TOKENS) and grant:
            self._token(grant["tokens"], event, position)

    def _take_node(self, node: str, record: Record) -> None:
        event, position, person = decode(record), record.position, decode_personal(record)
        if node in self.approvals:
            self.last_approvals[node] = self.approvals[node]
        if isinstance(event, NodeRequested):
            who = (person.name, person.address) if person else (None, None)
            self.surfaces[node] = self.last_surface[node] = (event, who, position)
        elif isinstance(event, NodeApproved | NodeRejected):
            if node in self.surfaces and self.surfaces[node][0].request == event.request:
                del self.surfaces[node]
            if isinstance(event, NodeApproved):
                last, old = self.last_surface.get(node), self.approvals.get(node)
                self.approvals[node] = {
                    "event": event,
                    "asked": last if last and last[0].request == event.request else None,
                    "label": old["label"] if old else None,
                    "created": old["created"] if old else event.at,
                    "position": position,
                }
        elif isinstance(event, NodeImported):
            who = (person.name, person.address) if person else (None, None)
            self.approvals[node] = {"event": event, "asked": (event, who, 0), "label": None, "created": event.created_at}
            self.approvals[node]["position"] = position
        elif isinstance(event, NodeRestored):
            was = self.last_approvals.get(node, {"asked": None, "label": None})
            self.approvals[node] = was | {"event": event, "created": event.created_at, "position": position}
        elif isinstance(event, NodeRemoved | NodeAbandoned):
            self.approvals.pop(node, None)
        elif isinstance(event, NodeRenamed) and node in self.approvals:
            self.approvals[node] |= {"label": person.label if person else None, "position": position}

    def _take_code(self, code: str, record: Record) -> None:
        event, position, person, at = decode(record), record.position, decode_personal(record), getattr(decode(record), "at", 0)
        row = self.codes.get(code)
        if isinstance(event, EnrolmentIssued):
            actor, label = decode_meta(record).actor, person.label if person else None
            self.codes[code] = {"event": event, "label": label, "actor": actor, "position": position}
            self.codes[code] |= {"revoked": None, "expired": None, "overuses": 0, "redeemed": 0}
        elif isinstance(event, EnrolmentRevoked) and row:
            row |= {"revoked": at, "position": position}
        elif isinstance(event, EnrolmentExpired) and row:
            row |= {"expired": at, "position": position}
        elif isinstance(event, EnrolmentOverused) and row:
            row |= {"overuses": row["overuses"] + 1, "position": position}
        elif isinstance(event, EnrolmentBound | EnrolmentRedeemed | EnrolmentDelivered | EnrolmentAcknowledged):
            held = self.holders.setdefault(code, {})
            new = not held.get(event.device, {}).get("redeemed")
            if row and new and isinstance(event, EnrolmentRedeemed):
                row |= {"redeemed": row["redeemed"] + 1, "position": position}
            self._take_holder(held, event, position)

    def _take_holder(self, held: dict[str, dict[str, Any]], event: Any, position: int) -> None:
        new = {"roles": set(), "bound": event.at, "redeemed": None, "delivered": None, "acknowledged": None, "position": position}
        old = held.get(event.device)
        row = dict(old or new)
        if isinstance(event, EnrolmentRedeemed):
            row |= {"roles": row["roles"] | set(event.tokens), "redeemed": event.at}
        elif isinstance(event, EnrolmentDelivered):
            row |= {"delivered": event.at}
        elif isinstance(event, EnrolmentAcknowledged):
            row |= {"acknowledged": event.at}
        if (old is not None or isinstance(event, EnrolmentBound | EnrolmentRedeemed)) and row != old:
            held[event.device] = row | {"position": position}

    def enrolments(self) -> list[tuple[Any, ...]]:
        rows = []
        for code, row in sorted(self.codes.items()):
            e: EnrolmentIssued = row["event"]
            held = sorted(self.holders.get(code, {}).items(), key=lambda item: (item[1]["bound"], item[0]))
            holders = tuple(
                (device, tuple(sorted(h["roles"])), h["bound"], h["redeemed"], h["delivered"], h["acknowledged"])
                for device, h in held
            )
            about = (e.code, e.profile, e.roles, e.scopes, e.uses, e.approves, row["label"], row["actor"], e.at, e.expires_at)
            ends = (row["revoked"], row["expired"], row["overuses"])
            rows.append((*about, *ends, holders, max([row["position"], *(h["position"] for _, h in held)])))
        return rows

    def overdue_codes(self, now: int) -> set[str]:
        found = set()
        for row in self.codes.values():
            over = row["revoked"] is not None or row["expired"] is not None or row["redeemed"] >= row["event"].uses
            if row["event"].expires_at < now and not over:
                found.add(row["event"].code)
        return found

    def node_requests(self) -> list[tuple[Any, ...]]:
        rows = sorted(self.surfaces.items(), key=lambda item: -item[1][2])
        return [
            (node, e.request, e.caps, e.commands, *who, *self._about(e), e.silent, e.repair, e.at, position)
            for node, (e, who, position) in rows
        ]

    def nodes(self) -> list[tuple[Any, ...]]:
        rows = sorted(self.approvals.items(), key=lambda item: (-_approved_at(item[1]["event"]), -item[1]["position"]))
        found = []
        for node, row in rows:
            e, (asked, (name, address), _) = row["event"], row["asked"] or (None, (None, None), 0)
            when = (row["created"], _approved_at(e), row["position"])
            request = "" if isinstance(e, NodeImported | NodeRestored) else e.request
            found.append((node, request, e.caps, e.commands, name, row["label"], address, *self._about(asked), *when))
        return found

    def _about(self, e: NodeRequested | None) -> tuple[Any, ...]:
        return (e.platform, e.family, e.model, e.version, e.core_version, e.ui_version) if e else (None,) * 6

    def _end(self, row: dict[str, Any], outcome: str, record: Record, at: int, by: str | None) -> None:
        row |= {"outcome": outcome, "at": at, "ended": record.position, "actor": decode_meta(record).actor, "by": by}

    def _token(self, tokens: dict[str, dict[str, Any]], event: Any, position: int) -> None:
        old = tokens.get(event.role)
        fresh = {"role": event.role, "issue": event.issue, "position": position, "revoked_at": None, "handoff": None}
        fresh |= {"expires_at": getattr(event, "expires_at", None), "expired_at": None}
        if isinstance(event, TokenIssued):
            tokens[event.role] = fresh | {
                "scopes": event.scopes,
                "under": event.under,
                "created_at": event.at,
                "rotated_at": None,
            }
        elif isinstance(event, TokenImported):
            days = {"created_at": event.created_at, "rotated_at": event.rotated_at, "revoked_at": event.revoked_at}
            tokens[event.role] = fresh | {"scopes": event.scopes, "under": None} | days
        elif isinstance(event, TokenRotated) and old:
            kept = {"created_at": old["created_at"], "rotated_at": event.at}
            tokens[event.role] = fresh | kept | {"scopes": event.scopes, "under": event.under}
            ended = (
                old["revoked_at"],
                old["expired_at"],
                (old["expires_at"] is not None and event.at >= old["expires_at"]) or None,
            )
            if event.handoff_until is not None and ended == (None, None, None):
                tokens[event.role]["handoff"] = (old["issue"], event.handoff_until)
        elif isinstance(event, HandoffClosed) and old and old["handoff"] and old["handoff"][0] == event.retires:
            old |= {"handoff": None, "position": position}
        elif isinstance(event, TokenWidened) and old and old["issue"] == event.issue:
            old |= {"scopes": event.scopes, "under": event.under, "position": position}
        elif isinstance(event, TokenNarrowed) and old and old["issue"] == event.issue:
            old |= {"scopes": event.scopes, "position": position}
        elif isinstance(event, TokenRevoked) and old and old["issue"] == event.issue:
            old |= {"revoked_at": event.at, "position": position, "handoff": None}
        elif isinstance(event, TokenExpired) and old and old["issue"] == event.issue:
            old |= {"expired_at": event.at, "position": position, "handoff": None}
        elif isinstance(event, TokenDue) and old and old["issue"] == event.issue:
            old |= {"position": position}

    # --- what the views are asked --------------------------------------------------------------------------------

    def pending(self) -> list[tuple[Any, ...]]:
        rows = [row for row in self.requests.values() if row["outcome"] == "pending"]
        rows.sort(key=lambda row: (-row["event"].at, -row["opened"]))
        return [self._pending(row) for row in rows]

    def _pending(self, row: dict[str, Any]) -> tuple[Any, ...]:
        e = row["event"]
        asked = (e.request, row["device"], e.key, e.need, row["name"], row["platform"], row["family"], row["client_id"])
        wanted = (row["client_mode"], e.role, e.roles, e.scopes, row["address"], row["silent"], e.repair, e.at)
        return (*asked, *wanted, row["expires_at"], row["digest"], row["position"], None)

    def paired(self) -> list[tuple[Any, ...]]:
        rows = sorted(self.grants.items(), key=lambda item: (_approved_at(item[1]["event"]), item[1]["position"]), reverse=True)
        return [self._paired(device, grant) for device, grant in rows]

    def _paired(self, device: str, grant: dict[str, Any]) -> tuple[Any, ...]:
        e = grant["event"]
        label, labelled = self.labels.get(device, (None, 0))
        tokens = [grant["tokens"][role] for role in sorted(grant["tokens"])]
        last = max([grant["position"], labelled, *(token["position"] for token in tokens)])
        who = (device, grant["key"], grant["name"], label, e.platform, e.family, *grant["client"], e.role, e.roles, e.scopes)
        means = {DeviceImported: "imported", DeviceRestored: "restored"}.get(type(e)) or e.means
        when = (grant["address"], means, grant["created_at"], _approved_at(e), tuple(self._token_row(token) for token in tokens))
        return (*who, *when, last, None, None)

    def _token_row(self, t: dict[str, Any]) -> tuple[Any, ...]:
        return (
            t["role"],
            t["scopes"],
            t["issue"],
            t["created_at"],
            t["rotated_at"],
            t["revoked_at"],
            None,
            t["under"],
            t["expires_at"],
            t["expired_at"],
            t["handoff"] and t["handoff"][1],
        )

    def locks(self) -> list[tuple[Any, ...]]:
        found = []
        for device, (event, meta, position) in sorted(self.locked.items(), key=lambda item: -item[1][2]):
            name = self.grants[device]["name"] if device in self.grants else None
            label = self.labels.get(device, (None, 0))[0]
            terms = (event.at, event.until, event.message, event.ban, meta.reason, meta.actor)
            found.append((device, *terms, label, name, device in self.grants, position))
        return found

    def due(self, after: int, until: int) -> list[tuple[str, str, str, int]]:
        """Device, role, issue, end: the tokens that live and have an end."""
        live = [
            (t["expires_at"], t["position"], device, t["role"], t["issue"])
            for device, grant in self.grants.items()
            for t in grant["tokens"].values()
            if t["expires_at"] is not None and t["revoked_at"] is None and t["expired_at"] is None
        ]
        return [(device, role, issue, end) for end, _, device, role, issue in sorted(live) if after < end <= until]

    def handed_over(self) -> set[tuple[Any, ...]]:
        return {
            (device, t["role"], t["issue"], t["handoff"][0], t["rotated_at"], t["handoff"][1])
            for device, grant in self.grants.items()
            for t in grant["tokens"].values()
            if t["handoff"]
        }

    def fate(self, request: str) -> tuple[Any, ...] | None:
        row = self.fates.get(request)
        if row is None:
            return None
        return (request, row["device"], row["outcome"], row["at"], row["ended"], row["actor"], row["by"])

    def matches(self, name: str) -> set[tuple[Any, ...]]:
        asked = name.lower()
        found = {asked} & self.known
        if not found:
            found = {device for device in self.known if len(name) >= 4 and device.startswith(asked)}
            found |= {device for device, (label, _) in self.labels.items() if label and label.strip().lower() == asked.strip()}
        return {self._match(device) for device in found}

    def _match(self, device: str) -> tuple[Any, ...]:
        label = self.labels.get(device, (None, 0))[0]
        open_row = next((r for r in self.requests.values() if r["device"] == device and r["outcome"] == "pending"), None)
        if device in self.grants:
            return (device, self.grants[device]["name"], label, "paired")
        return (device, open_row["name"] if open_row else None, label, "pending" if open_row else "gone")


def _approved_at(event: Any) -> int:
    return int(event.approved_at if isinstance(event, DeviceImported | NodeImported) else event.at)
