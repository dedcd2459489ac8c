from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from doubles import AWAY, LOST, until
from fanfold import Fanfold, Reject, Retry, ids
from fanfold.errors import BrokerUnavailableError, ConfigurationError, StorageBusyError
from fanfold.executor import UNKNOWN_TASK_DELAY
from fanfold.ledgers.protocol import Claim
from fanfold.model import Message, TaskState
from fanfold.service import Deadline
from fanfold.testing import drain_async
from fanfold.worker import WorkerOptions


class Events:
    """Lets a test wait for what the parts say."""

    def __init__(self, app):
        self.seen = []
        self._waiting = []
        self._loop = asyncio.get_running_loop()
        app.subscribe(lambda event: self._loop.call_soon_threadsafe(self._add, event))

    def _add(self, event):
        self.seen.append(event)
        for name, future in self._waiting:
            if name == event.name and not future.done():
                future.set_result(event)

    async def next(self, name):
        future = self._loop.create_future()
        self._waiting.append((name, future))
        return await future

    def names(self):
        return [event.name for event in self.seen]


@pytest.fixture
async def events(app):
    return Events(app)


async def started(app):
    worker = await app.worker()
    await worker.start()
    return worker


async def parts(app):
    return await app._open()


async def test_every_task_runs_and_the_fold_gets_the_results_in_the_order_of_the_plan(app):
    folded = []

    @app.task
    async def title(entity_id):
        return entity_id.title()

    @app.task
    def words():
        return 42

    @app.task
    def roof():
        raise Reject("no roof")

    @app.on_complete
    async def fold(fan_out, entity_id, metadata):
        folded.append((entity_id, metadata, list(fan_out.results.items()), fan_out.failures["roof"].message))

    await app.enqueue_async("doc-1", ["words", "roof", "title"], metadata={"tenant": "acme"}, event_id="1")
    [fan_out] = await drain_async(app)
    assert folded == [("doc-1", {"tenant": "acme"}, [("words", 42), ("title", "Doc-1")], "no roof")]
    assert fan_out.fold_state is TaskState.SUCCEEDED


async def test_a_failing_task_is_retried_alone(app):
    runs = []

    @app.task
    async def flaky(context):
        runs.append(("flaky", context.attempt))
        if context.attempt < 3:
            raise ValueError("not yet")
        return "done"

    @app.task
    async def steady():
        runs.append(("steady", 1))

    await app.enqueue_async("doc-1", ["flaky", "steady"])
    [fan_out] = await drain_async(app)
    assert sorted(runs) == [("flaky", 1), ("flaky", 2), ("flaky", 3), ("steady", 1)]
    assert fan_out.results == {"flaky": "done", "steady": None}


async def test_a_hopeless_task_is_set_aside_with_its_reason(app):
    @app.task(max_attempts=2)
    async def hopeless():
        raise LookupError("no such page")

    await app.enqueue_async("doc-1", ["hopeless"])
    [fan_out] = await drain_async(app)
    [letter] = await (await parts(app)).broker.dead_letters(10)
    assert fan_out.failures["hopeless"].message == "no such page"
    assert (letter.reason, letter.error_type, letter.task.task_name) == (
        "LookupError: no such page",
        "LookupError",
        "hopeless",
    )
    assert letter.task.retry_count == 1


async def test_a_fold_that_fails_is_retried_like_any_task(app):
    attempts = []

    @app.task
    async def one():
        return 1

    @app.on_complete
    async def fold(context):
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise ConnectionError("the topic is away")

    await app.enqueue_async("doc-1", ["one"])
    [fan_out] = await drain_async(app)
    assert attempts == [1, 2]
    assert fan_out.fold_state is TaskState.SUCCEEDED


async def test_an_unreadable_body_is_set_aside_at_once_and_harms_nobody(app):
    @app.task
    async def one():
        return 1

    broker = (await parts(app)).broker
    await broker.send([Message(body="not json", group_id="g", deduplication_id="d")])
    await app.enqueue_async("doc-1", ["one"])
    [fan_out] = await drain_async(app)
    [letter] = await broker.dead_letters(10)
    assert fan_out.results == {"one": 1}
    assert letter.body == "not json"
    assert letter.error_type == "MalformedMessage"


