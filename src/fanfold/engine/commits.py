"""Writes of event loops, in the loop's own thread where that takes no waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fanfold.connection_thread import Operation
from fanfold.database import Database, PromptJob
from fanfold.engine.polling import attended

T = TypeVar("T")

_SLOW: Final = 0.005
"""Seconds that a commit may take on average before the loop leaves them to the writer's thread."""
_SMOOTHED: Final = 16
_REST: Final = 64
"""Commits that the writer's thread makes before the loop tries again."""
_ELSEWHERE: Final = object()


class Commits:
    """Commits for event loops.

    1. What the tasks of one turn of a loop ask for is one transaction, and shares one flush.
    2. It runs in the loop's own thread: to hand it to another one and back takes as long as the transaction.
    3. Where it would wait (for a process, or the writer's thread), where it fails, and where the disk is slow, that
       thread has it, and the loop goes on.

    It never answers before the commit.
    """

    def __init__(self, database: Database, timer: Callable[[], float] = time.perf_counter) -> None:
        self._database = database
        self._timer = timer
        self._waiting: dict[asyncio.AbstractEventLoop, list[PromptJob]] = {}
        self._average = 0.0
        self._rest = 0

    async def write(self, operation: Operation[T], unattended: Callable[[T], object] = lambda _: None) -> T:
        """Run an operation; `unattended` gets its result where whoever called is gone when it is there."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if loop not in self._waiting:
            self._waiting[loop] = []
            loop.call_soon(self._commit, loop)
        self._waiting[loop].append((operation, future))
        try:
            result = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result() is not _ELSEWHERE:
                unattended(future.result())
            raise
        if result is _ELSEWHERE:
            return await attended(self._database.write(operation), unattended)
        done: T = result
        return done

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        jobs = [job for job in self._waiting.pop(loop) if not job[1].done()]
        if not jobs or self._at_once(jobs):
            return
        for _, future in jobs:
            future.set_result(_ELSEWHERE)

    def _at_once(self, jobs: list[PromptJob]) -> bool:
        if self._rest:
            self._rest -= 1
            return False
        started = self._timer()
        done = self._database.write_at_once(jobs)
        self._average += (self._timer() - started - self._average) / _SMOOTHED
        if self._average > _SLOW:
            self._average, self._rest = 0.0, _REST
        return done
