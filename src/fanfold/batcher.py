"""Company for single calls: what comes together costs one request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Collects items and hands them to `flush` together; each caller gets its own item's answer.

    A batch leaves when it has `size` items, when its first item has waited `linger` seconds, or when one won't wait.
    With `linger` 0 it leaves at the end of the loop's current round: what is added in one go goes together.
    Several batches may be under way. For one event loop.
    """

    def __init__(self, flush: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, size: int, linger: float) -> None:
        self._flush = flush
        self._size = size
        self._linger = linger
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._timer: asyncio.Handle | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def add(self, item: T, *, wait: bool = True) -> R:
        """Hand `item` on with others; returns its answer, or raises what the whole batch failed with.

        Without `wait`, what has gathered leaves with it at once.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, answer))
        if len(self._waiting) >= self._size or not wait:
            self.flush_now()
        elif self._timer is None:
            self._timer = (
                loop.call_later(self._linger, self.flush_now) if self._linger else loop.call_soon(self.flush_now)
            )
        return await answer

    def flush_now(self) -> None:
        """Send what waits on its way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            batch, self._waiting = self._waiting, []
            task = asyncio.create_task(self._send(batch))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def drain(self) -> None:
        """Return when everything that was added has its answer."""
        self.flush_now()
        while self._under_way:
            await asyncio.wait(self._under_way)

    def cancel(self) -> None:
        """Give up what is under way or waits; its callers are cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._under_way:
            task.cancel()
        for _, answer in self._waiting:
            answer.cancel()
        self._waiting.clear()

    async def _send(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._flush([item for item, _ in batch])
            answered = list(
                zip(batch, answers, strict=True)
            )  # in here: an answer too few must not leave anyone waiting
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - the failure belongs to everyone in the batch
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in answered:
                if not future.done():
                    future.set_result(answer)