async def test_a_message_of_an_older_producer_runs_without_the_ledger(app):
    seen = []

    @app.task("yearBuilt")
    async def year_built(entity_id, task_config, metadata):
        seen.append((entity_id, task_config, metadata))

    body = (
        '{"entity_id": "doc-9", "task_name": "yearBuilt", "task_config": {"a": 1}, "metadata": {"b": 2}, '
        '"timestamp": "2026-01-01T00:00:00", "retry_count": 0, "total_tasks": 1}'
    )
    await (await parts(app)).broker.send([Message(body=body, group_id="doc-9-yearBuilt", deduplication_id="x")])
    assert await drain_async(app) == []
    assert seen == [("doc-9", {"a": 1}, {"b": 2})]


async def test_an_unknown_task_waits_for_a_worker_that_knows_it(app, tmp_path, clock):
    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", clock=clock) as producer:
        await producer.enqueue_async("doc-1", ["newer"])

    @app.task
    async def older():
        return None

    events = Events(app)
    worker = await started(app)
    retried = await events.next("task.retried")
    await worker.stop()
    assert "newer" in retried.fields["error"]
    assert retried.fields["delay"] == 30

    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", clock=clock) as newer:
        newer.task("newer")(lambda: "known now")
        [fan_out] = await drain_async(newer)
    assert fan_out.results == {"newer": "known now"}


async def test_an_unknown_task_whose_attempts_are_spent_is_set_aside_and_folded(app, tmp_path, clock):
    folded = []

    @app.task(max_attempts=7)
    async def known():
        return None

    @app.on_complete
    async def fold(fan_out):
        folded.append(fan_out.failures["newer"])

    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", clock=clock) as producer:
        await producer.enqueue_async("doc-1", ["known", "newer"])
    began = clock.now()
    [fan_out] = await drain_async(app)
    assert [failure.type for failure in folded] == ["UnknownTask"]
    assert {task.task_name: task.attempts for task in fan_out.tasks} == {"known": 1, "newer": 5}
    assert clock.now() - began >= 4 * UNKNOWN_TASK_DELAY
    [letter] = await (await app.broker()).dead_letters(10)
    assert "no worker here declares a task 'newer'" in letter.reason


async def test_a_task_recorded_as_succeeded_never_runs_again(app):
    runs = []

    @app.task
    async def once():
        runs.append(1)

    broker = (await parts(app)).broker
    delete, lost = broker.delete, []

    async def lose_the_first_delete(deliveries):
        if lost or not deliveries:
            return await delete(deliveries)
        lost.extend(deliveries)
        return [None] * len(deliveries)

    broker.delete = lose_the_first_delete
    await app.enqueue_async("doc-1", ["once"])
    await drain_async(app)
    assert len(lost) == 1
    assert runs == [1]


async def test_messages_of_one_group_run_one_after_the_other(tmp_path, clock):
    running, order = [], []
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", clock=clock, group_by=ids.group_per_entity) as app:

        async def step(task_name):
            running.append(task_name)
            assert len(running) == 1
            await asyncio.sleep(0)
            order.append(running.pop())

        for name in ("a", "b", "c"):
            app.task(name)(step)
        await app.enqueue_async("doc-1", ["c", "a", "b"])
        await drain_async(app)
    assert order == ["c", "a", "b"]


async def test_what_a_task_sets_in_its_context_reaches_nobody_else(tmp_path, clock):
    tenant = contextvars.ContextVar("tenant", default="nobody")
    seen, told = [], []
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", clock=clock, group_by=ids.group_per_entity) as app:
        app.subscribe(
            lambda event: told.append(tenant.get()) if event.name in ("task.completed", "task.dead") else None
        )

        async def step(task_name):
            seen.append(tenant.get())
            tenant.set(task_name)
            if task_name == "c":
                raise Reject("no")

        for name in ("a", "b", "c"):
            app.task(name)(step)
        app.on_task_dead(lambda: told.append(tenant.get()))
        await app.enqueue_async("doc-1", ["a", "b", "c"])
        await drain_async(app)
    assert seen == ["nobody"] * 3
    assert told == ["nobody"] * 4


