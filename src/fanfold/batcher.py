"""Company for single calls: what comes together costs one request."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_Added = tuple[T, "asyncio.Future[R] | None"]
"""An item, and the answer that somebody waits for."""


class Batcher(Generic[T, R]):
    """Collects items and hands them to `flush` together; each caller gets its own item's answer.

    A batch leaves when it has `size` items, when its first item has waited `linger` seconds, or, with `linger` 0 or
    when one won't wait, at the end of the loop's current round: what is added in one go goes together.
    Several batches may be under way. For one event loop.
    """

    def __init__(self, flush: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, size: int, linger: float) -> None:
        self._flush = flush
        self._size = size
        self._linger = linger
        self._waiting: list[_Added[T, R]] = []
        self._timer: asyncio.Handle | None = None
        self._soon = False
        self._under_way: set[asyncio.Task[None]] = set()
        self._context = contextvars.copy_context()

    async def add(self, item: T, *, wait: bool = True) -> R:
        """Hand `item` on with others; returns its answer, or raises what the whole batch failed with.

        Without `wait`, what has gathered leaves with it as soon as the loop's round ends.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._put(item, answer, wait=wait)
        return await answer

    def hand_over(self, item: T, *, wait: bool = True) -> None:
        """Hand `item` on with others, and wait for no answer."""
        self._put(item, None, wait=wait)

    @property
    def idle(self) -> bool:
        """Whether everything that was added has its answer."""
        return not (self._waiting or self._under_way)

    def _put(self, item: T, answer: asyncio.Future[R] | None, *, wait: bool) -> None:
        self._waiting.append((item, answer))
        if len(self._waiting) >= self._size:
            self.flush_now()
        elif not (wait and self._linger):
            self._flush_soon()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger, self.flush_now)

    def _flush_soon(self) -> None:
        if not self._soon:
            self._soon = True
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_soon(self.flush_now)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def flush_now(self) -> None:
        """Send what waits on its way."""
        self._stop_timer()
        self._soon = False
        if self._waiting:
            batch, self._waiting = self._waiting, []
            # Not in the context of whoever happened to add the last item: what a task sets there is its own.
            task = asyncio.get_running_loop().create_task(self._send(batch), context=self._context.copy())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def drain(self) -> None:
        """Return when everything that was added has its answer."""
        self.flush_now()
        while self._under_way:
            await asyncio.wait(self._under_way)

    def cancel(self) -> None:
        """Give up what is under way or waits; its callers are cancelled."""
        self._stop_timer()
        self._soon = False
        for task in self._under_way:
            task.cancel()
        for _, answer in self._waiting:
            if answer is not None:
                answer.cancel()
        self._waiting.clear()

    async def _send(self, batch: Sequence[_Added[T, R]]) -> None:
        try:
            answers = await self._flush([item for item, _ in batch])
            answered = list(
                zip(batch, answers, strict=True)
            )  # in here: an answer too few must not leave anyone waiting
        except asyncio.CancelledError:
            for _, future in batch:
                if future is not None:
                    future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - the failure belongs to everyone in the batch
            for _, future in batch:
                if future is not None and not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in answered:
                if future is not None and not future.done():
                    future.set_result(answer)
