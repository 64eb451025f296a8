"""Rate limits: who is locked, for how long, and whom that must never touch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pairing.gateway.limits import DEVICE_TOKEN, SHARED_SECRET, Counter, Credential, RateLimiter, Source
from pairing.settings.keys import RateLimit

RULES = RateLimit(max_attempts=3, window_ms=60_000, lockout_ms=20_000)
X = Source("203.0.113.9")
Y = Source("198.51.100.7")
HERE = Source("127.0.0.1", local=True)
PAGE = Source("127.0.0.1", "http://localhost:5173", local=True)


def fail(
    limiter: RateLimiter, times: int, credential: Credential, source: Source, now: int = 0, device: str | None = None
) -> None:
    for _ in range(times):
        limiter.failed(credential, source, now, device)


def test_the_last_permitted_failure_starts_the_lock() -> None:
    """RL-01: three failures are answered as what they are, the fourth attempt is not looked at, right or wrong."""
    limiter = RateLimiter(RULES)
    for now in (0, 1, 2):
        assert not limiter.locked(SHARED_SECRET, X, now)
        limiter.failed(SHARED_SECRET, X, now)
    assert limiter.retry_after(SHARED_SECRET, X, 2) == 20_000
    assert not limiter.locked(SHARED_SECRET, Y, 2)


def test_a_lock_ends_when_it_was_said_to_and_leaves_nothing_behind() -> None:
    """Attempts during a lock do not lengthen it, and afterwards counting starts anew."""
    limiter = RateLimiter(RULES)
    fail(limiter, 3, SHARED_SECRET, X)
    fail(limiter, 50, SHARED_SECRET, X, 10_000)
    assert limiter.retry_after(SHARED_SECRET, X, 19_999) == 1
    assert limiter.retry_after(SHARED_SECRET, X, 20_000) == 0
    fail(limiter, 2, SHARED_SECRET, X, 20_000)
    assert not limiter.locked(SHARED_SECRET, X, 20_000)


def test_failures_that_lie_far_apart_do_not_add_up() -> None:
    """Only failures within the window count together."""
    limiter = RateLimiter(RULES)
    for now in range(0, 400_000, 30_000):
        limiter.failed(SHARED_SECRET, X, now)
        assert not limiter.locked(SHARED_SECRET, X, now)
    fail(limiter, 1, SHARED_SECRET, X, 390_001)
    assert limiter.locked(SHARED_SECRET, X, 390_001)


def test_loopback_is_exempt_unless_the_settings_say_otherwise() -> None:
    """RL-03: a local client without a page is not counted by default."""
    limiter = RateLimiter(RULES)
    fail(limiter, 6, SHARED_SECRET, HERE)
    assert not limiter.locked(SHARED_SECRET, HERE, 0)
    strict = RateLimiter(replace(RULES, exempt_loopback=False))
    fail(strict, 3, SHARED_SECRET, HERE)
    assert strict.locked(SHARED_SECRET, HERE, 0)
    assert strict.locked(SHARED_SECRET, Source("127.8.9.10", local=True), 0)


def test_loopback_behind_a_proxy_is_not_exempt() -> None:
    """N6: who comes through a proxy on this host is counted, though its address is loopback."""
    limiter = RateLimiter(RULES)
    proxied = Source("127.0.0.1", local=False)
    fail(limiter, 3, SHARED_SECRET, proxied)
    assert limiter.locked(SHARED_SECRET, proxied, 0)
    assert not limiter.locked(SHARED_SECRET, HERE, 0)


def test_limits_are_on_without_any_configuration() -> None:
    """N10, in place of RL-05: ten wrong secrets from one address lock it for five minutes by default."""
    limiter = RateLimiter()
    fail(limiter, 10, SHARED_SECRET, X)
    assert limiter.retry_after(SHARED_SECRET, X, 0) == 300_000


@pytest.mark.parametrize("nonsense", [0, -1, 10**15])
def test_nonsense_means_the_default(nonsense: int) -> None:
    """N10: a limit of zero, below zero or beyond reason neither turns limits off nor locks for ever."""
    limiter = RateLimiter(RateLimit(max_attempts=nonsense, window_ms=nonsense, lockout_ms=nonsense))
    fail(limiter, 9, SHARED_SECRET, X)
    assert not limiter.locked(SHARED_SECRET, X, 0)
    fail(limiter, 1, SHARED_SECRET, X)
    assert limiter.retry_after(SHARED_SECRET, X, 0) == 300_000


def test_a_local_page_is_counted_by_its_origin() -> None:
    """RL-06, RL-07: a locked loopback page locks neither another page nor the command line."""
    limiter = RateLimiter(RULES)
    fail(limiter, 3, SHARED_SECRET, PAGE)
    assert limiter.locked(SHARED_SECRET, PAGE, 0)
    assert limiter.locked(SHARED_SECRET, replace(PAGE, browser="HTTP://LOCALHOST:5173"), 0)
    assert not limiter.locked(SHARED_SECRET, replace(PAGE, browser="http://localhost:9999"), 0)
    assert not limiter.locked(SHARED_SECRET, HERE, 0)


def test_a_remote_page_is_counted_by_its_address() -> None:
    """A remote client gains nothing from inventing another origin for every attempt."""
    limiter = RateLimiter(RULES)
    for n in range(3):
        limiter.failed(SHARED_SECRET, Source("203.0.113.9", f"https://{n}.example"), 0)
    assert limiter.locked(SHARED_SECRET, Source("203.0.113.9", "https://other.example"), 0)


def test_the_two_classes_of_credential_are_independent() -> None:
    """RL-09: a lock on the shared secret does not touch device tokens, nor the other way round."""
    limiter = RateLimiter(RULES)
    fail(limiter, 3, SHARED_SECRET, X)
    assert not limiter.locked(DEVICE_TOKEN, X, 0, "a")
    fail(limiter, 3, DEVICE_TOKEN, Y, 0, "a")
    assert limiter.locked(DEVICE_TOKEN, Y, 0, "a")
    assert not limiter.locked(SHARED_SECRET, Y, 0)


def test_success_with_one_class_forgives_nothing_of_the_other() -> None:
    """N11: a device that proves itself does not reset the guesses at the shared secret from its address."""
    limiter = RateLimiter(RULES)
    fail(limiter, 2, SHARED_SECRET, X)
    fail(limiter, 2, DEVICE_TOKEN, X, 0, "a")
    limiter.succeeded(DEVICE_TOKEN, X, "a")
    limiter.failed(SHARED_SECRET, X, 0)
    limiter.failed(DEVICE_TOKEN, X, 0, "a")
    assert limiter.locked(SHARED_SECRET, X, 0)
    assert not limiter.locked(DEVICE_TOKEN, X, 0, "a")


def test_success_does_not_open_a_lock() -> None:
    """An attempt that was under way when the lock fell does not free whoever caused it."""
    limiter = RateLimiter(RULES)
    fail(limiter, 3, SHARED_SECRET, X)
    limiter.succeeded(SHARED_SECRET, X)
    assert limiter.locked(SHARED_SECRET, X, 0)


def test_one_device_locks_out_no_other_behind_its_address() -> None:
    """N12: wrong device tokens count against the device that sends them."""
    limiter = RateLimiter(RULES)
    fail(limiter, 500, DEVICE_TOKEN, X, 0, "bad")
    assert limiter.locked(DEVICE_TOKEN, X, 0, "bad")
    assert not limiter.locked(DEVICE_TOKEN, X, 0, "good")


def test_an_address_with_many_devices_is_bounded_all_the_same() -> None:
    """An address that invents devices runs out of attempts after ten devices' worth; other addresses notice nothing."""
    limiter = RateLimiter(RULES)
    for n in range(100):
        limiter.failed(DEVICE_TOKEN, X, 0, f"d{n}")
        limiter.succeeded(DEVICE_TOKEN, X, f"d{n}")
        assert limiter.locked(DEVICE_TOKEN, X, 0, "another") is (n >= 29)
    assert not limiter.locked(DEVICE_TOKEN, Y, 0, "d")
    assert not limiter.locked(SHARED_SECRET, X, 0)


