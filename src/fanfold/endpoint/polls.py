"""Receives whose client may go away while they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from fanfold.engine.service import CallContext


class ClientGoneError(Exception):
    """The client went away: there is nobody to answer."""


class Receiver(Protocol):
    """The engine, as far as the endpoint needs it: `SqsEngine`."""

    async def call(self, action: str, request: Mapping[str, Any], context: CallContext) -> dict[str, Any]:
        """Do one action of the SQS API. Raises SqsError. Where a receive is cancelled, it has taken nothing."""


class Client(Struct):
    """A request's other end, which may go away."""

    gone: bool = False
    poll: asyncio.Task[Any] | None = None
    """Its receive, while that is under way."""

    def leave(self) -> None:
        """It has gone. Its receive ends; whatever else it asked for is done all the same."""
        self.gone = True
        if self.poll is not None:
            self.poll.cancel()


class Polls:
    """Calls `ReceiveMessage` for clients, in the task that asks.

    A client that goes away ends its call, and what was received for it in that moment goes back, as if it had never
    been received: the engine promises that of a receive that is cancelled. On SQS it would stay away for its
    visibility timeout, and have used up one of its receives.

    A client whose going away nobody could see yet (a pulled cable) has what was sent to it, as on SQS.
    """

    def __init__(self, engine: Receiver) -> None:
        self._engine = engine
        self.waiting = 0

    async def receive(self, request: Mapping[str, Any], context: CallContext, client: Client) -> dict[str, Any]:
        """The answer. Raises SqsError, and ClientGoneError where there is nobody to answer."""
        if client.gone:
            raise ClientGoneError
        client.poll = asyncio.current_task()
        self.waiting += 1
        try:
            return await self._engine.call("ReceiveMessage", request, context)
        except asyncio.CancelledError:
            if client.gone:
                raise ClientGoneError from None
            raise
        finally:
            self.waiting -= 1
            client.poll = None
