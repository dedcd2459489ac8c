"""Acting on outcomes: the ledger first, the queue last."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from fanfold import codec
from fanfold.batcher import Batcher
from fanfold.brokers.protocol import Broker, Burial
from fanfold.clock import Clock
from fanfold.errors import FanfoldError
from fanfold.leases import Leases
from fanfold.ledgers.protocol import Finish, Ledger, Recorded
from fanfold.model import FOLD_NAME, Delivery, EntryError, Failure, Task
from fanfold.outcome import Completed, Outcome, Reject, Retry
from fanfold.telemetry import Telemetry, fields_of

Announce = Callable[[Task, int], Awaitable[None]]
"""Sends the fold of a task's fan-out, for a generation of it."""
OnDead = Callable[[Task, Failure, int], Awaitable[None]]
"""Told of a task that is set aside: why, and after how many attempts. Never raises."""

_MAX_BACKOFF: Final = 10.0


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome to apply to a delivery.

    `task` is None for a body that can't be read. `tracked`: the ledger counted this attempt and waits for its end.
    `recorded`: the ledger knows how the task ended, and only the queue is still to be told. Where it is neither, the
    ledger doesn't know the task, and the queue's answer alone decides. `fold_due`, and `generation` of that fold, are
    what the ledger said last.
    """

    delivery: Delivery
    task: Task | None
    attempt: int
    outcome: Outcome
    tracked: bool
    recorded: bool = False
    fold_due: bool = False
    generation: int = 0


class Settler:
    """Applies outcomes, in batches.

    1. The ledger records how each attempt ended. While it is away, the messages are held and nothing is acknowledged.
    2. Where that made a fan-out complete, its fold is sent; whoever wants to know of a death is told.
    3. Only then the queue is told: delete, come back later, or off to the dead letter queue.

    A crash between any two of these means that the message comes back and the ledger knows what to do with it. It never
    acknowledges a message whose outcome isn't recorded or whose fold isn't sent, and says `task.completed` and the like
    only of what was really settled: what came too late is `outcome.dropped`.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger | None,
        leases: Leases,
        *,
        announce: Announce | None,
        on_dead: OnDead | None = None,
        telemetry: Telemetry,
        clock: Clock,
        worker: str = "",
    ) -> None:
        self._broker = broker
        self._ledger = ledger
        self._leases = leases
        self._announce = announce
        self._on_dead = on_dead
        self._telemetry = telemetry
        self._clock = clock
        self._worker = worker
        self._batcher: Batcher[Settlement, bool] = Batcher(self._settle, size=broker.batch, linger=broker.linger)

    async def settle(self, settlement: Settlement, *, wait: bool = True) -> bool:
        """Apply an outcome as far as it can be, and answer whether it stands: what doesn't comes back with its lease.

        Without `wait` it goes at once: nothing else is running that could keep it company.
        """
        return await self._batcher.add(settlement, wait=wait)

    def hand_over(self, settlement: Settlement, *, wait: bool = True) -> None:
        """Apply an outcome as `settle` does, for whoever has nothing to do with the answer."""
        self._batcher.hand_over(settlement, wait=wait)

    @property
    def idle(self) -> bool:
        """Whether everything that was handed over is settled."""
        return self._batcher.idle

    def drop(self, settlement: Settlement, reason: str) -> None:
        """Say that an outcome counts for nothing: its message is another worker's now."""
        self._telemetry.emit("outcome.dropped", **_told(settlement), outcome=_word(settlement), reason=reason)

    async def drain(self) -> None:
        """Return when everything that was handed over is settled."""
        await self._batcher.drain()

    def cancel(self) -> None:
        """Give up what isn't settled; it comes back when its lease ends."""
        self._batcher.cancel()

    async def _settle(self, batch: Sequence[Settlement]) -> list[bool]:
        try:
            known = await self._record(batch)
            announced = await self._announce_folds(known)
            await self._tell_of_deaths(announced)
            told = await self._apply(announced)
        except Exception as error:
            self._telemetry.emit("settle.failed", messages=len(batch), reason=repr(error))
            raise
        finally:
            # What wasn't applied must not be held for ever: it comes back when its lease ends.
            await self._leases.let_go([s.delivery for s in batch])
        standing = told | {s.delivery.receipt_handle for s in known if s.recorded}
        return [s.delivery.receipt_handle in standing for s in batch]

    async def _record(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        """Write the ends of tracked attempts; answers those settlements that the queue may now be told of."""
        if self._ledger is None:
            return batch
        tracked = [s for s in batch if s.tracked]
        if not tracked:
            return batch
        records = await self._recorded(self._ledger, [_finish(s) for s in tracked])
        known = [s for s in batch if not s.tracked]
        for settlement, record in zip(tracked, records, strict=True):
            if record is None:
                continue
            if not record.applied:
                self.drop(settlement, "another attempt has begun, whose worker holds the message")
                continue
            self._tell(settlement)
            known.append(
                msgspec.structs.replace(
                    settlement, recorded=True, fold_due=record.fold_due, generation=record.generation
                )
            )
        return known

    async def _recorded(self, ledger: Ledger, finishes: Sequence[Finish]) -> list[Recorded | None]:
        """The ledger's answers; None for what it refuses to hold, which must not take the others of its batch along."""
        try:
            return list(await self._until_recorded(ledger, finishes))
        except FanfoldError as error:
            if len(finishes) == 1:
                names = {"task_name": finishes[0].task_name, "fan_out_id": finishes[0].fan_out_id}
                self._telemetry.emit("settle.failed", **names, reason=str(error))
                return [None]
        return [record for finish in finishes for record in await self._recorded(ledger, [finish])]

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

    async def _announce_folds(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        """Send the folds that are due; answers the settlements without those whose fold couldn't be sent."""
        if self._ledger is None or self._announce is None:
            return batch
        due = {s.task.fan_out_id: (s.task, s.generation) for s in batch if s.fold_due and s.task is not None}
        if not due:
            return batch
        sent = await asyncio.gather(*(self._fold_sent(self._announce, *of) for of in due.values()))
        failed = {fan_out_id for fan_out_id, done in zip(due, sent, strict=True) if not done}
        return [s for s in batch if not (s.fold_due and s.task is not None and s.task.fan_out_id in failed)]

    async def _fold_sent(self, announce: Announce, task: Task, generation: int) -> bool:
        try:
            await announce(task, generation)
        except FanfoldError as error:  # the others' folds, and their deletes, must not suffer from this one
            self._telemetry.emit("settle.failed", **fields_of(task), reason=str(error))
            return False
        return True

    async def _tell_of_deaths(self, batch: Sequence[Settlement]) -> None:
        """Before the burial: if we die in between, the message comes back, and it is told again."""
        if self._on_dead is not None:
            for s in batch:
                if isinstance(s.outcome, Reject) and s.task is not None and s.task.task_name != FOLD_NAME:
                    await self._on_dead(s.task, s.outcome.failure, s.attempt)

    async def _apply(self, batch: Sequence[Settlement]) -> set[str]:
        """Tell the queue; answers the receipt handles of what it did."""
        await self._leases.let_go([s.delivery for s in batch])
        done = [s for s in batch if isinstance(s.outcome, Completed)]
        others = batch if len(done) < len(batch) else ()
        retried = [s for s in others if isinstance(s.outcome, Retry)]
        rejected = [s for s in others if isinstance(s.outcome, Reject)]
        answers = await self._answers(done, retried, rejected)
        settled = zip([*done, *retried, *rejected], answers, strict=True)
        silent = not self._telemetry.hears("task.completed")
        return {
            s.delivery.receipt_handle
            for s, error in settled
            if (silent and error is None and isinstance(s.outcome, Completed)) or self._report(s, error)
        }

    async def _answers(
        self, done: Sequence[Settlement], retried: Sequence[Settlement], rejected: Sequence[Settlement]
    ) -> list[EntryError | None]:
        deleted = self._broker.delete([s.delivery for s in done])
        if not (retried or rejected):
            return await deleted
        answers = await asyncio.gather(
            deleted,
            self._broker.extend([s.delivery for s in retried], [_delay(s) for s in retried]),
            self._broker.dead_letter([_burial(s, self._worker) for s in rejected]),
        )
        return list(itertools.chain(*answers))

    def _report(self, settlement: Settlement, error: EntryError | None) -> bool:
        """Say what came of it, where the ledger hasn't decided that; answers whether the queue did what it was told."""
        if error is not None and error.lease_lost and not settlement.recorded:
            self.drop(settlement, error.text)
            return False
        comes_back = isinstance(settlement.outcome, Retry)
        if not settlement.recorded and (error is None or comes_back):
            self._tell(settlement)
        # Without the permission to change a lease, a retry comes when it ends: the broker warns of that once.
        if error is not None and (error.retryable or error.lease_lost or not comes_back):
            fields = _told(settlement) | {"outcome": _word(settlement), "reason": f"{error.code}: {error.text}"}
            self._telemetry.emit("settle.failed", **fields)
        return error is None

    def _tell(self, settlement: Settlement) -> None:
        name = f"task.{_word(settlement)}"
        if self._telemetry.hears(name):
            self._telemetry.emit(name, **_told(settlement))


def _word(settlement: Settlement) -> str:
    if isinstance(settlement.outcome, Completed):
        return "completed"
    return "retried" if isinstance(settlement.outcome, Retry) else "dead"


def _told(settlement: Settlement) -> dict[str, Any]:
    """What an event says of a settlement: whose it is, and what its outcome says."""
    task, outcome = settlement.task, settlement.outcome
    fields: dict[str, Any] = {**fields_of(task)} if task is not None else {"message_id": settlement.delivery.message_id}
    fields["attempt"] = settlement.attempt
    if isinstance(outcome, Retry):
        fields["delay"] = outcome.delay
    if not isinstance(outcome, Completed):
        fields["error"] = str(outcome.failure)
    return fields


def _finish(settlement: Settlement) -> Finish:
    task, outcome = settlement.task, settlement.outcome
    if task is None or task.fan_out_id is None:
        raise ValueError("a tracked settlement has a task of a fan-out")
    return Finish(
        fan_out_id=task.fan_out_id,
        task_name=task.task_name,
        attempt=settlement.attempt,
        generation=task.generation,
        result=outcome.encoded if isinstance(outcome, Completed) else None,
        failure=None if isinstance(outcome, Completed) else outcome.failure,
        dead=isinstance(outcome, Reject),
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
