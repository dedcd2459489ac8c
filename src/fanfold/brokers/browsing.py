"""Looking through a queue: every message once, and nothing taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
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
    2. From others messages are received, several requests at once, and held: so each is seen once. While a page is
       looked at, the next one is on its way.
    3. Where nothing comes any more, a long poll has the last word.
    4. When it is left, however that comes about, what is still held is given back at once.

    Of one group, SQS hands out ten messages and no more while they are held: what stands behind is not seen.
    """

    def __init__(self, queue: Queue, *, hold: float = HOLD, direct: bool = True, limit: int | None = None) -> None:
        """Look through `queue`, at `limit` messages at most; `hold` is in seconds."""
        self._queue = queue
        self._hold = hold
        self._direct = direct
        self._limit = limit
        self._held: dict[str, Delivery] = {}
        self._known: set[str] = set()
        self._ahead: asyncio.Future[list[Delivery]] | None = None
        self._patience: float | None = None
        self.seen = 0

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Give back what is held, and what is still on its way."""
        if self._ahead is not None:
            await asyncio.wait([self._ahead])
            if not self._ahead.cancelled():
                self._ahead.exception()  # whoever left early doesn't want to know
        await whole(self.give_back())

    async def pages(self) -> AsyncIterator[Sequence[Delivery]]:
        """The queue's messages; no page is empty."""
        async for page in self.at_once():
            yield page
        async for page in self.late():
            yield page

    async def at_once(self) -> AsyncIterator[Sequence[Delivery]]:
        """What comes without waiting: on Amazon SQS all, or nearly all, since a short poll asks some of its servers."""
        first = await self._queue.peek(self._room(_PEEK))
        if first is not None and self._direct:
            pages = self._read(first)
        else:
            self._patience = _LAST_LOOK if first is None else 0.0
            pages = self._received()
        async for page in pages:
            yield page

    async def late(self) -> AsyncIterator[Sequence[Delivery]]:
        """The rest, for which a long poll asks; after `at_once`. Nothing may be given back before it has ended."""
        while self._patience is not None and self._room(1):
            page = self._new(await self._receive(1, wait=self._patience))
            if not page:
                return
            yield page
            async for more in self._received():
                yield more

    def forget(self, message_ids: Iterable[str]) -> None:
        """Don't give these back: they were deleted, or are to stay held."""
        for message_id in message_ids:
            self._held.pop(message_id, None)

    async def keep(self, message_ids: Iterable[str]) -> None:
        """Give back at once whatever else is held; the look is over."""
        kept = {key: self._held.pop(key) for key in message_ids if key in self._held}
        rest, self._held = list(self._held.values()), kept
        await whole(self._queue.extend(rest, [0.0] * len(rest)))

    async def give_back(self) -> None:
        """Let others receive at once what is held."""
        held, self._held = list(self._held.values()), {}
        await self._queue.extend(held, [0.0] * len(held))

    async def _read(self, page: list[Delivery] | None) -> AsyncIterator[Sequence[Delivery]]:
        while page:
            self.seen += len(page)
            yield page
            if self._room(1) == 0:
                return
            page = await self._queue.peek(self._room(_PEEK), after=page[-1])

    async def _received(self) -> AsyncIterator[Sequence[Delivery]]:
        """Short polls, one round ahead, until one brings nothing new."""
        requests, ahead = 1, self._begin(1)
        while ahead is not None:
            got = await ahead
            page = self._new(got)
            if not page:
                return
            full = len(got) == requests * limits.MAX_BATCH_ENTRIES
            requests = min(2 * requests, _AT_ONCE) if full else 1
            ahead = self._begin(requests)
            yield page

    def _begin(self, requests: int) -> asyncio.Future[list[Delivery]] | None:
        self._ahead = asyncio.ensure_future(self._receive(requests)) if self._room(1) else None
        return self._ahead

    def _new(self, got: Sequence[Delivery]) -> list[Delivery]:
        """What wasn't seen before. Nothing: the queue is empty, or this takes longer than the hold and begins anew."""
        new = {delivery.message_id: delivery for delivery in got if delivery.message_id not in self._known}
        self._known.update(new)
        self.seen += len(new)
        return list(new.values())

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


async def whole(step: Awaitable[object]) -> None:
    """Let a step that has begun end, also when this is cancelled: half of one is what a crash leaves."""
    running = asyncio.ensure_future(step)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def browsed(queue: Queue, limit: int, *, hold: float = 0.0) -> list[Delivery]:
    """Up to `limit` messages of a queue; with `hold` they stay held for so many seconds, else nothing is."""
    found: list[Delivery] = []
    async with Browse(queue, hold=hold or HOLD, direct=not hold, limit=limit) as browse:
        async for page in browse.pages():
            found += page
        if hold:
            browse.forget([delivery.message_id for delivery in found])
    return found
