"""The figures of one gateway, in Prometheus' text format 0.0.4: counted as plain integers, put into words when somebody asks.

Every label comes from a vocabulary of ours; nothing a peer can choose is ever one. The registry is the gateway's own, and no
thread is started. Who may ask is scrape.py's.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec
from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from pairing.authority import ROLES
from pairing.events import Means
from pairing.log.port import Record
from pairing.refusals import SAYINGS, Reason

from .courier import HookFigures
from .herald import CHANGED, EXPIRED, LOCKED, REMOVED
from .watch import Vitals

CUTS: Final = tuple(reason for _, reason in (REMOVED, LOCKED, EXPIRED, CHANGED))
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_APPROVED: Final = "request.approved"
_ENDED: Final = {
    "request.rejected": ("owner", "rejected"),
    "request.expired": ("none", "expired"),
    "request.superseded": ("none", "superseded"),
    "request.withdrawn": ("none", "withdrawn"),
}


_LOCKED: Final = "device.locked"
_UNLOCKED: Final = "device.unlocked"


class _Lock(Struct, frozen=True):
    ban: bool


class _Unlock(Struct, frozen=True):
    how: Literal["unlocked", "ended"]


_lock = msgspec.json.Decoder(_Lock)
_unlock = msgspec.json.Decoder(_Unlock)


class _Approval(Struct, frozen=True):
    means: Means


_approval = msgspec.json.Decoder(_Approval)


class Now(Struct, frozen=True):
    """What is so at the moment of asking. Sessions by role; `at` and `started_at` in ms."""

    at: int
    started_at: int
    sessions: dict[str, int]
    connections: int
    failing: tuple[str, ...]
    seen: Vitals
    cut: dict[str, int] = {}
    hooks: tuple[HookFigures, ...] = ()


class Metrics(Collector):
    """Counts since the start of this process. Callers on the hot path only add to integers."""

    def __init__(self, now: Callable[[], Now]) -> None:
        self._now = now
        self.handshakes = 0
        self.logins = 0
        self._refusals: dict[tuple[str, Reason], int] = {}
        self._decisions: dict[tuple[str, str], int] = {}
        self._codes = dict.fromkeys(_CODES.values(), 0)
        self._locks = dict.fromkeys(("locked", "banned", "unlocked", "ended"), 0)
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._spent = 0.0
        self._failed = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def refused(self, at: str, reason: Reason) -> None:
        """Count a refusal: `at` is `login` or `call`."""
        key = (at, reason)
        self._refusals[key] = self._refusals.get(key, 0) + 1

    def appended(self, seconds: float, stored: bool) -> None:
        """Count an append by how long its caller waited; one that is not known to be stored has no latency."""
        if stored:
            self._buckets[bisect_left(BOUNDS, seconds)] += 1
            self._spent += seconds
        else:
            self._failed += 1

    def heard(self, record: Record) -> None:
        """Count the end of a request, a lock, or the end of one, whichever process recorded it."""
        if record.kind == _LOCKED:
            self._locks["banned" if _lock.decode(record.body).ban else "locked"] += 1
            return
        if record.kind == _UNLOCKED:
            self._locks[_unlock.decode(record.body).how] += 1
            return
        if (fate := _CODES.get(record.kind)) is not None:
            self._codes[fate] += 1
            return
        if record.kind == _APPROVED:
            key: tuple[str, str] = (_approval.decode(record.body).means, "approved")
        elif (ended := _ENDED.get(record.kind)) is not None:
            key = ended
        else:
            return
        self._decisions[key] = self._decisions.get(key, 0) + 1

    def text(self) -> bytes:
        """Return all figures."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: this is the registry's only collector."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every family; a label value that never occurred is given as 0 where the vocabulary is small."""
        now = self._now()
        seen = now.seen
        yield _counter("pairing_handshakes", "Logins begun.", self.handshakes)
        yield _counter("pairing_logins", "Logins that succeeded.", self.logins)
        yield self._refused()
        yield self._decided()
        yield _counted("pairing_setup_codes", "What became of setup codes.", "outcome", self._codes)
        yield _counted("pairing_locks", "Locks and their ends.", "outcome", self._locks)
        cut = {why: now.cut.get(why, 0) for why in CUTS}
        yield _counted("pairing_sessions_cut", "Sessions that were ended, by the reason they were given.", "reason", cut)
        yield self._appends()
        yield _counter("pairing_append_failures", "Appends that are not known to be stored.", self._failed)
        yield _gauge("pairing_connections", "WebSocket connections, logged in or not.", now.connections)
        yield _labelled("pairing_sessions", "Live sessions by role.", "role", _by_role(now.sessions))
        pending = {need: seen.pending.get(need, (0, now.at)) for need in _NEEDS}
        counts = {need: count for need, (count, _) in pending.items()}
        yield _labelled("pairing_pending_requests", "Open requests by what they need.", "kind", counts)
        ages = {need: max(0, now.at - oldest) / 1000 if count else 0 for need, (count, oldest) in pending.items()}
        yield _labelled("pairing_pending_oldest_age_seconds", "Age of the oldest open request.", "kind", ages)
        head = seen.owed if seen.head is None else seen.head
        yield _gauge("pairing_log_position", "Last position of the log.", head)
        yield _gauge("pairing_log_up", "Whether the log can be read.", int(seen.head is not None))
        yield _gauge("pairing_herald_lag_positions", "Positions that the herald has still to pass.", max(0, head - seen.herald))
        yield _gauge("pairing_views_lag_positions", "Positions that the views have still to take in.", max(0, head - seen.views))
        if seen.differences is not None:
            yield _gauge("pairing_view_differences", "Rows that differed when the views were last verified.", seen.differences)
        yield _gauge("pairing_ready", "Whether /readyz says yes.", int(not now.failing))
        yield from _hooks(now.hooks)
        machine = seen.machine
        for name, words, value in (
            ("pairing_descriptors_left", "File descriptors that may still be opened.", machine.descriptors),
            ("pairing_disk_left_bytes", "Bytes that may still be written beside the log.", machine.disk),
        ):
            if value is not None:
                yield _gauge(name, words, value)
        if (ends := machine.certificate_ends) is not None:
            yield _gauge("pairing_tls_certificate_expiry_seconds", "When the certificate ends, since the epoch.", ends / 1000)
        yield _gauge("process_start_time_seconds", "When the gateway started, since the epoch.", now.started_at / 1000)

    def _refused(self) -> Metric:
        family = CounterMetricFamily("pairing_refusals", "Refusals by place, reason and code.", labels=("at", "reason", "code"))
        for (at, reason), count in sorted(self._refusals.items(), key=lambda item: (item[0][0], item[0][1].value)):
            saying = SAYINGS[reason]
            family.add_metric((at, reason.value, saying.detail or saying.code), count)
        return family

    def _decided(self) -> Metric:
        family = CounterMetricFamily(
            "pairing_decisions", "Requests that ended, by means and outcome.", labels=("means", "outcome")
        )
        for key in (*_DECISIONS, *_ENDED.values()):
            family.add_metric(key, self._decisions.get(key, 0))
        return family

    def _appends(self) -> Metric:
        rows, sum_ = [], 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._buckets, strict=True):
            sum_ += count
            rows.append((bound, float(sum_)))
        family = HistogramMetricFamily("pairing_append_seconds", "From handing an append to the log to its answer.")
        family.add_metric((), rows, self._spent)
        return family


_CODES: Final = {
    "enrolment.issued": "issued",
    "enrolment.redeemed": "redeemed",
    "enrolment.overused": "overused",
    "enrolment.revoked": "revoked",
    "enrolment.expired": "expired",
}
_NEEDS: Final = ("not-paired", "role-upgrade", "scope-upgrade", "metadata-upgrade")
_DECISIONS: Final = tuple((means, "approved") for means in ("owner", "silent", "trusted-cidr", "bootstrap"))


def _hooks(hooks: tuple[HookFigures, ...]) -> Iterator[Metric]:
    """Hooks are named by ids of our own making, and there are 32 at most."""
    if not hooks:
        return
    yield _gauge("pairing_hooks_paused", "Webhooks that send nothing until somebody resumes them.", sum(h.paused for h in hooks))
    busy = [hook for hook in hooks if not hook.paused]
    lag = {hook.hook: hook.lag for hook in busy}
    yield _labelled("pairing_hook_lag_positions", "Positions that are not delivered yet.", "hook", lag)
    waits = {hook.hook: hook.lag_s for hook in busy}
    yield _labelled("pairing_hook_lag_seconds", "Age of the oldest event that was tried in vain.", "hook", waits)
    attempts = CounterMetricFamily("pairing_hook_attempts", "Attempts to deliver an event.", labels=("hook", "outcome"))
    for hook in busy:
        attempts.add_metric((hook.hook, "failed"), hook.failed)
        attempts.add_metric((hook.hook, "delivered"), hook.tried - hook.failed)
    yield attempts


def _by_role(sessions: dict[str, int]) -> dict[str, int]:
    known = {role: sessions.get(role, 0) for role in ROLES}
    return {**known, "other": sum(sessions.values()) - sum(known.values())}


def _counter(name: str, words: str, value: int) -> Metric:
    return CounterMetricFamily(name, words, value=value)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _counted(name: str, words: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, words, labels=(label,))
    for value, figure in values.items():
        family.add_metric((value,), figure)
    return family


def _labelled(name: str, words: str, label: str, values: dict[str, float] | dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=(label,))
    for value, figure in values.items():
        family.add_metric((value,), figure)
    return family
