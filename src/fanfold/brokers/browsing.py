"""Looking through a queue: every message once, and nothing taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Final, Self

from fanfold import limits
from fanfold.brokers.protocol import Queue
from fanfold.model import Delivery

HOLD: Final = 300.0
"""Seconds for which what was seen is held, so that it isn't seen again: longer than looking through 120,000 takes."""
_PEEK: Final = 500
_AT_ONCE: Final = 16
"""Receives under way at once, where those before came back full."""
_LAST_LOOK: Final = 1.0
"""Seconds of the long poll that ends a look: a short poll asks only some of SQS's servers."""


class Browse:
    """Goes through a queue once, page by page.

    1. A queue that can be read without receiving is read, unless its messages are to be worked on (`direct=False`).
    2. From others messages are received, several requests at once, and held: so each is seen once.
    3. When it is left, however that comes about, what is still held is given back at once.

    Of one group, SQS hands out ten messages and no more while they are held: what stands behind is not seen.
    """

    def __init__(self, queue: Queue, *, hold: float = HOLD, direct: bool = True, limit: int | None = None) -> None:
        """Look through `queue`, at `limit` messages at most; `hold` is in seconds."""
        self._queue = queue
        self._hold = hold
        self._direct = direct
        self._limit = limit
        self._held: dict[str, Delivery] = {}
        self.seen = 0

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Give back what is held."""
        await asyncio.shield(self.give_back())

    async def pages(self) -> AsyncIterator[Sequence[Delivery]]:
        """The queue's messages; no page is empty."""
        first = await self._queue.peek(self._room(_PEEK))
        if first is not None and self._direct:
            pages = self._read(first)
        else:
            pages = self._received(last_look=_LAST_LOOK if first is None else 0.0)
        async for page in pages:
            self.seen += len(page)
            yield page

    def forget(self, message_ids: Iterable[str]) -> None:
        """Don't give these back: they were deleted, or are to stay held."""
        for message_id in message_ids:
            self._held.pop(message_id, None)

    async def keep(self, message_ids: Iterable[str]) -> None:
        """Give back at once whatever else is held; the look is over."""
        kept = {key: self._held.pop(key) for key in message_ids if key in self._held}
        rest, self._held = list(self._held.values()), kept
        await asyncio.shield(self._queue.extend(rest, [0.0] * len(rest)))

    async def give_back(self) -> None:
        """Let others receive at once what is held."""
        held, self._held = list(self._held.values()), {}
        await self._queue.extend(held, [0.0] * len(held))

    async def _read(self, page: list[Delivery] | None) -> AsyncIterator[Sequence[Delivery]]:
        while page:
            yield page
            if self._room(1) == 0:
                return
            page = await self._queue.peek(self._room(_PEEK), after=page[-1])

    async def _received(self, *, last_look: float) -> AsyncIterator[Sequence[Delivery]]:
        requests, known = 1, set[str]()
        while self._room(1):
            got = await self._receive(requests) or await self._receive(1, wait=last_look)
            new = [delivery for delivery in got if delivery.message_id not in known]
            if not new:
                return  # empty; or the first ones are back already, since this has taken longer than the hold
            known.update(delivery.message_id for delivery in new)
            full = len(got) == requests * limits.MAX_BATCH_ENTRIES
            yield new
            requests = min(2 * requests, _AT_ONCE) if full else 1

    async def _receive(self, requests: int, *, wait: float = 0.0) -> list[Delivery]:
        wanted, most = self._room(requests * limits.MAX_BATCH_ENTRIES), limits.MAX_BATCH_ENTRIES
        sizes = [min(most, wanted - at) for at in range(0, wanted, most)]
        receives = [asyncio.ensure_future(self._queue.receive(size, wait=wait, lease=self._hold)) for size in sizes]
        try:
            await asyncio.wait(receives)
        except asyncio.CancelledError:
            await asyncio.wait(receives)  # what they bring must be given back, too
            raise
        finally:
            brought = [r.result() for r in receives if r.done() and not r.cancelled() and r.exception() is None]
            self._held |= {delivery.message_id: delivery for batch in brought for delivery in batch}
        return [delivery for receive in receives for delivery in receive.result()]

    def _room(self, most: int) -> int:
        """How many more may be seen, at most so many."""
        return most if self._limit is None else max(0, min(most, self._limit - self.seen))


async def browsed(queue: Queue, limit: int, *, hold: float = 0.0) -> list[Delivery]:
    """Up to `limit` messages of a queue; with `hold` they stay held for so many seconds, else nothing is."""
    found: list[Delivery] = []
    async with Browse(queue, hold=hold or HOLD, direct=not hold, limit=limit) as browse:
        async for page in browse.pages():
            found += page
        if hold:
            browse.forget([delivery.message_id for delivery in found])
    return found
