"""The worker: receives, runs, settles, and stops in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fanfold import codec
from fanfold.brokers.protocol import Broker
from fanfold.cancellations import Cancellations
from fanfold.claims import Claims
from fanfold.clock import Clock
from fanfold.errors import ConfigurationError, MalformedMessageError
from fanfold.executor import Executor
from fanfold.intake import Intake
from fanfold.lane import Lane
from fanfold.leases import Lease, Leases
from fanfold.ledgers.protocol import Claimed, Ledger
from fanfold.model import FOLD_NAME, Delivery, Failure, Task, TaskState
from fanfold.outcome import Completed, Outcome, Reject
from fanfold.reconciler import Reconciler, Resend
from fanfold.service import Deadline, Service
from fanfold.settler import Announce, Settlement, Settler
from fanfold.slots import Slots
from fanfold.telemetry import Telemetry, fields_of

LAST_MOMENTS: Final = 2.0
"""Seconds for giving back what was cancelled: taken from the end of the time to stop in, and at most so long beyond it,
where the queue is slow or there was no time at all."""


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
        if not self.grace >= 0:  # NaN too
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
        resend: Resend | None = None,
        telemetry: Telemetry,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        super().__init__()
        self.name = name
        self._broker = broker
        self._executor = executor
        self._telemetry = telemetry
        self._slots = Slots(options.concurrency)
        self._leases = Leases(broker, lease=options.lease, clock=clock, telemetry=telemetry)
        on_dead = self._tell_of_death if executor.tells_of_deaths else None
        self._settler = Settler(
            broker,
            ledger,
            self._leases,
            announce=announce,
            on_dead=on_dead,
            telemetry=telemetry,
            clock=clock,
            worker=name,
        )
        self._intake = Intake(
            broker,
            self._slots,
            self._take_on,
            lease=options.lease,
            longest_poll=options.grace - LAST_MOMENTS,
            clock=clock,
            rng=rng,
            telemetry=telemetry,
        )
        self._reconciler = Reconciler(
            broker,
            ledger,
            name=name,
            announce=announce,
            resend=resend,
            on_dead=on_dead,
            clock=clock,
            rng=rng,
            telemetry=telemetry,
        )
        self._cancellations = Cancellations(ledger, every=options.lease / 3, clock=clock, telemetry=telemetry)
        self._claims = Claims(ledger, worker=name, clock=clock, telemetry=telemetry)
        self._lanes: dict[asyncio.Task[None], Lane] = {}
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
        await self._cancellations.start()
        await self._intake.start()

    async def _stop(self, deadline: Deadline) -> None:
        self._telemetry.emit("worker.stopping", worker=self.name, running=self._running, seconds=deadline.remaining)
        self._draining = True
        for lane in self._lanes.values():
            lane.close()
        runs_until = deadline.earlier(min(LAST_MOMENTS, deadline.remaining / 4))
        await self._intake.stop(runs_until)
        await self._reconciler.stop(runs_until)
        await runs_until.wait(self._lanes)
        await self._end(Deadline(max(deadline.remaining, LAST_MOMENTS)))
        self._telemetry.emit("worker.stopped", worker=self.name)

    async def _end(self, deadline: Deadline) -> None:
        for lane in self._lanes.values():
            lane.interrupt()
        settled = asyncio.ensure_future(self._settler.drain())
        if not await deadline.earlier(deadline.remaining / 2).wait([settled]):
            self._settler.cancel()  # the ledger is away: the rest of the time is for what waits behind it
        await deadline.wait(self._lanes)
        await self._cancellations.stop(deadline)
        await self._leases.stop()
        self._executor.close()

    def _take_on(self, deliveries: Sequence[Delivery]) -> None:
        groups: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            groups.setdefault(delivery.group_id, []).append(delivery)
        for group in groups.values():
            lane = Lane(group, self._leases, decide=self._decide, settle=self._settle, give_back=self._give_back)
            if self._draining:
                lane.close()
            task = asyncio.create_task(lane.work())
            self._lanes[task] = lane
            task.add_done_callback(self._lane_ended)

    def _lane_ended(self, task: asyncio.Task[None]) -> None:
        del self._lanes[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._telemetry.emit("lane.failed", worker=self.name, reason=repr(error))

    async def _give_back(self, unrun: Sequence[Lease], interrupted: Sequence[Lease]) -> None:
        self._slots.give_back(len(unrun))
        deliveries = [lease.delivery for lease in (*interrupted, *unrun) if not lease.lost]
        if deliveries:
            await self._leases.let_go(deliveries)
            await self._broker.extend(deliveries, [0.0] * len(deliveries))

    async def _tell_of_death(self, task: Task, failure: Failure, attempts: int) -> None:
        failed = await self._executor.tell_of_death(task, failure, attempts)
        if failed is not None:
            self._telemetry.emit("hook.failed", **fields_of(task), hook="on_task_dead", reason=str(failed))

    async def _settle(self, lease: Lease, settlement: Settlement) -> bool:
        if lease.lost:
            self._settler.drop(settlement, "the lease was lost")
            return False
        return await self._settler.settle(settlement, wait=self._running > 0)

    async def _decide(self, lease: Lease) -> Settlement:
        overdue: list[asyncio.Future[Any]] = []
        self._running += 1
        try:
            return await self._attempt(lease.delivery, overdue)
        except Exception:
            # Not given back at once: what fails here would fail again, as often as the queue lets it.
            await self._leases.let_go([lease.delivery])
            raise
        finally:
            self._running -= 1
            self._free_slot(overdue)

    def _free_slot(self, overdue: Sequence[asyncio.Future[Any]]) -> None:
        # What outlives its timeout can't be ended: until it ends by itself, its slot is taken.
        if not overdue:
            self._slots.give_back()
        for run in overdue:
            run.add_done_callback(lambda _: self._slots.give_back())

    async def _attempt(self, delivery: Delivery, overdue: list[asyncio.Future[Any]]) -> Settlement:
        try:
            task = codec.decode(delivery.body)
        except MalformedMessageError as error:
            return _unreadable(delivery, error)
        claimed = await self._claims.claim(task)
        if claimed is not None and claimed.state is not TaskState.RUNNING:
            self._telemetry.emit("task.skipped", **fields_of(task), state=claimed.state.value)
            return _settled_before(delivery, task, claimed)
        attempt = claimed.attempt if claimed is not None else delivery.receive_count
        return Settlement(
            delivery=delivery,
            task=task,
            attempt=attempt,
            outcome=self._spent(task, claimed) or await self._run(task, attempt, claimed, overdue),
            tracked=claimed is not None,
        )

    def _spent(self, task: Task, claimed: Claimed | None) -> Outcome | None:
        """The rejection of a task whose workers died of it.

        Only the ledger knows that: without one, a high receive count may come from lanes that were given back unrun,
        and the queue's own redrive policy is what ends a loop of crashes.
        """
        most = self._executor.max_attempts(task.task_name)
        if claimed is None or claimed.attempt <= most:
            return None
        died = Failure(type="AttemptsSpent", message=f"{most} attempts were started and none ended: workers died")
        return Reject(claimed.failure or died)

    async def _run(
        self, task: Task, attempt: int, claimed: Claimed | None, overdue: list[asyncio.Future[Any]]
    ) -> Outcome:
        def note(run: asyncio.Future[Any]) -> None:
            overdue.append(run)
            self._telemetry.emit("task.overdue", **fields_of(task), attempt=attempt, worker=self.name)

        self._telemetry.emit("task.started", **fields_of(task), attempt=attempt, worker=self.name)
        if claimed is None or task.task_name == FOLD_NAME:
            return await self._executor.run(task, attempt, note)
        with self._cancellations.watching(self._claims.of(task)):
            return await self._executor.run(task, attempt, note, until=claimed.deadline_at)


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
