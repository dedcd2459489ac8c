"""A client's connection: HTTP/1.1 within bounds, taken apart by httptools (llhttp in its strict mode).

An ASGI server would cost each request more than all of SQS's rules do (`docs/sqs.md`), and bounds neither how long a
request may take to come nor how large its headers may be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import httptools
from msgspec import Struct

from fanfold.endpoint import answers
from fanfold.endpoint.crowd import Connections, Served
from fanfold.endpoint.exchange import Request, Response
from fanfold.engine.errors import SqsError

READ_SECONDS: Final = 30.0
"""Time for a whole request to arrive, and for the first one of a connection to begin."""
WRITE_SECONDS: Final = 30.0
"""Time for a client to take what it asked for, once the buffers are full."""
IDLE_SECONDS: Final = 65.0
"""Time between two requests. Longer than SDKs keep a connection in their pools for, or they would race with us."""
MAX_HEAD: Final = 128 * 1024
"""Bytes of a request beside its body: its line and headers (a GET carries its message in there), and what frames its
chunks."""
MAX_HEADERS: Final = 128
"""Headers of a request: many tiny ones take ten times their bytes."""
_SMALL_HEAD: Final = 16 * 1024
"""Bytes of a head that each connection may have without asking for room."""
_LEAST_TAKEN: Final = 64 * 1024
"""Bytes that a client takes within `WRITE_SECONDS`, or it doesn't take its answer."""
_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 32 * 1024 * 1024
"""What is still read, and dropped, behind an answer to a request that hasn't come whole: a connection that is closed
over unread bytes is reset, and the answer with it (RFC 9112, 9.6)."""
_TOO_BUSY: Final = 503
_VERSIONS: Final = ("1.0", "1.1")
_SLICE: Final = 8192
"""Bytes that are taken apart before it is seen whether there is a request to work on: bounds how many wait."""


class _Turn(Struct, frozen=True):
    """A request that has come whole: whether the connection stays open behind it, and whether it was a HEAD."""

    served: Served
    keep: bool
    bare: bool


