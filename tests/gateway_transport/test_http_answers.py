"""Plain HTTP on the same port: health for probes, and a no for everything else."""

import json

import anyio
import pytest

from pairing.gateway.http import Headers, HttpRequest, HttpResponse, Peer, Readiness, answer


def ask(path: str, method: str = "GET", *, failing: tuple[str, ...] = ()) -> HttpResponse:
    request = HttpRequest(method, Peer("127.0.0.1", 1, path))
    return answer(request, lambda: Readiness(not failing, failing, 1234))


@pytest.mark.parametrize("path", ["/health", "/healthz", "/healthz?x=1"])
def test_alive_is_alive(path):
    """FR-45: liveness needs no credentials and asks nothing of the log."""
    response = ask(path, failing=("log",))
    assert (response.status, response.body) == (200, b'{"ok":true,"status":"live"}')


@pytest.mark.parametrize("path", ["/ready", "/readyz"])
@pytest.mark.parametrize(("failing", "status"), [((), 200), (("log", "views"), 503)])
def test_readiness_names_what_fails(path, failing, status):
    """Protocol §1.1: ready, failing, uptimeMs; 503 while anything fails."""
    response = ask(path, failing=failing)
    assert response.status == status
    assert json.loads(response.body) == {"ready": not failing, "failing": list(failing), "uptimeMs": 1234}


@pytest.mark.parametrize(("path", "method"), [("/", "GET"), ("/healthz/", "GET"), ("/healthz", "POST"), ("*", "OPTIONS")])
def test_everything_else_is_not_found(path, method):
    """One answer for what is not there, as JSON."""
    response = ask(path, method)
    assert (response.status, response.body) == (404, b'{"error":{"message":"Not Found","type":"not_found"}}')


def test_headers_compare_without_case_and_keep_every_value():
    """RFC 9110 §5: names without case; repeated fields are one list in order."""
    headers = Headers((("X-Forwarded-For", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2"), ("Connection", "Keep-Alive, Upgrade")))
    assert headers.get("X-FORWARDED-FOR") == "1.1.1.1, 2.2.2.2"
    assert headers.get_all("x-Forwarded-For") == ("1.1.1.1", "2.2.2.2")
    assert headers.tokens("connection") == {"keep-alive", "upgrade"}
    assert headers.get("Via") is None
    assert headers.tokens("Via") == frozenset()


async def request(gateway, text: str) -> tuple[str, bytes]:
    async with gateway.raw() as peer:
        await peer.write(text.encode())
        head = await peer.head()
        return head, await peer.rest()


async def test_probes_are_answered_on_the_gateways_port(listening):
    """GET and HEAD over a real socket; one answer, then the connection ends."""
    async with listening() as gateway:
        head, body = await request(gateway, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert body == b'{"ok":true,"status":"live"}'
        assert f"Content-Length: {len(body)}\r\n" in head
        head, body = await request(gateway, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (head.split("\r\n")[0], body) == ("HTTP/1.1 200 OK", b"")
        assert "Content-Length: 27\r\n" in head
        head, body = await request(gateway, "GET /readyz HTTP/1.0\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 ")
        head, body = await request(gateway, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\n", 400),
        ("POST /healthz HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 400),
        ("GET / HTTP/1.1\r\nbroken header\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", 426),
        ("POST / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 405),
        ("GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 505),
    ],
)
async def test_what_is_no_proper_request_gets_a_status_and_an_end(listening, text, status):
    """Nobody is left hanging: every nonsense is answered once, then the connection ends."""
    async with listening() as gateway:
        head, _ = await request(gateway, text)
        assert head.startswith(f"HTTP/1.1 {status} ")


async def test_a_router_that_leaves_a_request_alone_answers_426(listening):
    """None from the router means that only a WebSocket is spoken there."""
    async with listening(http=lambda request: None) as gateway:
        head, _ = await request(gateway, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.startswith("HTTP/1.1 426 ")


async def test_a_router_that_fails_answers_500_and_the_next_is_served(listening, capsys):
    """Nothing escapes a connection, and no exception text leaves."""

    def router(request):
        raise ValueError("geheim")

    async with listening(http=router) as gateway:
        head, body = await request(gateway, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.startswith("HTTP/1.1 500 ")
        assert b"geheim" not in body
        async with gateway.raw() as peer:
            assert (await peer.upgrade()).startswith("HTTP/1.1 101 ")
    assert "geheim" not in capsys.readouterr().out


async def test_a_peer_that_keeps_its_side_open_after_the_answer_is_dropped(listening):
    """The answer ends our side; theirs is waited for no longer than `close_timeout`."""
    async with listening(limits={"close_timeout": 0.2}) as gateway, gateway.raw() as peer:
        await peer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.rest()
        with anyio.fail_after(2):
            await peer.write_until_dropped(b"more", 0.02)
