"""What one peer may cost: every line of it is a figure."""

import socket

import anyio
import anyio.lowlevel
import pytest
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from pairing.gateway.http import Headers
from pairing.gateway.site import Lobby
from pairing.gateway.transport import Closed

MIB = 1024 * 1024


async def member(link) -> None:
    """A session that logs in with its first message and echoes the others' sizes."""
    await link.recv()
    link.admit(MIB)
    link.send("hello")
    while True:
        link.send(str(len(await link.recv())))


async def sleeper(link) -> None:
    """A session that takes one message and is busy with it."""
    await link.recv()
    await anyio.sleep(60)


# The head.


@pytest.mark.parametrize(("size", "status"), [(16384, 200), (16385, 431)])
async def test_a_head_may_have_16_kib_in_all(listening, size, status):
    """Request line and headers together: 16,384 bytes pass, one more gets 431."""
    start, end = b"GET /healthz HTTP/1.1\r\n", b"\r\n\r\n"
    filler = b"\r\n".join(b"X-%d: %s" % (n, b"y" * 4000) for n in range(3)) + b"\r\nX-Last: "
    head = start + filler + b"z" * (size - len(start + filler + end)) + end
    assert len(head) == size
    async with listening() as gateway, gateway.raw() as peer:
        await peer.write(head)
        assert (await peer.head()).startswith(f"HTTP/1.1 {status} ")


async def test_a_head_without_an_end_is_refused_at_16_kib(listening):
    """A peer that never ends its head is answered 431 and dropped, though it goes on sending."""
    async with listening() as gateway, gateway.raw() as peer:
        await peer.write(b"GET / HTTP/1.1\r\n")
        await peer.write_until_dropped(b"X-More: " + b"y" * 1000 + b"\r\n")


@pytest.mark.parametrize(("path", "fields"), [(9000, 1), (1, 200)])
async def test_long_lines_and_many_fields_are_431(listening, path, fields):
    """8 KiB a line and 128 fields, within the 16 KiB."""
    head = b"GET /" + b"p" * path + b" HTTP/1.1\r\n" + b"X: y\r\n" * fields + b"\r\n"
    async with listening() as gateway, gateway.raw() as peer:
        await peer.write(head)
        assert (await peer.head()).startswith("HTTP/1.1 431 ")


# Messages.


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
async def test_before_login_a_message_may_have_65536_bytes(listening, opcode):
    """FR-09: exactly 65,536 bytes pass; one more closes 1009 with an empty reason."""
    async with listening() as gateway:
        async with gateway.raw() as peer:
            await peer.upgrade()
            await peer.frame("x" * 65536, opcode)
            assert await peer.read() == (Opcode.TEXT, b"x" * 65536)
        async with gateway.raw() as peer:
            await peer.upgrade()
            await peer.frame("x" * 65537, opcode)
            assert await peer.read_close() == (1009, "")


async def test_a_too_large_message_is_refused_on_its_header(listening):
    """Not one byte of it needs to come: the length alone is enough."""
    async with listening() as gateway, gateway.raw() as peer:
        await peer.upgrade()
        await peer.write(b"\x81\xff" + (2**62).to_bytes(8, "big"))
        assert await peer.read_close() == (1009, "")


async def test_fragments_count_together(listening):
    """Fragments of 65,536 bytes in all pass; one byte more closes 1009 with an empty reason."""
    async with listening() as gateway:
        for last, answer in ((b"x" * 32768, Opcode.TEXT), (b"x" * 32769, Opcode.CLOSE)):
            async with gateway.raw() as peer:
                await peer.upgrade()
                await peer.frame(b"x" * 32768, fin=False)
                await peer.frame(last, Opcode.CONT)
                assert (await peer.read())[0] is answer


async def test_a_message_has_at_most_256_fragments(listening):
    """Empty fragments are bounded too: the 257th closes 1008."""
    async with listening() as gateway:
        async with gateway.raw() as peer:
            await peer.upgrade()
            await peer.frame(b"x", fin=False)
            for _ in range(254):
                await peer.frame(b"", Opcode.CONT, fin=False)
            await peer.frame(b"y", Opcode.CONT)
            assert await peer.read() == (Opcode.TEXT, b"xy")
        async with gateway.raw() as peer:
            await peer.upgrade()
            await peer.frame(b"x", fin=False)
            await peer.write(Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * 256)
            assert await peer.read_close() == (1008, "too many fragments")


async def test_after_login_the_cap_is_the_one_announced(listening):
    """1 MiB passes, also right after login; one byte more closes 1009."""
    async with listening(member) as gateway, connect(gateway.url(), compression=None) as peer:
        await peer.send("connect")
        assert await peer.recv() == "hello"
        await peer.send("x" * MIB)
        assert await peer.recv() == str(MIB)
        await peer.send("x" * (MIB + 1))
        await peer.wait_closed()
        assert (peer.close_code, peer.close_reason) == (1009, "")