def test_an_ipv6_host_is_one_source_with_all_its_addresses() -> None:
    """Whoever has a /64 has one budget, and IPv4-mapped addresses are the IPv4 ones."""
    limiter = RateLimiter(RULES)
    for n in range(3):
        limiter.failed(SHARED_SECRET, Source(f"2001:db8::{n:x}"), 0)
    assert limiter.locked(SHARED_SECRET, Source("2001:db8::ffff:1"), 0)
    assert not limiter.locked(SHARED_SECRET, Source("2001:db8:0:1::1"), 0)
    fail(limiter, 3, SHARED_SECRET, Source("::ffff:203.0.113.9"))
    assert limiter.locked(SHARED_SECRET, X, 0)


def test_an_unknown_address_is_counted_too() -> None:
    """A client that its proxy does not name shares one budget with the others like it."""
    limiter = RateLimiter(RULES)
    fail(limiter, 3, SHARED_SECRET, Source(None))
    assert limiter.locked(SHARED_SECRET, Source(None), 0)


def test_memory_stays_bounded_under_any_number_of_sources() -> None:
    """R10: however many addresses and devices fail, each table keeps its capacity and no more."""
    limiter = RateLimiter(RULES, capacity=16)
    for n in range(2000):
        source = Source(f"10.0.{n >> 8}.{n & 255}")
        fail(limiter, 1 + n % 3, SHARED_SECRET, source, n)
        fail(limiter, 1 + n % 3, DEVICE_TOKEN, source, n, f"d{n}")
    assert len(limiter) <= 16 * 6


