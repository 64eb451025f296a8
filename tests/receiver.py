"""A receiver of webhooks on a loopback port: it keeps what it is sent, and answers as a story tells it to."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream


@dataclass
class Message:
    """One request, as it came in."""

    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def kind(self) -> str:
        return str(self.content["type"])

    def signed_with(self, secret: str) -> bool:
        """Check the signature as the scheme tells receivers to (standardwebhooks.com), without our own code."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = b".".join([self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body])
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"] == f"v1,{expected}"


@dataclass
class Answer:
    status: int = 204
    headers: tuple[str, ...] = ()
    delay: float = 0.0
    body: bytes = b""
    promised: int | None = None


@dataclass
class Receiver:
    """`answer` decides what a message gets; `heard` is told of each; `attempts` is all that came, `taken` what got a success."""

    port: int = 0
    attempts: list[Message] = field(default_factory=list)
    taken: list[Message] = field(default_factory=list)
    answer: Callable[[Message], Answer] = lambda message: Answer()
    heard: Callable[[Message], object] = lambda message: None
    news: anyio.Event = field(default_factory=anyio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    async def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        with anyio.fail_after(seconds):
            while not condition():
                news = self.news
                with anyio.move_on_after(0.1):
                    await news.wait()

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            try:
                while True:
                    await self._one(stream)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async def _one(self, stream: SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive()
        begun, _, body = data.partition(b"\r\n\r\n")
        lines = begun.decode().split("\r\n")[1:]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += await stream.receive()
        message = Message(headers, body)
        self.attempts.append(message)
        self.heard(message)
        answer = self.answer(message)
        await anyio.sleep(answer.delay)
        if 200 <= answer.status < 300:
            self.taken.append(message)
        fields = "".join(f"{line}\r\n" for line in answer.headers)
        await stream.send(
            f"HTTP/1.1 {answer.status} X\r\n{fields}Content-Length: {answer.promised or len(answer.body)}\r\n\r\n".encode()
            + answer.body
        )
        self.news.set()
        self.news = anyio.Event()


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """Listen on a loopback port for as long as the story goes."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    receiver = Receiver(listener.extra(SocketAttribute.local_port))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, receiver.serve)
        yield receiver
        tasks.cancel_scope.cancel()
    await listener.aclose()
