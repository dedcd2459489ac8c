"""An HTTP server on loopback that answers by script, byte for byte, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """What arrived: the request line, headers by lower-case name, the body, and on which connection (from 1)."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def action(self) -> str:
        return self.headers["x-amz-target"].removeprefix("AmazonSQS.")

    @property
    def payload(self) -> dict[str, Any]:
        return json.loads(self.body)


Step = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


def reply(answer: Any = None, *, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer with its length. `answer` is JSON, or bytes as they are."""
    body = answer if isinstance(answer, bytes) else json.dumps({} if answer is None else answer).encode()
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def error(code: str, text: str = "as it is", *, status: str = "400 Bad Request", headers: str = "") -> bytes:
    """SQS's answer to what it refuses."""
    told = {"__type": f"com.amazonaws.sqs#{code}", "message": text}
    return reply(told, status=status, headers=headers)


def say(*pieces: bytes) -> Step:
    """Write the pieces, each in a segment of its own, and go on with the connection."""

    async def step(_: Request, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return step


def hang_up(*pieces: bytes, reset: bool = False) -> Step:
    """Write the pieces, then close the connection (with `reset`, so that the other side gets an error)."""

    async def step(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.writelines(pieces)
        if reset:
            # Lingering for no time is what makes a close a reset.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()

    return step


def silence(begun: asyncio.Event | None = None) -> Step:
    """Never answer; `begun` is set when the request has come."""

    async def step(*_: Any) -> None:
        if begun is not None:
            begun.set()
        await asyncio.Event().wait()

    return step


def after(event: asyncio.Event, answer: bytes) -> Step:
    """Answer when the event is set."""

    async def step(_: Request, writer: asyncio.StreamWriter) -> None:
        await event.wait()
        writer.write(answer)

    return step


@dataclass
class Scripted:
    """The server. `script` holds what happens to each request in turn; afterwards everything is answered with `{}`."""

    script: list[bytes | Step] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    tls_objects: list[Any] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tls_objects.append(writer.get_extra_info("ssl_object"))
        number = self.connections
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not writer.is_closing():
                request = await read_request(reader, number)
                self.asked.append(request)
                step = self.script.pop(0) if self.script else reply()
                if isinstance(step, bytes):
                    writer.write(step)
                else:
                    await step(request, writer)
        writer.close()

    async def hang_up_idle(self) -> None:
        """Close every connection from the server's side, and return when the closes are on their way."""
        for writer in self.writers:
            writer.close()
        for writer in self.writers:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/123456789012/tasks.fifo"


async def read_request(reader: asyncio.StreamReader, connection: int = 1) -> Request:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(line, headers, body, connection)


@asynccontextmanager
async def scripted(*script: bytes | Step, tls: Any = None) -> AsyncIterator[Scripted]:
    """A server with that script, gone with the block."""
    made = Scripted(script=list(script))
    handlers: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.writers.append(writer)
        task = asyncio.create_task(made.serve(reader, writer))
        handlers.add(task)
        task.add_done_callback(handlers.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, limit=2**26)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in set(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await gone(made.writers)


async def gone(writers: list[asyncio.StreamWriter]) -> None:
    """Abort connections, and return when they are closed."""
    for writer in writers:
        writer.transport.abort()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()
