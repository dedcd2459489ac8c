"""Receives whose client may go away while they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fanfold.endpoint.reading import ClientGoneError, Receive, gone
from fanfold.engine.service import CallContext


class Receiver(Protocol):
    """The engine, as far as receives go: `SqsEngine`."""

    async def call(self, action: str, request: Mapping[str, Any], context: CallContext) -> dict[str, Any]:
        """Do one action of the SQS API. Raises SqsError. Where a receive is cancelled, it has taken nothing."""

    async def give_back(self, queue_url: str, receipt_handles: Sequence[str]) -> None:
        """Undo a receive: visible at once, and as often received as before. Never raises for a stale handle."""


class Polls:
    """Calls `ReceiveMessage` for clients.

    1. While a call waits, its connection is watched.
    2. A client that goes away ends its call; what was received for it in that moment goes back, as if it had never
       been received. On SQS it would stay away for its visibility timeout, and have used up one of its receives.

    A client whose going away nobody could see yet (a pulled cable) has what was sent to it, as on SQS.
    """

    def __init__(self, engine: Receiver) -> None:
        self._engine = engine
        self.waiting = 0

    async def receive(self, request: Mapping[str, Any], context: CallContext, receive: Receive) -> dict[str, Any]:
        """The answer. Raises SqsError, and ClientGoneError where there is nobody to answer."""
        poll = asyncio.ensure_future(self._engine.call("ReceiveMessage", request, context))
        leaving = asyncio.ensure_future(gone(receive))
        leaving.add_done_callback(lambda _: poll.cancel())
        self.waiting += 1
        try:
            return await self._unless_gone(poll, leaving, str(request.get("QueueUrl", "")))
        finally:
            self.waiting -= 1
            leaving.cancel()
            poll.cancel()

    async def _unless_gone(
        self, poll: asyncio.Future[dict[str, Any]], leaving: asyncio.Future[None], queue_url: str
    ) -> dict[str, Any]:
        try:
            answer = await poll
        except asyncio.CancelledError:
            if leaving.done():
                raise ClientGoneError from None
            raise
        if leaving.done():
            handles = [message["ReceiptHandle"] for message in answer.get("Messages", ())]
            await self._engine.give_back(queue_url, handles)
            raise ClientGoneError
        return answer
