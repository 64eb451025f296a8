"""`/metrics` and `/readyz` of a real gateway: what is counted, who may read it, what never stands in it."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pairing.gateway.metrics import BOUNDS, Metrics, Now
from pairing.gateway.watch import Vitals
from pairing.machine import Machine
from pairing.refusals import Reason

T = "example-shared-token"
AFAR = {"X-Forwarded-For": "203.0.113.9"}


async def get(port: int, path: str = "/metrics", **fields: str) -> tuple[int, dict[str, str], str]:
    def ask() -> tuple[int, dict[str, str], str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=fields)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read().decode()

    return await asyncio.to_thread(ask)


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Return every sample by name and label values."""
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


async def test_what_happens_is_counted(world):
    """Logins, refusals, decisions by means, sessions by role, open requests by need; appends by how long they took."""
    w = await world()
    w.opened.log.timed = w.gateway.metrics.appended
    admin = await w.inside(w.device(), scopes=("operator.admin", "operator.pairing"))
    await w.grant(admin, w.device())
    refused = await w.ask(w.device())
    assert (await admin.call("device.pair.reject", {"requestId": refused})).ok
    await w.ask(w.device())
    assert not (await admin.call("no.such.method")).ok
    w.gateway.watch._looks = 0
    await w.gateway.watch.look()
    status, head, text = await get(w.port)
    assert status == 200
    assert head["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = figures(text)
    assert found["pairing_decisions_total", "owner", "approved"] == 1
    assert found["pairing_decisions_total", "silent", "approved"] == 1
    assert found["pairing_decisions_total", "owner", "rejected"] == 1
    assert found["pairing_decisions_total", "trusted-cidr", "approved"] == 0
    assert found["pairing_refusals_total", "login", "PAIRING_REQUIRED", "not-paired"] == 3
    assert any(key[:2] == ("pairing_refusals_total", "call") for key in found)
    assert found["pairing_handshakes_total",] == 5
    assert found["pairing_logins_total",] == found["pairing_sessions", "operator"] == 2
    assert found["pairing_sessions", "node"] == 0
    assert found["pairing_pending_requests", "not-paired"] == 1
    assert 0 <= found["pairing_pending_oldest_age_seconds", "not-paired"] < 60
    assert found["pairing_log_position",] == (await w.opened.log.head()).position
    assert found["pairing_views_lag_positions",] == found["pairing_herald_lag_positions",] == 0
    assert found["pairing_append_seconds_count",] >= 5
    assert found["pairing_append_seconds_bucket", "+Inf"] == found["pairing_append_seconds_count",]
    assert found["pairing_ready",] == 1
    assert found["process_start_time_seconds",] * 1000 == pytest.approx(w.opened.service.started_at)


async def test_no_label_is_anybodys_own_word(world):
    """T9: neither a device, nor an address, nor a name a peer made up is in the figures, and nor is the secret."""
    w = await world()
    device = w.device()
    await w.ask(device, role="operator")
    admin = await w.inside(w.device(), scopes=("operator.admin",))
    await admin.call("invented.method")
    _, _, text = await get(w.port)
    for word in (device.device, device.device[:12], "203.0.113", "127.0.0.1", "invented", T):
        assert word not in text


async def test_from_elsewhere_only_the_shared_secret_opens_it(world):
    """Behind a proxy loopback is no proof; a page in a browser on this host is not the operator."""
    w = await world()
    assert (await get(w.port))[0] == 200
    status, head, body = await get(w.port, **AFAR)
    assert (status, body, head["WWW-Authenticate"]) == (401, "Unauthorized\n", 'Bearer realm="metrics"')
    for presented in ("Bearer wrong", "Bearer ", f"Basic {T}", T):
        assert (await get(w.port, **AFAR, Authorization=presented))[0] == 401
    assert (await get(w.port, **AFAR, Authorization=f"Bearer {T}"))[0] == 200
    assert (await get(w.port, Origin="http://127.0.0.1:8080"))[0] == 401


async def test_guessing_here_is_guessing_there(world):
    """N9: wrong secrets lock the address out as wrong logins do, and then not even the right one is looked at."""
    w = await world({"gateway.auth.rateLimit.maxAttempts": 3})
    for _ in range(3):
        assert (await get(w.port, **AFAR, Authorization="Bearer wrong"))[0] == 401
    assert (await get(w.port, **AFAR, Authorization=f"Bearer {T}"))[0] == 401
    assert (await get(w.port))[0] == 200


async def test_without_a_secret_nobody_from_elsewhere_may(world):
    """Mode `none` has nothing to show; a blank bearer is nothing."""
    w = await world({"gateway.auth.mode": "none"})
    assert (await get(w.port))[0] == 200
    assert (await get(w.port, **AFAR, Authorization="Bearer x"))[0] == 401


async def test_readiness_over_the_wire_names_its_reasons(world):
    """503 with every reason by name, 200 when they are gone; liveness goes on meanwhile."""
    w = await world()
    watch = w.gateway.watch

    async def ready() -> tuple[int, list[str]]:
        watch._looks = 0
        await watch.look()
        status, _, body = await get(w.port, "/readyz")
        return status, json.loads(body)["failing"]

    assert await ready() == (200, [])
    watch.machine = lambda: Machine(descriptors=3, disk=5, log_there=False)
    assert await ready() == (503, ["log-unavailable", "too-few-descriptors", "disk-full-soon"])
    assert (await get(w.port, "/healthz"))[0] == 200
    assert figures((await get(w.port))[2])["pairing_ready",] == 0
    watch.machine = Machine
    assert await ready() == (200, [])
    w.gateway.farewell()
    assert await ready() == (503, ["stopping"])


async def test_a_herald_that_stopped_is_seen(world):
    """What another process wrote and the herald has not passed a look later makes the gateway unready (V1)."""
    w = await world()
    w.gateway.watch._herald = lambda: 0
    await w.ask(w.device())
    for _ in range(2):
        await w.gateway.watch.look()
    assert w.gateway.watch.failing == ("herald-behind",)


def quiet(**more: int) -> Metrics:
    return Metrics(lambda: Now(1_000, 0, dict(more), 0, (), Vitals()))


def test_a_latency_counts_in_its_own_bucket_and_every_larger_one():
    """Cumulative buckets with the sum; an append that failed has no latency."""
    metrics = quiet()
    for seconds in (0.0005, 0.02, 60.0):
        metrics.appended(seconds, True)
    metrics.appended(1.0, False)
    found = figures(metrics.text().decode())
    assert [found["pairing_append_seconds_bucket", str(bound)] for bound in BOUNDS] == [1.0] * 5 + [2.0] * 8
    assert found["pairing_append_seconds_bucket", "+Inf"] == found["pairing_append_seconds_count",] == 3
    assert found["pairing_append_seconds_sum",] == pytest.approx(60.0205)
    assert found["pairing_append_failures_total",] == 1


def test_a_role_that_nobody_foresaw_is_other():
    """The vocabulary of labels is closed."""
    found = figures(quiet(operator=2, attacker=3).text().decode())
    assert found["pairing_sessions", "operator"] == 2
    assert found["pairing_sessions", "other"] == 3
    assert not any("attacker" in part for key in found for part in key)


def test_every_reason_can_be_counted_and_read():
    """Each refusal is one series, named by reason and by the wire's code."""
    metrics = quiet()
    for reason in Reason:
        metrics.refused("login", reason)
    found = [key for key in figures(metrics.text().decode()) if key[0] == "pairing_refusals_total"]
    assert {key[3] for key in found} == {reason.value for reason in Reason}


def test_an_unreadable_certificate_and_an_unknown_host_say_nothing():
    """What cannot be told is left out, never 0."""
    text = quiet().text().decode()
    assert "certificate" not in text
    assert "descriptors" not in text
