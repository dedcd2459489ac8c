from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
from dataclasses import dataclass

import pytest

from fanfold.clock import SystemClock
from fanfold.executor import UNKNOWN_TASK_DELAY, Executor
from fanfold.limits import MAX_RESULT_BYTES
from fanfold.model import Task
from fanfold.outcome import Completed, Outcome, Reject, Retry
from fanfold.registry import Registry
from fanfold.retry import Backoff
from fanfold.runs import Run


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def executor(registry):
    made = Executor(registry, max_attempts=3, concurrency=2, clock=SystemClock(), rng=random.Random(1))
    yield made
    made.close()


async def run(executor: Executor, name: str = "task", *, attempt: int = 1, under_way=None, **fields) -> Outcome:
    task = Task(entity_id="doc-1", task_name=name, fan_out_id="f" * 32, **fields)
    under_way = under_way or Run()
    under_way.begin()
    return await executor.run(task, attempt, under_way)


def in_process(entity_id):
    return {"entity": entity_id, "pid": os.getpid()}


def never_ends():
    while True:
        time.sleep(3600)  # only a killed process gets out of here


def dies():
    os._exit(9)


def raises_a_timeout():
    raise TimeoutError("the far side was slow")


async def test_an_async_function_completes_with_its_result(registry, executor):
    async def task(entity_id, task_name, task_config, metadata):
        return [entity_id, task_name, task_config, metadata]

    registry.add(task)
    outcome = await run(executor, task_config={"a": 1}, metadata={"tenant": "acme"})
    assert outcome == Completed(["doc-1", "task", {"a": 1}, {"tenant": "acme"}], outcome.encoded)
    assert outcome.encoded == '["doc-1","task",{"a":1},{"tenant":"acme"}]'


async def test_a_plain_function_runs_in_another_thread(registry, executor):
    registry.add(lambda: threading.current_thread().name, "task")
    outcome = await run(executor)
    assert outcome.result.startswith("fanfold-task")


async def test_a_process_function_runs_in_another_process(registry, executor):
    registry.add(in_process, "task", process=True)
    outcome = await run(executor)
    assert outcome.result["entity"] == "doc-1"
    assert outcome.result["pid"] != os.getpid()


async def test_an_exception_is_a_retry_with_the_tasks_own_traceback(registry, executor):
    async def task():
        raise ValueError("no such page")

    registry.add(task)
    outcome = await run(executor)
    assert isinstance(outcome, Retry)
    assert (outcome.failure.type, outcome.failure.message) == ("ValueError", "no such page")
    assert 'raise ValueError("no such page")' in outcome.failure.traceback
    assert "fanfold/executor.py" not in outcome.failure.traceback


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration("x"), GeneratorExit(), asyncio.CancelledError()])
async def test_whatever_a_thread_raises_is_its_tasks_outcome(registry, executor, error):
    def task():
        raise error

    registry.add(task)
    assert isinstance(await run(executor), Retry)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), TimeoutError("theirs")])
async def test_whatever_a_coroutine_raises_is_its_tasks_outcome(registry, executor, error):
    async def task():
        raise error

    registry.add(task)
    outcome = await run(executor)
    assert isinstance(outcome, Retry)
    assert outcome.failure.type == type(error).__name__


async def test_spent_attempts_turn_a_failure_into_a_rejection(registry, executor):
    async def task():
        raise ValueError("again")

    registry.add(task)
    assert isinstance(await run(executor, attempt=2), Retry)
    rejected = await run(executor, attempt=3)
    assert isinstance(rejected, Reject)
    assert rejected.failure.message == "again"


async def test_a_declarations_own_max_attempts_wins(registry, executor):
    async def task():
        raise ValueError

    registry.add(task, max_attempts=1)
    assert isinstance(await run(executor), Reject)


async def test_a_task_says_itself_when_to_come_back(registry, executor):
    async def task():
        raise Retry("rate limited", delay=77)

    registry.add(task)
    outcome = await run(executor)
    assert (outcome.delay, outcome.failure.message) == (77, "rate limited")


async def test_a_retry_without_a_delay_gets_the_backoffs(registry, executor):
    async def task():
        return Retry("later")

    registry.add(task, backoff=Backoff(base=100, cap=100))
    assert 50 <= (await run(executor)).delay <= 100


async def test_a_task_gives_itself_up(registry, executor):
    def task():
        raise Reject("this document has no roof")

    registry.add(task)
    outcome = await run(executor)
    assert isinstance(outcome, Reject)
    assert outcome.failure.message == "this document has no roof"


