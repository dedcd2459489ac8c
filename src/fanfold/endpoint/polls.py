"""Receives whose client may go away while they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from fanfold.endpoint.reading import Room
from fanfold.engine.errors import SqsError
from fanfold.engine.service import CallContext


class ClientGoneError(Exception):
    """The client went away: there is nobody to answer."""


class Receiver(Protocol):
    """The engine, as far as the endpoint needs it: `SqsEngine`."""

    async def call(self, action: str, request: Mapping[str, Any], context: CallContext) -> dict[str, Any]:
        """Do one action of the SQS API. Raises SqsError. Where a receive is cancelled, it has taken nothing."""

    def give_back(self, queue_url: str, handles: Sequence[str]) -> None:
        """Undo the receive of messages that nobody has seen."""


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

    Where there is no room for an answer, what was received for it goes back, too: many polls may end at once.
    """

    def __init__(self, engine: Receiver, room: Room) -> None:
        self._engine = engine
        self._room = room
        self.waiting = 0

    async def receive(self, request: Mapping[str, Any], context: CallContext, client: Client) -> dict[str, Any]:
        """The answer. Raises SqsError, and ClientGoneError where there is nobody to answer."""
        if client.gone:
            raise ClientGoneError
        client.poll = asyncio.current_task()
        self.waiting += 1
        try:
            self._room.check()
            return self._checked(request, await self._engine.call("ReceiveMessage", request, context))
        except asyncio.CancelledError:
            if client.gone:
                raise ClientGoneError from None
            raise
        finally:
            self.waiting -= 1
            client.poll = None

    def _checked(self, request: Mapping[str, Any], found: dict[str, Any]) -> dict[str, Any]:
        """What was received, where there still is room for it."""
        try:
            self._room.check()
        except SqsError:
            self._engine.give_back(request["QueueUrl"], [one["ReceiptHandle"] for one in found.get("Messages", ())])
            raise
        return found
