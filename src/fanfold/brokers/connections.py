"""One kept-alive HTTP connection: a request, then its answer, and again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import httptools

_SLOWEST: Final = 256 * 1024
"""Bytes a second that are still progress: so much longer than its patience may a large exchange take, and no longer."""
_LARGEST: Final = 64 * 1024 * 1024
"""Bytes of an answer. Ten messages of 1 MiB whose characters are all escaped (`\\u00e9`) are about 30 MiB."""
_FIRST_OF_THE_FINAL: Final = 200
"""Statuses below it (100 Continue, 103 Early Hints) announce the answer and aren't it."""


class LostError(ConnectionError):
    """The connection ended before the whole answer had come. `untouched`: not one byte of it had."""

    def __init__(self, text: str, *, untouched: bool) -> None:
        self.untouched = untouched
        super().__init__(text)


class GarbledError(ConnectionError):
    """What came isn't an HTTP answer, or one that is larger than any that SQS gives."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. Names of headers are in lower case."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class Connection(asyncio.Protocol):
    """A connection of one event loop.

    1. `exchange` writes a request and waits for its answer, as long as its patience lasts.
    2. When the answer is whole and the server keeps the connection, it is `usable` for the next exchange.
    3. After anything else (an answer cut short, garbage, bytes that nobody asked for, a cancelled caller) it is closed:
       what is still on its way would be taken for the next answer.

    It never makes a request again: that is for those who know what the request was.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.usable = False
        """Whether a request may be made now."""
        self.idle_since = 0.0
        """When the last exchange ended, on the loop's clock."""
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._received = 0
        self._endless = False
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    async def exchange(self, request: bytes, *, patience: float) -> Reply:
        """Make a request and answer with what the server says.

        Args:
            request: head and body.
            patience: seconds until the whole answer must be there; a second more for each 256 KiB on their way.

        Raises:
            LostError: the connection was closed by the other side.
            GarbledError: as its name says.
            TimeoutError: the patience is over.
        """
        if self._transport is None:
            raise LostError("the connection was closed", untouched=True)
        self.usable = False
        self._answer = self._loop.create_future()
        self._received = 0
        patience += len(request) / _SLOWEST
        self._until = self._loop.time() + patience
        self._timer = self._loop.call_later(patience, self._out_of_patience)
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._timer.cancel()
            self._answer = None
            self.idle_since = self._loop.time()
            if not self.usable:
                self.close()

    def close(self) -> None:
        """End the connection at once. Idempotent; an exchange under way is lost."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # --- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be usable."""
        self._transport = cast("asyncio.Transport", transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        """Take a piece of the answer."""
        if self._answer is None or self._answer.done():
            self.close()  # nobody asked
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(GarbledError(f"the answer isn't HTTP: {error}"))
        if self._received > _LARGEST:
            self._fail(GarbledError(f"the answer has more than {_LARGEST:,} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange under way: answers that don't say how long they are end here, any other is cut short."""
        self._transport = None
        self.usable = False
        if exc is None and self._endless and self._answer is not None and not self._answer.done():
            self._answer.set_result(self._reply())
        self._fail(LostError(f"the connection was lost: {exc or 'closed by the server'}", untouched=not self._received))

    # --- what the parser tells

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Note whether only the connection's end will end the answer."""
        self._endless = b"content-length" not in self._headers and b"transfer-encoding" not in self._headers

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer, unless this was only an announcement of the answer."""
        reply = self._reply()
        self._headers, self._body, self._endless = {}, [], False
        if reply.status < _FIRST_OF_THE_FINAL:
            return
        if self._answer is None or self._answer.done():
            self.usable = False  # a second answer to one request
            return
        self.usable = self._parser.should_keep_alive()
        self._answer.set_result(reply)

    def _reply(self) -> Reply:
        return Reply(self._parser.get_status_code(), self._headers, b"".join(self._body))

    def _out_of_patience(self) -> None:
        left = self._until + self._received / _SLOWEST - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._out_of_patience)
        else:
            self._fail(TimeoutError("the whole answer didn't come in time"))

    def _fail(self, error: OSError) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
