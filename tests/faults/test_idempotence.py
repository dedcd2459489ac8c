"""The same event, enqueued twice at once and an hour later: no task runs twice, and there is one completion."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest
from processes import barrier

from fanfold import Fanfold, FanOutOptions, Reject, Retry
from fanfold.model import Task, TaskState
from fanfold.testing import FakeClock, drain_async

NAMES = [f"page-{number}" for number in range(20)]
HOUR = 3600
FOLD = "fold"


@pytest.fixture
def runs(app):
    """Counts the runs of each task and of the completion."""
    counted = Counter()

    async def page(task_name):
        counted[task_name] += 1
        return task_name

    for name in NAMES:
        app.task(name)(page)

    @app.on_complete
    async def fold():
        counted[FOLD] += 1

    return counted


ONCE = dict.fromkeys([*NAMES, FOLD], 1)


async def enqueue(app):
    return await app.enqueue_async("doc-1", NAMES, event_id="1")


async def waiting(app):
    return (await app.status_async()).messages_available


async def test_enqueued_by_two_callers_of_one_loop_at_once(app, runs):
    both = await asyncio.gather(enqueue(app), enqueue(app))
    assert sum(report.sent - report.duplicates for report in both) == len(NAMES)
    assert await waiting(app) == len(NAMES)
    await drain_async(app)
    assert runs == ONCE


async def test_enqueued_by_two_threads_at_once(app, runs):
    start = threading.Barrier(2, timeout=300)

    def call():
        start.wait()
        return app.enqueue("doc-1", NAMES, event_id="1")

    both = await asyncio.gather(asyncio.to_thread(call), asyncio.to_thread(call))
    assert sum(report.sent - report.duplicates for report in both) == len(NAMES)
    assert await waiting(app) == len(NAMES)
    await drain_async(app)
    assert runs == ONCE


async def test_enqueued_by_two_processes_at_once(make_site, app, runs, clock):
    site, start = make_site(), barrier(2)
    producers = [site.start(meet_and_enqueue, start, clock.now()) for _ in range(2)]
    for producer in producers:
        producer.join()
        assert producer.exitcode == 0
    assert await waiting(app) == len(NAMES)
    await drain_async(app)
    assert runs == ONCE


async def test_enqueued_an_hour_after_it_was_done(app, runs, clock):
    await enqueue(app)
    await drain_async(app)
    clock.advance(HOUR)
    report = await enqueue(app)
    assert (report.sent, report.settled) == (0, len(NAMES))
    await drain_async(app)
    assert runs == ONCE


async def test_enqueued_an_hour_later_while_the_first_messages_still_wait(app, runs, clock):
    await enqueue(app)
    clock.advance(HOUR)
    report = await enqueue(app)
    assert (report.sent, report.duplicates) == (len(NAMES), 0)
    assert await waiting(app) == 2 * len(NAMES)
    await drain_async(app)
    assert await waiting(app) == 0
    assert runs == ONCE


async def test_enqueued_an_hour_later_while_one_of_its_tasks_is_to_be_retried(app, runs, clock):
    @app.task
    async def slow(context):
        runs["slow"] += 1
        if context.attempt == 1:
            raise Retry("come back in two hours", delay=2 * HOUR)

    await app.enqueue_async("doc-1", [*NAMES, "slow"], event_id="1")
    await work_until(app, lambda: runs.total() == len(NAMES) + 1)
    clock.advance(HOUR)
    report = await app.enqueue_async("doc-1", [*NAMES, "slow"], event_id="1")
    assert (report.sent, report.settled) == (1, len(NAMES))
    await drain_async(app)
    assert runs == ONCE | {"slow": 2}


async def test_a_dead_task_is_not_brought_back_by_its_event(app, runs, clock):
    @app.task
    async def hopeless():
        runs["hopeless"] += 1
        raise Reject("no")

    await app.enqueue_async("doc-1", ["hopeless"], event_id="1")
    await drain_async(app)
    clock.advance(HOUR)
    report = await app.enqueue_async("doc-1", ["hopeless"], event_id="1")
    assert (report.sent, report.settled) == (0, 1)
    [fan_out] = await drain_async(app)
    assert fan_out.fold_state is TaskState.SUCCEEDED
    assert runs == {"hopeless": 1, FOLD: 1}


async def test_a_completion_sent_again_an_hour_later_while_the_first_is_to_be_retried(app, clock):
    attempts = []

    @app.task
    async def one():
        return 1

    @app.on_complete
    async def fold(context):
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise Retry("come back in two hours", delay=2 * HOUR)

    enqueued = await app.enqueue_async("doc-1", ["one"], event_id="1")
    await work_until(app, lambda: attempts)
    clock.advance(HOUR)
    task = Task(entity_id="doc-1", task_name="one", fan_out_id=enqueued.fan_out_id)
    await (await app._open()).producer.announce(task, 0)
    assert (await app.status_async()).messages_available == 1
    await drain_async(app)
    assert attempts == [1, 2]


async def work_until(app, condition):
    """Run a worker until `condition` holds when something has happened, then stop it in order."""
    loop, reached = asyncio.get_running_loop(), asyncio.Event()
    app.subscribe(lambda _: loop.call_soon_threadsafe(reached.set) if condition() else None)
    worker = await app.worker()
    await worker.start()
    await reached.wait()
    await worker.stop()


def meet_and_enqueue(start, now):
    with Fanfold(clock=FakeClock(now)) as app:
        start.wait()
        app.enqueue("doc-1", NAMES, event_id="1")


async def test_what_is_said_otherwise_the_second_time_changes_nothing(app):
    said = []

    @app.task
    async def page(task_config, metadata):
        said.append((task_config, metadata))

    await app.enqueue_async("doc-1", [{"name": "page", "config": {"n": 1}}], metadata={"by": "first"}, event_id="1")
    options = FanOutOptions(tolerated_failures=1, deadline=1)
    tasks = [{"name": "page", "config": {"n": 2}}]
    await app.enqueue_async("doc-1", tasks, metadata={"by": "second"}, event_id="1", options=options)
    [fan_out] = await drain_async(app)
    assert said == [({"n": 1}, {"by": "first"})]
    assert (fan_out.metadata, fan_out.deadline_at, fan_out.tolerated_failures) == ({"by": "first"}, None, None)


async def test_an_event_that_is_kept_no_longer_is_a_new_one(app, runs, clock):
    await app.enqueue_async("doc-1", NAMES, event_id="1", options=FanOutOptions(keep=HOUR))
    await drain_async(app)
    clock.advance(HOUR)
    assert await (await app._open()).ledger.purge() == 1
    report = await enqueue(app)
    assert (report.sent, report.settled) == (len(NAMES), 0)
    await drain_async(app)
    assert runs == dict.fromkeys(ONCE, 2)


async def test_without_an_event_id_each_call_is_a_fan_out_of_its_own(app, runs):
    for _ in range(2):
        await app.enqueue_async("doc-1", NAMES)
    assert len(await drain_async(app)) == 2
    assert runs == dict.fromkeys(ONCE, 2)
