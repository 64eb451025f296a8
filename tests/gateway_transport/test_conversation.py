"""A WebSocket as its session sees it: messages in, messages out, an end with a code."""

import logging
import socket

import anyio
import anyio.lowlevel
import pytest
from websockets.asyncio.client import connect
from websockets.frames import Opcode

from pairing.gateway.transport import Closed, cut


async def test_text_is_answered_in_order(listening):
    """Text frames arrive as str, one message a recv, in the order sent."""
    async with listening() as gateway, connect(gateway.url()) as peer:
        for text in ("one", "zwei", "", "√"):
            await peer.send(text)
            assert await peer.recv() == text


async def test_binary_messages_are_delivered_as_bytes_and_answers_are_text(listening):
    """A binary message with JSON bytes is a message like any other (protocol §1.1)."""
    got = []

    async def handler(link):
        got.append(await link.recv())
        link.send(got[0])

    async with listening(handler) as gateway, connect(gateway.url()) as peer:
        await peer.send(b'{"type":"req"}')
        assert await peer.recv() == '{"type":"req"}'
    assert got == [b'{"type":"req"}']


@pytest.mark.parametrize("path", ["/", "/any/path", "/with?query=1"])
async def test_any_path_is_upgraded_and_told(listening, path):
    """FR-41: any path is a gateway socket; the session sees path, headers and address, unjudged."""
    peers = []

    async def handler(link):
        peers.append(link.peer)
        await link.recv()

    async with (
        listening(handler) as gateway,
        connect(gateway.url(path), additional_headers={"X-Forwarded-For": "1.2.3.4"}) as peer,
    ):
        await peer.send("x")
        await peer.wait_closed()
        local = peer.local_address
    [seen] = peers
    assert (seen.path, seen.host, seen.port, seen.secure) == (path, *local, False)
    assert seen.headers.get_all("x-forwarded-for") == ("1.2.3.4",)


async def test_no_compression_and_no_subprotocol_is_negotiated(listening):
    """No permessage-deflate ever, whatever is offered, and a subprotocol is neither needed nor chosen."""
    extra = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Protocol: chat\r\n"
    async with listening() as gateway, gateway.raw() as peer:
        head = await peer.upgrade(extra=extra)
        assert head.startswith("HTTP/1.1 101 ")
        assert "sec-websocket-extensions" not in head.lower()
        assert "sec-websocket-protocol" not in head.lower()


@pytest.mark.parametrize("connection", ["Upgrade", "keep-alive, Upgrade", "keep-alive,upgrade", "UPGRADE"])
async def test_connection_is_a_token_list(listening, connection):
    """Firefox sends `Connection: keep-alive, Upgrade`."""
    async with listening() as gateway, gateway.raw() as peer:
        assert (await peer.upgrade(connection=connection)).startswith("HTTP/1.1 101 ")


async def test_frames_sent_with_the_head_wait_for_the_answer_to_it(listening):
    """A peer that does not wait for 101 is still answered in order: head first, then pong and message."""
    async with listening() as gateway, gateway.raw() as peer:
        ping, text = b"\x89\x80\0\0\0\0", b"\x81\x82\0\0\0\0hi"
        request = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        await peer.write((request + key).encode() + ping + text)
        assert (await peer.head()).startswith("HTTP/1.1 101 ")
        assert [await peer.read(), await peer.read()] == [(Opcode.PONG, b""), (Opcode.TEXT, b"hi")]


async def test_a_head_may_come_byte_by_byte(listening):
    """Reads and heads need not agree."""
    async with listening() as gateway, gateway.raw() as peer:
        head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        for position in range(len(head)):
            await peer.write(head[position : position + 1])
            await anyio.lowlevel.checkpoint()
        assert (await peer.head()).startswith("HTTP/1.1 200 ")


async def test_fragments_are_joined_and_pings_between_them_answered(listening):
    """A message in pieces is one message, also across a character (RFC 6455 §5.4)."""
    async with listening() as gateway, gateway.raw() as peer:
        await peer.upgrade()
        await peer.frame("√".encode()[:1], fin=False)
        await peer.frame(b"still there?", Opcode.PING)
        await peer.frame("√".encode()[1:], Opcode.CONT, fin=False)
        await peer.frame(b"", Opcode.CONT)
        assert await peer.read() == (Opcode.PONG, b"still there?")
        assert await peer.read() == (Opcode.TEXT, "√".encode())


async def test_unsolicited_pongs_are_ignored(listening):
    """A pong that nobody asked for is no offence (RFC 6455 §5.5.3)."""
    async with listening() as gateway, gateway.raw() as peer:
        await peer.upgrade()
        for _ in range(10):
            await peer.frame(b"heartbeat", Opcode.PONG)
        await peer.frame("after")
        assert await peer.read() == (Opcode.TEXT, b"after")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),  # text that is not UTF-8
        (b"\x83\x80\0\0\0\0", 1002),  # an opcode that does not exist
        (b"\x81\x02hi", 1002),  # a client's frame without a mask
        (b"\xc1\x80\0\0\0\0", 1002),  # a reserved bit: compression that was not negotiated
        (b"\x80\x80\0\0\0\0", 1002),  # a continuation of nothing
    ],
)
async def test_a_broken_frame_closes_with_a_code_and_no_words(listening, frame, code):
    """What the parser refuses is closed at once, with an empty reason."""
    async with listening() as gateway, gateway.raw() as peer:
        await peer.upgrade()
        await peer.write(frame)
        assert await peer.read_close() == (code, "")


