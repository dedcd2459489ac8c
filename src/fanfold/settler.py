"""Acting on outcomes: the ledger first, the queue last."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fanfold import codec
from fanfold.batcher import Batcher
from fanfold.brokers.protocol import Broker, Burial
from fanfold.clock import Clock
from fanfold.errors import FanfoldError, FanOutIncompleteError
from fanfold.leases import Leases
from fanfold.ledgers.protocol import Finish, Ledger, Recorded
from fanfold.model import Delivery, EntryError, Task
from fanfold.outcome import Completed, Outcome, Reject, Retry
from fanfold.telemetry import Telemetry

Announce = Callable[[Task, int], Awaitable[None]]
"""Sends the fold of the fan-out that a task belongs to, in a generation."""

_BATCH: Final = 10
_MAX_BACKOFF: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """An outcome to apply to a delivery.

    `task` is None for a body that can't be read. `tracked`: the ledger counted this attempt and waits for its end;
    otherwise it is told nothing, because it doesn't know the task or knows how it ended (`fold_due` and
    `fold_generation` as it said then).
    """

    delivery: Delivery
    task: Task | None
    attempt: int
    outcome: Outcome
    tracked: bool
    fold_due: bool = False
    fold_generation: int = 0


class Settler:
    """Applies outcomes, in batches.

    1. The ledger records how each attempt ended. While it is away, the messages are held and nothing is acknowledged.
    2. Where that made a fan-out complete, its fold is sent.
    3. Only then the queue is told: delete, come back later, or off to the dead letter queue.

    A crash between any two of these means that the message comes back and the ledger knows what to do with it. It never
    acknowledges a message whose outcome isn't recorded or whose fold isn't sent.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger | None,
        leases: Leases,
        *,
        announce: Announce | None,
        telemetry: Telemetry,
        clock: Clock,
        worker: str = "",
    ) -> None:
        self._broker = broker
        self._ledger = ledger
        self._leases = leases
        self._announce = announce
        self._telemetry = telemetry
        self._clock = clock
        self._worker = worker
        self._batcher: Batcher[Settlement, None] = Batcher(self._settle, size=_BATCH, linger=broker.linger)

    async def settle(self, settlement: Settlement, *, wait: bool = True) -> None:
        """Return when the outcome was applied, as far as it could be; what couldn't comes back with its lease.

        Without `wait` it goes at once: nothing else is running that could keep it company.
        """
        await self._batcher.add(settlement, wait=wait)

    async def drain(self) -> None:
        """Return when everything that was handed over is settled."""
        await self._batcher.drain()

    def cancel(self) -> None:
        """Give up what isn't settled; it comes back when its lease ends."""
        self._batcher.cancel()

    async def _settle(self, batch: Sequence[Settlement]) -> list[None]:
        try:
            recorded = await self._record(batch)
            await self._apply(await self._announce_folds(recorded))
        finally:
            # What wasn't applied must not be held for ever: it comes back when its lease ends.
            await self._leases.let_go(s.delivery for s in batch)
        return [None] * len(batch)

    async def _record(self, batch: Sequence[Settlement]) -> list[Settlement]:
        """Write the ends of tracked attempts; answers those settlements that the queue may now be told of."""
        tracked = [s for s in batch if s.tracked]
        if self._ledger is None or not tracked:
            return list(batch)
        records = await self._until_recorded(self._ledger, [_finish(s) for s in tracked])
        # A late worker's outcome was refused: another worker holds the message, and settles it.
        applied = [
            dataclasses.replace(settlement, fold_due=record.fold_due, fold_generation=record.fold_generation)
            for settlement, record in zip(tracked, records, strict=True)
            if record.applied
        ]
        return [s for s in batch if not s.tracked] + applied

    async def _until_recorded(self, ledger: Ledger, finishes: Sequence[Finish]) -> Sequence[Recorded]:
        wait = 0.1
        while True:
            try:
                return await ledger.finish(finishes)
            except FanfoldError as error:
                if not error.transient:
                    raise
                self._telemetry.emit("settle.failed", reason=str(error), retry_in=wait)
                await self._clock.sleep(wait)
                wait = min(wait * 2, _MAX_BACKOFF)

    async def _announce_folds(self, batch: Sequence[Settlement]) -> list[Settlement]:
        """Send the folds that are due; answers the settlements without those whose fold couldn't be sent."""
        due = {s.task.fan_out_id: (s.task, s.fold_generation) for s in batch if s.fold_due and s.task is not None}
        if self._announce is None or not due:
            return list(batch)
        failed = set()
        for fan_out_id, (task, generation) in due.items():
            try:
                await self._announce(task, generation)
            except FanOutIncompleteError as error:
                failed.add(fan_out_id)
                self._telemetry.emit("settle.failed", reason=str(error), fan_out_id=fan_out_id)
        return [s for s in batch if not (s.fold_due and s.task is not None and s.task.fan_out_id in failed)]

    async def _apply(self, batch: Sequence[Settlement]) -> None:
        await self._leases.let_go(s.delivery for s in batch)
        done = [s for s in batch if isinstance(s.outcome, Completed)]
        retried = [s for s in batch if isinstance(s.outcome, Retry)]
        rejected = [s for s in batch if isinstance(s.outcome, Reject)]
        errors = await asyncio.gather(
            self._broker.delete([s.delivery for s in done]),
            self._broker.extend([s.delivery for s in retried], [_delay(s) for s in retried]),
            self._broker.dead_letter([_burial(s, self._worker) for s in rejected]),
        )
        for group, answers in zip((done, retried, rejected), errors, strict=True):
            self._report(group, answers)

    def _report(self, group: Sequence[Settlement], errors: Sequence[EntryError | None]) -> None:
        for settlement, error in zip(group, errors, strict=True):
            if error is not None:
                message_id = settlement.delivery.message_id
                self._telemetry.emit("settle.failed", message_id=message_id, reason=f"{error.code}: {error.text}")


def _finish(settlement: Settlement) -> Finish:
    task, outcome = settlement.task, settlement.outcome
    if task is None or task.fan_out_id is None:
        raise ValueError("a tracked settlement has a task of a fan-out")
    return Finish(
        fan_out_id=task.fan_out_id,
        task_name=task.task_name,
        attempt=settlement.attempt,
        result=outcome.encoded if isinstance(outcome, Completed) else None,
        failure=None if isinstance(outcome, Completed) else outcome.failure,
        dead=isinstance(outcome, Reject),
        generation=task.generation,
    )


def _delay(settlement: Settlement) -> float:
    outcome = settlement.outcome
    return outcome.delay or 0.0 if isinstance(outcome, Retry) else 0.0


def _burial(settlement: Settlement, worker: str) -> Burial:
    if not isinstance(settlement.outcome, Reject):
        raise TypeError("only what was rejected is buried")
    task, attempts = settlement.task, settlement.attempt
    body = None
    if task is not None:
        body = codec.encode_body(dataclasses.replace(task, retry_count=max(0, attempts - 1)))
    failure = settlement.outcome.failure
    return Burial(delivery=settlement.delivery, failure=failure, attempts=attempts, body=body, worker=worker)
