from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest

from fanfold import Fanfold, Retry
from fanfold.errors import (
    BrokerUnavailableError,
    FanOutIncompleteError,
    FanOutSealedError,
    InvalidInputError,
    KafkaUnavailableError,
    PoisonEventError,
    StorageReadOnlyError,
)
from fanfold.sources import Record
from fanfold.sources.assignment import Ticket
from fanfold.sources.order import Order
from fanfold.sources.pipeline import Arrival, Pipeline
from fanfold.sources.poison import stop_at
from fanfold.sources.tally import Tally, Trouble
from fanfold.telemetry import Telemetry
from fanfold.testing import FakeClock


class Bench:
    """A pipeline with an application whose queue can be told to fail or to wait, and what came of each record."""

    def __init__(self, order=Order.NONE, planner=lambda event: event, **options):
        app = Fanfold()
        app.event("t", **options)(planner)
        self.clock = FakeClock()
        self.enqueued, self.over, self.failures, self.aside, self.said = [], {}, [], [], []
        self.errors = defaultdict(list)
        self.gates = {}
        self.aside_errors = []
        self.changed = asyncio.Event()
        self.tally = Tally()
        self.set_aside = self._set_aside
        self.pipeline = Pipeline(
            {"t": app.events.get("t")},
            enqueue=self._enqueue,
            set_aside=self._by_policy,
            over=self._over,
            failed=self.failures.append,
            order=order,
            tally=self.tally,
            trouble=Trouble(Telemetry(self.said.append), self.clock, self.tally),
            clock=self.clock,
            rng=random.Random(1),
        )
        self._next = 0

    def take(self, *values, key=b"doc-1", partition=0):
        """Hand records over in one go; answers their tickets."""
        arrivals = []
        for value in values:
            ticket = Ticket(("t", partition), self._next, 1, 0.0)
            record = Record(topic="t", partition=partition, offset=self._next, key=key, value=value)
            arrivals.append(Arrival(record, ticket))
            self._next += 1
        self.pipeline.accept(arrivals)
        return [arrival.ticket for arrival in arrivals]

    async def until(self, condition):
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def finish(self):
        while self.pipeline.carrying:
            await asyncio.wait(self.pipeline.carrying)
        self.pipeline.close()

    async def asleep(self, sleepers=1):
        """Return when so many wait for the clock."""
        while self.clock.sleepers < sleepers:  # noqa: ASYNC110 - a fake clock tells nobody who falls asleep
            await asyncio.sleep(0)

    async def _enqueue(self, entity_id, tasks, *, metadata, event_id):  # noqa: ARG002 - enqueue's shape
        task = tasks[0]
        self.enqueued.append(task)
        self.changed.set()
        if task in self.gates:
            await self.gates[task].wait()
        if self.errors[task]:
            raise self.errors[task].pop(0)

    async def _by_policy(self, poison, record):
        await self.set_aside(poison, record)

    async def _set_aside(self, poison, record):
        if self.aside_errors:
            raise self.aside_errors.pop(0)
        self.aside.append((record.offset, poison.stage))

    def _over(self, ticket, done):
        self.over[ticket.offset] = done
        self.changed.set()


@pytest.fixture
def make():
    return Bench


async def test_a_record_is_done_when_it_is_enqueued_and_not_before(make):
    bench = make()
    bench.gates["a"] = asyncio.Event()
    bench.take(b'["a"]')
    await bench.until(lambda: bench.enqueued == ["a"])
    assert bench.over == {}
    bench.gates["a"].set()
    await bench.finish()
    assert bench.over == {0: True}
    assert bench.tally == Tally(enqueued=1)


async def test_more_records_than_a_chunk_are_carried_all(make):
    bench = make()
    bench.take(*[b'["a"]'] * 200)
    await bench.finish()
    assert bench.over == dict.fromkeys(range(200), True)


async def test_nothing_to_do_is_done(make):
    bench = make()
    bench.take(b"[]")
    await bench.finish()
    assert (bench.over, bench.tally.nothing, bench.enqueued) == ({0: True}, 1, [])