async def test_recv_tells_how_it_ended(listening, settled):
    """Closed carries the peer's code and reason, or 1006 where the connection just vanished."""
    ends = []

    async def handler(link):
        with pytest.raises(Closed) as closed:
            await link.recv()
        ends.append((closed.value.code, closed.value.reason))
        assert not link.send("too late")
        await link.close()

    async with listening(handler) as gateway:
        async with connect(gateway.url()) as peer:
            await peer.close(4000, "tick timeout")
        async with gateway.raw() as raw:
            await raw.upgrade()
        await settled(lambda: ends == [(4000, "tick timeout"), (1006, "")])


async def test_what_came_before_the_peers_close_is_still_handed_out(listening, settled):
    """A one-shot client that asks and closes is heard."""
    got = []

    async def handler(link):
        link.admit(65536)
        await anyio.sleep(0.1)
        while True:
            got.append(await link.recv())

    async with listening(handler) as gateway:
        async with connect(gateway.url()) as peer:
            await peer.send("one")
            await peer.send("two")
        await settled(lambda: got == ["one", "two"])


async def test_after_our_close_nothing_is_accepted(listening, settled):
    """Messages that wait when the session is closed are forgotten, and recv says so at once."""
    seen = []

    async def handler(link):
        link.admit(65536)
        assert await link.recv() == "first"
        await anyio.sleep(0.1)
        link.end(4001, "device removed")
        with pytest.raises(Closed) as closed:
            seen.append(await link.recv())
        seen.append((closed.value.code, closed.value.reason))

    async with listening(handler) as gateway, gateway.raw() as peer:
        await peer.upgrade()
        await peer.frame("first")
        await peer.frame("second")
        assert (await peer.read())[0] is Opcode.CLOSE
        await peer.frame("third")
        await settled(lambda: seen == [(4001, "device removed")])


async def test_recv_may_be_cancelled_and_loses_nothing(listening):
    """A recv under a timeout leaves the message for the next one."""

    async def handler(link):
        got = []
        while len(got) < 50:
            with anyio.move_on_after(0.0005):
                got.append(await link.recv())
        link.send(",".join(got))

    async with listening(handler) as gateway, connect(gateway.url()) as peer:
        for number in range(50):
            await peer.send(str(number))
            await anyio.sleep(0.0005)
        assert await peer.recv() == ",".join(map(str, range(50)))


@pytest.mark.parametrize(("reason", "told"), [("x" * 200, "x" * 120), ("x" + "√" * 60, "x" + "√" * 39), ("ok", "ok")])
async def test_close_reasons_are_cut_to_120_bytes_on_a_character(listening, reason, told):
    """Protocol §1.4: every close reason is cut to 120 bytes of UTF-8."""
    async with listening(lambda link: link.close(1008, reason)) as gateway, connect(gateway.url()) as peer:
        await peer.wait_closed()
        assert (peer.close_code, peer.close_reason) == (1008, told)
        assert cut(reason) == told


async def test_close_does_not_wait_for_a_peer_that_never_answers(listening):
    """The close frame goes out, then TCP ends within `close_timeout`, answered or not."""
    done = anyio.Event()

    async def handler(link):
        await link.close(4001, "device removed")
        done.set()

    async with listening(handler, limits={"close_timeout": 0.2}) as gateway, gateway.raw() as peer:
        await peer.upgrade()
        assert await peer.read_close() == (4001, "device removed")
        with anyio.fail_after(2):
            await done.wait()


async def test_a_handler_that_returns_closes_with_1000(listening):
    """The end of the session is the end of the connection."""

    async def handler(link):
        link.send("bye")

    async with listening(handler) as gateway, connect(gateway.url()) as peer:
        assert await peer.recv() == "bye"
        await peer.wait_closed()
        assert (peer.close_code, peer.close_reason) == (1000, "")


@pytest.mark.parametrize(("bind", "dial", "seen"), [("::1", "::1", "::1"), ("::", "127.0.0.1", "::ffff:127.0.0.1")])
async def test_ipv6_and_mapped_addresses_are_reported_raw(listening, bind, dial, seen):
    """The peer's host is what the kernel says; reducing a mapped address is not the transport's."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    hosts = []

    async def handler(link):
        hosts.append(link.peer.host)

    async with listening(handler, host=bind) as gateway:
        gateway.host = dial
        async with gateway.raw() as peer:
            await peer.upgrade()
            assert await peer.read_close() == (1000, "")
    assert hosts == [seen]


async def test_it_works_the_same_under_tls(listening, tls):
    """TLS ends here; the session sees only that it was there."""
    secure = []

    async def handler(link):
        secure.append(link.peer.secure)
        link.send(await link.recv())

    async with listening(handler, ssl=tls.server) as gateway:
        async with connect(f"wss://localhost:{gateway.port}/", ssl=tls.client) as peer:
            await peer.send("x" * 60_000)
            assert await peer.recv() == "x" * 60_000
            await peer.wait_closed()
            assert peer.close_code == 1000
        async with gateway.raw(tls.client) as raw:
            await raw.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.head()).startswith("HTTP/1.1 200 ")
    assert secure == [True]


async def test_what_peers_say_is_never_logged(listening, caplog):
    """Frames carry tokens: not one byte of them reaches a log, even with every logger at DEBUG."""
    caplog.set_level(logging.DEBUG)
    async with listening() as gateway, gateway.raw() as peer:
        await peer.upgrade(extra="Authorization: Bearer geheim\r\n")
        await peer.frame('{"token":"geheim"}')
        assert await peer.read() == (Opcode.TEXT, b'{"token":"geheim"}')
    assert "geheim" not in caplog.text
