"""Long polls: a receive that finds nothing costs nothing while it waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from fanfold.clock import Clock
from fanfold.engine.doorbell import Bell, Doorbell, Seen

T = TypeVar("T")

_ENDS_PER_SECOND: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Generic[T]):
    """What a receive found, and when the next message can be received: seconds since the epoch, None for never.

    `wait` is how long the queue itself lets a receive wait, in seconds.
    """

    found: list[T]
    ready_at: float | None
    wait: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Generic[T]):
    """A queue to poll: a receive, and the cheaper question when a receive can find something.

    `particular`: this receive may find what others don't, so that their looks say nothing about it.
    """

    queue: str
    receive: Callable[[], Awaitable[Look[T]]]
    ready_at: Callable[[], Awaitable[float | None]]
    particular: bool = False


async def attended(future: Future[T], unattended: Callable[[T], object]) -> T:
    """The result of a receive; where whoever asked goes away before it comes, `unattended` gets it, in any thread."""
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.add_done_callback(lambda f: None if f.cancelled() or f.exception() else unattended(f.result()))
        raise


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

    async def receive(self, source: Source[T], wait: float | None) -> list[T]:
        """Receive, waiting so many seconds for the first message; None waits as long as the queue says.

        A wait may take a tenth of a second more.
        """
        if wait is not None and wait <= 0:
            return (await source.receive()).found
        ended = self._ended  # before the first look: an end that comes during it must not be missed
        if wait is None:
            look = await source.receive()
            if look.found or look.wait <= 0:
                return look.found
            wait = look.wait
        with self._doorbell.listen(source.queue) as bell:
            seen, look = bell.seen, await self._first_look(source, bell)
            if look.found:
                return look.found
            over = asyncio.ensure_future(self._clock.sleep(self._rounded(wait)))
            over.add_done_callback(bell.nudge)
            try:
                while not look.found and not over.done() and ended == self._ended:
                    await self._pause(bell, seen, look.ready_at, over)
                    if ended == self._ended and not over.done():
                        seen, look = bell.seen, await self._look_again(source)
                if look.found or ended != self._ended or self._doorbell.quiet(bell, self._clock.now()):
                    return look.found
                return (await source.receive()).found  # what became visible as the wait ended
            finally:
                over.cancel()

    def _rounded(self, wait: float) -> float:
        """A wait that ends at the next tenth of a second, so that thousands end together and wake the loop once."""
        now = self._clock.now()
        return math.ceil((now + wait) * _ENDS_PER_SECOND) / _ENDS_PER_SECOND - now

    async def _first_look(self, source: Source[T], bell: Bell) -> Look[T]:
        if not source.particular and self._doorbell.quiet(bell, self._clock.now()):
            return Look(found=[], ready_at=bell.line.ready_at)
        return await source.receive()

    async def _look_again(self, source: Source[T]) -> Look[T]:
        """A look that takes the writer only where there is something."""
        ready_at = await source.ready_at()
        if ready_at is not None and ready_at <= self._clock.now():
            return await source.receive()
        return Look(found=[], ready_at=ready_at)

    async def _pause(self, bell: Bell, seen: Seen, ready_at: float | None, over: asyncio.Future[None]) -> None:
        """Wait for a ring, the end of the wait, or the next lease's end."""
        if not self._doorbell.found_nothing(bell, seen, ready_at) or ready_at is None:
            await bell.wait(over.done)
            return
        alarm = asyncio.ensure_future(self._clock.sleep(ready_at - self._clock.now()))
        alarm.add_done_callback(bell.nudge)
        try:
            await bell.wait(lambda: over.done() or alarm.done())
        finally:
            alarm.cancel()