class Connection(asyncio.Protocol):
    """A connection: one answer at a time, in the order of the requests.

    1. Takes requests apart. What comes behind one that is being worked on waits, and no more is read meanwhile.
    2. Refuses what is malformed, too long in its head, or too late; nothing is read after that.
    3. Writes an answer whole; a client that doesn't take it is let go.
    """

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._client = ""
        self._parser = httptools.HttpRequestParser(self)
        self._reading_since: float | None = None
        self._writing_since: float | None = None
        self._idle_since: float | None = None
        self._pending, self._at = b"", 0
        self._beside_body = self._fields = 0
        self._owed = 0  # the room that a large head, or an answer that isn't taken, has
        self._method, self._url = "", b""
        self._names = connections.header_names
        self._headers: dict[str, str] = {}
        self._in_head = True
        self._coming: Served | None = None
        self._waiting: deque[_Turn] = deque()
        self._current: Served | None = None
        self._task: asyncio.Task[None] | None = None
        self._last = False  # what comes behind the last request isn't looked at
        self._ended = False  # the client says no more, and may still read
        self._asked = False  # for the body
        self._dropping = False  # a body whose request is answered
        self._linger = 0
        self._refusal = 0
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, or refuse it where there are too many."""
        self._transport = transport
        self._client = _address(transport.get_extra_info("peername"))
        self._reading_since = self._loop.time()
        if not self._all.add(self):
            self._refuse(_TOO_BUSY)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason
        """The client has gone, or we have closed."""
        self._over = True
        self._owe(0)
        for served in (self._current, self._coming, *(turn.served for turn in self._waiting)):
            if served is not None:
                served.leave()
        self._waiting.clear()
        self._all.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take what came apart."""
        if self._over:
            self._linger -= len(data)
            if self._linger < 0:
                self._transport.abort()
            return
        if self._reading_since is None:
            self._reading_since = self._loop.time()  # also line ends between two requests
        self._pending, self._at = self._pending[self._at :] + data, 0
        self._take_apart()

    def pause_writing(self) -> None:
        """The client takes less than it asked for."""
        self._writing_since = self._loop.time()
        self._owe(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It goes on."""
        self._writing_since = None
        self._owe(0)
        self._go_on()

    def eof_received(self) -> bool:
        """The client says no more. It may still read what it has asked for, but nobody polls so: its receives end."""
        if self._all.scheme == "https" or (self._current is None and not self._waiting):
            return False
        self._last = self._ended = True
        for served in (self._current, *(turn.served for turn in self._waiting)):
            if served is not None:
                served.hang_up()
        return True

    def close_if_late(self, now: float) -> None:
        """End the connection where its client has taken too long."""
        if self._writing_since is not None:
            size = self._transport.get_write_buffer_size()
            if self._owed - size >= _LEAST_TAKEN:
                self._writing_since = now
                self._owe(size)
            elif now - self._writing_since > WRITE_SECONDS:
                self.abort()
        elif self._current is not None:
            return
        elif self._over:
            if self._idle_since is not None and now - self._idle_since > _LINGER_SECONDS:
                self._transport.close()
        elif self._reading_since is not None:
            if now - self._reading_since > READ_SECONDS:
                self._close() if self._dropping else self._refuse(408)
        elif self._idle_since is not None and now - self._idle_since > IDLE_SECONDS:
            self._close()

    def close_if_idle(self) -> None:
        """End the connection unless it owes an answer: to a request whose head has come."""
        if self._current is None and self._coming is None and not self._waiting:
            self._close()

    def abort(self) -> None:
        """End the connection now, and what it waits for."""
        self._over = True
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()

    # What httptools calls while it takes a request apart.

    def on_message_begin(self) -> None:
        """A request begins to come."""
        self._reading_since = self._loop.time()
        self._url, self._headers, self._in_head = b"", {}, True
        self._fields, self._asked, self._dropping = 0, False, False
        if self._current is not None:
            self._transport.pause_reading()

    def on_url(self, part: bytes) -> None:
        """A part of its target."""
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes behind the body isn't looked at."""
        if self._in_head and not self._over and not self._refusal:
            self._fields += 1
            if self._fields > MAX_HEADERS:
                self._refuse(431)
                return
            headers, key, text = self._headers, self._names[name], value.decode("latin-1")
            headers[key] = f"{headers[key]},{text}" if key in headers else text

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head = False
        if self._over or self._refusal:
            return
        if status := self._improper():
            self._refuse(status)
            return
        self._coming = coming = self._all.serving.begin(self._request())
        if coming.refused is not None:
            self._answer_early(coming, coming.refused)
        elif "expect" in self._headers and self._parser.get_http_version() == "1.1":
            self._ask_for_body()

    def on_body(self, part: bytes) -> None:
        """A part of its body."""
        self._beside_body -= len(part)
        coming = self._coming
        if coming is not None and not self._over:
            coming.feed(part)
            if coming.refused is not None:
                self._answer_early(coming, coming.refused)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._reading_since, self._beside_body = None, 0
        self._dropping = False
        if self._owed and self._writing_since is None:
            self._owe(0)
        coming, self._coming = self._coming, None
        if coming is not None and not self._over:
            turn = self._turn(coming)
            self._last = not turn.keep
            self._waiting.append(turn)
            self._go_on()

    def _take_apart(self) -> None:
        """Go through what has come, up to a request to work on; read no more while something is left."""
        pending, at = self._pending, self._at
        while at < len(pending) and not self._over and not self._last:
            if self._current is not None or self._waiting:
                self._at = at
                self._transport.pause_reading()
                return
            piece = pending[at : at + _SLICE]
            self._beside_body += len(piece)
            at += self._parse(piece)
            if self._beside_body > _SMALL_HEAD and not self._over and not self._last:
                self._make_room()
        self._pending, self._at = b"", 0

    def _parse(self, piece: bytes) -> int:
        """Parse; answers how far, which is not to the end only where the client asks for another protocol."""
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as asked:
            return int(asked.args[0])  # HTTP/1.1 lets us stay with it
        except httptools.HttpParserError:
            if not self._over and not self._last:
                self._refuse(400)
        return len(piece)

    def _make_room(self) -> None:
        """Bound one large head, and all of them together."""
        if self._beside_body > MAX_HEAD:
            self._refuse(431)
        elif not self._owed:
            try:
                self._all.serving.room.take(MAX_HEAD)
            except SqsError as error:
                self._refuse(error.status)
            else:
                self._owed = MAX_HEAD

    def _owe(self, size: int) -> None:
        """Count what this connection makes the server keep."""
        self._all.serving.room.owe(size - self._owed)
        self._owed = size

    def _ask_for_body(self) -> None:
        if self._current is None and not self._asked and self._headers.get("expect", "").lower() == "100-continue":
            self._asked = True
            self._transport.write(answers.CONTINUE)

    def _improper(self) -> int:
        """The status of a head that HTTP, or we, have no use for; 0 for any other (RFC 9112)."""
        version, headers = self._parser.get_http_version(), self._headers
        if version not in _VERSIONS:
            return 505
        if version == "1.1" and "host" not in headers:
            return 400
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            return 501
        # httptools takes what follows for the other protocol's, and we would for a request.
        return 501 if self._parser.should_upgrade() and self._has_body() else 0

    def _has_body(self) -> bool:
        return "transfer-encoding" in self._headers or self._headers.get("content-length", "0") != "0"

    def _request(self) -> Request:
        path, query = _target(self._url)
        if "host" not in self._headers:
            self._headers["host"] = _address(self._transport.get_extra_info("sockname"))
        self._method = self._parser.get_method().decode("latin-1")
        return Request(
            method=self._method,
            path=path,
            query=query,
            headers=self._headers,
            scheme=self._all.scheme,
            client=self._client,
        )

    def _turn(self, served: Served) -> _Turn:
        # A client of HTTP/1.0 would have to be told that its connection stays open.
        keep = self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1"
        return _Turn(served, keep, self._method == "HEAD")

    def _answer_early(self, served: Served, response: Response) -> None:
        """Answer before the body is there, unless others are to be answered first; the body is then dropped."""
        if self._current is not None or self._waiting:
            return
        turn = self._turn(served)
        self._coming, self._dropping = None, True
        self._write(response, keep=turn.keep and "expect" not in self._headers, bare=turn.bare)

    def _go_on(self) -> None:
        """Begin with the next request, if there is one, and read on if there is none."""
        if self._current is not None or self._writing_since is not None or self._over:
            return
        if self._waiting:
            turn = self._waiting.popleft()
            self._current = turn.served
            self._task = self._loop.create_task(self._serve(turn))
            if not self._waiting and not self._pending and not self._ended:
                self._transport.resume_reading()  # to see that the client goes away
        elif self._refusal:
            self._refuse(self._refusal)
        elif self._ended:
            self._close()
        else:
            if self._reading_since is not None:
                self._reading_since = self._loop.time()  # it couldn't go on while we weren't reading
            self._transport.resume_reading()
            if self._coming is not None and self._coming.refused is not None:
                self._answer_early(self._coming, self._coming.refused)  # it couldn't be while others were first
            elif self._coming is not None:
                self._ask_for_body()
            if self._pending:
                self._take_apart()

    async def _serve(self, turn: _Turn) -> None:
        response = await turn.served.answer()
        self._current = self._task = None
        if response is not None:
            self._write(response, keep=turn.keep, bare=turn.bare)
        self._go_on()

    def _write(self, response: Response, *, keep: bool, bare: bool) -> None:
        if self._over:
            return
        keep = keep and not self._all.closing and not response.last
        self._transport.write(answers.encoded(response, keep=keep, bare=bare))
        self._idle_since = self._loop.time()
        if not keep:
            self._close(unread=self._dropping)

    def _refuse(self, status: int) -> None:
        """Say why and close, after the answers to what came before; nothing more is read."""
        self._last = True
        if self._current is None and not self._waiting and self._writing_since is None:
            self._transport.write(answers.encoded(self._all.serving.refuse(status, self._client), keep=False))
            self._close(unread=status != _TOO_BUSY)
        else:
            self._refusal = status

    def _close(self, *, unread: bool = False) -> None:
        """End the connection; where its client may still be sending, when it has had time to see why."""
        self._over = True
        if unread and not (self._ended or self._all.closing) and self._transport.can_write_eof():
            self._idle_since, self._linger = self._loop.time(), _LINGER_BYTES
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()


def _target(url: bytes) -> tuple[str, str]:
    """Path and query of a request's target, which may be a whole URL."""
    if url == b"/":  # whatever SDKs ask for by JSON
        return "/", ""
    if not url.startswith(b"/"):
        parsed = httptools.parse_url(url)
        url = (parsed.path or b"") + (b"?" + parsed.query if parsed.query else b"")
    path, _, query = url.partition(b"#")[0].decode("latin-1").partition("?")
    return path, query


def _address(name: Sequence[Any] | None) -> str:
    """An end of a connection, as sockets name it; a client that sends no Host has called us by ours."""
    if not name:  # it was gone before we looked
        return ""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
