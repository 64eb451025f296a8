"""From what was seen of a state folder to what is wrong with it: named findings, each with the next command that works here.

Pure: everything seen comes in as `Facts`, and what could not be seen is `Skipped`, so that a check is either run or said not to
have been, never passed over in silence (L10).
"""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeVar

from pairing.settings import KEYS, Settings

from .voice import duration, moment, plain

Severity = Literal["info", "warning", "error"]
T = TypeVar("T")

SLACK_MS: Final = 5_000
SOON_MS: Final = 14 * 86_400_000
FEW_DESCRIPTORS: Final = 1_024
LITTLE_DISK: Final = 256 * 1024 * 1024
NO_DISK: Final = 64 * 1024 * 1024
LARGE_WAL: Final = 256 * 1024 * 1024
_LIST: Final = "pairing devices list"
_VERIFY: Final = "pairing log verify"
_SERVE: Final = "pairing serve"


class Skipped(NamedTuple):
    """Something that was not looked at, and why."""

    why: str


class Finding(NamedTuple):
    """One thing that is not as it should be, what exactly was found, and what to run next."""

    name: str
    severity: Severity
    found: str
    next: str


class Answering(NamedTuple):
    """What holds the gateway's port: nothing, a gateway, or something else (`holder` names it where that can be told)."""

    what: Literal["nothing", "gateway", "another"]
    holder: str | None = None


class Seen(NamedTuple):
    """What the log says. Times in ms; `faults` is None where rows were not verified."""

    position: int
    last_at: int | None
    wal: int
    unknown: dict[str, int]


class Verified(NamedTuple):
    """What a verification found: rows checked, faults with the first one's position, flaws of the indexes."""

    rows: int
    faults: int
    first: int | None
    structure: tuple[str, ...]


class Anchored(NamedTuple):
    """The last checkpoint that was given out: of how many rows, and why the log does not continue it, where it does not."""

    size: int
    why: str | None


class Tls(NamedTuple):
    """The configured certificate: when it ends (ms), or why it cannot be read."""

    cert: Path
    ends: int | None
    why: str = ""


class Facts(NamedTuple):
    """All that was looked at. `*_mode` are permission bits, None where the file is not there."""

    home: Path
    now: int
    home_mode: int | Skipped | None
    token_mode: int | Skipped | None
    key: str | Skipped
    settings: Settings | Skipped
    problems: tuple[str, ...] | Skipped
    config_mode: int | Skipped | None
    log: Literal["good", "missing"] | str
    seen: Seen | Skipped
    verified: Verified | Skipped
    anchored: Anchored | Skipped | None
    views: int | Skipped | None
    views_flaws: tuple[str, ...] | Skipped
    port: Answering | Skipped
    descriptors: int | Skipped
    disk: int | Skipped
    tls: Tls | Skipped | None
    pending: int | Skipped
    under_old: int | Skipped
    overused: tuple[str, ...] | Skipped
    paused: tuple[str, ...] | Skipped


class Check(NamedTuple):
    """A rule, the names it may find, and what it has to know."""

    names: tuple[str, ...]
    needs: tuple[str, ...]
    rule: Callable[[Facts], Iterator[Finding]]


class Report(NamedTuple):
    """What was found, the worst first, and the checks that were not run with the reason."""

    findings: tuple[Finding, ...]
    not_run: tuple[tuple[str, str], ...]


def examine(facts: Facts) -> Report:
    """Run every check whose facts are there."""
    findings: list[Finding] = []
    not_run: list[tuple[str, str]] = []
    for check in CHECKS:
        missing = next((value for need in check.needs if isinstance(value := getattr(facts, need), Skipped)), None)
        if missing is None:
            findings.extend(check.rule(facts))
        else:
            not_run.extend((name, missing.why) for name in check.names)
    order = ("error", "warning", "info")
    return Report(tuple(sorted(findings, key=lambda finding: order.index(finding.severity))), tuple(not_run))


def _known(value: T | Skipped) -> T:
    assert not isinstance(value, Skipped)
    return value


# --- the folder and its files ---


def _home(facts: Facts) -> Iterator[Finding]:
    mode = _known(facts.home_mode)
    if mode is None:
        yield Finding("home-missing", "info", f"there is no state folder {facts.home}", _SERVE)
    elif mode & 0o077:
        found = f"{facts.home} can be entered by other users (mode {mode:04o})"
        yield Finding("home-open", "error", found, f"chmod 700 {_quoted(facts.home)}")


def _token(facts: Facts) -> Iterator[Finding]:
    yield from _open_to_others("token-open", facts.home / "shared-token", _known(facts.token_mode), 0o077)


def _config(facts: Facts) -> Iterator[Finding]:
    yield from _open_to_others("settings-open", facts.home / "config.toml", _known(facts.config_mode), 0o022)


def _open_to_others(name: str, path: Path, mode: int | None, bits: int) -> Iterator[Finding]:
    if mode is not None and mode & bits:
        yield Finding(name, "error", f"{path} is open to other users (mode {mode:04o})", f"chmod 600 {_quoted(path)}")


