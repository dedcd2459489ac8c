"""What nobody is left to tell: tasks that the queue itself set aside, and folds that nobody sent."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from fanfold.brokers.protocol import Broker
from fanfold.clock import Clock
from fanfold.errors import FanfoldError, NoDeadLetterQueueError
from fanfold.ledgers.protocol import Finish, Ledger
from fanfold.model import FOLD_NAME, DeadLetter, Failure, FanOut, Task
from fanfold.service import Deadline, Service
from fanfold.settler import Announce
from fanfold.telemetry import Telemetry

INTERVAL: Final = 60.0
"""Seconds between two rounds."""
PATIENCE: Final = 300.0
"""Seconds without a word before a fan-out is looked into: as long as the queue drops a second send of the same id."""
HORIZON: Final = 86_400.0
"""Seconds for which a missing fold is looked for: older fan-outs completed when there was no `on_complete`."""
_LETTERS: Final = 1_000


class Reconciler(Service):
    """Sees to it that no fan-out waits for ever.

    1. Where an open fan-out has been silent, it looks through the dead letter queue for messages without a reason: the
       queue's redrive policy moved them after a loop of crashes. The ledger learns that these tasks are dead.
    2. Where a completed fan-out's fold was never claimed, it sends the fold (again: the ids make it one).

    An idle worker with nothing open asks the ledger only, never the queue. Several workers may do this at once: every
    write is conditional. It never changes a message.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger | None,
        *,
        announce: Announce | None,
        clock: Clock,
        rng: random.Random,
        telemetry: Telemetry,
    ) -> None:
        super().__init__()
        self._broker = broker
        self._ledger = ledger
        self._announce = announce
        self._clock = clock
        self._rng = rng
        self._telemetry = telemetry
        self._rounds: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        if self._ledger is not None:
            self._rounds = asyncio.create_task(self._go_round(self._ledger))

    async def _stop(self, deadline: Deadline) -> None:  # noqa: ARG002 - a round may end anywhere
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.wait([self._rounds])

    async def _go_round(self, ledger: Ledger) -> None:
        while True:
            await self._clock.sleep(INTERVAL * (0.5 + self._rng.random()))
            try:
                await self.reconcile(ledger)
            except FanfoldError as error:
                self._telemetry.emit("reconcile.failed", reason=str(error))

    async def reconcile(self, ledger: Ledger) -> None:
        """Make one round."""
        if await ledger.stalled(untouched_for=PATIENCE, limit=1):
            await self._bury_moved(ledger)
        if self._announce is not None:
            now = self._clock.now()
            for fan_out in await ledger.unfolded(completed_since=now - HORIZON, completed_before=now - PATIENCE):
                await self._announce(_any_task(fan_out), fan_out.generation)
                self._telemetry.emit("fold.resent", entity_id=fan_out.entity_id, fan_out_id=fan_out.fan_out_id)

    async def _bury_moved(self, ledger: Ledger) -> None:
        try:
            letters = [letter for letter in await self._broker.dead_letters(_LETTERS) if not letter.reason]
        except NoDeadLetterQueueError:
            return  # then the queue moves nothing
        moved = [(letter.task, letter) for letter in letters if letter.task is not None and letter.task.fan_out_id]
        records = await ledger.finish([_death(task, letter) for task, letter in moved])
        for (task, _), record in zip(moved, records, strict=True):
            if record.applied:
                self._telemetry.emit("task.dead", entity_id=task.entity_id, task_name=task.task_name, error="redrive")
            if record.fold_due and self._announce is not None:
                await self._announce(task, record.fold_generation)


def _death(task: Task, letter: DeadLetter) -> Finish:
    failure = Failure(
        type="MovedByQueue",
        message=f"the queue's redrive policy set it aside after {letter.receive_count} receives: its workers died",
    )
    return Finish(
        fan_out_id=task.fan_out_id or "",
        task_name=task.task_name,
        attempt=None,
        failure=failure,
        dead=True,
        generation=task.generation,
    )


def _any_task(fan_out: FanOut) -> Task:
    return Task(
        entity_id=fan_out.entity_id,
        task_name=FOLD_NAME,
        metadata=fan_out.metadata,
        total_tasks=fan_out.total_tasks,
        fan_out_id=fan_out.fan_out_id,
    )
