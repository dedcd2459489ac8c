"""One fan-out by its id, and the options of an enqueue, through the application."""

from __future__ import annotations

import asyncio

import pytest

from fanfold import Ended, Fanfold, FanOutOptions, Progress, Reject, TaskState
from fanfold.errors import DeclarationError, InvalidInputError, NoLedgerError, UnknownFanOutError
from fanfold.limits import MAX_RESULT_BYTES
from fanfold.testing import drain_async


def declare(app, *names, failing=()):
    async def succeed(task_name):
        return task_name

    async def fail(task_name):
        raise Reject(f"no {task_name}")

    for name in names:
        app.task(name)(fail if name in failing else succeed)


# Waiting and looking


async def test_waiting_returns_the_fan_out_once_it_has_ended(app, clock, until):
    declare(app, "a", "b")
    fan_out = app.fan_out((await app.enqueue_async("doc-1", ["a", "b"])).fan_out_id)
    waiting = asyncio.create_task(fan_out.wait_async())
    await until(lambda: clock.sleepers)
    await drain_async(app)
    clock.advance(1)
    assert (await waiting).results == {"a": "a", "b": "b"}
    assert await fan_out.progress_async() == Progress(succeeded=2)
    assert [task.state for task in await fan_out.tasks_async()] == [TaskState.SUCCEEDED] * 2


async def test_waiting_gives_up_after_its_timeout_and_says_how_far_it_was(app, until):
    declare(app, "a", "b")
    fan_out = app.fan_out((await app.enqueue_async("doc-1", ["a", "b"])).fan_out_id)
    waiting = asyncio.create_task(fan_out.wait_async(timeout=5))
    await until(waiting.done, moving=True)
    with pytest.raises(TimeoutError, match="0 of 2 tasks after 5 s"):
        await waiting


async def test_waiting_for_the_fold_waits_for_its_end(app, clock, until):
    declare(app, "a")
    told = []

    @app.on_complete
    async def fold(fan_out):
        told.append(fan_out.fan_out_id)

    enqueued = await app.enqueue_async("doc-1", ["a"])
    waiting = asyncio.create_task(app.fan_out(enqueued.fan_out_id).wait_async(folded=True))
    await until(lambda: clock.sleepers)
    await drain_async(app)
    clock.advance(1)
    assert (await waiting).fold_state is TaskState.SUCCEEDED
    assert told == [enqueued.fan_out_id]


@pytest.mark.parametrize("method", ["summary", "progress", "wait", "cancel", "rerun"])
def test_an_unknown_fan_out_is_named(tmp_path, method):
    with Fanfold(f"sqlite:///{tmp_path}/tasks.db") as app:
        assert app.fan_out("nobody").get() is None
        assert app.fan_out("nobody").tasks() == []
        with pytest.raises(UnknownFanOutError, match="'nobody' isn't in the ledger"):
            getattr(app.fan_out("nobody"), method)()


def test_without_a_ledger_nobody_knows_a_fan_out(tmp_path):
    with Fanfold(f"sqlite:///{tmp_path}/tasks.db", ledger="none") as app:
        with pytest.raises(NoLedgerError, match="no ledger"):
            app.fan_out("f1").get()
        with pytest.raises(NoLedgerError, match="options and parent need a ledger"):
            app.enqueue("doc-1", ["a"], options=FanOutOptions(deadline=60))


# Results


@pytest.mark.parametrize("result", [object(), "x" * (MAX_RESULT_BYTES + 1)], ids=["no JSON", "too large"])
async def test_a_result_that_cant_be_kept_fails_its_task_with_that_reason_and_the_others_go_on(app, result):
    declare(app, "a")

    @app.task
    async def b():
        return result

    await app.enqueue_async("doc-1", ["a", "b"])
    [fan_out] = await drain_async(app)
    assert fan_out.results == {"a": "a"}
    assert "the result of task 'b'" in fan_out.failures["b"].message
    assert (fan_out.tasks[1].state, fan_out.tasks[1].attempts) == (TaskState.DEAD, 1)


# Options


async def test_enough_successes_end_a_fan_out_and_its_rest_is_only_acknowledged(app):
    declare(app, "a", "b", "c")
    options = FanOutOptions(min_succeeded="50%", order_by="entity")
    await app.enqueue_async("doc-1", ["a", "b", "c"], options=options)
    [fan_out] = await drain_async(app)
    assert (fan_out.ended, fan_out.succeeded, fan_out.results) == (Ended.ENOUGH, True, {"a": "a", "b": "b"})
    assert (await app.status_async()).messages_available == 0


