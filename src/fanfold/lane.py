"""Lanes: messages of one group that came together run one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from fanfold.leases import Lease, Leases
from fanfold.model import Delivery
from fanfold.outcome import Retry
from fanfold.settler import Settlement

Decide = Callable[[Lease], Awaitable[Settlement]]
Settle = Callable[[Lease, Settlement], Awaitable[bool]]
GiveBack = Callable[[Sequence[Lease], Sequence[Lease]], Awaitable[None]]
"""Takes the messages that haven't run, and those whose run was interrupted."""


class Lane:
    """What was received of one group, in its order.

    1. Holds every lease from the start, whether its message runs or waits.
    2. Decides and settles one message after the other. The next one starts only when the outcome before it stands and
       isn't a retry: otherwise the group would go on out of order, or twice at once.
    3. `close` lets no other start; `interrupt` ends the run under way as well.
    4. What hasn't run, or not to its end, is given back.

    One message lost means that the group is somebody else's: the lane ends as a whole. No settlement is interrupted.
    Whoever cancels the lane's asyncio task while it decides has interrupted that run.
    """

    def __init__(
        self, deliveries: Iterable[Delivery], leases: Leases, *, decide: Decide, settle: Settle, give_back: GiveBack
    ) -> None:
        """Hold `deliveries`. For the event loop in which it is made."""
        loop = asyncio.get_running_loop()
        self._waiting = deque(
            leases.hold(delivery, lambda: loop.call_soon_threadsafe(self.interrupt)) for delivery in deliveries
        )
        self._decide = decide
        self._settle = settle
        self._give_back = give_back
        self._closed = False
        self._deciding: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Let no other message start."""
        self._closed = True

    def interrupt(self) -> None:
        """Let no other message start, and end the run under way. Idempotent, and without effect on a settlement."""
        self._closed = True
        deciding, self._deciding = self._deciding, None
        if deciding is not None:
            deciding.cancel()

    async def work(self) -> None:
        """Run the lane to its end. For a task of its own; raises what deciding or settling raises."""
        interrupted: list[Lease] = []
        try:
            while self._waiting and not self._closed:
                if not await self._run(self._waiting.popleft(), interrupted):
                    break
        finally:
            await self._give_back(self._waiting, interrupted)

    async def _run(self, lease: Lease, interrupted: list[Lease]) -> bool:
        """Run one message to its settlement; answers whether the next one may start."""
        self._deciding = lane = asyncio.current_task()
        try:
            settlement = await self._decide(lease)
        except asyncio.CancelledError:
            interrupted.append(lease)
            if lane is not None:
                lane.uncancel()  # the run has ended; what follows is for the lane to do
            return False
        finally:
            self._deciding = None
        return await self._settle(lease, settlement) and not isinstance(settlement.outcome, Retry)
