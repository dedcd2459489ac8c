"""Delivery → outcome. Decides what should happen to a task, and touches no broker."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import multiprocessing
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fanfold import codec, limits
from fanfold.clock import Clock
from fanfold.context import Allowance, Context
from fanfold.errors import InvalidInputError
from fanfold.model import Failure, FanOut, Task
from fanfold.outcome import Completed, Outcome, Reject, Retry, decide, failure_of
from fanfold.registry import Definition, Registry, Runs
from fanfold.retry import Backoff

if TYPE_CHECKING:
    from pebble import ProcessPool

UNKNOWN_TASK_DELAY: Final = 30.0
"""Seconds until an unknown task is tried again: a rolling deploy's next worker may know it."""

Leftover = Callable[["asyncio.Future[Any]"], None]
LoadFanOut = Callable[[str], Awaitable[FanOut | None]]


class Executor:
    """Runs one task at a time per call: async functions on the loop, plain ones in threads or processes.

    1. Finds the declaration, validates the configuration, gathers the arguments.
    2. Runs the function within its timeout.
    3. Turns whatever came of it into an `Outcome`; spent attempts turn a retry into a rejection.

    Whatever a task raises, `SystemExit` included, is its outcome and never the worker's end. Only its own cancellation
    (`asyncio.CancelledError`: lease lost, worker stopping) comes out of `run` as an exception.
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
        self._processes: ProcessPool | None = None

    def max_attempts(self, task_name: str) -> int:
        """How often a task may run: its own declaration's word, else the application's."""
        definition = self._registry.get(task_name)
        return (definition.max_attempts if definition else None) or self._max_attempts

    async def run(self, task: Task, attempt: int, leftover: Leftover) -> Outcome:
        """Run `task` as its attempt number `attempt` (from 1).

        Args:
            task: what to run.
            attempt: counts this run too.
            leftover: told of a thread that goes on after its timeout or cancellation; its slot isn't free until then.
        """
        definition = self._registry.get(task.task_name)
        if definition is None:
            failure = Failure(type="UnknownTask", message=f"no worker here declares a task {task.task_name!r}")
            outcome: Outcome = Retry(failure, delay=UNKNOWN_TASK_DELAY)
        else:
            outcome = await self._attempt(definition, task, attempt, leftover)
        backoff = definition.backoff if definition else Backoff()
        return decide(outcome, attempt, self.max_attempts(task.task_name), backoff, self._rng)

    def close(self) -> None:
        """Let go of threads and processes; what still runs in a process is killed, a thread is left to end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            self._processes.stop()
            self._processes.join()

    async def _attempt(self, definition: Definition, task: Task, attempt: int, leftover: Leftover) -> Outcome:
        started = self._clock.now()
        allowance = Allowance(started + definition.timeout)
        try:
            arguments = await self._arguments(definition, task, attempt, allowance)
            result = await self._call(definition, arguments, allowance, leftover)
            return result if isinstance(result, Retry | Reject) else _completed(definition, result)
        except (Retry, Reject) as outcome:
            return outcome
        except InvalidInputError as error:  # what doesn't fit today won't tomorrow
            return Reject(failure_of(error, __file__))
        except _TimedOutError:
            message = f"no result within {allowance.deadline - started:g} s"
            return Retry(Failure(type="Timeout", message=message))
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            return Retry(failure_of(error, __file__))  # the task's own doing, not ours
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a worker never dies of a task
            return Retry(failure_of(error, __file__))
        finally:
            allowance.cancelled = True

    async def _arguments(
        self, definition: Definition, task: Task, attempt: int, allowance: Allowance
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
        if "fan_out" in wanted and self._load_fan_out is not None:
            values["fan_out"] = await self._load_fan_out(str(task.fan_out_id))
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
    ) -> Any:
        if definition.runs is Runs.ON_LOOP:
            return await self._on_loop(partial(definition.function, **arguments), allowance)
        if definition.runs is Runs.IN_THREAD:
            return await self._in_thread(partial(definition.function, **arguments), allowance, leftover)
        return await self._in_process(definition, arguments)

    async def _on_loop(self, call: Callable[[], Awaitable[Any]], allowance: Allowance) -> Any:
        try:
            async with self._limit(allowance) as limit:
                return await call()
        except TimeoutError:
            if limit.expired():
                raise _TimedOutError from None
            raise

    async def _in_thread(self, call: Callable[[], Any], allowance: Allowance, leftover: Leftover) -> Any:
        context = contextvars.copy_context()
        running = asyncio.get_running_loop().run_in_executor(self._threads, context.run, _contained, call)
        try:
            async with self._limit(allowance):
                ended = await asyncio.shield(running)
        except TimeoutError:
            raise _TimedOutError from None
        finally:
            if not running.done():
                leftover(running)
        if isinstance(ended, _Raised):
            raise ended.error
        return ended

    async def _in_process(self, definition: Definition, arguments: Mapping[str, Any]) -> Any:
        from pebble import ProcessExpired  # noqa: PLC0415 - only who declares process=True pays for the import

        future = self._pool().schedule(definition.function, kwargs=dict(arguments), timeout=definition.timeout)
        try:
            # Cancelling this future kills the process: here a timeout and a lost lease really end the work.
            return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if error.args == ("Task timeout", definition.timeout):  # pebble's own, as apart from the task's
                raise _TimedOutError from None
            raise
        except ProcessExpired as error:
            raise RuntimeError(f"its process died (exit code {error.exitcode}); out of memory, or killed?") from None

    def _pool(self) -> ProcessPool:
        if self._processes is None:
            from pebble import ProcessPool  # noqa: PLC0415 - as above

            # Not forked: a child of this many-threaded process would inherit locks that nobody releases.
            context = multiprocessing.get_context("spawn")
            workers = min(self._concurrency, os.cpu_count() or 1)
            self._processes = ProcessPool(max_workers=workers, context=context)
        return self._processes

    def _limit(self, allowance: Allowance) -> asyncio.Timeout:
        loop = asyncio.get_running_loop()

        def at() -> float:
            return loop.time() + allowance.deadline - self._clock.now()

        limit = asyncio.timeout_at(at())
        allowance.on_change.append(lambda: loop.call_soon_threadsafe(lambda: _reschedule(limit, at())))
        return limit


class _TimedOutError(Exception):
    """The run's own timeout, as apart from a TimeoutError that the task raised."""


class _Raised:
    """What a thread's function raised, carried as a value: a future can't hold StopIteration."""

    def __init__(self, error: BaseException) -> None:
        plain = isinstance(error, Exception | SystemExit) and not isinstance(error, StopIteration)
        self.error = error if plain else RuntimeError(f"the task raised {error!r}")


def _contained(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except BaseException as error:  # noqa: BLE001 - raised again on the loop's side
        return _Raised(error)


def _reschedule(limit: asyncio.Timeout, when: float) -> None:
    try:
        limit.reschedule(when)
    except RuntimeError:
        return  # the run ended before its request for more time arrived


def _completed(definition: Definition, result: Any) -> Outcome:
    encoded = codec.to_json(result, what=f"the result of task {definition.name!r}")
    size = len(encoded.encode())
    if size > limits.MAX_RESULT_BYTES:
        raise InvalidInputError(
            f"the result of task {definition.name!r} has {size:,} bytes of JSON; at most {limits.MAX_RESULT_BYTES:,} "
            "are kept. Put it in a store and return its address."
        )
    return Completed(result, encoded)