async def test_before_login_one_message_may_wait(listening):
    """One is being handled, one waits, the next closes 1008: a stranger gets no queue."""
    async with listening(sleeper) as gateway, gateway.raw() as peer:
        await peer.upgrade()
        await peer.frame("connect")
        await anyio.sleep(0.1)
        await peer.frame("waits")
        await anyio.sleep(0.1)
        await peer.frame(b"ping", Opcode.PING)
        assert await peer.read() == (Opcode.PONG, b"ping")
        await peer.frame("too many")
        assert await peer.read_close() == (1008, "too many pending handshake frames")


async def test_after_login_reading_pauses_instead(listening):
    """A member's messages wait in a bounded queue, and then in the peer's own socket; none is lost."""
    go, seen = anyio.Event(), []

    async def handler(link):
        link.admit(MIB)
        await go.wait()
        while len(seen) < 20_000:
            seen.append(len(await link.recv()))
            assert len(link._queue) <= 16 + 16 * 1024 // 106
        link.send("all")

    async with listening(handler) as gateway, gateway.raw() as peer, anyio.create_task_group() as group:
        await peer.upgrade()
        frame = Frame(Opcode.TEXT, b"x" * 100).serialize(mask=True)
        group.start_soon(peer.write, frame * 20_000)
        await anyio.sleep(0.1)
        go.set()
        assert await peer.read() == (Opcode.TEXT, b"all")
        group.cancel_scope.cancel()
    assert seen == [100] * 20_000


# Control frames.


async def test_a_flood_of_pings_is_closed(listening):
    """64 control frames a second are answered; more close 1008."""
    async with listening() as gateway, gateway.raw() as peer:
        await peer.upgrade()
        await peer.write(Frame(Opcode.PING, b"x").serialize(mask=True) * 64)
        for _ in range(64):
            assert await peer.read() == (Opcode.PONG, b"x")
        await peer.write(Frame(Opcode.PONG, b"x").serialize(mask=True) * 64)
        assert await peer.read_close() == (1008, "too many control frames")


# Time.


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nX-Slow: "])
async def test_dribbling_does_not_stretch_the_deadline(listening, begun):
    """One absolute deadline from accept: a byte now and then buys no time, and no answer is owed."""
    async with listening(limits={"deadline": 0.5}) as gateway, gateway.raw() as peer:
        await peer.write(begun)
        with anyio.fail_after(3):
            await peer.write_until_dropped(b"y", 0.05)


async def test_a_socket_that_does_not_log_in_is_closed_with_1000(listening):
    """FR-39: an open WebSocket without login is closed 1000, empty reason, whatever it sends meanwhile."""
    async with listening(limits={"deadline": 0.5}) as gateway, gateway.raw() as peer:
        await peer.upgrade()
        for _ in range(4):
            await peer.frame("not a login")
            assert await peer.read() == (Opcode.TEXT, b"not a login")
            await anyio.sleep(0.05)
        assert await peer.read_close() == (1000, "")


async def test_login_lifts_the_deadline(listening):
    """A member stays."""
    async with listening(member, limits={"deadline": 0.3}) as gateway, connect(gateway.url()) as peer:
        await peer.send("connect")
        assert await peer.recv() == "hello"
        await anyio.sleep(0.6)
        await peer.send("still here")
        assert await peer.recv() == "10"


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_the_deadline_includes_tls(listening, tls, hello):
    """A peer that never ends its TLS handshake is dropped by the same clock."""
    async with listening(ssl=tls.server, limits={"deadline": 0.5}) as gateway, gateway.raw() as peer:
        if hello:
            await peer.write(hello)
        with anyio.fail_after(3):
            await peer.rest()


# Peers that do not read.


async def test_reading_pauses_while_the_write_buffer_is_above_its_mark(listening, settled):
    """A peer that asks and never reads is no longer read from, and no longer served, once 64 KiB wait for it."""
    served = []
    links = []

    async def handler(link):
        links.append(link)
        link.admit(MIB)
        while True:
            await link.recv()
            served.append(1)
            link.send("r" * 8192)

    async with listening(handler) as gateway:
        with socket.create_connection((gateway.host, gateway.port)) as sock:
            peer = Plain(sock)
            await peer.upgrade()
            sock.setblocking(False)
            frame = Frame(Opcode.TEXT, b"x" * 1000).serialize(mask=True)
            blocked = 0
            while blocked < 10:
                try:
                    sock.send(frame * 10)
                    blocked = 0
                except BlockingIOError:
                    blocked += 1
                    await anyio.sleep(0.02)
            count = len(served)
            await anyio.sleep(0.1)
            assert len(served) == count
            assert 64 * 1024 <= links[0].buffered <= 64 * 1024 + 2 * 8192
            assert not links[0]._transport.is_reading()
            sock.setblocking(True)
            sock.settimeout(5)
            while len(served) == count:  # reading again is enough to be served again
                assert await anyio.to_thread.run_sync(sock.recv, 65536)


