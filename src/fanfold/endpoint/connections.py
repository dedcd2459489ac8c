"""Connections within bounds, on uvicorn: how many, how long a request may take to come, and an answer to go."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

READ_SECONDS: Final = 30.0
"""Time for a whole request to arrive, and for the first one of a connection to begin."""
WRITE_SECONDS: Final = 30.0
"""Time for a client to take what it asked for, once the buffers are full."""
IDLE_SECONDS: Final = 65
"""Time between two requests. Longer than SDKs keep a connection in their pools for, or they would race with us."""
MAX_HEAD: Final = 128 * 1024
"""Bytes of a request line with its headers; a GET carries its message in there."""
_REFUSAL: Final = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedConnection(HttpToolsProtocol):
    """A connection of uvicorn's that takes note of what it waits for.

    uvicorn itself bounds the time between requests only. A client that sends a byte a minute, that never reads, or
    whose headers don't end, would keep a connection and its memory for ever.
    """

    limit: int
    """How many connections there may be at once; set by `limited_to`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading_since: float | None = None
        self._writing_since: float | None = None
        self._in_head = True  # or before it
        self._begun = 0
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take it, or refuse it where there are too many."""
        super().connection_made(transport)
        self._reading_since = self.loop.time()
        if len(self.connections) > self.limit:
            self._refuse(b"503 Service Unavailable")

    def data_received(self, data: bytes) -> None:
        """Parse; refuse headers that don't end."""
        if self.transport.is_closing():
            return
        idle, begun = self._reading_since is None, self._begun
        super().data_received(data)
        if idle and begun == self._begun:
            self._reading_since = self.loop.time()  # line ends between two requests, for instance
        self._head_bytes = self._head_bytes + len(data) if self._in_head else 0
        if self._head_bytes > MAX_HEAD and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """A request begins to arrive."""
        super().on_message_begin()
        self._reading_since = self.loop.time()
        self._in_head = True
        self._begun += 1

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._reading_since = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client takes less than it asked for."""
        self._writing_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It goes on."""
        self._writing_since = None
        super().resume_writing()

    def close_if_late(self) -> None:
        """End the connection where its client has taken too long."""
        now = self.loop.time()
        if self._reading_since is not None and now - self._reading_since > READ_SECONDS:
            self._refuse(b"408 Request Timeout")
        elif self._writing_since is not None and now - self._writing_since > WRITE_SECONDS:
            self.transport.abort()

    def _refuse(self, status: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_REFUSAL % status)
            self.transport.close()
        else:
            self.transport.abort()  # in the middle of an answer nothing can be said


def limited_to(connections: int) -> type[BoundedConnection]:
    """The class for a server with so many connections; uvicorn makes them itself."""
    return type("Connection", (BoundedConnection,), {"limit": connections})
