"""Runs under way: what can end them, and what becomes of one that doesn't end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from fanfold.context import Allowance
from fanfold.model import Failure, Task
from fanfold.outcome import Outcome, Retry

_TIDYING: Final = 1.0
"""Seconds in which a cancelled function should have tidied up; it isn't waited for any longer."""

OnLeft = Callable[["Run", Outcome | None], object]
"""Told of a run that doesn't end: what it has come to all the same, or None where it was interrupted."""


class Run(Allowance):
    """One run of a task, in an asyncio task of its own.

    1. `begin` binds it to the current asyncio task, `over` lets nothing end it any more.
    2. `expire` ends it for its time, `interrupt` because nobody wants it. The first of them counts, and cancels the
       asyncio task once.
    3. A function that goes on all the same is left over after a moment to tidy up: `on_left` is told, and what comes of
       it later counts for nothing.

    A plain function can't be ended: what goes on in a thread after its run is `leftover`.
    """

    task: Task | None = None
    """What runs, once that is known, and `attempt` which of its attempts this is."""
    attempt: int = 0
    expired: bool = False
    interrupted: bool = False
    late: Callable[[Run], Outcome] | None = None
    """What it has come to when it expires."""
    leftover: asyncio.Future[Any] | None = None
    on_left: OnLeft | None = None
    _over: bool = False
    _task: asyncio.Task[Any] | None = None

    def begin(self) -> None:
        """Run in the current asyncio task."""
        self._task = asyncio.current_task()

    def expire(self) -> None:
        """End it: its time is over."""
        if self._may_end():
            self.expired = True
            self._end()

    def interrupt(self) -> None:
        """End it: nobody wants what it does."""
        if self._may_end():
            self.interrupted = True
            self._end()

    def over(self) -> None:
        """Let nothing end it any more: the function has ended. Idempotent."""
        if not self._over:
            self._over = self.cancelled = True
            if (self.expired or self.interrupted) and self._task is not None:
                self._task.uncancel()

    @property
    def cancelled_itself(self) -> bool:
        """Whether the function has cancelled the asyncio task that it ran in."""
        return self._task is not None and self._task.cancelling() > 0

    async def calmed(self) -> Outcome:
        """What it has come to after that; the asyncio task can go on."""
        while self._task is not None and self._task.cancelling():
            self._task.uncancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return Retry(Failure(type="CancelledError", message="the task has cancelled the asyncio task that it ran in"))

    def _may_end(self) -> bool:
        return self._task is not None and not (self._over or self.expired or self.interrupted)

    def _end(self) -> None:
        self.cancelled = True
        if self._task is not None:
            self._task.cancel()
            self._task.get_loop().call_later(_TIDYING, self._leave)

    def _leave(self) -> None:
        if not self._over and self.on_left is not None:
            self.on_left(self, self.late(self) if self.expired and self.late is not None else None)


class Timeouts:
    """Ends each run at its deadline, with one timer for all. For one event loop at a time."""

    def __init__(self) -> None:
        self._runs: dict[Run, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, run: Run, now: float) -> None:
        """Let `run` expire at its deadline, which may still move away; `now` is that clock's time."""
        loop = asyncio.get_running_loop()
        shift = self._runs[run] = loop.time() - now
        if self._timer is None or self._timer.when() > run.deadline + shift or self._timer.cancelled():
            self._look_at(loop, run.deadline + shift)

    def forget(self, run: Run) -> None:
        """Let it be: it has ended."""
        self._runs.pop(run, None)

    def _look_at(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        ends = {run: run.deadline + shift for run, shift in self._runs.items()}
        for run, end in ends.items():
            if end <= now:
                self.forget(run)
                run.expire()
        left = [end for end in ends.values() if end > now]
        if left:
            self._look_at(loop, min(left))
