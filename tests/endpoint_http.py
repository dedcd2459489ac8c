"""Real connections to a real server, byte by byte."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

from endpoint_requests import Answer
from fanfold.endpoint import address
from fanfold.endpoint.server import HttpServer
from fanfold.service import Deadline


@asynccontextmanager
async def serving(app, *, end_polls=lambda: None, **options):
    """The application on a free port; yields its server, which knows its `port`."""
    bound = address.bind(address.parse("127.0.0.1:0"))
    server = HttpServer(app, [bound], end_polls=end_polls, **options)
    server.port = bound.getsockname()[1]
    await server.start()
    try:
        yield server
    finally:
        await server.stop(Deadline(1))


class Connection:
    """A client's connection; it says what it is told to, and no more."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def say(self, data):
        self.writer.write(data)

    def ask(self, action, payload=None):
        self.say(request(action, payload))

    async def flood(self):
        """Say more and more, until the server has it no longer."""
        while True:
            self.say(b"x" * 100_000)
            await self.writer.drain()

    async def answer(self):
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines if line)
        headers = {name.lower(): value for name, _, value in pairs}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(status.split()[1]), headers, body)

    async def end(self):
        """What still comes until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    def leave(self):
        self.writer.transport.abort()


@asynccontextmanager
async def connected(port, **options):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def request(action, payload=None, *, headers=""):
    body = json.dumps(payload or {}).encode()
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Amz-Target: AmazonSQS.{action}\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def until_refused(port):
    """Return when the server takes no more connections. Where it still does, it closes or answers them."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:  # refused, or reset in the moment in which it closed
            return
        writer.close()
