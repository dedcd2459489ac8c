"""Telling running tasks that nobody wants them any more."""

from __future__ import annotations

import asyncio

from fanfold.clock import Clock
from fanfold.errors import FanfoldError
from fanfold.ledgers.protocol import Claim, Ledger
from fanfold.runs import Run
from fanfold.service import Deadline, Service
from fanfold.telemetry import Telemetry


class Cancellations(Service):
    """Looks at every beat of the heartbeat whether what runs here was cancelled, or superseded by a re-run.

    1. `watch` registers a run, `forget` ends that.
    2. Every so often, one question to the ledger is about all of them; nothing is asked while nothing runs.
    3. Such a run is interrupted. Its message goes back; who receives it next acknowledges it.

    It decides nothing: the ledger's state is cancelled already, so a result that comes too late is not recorded.
    """

    def __init__(self, ledger: Ledger | None, *, every: float, clock: Clock, telemetry: Telemetry) -> None:
        super().__init__()
        self._ledger = ledger
        self._every = every
        self._clock = clock
        self._telemetry = telemetry
        self._watched: dict[Run, Claim] = {}
        self._beats: asyncio.Task[None] | None = None

    def watch(self, run: Run, claim: Claim) -> None:
        """Interrupt the run when the ledger doesn't want it any more."""
        self._watched[run] = claim

    def forget(self, run: Run) -> None:
        """Let it be: it has ended. Idempotent."""
        self._watched.pop(run, None)

    async def look(self) -> None:
        """Ask once, and cancel what is to stop. Raises LedgerError."""
        watched = list(self._watched.items())
        if self._ledger is None or not watched:
            return
        stopped = await self._ledger.stopped([claim for _, claim in watched])
        for (run, claim), stop in zip(watched, stopped, strict=True):
            if stop and run in self._watched:
                self._telemetry.emit("task.cancelled", fan_out_id=claim.fan_out_id, task_name=claim.task_name)
                run.interrupt()

    async def _start(self) -> None:
        if self._ledger is not None:
            self._beats = asyncio.create_task(self._beat())

    async def _stop(self, deadline: Deadline) -> None:  # noqa: ARG002 - a look may end anywhere
        if self._beats is not None:
            self._beats.cancel()
            await asyncio.wait([self._beats])

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._every)
            try:
                await self.look()
            except FanfoldError as error:
                self._telemetry.emit("cancellations.failed", reason=str(error))
