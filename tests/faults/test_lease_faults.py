"""Leases under stress: a blocked event loop keeps them, and who lost one settles nothing."""

from __future__ import annotations

import asyncio
import threading

import pytest
from watching import Events, HeartClock

from fanfold import Fanfold, ids
from fanfold.model import EntryError, TaskState
from fanfold.testing import FakeClock

LEASE = 60
BEAT = LEASE / 3
LOST = EntryError(code="InvalidParameterValue", text="The receipt handle has expired.", lease_lost=True)
AWAY = EntryError(code="ServiceUnavailable", text="The service is unavailable.", retryable=True)


@pytest.fixture
async def clock():
    return HeartClock()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture
async def app(url, clock):
    """An application whose worker takes on one group at a time, so that it doesn't find its own lost messages."""
    async with Fanfold(url, clock=clock, lease=LEASE, concurrency=1) as made:
        yield made


@pytest.fixture
def finish():
    """What a thread waits for; set at the end in any case, so that a failed test leaves none behind."""
    event = threading.Event()
    yield event
    event.set()


async def started(app, *tasks):
    await app.enqueue_async("doc-1", tasks)
    worker = await app.worker()
    await worker.start()
    return worker


async def only_fan_out(app):
    [summary] = await app.fan_outs_async()
    return await app.fan_out(summary.fan_out_id).get_async()


async def test_a_task_that_blocks_the_event_loop_keeps_its_lease(app, clock, url, finish):
    attempts, running, loop = [], asyncio.Event(), asyncio.get_running_loop()

    @app.task
    async def blocking(context):
        attempts.append(context.attempt)
        loop.call_soon_threadsafe(running.set)
        finish.wait()  # the whole loop waits

    async def work():
        events = Events(app)
        worker = await started(app, "blocking")
        await events.until("task.completed")
        await worker.stop()
        await app.close_async()

    working = asyncio.create_task(asyncio.to_thread(asyncio.run, work()))
    async with Fanfold(url, clock=clock) as rival:
        broker = await rival.broker()
        await clock.heart_sleeps()
        await running.wait()
        for _ in range(6):
            clock.advance(BEAT)
            await clock.heart_sleeps()
            assert await broker.receive(1, wait=0, lease=LEASE) == []
        finish.set()
        await working
        assert (await only_fan_out(rival)).progress.succeeded == 1
    assert attempts == [1]


async def test_a_beat_that_the_queue_missed_costs_nothing(app, clock):
    running, finish = asyncio.Event(), asyncio.Event()

    @app.task
    async def patient():
        running.set()
        await finish.wait()
        return "done"

    await answer_extends(app, [AWAY])
    events = Events(app)
    worker = await started(app, "patient")
    await running.wait()
    for _ in range(4):
        await clock.heart_sleeps()
        clock.advance(BEAT)
    await clock.heart_sleeps()
    finish.set()
    await events.until("task.completed")
    await worker.stop()
    assert (await only_fan_out(app)).results == {"patient": "done"}
    assert await (await app.broker()).ready_in() is None


async def test_a_lost_lease_cancels_its_task_and_settles_nothing(app, clock):
    running, cancelled = asyncio.Event(), asyncio.Event()

    @app.task
    async def endless():
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await answer_extends(app, [LOST])
    worker = await started(app, "endless")
    await running.wait()
    await clock.heart_sleeps()
    clock.advance(BEAT)
    await cancelled.wait()
    await worker.stop()
    assert (await only_fan_out(app)).tasks[0].state is TaskState.RUNNING
    assert (await app.status_async()).messages_in_flight == 1


async def test_a_task_that_ignores_the_loss_settles_nothing(app, clock):
    running = asyncio.Event()

    @app.task
    async def stubborn():
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"

    await answer_extends(app, [LOST])
    events = Events(app)
    worker = await started(app, "stubborn")
    await running.wait()
    await clock.heart_sleeps()
    clock.advance(BEAT)
    await events.until("lease.lost")
    await worker.stop()
    assert (await only_fan_out(app)).tasks[0].state is TaskState.RUNNING
    assert (await app.status_async()).messages_in_flight == 1


async def test_an_outcome_that_comes_after_the_successors_start_is_refused(app, clock, url):
    first_runs, first_ends, second_runs, second_ends = (asyncio.Event() for _ in range(4))

    @app.task("title")
    async def first_run():
        first_runs.set()
        await first_ends.wait()
        return "late"

    said = []
    app.subscribe(lambda event: said.append(event.name))
    worker = await started(app, "title")
    await first_runs.wait()
    # To the successor, whose clock is ahead, the lease has ended; to the first, it goes on.
    async with Fanfold(url, clock=FakeClock(clock.now() + LEASE)) as rival:

        @rival.task("title")
        async def second_run():
            second_runs.set()
            await second_ends.wait()
            return "in time"

        successor = await rival.worker()
        await successor.start()
        await second_runs.wait()
        first_ends.set()
        await worker.stop()
        assert (await only_fan_out(rival)).tasks[0].state is TaskState.RUNNING
        assert "outcome.dropped" in said
        assert "task.completed" not in said
        second_ends.set()
        await successor.stop()
        [task] = (await only_fan_out(rival)).tasks
        assert (task.state, task.result, task.attempts) == (TaskState.SUCCEEDED, "in time", 2)
        assert await (await rival.broker()).ready_in() is None


async def test_a_thread_is_told_that_its_lease_is_lost(app, clock, finish):
    contexts, running, loop = [], asyncio.Event(), asyncio.get_running_loop()

    @app.task
    def in_a_thread(context):
        contexts.append(context)
        loop.call_soon_threadsafe(running.set)
        finish.wait()

    await answer_extends(app, [LOST])
    events = Events(app)
    worker = await started(app, "in_a_thread")
    await running.wait()
    await clock.heart_sleeps()
    assert not contexts[0].cancelled
    clock.advance(BEAT)
    await events.until("task.overdue")
    assert contexts[0].cancelled
    finish.set()
    await worker.stop()


async def test_with_one_lease_of_a_group_lost_the_rest_of_its_lane_is_given_back_unrun(url, clock):
    runs, running = [], asyncio.Event()
    async with Fanfold(url, clock=clock, lease=LEASE, group_by=ids.group_per_entity) as app:

        @app.task
        async def first():
            runs.append("first")
            running.set()
            await asyncio.Event().wait()

        @app.task
        async def second():
            runs.append("second")

        await answer_extends(app, [LOST, None])
        events = Events(app)
        worker = await started(app, "first", "second")
        await running.wait()
        assert (await app.status_async()).messages_in_flight == 2
        await clock.heart_sleeps()
        clock.advance(BEAT)
        await events.until("lease.lost")
        await worker.stop()
        counts = await app.status_async()
        assert (counts.messages_available, counts.messages_in_flight) == (1, 1)
    assert runs == ["first"]


async def answer_extends(app, answers):
    """Let the queue answer the next extension with these errors; after it, as it does."""
    broker, prepared = await app.broker(), [answers]
    extend = broker.extend

    async def extend_or_fail(deliveries, seconds):
        if prepared and any(seconds):
            return prepared.pop()
        return await extend(deliveries, seconds)

    broker.extend = extend_or_fail