def _key(facts: Facts) -> Iterator[Finding]:
    path, key = facts.home / "gateway-key", _known(facts.key)
    if key == "open":
        yield Finding("key-open", "error", f"{path} can be read by other users", f"chmod 600 {_quoted(path)}")
    elif key == "missing" and facts.log == "good":
        found = f"{path} is missing: put it back from its backup; a new key voids every token"
        yield Finding("key-missing", "error", found, f"{_SERVE} --new-key")
    elif key not in {"good", "missing"}:
        aside = f"mv {_quoted(path)} {_quoted(path.with_name('gateway-key.damaged'))}"
        found = f"{plain(key, 300)}; without a backup, a new key voids every token"
        yield Finding("key-damaged", "error", found, f"{aside} && {_SERVE} --new-key")


# --- the log ---


def _log(facts: Facts) -> Iterator[Finding]:
    if facts.log == "missing":
        if facts.home_mode is not None:
            yield Finding("log-missing", "warning", f"there is no log in {facts.home}; a start makes a new, empty one", _SERVE)
    elif facts.log != "good":
        yield Finding("log-unreadable", "error", plain(facts.log, 300), "pairing log status")


def _damage(facts: Facts) -> Iterator[Finding]:
    found = _known(facts.verified)
    if found.faults:
        words = f"{found.faults} of {found.rows} rows are not what was written, the first at position {found.first}"
        yield Finding("log-damaged", "error", words, _VERIFY)
    elif found.structure:
        yield Finding("log-damaged", "error", f"an index of the log is damaged: {plain(found.structure[0], 120)}", _VERIFY)


def _anchor(facts: Facts) -> Iterator[Finding]:
    anchored = facts.anchored
    assert not isinstance(anchored, Skipped)
    if anchored is None:
        if _known(facts.seen).position:
            words = "no checkpoint of this log was ever given out to be kept elsewhere; a cut-off end could not be shown"
            yield Finding("checkpoint-never", "info", words, "pairing log checkpoint --out -")
    elif anchored.why is not None:
        words = f"the log does not continue its checkpoint of {anchored.size} rows: {anchored.why}"
        yield Finding("checkpoint-broken", "error", words, _VERIFY)


def _clock(facts: Facts) -> Iterator[Finding]:
    last = _known(facts.seen).last_at
    if last is not None and last > facts.now + SLACK_MS:
        words = f"the last event was recorded at {moment(last)}, {duration(last - facts.now)} ahead of this clock"
        yield Finding("clock-behind-log", "warning", words, "pairing log status")


def _wal(facts: Facts) -> Iterator[Finding]:
    size = _known(facts.seen).wal
    if size > LARGE_WAL:
        words = f"log.db-wal has {size // 2**20} MiB: a reader that never ends keeps it from beginning again"
        yield Finding("wal-large", "warning", words, "pairing log status")


def _newer(facts: Facts) -> Iterator[Finding]:
    unknown = _known(facts.seen).unknown
    if unknown:
        kinds = ", ".join(plain(kind) for kind in sorted(unknown)[:5])
        words = (
            f"{sum(unknown.values())} events of kinds that this version does not know ({kinds}); their devices are not decided on"
        )
        yield Finding("newer-events", "warning", words, "pairing --version")


# --- the views ---


def _views_whole(facts: Facts) -> Iterator[Finding]:
    if flaws := _known(facts.views_flaws):
        path = facts.home / "views.db"
        words = f"{path} is damaged ({plain(flaws[0], 120)}); it is built anew from the log once it is gone"
        files = " ".join(_quoted(Path(f"{path}{end}")) for end in ("", "-wal", "-shm"))
        yield Finding("views-damaged", "warning", words, f"rm -f {files}")


def _views_current(facts: Facts) -> Iterator[Finding]:
    reached, head = _known(facts.views), _known(facts.seen).position
    # Without a gateway nobody follows, and whoever asks next does: that is no fault.
    if reached is not None and reached < head and _known(facts.port).what == "gateway":
        yield Finding("views-behind", "warning", f"the views stand at position {reached}, the log at {head}", _LIST)


# --- settings ---


def _settings(facts: Facts) -> Iterator[Finding]:
    for problem in _known(facts.problems):
        yield Finding("settings-wrong", "error", problem, "pairing config path")


def _dangers(facts: Facts) -> Iterator[Finding]:
    settings = _known(facts.settings)
    for name, words in _dangerous(settings):
        source = settings.source(name)
        undo = f"unset {source.removeprefix('env ')}" if source.startswith("env ") else f"pairing config unset {name}"
        yield Finding("settings-dangerous", "warning", f"{name} {words} ({source})", undo)


