"""What nobody is left to tell or to do: sends that never happened, tasks that the queue set aside, ends, folds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from fanfold import limits
from fanfold.brokers.protocol import Broker
from fanfold.clock import Clock
from fanfold.errors import FanfoldError, NoDeadLetterQueueError
from fanfold.ledgers.protocol import Finish, Ledger, Unsent
from fanfold.model import FOLD_NAME, DeadLetter, Ended, Failure, FanOut, Task
from fanfold.service import Deadline, Service
from fanfold.settler import Announce, OnDead
from fanfold.telemetry import Telemetry

Resend = Callable[[Unsent], Awaitable[int]]
"""Sends the waiting tasks of a fan-out again; answers how many."""

INTERVAL: Final = 20.0
"""Seconds between two rounds."""
PATIENCE: Final = 60.0
"""Seconds without a word before a producer, or whoever had to send a fold, is taken for dead."""
DLQ_INTERVAL: Final = 60.0
"""Seconds between two looks at the dead letter queue, while there is something to find: on SQS each is a request."""
HORIZON: Final = 86_400.0
"""Seconds for which a fold that never began is sent: older fan-outs completed without an `on_complete`."""
ROLE: Final = "reconciler"
_LETTERS: Final = 1_000
_LOOKS: Final = 10
"""Looks at the dead letter queue's count for one look at all of its messages, where the count stays the same."""


