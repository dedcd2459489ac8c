"""Delivery → outcome. Decides what should happen to a task, and touches no broker."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import os
import pickle
import random
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from fanfold.calling import outcome_of, outcome_on_loop
from fanfold.clock import Clock
from fanfold.context import Allowance, Context
from fanfold.errors import InvalidInputError
from fanfold.model import FOLD_NAME, Failure, FanOut, Task
from fanfold.outcome import Completed, Outcome, Reject, Retry, decide, failure_of
from fanfold.processes import Processes
from fanfold.registry import Definition, Registry, Runs
from fanfold.retry import Backoff

UNKNOWN_TASK_DELAY: Final = 30.0
"""Seconds until an unknown task is tried again: a rolling deploy's next worker may know it."""
_TIDYING: Final = 1.0
"""Seconds in which a cancelled function should have tidied up; it isn't waited for any longer."""

Leftover = Callable[["asyncio.Future[Any]"], None]
LoadFanOut = Callable[[str], Awaitable[FanOut | None]]


class Executor:
    """Runs one task at a time per call: async functions on the loop, plain ones in threads or processes.

    1. Finds the declaration, validates the configuration, gathers the arguments.
    2. Runs the function within its timeout.
    3. Turns whatever came of it into an `Outcome`; spent attempts turn a retry into a rejection.

    Whatever a task raises, `SystemExit` and `KeyboardInterrupt` included, is its outcome and never the worker's end.
    Only the executor's own cancellation (lease lost, worker stopping) comes out of `run` as an exception. What a
    function returns after its timeout or cancellation counts no more: it was told to end, not to end well.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        max_attempts: int,
        concurrency: int,
        clock: Clock,
        rng: random.Random,
        load_fan_out: LoadFanOut | None = None,
    ) -> None:
        self._registry = registry
        self._max_attempts = max_attempts
        self._clock = clock
        self._rng = rng
        self._load_fan_out = load_fan_out
        self._concurrency = concurrency
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="fanfold-task")
        self._processes: Processes | None = None

    def max_attempts(self, task_name: str) -> int:
        """How often a task may run: its own declaration's word, else the application's."""
        definition = self._registry.get(task_name)
        return (definition.max_attempts if definition else None) or self._max_attempts

    @property
    def tells_of_deaths(self) -> bool:
        """Whether `on_task_dead` is declared."""
        return self._registry.on_dead is not None

    async def tell_of_death(self, task: Task, failure: Failure, attempts: int) -> Failure | None:
        """Run `on_task_dead`; answers why it failed, where it did: that changes nothing for the task."""
        definition = self._registry.on_dead
        if definition is None:
            return None
        values = {
            "entity_id": task.entity_id,
            "task_name": task.task_name,
            "task_config": task.task_config,
            "metadata": task.metadata,
            "fan_out_id": task.fan_out_id,
            "failure": failure,
            "attempts": attempts,
        }
        arguments = {parameter: values[value] for parameter, value in definition.parameters.items()}
        try:
            allowance = Allowance(self._clock.now() + definition.timeout)
            outcome = await self._call(definition, arguments, allowance, lambda _: None)
        except TimeoutError:
            return Failure(type="Timeout", message=f"no end within {definition.timeout:g} s")
        return None if isinstance(outcome, Completed) else outcome.failure

    async def run(self, task: Task, attempt: int, leftover: Leftover, *, until: float | None = None) -> Outcome:
        """Run `task` as its attempt number `attempt` (from 1).

        Args:
            task: what to run.
            attempt: counts this run too.
            leftover: told of what goes on after its timeout or cancellation (a thread, an async function that swallows
                it); its slot isn't free until then.
            until: when it is of no use any more, in seconds since the epoch: its fan-out's deadline.
        """
        definition = self._registry.get(task.task_name)
        if definition is None:
            failure = Failure(type="UnknownTask", message=f"no worker here declares a task {task.task_name!r}")
            outcome: Outcome = Retry(failure, delay=UNKNOWN_TASK_DELAY)
        else:
            run = self._attempt_fold if task.task_name == FOLD_NAME else self._attempt
            outcome = await run(definition, task, attempt, leftover, until=until)
        backoff = definition.backoff if definition else Backoff()
        return decide(outcome, attempt, self.max_attempts(task.task_name), backoff, self._rng)

    def close(self) -> None:
        """Let go of threads and processes; what still runs in a process is killed, a thread is left to end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            self._processes.close()

    async def _attempt_fold(
        self, definition: Definition, task: Task, attempt: int, leftover: Leftover, *, until: float | None
    ) -> Outcome:
        try:
            fan_out = await self._load_fan_out(str(task.fan_out_id)) if self._load_fan_out is not None else None
        except Exception as error:  # noqa: BLE001 - the ledger is away, say: the next attempt may do better
            return Retry(failure_of(error, __file__))
        if fan_out is not None:
            definition = self._registry.fold_for(failed=not fan_out.succeeded) or _NO_FOLD
        return await self._attempt(definition, task, attempt, leftover, until=until, fan_out=fan_out)

    async def _attempt(
        self,
        definition: Definition,
        task: Task,
        attempt: int,
        leftover: Leftover,
        *,
        until: float | None,
        fan_out: FanOut | None = None,
    ) -> Outcome:
        started = self._clock.now()
        allowance = Allowance(min(started + definition.timeout, until or math.inf))
        try:
            arguments = self._arguments(definition, task, attempt, allowance, fan_out)
        except InvalidInputError as error:  # a config that doesn't fit today won't tomorrow
            return Reject(failure_of(error, __file__))
        try:
            return await self._call(definition, arguments, allowance, leftover)
        except TimeoutError as error:  # ours: the function's own would be an outcome
            message = str(error) or f"no result within {allowance.deadline - started:g} s"
            return Retry(Failure(type="Timeout", message=message))

    def _arguments(
        self, definition: Definition, task: Task, attempt: int, allowance: Allowance, fan_out: FanOut | None
    ) -> dict[str, Any]:
        wanted = set(definition.parameters.values())
        values: dict[str, Any] = {
            "entity_id": task.entity_id,
            "task_name": task.task_name,
            "metadata": task.metadata,
            "task_config": definition.config(task.task_config),
        }
        if "context" in wanted:
            values["context"] = self._context(task, attempt, allowance)
        if "fan_out" in wanted:
            values["fan_out"] = fan_out
        return {parameter: values[value] for parameter, value in definition.parameters.items()}

    def _context(self, task: Task, attempt: int, allowance: Allowance) -> Context:
        return Context(
            entity_id=task.entity_id,
            task_name=task.task_name,
            fan_out_id=task.fan_out_id,
            attempt=attempt,
            max_attempts=self.max_attempts(task.task_name),
            logger=logging.getLogger(f"fanfold.task.{task.task_name}"),
            _allowance=allowance,
        )

    async def _call(
        self, definition: Definition, arguments: Mapping[str, Any], allowance: Allowance, leftover: Leftover
    ) -> Outcome:
        call = partial(definition.function, **arguments)
        if definition.runs is Runs.ON_LOOP:
            return await self._on_loop(definition.name, call, allowance, leftover)
        if definition.runs is Runs.IN_THREAD:
            return await self._in_thread(definition.name, call, allowance, leftover)
        return await self._in_process(definition.name, call, definition.timeout)

    async def _on_loop(
        self, name: str, call: Callable[[], Awaitable[Any]], allowance: Allowance, leftover: Leftover
    ) -> Outcome:
        running = asyncio.create_task(outcome_on_loop(name, call))
        try:
            return await self._within(allowance, running)
        finally:
            if not running.done():
                await _end(running, leftover)

    async def _in_thread(self, name: str, call: Callable[[], Any], allowance: Allowance, leftover: Leftover) -> Outcome:
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, context.run, outcome_of, name, call)
        try:
            return await self._within(allowance, running)
        finally:
            if not running.done():
                leftover(running)

    async def _within(self, allowance: Allowance, running: asyncio.Future[Outcome]) -> Outcome:
        try:
            async with self._limit(allowance):
                return await asyncio.shield(running)
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and not current.cancelling() and running.cancelled():
                return Retry(failure_of(error, __file__))  # the function has cancelled its own asyncio task
            raise
        finally:
            allowance.cancelled = True

    async def _in_process(self, name: str, call: Callable[[], Any], seconds: float) -> Outcome:
        if self._processes is None:
            self._processes = Processes(min(self._concurrency, os.cpu_count() or 1))
        try:
            packed = pickle.dumps(call)
        except Exception as error:  # noqa: BLE001 - a user's class can do anything when it is pickled
            return Retry(failure_of(error, __file__))
        return await self._processes.run(name, packed, seconds=seconds)

    def _limit(self, allowance: Allowance) -> asyncio.Timeout:
        loop = asyncio.get_running_loop()

        def at() -> float:
            return loop.time() + allowance.deadline - self._clock.now()

        limit = asyncio.timeout_at(at())
        allowance.on_change.append(lambda: loop.call_soon_threadsafe(lambda: _reschedule(limit, at())))
        return limit


async def _nothing() -> None:
    """What handles a completion that only the other kind of `on_…` would want to know of."""


_NO_FOLD: Final = Definition(name=FOLD_NAME, function=_nothing, runs=Runs.ON_LOOP, timeout=60.0, parameters={})


async def _end(running: asyncio.Task[Outcome], leftover: Leftover) -> None:
    """End an async function; one that goes on after its moment to tidy up is left over."""
    running.cancel()
    try:
        await asyncio.wait([running], timeout=_TIDYING)
    finally:
        if not running.done():
            leftover(running)


def _reschedule(limit: asyncio.Timeout, when: float) -> None:
    try:
        limit.reschedule(when)
    except RuntimeError:
        return  # the run ended before its request for more time arrived
