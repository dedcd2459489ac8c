"""The worker: receives, runs, settles, and stops in order."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

from fanfold.brokers.protocol import Broker
from fanfold.cancellations import Cancellations
from fanfold.claims import Claims
from fanfold.clock import Clock
from fanfold.errors import ConfigurationError
from fanfold.executor import Executor
from fanfold.intake import Intake
from fanfold.lanes import Lanes
from fanfold.leases import Leases
from fanfold.ledgers.protocol import Ledger
from fanfold.model import Failure, Task
from fanfold.reconciler import Reconciler, Resend
from fanfold.service import Deadline, Service
from fanfold.settler import Announce, Settler
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
        self._cancellations = Cancellations(ledger, every=options.lease / 3, clock=clock, telemetry=telemetry)
        self._lanes = self._new_lanes(Claims(ledger, worker=name, clock=clock, telemetry=telemetry))
        self._intake = self._new_intake(options, clock, rng)
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

    @property
    def last_receive_at(self) -> float | None:
        """When a receive last succeeded, in seconds since the epoch; None before the first."""
        return self._intake.last_receive_at

    @property
    def idle(self) -> bool:
        """Whether nothing that was received is still to be run or settled."""
        return not self._lanes and self._settler.idle

    def _new_lanes(self, claims: Claims) -> Lanes:
        return Lanes(
            self._broker,
            slots=self._slots,
            leases=self._leases,
            claims=claims,
            cancellations=self._cancellations,
            executor=self._executor,
            settler=self._settler,
            telemetry=self._telemetry,
            worker=self.name,
        )

    def _new_intake(self, options: WorkerOptions, clock: Clock, rng: random.Random) -> Intake:
        return Intake(
            self._broker,
            self._slots,
            self._lanes.take_on,
            lease=options.lease,
            longest_poll=options.grace - LAST_MOMENTS,
            clock=clock,
            rng=rng,
            telemetry=self._telemetry,
        )

    async def _start(self) -> None:
        self._telemetry.emit("worker.started", worker=self.name, concurrency=self._slots.size, queue=self._broker.url)
        self._leases.start()
        await self._reconciler.start()
        await self._cancellations.start()
        await self._intake.start()

    async def _stop(self, deadline: Deadline) -> None:
        self._telemetry.emit(
            "worker.stopping", worker=self.name, running=self._lanes.running, seconds=deadline.remaining
        )
        self._lanes.close()
        runs_until = deadline.earlier(min(LAST_MOMENTS, deadline.remaining / 4))
        await self._intake.stop(runs_until)
        await self._reconciler.stop(runs_until)
        await self._lanes.wait(runs_until)
        await self._end(Deadline(max(deadline.remaining, LAST_MOMENTS)))
        self._telemetry.emit("worker.stopped", worker=self.name)

    async def _end(self, deadline: Deadline) -> None:
        self._lanes.interrupt()
        settled = asyncio.ensure_future(self._settler.drain())
        if not await deadline.earlier(deadline.remaining / 2).wait([settled]):
            self._settler.cancel()  # the ledger is away: the rest of the time is for what waits behind it
        await self._lanes.wait(deadline)
        await deadline.wait([asyncio.ensure_future(self._settler.drain())])  # of runs that didn't end
        await self._cancellations.stop(deadline)
        await self._leases.stop()
        self._executor.close()

    async def _tell_of_death(self, task: Task, failure: Failure, attempts: int) -> None:
        failed = await self._executor.tell_of_death(task, failure, attempts)
        if failed is not None:
            self._telemetry.emit("hook.failed", **fields_of(task), hook="on_task_dead", reason=str(failed))