async def test_nothing_is_read_from_a_peer_that_has_much_to_take(listening, settled):
    """The pause does not wait for a full queue: with 64 KiB unsent nothing is read, though nothing waits for the handler."""
    links = []

    async def handler(link):
        link.admit(MIB)
        link.send("r" * 16 * MIB)
        links.append(link)
        await link.recv()

    async with listening(handler) as gateway:
        with small_socket(gateway) as sock:
            await Plain(sock).upgrade()
            await settled(lambda: links)
            assert links[0]._queue == []
            assert not links[0]._transport.is_reading()


@pytest.mark.parametrize("path", ["/stranger", "/member", "/listener"])
async def test_a_peer_that_never_reads_adds_at_most_2_mb_and_is_gone(specimen, stats, path):
    """Asking without end, or listening without reading: 2 MB at most, and dropped within the bounds."""
    limits = {"deadline": 2.0, "stall": 1.0, "close_timeout": 1.0}
    with specimen(limits=limits) as gateway:
        for _ in range(3):
            before = await stats(gateway)
        with socket.create_connection((gateway.host, gateway.port)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await Plain(sock).upgrade(path)
            sock.setblocking(False)
            frame = Frame(Opcode.TEXT, b"x").serialize(mask=True) * 5000
            most = before["rss"]
            with anyio.fail_after(10):
                while not gone(sock, frame):
                    most = max(most, (await stats(gateway))["rss"])
                    await anyio.sleep(0.05)
        after = await stats(gateway)
        assert most - before["rss"] <= 2_000_000
        assert after["tasks"] == before["tasks"]
        assert after["fds"] == before["fds"]


@pytest.mark.parametrize("flood", [Frame(Opcode.PING, b""), Frame(Opcode.CONT, b"", fin=False), Frame(Opcode.TEXT, b"x")])
async def test_a_flood_of_frames_adds_at_most_2_mb(specimen, stats, flood):
    """The smallest frames at full speed: refused at once, and what they cost is bounded by one bite."""
    with specimen(limits={"close_timeout": 1.0}) as gateway:
        for _ in range(3):
            before = await stats(gateway)
        with socket.create_connection((gateway.host, gateway.port)) as sock:
            await Plain(sock).upgrade()
            sock.setblocking(False)
            most = before["rss"]
            with anyio.fail_after(10):
                while not gone(sock, flood.serialize(mask=True) * 5000):
                    most = max(most, (await stats(gateway))["rss"])
        assert most - before["rss"] <= 2_000_000


async def test_a_stalled_peer_is_dropped_and_a_slow_one_is_not(listening, settled):
    """Taking nothing for `stall` seconds ends the connection; taking a little keeps it."""
    ends = []

    async def handler(link):
        link.admit(MIB)
        link.send("r" * 32 * MIB)
        try:
            await link.recv()
        except Closed as closed:
            ends.append((link.peer.path, closed.code, closed.reason))

    async with listening(handler, limits={"stall": 0.5}) as gateway:
        with small_socket(gateway) as still, small_socket(gateway, 128 * 1024) as slow:
            await Plain(still).upgrade("/still")
            await Plain(slow).upgrade("/slow")
            with anyio.fail_after(5):
                while not ends:
                    took = await anyio.to_thread.run_sync(slow.recv, 65536)
                    await anyio.sleep(0.02)
            assert ends == [("/still", 1008, "slow consumer")]
            assert took


async def test_a_slow_listener_loses_what_may_be_dropped_and_then_the_connection(listening, settled):
    """FR-43: above the cap on unsent bytes a droppable message is dropped, any other closes 1008 `slow consumer`."""
    outcome = []

    async def handler(link):
        link.admit(MIB)
        while link.send("r" * 65536, droppable=True):
            await anyio.lowlevel.checkpoint()
        outcome.append(link.buffered)
        outcome.append(link.send("dropped", droppable=True))
        outcome.append(link.send("fatal"))
        with pytest.raises(Closed) as closed:
            await link.recv()
        outcome.append((closed.value.code, closed.value.reason))

    async with listening(handler, limits={"buffered_bytes": 300_000}) as gateway:
        with small_socket(gateway) as sock:
            await Plain(sock).upgrade()
            await settled(lambda: len(outcome) == 4)
    assert 300_000 < outcome[0] <= 300_000 + 65536 + 10
    assert outcome[1:] == [False, False, (1008, "slow consumer")]


async def test_one_large_answer_always_passes(listening):
    """The cap is on what already waits: an answer larger than it still goes out on an idle connection."""

    async def handler(link):
        assert link.send("r" * 3 * MIB)
        await link.recv()

    async with listening(handler) as gateway, connect(gateway.url(), max_size=None) as peer:
        assert len(await peer.recv()) == 3 * MIB


# Many sockets of one address.


async def test_32_strangers_of_one_address_and_no_more(listening, settled):
    """The 33rd upgrade gets 503 `Too many unauthenticated sockets`; a login or an end makes room, health is always answered."""
    links = []

    async def handler(link):
        links.append(link)
        await link.recv()
        link.admit(MIB)
        link.send("hello")
        await link.recv()

    async with listening(handler) as gateway, Crowd(gateway) as crowd:
        peers = [await crowd.join() for _ in range(32)]
        assert all([(await peer.upgrade()).startswith("HTTP/1.1 101 ") for peer in peers])
        for _ in range(3):
            extra = await crowd.join()
            assert (await extra.upgrade()).startswith("HTTP/1.1 503 ")
            assert await extra.rest() == b"Too many unauthenticated sockets"
            await extra.stream.aclose()
        probe = await crowd.join()
        await probe.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await probe.head()).startswith("HTTP/1.1 200 ")
        await probe.stream.aclose()

        await peers[0].frame("connect")
        assert await peers[0].read() == (Opcode.TEXT, b"hello")
        await peers[1].stream.aclose()
        await settled(lambda: len(links[0]._site.lobby) == 30)
        for expected in (101, 101, 503):
            peer = await crowd.join()
            assert (await peer.upgrade()).startswith(f"HTTP/1.1 {expected} ")