class Reconciler(Service):
    """Sees to it that no fan-out waits for ever. One worker's is active at a time: it has the ledger's role for that.

    1. Where a producer died between sealing and sending, what waits is sent, with the ids that it has anyway.
    2. Where a fan-out's messages are older than the queue keeps any, what waits is sent anew.
    3. Where the deadline of a fan-out came, what is left of it is cancelled.
    4. While the ledger has fan-outs that are open, or folds that began and aren't over, it looks for messages in the
       dead letter queue without a reason: the queue's redrive policy moved them after a loop of crashes. The ledger
       learns that these are dead.
    5. Where a completed fan-out's fold was never claimed, or was and its message is older than the queue keeps any, it
       sends the fold (again: the ids make it one).
    6. What is kept no longer is forgotten.

    Every write is conditional and every send has its id, so two at once would do no harm. It never changes a message.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger | None,
        *,
        name: str,
        announce: Announce | None,
        resend: Resend | None,
        on_dead: OnDead | None = None,
        clock: Clock,
        rng: random.Random,
        telemetry: Telemetry,
    ) -> None:
        super().__init__()
        self._name = name
        self._broker = broker
        self._ledger = ledger
        self._announce = announce
        self._resend = resend
        self._on_dead = on_dead
        self._clock = clock
        self._rng = rng
        self._telemetry = telemetry
        self._rounds: asyncio.Task[None] | None = None
        self._folds_sent: dict[str, float] = {}
        self._looked_at = 0.0
        self._letters = -1
        self._looks = 0

    async def _start(self) -> None:
        if self._ledger is not None:
            self._rounds = asyncio.create_task(self._go_round(self._ledger))

    async def _stop(self, deadline: Deadline) -> None:  # noqa: ARG002 - a round may end anywhere
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.wait([self._rounds])

    async def _go_round(self, ledger: Ledger) -> None:
        while True:
            await self._clock.sleep(INTERVAL * (0.75 + self._rng.random() / 2))
            try:
                if await ledger.lead(ROLE, self._name, 3 * INTERVAL):
                    await self.reconcile(ledger)
            except Exception as error:  # noqa: BLE001 - without further rounds fan-outs would wait for ever
                self._failed(error)

    async def reconcile(self, ledger: Ledger) -> None:
        """Make one round. What one fan-out or one step runs into keeps the others from nothing."""
        steps = self._send_unsent, self._send_expired, self._end_overdue, self._look_for_moved, self._send_folds
        for step in (*steps, self._send_lost_folds, self._forget):
            try:
                await step(ledger)
            except FanfoldError as error:
                if error.transient:
                    raise  # what is away is so for the next step, too
                self._failed(error)

    async def _send_unsent(self, ledger: Ledger) -> None:
        for unsent in await ledger.unsent(untouched_for=PATIENCE) if self._resend is not None else ():
            await self._by_itself(unsent.fan_out, self._send_again(unsent, "unsent"))

    async def _send_expired(self, ledger: Ledger) -> None:
        """A message is gone for certain when it is older than the queue keeps any, and nobody can be running it."""
        patience = self._broker.retention + limits.MAX_VISIBILITY
        for fan_out in await ledger.stalled(untouched_for=patience) if self._resend is not None else ():
            left = [task for task in await ledger.tasks(fan_out.fan_out_id) if not task.state.terminal]
            unsent = Unsent(fan_out=fan_out, order_by=None, tasks=left)
            await self._by_itself(fan_out, self._send_again(unsent, "expired"))

    async def _send_again(self, unsent: Unsent, why: str) -> None:
        if self._resend is not None:
            sent = await self._resend(unsent)
            fan_out = unsent.fan_out
            self._telemetry.emit(
                "fan_out.resent", entity_id=fan_out.entity_id, fan_out_id=fan_out.fan_out_id, tasks=sent, reason=why
            )

    async def _end_overdue(self, ledger: Ledger) -> None:
        for fan_out in await ledger.overdue():
            await self._by_itself(fan_out, self._end(ledger, fan_out))

    async def _end(self, ledger: Ledger, fan_out: FanOut) -> None:
        ended = await ledger.cancel(fan_out.fan_out_id, ended=Ended.DEADLINE)
        if ended is None:
            return
        self._telemetry.emit(
            "fan_out.overdue",
            entity_id=fan_out.entity_id,
            fan_out_id=fan_out.fan_out_id,
            cancelled=len(ended.task_names),
        )
        if ended.fold_due and self._announce is not None:
            await self._announce(fan_out.task(FOLD_NAME), ended.generation)

    async def _send_folds(self, ledger: Ledger) -> None:
        if self._announce is None:
            return
        now = self._clock.now()
        # A fold that only waits in a long queue is sent again once in a while, not in every round.
        self._folds_sent = {key: at for key, at in self._folds_sent.items() if now - at < limits.DEDUPLICATION_WINDOW}
        for fan_out in await ledger.unfolded(completed_since=now - HORIZON, completed_before=now - PATIENCE):
            if fan_out.fan_out_id not in self._folds_sent:
                await self._by_itself(fan_out, self._send_fold(self._announce, fan_out))

    async def _send_lost_folds(self, ledger: Ledger) -> None:
        """A fold that began, and whose message is older than the queue keeps any, comes from nobody but us."""
        if self._announce is None:
            return
        patience = self._broker.retention + limits.MAX_VISIBILITY
        for fan_out in await ledger.unended_folds(untouched_for=patience):
            if fan_out.fan_out_id not in self._folds_sent:
                await self._by_itself(fan_out, self._send_fold(self._announce, fan_out))

    async def _send_fold(self, announce: Announce, fan_out: FanOut) -> None:
        await announce(fan_out.task(FOLD_NAME), fan_out.generation)
        self._folds_sent[fan_out.fan_out_id] = self._clock.now()
        self._telemetry.emit("fold.resent", entity_id=fan_out.entity_id, fan_out_id=fan_out.fan_out_id)

    async def _forget(self, ledger: Ledger) -> None:
        # A fold that was never claimed may still be sent, or wait in the queue; without an `on_complete` there is none.
        patience = max(HORIZON, self._broker.retention + limits.MAX_VISIBILITY)
        await ledger.purge(unfolded_for=patience if self._announce is not None else 0.0)

    async def _by_itself(self, fan_out: FanOut, act: Awaitable[None]) -> None:
        """What one fan-out can't have done keeps no other from it: a group strategy that raises, a refused message."""
        try:
            await act
        except Exception as error:
            if isinstance(error, FanfoldError) and error.transient:
                raise
            self._failed(error, fan_out_id=fan_out.fan_out_id)

    def _failed(self, error: Exception, **whose: str) -> None:
        reason = str(error) if isinstance(error, FanfoldError) else repr(error)
        self._telemetry.emit("reconcile.failed", **whose, reason=reason)

    async def _look_for_moved(self, ledger: Ledger) -> None:
        now = self._clock.now()
        if now - self._looked_at >= DLQ_INTERVAL:
            self._looked_at = now
            if await _may_be_moved(ledger):
                await self._bury_moved(ledger)

    async def _bury_moved(self, ledger: Ledger) -> None:
        try:
            if not await self._is_worth_a_look():
                return
            letters = [letter for letter in await self._broker.dead_letters(_LETTERS) if not letter.reason]
        except NoDeadLetterQueueError:
            return  # then the queue moves nothing
        moved = [(letter.task, letter) for letter in letters if letter.task is not None and letter.task.fan_out_id]
        deaths = [_death(task, letter) for task, letter in moved]
        records = await ledger.finish(deaths)
        for (task, letter), death, record in zip(moved, deaths, records, strict=True):
            if record.applied:
                self._telemetry.emit("task.dead", entity_id=task.entity_id, task_name=task.task_name, error="redrive")
                if self._on_dead is not None and death.failure is not None and task.task_name != FOLD_NAME:
                    await self._on_dead(task, death.failure, letter.receive_count)
            if record.fold_due and self._announce is not None:
                await self._announce(task, record.generation)

    async def _is_worth_a_look(self) -> bool:
        count = await self._broker.dead_letter_count()
        self._looks += 1
        changed, self._letters = count != self._letters, count
        return count > 0 and (changed or self._looks % _LOOKS == 0)


async def _may_be_moved(ledger: Ledger) -> bool:
    """Whether the ledger waits for the end of anything. A fold that was moved before it began is sent anyway."""
    if await ledger.list(limit=1, open_only=True):
        return True
    return bool(await ledger.unended_folds(untouched_for=PATIENCE, limit=1))


def _death(task: Task, letter: DeadLetter) -> Finish:
    failure = Failure(
        type="MovedByQueue",
        message=f"the queue's redrive policy set it aside after {letter.receive_count} receives: its workers died",
    )
    return Finish(
        fan_out_id=task.fan_out_id or "",
        task_name=task.task_name,
        attempt=None,
        generation=task.generation,
        failure=failure,
        dead=True,
    )
