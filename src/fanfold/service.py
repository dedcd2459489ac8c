"""One lifecycle for everything that runs: start, stop, wait."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any


class Deadline:
    """One point in time, on the running loop's clock, that all children of a stop share."""

    def __init__(self, seconds: float) -> None:
        self._at = asyncio.get_running_loop().time() + seconds
        self._now = asyncio.Event()

    def earlier(self, seconds: float) -> Deadline:
        """A deadline so many seconds before this one, brought forward with it."""
        deadline = Deadline(self._at - seconds - asyncio.get_running_loop().time())
        deadline._now = self._now
        return deadline

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return 0.0 if self._now.is_set() else max(0.0, self._at - asyncio.get_running_loop().time())

    def bring_forward(self) -> None:
        """Let the deadline be now (the second signal)."""
        self._now.set()

    async def wait(self, tasks: Iterable[asyncio.Future[Any]]) -> bool:
        """Wait for all `tasks`, at most until the deadline; answers whether all are done."""
        pending = set(tasks)
        if not pending:
            return True
        done = asyncio.ensure_future(asyncio.wait(pending))
        hurried = asyncio.ensure_future(self._now.wait())
        await asyncio.wait({done, hurried}, timeout=self.remaining, return_when="FIRST_COMPLETED")
        done.cancel()
        hurried.cancel()
        return all(task.done() for task in pending)


class Service(ABC):
    """Something that runs until it is stopped.

    1. `start` brings it up, once, however often it is called.
    2. `stop` brings it down by a deadline, once; a later call waits for the first.
    3. `wait` returns when it has stopped, and raises what ended it if it failed.
    """

    def __init__(self) -> None:
        self._started = False
        self._stopping: asyncio.Task[None] | None = None
        self._done = asyncio.Event()
        self._failure: BaseException | None = None

    async def start(self) -> None:
        """Bring the service up. Idempotent."""
        if not self._started:
            self._started = True
            await self._start()

    async def stop(self, deadline: Deadline | None = None) -> None:
        """Bring the service down by `deadline` (30 seconds unless given). Idempotent, and safe before `start`."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop_once(deadline or Deadline(30)))
        await asyncio.shield(self._stopping)

    async def wait(self) -> None:
        """Return when the service has stopped; raise its failure if it had one."""
        await self._done.wait()
        if self._failure is not None:
            raise self._failure

    async def _stop_once(self, deadline: Deadline) -> None:
        try:
            if self._started:
                await self._stop(deadline)
        finally:
            self._done.set()

    @abstractmethod
    async def _start(self) -> None: ...

    @abstractmethod
    async def _stop(self, deadline: Deadline) -> None: ...