async def test_after_a_failure_the_rest_of_its_lane_waits(tmp_path, clock):
    order = []
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", clock=clock, group_by=ids.group_per_entity) as app:

        @app.task
        async def first(context):
            order.append(f"first {context.attempt}")
            if context.attempt == 1:
                raise Retry("not yet", delay=30)

        @app.task
        async def second(context):
            order.append(f"second {context.attempt}")

        await app.enqueue_async("doc-1", ["first", "second"])
        await drain_async(app)
    assert order == ["first 1", "first 2", "second 1"]


async def test_a_stop_gives_back_what_has_not_started_and_finishes_what_runs(tmp_path, clock):
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", clock=clock, group_by=ids.group_per_entity) as app:
        running, finish = asyncio.Event(), asyncio.Event()

        @app.task
        async def first():
            running.set()
            await finish.wait()
            return "finished"

        @app.task
        async def second():
            return "ran"

        await app.enqueue_async("doc-1", ["first", "second"], event_id="1")
        worker = await started(app)
        await running.wait()
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0)
        finish.set()
        await stopping
        [summary] = await app.fan_outs_async()
        fan_out = await app.fan_out(summary.fan_out_id).get_async()
        assert fan_out.results == {"first": "finished"}
        counts = await app.status_async()
        assert (counts.messages_available, counts.messages_in_flight) == (1, 0)


async def test_at_the_deadline_running_tasks_are_cancelled_and_given_back(app):
    running = asyncio.Event()

    @app.task
    async def endless():
        running.set()
        await asyncio.Event().wait()

    await app.enqueue_async("doc-1", ["endless"])
    worker = await started(app)
    await running.wait()
    deadline = Deadline(3600)
    deadline.bring_forward()
    await worker.stop(deadline)
    counts = await app.status_async()
    assert (counts.messages_available, counts.messages_in_flight) == (1, 0)


async def test_a_poll_that_fails_is_followed_by_another(app, events, clock):
    @app.task
    async def one():
        return 1

    broker = (await parts(app)).broker
    receive, failures = broker.receive, [BrokerUnavailableError("no route"), RuntimeError("a bug")]

    async def fail_first(*args, **kwargs):
        if failures:
            raise failures.pop()
        return await receive(*args, **kwargs)

    broker.receive = fail_first
    await app.enqueue_async("doc-1", ["one"])
    worker = await started(app)
    done = asyncio.create_task(events.next("task.completed"))
    for failures_so_far in (1, 2):
        # the heartbeat, the look for cancellations, the reconciler, and the intake's backoff sleep
        await until(lambda n=failures_so_far: events.names().count("poll.failed") == n and clock.sleepers == 4)
        clock.advance(2)
    await done
    assert events.names().count("poll.failed") == 2
    await worker.stop()


async def test_while_the_ledger_is_away_nothing_is_acknowledged(app, events, clock):
    @app.task
    async def one():
        return 1

    opened = await parts(app)
    finish, failures = opened.ledger.finish, [StorageBusyError("locked"), StorageBusyError("locked")]
    deleted = []

    async def away(finishes):
        if failures:
            raise failures.pop()
        assert not deleted
        return await finish(finishes)

    delete = opened.broker.delete

    async def note(deliveries):
        deleted.extend(deliveries)
        return await delete(deliveries)

    opened.ledger.finish, opened.broker.delete = away, note
    await app.enqueue_async("doc-1", ["one"])
    worker = await started(app)
    for _ in range(2):
        await events.next("settle.failed")
        assert (await app.status_async()).messages_in_flight == 1
        clock.advance(1)
    await until(lambda: deleted)
    await worker.stop()
    assert (await app.status_async()).messages_in_flight == 0


async def test_attempts_that_no_worker_survived_are_spent_too(app):
    runs = []

    @app.task(max_attempts=2)
    async def kills_its_worker():
        runs.append(1)

    opened = await parts(app)
    enqueued = await app.enqueue_async("doc-1", ["kills_its_worker"])
    claim = Claim(fan_out_id=enqueued.fan_out_id, task_name="kills_its_worker", generation=0, worker="dead")
    await opened.ledger.claim([claim])
    await opened.ledger.claim([claim])
    [fan_out] = await drain_async(app)
    assert runs == []
    assert fan_out.failures["kills_its_worker"].type == "AttemptsSpent"


async def test_a_worker_without_tasks_says_so(app):
    with pytest.raises(ConfigurationError, match="declares no task"):
        await app.worker()