async def test_a_tolerance_that_cant_be_met_is_refused_before_anything_is_recorded(app):
    with pytest.raises(InvalidInputError, match="that is 3 of 2 tasks"):
        await app.enqueue_async("doc-1", ["a", "b"], options=FanOutOptions(min_succeeded=3))
    assert await app.fan_outs_async() == []


async def test_a_task_is_cut_off_at_its_fan_outs_deadline(app, until):
    begun = asyncio.Event()

    @app.task
    async def slow():
        begun.set()
        await asyncio.get_running_loop().create_future()

    enqueued = await app.enqueue_async("doc-1", ["slow"], options=FanOutOptions(deadline=0.05))
    worker = await app.worker()
    await worker.start()
    await begun.wait()  # its timeout is real time; what follows moves with the clock
    waiting = asyncio.create_task(app.fan_out(enqueued.fan_out_id).wait_async())
    await until(waiting.done, moving=True)  # through the retry's delay
    assert (await waiting).ended is Ended.DEADLINE
    await worker.stop()


# Completions


async def test_a_failed_fan_out_goes_to_on_failure_and_any_other_to_on_complete(app):
    declare(app, "a", "b", failing=["b"])
    told = []

    @app.on_complete
    async def complete(entity_id):
        told.append(("complete", entity_id))

    @app.on_failure
    def failed(entity_id, fan_out):
        told.append(("failed", entity_id, list(fan_out.failures)))

    await app.enqueue_async("good", ["a"])
    await app.enqueue_async("bad", ["a", "b"])
    await app.enqueue_async("tolerated", ["a", "b"], options=FanOutOptions(tolerated_failures=1))
    await drain_async(app)
    assert sorted(told) == [("complete", "good"), ("complete", "tolerated"), ("failed", "bad", ["b"])]


async def test_with_on_failure_alone_a_good_completion_is_handled_by_nobody(app):
    declare(app, "a", "b", failing=["b"])
    told = []

    @app.on_failure
    async def failed(entity_id):
        told.append(entity_id)

    await app.enqueue_async("good", ["a"])
    await app.enqueue_async("bad", ["b"])
    fan_outs = await drain_async(app)
    assert told == ["bad"]
    assert [fan_out.fold_state for fan_out in fan_outs] == [TaskState.SUCCEEDED] * 2


async def test_a_death_is_told_with_its_reason(app):
    declare(app, "a", "b", failing=["b"])
    told = []

    @app.on_task_dead
    async def dead(**said):
        told.append(said)

    await app.enqueue_async("doc-1", ["a", {"name": "b", "config": {"page": 3}}], metadata={"tenant": "acme"})
    await drain_async(app)
    [said] = told
    assert said.pop("failure").message == "no b"
    assert said.pop("fan_out_id")
    assert said == {"entity_id": "doc-1", "task_name": "b", "task_config": {"page": 3}, "metadata": {"tenant": "acme"},
                    "attempts": 1}  # fmt: skip


@pytest.mark.parametrize("error", [LookupError("no pager"), SystemExit(3)])
async def test_a_hook_that_fails_is_reported_and_the_task_is_set_aside_all_the_same(app, error, caplog):
    declare(app, "b", failing=["b"])

    @app.on_task_dead
    def dead():
        raise error

    await app.enqueue_async("doc-1", ["b"])
    [fan_out] = await drain_async(app)
    assert fan_out.failures["b"].message == "no b"
    assert "hook.failed" in caplog.text
    [letter] = await (await app.broker()).dead_letters(10)
    assert letter.reason.endswith("no b")


@pytest.mark.parametrize("declare_it", ["on_complete", "on_failure", "on_task_dead"])
def test_a_hook_is_declared_once_and_asks_for_what_there_is(declare_it):
    app = Fanfold("sqlite:///unused.db")
    with pytest.raises(DeclarationError, match="asks for 'colour'"):
        getattr(app, declare_it)(lambda colour: colour)
    getattr(app, declare_it)(lambda: None)
    with pytest.raises(DeclarationError, match=f"{declare_it} is declared twice"):
        getattr(app, declare_it)(lambda: None)


# Cancelling and running again


