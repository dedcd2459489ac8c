"""What a test can wait for: a worker's word, and its heart's beat."""

from __future__ import annotations

import asyncio

from fanfold.testing import FakeClock


class HeartClock(FakeClock):
    """Moved by hand, from one beat of a worker's heart to the next. For the event loop in which it is made."""

    def __init__(self):
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._asleep = asyncio.Semaphore(0)

    async def sleep(self, seconds):
        if asyncio.current_task().get_name() == "fanfold-beat":
            self._watcher = asyncio.create_task(self._falls_asleep())
        await super().sleep(seconds)

    async def heart_sleeps(self):
        """Return when the heart waits for its next beat, and has its answers to what it asked in the last one."""
        await self._asleep.acquire()

    async def _falls_asleep(self):
        if asked := {task for task in asyncio.all_tasks() if task.get_name() == "fanfold-extend"}:
            await asyncio.wait(asked)
        self._loop.call_soon_threadsafe(self._asleep.release)


class Events:
    """What an application's parts say from now on."""

    def __init__(self, app):
        self._loop = asyncio.get_running_loop()
        self._seen = {}
        app.subscribe(lambda event: self._loop.call_soon_threadsafe(self._of(event.name).set))

    async def until(self, name):
        """Return when it has been said; at once if it was already."""
        await self._of(name).wait()

    def _of(self, name):
        return self._seen.setdefault(name, asyncio.Event())
