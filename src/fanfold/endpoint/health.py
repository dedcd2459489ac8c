"""`GET /health`: whether the queue's file answers, and how much is in it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Final

from fanfold import __version__
from fanfold.clock import Clock
from fanfold.endpoint.exchange import Response
from fanfold.endpoint.polls import Receiver
from fanfold.engine.errors import SqsError
from fanfold.engine.service import CallContext
from fanfold.errors import FanfoldError

logger: Final = logging.getLogger("fanfold.endpoint")

_FRESH: Final = 1.0
"""Seconds for which an answer is good: whoever asks more often costs nothing."""
_COUNTED: Final = 100
"""Queues that are looked into; with more than that only their number is told."""
_COUNTS: Final = {
    "available": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


class Health:
    """Answers with the server's state as JSON; 503 where the file can't be read. Tells no names: anybody may ask."""

    def __init__(self, engine: Receiver, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._started = clock.now()
        self._asked = -_FRESH
        self._answer: asyncio.Task[tuple[int, dict[str, Any]]] | None = None

    async def __call__(self, polls: int) -> Response:
        """The answer, with so many waiting polls; one look at the file serves all who ask within a second."""
        now = asyncio.get_running_loop().time()
        if self._answer is None or (self._answer.done() and now - self._asked > _FRESH):
            self._asked, self._answer = now, asyncio.create_task(self._look())
        status, found = await asyncio.shield(self._answer)
        seconds = round(self._clock.now() - self._started, 3)
        whole = {"version": __version__, "seconds": seconds, "polls": polls, **found}
        return Response(status, json.dumps(whole).encode(), {"content-type": "application/json"})

    async def _look(self) -> tuple[int, dict[str, Any]]:
        try:
            urls = (await self._engine.call("ListQueues", {}, CallContext(""))).get("QueueUrls", [])
            counts = [await self._counts(url) for url in urls] if len(urls) <= _COUNTED else []
        except FanfoldError as error:
            logger.warning("health: %s", error)
            return 503, {"status": "unavailable"}
        messages = {name: sum(count[name] for count in counts) for name in _COUNTS}
        return 200, {"status": "ok", "queues": len(urls), **({"messages": messages} if len(urls) <= _COUNTED else {})}

    async def _counts(self, url: str) -> dict[str, int]:
        request = {"QueueUrl": url, "AttributeNames": list(_COUNTS.values())}
        try:
            attributes = (await self._engine.call("GetQueueAttributes", request, CallContext("")))["Attributes"]
        except SqsError:
            attributes = {}  # deleted in the meantime
        return {name: int(attributes.get(attribute, 0)) for name, attribute in _COUNTS.items()}
