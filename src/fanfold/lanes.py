"""Everything that a worker has received: its lanes, and the run of each message in them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from fanfold import codec
from fanfold.brokers.protocol import Broker
from fanfold.cancellations import Cancellations
from fanfold.claims import Claims
from fanfold.errors import MalformedMessageError
from fanfold.executor import Executor
from fanfold.lane import Lane, Left
from fanfold.leases import Lease, Leases
from fanfold.ledgers.protocol import Claimed
from fanfold.model import FOLD_NAME, Delivery, Failure, Task, TaskState
from fanfold.outcome import Completed, Outcome, Reject
from fanfold.runs import Run
from fanfold.service import Deadline
from fanfold.settler import Settlement, Settler
from fanfold.slots import Slots
from fanfold.telemetry import Telemetry, fields_of


class Lanes:
    """Takes on what was received, lane by lane, and runs each message from its claim to its outcome.

    1. A task starts when the ledger has counted the attempt; one that is over already is only acknowledged.
    2. The executor says what came of it, the settler applies that.
    3. A message's slot is free when its run has ended, however long its settlement takes.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        slots: Slots,
        leases: Leases,
        claims: Claims,
        cancellations: Cancellations,
        executor: Executor,
        settler: Settler,
        telemetry: Telemetry,
        worker: str,
    ) -> None:
        self._broker = broker
        self._slots = slots
        self._leases = leases
        self._claims = claims
        self._cancellations = cancellations
        self._executor = executor
        self._settler = settler
        self._telemetry = telemetry
        self._worker = worker
        self._lanes: set[Lane] = set()
        self._none = asyncio.Event()
        self._overdue: set[Run] = set()
        self._closed = False
        self._tells_starts = False
        self.running = 0
        """Messages whose run is under way."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._lanes)

    def take_on(self, deliveries: Sequence[Delivery]) -> None:
        """Begin with what was received; its slots are taken."""
        self._tells_starts = self._telemetry.hears("task.started")
        groups: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            groups.setdefault(delivery.group_id, []).append(delivery)
        for group in groups.values():
            lane = Lane(group, self._leases, self)
            self._lanes.add(lane)
            if self._closed:
                lane.close()
            lane.start()
        if self._closed:
            self._note()

    def close(self) -> None:
        """Let no other message start, of those that come as well."""
        self._closed = True
        for lane in self._lanes:
            lane.close()

    def interrupt(self) -> None:
        """End all runs."""
        for lane in self._lanes:
            lane.interrupt()

    async def wait(self, deadline: Deadline) -> None:
        """Return when every lane is over, at the latest at the deadline."""
        ended = asyncio.ensure_future(self._none.wait())
        self._note()
        await deadline.wait([ended])
        ended.cancel()

    async def decide(self, lease: Lease, run: Run, left: Left) -> Settlement:
        """Run a message to its outcome, and free its slot."""
        self.running += 1
        try:
            return await self._attempt(lease.delivery, run, left)
        except Exception:
            # Not given back at once: what fails here would fail again, as often as the queue lets it.
            await self._leases.let_go([lease.delivery])
            raise
        finally:
            self.running -= 1
            self._cancellations.forget(run)
            self._overdue.discard(run)
            if run.leftover is None:
                self._slots.give_back()
            else:
                self._await_leftover(run, run.leftover)

    async def settle(self, lease: Lease, settlement: Settlement) -> bool:
        """Settle an outcome, in company where others run."""
        if lease.lost:
            self._settler.drop(settlement, "the lease was lost")
            return False
        return await self._settler.settle(settlement, wait=self.running > 0)

    def hand_over(self, settlement: Settlement) -> None:
        """The same, where nobody waits for the answer."""
        self._settler.hand_over(settlement, wait=self.running > 0)

    async def give_back(self, unrun: Sequence[Lease], interrupted: Sequence[Lease]) -> None:
        """Take messages back to the queue, at once."""
        self._slots.give_back(len(unrun))
        deliveries = [lease.delivery for lease in (*interrupted, *unrun) if not lease.lost]
        if deliveries:
            await self._leases.let_go(deliveries)
            await self._broker.extend(deliveries, [0.0] * len(deliveries))

    def lane_ended(self, lane: Lane, error: Exception | None) -> None:
        """Forget a lane."""
        self._lanes.discard(lane)
        if self._closed:
            self._note()
        if error is not None:
            self._telemetry.emit("lane.failed", worker=self._worker, reason=repr(error))

    def _note(self) -> None:
        if self._lanes:
            self._none.clear()
        else:
            self._none.set()

    async def _attempt(self, delivery: Delivery, run: Run, left: Left) -> Settlement:
        try:
            task = codec.decode(delivery.body)
        except MalformedMessageError as error:
            return _unreadable(delivery, error)
        claimed = await self._claims.claim(task) if self._claims.counts(task) else None
        if claimed is not None and claimed.state is not TaskState.RUNNING:
            self._telemetry.emit("task.skipped", **fields_of(task), state=claimed.state.value)
            return _settled_before(delivery, task, claimed)
        tracked = claimed is not None
        run.task, run.attempt = task, claimed.attempt if claimed is not None else delivery.receive_count
        run.on_left = partial(self._leave, delivery, left, tracked=tracked)
        outcome = (self._spent(task, claimed) if claimed is not None else None) or await self._run(task, claimed, run)
        return _settlement(delivery, task, run.attempt, outcome, tracked=tracked)

    def _spent(self, task: Task, claimed: Claimed) -> Outcome | None:
        """The rejection of a task whose workers died of it.

        Only the ledger knows that: without one, a high receive count may come from lanes that were given back unrun,
        and the queue's own redrive policy is what ends a loop of crashes.
        """
        most = self._executor.max_attempts(task.task_name)
        if claimed.attempt <= most:
            return None
        died = Failure(type="AttemptsSpent", message=f"{most} attempts were started and none ended: workers died")
        return Reject(claimed.failure or died)

    def _run(self, task: Task, claimed: Claimed | None, run: Run) -> Coroutine[Any, Any, Outcome]:
        if self._tells_starts:
            self._telemetry.emit("task.started", **fields_of(task), attempt=run.attempt, worker=self._worker)
        if claimed is None or task.task_name == FOLD_NAME:
            return self._executor.run(task, run.attempt, run)
        self._cancellations.watch(run, self._claims.of(task))
        return self._executor.run(task, run.attempt, run, until=claimed.deadline_at)

    def _leave(self, delivery: Delivery, left: Left, run: Run, outcome: Outcome | None, *, tracked: bool) -> None:
        self._overdue.add(run)  # a reference: the loop itself keeps none
        self._tell_overdue(run)
        if outcome is None or run.task is None:
            left(None)
        else:
            left(_settlement(delivery, run.task, run.attempt, outcome, tracked=tracked))

    def _await_leftover(self, run: Run, leftover: asyncio.Future[Any]) -> None:
        """What outlives its timeout can't be ended: until it ends by itself, its slot is taken."""
        self._tell_overdue(run)
        leftover.add_done_callback(lambda _: self._slots.give_back())

    def _tell_overdue(self, run: Run) -> None:
        fields = fields_of(run.task) if run.task is not None else {}
        self._telemetry.emit("task.overdue", **fields, attempt=run.attempt, worker=self._worker)


def _settlement(delivery: Delivery, task: Task, attempt: int, outcome: Outcome, *, tracked: bool) -> Settlement:
    return Settlement(delivery=delivery, task=task, attempt=attempt, outcome=outcome, tracked=tracked)


def _unreadable(delivery: Delivery, error: MalformedMessageError) -> Settlement:
    return Settlement(
        delivery=delivery,
        task=None,
        attempt=delivery.receive_count,
        outcome=Reject(Failure(type="MalformedMessage", message=str(error))),
        tracked=False,
    )


def _settled_before(delivery: Delivery, task: Task, claimed: Claimed) -> Settlement:
    dead = claimed.state is TaskState.DEAD
    return Settlement(
        delivery=delivery,
        task=task,
        attempt=claimed.attempt,
        # Dead: a crash may have come between the ledger's word and the dead letter queue's copy.
        outcome=Reject(claimed.failure or Failure(type="Dead", message="")) if dead else Completed(None, "null"),
        tracked=False,
        recorded=True,
        fold_due=claimed.fold_due,
        generation=claimed.generation,
    )
