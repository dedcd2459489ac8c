"""Looking through a queue: every message once, and nothing taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from types import TracebackType
from typing import Final, Self

from fanfold import limits
from fanfold.brokers.protocol import Queue
from fanfold.errors import PermissionMissingError
from fanfold.model import Delivery

HOLD: Final = 300.0
"""Seconds for which what was seen is held, so that it isn't seen again: longer than looking through 120,000 takes."""
_PEEK: Final = 500
_AT_ONCE: Final = 16
"""Receives under way at once, where those before came back full."""
_PAGE: Final = _AT_ONCE * limits.MAX_BATCH_ENTRIES
_LAST_LOOK: Final = 1.0
"""Seconds of the long poll that ends a look: a short poll asks only some of SQS's servers."""
_MANY: Final = 1_000
"""Seen so many, the queue's counts may say that this is all. They lag by a minute, which hides what came just now."""


class Browse:
    """Goes through a queue once, page by page.

    1. A queue that can be read without receiving is read, unless its messages are to be worked on (`direct=False`).
    2. From others messages are received, several requests at once, and held: so each is seen once. While a page is
       looked at, the next ones are on their way.
    3. Where nothing comes any more, a long poll has the last word, or, after many messages, the queue's counts.
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
        self._under_way: dict[asyncio.Future[list[Delivery]], int] = {}
        self._patience: float | None = None
        self._counted: int | None = None
        self.seen = 0

    @property
    def hidden(self) -> int:
        """Messages that were there and could not be seen, once all that could be has been; 0 where nobody counts."""
        return max(0, self._counted - self.seen) if self._counted is not None else 0

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Give back what is held, and what is still on its way."""
        if self._under_way:
            await asyncio.wait(self._under_way)
            for receive in self._under_way:
                if not receive.cancelled():
                    receive.exception()  # whoever left early doesn't want to know
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
        if self._limit is None:
            self._counted = await self._count()

    async def late(self) -> AsyncIterator[Sequence[Delivery]]:
        """The rest, for which a long poll asks; after `at_once`. Nothing may be given back before it has ended."""
        if self.seen >= _MANY and self._counted is not None and self._counted <= self.seen:
            return
        while self._patience is not None and (size := self._room(limits.MAX_BATCH_ENTRIES)):
            self._ask(size, wait=self._patience)
            page = [new for _, _, some in await self._answered() for new in some]
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
        """Short polls, several under way, until one brings nothing new."""
        page: list[Delivery] = []
        width, dry = 1, False
        while True:
            while not dry and len(self._under_way) < width and (size := self._room(limits.MAX_BATCH_ENTRIES)):
                self._ask(size)
            if not self._under_way:
                break
            for asked, got, new in await self._answered():
                page += new
                dry = dry or not new
                width = min(2 * width, _AT_ONCE) if got == asked else 1
            if len(page) >= _PAGE or (page and not self._under_way):
                yield page
                page = []

    def _ask(self, size: int, *, wait: float = 0.0) -> None:
        """Begin a receive: it ends, and what it brings is held, whatever becomes of whoever waits for it."""
        self._under_way[asyncio.ensure_future(self._receive(size, wait))] = size

    async def _answered(self) -> list[tuple[int, int, list[Delivery]]]:
        """Wait for some receives: how many messages each was asked for, how many it brought, and the new ones."""
        done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        answers = [(self._under_way.pop(one), one.result()) for one in list(self._under_way) if one in done]
        return [(asked, len(got), self._new(got)) for asked, got in answers]

    async def _receive(self, size: int, wait: float) -> list[Delivery]:
        got = await self._queue.receive(size, wait=wait, lease=self._hold)
        self._held |= {delivery.message_id: delivery for delivery in got}
        return got

    def _new(self, got: Sequence[Delivery]) -> list[Delivery]:
        """What wasn't seen before. Nothing: the queue is empty, or this takes longer than the hold and begins anew."""
        new = {delivery.message_id: delivery for delivery in got if delivery.message_id not in self._known}
        self._known.update(new)
        self.seen += len(new)
        return list(new.values())

    async def _count(self) -> int | None:
        try:
            counts = await self._queue.status()
        except PermissionMissingError:
            return None
        return counts.messages_available + counts.messages_in_flight + counts.messages_delayed

    def _room(self, most: int) -> int:
        """How many more may be asked for, at most so many."""
        asked = self.seen + sum(self._under_way.values())
        return most if self._limit is None else max(0, min(most, self._limit - asked))


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
