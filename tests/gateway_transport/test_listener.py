"""The accept loop, the tasks behind it, and the end of the service."""

import errno
import socket

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.frames import Opcode

from pairing.gateway.http import answer
from pairing.gateway.listener import serve


async def test_300_resets_in_a_row_leave_nothing_behind(specimen, stats, reset):
    """Peers that reset at once, after the head, after the upgrade: no task, no descriptor stays, and it goes on."""
    head = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with specimen(limits={"sockets_per_address": 1000}) as gateway:
        before = await stats(gateway)
        for number in range(300):
            sock = socket.create_connection((gateway.host, gateway.port))
            if number % 3:
                sock.sendall(head + (key if number % 3 == 2 else b""))
            reset(sock)
        with anyio.fail_after(5):
            after = await stats(gateway)
            while after["tasks"] > before["tasks"] or after["fds"] > before["fds"]:
                after = await stats(gateway)
        async with connect(gateway.url()) as peer:
            await peer.send("alive")
            assert await peer.recv() == "alive"


async def test_the_accept_loop_backs_off_without_descriptors_and_goes_on_after(specimen, stats):
    """EMFILE: those inside are served, the CPU rests, and who waits gets in when descriptors come back."""
    psutil = pytest.importorskip("psutil")
    with specimen(nofile=60, limits={"sockets_per_address": 1000}) as gateway:
        async with connect(gateway.url()) as inside:
            crowd = [socket.create_connection((gateway.host, gateway.port)) for _ in range(100)]
            await anyio.sleep(0.3)
            process = psutil.Process(gateway.pid)
            started = sum(process.cpu_times()[:2])
            await anyio.sleep(1.0)
            assert sum(process.cpu_times()[:2]) - started < 0.3
            await inside.send("still here")
            assert await inside.recv() == "still here"
            for sock in crowd:
                sock.close()
            async with connect(gateway.url()) as late:
                await late.send("in")
                assert await late.recv() == "in"
        assert (await stats(gateway))["fds"] < 60


async def test_what_a_handler_raises_ends_its_connection_alone(listening, capsys):
    """1011 to that peer, one line in the log without a word of what was said, and the others go on."""

    async def handler(link):
        while True:
            text = await link.recv()
            if text != "ok":
                raise ValueError(text)
            link.send(text)

    async with listening(handler) as gateway, connect(gateway.url()) as other:
        async with connect(gateway.url()) as peer:
            await peer.send("geheim")
            await peer.wait_closed()
            assert (peer.close_code, peer.close_reason) == (1011, "internal error")
        await other.send("ok")
        assert await other.recv() == "ok"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) == 1
    assert "handler failed" in lines[0]
    assert "ValueError" in lines[0]
    assert "geheim" not in lines[0]


async def test_a_peer_that_leaves_is_no_failure(listening, capsys):
    """Closed ends a handler in silence, also out of a task group."""

    async def handler(link):
        async with anyio.create_task_group() as group:
            group.start_soon(link.recv)

    async with listening(handler) as gateway:
        async with connect(gateway.url()):
            pass
        await anyio.sleep(0.05)
    assert capsys.readouterr().out == ""


async def test_cancellation_says_service_restart_to_everyone(listening, settled):
    """Graceful end: every link gets 1012 `service restart`, handlers see Closed, and nothing is accepted any more."""
    async with listening() as gateway, anyio.create_task_group() as group:
        ends = []

        async def visit() -> None:
            async with connect(gateway.url()) as peer:
                await peer.send("x")
                await peer.recv()
                with anyio.fail_after(5):
                    await peer.wait_closed()
                ends.append((peer.close_code, peer.close_reason))

        for _ in range(20):
            group.start_soon(visit)
        await anyio.sleep(0.3)
        gateway.cancel()
        with anyio.fail_after(2):
            await gateway.stopped.wait()
        await settled(lambda: len(ends) == 20)
        with pytest.raises(OSError):  # noqa: PT011
            await anyio.connect_tcp(gateway.host, gateway.port)
    assert ends == [(1012, "service restart")] * 20


async def test_the_server_chooses_the_farewell(listening):
    """Another code and reason, where the server wants one."""
    async with listening(farewell=(1013, "gateway starting")) as gateway, gateway.raw() as peer:
        await peer.upgrade()
        gateway.cancel()
        assert await peer.read_close() == (1013, "gateway starting")


@pytest.mark.parametrize("stage", ["connected", "head", "open", "busy", "stubborn"])
async def test_the_end_is_bounded_whatever_peers_and_handlers_do(listening, stage):
    """Silent peers and handlers that ignore the end hold the service up for `close_timeout` and no longer."""
    cancelled = anyio.Event()

    async def handler(link):
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            cancelled.set()
            if stage == "stubborn":
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.3)
            raise

    handlers = {"handler": handler} if stage in ("busy", "stubborn") else {}
    async with listening(**handlers, limits={"close_timeout": 0.3}) as gateway, gateway.raw() as peer:
        if stage == "head":
            await peer.write(b"GET / HTTP/1.1\r\n")
        elif stage != "connected":
            await peer.upgrade()
        gateway.cancel()
        with anyio.fail_after(2):
            await gateway.stopped.wait()
    assert cancelled.is_set() == bool(handlers)


async def test_the_end_does_not_wait_for_a_tls_handshake(listening, tls):
    """A peer in the middle of TLS is dropped at once."""
    async with listening(ssl=tls.server, limits={"close_timeout": 30}) as gateway, gateway.raw() as peer:
        await peer.write(b"\x16\x03\x01")
        await anyio.sleep(0.1)
        gateway.cancel()
        with anyio.fail_after(2):
            await gateway.stopped.wait()


async def test_a_handler_may_finish_its_command_during_the_end(listening):
    """The end reaches a handler as Closed from recv, not as a cancellation in the middle of its work."""
    steps = []

    async def handler(link):
        await link.recv()
        gateway.cancel()
        await anyio.sleep(0.1)
        steps.append("committed")
        await link.recv()

    async with listening(handler) as gateway, gateway.raw() as peer:
        await peer.upgrade()
        await peer.frame("command")
        assert await peer.read_close() == (1012, "service restart")
        await gateway.stopped.wait()
    assert steps == ["committed"]


async def test_a_port_that_is_taken_is_said_at_once(listening):
    """The second server on a port fails before it accepts anything."""
    async with listening() as gateway:
        with pytest.raises(OSError) as refused:  # noqa: PT011
            await serve(None, host=gateway.host, port=gateway.port, http=answer)
        assert refused.value.errno == errno.EADDRINUSE


async def test_a_name_is_bound_on_all_its_addresses(listening):
    """`localhost` is every loopback address it stands for, on one port."""
    async with listening(host="localhost") as gateway, gateway.raw() as peer:
        await peer.upgrade()
        await peer.frame("here")
        assert await peer.read() == (Opcode.TEXT, b"here")
