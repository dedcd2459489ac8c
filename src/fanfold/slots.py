"""Slots: how much a worker takes on."""

from __future__ import annotations

import asyncio


class Slots:
    """Counts free slots and lets one poller at a time wait for some. For one event loop."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.free = size
        self._waiter: asyncio.Future[None] | None = None

    async def take(self, limit: int, *, linger: float) -> int:
        """Take up to `limit` free slots, at least one.

        Where fewer than `limit` are free while others are busy, it waits up to `linger` seconds for more: ten messages
        in one request cost a tenth of ten requests.
        """
        wanted = min(limit, self.size)
        while not self.free:
            await self._wait(None)
        if self.free < wanted and linger:
            await self._wait_for(wanted, linger)
        taken = min(wanted, self.free)
        self.free -= taken
        return taken

    def give_back(self, count: int = 1) -> None:
        """Free `count` slots."""
        self.free += count
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait_for(self, wanted: int, linger: float) -> None:
        deadline = asyncio.get_running_loop().time() + linger
        while self.free < wanted:
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0 or not await self._wait(remaining):
                return

    async def _wait(self, seconds: float | None) -> bool:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._waiter
        except TimeoutError:
            return False
        finally:
            self._waiter = None
        return True
