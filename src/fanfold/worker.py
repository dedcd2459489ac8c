"""The worker: receives, runs, settles, and stops in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fanfold import codec
from fanfold.batcher import Batcher
from fanfold.brokers.protocol import Broker
from fanfold.clock import Clock
from fanfold.errors import ConfigurationError, FanfoldError, MalformedMessageError
from fanfold.executor import Executor
from fanfold.intake import Intake
from fanfold.leases import Lease, Leases
from fanfold.ledgers.protocol import Claim, Claimed, Ledger
from fanfold.model import Delivery, Failure, Task, TaskState
from fanfold.outcome import Completed, Outcome, Reject, Retry
from fanfold.reconciler import Reconciler
from fanfold.service import Deadline, Service
from fanfold.settler import Announce, Settlement, Settler
from fanfold.slots import Slots
from fanfold.telemetry import Telemetry

_CLAIMS: Final = 100
_LONGEST_RESERVE: Final = 2.0
"""Seconds before the deadline at which running tasks are cancelled, so that giving them back is still in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How much a worker takes on, and for how long it holds it.

    `concurrency` tasks at once; `lease` seconds of visibility, extended while we hold a message (a crashed worker's
    tasks are back after it); `grace` seconds to stop in.
    """

    concurrency: int = 10
    lease: float = 60.0
    grace: float = 30.0

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigurationError(f"concurrency={self.concurrency}: a worker runs at least 1 task at once")
        if not 0 < self.lease <= 43_200:  # noqa: PLR2004 - 12 hours, as the text says
            raise ConfigurationError(f"lease={self.lease}: above 0 and at most 43200 seconds (12 hours)")
        if self.grace < 0:
            raise ConfigurationError(f"grace={self.grace}: seconds to stop in, at least 0")


class Worker(Service):
    """A process's share of the work.

    1. Intake receives into free slots; the heartbeat holds every lease from then on.
    2. Each group's messages form a lane and run one after the other; after a failure the rest of it is given back.
    3. A task starts when the ledger has counted the attempt; one that is over already is only acknowledged.
    4. The executor says what came of it, the settler applies that.
    5. `stop`: no new polls; what hasn't started is given back; what runs gets until the deadline, then is cancelled and
       given back; what is done is settled.

    It never dies of a message, and never settles one whose lease it lost.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger | None,
        executor: Executor,
        *,
        name: str,
        options: WorkerOptions,
        announce: Announce | None,
        telemetry: Telemetry,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        super().__init__()
        self.name = name
        self._broker = broker
        self._ledger = ledger
        self._executor = executor
        self._telemetry = telemetry
        self._clock = clock
        self._slots = Slots(options.concurrency)
        self._leases = Leases(broker, lease=options.lease, clock=clock, telemetry=telemetry)
        self._settler = Settler(
            broker, ledger, self._leases, announce=announce, telemetry=telemetry, clock=clock, worker=name
        )
        self._intake = Intake(
            broker,
            self._slots,
            self._take_on,
            lease=options.lease,
            clock=clock,
            rng=rng,
            telemetry=telemetry,
        )
        self._reconciler = Reconciler(broker, ledger, announce=announce, clock=clock, rng=rng, telemetry=telemetry)
        self._claims: Batcher[Claim, Claimed | None] = Batcher(self._claim_batch, size=_CLAIMS, linger=0)
        self._lanes: set[asyncio.Task[None]] = set()
        self._running = 0
        self._draining = False

    @property
    def last_receive_at(self) -> float | None:
        """When a receive last succeeded, in seconds since the epoch; None before the first."""
        return self._intake.last_receive_at

    @property
    def idle(self) -> bool:
        """Whether nothing that was received is still to be run or settled."""
        return not self._lanes

    async def _start(self) -> None:
        self._telemetry.emit("worker.started", worker=self.name, concurrency=self._slots.size, queue=self._broker.url)
        self._leases.start()
        await self._reconciler.start()
        await self._intake.start()

    async def _stop(self, deadline: Deadline) -> None:
        self._telemetry.emit("worker.stopping", worker=self.name, running=self._running, seconds=deadline.remaining)
        self._draining = True
        reserve = min(_LONGEST_RESERVE, deadline.remaining / 4)
        await self._intake.stop(deadline)
        await self._reconciler.stop(deadline)
        if not await deadline.wait(self._lanes, reserve=reserve):
            for lane in self._lanes:
                lane.cancel()
            await asyncio.wait(self._lanes, timeout=_LONGEST_RESERVE)  # giving back is quick, and worth it even now
        settled = asyncio.ensure_future(self._settler.drain())
        await asyncio.wait([settled], timeout=max(deadline.remaining, _LONGEST_RESERVE))
        if not settled.done():
            self._settler.cancel()
        await self._leases.stop()
        self._executor.close()
        self._telemetry.emit("worker.stopped", worker=self.name)

    def _take_on(self, deliveries: Sequence[Delivery]) -> None:
        lanes: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            lanes.setdefault(delivery.group_id, []).append(delivery)
        for lane in lanes.values():
            task = asyncio.create_task(self._run_lane(lane))
            self._lanes.add(task)
            task.add_done_callback(self._lane_ended)

    def _lane_ended(self, lane: asyncio.Task[None]) -> None:
        self._lanes.discard(lane)
        if not lane.cancelled() and (error := lane.exception()) is not None:
            self._telemetry.emit("settle.failed", worker=self.name, reason=repr(error))

    async def _run_lane(self, lane: Sequence[Delivery]) -> None:
        leases = [self._hold(delivery) for delivery in lane]
        unrun = list(leases)
        try:
            while unrun and not self._draining:
                if not await self._run(unrun.pop(0)):
                    break
        finally:
            await self._give_back([lease.delivery for lease in unrun if not lease.lost])
            self._slots.give_back(len(unrun))

    def _hold(self, delivery: Delivery) -> Lease:
        loop, lane = asyncio.get_running_loop(), asyncio.current_task()
        # One message of a group lost means the group is somebody else's now: the lane ends as a whole.
        return self._leases.hold(delivery, lambda: loop.call_soon_threadsafe(lane.cancel) if lane else None)

    async def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            await self._leases.let_go(deliveries)
            await self._broker.extend(deliveries, [0.0] * len(deliveries))

    async def _run(self, lease: Lease) -> bool:
        """Run one message to its settlement; answers whether the next of its lane may start."""
        leftovers: list[asyncio.Future[object]] = []
        self._running += 1
        try:
            settlement = await self._decide(lease.delivery, leftovers)
        except asyncio.CancelledError:
            if not lease.lost:
                await self._give_back([lease.delivery])
            raise
        finally:
            self._running -= 1
            self._free_slot(leftovers)
        if lease.lost:
            return False
        await asyncio.shield(self._settler.settle(settlement, wait=self._running > 0))
        return not isinstance(settlement.outcome, Retry)

    def _free_slot(self, leftovers: Sequence[asyncio.Future[object]]) -> None:
        # A thread can't be ended: while one outlives its timeout, its slot is taken.
        if not leftovers:
            self._slots.give_back()
        for leftover in leftovers:
            self._telemetry.emit("task.overdue", worker=self.name)
            leftover.add_done_callback(lambda _: self._slots.give_back())

    async def _decide(self, delivery: Delivery, leftovers: list[asyncio.Future[object]]) -> Settlement:
        try:
            task = codec.decode(delivery.body)
        except MalformedMessageError as error:
            failure = Failure(type="MalformedMessage", message=str(error))
            outcome = self._told(None, delivery.receive_count, Reject(failure), delivery)
            return Settlement(
                delivery=delivery, task=None, attempt=delivery.receive_count, outcome=outcome, tracked=False
            )
        claimed = await self._claim(task)
        if claimed is not None and claimed.state is not TaskState.RUNNING:
            return self._settled_before(delivery, task, claimed)
        attempt = claimed.attempt if claimed is not None else delivery.receive_count
        outcome = await self._outcome(task, attempt, claimed, leftovers)
        return Settlement(
            delivery=delivery,
            task=task,
            attempt=attempt,
            outcome=self._told(task, attempt, outcome, delivery),
            tracked=claimed is not None,
        )

    async def _outcome(
        self, task: Task, attempt: int, claimed: Claimed | None, leftovers: list[asyncio.Future[object]]
    ) -> Outcome:
        most = self._executor.max_attempts(task.task_name)
        if attempt > most:
            last = claimed.failure if claimed is not None else None
            lost = Failure(type="AttemptsSpent", message=f"{most} attempts were started and none ended: workers died")
            return Reject(last or lost)
        self._telemetry.emit("task.started", **_fields(task), attempt=attempt, worker=self.name)
        return await self._executor.run(task, attempt, leftovers.append)

    def _settled_before(self, delivery: Delivery, task: Task, claimed: Claimed) -> Settlement:
        self._telemetry.emit("task.skipped", **_fields(task), state=claimed.state.value)
        dead = claimed.state is TaskState.DEAD
        failure = claimed.failure or Failure(type="Dead", message="")
        return Settlement(
            delivery=delivery,
            task=task,
            attempt=claimed.attempt,
            # Dead: a crash may have come between the ledger's word and the dead letter queue's copy.
            outcome=Reject(failure) if dead else Completed(None, "null"),
            tracked=False,
            fold_due=claimed.fold_due,
            fold_generation=claimed.fold_generation,
        )

    async def _claim(self, task: Task) -> Claimed | None:
        if self._ledger is None or task.fan_out_id is None:
            return None
        claim = Claim(
            fan_out_id=task.fan_out_id, task_name=task.task_name, generation=task.generation, worker=self.name
        )
        wait = 0.1
        while True:
            try:
                return await self._claims.add(claim)
            except FanfoldError as error:
                self._telemetry.emit("claim.failed", **_fields(task), reason=str(error), retry_in=wait)
                await self._clock.sleep(wait)
                wait = min(wait * 2, 10.0)

    async def _claim_batch(self, claims: Sequence[Claim]) -> Sequence[Claimed | None]:
        if self._ledger is None:
            return [None] * len(claims)
        return await self._ledger.claim(claims)

    def _told(self, task: Task | None, attempt: int, outcome: Outcome, delivery: Delivery) -> Outcome:
        fields = _fields(task) if task is not None else {"message_id": delivery.message_id}
        if isinstance(outcome, Completed):
            self._telemetry.emit("task.completed", **fields, attempt=attempt)
        elif isinstance(outcome, Retry):
            delay, error = outcome.delay, str(outcome.failure)
            self._telemetry.emit("task.retried", **fields, attempt=attempt, delay=delay, error=error)
        else:
            self._telemetry.emit("task.dead", **fields, attempt=attempt, error=str(outcome.failure))
        return outcome


def _fields(task: Task) -> dict[str, str | None]:
    return {"entity_id": task.entity_id, "task_name": task.task_name, "fan_out_id": task.fan_out_id}
