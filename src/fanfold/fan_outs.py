"""One fan-out by its id: to look at, to wait for, to cancel, to run again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fanfold.clock import Clock
from fanfold.errors import UnknownFanOutError
from fanfold.ledgers.protocol import Ledger
from fanfold.model import FOLD_NAME, FanOut, Progress, TaskRecord
from fanfold.portal import Portal
from fanfold.producer import Producer

_FIRST_LOOK: Final = 0.05
_SLOWEST_LOOK: Final = 1.0


class FanOutHandle:
    """What `app.fan_out(id)` answers. Nothing is asked of the ledger before a method is called.

    Each method has a twin, named `…_async`, for callers with an event loop. All raise NoLedgerError without a ledger,
    and UnknownFanOutError, but for `get`, where the ledger doesn't know the fan-out.
    """

    def __init__(
        self,
        fan_out_id: str,
        *,
        connect: Callable[[], Awaitable[tuple[Ledger, Producer]]],
        announces: Callable[[], bool],
        portal: Portal,
        clock: Clock,
    ) -> None:
        """For `Fanfold.fan_out`, which knows all of these."""
        self.fan_out_id = fan_out_id
        self._connect = connect
        self._announces = announces
        self._portal = portal
        self._clock = clock

    async def get_async(self) -> FanOut | None:
        """The fan-out with its tasks, or None."""
        ledger, _ = await self._connect()
        return await ledger.get(self.fan_out_id)

    def get(self) -> FanOut | None:
        """`get_async` for callers without an event loop."""
        return self._portal.call(self.get_async())

    async def summary_async(self) -> FanOut:
        """The fan-out without its tasks: cheap, however many it has."""
        ledger, _ = await self._connect()
        return self._known(await ledger.summary(self.fan_out_id))

    def summary(self) -> FanOut:
        """`summary_async` for callers without an event loop."""
        return self._portal.call(self.summary_async())

    async def progress_async(self) -> Progress:
        """How many tasks are in which state."""
        return (await self.summary_async()).progress

    def progress(self) -> Progress:
        """`progress_async` for callers without an event loop."""
        return self._portal.call(self.progress_async())

    async def tasks_async(self) -> Sequence[TaskRecord]:
        """The tasks in the order of the plan."""
        ledger, _ = await self._connect()
        return await ledger.tasks(self.fan_out_id)

    def tasks(self) -> Sequence[TaskRecord]:
        """`tasks_async` for callers without an event loop."""
        return self._portal.call(self.tasks_async())

    async def wait_async(self, timeout: float | None = None, *, folded: bool = False) -> FanOut:  # noqa: ASYNC109 - a poll
        """Return the fan-out with its tasks once it has ended; with `folded`, once its completion was handled too.

        Args:
            timeout: seconds to wait at most; None: for ever.
            folded: wait for the end of the fold, which only a worker of an application with `on_complete` brings.

        Raises:
            TimeoutError: it hasn't ended by then.
        """
        ends = None if timeout is None else self._clock.now() + timeout
        pause = _FIRST_LOOK
        while not _is_over(summary := await self.summary_async(), folded=folded):
            if ends is not None and self._clock.now() >= ends:
                done = summary.progress.done
                raise TimeoutError(
                    f"fan-out {self.fan_out_id}: {done} of {summary.total_tasks} tasks after {timeout} s"
                )
            await self._clock.sleep(pause if ends is None else min(pause, ends - self._clock.now()))
            pause = min(pause * 1.5, _SLOWEST_LOOK)
        return self._known(await self.get_async())

    def wait(self, timeout: float | None = None, *, folded: bool = False) -> FanOut:
        """`wait_async` for callers without an event loop."""
        return self._portal.call(self.wait_async(timeout, folded=folded))

    async def cancel_async(self, *task_names: str) -> Sequence[str]:
        """Cancel these tasks, or all that aren't terminal; answers which were cancelled now.

        Waiting ones never run; running ones are told within a third of a lease. The completion still comes, once.
        """
        ledger, producer = await self._connect()
        cancelled = await ledger.cancel(self.fan_out_id, task_names or None)
        if cancelled is None:
            raise self._unknown()
        if cancelled.fold_due and self._announces():
            fan_out = self._known(await ledger.summary(self.fan_out_id))
            await producer.announce(fan_out.task(FOLD_NAME), cancelled.generation)
        return cancelled.task_names

    def cancel(self, *task_names: str) -> Sequence[str]:
        """`cancel_async` for callers without an event loop."""
        return self._portal.call(self.cancel_async(*task_names))

    async def rerun_async(self, *task_names: str, failed_only: bool = True) -> int:
        """Run these tasks, or all, again: with `failed_only`, of those that are over, the ones that didn't succeed.

        It is the fan-out's next generation, with a completion of its own. Answers how many messages were sent.

        Raises:
            FanOutIncompleteError: the queue didn't accept some; call it again, or leave it to the workers.
        """
        ledger, producer = await self._connect()
        unsent = await ledger.rerun(self.fan_out_id, task_names or None, failed_only=failed_only)
        if unsent is None:
            raise self._unknown()
        return await producer.resend(unsent) if unsent.tasks else 0

    def rerun(self, *task_names: str, failed_only: bool = True) -> int:
        """`rerun_async` for callers without an event loop."""
        return self._portal.call(self.rerun_async(*task_names, failed_only=failed_only))

    def _known(self, fan_out: FanOut | None) -> FanOut:
        if fan_out is None:
            raise self._unknown()
        return fan_out

    def _unknown(self) -> UnknownFanOutError:
        return UnknownFanOutError(
            f"fan-out {self.fan_out_id!r} isn't in the ledger: never enqueued there, or kept no longer; "
            "`fanfold status` lists those that are"
        )


def _is_over(fan_out: FanOut, *, folded: bool) -> bool:
    if fan_out.completed_at is None:
        return False
    return not folded or (fan_out.fold_state is not None and fan_out.fold_state.terminal)
