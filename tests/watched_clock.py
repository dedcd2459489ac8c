"""A clock for tests that wait for sleepers and not for time."""

from __future__ import annotations

import asyncio

from fanfold.testing import FakeClock


class WatchedClock(FakeClock):
    """A clock that tells when somebody falls asleep or wakes; for one event loop."""

    def __init__(self):
        super().__init__()
        self._changed = asyncio.Event()

    async def sleep(self, seconds):
        asyncio.get_running_loop().call_soon(self._changed.set)
        try:
            await super().sleep(seconds)
        finally:
            self._changed.set()

    async def until(self, condition):
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def until_asleep(self, count=1):
        await self.until(lambda: self.sleepers >= count)

    async def until_awake(self):
        await self.until(lambda: not self.sleepers)

    def next_alarm(self):
        """Seconds until the first sleeper wakes."""
        return min((at for at, _ in self._sleepers.values()), default=float("inf")) - self.now()