async def test_a_fold_needs_a_ledger(tmp_path):
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", ledger="none") as app:
        app.task("one")(lambda: 1)
        app.on_complete(lambda fan_out: fan_out)
        with pytest.raises(ConfigurationError, match="on_complete needs a ledger"):
            await app.worker()


async def test_without_a_ledger_the_queue_works_as_plain_sqs_does(tmp_path, clock):
    runs = []
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", ledger="none", clock=clock, max_attempts=2) as app:

        @app.task
        async def failing(context):
            runs.append(context.attempt)
            raise ValueError("always")

        await app.enqueue_async("doc-1", ["failing"])
        worker = await started(app)
        broker = (await parts(app)).broker
        await until(lambda: len(runs) == 1 and worker.idle)
        clock.advance(60)
        await until(lambda: len(runs) == 2 and worker.idle)
        await worker.stop()
        [letter] = await broker.dead_letters(10)
        assert letter.reason == "ValueError: always"
    assert runs == [1, 2]


async def test_a_run_whose_lease_was_lost_says_dropped_and_not_completed(app, events):
    @app.task
    async def one():
        [lease] = worker._leases._held.values()
        lease.lost = True  # the heart has just been told, and its word is on the way
        return 1

    await app.enqueue_async("doc-1", ["one"])
    worker = await started(app)
    dropped = await events.next("outcome.dropped")
    await worker.stop()
    assert (dropped.fields["task_name"], dropped.fields["outcome"]) == ("one", "completed")
    assert dropped.fields["reason"] == "the lease was lost"
    assert "task.completed" not in events.names()
    [summary] = await app.fan_outs_async()
    assert summary.progress.running == 1
    assert (await app.status_async()).messages_in_flight == 1


async def test_a_lane_that_is_told_of_a_second_loss_while_it_gives_back_takes_no_slot_with_it(tmp_path, clock):
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", clock=clock, concurrency=3, group_by=ids.group_per_entity) as app:
        running, together, met = asyncio.Event(), asyncio.Barrier(3), asyncio.Event()

        @app.task
        async def endless():
            running.set()
            await asyncio.Event().wait()

        for name in ("second", "third"):
            app.task(name)(lambda: None)

        @app.task
        async def meeting():
            await together.wait()
            met.set()

        both_lost = await lose_two_of_three(app)
        await app.enqueue_async("doc-1", ["endless", "second", "third"])
        worker = await started(app)
        await running.wait()
        await until(lambda: heart_sleeps(clock))
        clock.advance(20)
        await both_lost.wait()
        for entity in ("doc-2", "doc-3", "doc-4"):
            await app.enqueue_async(entity, ["meeting"])
        await met.wait()
        await worker.stop()


async def lose_two_of_three(app):
    """Let a lane's first two leases be lost, the second one while it gives the third back; answers when both are."""
    broker, loop, both, losses = (await parts(app)).broker, asyncio.get_running_loop(), asyncio.Event(), []
    extend, second_lost = broker.extend, threading.Event()

    async def lose(deliveries, seconds):
        if len(deliveries) < 3:
            return await extend(deliveries, seconds)
        loop.call_soon_threadsafe(second_lost.wait, 60)  # the lane hears of neither before both are lost
        return [LOST, LOST, None]

    async def lane_gives_back():
        for _ in range(100):
            await asyncio.sleep(0)

    def tell_the_second_late(event):
        if event.name == "lease.lost":
            losses.append(event)
            if len(losses) == 2:
                second_lost.set()
                asyncio.run_coroutine_threadsafe(lane_gives_back(), loop).result(60)
                loop.call_soon_threadsafe(both.set)

    app.subscribe(tell_the_second_late)
    broker.extend = lose
    return both


def heart_sleeps(clock):
    return any(loop is not asyncio.get_running_loop() for _, loop in list(clock._sleepers.values()))


async def test_without_a_ledger_what_was_given_back_unrun_still_runs(tmp_path, clock):
    runs = []
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", ledger="none", clock=clock, max_attempts=2) as app:

        @app.task
        async def patient():
            runs.append(1)

        await app.enqueue_async("doc-1", ["patient"])
        broker = (await parts(app)).broker
        for _ in range(5):  # as the rest of a lane whose first message fails, or in restart after restart
            await broker.extend(await broker.receive(1, wait=0, lease=60), [0])
        worker = await started(app)
        await until(lambda: runs and worker.idle)
        await worker.stop()
        assert await broker.dead_letters(10) == []
    assert runs == [1]