def test_a_flood_of_addresses_frees_nobody() -> None:
    """Neither a lock nor a count near its lock is displaced by any number of single failures."""
    counter = Counter(3, 60_000, 20_000, capacity=8)
    for _ in range(3):
        counter.failed("locked", 0)
    for _ in range(2):
        counter.failed("close", 0)
    for n in range(1000):
        counter.failed(n, 1)
    assert counter.retry_after("locked", 1) == 19_999
    counter.failed("close", 2)
    assert counter.retry_after("close", 2) == 20_000


def test_counts_that_have_run_out_go_first() -> None:
    """A full table forgets what no longer matters before what does, however high it once stood."""
    counter = Counter(3, 1_000, 20_000, capacity=2)
    for _ in range(2):
        counter.failed("stale", 0)
    counter.failed("fresh", 1_500)
    counter.failed("new", 1_500)
    for _ in range(2):
        counter.failed("fresh", 1_501)
    assert counter.retry_after("fresh", 1_501) == 20_000


def test_a_clock_that_goes_back_locks_nobody_for_years() -> None:
    """A lock that would last longer than a lockout is none."""
    counter = Counter(1, 1_000, 20_000)
    counter.failed("x", 10**13)
    assert counter.retry_after("x", 10**13) == 20_000
    assert counter.retry_after("x", 10**12) == 0
    counter.failed("x", 10**12)
    assert counter.retry_after("x", 10**12) == 20_000


class Naive:
    """The rule in its plainest form: every failure kept, nothing ever forgotten for want of room."""

    def __init__(self, attempts: int, window: int, lockout: int) -> None:
        self.rule = (attempts, window, lockout)
        self.failures: dict[str, list[int]] = {}
        self.locks: dict[str, int] = {}

    def retry_after(self, key: str, now: int) -> int:
        return max(0, self.locks.get(key, 0) - now)

    def failed(self, key: str, now: int) -> None:
        attempts, window, lockout = self.rule
        if self.retry_after(key, now):
            return
        self.failures.setdefault(key, []).append(now)
        if sum(now - at < window for at in self.failures[key]) >= attempts:
            self.locks[key] = now + lockout
            self.failures[key] = []

    def succeeded(self, key: str) -> None:
        self.failures[key] = []


STEPS = st.lists(st.tuples(st.sampled_from("fffs"), st.sampled_from("abc"), st.integers(0, 40)), max_size=60)


@given(st.integers(1, 5), st.integers(1, 60), st.integers(1, 60), STEPS)
def test_counting_is_what_the_plainest_model_does(
    attempts: int, window: int, lockout: int, steps: list[tuple[str, str, int]]
) -> None:
    """With room for everybody, a counter and the plain rule never disagree."""
    counter, naive, now = Counter(attempts, window, lockout), Naive(attempts, window, lockout), 0
    for verb, key, pause in steps:
        now += pause
        for either in (counter, naive):
            if verb == "f":
                either.failed(key, now)
            else:
                either.succeeded(key)
        for each in "abc":
            assert counter.retry_after(each, now) == naive.retry_after(each, now)


@given(st.integers(1, 4), st.integers(1, 5), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=120))
def test_nobody_is_locked_who_did_not_fail_often_enough(attempts: int, capacity: int, steps: list[tuple[int, int]]) -> None:
    """A full table forgets, but never locks anybody without the failures that this takes, and never outgrows its capacity."""
    counter, counted, now = Counter(attempts, 50, 50, capacity), dict[int, list[int]](), 0
    for key, pause in steps:
        now += pause
        if not counter.retry_after(key, now):
            counted.setdefault(key, []).append(now)
        counter.failed(key, now)
        assert len(counter) <= 2 * capacity
        for each, failures in counted.items():
            last = failures[-attempts:]
            earned = len(last) == attempts and last[-1] - last[0] < 50
            wait = counter.retry_after(each, now)
            assert wait == 0 or (earned and wait == last[-1] + 50 - now)
