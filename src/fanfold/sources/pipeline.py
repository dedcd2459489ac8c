"""Records → fan-outs: plans and enqueues what the consumer hands over, on the application's event loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from fanfold.clock import Clock
from fanfold.errors import FanOutSealedError, InvalidInputError, PoisonEventError
from fanfold.model import Enqueued
from fanfold.outcome import failure_of
from fanfold.retry import Backoff
from fanfold.sources.assignment import Place, Ticket
from fanfold.sources.declaration import EventDeclaration
from fanfold.sources.lanes import Lanes, Turn
from fanfold.sources.order import Order
from fanfold.sources.planning import Decision, Later, Planned, Poison, Prepared, plan, plan_async
from fanfold.sources.record import Record
from fanfold.sources.tally import Tally, Trouble

PLANNING_THREADS: Final = 8
"""Plain planners that run at once."""
_CHUNK: Final = 64
"""Records that one visit to a thread plans: the visit costs more than most plans."""
_PATIENCE: Final = Backoff(base=0.5, factor=2, cap=15)
"""Between tries of a record that the queue, the ledger or the dead letter topic doesn't take. They never end."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record, and the consumer's ticket for it."""

    record: Record
    ticket: Ticket


@dataclass(slots=True)
class _Plans:
    """What was decided about a chunk, once it is ready."""

    decisions: Sequence[Decision | Prepared] = ()
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Pipeline:
    """Carries records from the consumer to the queue. For one event loop.

    1. A chunk of records is decoded and planned in a thread; async planners run on the loop.
    2. Where order is asked for, a record waits until the one before it in its lane is over.
    3. It is enqueued, and tried again for as long as it takes; what can never be enqueued is set aside. A record that
       comes again after a crash, and that another version of its planner enqueued before, stays as that one planned it.
    4. `over(ticket, done)` is called once for each: `done` only when the fan-out is in the ledger and the queue, there
       was nothing to do, or the record is set aside. One that was abandoned or broke its lane is over, and not done.
    """

    def __init__(
        self,
        events: Mapping[str, EventDeclaration],
        *,
        enqueue: Callable[..., Awaitable[Enqueued]],
        set_aside: Callable[[Poison, Record], Awaitable[None]],
        over: Callable[[Ticket, bool], None],
        failed: Callable[[BaseException], None],
        order: Order,
        tally: Tally,
        trouble: Trouble,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Make a pipeline.

        Args:
            events: the declared events by topic.
            enqueue: `Fanfold.enqueue_async`.
            set_aside: takes a poison event; raises PoisonEventError where the source shall stop, and what else it
                raises is tried again.
            over: told of each record when no more care is taken of it.
            failed: told of what nobody here can handle; the source stops then.
            order: what is enqueued one after the other.
            tally: counts.
            trouble: says what keeps records waiting.
            clock: where waits come from.
            rng: where their jitter comes from.
        """
        self._events = events
        self._app_enqueue = enqueue
        self._put_aside = set_aside
        self._tell_over = over
        self._tell_failed = failed
        self._order = order
        self._tally = tally
        self._trouble = trouble
        self._clock = clock
        self._rng = rng
        self._lanes = Lanes()
        self._threads = ThreadPoolExecutor(PLANNING_THREADS, thread_name_prefix="fanfold-planner")
        self._carrying: dict[Ticket, asyncio.Task[bool]] = {}
        self._planning: set[asyncio.Task[None]] = set()

    @property
    def carrying(self) -> Collection[asyncio.Task[bool]]:
        """What is under way."""
        return self._carrying.values()

    def accept(self, arrivals: Sequence[Arrival]) -> None:
        """Take records on, in the order in which they were received."""
        for start in range(0, len(arrivals), _CHUNK):
            self._accept_chunk(arrivals[start : start + _CHUNK])

    def abandon(self, places: Collection[Place] | None = None) -> None:
        """Give up what is under way of these partitions (None: of all). Another delivery of it does the rest."""
        for ticket, task in list(self._carrying.items()):
            if places is None or ticket.place in places:
                task.cancel()

    def close(self) -> None:
        """Let go of the threads; what runs in one is left to end."""
        for task in self._planning:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _accept_chunk(self, chunk: Sequence[Arrival]) -> None:
        plans = _Plans()
        planning = asyncio.create_task(self._plan_chunk([arrival.record for arrival in chunk], plans))
        self._planning.add(planning)
        planning.add_done_callback(self._planned)
        for index, arrival in enumerate(chunk):
            lane = self._lane(arrival.record)
            turn = self._lanes.join(lane) if lane is not None else None
            task = asyncio.create_task(self._carry(arrival.record, plans, index, turn))
            self._carrying[arrival.ticket] = task
            task.add_done_callback(partial(self._ended, arrival.ticket, lane, turn))

    def _lane(self, record: Record) -> Hashable | None:
        if self._order is Order.NONE or (self._order is Order.KEY and record.key is None):
            return None
        return record.topic, record.partition, record.key if self._order is Order.KEY else None

    async def _plan_chunk(self, records: Sequence[Record], plans: _Plans) -> None:
        plans.decisions = await self._in_thread(records)
        plans.ready.set()

    def _planned(self, planning: asyncio.Task[None]) -> None:
        self._planning.discard(planning)
        if not planning.cancelled() and (error := planning.exception()) is not None:
            self._tell_failed(error)  # its records would wait for ever

    async def _in_thread(self, records: Sequence[Record]) -> Sequence[Decision | Prepared]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._plan_all, records)

    def _plan_all(self, records: Sequence[Record]) -> Sequence[Decision | Prepared]:
        return [plan(self._events[record.topic], record) for record in records]

    async def _carry(self, record: Record, plans: _Plans, index: int, turn: Turn | None) -> bool:
        """Answers whether the record is done; False where its lane was broken before it."""
        await plans.ready.wait()
        decision = await self._decision(record, plans.decisions[index])
        if turn is not None and not await turn.wait():
            return False
        await self._carry_out(decision, record)
        return True

    def _ended(self, ticket: Ticket, lane: Hashable | None, turn: Turn | None, task: asyncio.Task[bool]) -> None:
        error = None if task.cancelled() else task.exception()
        done = not task.cancelled() and error is None and task.result()
        if turn is not None:
            self._lanes.leave(lane, turn, kept=done)
        del self._carrying[ticket]
        self._tell_over(ticket, done)
        if error is not None:
            self._tell_failed(error)

    async def _decision(self, record: Record, found: Decision | Prepared) -> Decision:
        """What the planner says in the end: an async one is awaited, and one that asks for time gets it."""
        decision, attempt = await self._asked(record, found), 0
        while isinstance(decision, Later):
            attempt += 1
            await self._pause(record, decision.failure, attempt, decision.delay)
            [found] = await self._in_thread([record])
            decision = await self._asked(record, found)
        return decision

    async def _asked(self, record: Record, found: Decision | Prepared) -> Decision:
        return await plan_async(self._events[record.topic], found) if isinstance(found, Prepared) else found

    async def _carry_out(self, decision: Decision, record: Record) -> None:
        if isinstance(decision, Planned):
            decision = await self._enqueue(decision, record)
        if isinstance(decision, Poison):
            await self._set_aside(decision, record)
            self._tally.poison += 1
        elif isinstance(decision, Planned):
            self._tally.enqueued += 1
        else:
            self._tally.nothing += 1

    async def _enqueue(self, planned: Planned, record: Record) -> Planned | Poison:
        try:
            await self._persist(record, partial(self._enqueue_once, planned))
        except FanOutSealedError as error:
            if planned.event_id == record.place:  # so it is this record, and not another one with the same business key
                self._trouble.planned_before(record, error)
                return planned
            return Poison("enqueueing", failure_of(error, __file__))
        except InvalidInputError as error:
            return Poison("enqueueing", failure_of(error, __file__))
        return planned

    async def _enqueue_once(self, planned: Planned) -> None:
        await self._app_enqueue(planned.entity_id, planned.tasks, metadata=planned.metadata, event_id=planned.event_id)

    async def _set_aside(self, poison: Poison, record: Record) -> None:
        try:
            await self._persist(record, partial(self._put_aside, poison, record))
        except InvalidInputError as error:
            raise PoisonEventError(f"{record.place}: {poison}; and it can't be set aside: {error}") from error

    async def _persist(self, record: Record, once: Callable[[], Awaitable[Any]]) -> None:
        attempt = 0
        while True:
            try:
                await once()
            except (InvalidInputError, FanOutSealedError, PoisonEventError):
                raise  # no later try would fare better
            except Exception as error:  # noqa: BLE001 - whatever keeps a record from the queue, the record isn't lost
                attempt += 1
                await self._pause(record, error, attempt, _PATIENCE.delay(attempt, self._rng))
            else:
                return

    async def _pause(self, record: Record, reason: object, attempt: int, seconds: float) -> None:
        self._trouble.met(record, reason, attempt)
        self._tally.waiting += 1
        try:
            await self._clock.sleep(seconds)
        finally:
            self._tally.waiting -= 1