async def test_without_a_ledger_the_next_of_a_group_waits_for_one_that_couldnt_be_deleted(tmp_path, clock):
    order = []

    def note(task_name):
        order.append(task_name)

    settings = {"ledger": "none", "clock": clock, "group_by": ids.group_per_entity}
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", **settings) as app:
        for name in ("first", "second"):
            app.task(name)(note)
        broker = (await parts(app)).broker
        delete, failed = broker.delete, []

        async def fail_once(deliveries):
            if deliveries and not failed:
                failed.extend(deliveries)
                return [AWAY] * len(deliveries)
            return await delete(deliveries)

        broker.delete = fail_once
        await app.enqueue_async("doc-1", ["first", "second"])
        worker = await started(app)
        await until(lambda: failed and worker.idle)
        assert order == ["first"]
        clock.advance(60)
        await until(lambda: len(order) == 3 and worker.idle)
        await worker.stop()
    assert order == ["first", "first", "second"]


async def test_a_bug_beside_the_task_ends_its_lane_only_and_its_message_comes_back_with_its_lease(app, events, clock):
    @app.task
    async def one():
        return 1

    ledger = (await parts(app)).ledger
    claim, bugs = ledger.claim, [TypeError("a bug")]

    async def fail_once(claims):
        if bugs:
            raise bugs.pop()
        return await claim(claims)

    ledger.claim = fail_once
    await app.enqueue_async("doc-1", ["one"])
    worker = await started(app)
    failed = await events.next("lane.failed")
    assert "a bug" in failed.fields["reason"]
    await until(lambda: worker.idle)
    assert worker._leases._held == {}
    done = asyncio.create_task(events.next("task.completed"))
    await asyncio.sleep(0)
    clock.advance(60)
    await done
    await worker.stop()


async def test_a_stop_gives_up_what_the_ledger_doesnt_take_and_gives_back_what_waits_behind_it(tmp_path, clock):
    async with Fanfold(f"sqlite:///{tmp_path}/t.db", clock=clock, group_by=ids.group_per_entity) as app:
        events = Events(app)
        for name in ("first", "second"):
            app.task(name)(lambda: None)
        await app.enqueue_async("doc-1", ["first", "second"])

        async def away(_):
            raise StorageBusyError("locked")

        (await parts(app)).ledger.finish = away
        failed = asyncio.create_task(events.next("settle.failed"))
        worker = await started(app)
        await failed
        deadline = Deadline(3600)
        deadline.bring_forward()
        await worker.stop(deadline)
        counts = await app.status_async()
        assert (counts.messages_available, counts.messages_in_flight) == (1, 1)
        assert worker.idle


async def test_a_thread_that_outlives_its_timeout_is_named(app, events):
    release = threading.Event()

    @app.task(timeout=0.01, max_attempts=1)
    def endless():
        release.wait()

    await app.enqueue_async("doc-1", ["endless"])
    worker = await started(app)
    overdue = await events.next("task.overdue")
    release.set()
    await worker.stop()
    assert (overdue.fields["entity_id"], overdue.fields["task_name"]) == ("doc-1", "endless")


async def test_a_task_recorded_as_dead_is_set_aside_again_without_being_said_dead_twice(app, events):
    @app.task
    async def hopeless():
        raise Reject("no")

    broker = (await parts(app)).broker
    bury, lost = broker.dead_letter, []

    async def lose_the_first(burials):
        if burials and not lost:
            lost.extend(burials)
            return [AWAY] * len(burials)
        return await bury(burials)

    broker.dead_letter = lose_the_first
    await app.enqueue_async("doc-1", ["hopeless"])
    await drain_async(app)
    assert len(await broker.dead_letters(10)) == 1
    assert events.names().count("task.dead") == 1


@pytest.mark.parametrize("grace", [-1, float("nan")])
async def test_a_time_to_stop_in_that_isnt_one_is_refused(grace):
    with pytest.raises(ConfigurationError, match="seconds to stop in"):
        WorkerOptions(grace=grace)
