"""Lanes: messages of one group that came together run one after the other."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from fanfold.leases import Lease, Leases
from fanfold.model import Delivery
from fanfold.outcome import Retry
from fanfold.runs import Run
from fanfold.settler import Settlement

Left = Callable[[Settlement | None], None]
"""Told that a run doesn't end, and what it has come to all the same; None: it was interrupted."""


class Keeper(Protocol):
    """Whoever runs and settles what is in a lane."""

    async def decide(self, lease: Lease, run: Run, left: Left) -> Settlement:
        """Run a message to its outcome. Raises CancelledError where its run was interrupted."""

    async def settle(self, lease: Lease, settlement: Settlement) -> bool:
        """Settle an outcome, and answer whether it stands."""

    def hand_over(self, settlement: Settlement) -> None:
        """Let an outcome be settled by itself: nothing of the lane waits for it."""

    async def give_back(self, unrun: Sequence[Lease], interrupted: Sequence[Lease]) -> None:
        """Take the messages that haven't run, and those whose run was interrupted."""

    def lane_ended(self, lane: Lane, error: Exception | None) -> None:
        """Take note that the lane is over, and of what failed."""


class Lane:
    """What was received of one group, in its order.

    1. Holds every lease from the start, whether its message runs or waits.
    2. Decides one message after the other, each in an asyncio task of its own. The next one starts only when the
       outcome before it is settled, stands, and isn't a retry: otherwise the group would go on out of order, or twice
       at once. The last one's is handed over.
    3. `close` lets no other start; `interrupt` ends the run under way as well.
    4. What hasn't run, or not to its end, is given back.
    5. A run that doesn't end when it is told to holds up nobody: the lane goes on without it.

    One message lost means that the group is somebody else's: the lane ends as a whole. No settlement is interrupted.
    """

    def __init__(self, deliveries: Iterable[Delivery], leases: Leases, keeper: Keeper) -> None:
        """Hold `deliveries`. For the event loop in which it is made."""
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._waiting = deque(leases.hold_all(deliveries, self._lost))
        self._keeper = keeper
        self._closed = False
        self._run: Run | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with the first message."""
        self._go_on(self._work())

    def close(self) -> None:
        """Let no other message start."""
        self._closed = True

    def interrupt(self) -> None:
        """Let no other message start, and end the run under way. Idempotent, and without effect on a settlement."""
        self._closed = True
        if self._run is not None:
            self._run.interrupt()

    def _lost(self) -> None:
        """Called in the heartbeat's thread."""
        self._loop.call_soon_threadsafe(self.interrupt)

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        # Kept, since the loop keeps no reference; in a context where no task's function has set anything.
        self._task = self._loop.create_task(work, context=self._context.copy())

    async def _work(self) -> None:
        """Run the next message and what follows from it, or end the lane."""
        if self._closed or not self._waiting:
            await self._end()
            return
        lease = self._waiting.popleft()
        run = self._run = Run()
        run.begin()
        try:
            settlement = await self._keeper.decide(lease, run, partial(self._left, lease))
        except asyncio.CancelledError:
            run.over()
            if run is self._run:
                await self._end(interrupted=(lease,))
        except Exception as error:  # noqa: BLE001 - a bug beside the task is told by whoever keeps the lane
            if run is self._run:
                await self._end(error)
        else:
            if run is self._run:
                self._decided(lease, settlement)

    def _left(self, lease: Lease, settlement: Settlement | None) -> None:
        if settlement is not None:
            self._decided(lease, settlement)
        else:
            self._run = None
            self._go_on(self._end(interrupted=(lease,)))

    def _decided(self, lease: Lease, settlement: Settlement) -> None:
        self._run = None
        if self._waiting or lease.lost:
            self._go_on(self._settle(lease, settlement))
        else:
            self._keeper.hand_over(settlement)
            self._keeper.lane_ended(self, None)

    async def _settle(self, lease: Lease, settlement: Settlement) -> None:
        try:
            stands = await self._keeper.settle(lease, settlement)
        except asyncio.CancelledError:  # the settlement was given up
            stands = False
        except Exception as error:  # noqa: BLE001 - as above
            await self._end(error)
            return
        if stands and not isinstance(settlement.outcome, Retry):
            self._go_on(self._work())
        else:
            await self._end()

    async def _end(self, error: Exception | None = None, *, interrupted: Sequence[Lease] = ()) -> None:
        self._run = None
        try:
            if self._waiting or interrupted:
                await self._keeper.give_back(self._waiting, interrupted)
        except Exception as failed:  # noqa: BLE001 - as above
            error = error or failed
        finally:
            self._keeper.lane_ended(self, error)
