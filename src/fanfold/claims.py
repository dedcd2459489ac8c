"""Claims: the ledger's word before a run, which counts it as an attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fanfold.batcher import Batcher
from fanfold.clock import Clock
from fanfold.errors import FanfoldError
from fanfold.ledgers.protocol import Claim, Claimed, Ledger
from fanfold.model import Task
from fanfold.telemetry import Telemetry, fields_of

_BATCH: Final = 100
_FIRST_BACKOFF: Final = 0.1
_MAX_BACKOFF: Final = 10.0


class Claims:
    """Asks the ledger whether a run may start, for tasks that come together in one request.

    While the ledger is away it asks again, for as long as its caller waits: a run that isn't counted could repeat what
    is done. It never starts anything itself.
    """

    def __init__(self, ledger: Ledger | None, *, worker: str, clock: Clock, telemetry: Telemetry) -> None:
        self._ledger = ledger
        self._worker = worker
        self._clock = clock
        self._telemetry = telemetry
        self._batcher: Batcher[Claim, Claimed | None] = Batcher(self._ask, size=_BATCH, linger=0)

    def counts(self, task: Task) -> bool:
        """Whether a ledger may know the task, and is to be asked."""
        return self._ledger is not None and task.fan_out_id is not None

    async def claim(self, task: Task) -> Claimed | None:
        """The ledger's answer; None where no ledger knows the task."""
        if not self.counts(task):
            return None
        claim = self.of(task)
        wait = _FIRST_BACKOFF
        while True:
            try:
                return await self._batcher.add(claim)
            except FanfoldError as error:
                self._telemetry.emit("claim.failed", **fields_of(task), reason=str(error), retry_in=wait)
                await self._clock.sleep(wait)
                wait = min(wait * 2, _MAX_BACKOFF)

    def of(self, task: Task) -> Claim:
        """This worker's claim to a task of a fan-out."""
        return Claim(
            fan_out_id=str(task.fan_out_id), task_name=task.task_name, generation=task.generation, worker=self._worker
        )

    async def _ask(self, claims: Sequence[Claim]) -> Sequence[Claimed | None]:
        if self._ledger is None:
            return [None] * len(claims)
        return await self._ledger.claim(claims)