def _dangerous(settings: Settings) -> Iterator[tuple[str, str]]:
    for name in ("gateway.nodes.pairing.autoApproveCidrs", "gateway.trustedProxies"):
        if any(network.prefixlen == 0 for network in settings.value(name)):
            yield name, "holds every address there is"
    if "*" in settings.gateway.control_ui.allowed_origins:
        yield "gateway.controlUi.allowedOrigins", "admits every page that a browser has open"
    for name in KEYS:
        if ".dangerously" in name and settings.value(name):
            yield name, "is on"
    if settings.gateway.auth.mode == "none":
        yield "gateway.auth.mode", "is none: whoever can reach the port needs no secret"


# --- the process and its host ---


def _port(facts: Facts) -> Iterator[Finding]:
    port, answering = _known(facts.settings).gateway.port, _known(facts.port)
    if answering.what == "nothing":
        yield Finding("gateway-not-running", "info", f"nothing answers on port {port}", _SERVE)
    elif answering.what == "another":
        holder = plain(answering.holder or "another program", 160)
        other = port + 1 if port < 65_535 else port - 1
        yield Finding("port-taken-by-another", "error", f"port {port} is held by {holder}", f"{_SERVE} --port {other}")


def _descriptors(facts: Facts) -> Iterator[Finding]:
    limit = _known(facts.descriptors)
    if limit < FEW_DESCRIPTORS:
        words = f"a process started here may open {limit} files; each connection is one"
        yield Finding("descriptors-low", "warning", words, f"ulimit -n {FEW_DESCRIPTORS} && {_SERVE}")


def _disk(facts: Facts) -> Iterator[Finding]:
    left = _known(facts.disk)
    if left < LITTLE_DISK:
        words = f"{left // 2**20} MiB are left on the disk of {facts.home}"
        yield Finding("disk-low", "error" if left < NO_DISK else "warning", words, f"df -h {_quoted(facts.home)}")


def _certificate(facts: Facts) -> Iterator[Finding]:
    tls = _known(facts.tls)
    if tls is None:
        return
    look = "pairing config get gateway.tls.cert"
    if tls.ends is None:
        yield Finding("tls-unreadable", "error", plain(tls.why, 300), look)
    elif tls.ends <= facts.now:
        yield Finding("tls-expired", "error", f"{tls.cert} ended at {moment(tls.ends)}", look)
    elif tls.ends - facts.now < SOON_MS:
        words = f"{tls.cert} ends at {moment(tls.ends)}, in {duration(tls.ends - facts.now)}"
        yield Finding("tls-expiring", "warning", words, look)


# --- what waits for somebody ---


def _under_old(facts: Facts) -> Iterator[Finding]:
    if count := _known(facts.under_old):
        words = f"{count} {'token rests' if count == 1 else 'tokens rest'} on a shared secret that was replaced, and are refused"
        yield Finding("token-under-old-secret", "info", words, _LIST)


def _pending(facts: Facts) -> Iterator[Finding]:
    count, most = _known(facts.pending), _known(facts.settings).gateway.pairing.max_pending
    if 2 * count > most:
        yield Finding("pending-many", "warning", f"{count} requests are open, and at {most} no more are taken", _LIST)


def _overused(facts: Facts) -> Iterator[Finding]:
    for code in _known(facts.overused):
        words = f"setup code {code[:12]} was tried by more devices than it has uses: somebody else has seen it"
        yield Finding("setup-code-overused", "warning", words, f"pairing enroll show {code}")


def _paused(facts: Facts) -> Iterator[Finding]:
    if paused := _known(facts.paused):
        words = f"{'a webhook is' if len(paused) == 1 else f'{len(paused)} webhooks are'} paused: {'; '.join(paused)}"
        yield Finding("hook-paused", "warning", words, "pairing hooks list")


CHECKS: Final = (
    Check(("home-missing", "home-open"), ("home_mode",), _home),
    Check(("token-open",), ("token_mode",), _token),
    Check(("key-missing", "key-open", "key-damaged"), ("key",), _key),
    Check(("log-missing", "log-unreadable"), (), _log),
    Check(("log-damaged",), ("verified",), _damage),
    Check(("checkpoint-never", "checkpoint-broken"), ("seen", "anchored"), _anchor),
    Check(("clock-behind-log",), ("seen",), _clock),
    Check(("wal-large",), ("seen",), _wal),
    Check(("newer-events",), ("seen",), _newer),
    Check(("views-damaged",), ("views_flaws",), _views_whole),
    Check(("views-behind",), ("views", "seen", "port"), _views_current),
    Check(("settings-open",), ("config_mode",), _config),
    Check(("settings-wrong",), ("problems",), _settings),
    Check(("settings-dangerous",), ("settings",), _dangers),
    Check(("gateway-not-running", "port-taken-by-another"), ("settings", "port"), _port),
    Check(("descriptors-low",), ("descriptors",), _descriptors),
    Check(("disk-low",), ("disk",), _disk),
    Check(("tls-expired", "tls-expiring", "tls-unreadable"), ("tls",), _certificate),
    Check(("token-under-old-secret",), ("under_old",), _under_old),
    Check(("pending-many",), ("settings", "pending"), _pending),
    Check(("setup-code-overused",), ("overused",), _overused),
    Check(("hook-paused",), ("paused",), _paused),
)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