async def test_an_async_task_is_cancelled_at_its_timeout(registry, executor):
    cancelled = asyncio.Event()

    async def task():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    registry.add(task, timeout=0.01)
    outcome = await run(executor)
    assert isinstance(outcome, Retry)
    assert outcome.failure.type == "Timeout"
    assert cancelled.is_set()


async def test_a_threads_timeout_decides_the_outcome_and_reports_the_leftover(registry, executor):
    release, told = threading.Event(), threading.Event()
    under_way = Run()

    def task(context):
        release.wait()
        if context.cancelled:
            told.set()

    registry.add(task, timeout=0.01)
    outcome = await run(executor, under_way=under_way)
    assert outcome.failure.type == "Timeout"
    release.set()
    await asyncio.wait([under_way.leftover])
    assert told.is_set()


async def test_a_processs_timeout_really_ends_the_work(registry, executor):
    registry.add(never_ends, "task", process=True, timeout=1)
    outcome = await run(executor)
    assert isinstance(outcome, Retry)
    assert outcome.failure.type == "Timeout"


async def test_a_timeout_that_a_process_function_raises_is_its_own(registry, executor):
    registry.add(raises_a_timeout, "task", process=True)
    assert (await run(executor)).failure.message == "the far side was slow"


async def test_a_process_that_dies_is_a_retry(registry, executor):
    registry.add(dies, "task", process=True)
    outcome = await run(executor)
    assert isinstance(outcome, Retry)
    assert outcome.failure.message == "its process died in the middle of it (exit code 9)"


async def test_a_task_can_ask_for_more_time(registry, executor):
    async def task(context):
        context.extend(3600)
        await asyncio.sleep(0)
        return context.deadline

    registry.add(task, timeout=5)
    outcome = await run(executor)
    assert outcome.result > SystemClock().now() + 3000


async def test_a_context_knows_the_attempt(registry, executor):
    async def task(context):
        return [context.entity_id, context.task_name, context.attempt, context.max_attempts, context.logger.name]

    registry.add(task)
    assert (await run(executor, attempt=2)).result == ["doc-1", "task", 2, 3, "fanfold.task.task"]


async def test_a_typed_config_is_validated_before_the_run(registry, executor):
    @dataclass
    class Config:
        depth: int

    ran = []

    async def task(task_config):
        ran.append(task_config)

    task.__annotations__["task_config"] = Config
    registry.add(task)
    assert isinstance(await run(executor, task_config={"depth": 2}), Completed)
    refused = await run(executor, task_config={"depth": "deep"})
    assert isinstance(refused, Reject)
    assert "depth" in refused.failure.message
    assert ran == [Config(2)]


async def test_an_unknown_task_goes_back_with_a_delay_until_its_attempts_are_spent(executor):
    outcome = await run(executor, "newer")
    assert (outcome.delay, outcome.failure.type) == (UNKNOWN_TASK_DELAY, "UnknownTask")
    assert isinstance(await run(executor, "newer", attempt=3), Reject)


@pytest.mark.parametrize("result", [object(), float("nan"), "x" * (MAX_RESULT_BYTES + 1)], ids=type)
async def test_a_result_that_cant_be_kept_is_the_tasks_failure(registry, executor, result):
    async def task():
        return result

    registry.add(task)
    outcome = await run(executor)
    assert isinstance(outcome, Reject)
    assert "result of task 'task'" in outcome.failure.message


async def test_our_own_cancellation_comes_out_as_such(registry, executor):
    started = asyncio.Event()

    async def task():
        started.set()
        await asyncio.Event().wait()

    registry.add(task)
    under_way = Run()
    running = asyncio.create_task(run(executor, under_way=under_way))
    await started.wait()
    under_way.interrupt()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not running.cancelling()  # whoever runs it can go on


async def test_a_function_that_cancels_its_own_asyncio_task_has_failed(registry, executor):
    async def at_once():
        asyncio.current_task().cancel()

    async def later():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    for task in (at_once, later):
        registry.add(task)
        outcome = await run(executor, task.__name__)
        assert (type(outcome), outcome.failure.type) == (Retry, "CancelledError")
        await asyncio.sleep(0)  # the asyncio task that it ran in can go on


async def test_what_is_returned_after_the_timeout_counts_no_more(registry, executor):
    async def task():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "too late"

    registry.add(task, timeout=0.01)
    assert (await run(executor)).failure.type == "Timeout"
