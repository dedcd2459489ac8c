"""Writes of event loops, in the loop's own thread where that takes no waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fanfold.connection_thread import Operation
from fanfold.database import Database, PromptJob, Unflushed
from fanfold.engine.polling import attended

T = TypeVar("T")

_SLOW: Final = 0.005
"""Seconds that a commit may take on average before the loop leaves them to the writer's thread."""
_SMOOTHED: Final = 16
_REST: Final = 64
"""Commits that the writer's thread makes before the loop tries again."""
_ELSEWHERE: Final = object()

_Waiting = tuple[Operation[Any], "asyncio.Future[Any]", Operation[Any] | None]
"""What was asked for, who waits, and what is run instead where nothing else is."""


class Commits:
    """Commits for event loops.

    1. What the tasks of one turn of a loop ask for is one transaction, and shares one flush.
    2. It runs in the loop's own thread: to hand it to another one and back takes as long as the transaction.
    3. Where it would wait (for a process, or the writer's thread), where it fails, and where the disk is slow, that
       thread has it, and the loop goes on.
    4. What is alone in its commit may leave a part of its work for later; that part is done when the answer is out.

    It never answers before the commit.
    """

    def __init__(
        self,
        database: Database,
        afterwards: Operation[None] = lambda _: None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`afterwards` does what lone operations have left; it may be done by others, and by nobody for a while."""
        self._database = database
        self._afterwards = Unflushed(afterwards)
        self._timer = timer
        self._waiting: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        self._average = 0.0
        self._rest = 0
        self._flushed = True
        self._followed = {True: True, False: True}
        """Whether the last lone operation was flushed, and whether what came after one that was, or wasn't, was."""

    async def write(
        self,
        operation: Operation[T],
        unattended: Callable[[T], object] = lambda _: None,
        lone: Operation[T] | None = None,
    ) -> T:
        """Run an operation, or `lone` instead where it is alone in its commit.

        `unattended` gets the result where whoever called is gone when it is there.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if loop not in self._waiting:
            self._waiting[loop] = []
            loop.call_soon(self._commit, loop)
        self._waiting[loop].append((operation, future, lone))
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
        waiting = [one for one in self._waiting.pop(loop) if not one[1].done()]
        lone = waiting[0][2] if len(waiting) == 1 else None
        jobs = [one[:2] for one in waiting] if lone is None else [(lone, waiting[0][1])]
        if not jobs:
            return
        try:
            done = self._at_once(jobs)
        except BaseException:  # a signal's handler raised: whether it was committed isn't known
            for _, future in jobs:
                future.cancel()
            raise
        if not done:
            for _, future in jobs:
                future.set_result(_ELSEWHERE)
        elif lone is not None:
            flushed = not isinstance(lone, Unflushed)
            self._followed[self._flushed], self._flushed = flushed, flushed
            # In the next turn whoever waited writes the answer, in the one after that it is on its way.
            loop.call_soon(loop.call_soon, self._finish, loop)

    def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do what a lone operation has left, unless somebody writes: who does, or comes next, does that first."""
        if loop not in self._waiting:
            self._database.write_at_once([(self._afterwards, loop.create_future())])
            self._database.expect(flushes=self._followed[self._flushed])

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
