"""The connections of one event loop: bounded, kept, and closed with the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from fanfold.brokers.connections import Connection, LostError, Reply

POLLS: Final = 16
"""Long polls under way at most."""
COMMANDS: Final = 64
"""Other requests under way at most: at 20 ms of latency 3,200 a second, which is more than one core can make."""
_KEPT_FOR: Final = 60.0
"""Seconds. Between us and the server, a NAT may have forgotten an older connection, and would say so to nobody."""


class Pool:
    """Makes exchanges on kept connections, and on new ones where none is free.

    1. Waits for room: polls and commands have their own, so that polls never hold up a delete.
    2. Takes the connection used last; the others grow old and are closed.
    3. Where the server has closed it in the meantime (it is lost before a byte of an answer has come), takes the next,
       and at last makes a new one. The server may have got the request even so, and it is made twice then: for SQS that
       is safe (see `lean`).
    4. Closes everything when its event loop ends; no connection outlives its loop.

    Belongs to one event loop, and to its thread.
    """

    def __init__(
        self, dial: Callable[[], Awaitable[Connection]], *, polls: int = POLLS, commands: int = COMMANDS
    ) -> None:
        self._dial = dial
        self._rooms = {True: asyncio.Semaphore(polls), False: asyncio.Semaphore(commands)}
        self._kept: list[Connection] = []
        self._closings = 0
        self._watch: AsyncGenerator[None] | None = None

    async def exchange(self, request: bytes, *, patience: float, poll: bool) -> Reply:
        """Make a request and answer with what the server says.

        Args:
            request: head and body.
            patience: seconds for which the answer may let us wait.
            poll: this is a long poll.

        Raises:
            OSError: no connection, or no answer.
        """
        if self._watch is None:
            self._watch = _at_the_end_of_the_loop(self.close)
            await anext(self._watch)
        async with self._rooms[poll]:
            while (kept := self._take()) is not None:
                try:
                    return await self._use(kept, request, patience)
                except LostError as error:
                    if not error.untouched:
                        raise
            return await self._use(await self._dial(), request, patience)

    def close(self) -> None:
        """Close what is idle now, and what is in use as soon as it isn't. Idempotent; a later use opens again."""
        self._closings += 1
        kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def _take(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - _KEPT_FOR
        while self._kept:
            connection = self._kept.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    async def _use(self, connection: Connection, request: bytes, patience: float) -> Reply:
        closings = self._closings
        reply = await connection.exchange(request, patience=patience)
        if self._closings != closings:
            connection.close()
        elif connection.usable:
            self._kept.append(connection)
        return reply


async def _at_the_end_of_the_loop(close: Callable[[], None]) -> AsyncGenerator[None]:
    # `asyncio.run` and `Runner` end the async generators of a loop before they close it: the only such moment there is.
    try:
        yield
    finally:
        close()