async def test_a_cancelled_fan_out_runs_nothing_more_and_folds_once(app):
    declare(app, "a", "b")
    told = []
    app.on_complete(lambda fan_out: told.append(fan_out.ended))
    fan_out = app.fan_out((await app.enqueue_async("doc-1", ["a", "b"])).fan_out_id)
    assert await fan_out.cancel_async("a") == ["a"]
    assert await fan_out.cancel_async() == ["b"]
    assert await fan_out.cancel_async() == []
    [ended] = await drain_async(app)
    assert (ended.results, told) == ({}, [Ended.CANCELLED])


async def test_a_running_task_is_cancelled_at_the_next_beat(app, until):
    begun, ended = asyncio.Event(), []

    @app.task
    async def slow():
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    enqueued = await app.enqueue_async("doc-1", ["slow"])
    worker = await app.worker()
    await worker.start()
    await begun.wait()
    await app.fan_out(enqueued.fan_out_id).cancel_async()
    await until(lambda: ended and worker.idle, moving=True)
    await worker.stop()
    [fan_out] = await drain_async(app)
    assert (ended, fan_out.ended) == (["cancelled"], Ended.CANCELLED)


async def test_what_failed_is_run_again_and_the_fan_out_folds_again(app):
    healthy = []

    @app.task
    async def a():
        return 1

    @app.task
    async def b():
        if not healthy:
            raise Reject("the model is down")
        return 2

    told = []
    app.on_complete(lambda fan_out: told.append((fan_out.generation, fan_out.results)))
    enqueued = await app.enqueue_async("doc-1", ["a", "b"], event_id="7")
    await drain_async(app)
    healthy.append(True)
    assert await app.fan_out(enqueued.fan_out_id).rerun_async() == 1
    await drain_async(app)
    assert told == [(0, {"a": 1}), (1, {"a": 1, "b": 2})]
    assert await app.fan_out(enqueued.fan_out_id).rerun_async() == 0
    assert (await app.enqueue_async("doc-1", ["a", "b"], event_id="7")).settled == 2


async def test_what_waits_already_when_more_is_run_again_runs_and_dies_once(app):
    died = []
    declare(app, "a", "b", failing=["b"])

    @app.on_task_dead
    async def note(task_name):
        died.append(task_name)

    fan_out = app.fan_out((await app.enqueue_async("doc-1", ["a", "b"])).fan_out_id)
    await drain_async(app)
    assert await fan_out.rerun_async() == 1
    assert await fan_out.rerun_async("a", failed_only=False) == 2
    assert [(task.task_name, task.generation) for task in await fan_out.tasks_async()] == [("a", 2), ("b", 1)]
    await drain_async(app)
    assert died == ["b", "b"]
    assert await app.dead_letters.group_async("task") == {"b": 2}


async def test_an_event_that_comes_again_while_its_fan_out_is_run_again_runs_nothing_twice(app):
    runs = []

    @app.task
    async def a():
        runs.append("a")

    enqueued = await app.enqueue_async("doc-1", ["a"], event_id="7")
    await drain_async(app)
    await app.fan_out(enqueued.fan_out_id).rerun_async(failed_only=False)
    again = await app.enqueue_async("doc-1", ["a"], event_id="7")
    assert (again.sent, again.duplicates) == (1, 1)
    await drain_async(app)
    assert runs == ["a", "a"]


# Stages


async def test_a_completion_enqueues_the_next_stage_once_however_often_it_is_tried(app):
    declare(app, "extract", "validate")
    attempts = []

    @app.on_complete
    async def next_stage(fan_out, context):
        if "extract" in fan_out.results:
            attempts.append(context.attempt)
            await app.enqueue_async(fan_out.entity_id, ["validate"], parent=fan_out)
            if context.attempt == 1:
                raise LookupError("after the enqueue")

    first = await app.enqueue_async("doc-1", ["extract"])
    await drain_async(app)
    assert attempts == [1, 2]
    [second] = await app.fan_outs_async(parent=first.fan_out_id)
    assert (second.parent, second.succeeded) == (first.fan_out_id, True)
    assert len(await app.fan_outs_async(entity_id="doc-1")) == 2


# Large ones


async def test_a_large_fan_out_is_sent_piece_by_piece_and_runs_whole(app):
    declare(app, *(f"t{number}" for number in range(2_100)))
    enqueued = await app.enqueue_async("doc-1", [f"t{number}" for number in range(2_100)], event_id="7")
    assert (enqueued.sent, (await app.status_async()).messages_available) == (2_100, 2_100)
    [fan_out] = await drain_async(app)
    assert fan_out.progress == Progress(succeeded=2_100)
