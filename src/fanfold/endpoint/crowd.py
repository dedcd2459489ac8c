"""All connections of a server, and what is asked of a request on its way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from fanfold.endpoint.exchange import Request, Response
from fanfold.endpoint.header_names import HeaderNames
from fanfold.endpoint.reading import Room

if TYPE_CHECKING:
    from fanfold.endpoint.connections import Connection


class Served(Protocol):
    """A request on its way: `application.Exchange`."""

    refused: Response | None

    def feed(self, part: bytes) -> None:
        """Take a part of the body."""

    def leave(self) -> None:
        """The client has gone."""

    def hang_up(self) -> None:
        """The client says no more; it may still read an answer."""

    async def answer(self) -> Response | None:
        """The answer; None for nobody."""


class Serving(Protocol):
    """What requests are handed to: `application.Application`."""

    room: Room

    def begin(self, head: Request, /) -> Served:
        """A request whose head has come."""

    def refuse(self, status: int, client: str) -> Response:
        """The answer to what is no request, or comes too late, or is one connection too many."""


class Connections:
    """All connections of a server, and what they have in common.

    `most` is how many connections there may be at once; `scheme` http or https.
    """

    def __init__(self, serving: Serving, *, most: int, scheme: str) -> None:
        self.serving = serving
        self.most = most
        self.scheme = scheme
        self.header_names = HeaderNames()
        self.open: set[Connection] = set()
        self.closing = False
        self.emptied = asyncio.Event()
        self.emptied.set()

    def add(self, connection: Connection) -> bool:
        """One more; answers whether it may stay."""
        self.open.add(connection)
        self.emptied.clear()
        return not self.closing and len(self.open) <= self.most

    def discard(self, connection: Connection) -> None:
        """One has ended."""
        self.open.discard(connection)
        if not self.open:
            self.emptied.set()

    def close(self) -> None:
        """Let each connection end: now, or with its next answer where it owes one."""
        self.closing = True
        for connection in list(self.open):
            connection.close_if_idle()

    def abort(self) -> None:
        """End all of them now."""
        for connection in list(self.open):
            connection.abort()

    def close_late(self) -> None:
        """End those whose clients have taken too long."""
        now = asyncio.get_running_loop().time()
        for connection in list(self.open):
            connection.close_if_late(now)
