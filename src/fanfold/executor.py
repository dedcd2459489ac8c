"""Delivery → outcome. Decides what should happen to a task, and touches no broker."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import pickle
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from fanfold.calling import outcome_of, outcome_on_loop
from fanfold.clock import Clock
from fanfold.context import Context
from fanfold.errors import InvalidInputError
from fanfold.model import FOLD_NAME, Failure, FanOut, Task
from fanfold.outcome import Completed, Outcome, Reject, Retry, decide, failure_of
from fanfold.processes import Processes
from fanfold.registry import Definition, Registry, Runs
from fanfold.retry import Backoff
from fanfold.runs import Run, Timeouts

UNKNOWN_TASK_DELAY: Final = 30.0
"""Seconds until an unknown task is tried again: a rolling deploy's next worker may know it."""
_NO_BACKOFF: Final = Backoff()

LoadFanOut = Callable[[str], Awaitable[FanOut | None]]


class Executor:
    """Runs one task at a time per call: async functions on the loop, plain ones in threads or processes.

    1. Finds the declaration, validates the configuration, gathers the arguments.
    2. Runs the function within its timeout.
    3. Turns whatever came of it into an `Outcome`; spent attempts turn a retry into a rejection.

    Whatever a task raises, `SystemExit` and `KeyboardInterrupt` included, is its outcome and never the worker's end.
    Only an interrupt of the run (lease lost, worker stopping) comes out of `run` as an exception. What a function
    returns after its timeout or interrupt counts no more: it was told to end, not to end well.
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
        self._timeouts = Timeouts()

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
        running = asyncio.ensure_future(self._call(definition, arguments, Run()))
        try:
            await asyncio.wait([running], timeout=definition.timeout)
            if not running.done():
                return Failure(type="Timeout", message=f"no end within {definition.timeout:g} s")
            if running.cancelled():
                return Failure(type="CancelledError", message="it has cancelled its own asyncio task")
            outcome = running.result()
            return None if isinstance(outcome, Completed) else outcome.failure
        finally:
            running.cancel()

    async def run(self, task: Task, attempt: int, run: Run, *, until: float | None = None) -> Outcome:
        """Run `task` as its attempt number `attempt` (from 1), in the current asyncio task.

        Args:
            task: what to run.
            attempt: counts this run too.
            run: what can end it, begun.
            until: when it is of no use any more, in seconds since the epoch: its fan-out's deadline.

        Raises:
            CancelledError: the run was interrupted.
        """
        definition = self._registry.get(task.task_name)
        if definition is None:
            failure = Failure(type="UnknownTask", message=f"no worker here declares a task {task.task_name!r}")
            return self._decided(Retry(failure, delay=UNKNOWN_TASK_DELAY), task, attempt, _NO_BACKOFF)
        try:
            if task.task_name == FOLD_NAME:
                outcome = await self._fold(definition, task, attempt, run, until)
            else:
                outcome = await self._begin(definition, task, attempt, run, until)
        except InvalidInputError as error:  # a config that doesn't fit today won't tomorrow
            outcome = Reject(failure_of(error, __file__))
        except asyncio.CancelledError as error:
            outcome = Retry(failure_of(error, __file__))  # the function's own doing, where nobody has ended the run
        finally:
            self._timeouts.forget(run)
            run.over()
        if run.interrupted:
            raise asyncio.CancelledError
        if run.expired and run.late is not None:
            return run.late(run)
        if run.cancelled_itself:
            outcome = await run.calmed()
        if isinstance(outcome, Completed):
            return outcome
        return self._decided(outcome, task, attempt, definition.backoff)

    def close(self) -> None:
        """Let go of threads and processes; what still runs in a process is killed, a thread is left to end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            self._processes.close()

    async def _fold(self, definition: Definition, task: Task, attempt: int, run: Run, until: float | None) -> Outcome:
        try:
            fan_out = await self._load_fan_out(str(task.fan_out_id)) if self._load_fan_out is not None else None
        except Exception as error:  # noqa: BLE001 - the ledger is away, say: the next attempt may do better
            return Retry(failure_of(error, __file__))
        if fan_out is not None:
            definition = self._registry.fold_for(failed=not fan_out.succeeded) or _NO_FOLD
        return await self._begin(definition, task, attempt, run, until, fan_out=fan_out)

    def _begin(
        self,
        definition: Definition,
        task: Task,
        attempt: int,
        run: Run,
        until: float | None,
        *,
        fan_out: FanOut | None = None,
    ) -> Coroutine[Any, Any, Outcome]:
        """Start its time, and answer what is to be awaited. Raises InvalidInputError."""
        started = self._clock.now()
        run.deadline = started + definition.timeout if until is None else min(started + definition.timeout, until)
        run.late = partial(self._late, definition, task, attempt, started)
        if definition.runs is not Runs.IN_PROCESS:  # which counts from when its process is ready
            self._timeouts.watch(run, started)
        return self._call(definition, self._arguments(definition, task, attempt, run, fan_out), run)

    def _decided(self, outcome: Outcome, task: Task, attempt: int, backoff: Backoff) -> Outcome:
        if not isinstance(outcome, Retry):
            return outcome
        return decide(outcome, attempt, self.max_attempts(task.task_name), backoff, self._rng)

    def _late(self, definition: Definition, task: Task, attempt: int, started: float, run: Run) -> Outcome:
        seconds = run.deadline - started
        failure = Failure(type="Timeout", message=f"no result within {seconds:g} s")
        return self._decided(Retry(failure), task, attempt, definition.backoff)

    def _arguments(
        self, definition: Definition, task: Task, attempt: int, run: Run, fan_out: FanOut | None
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for parameter, value in definition.parameters.items():
            if value == "task_config":
                values[parameter] = definition.config(task.task_config)
            elif value == "context":
                values[parameter] = self._context(task, attempt, run)
            else:
                values[parameter] = fan_out if value == "fan_out" else getattr(task, value)
        return values

    def _context(self, task: Task, attempt: int, run: Run) -> Context:
        return Context(
            entity_id=task.entity_id,
            task_name=task.task_name,
            fan_out_id=task.fan_out_id,
            attempt=attempt,
            max_attempts=self.max_attempts(task.task_name),
            logger=logging.getLogger(f"fanfold.task.{task.task_name}"),
            _allowance=run,
        )

    def _call(self, definition: Definition, arguments: Mapping[str, Any], run: Run) -> Coroutine[Any, Any, Outcome]:
        if definition.runs is Runs.ON_LOOP:
            return outcome_on_loop(definition.name, definition.function, arguments)
        call = partial(definition.function, **arguments)
        if definition.runs is Runs.IN_THREAD:
            return self._in_thread(definition.name, call, run)
        return self._in_process(definition.name, call, definition.timeout)

    async def _in_thread(self, name: str, call: Callable[[], Any], run: Run) -> Outcome:
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, context.run, outcome_of, name, call)
        try:
            return await asyncio.shield(running)
        finally:
            if not running.done():
                run.leftover = running

    async def _in_process(self, name: str, call: Callable[[], Any], seconds: float) -> Outcome:
        if self._processes is None:
            self._processes = Processes(min(self._concurrency, os.cpu_count() or 1))
        try:
            packed = pickle.dumps(call)
        except Exception as error:  # noqa: BLE001 - a user's class can do anything when it is pickled
            return Retry(failure_of(error, __file__))
        try:
            return await self._processes.run(name, packed, seconds=seconds)
        except TimeoutError as error:  # ours: the function's own would be an outcome
            return Retry(Failure(type="Timeout", message=str(error)))


async def _nothing() -> None:
    """What handles a completion that only the other kind of `on_…` would want to know of."""


_NO_FOLD: Final = Definition(name=FOLD_NAME, function=_nothing, runs=Runs.ON_LOOP, timeout=60.0, parameters={})
