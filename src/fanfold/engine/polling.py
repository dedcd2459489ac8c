"""Long polls: a receive that finds nothing costs nothing while it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fanfold.clock import Clock
from fanfold.engine.doorbell import Bell, Doorbell

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Generic[T]):
    """What a receive found, and when the next message can be received: seconds since the epoch, None for never."""

    found: list[T]
    ready_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Generic[T]):
    """A queue to poll: a receive, and the cheaper question when a receive can find something."""

    queue: int
    receive: Callable[[], Awaitable[Look[T]]]
    ready_at: Callable[[], Awaitable[float | None]]


class LongPolls:
    """Waiting receives. Each wakes on a change of its queue, when the next lease ends, and on `end`."""

    def __init__(self, doorbell: Doorbell, clock: Clock) -> None:
        self._doorbell = doorbell
        self._clock = clock
        self._ended = 0

    def end(self) -> None:
        """Answer waiting receives now, with nothing."""
        self._ended += 1
        self._doorbell.ring_all()

    async def receive(self, source: Source[T], wait: float) -> list[T]:
        """Receive, waiting so many seconds at most for the first message."""
        if wait <= 0:
            return (await source.receive()).found
        ended = self._ended  # before the first look: an end that comes during it must not be missed
        with self._doorbell.listen(source.queue) as bell:
            rings, look = bell.rings, await source.receive()
            if look.found:
                return look.found
            over = asyncio.ensure_future(self._clock.sleep(wait))
            try:
                while not look.found and not over.done() and ended == self._ended:
                    await self._pause(source.queue, bell, rings, look.ready_at, over)
                    if ended == self._ended:
                        rings, look = bell.rings, await self._look_again(source)
                if not look.found and over.done() and ended == self._ended:
                    look = await source.receive()  # what became visible as the wait ended
            finally:
                over.cancel()
            return look.found

    async def _look_again(self, source: Source[T]) -> Look[T]:
        """A look that takes the writer only where there is something."""
        ready_at = await source.ready_at()
        if ready_at is not None and ready_at <= self._clock.now():
            return await source.receive()
        return Look(found=[], ready_at=ready_at)

    async def _pause(
        self, queue: int, bell: Bell, rings: int, ready_at: float | None, over: asyncio.Future[None]
    ) -> None:
        """Wait for a ring, the end of the wait, or the next lease's end."""
        minds = self._doorbell.found_nothing(queue, bell, rings, ready_at)
        waits: list[asyncio.Future[None]] = [asyncio.ensure_future(bell.wait())]
        if ready_at is not None and minds:
            waits.append(asyncio.ensure_future(self._clock.sleep(ready_at - self._clock.now())))
        try:
            await asyncio.wait([over, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in waits:
                future.cancel()