async def test_an_async_planner_is_awaited(make):
    async def planner(event):
        await asyncio.sleep(0)
        return event

    bench = make(planner=planner)
    bench.take(b'["a"]')
    await bench.finish()
    assert bench.enqueued == ["a"]


@pytest.mark.parametrize(
    "error",
    [
        BrokerUnavailableError("away"),
        FanOutIncompleteError("f", ["a"], "throttled"),
        StorageReadOnlyError("read-only"),
        OSError("no route"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_queue_doesnt_take_is_tried_again_for_as_long_as_it_lasts(make, error):
    bench = make()
    bench.errors["a"] = [error] * 12
    bench.take(b'["a"]')
    for _ in range(12):
        await bench.asleep()
        assert (bench.over, bench.tally.waiting) == ({}, 1)
        bench.clock.advance(15)
    await bench.finish()
    assert (bench.over, len(bench.enqueued), bench.tally) == ({0: True}, 13, Tally(enqueued=1))


async def test_trouble_is_said_once_for_all_that_meet_it_and_again_after_a_while(make):
    bench = make()
    for name in "abc":
        bench.errors[name] = [BrokerUnavailableError("the queue is away")] * 30
    bench.take(b'["a"]', b'["b"]', b'["c"]')
    await bench.asleep(3)
    assert [event.name for event in bench.said] == ["kafka.waiting"]
    assert bench.said[0].fields["reason"] == "the queue is away"
    bench.clock.advance(15)
    await bench.until(lambda: len(bench.said) == 2)
    bench.pipeline.abandon()
    await bench.finish()


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (InvalidInputError("no such task"), {}),
        (FanOutSealedError("other names"), {"event_id": lambda key: f"business key of {key}"}),
    ],
    ids=["invalid", "another event with the same key"],
)
async def test_what_the_producer_refuses_for_good_is_poison(make, error, options):
    bench = make(**options)
    bench.errors["a"] = [error]
    bench.take(b'["a"]')
    await bench.finish()
    assert (bench.aside, bench.over, bench.tally.poison) == ([(0, "enqueueing")], {0: True}, 1)


async def test_a_record_that_an_older_planner_enqueued_before_a_crash_stays_as_it_was_planned(make):
    bench = make()
    bench.errors["a"] = [FanOutSealedError("sealed with b")]
    bench.take(b'["a"]')
    await bench.finish()
    assert (bench.aside, bench.over, bench.tally.enqueued) == ([], {0: True}, 1)
    assert [(event.name, event.fields["reason"]) for event in bench.said] == [("kafka.planned_before", "sealed with b")]


async def test_a_poison_event_is_done_only_when_it_is_set_aside(make):
    bench = make()
    bench.aside_errors = [KafkaUnavailableError("away")] * 3
    bench.take(b"{not json")
    for _ in range(3):
        await bench.asleep()
        assert bench.over == {}
        bench.clock.advance(15)
    await bench.finish()
    assert (bench.aside, bench.over) == ([(0, "decoding")], {0: True})


async def test_a_poison_event_that_cant_be_set_aside_either_stops_the_source(make):
    bench = make()
    bench.aside_errors = [InvalidInputError("too large for the topic")]
    bench.take(b"{not json")
    await bench.finish()
    assert bench.over == {0: False}
    [error] = bench.failures
    assert isinstance(error, PoisonEventError)
    assert "too large for the topic" in str(error)


async def test_where_poison_stops_the_source_its_offset_isnt_done(make):
    bench = make()
    bench.set_aside = stop_at
    bench.take(b'["a"]', b"{not json", b'["b"]')
    await bench.finish()
    assert bench.over == {0: True, 1: False, 2: True}
    [error] = bench.failures
    assert str(error).startswith("t:0:1 can't be enqueued: decoding it failed")
    assert "dead letter topic" in str(error)


async def test_a_planner_that_asks_for_time_is_asked_again(make):
    answers = [Retry("not yet", delay=7), Retry("not yet"), ["a"]]
    bench = make(planner=lambda event: answers.pop(0))  # noqa: ARG005 - a planner's shape
    bench.take(b"{}")
    await bench.asleep()
    bench.clock.advance(6)
    assert len(answers) == 2
    bench.clock.advance(1)
    await bench.until(lambda: not bench.clock.sleepers)
    await bench.asleep()
    bench.clock.advance(30)
    await bench.finish()
    assert (bench.enqueued, bench.over) == (["a"], {0: True})


async def test_without_order_a_record_doesnt_wait_for_the_one_before_it(make):
    bench = make()
    bench.gates["a"] = asyncio.Event()
    bench.take(b'["a"]', b'["b"]')
    await bench.until(lambda: bench.over == {1: True})
    bench.gates["a"].set()
    await bench.finish()


@pytest.mark.parametrize(
    ("order", "waits"),
    [(Order.KEY, {("k", 0): True, ("other", 0): False}), (Order.PARTITION, {("k", 0): True, ("other", 0): True})],
)
async def test_what_shares_a_lane_waits_for_the_one_before_it(make, order, waits):
    for (key, partition), waiting in waits.items():
        bench = make(order)
        bench.gates["a"] = asyncio.Event()
        bench.take(b'["a"]', key=b"k")
        bench.take(b'["b"]', key=key.encode(), partition=partition)
        bench.take(b'["c"]', key=b"k", partition=1)
        await bench.until(lambda bench=bench: 2 in bench.over)
        if not waiting:
            await bench.until(lambda bench=bench: 1 in bench.over)
        assert ("b" in bench.enqueued) is not waiting
        bench.gates["a"].set()
        await bench.finish()
        assert bench.over == dict.fromkeys(range(3), True)


async def test_by_key_a_record_without_one_waits_for_nobody(make):
    bench = make(Order.KEY, entity=lambda event: event[0])
    bench.gates["a"] = asyncio.Event()
    bench.take(b'["a"]', b'["b"]', key=None)
    await bench.until(lambda: bench.over == {1: True})
    bench.gates["a"].set()
    await bench.finish()


async def test_order_is_kept_over_retries(make):
    bench = make(Order.KEY)
    bench.errors["a"] = [BrokerUnavailableError("away")]
    bench.take(b'["a"]', b'["b"]')
    await bench.asleep()
    bench.clock.advance(15)
    await bench.finish()
    assert bench.enqueued == ["a", "a", "b"]


async def test_in_order_nothing_goes_past_a_poison_event_that_stops_the_source(make):
    bench = make(Order.KEY)
    bench.set_aside = stop_at
    bench.take(b"{not json", b'["b"]', b'["c"]')
    await bench.finish()
    assert (bench.enqueued, bench.over) == ([], {0: False, 1: False, 2: False})
    assert len(bench.failures) == 1


async def test_what_is_abandoned_is_over_and_not_done(make):
    bench = make()
    bench.gates["a"] = bench.gates["b"] = asyncio.Event()
    bench.take(b'["a"]', partition=0)
    bench.take(b'["b"]', partition=1)
    await bench.until(lambda: len(bench.enqueued) == 2)
    bench.pipeline.abandon([("t", 1)])
    await bench.until(lambda: bench.over == {1: False})
    bench.gates["a"].set()
    await bench.finish()
    assert (bench.over, bench.failures) == ({0: True, 1: False}, [])


async def test_what_is_abandoned_before_it_began_is_over_too(make):
    bench = make(Order.KEY)
    bench.take(b'["a"]', b'["b"]')
    bench.pipeline.abandon()
    await bench.finish()
    assert (bench.over, bench.enqueued) == ({0: False, 1: False}, [])


async def test_a_fault_of_our_own_stops_the_source_instead_of_leaving_records_waiting(make):
    bench = make()
    bench.pipeline._events = {}
    bench.take(b'["a"]')
    while not bench.failures:  # noqa: ASYNC110 - one round of the loop after the other, no time passes
        await asyncio.sleep(0)
    assert isinstance(bench.failures[0], KeyError)
    bench.pipeline.abandon()
    await bench.finish()
    assert bench.over == {0: False}