async def test_an_address_with_four_times_its_share_is_not_heard(listening):
    """Beyond 128 sockets of one address another costs neither task nor memory: it is closed at accept."""
    async with listening(limits={"sockets_per_address": 2}) as gateway, Crowd(gateway) as crowd:
        for _ in range(8):
            await crowd.join()
        await anyio.sleep(0.05)
        ninth = await crowd.join()
        assert await ninth.rest() == b""


async def test_behind_a_proxy_the_callback_says_whose_socket_it_is(listening):
    """Sockets count for the client that the callback names; its unknown is the TCP peer."""
    asked = []

    def counted_as(host, headers: Headers | None):
        asked.append((host, headers is None))
        return headers.get("X-Forwarded-For") if headers else None

    async with listening(sleeper, limits={"sockets_per_address": 1}, counted_as=counted_as) as gateway, Crowd(gateway) as crowd:
        for client, status in (("1.1.1.1", 101), ("2.2.2.2", 101), ("1.1.1.1", 503), (None, 101), (None, 503)):
            peer = await crowd.join()
            head = await peer.upgrade(extra=f"X-Forwarded-For: {client}\r\n" if client else "")
            assert head.startswith(f"HTTP/1.1 {status} ")
    assert asked[:2] == [("127.0.0.1", True), ("127.0.0.1", False)]


async def test_a_callback_that_fails_counts_for_the_tcp_peer(listening, capsys):
    """Nothing that the callback does reaches the accept loop."""

    def counted_as(host, headers):
        if headers is None:
            raise RuntimeError("broken")
        return host

    async with listening(counted_as=counted_as) as gateway, gateway.raw() as peer:
        assert (await peer.upgrade()).startswith("HTTP/1.1 101 ")
    assert "address not resolved" in capsys.readouterr().out


def test_the_lobby_forgets_who_has_left():
    """Counting an address leaves nothing behind."""
    lobby = Lobby(2)
    assert [lobby.enter("a"), lobby.enter("a"), lobby.enter("a"), lobby.enter("b")] == [True, True, False, True]
    for address in ("a", "a", "a", "b"):
        lobby.leave(address)
    assert (len(lobby), lobby._counts) == (0, {})


class Crowd:
    """Many raw peers that stay."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.doors = []

    async def join(self):
        door = self.gateway.raw()
        self.doors.append(door)
        return await door.__aenter__()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        for door in self.doors:
            await door.__aexit__(None, None, None)


class Plain:
    """A blocking socket that can upgrade and then do as little as it likes."""

    def __init__(self, sock):
        self.sock = sock

    async def upgrade(self, path="/"):
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.sock.sendall((request + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        await anyio.to_thread.run_sync(self.read_head)

    def read_head(self):
        while self.sock.recv(1) != b"\n" or self.sock.recv(2) != b"\r\n":
            pass


def small_socket(gateway, size: int = 4096):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    sock.connect((gateway.host, gateway.port))
    sock.settimeout(5)
    return sock


def gone(sock, data: bytes) -> bool:
    try:
        sock.send(data)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False
