"""Delivery → outcome. Decides what should happen to a task, and touches no broker."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
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
from fanfold.errors import FanfoldError, InvalidInputError
from fanfold.model import FOLD_NAME, Failure, FanOut, Task
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
        allowance = Allowance(self._clock.now() + definition.timeout)
        try:
            await self._call(definition, arguments, allowance, lambda _: None)
        except _TimedOutError:
            return Failure(type="Timeout", message=f"no end within {definition.timeout:g} s")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a worker never dies of a hook
            return failure_of(error, __file__)
        finally:
            allowance.cancelled = True
        return None

    async def run(self, task: Task, attempt: int, leftover: Leftover, *, until: float | None = None) -> Outcome:
        """Run `task` as its attempt number `attempt` (from 1).

        Args:
            task: what to run.
            attempt: counts this run too.
            leftover: told of a thread that goes on after its timeout or cancellation; its slot isn't free until then.
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
            self._processes.stop()
            self._processes.join()

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

    async def _attempt_fold(
        self, definition: Definition, task: Task, attempt: int, leftover: Leftover, *, until: float | None
    ) -> Outcome:
        try:
            fan_out = await self._load_fan_out(str(task.fan_out_id)) if self._load_fan_out is not None else None
        except FanfoldError as error:
            return Retry(failure_of(error, __file__))
        if fan_out is not None:
            definition = self._registry.fold_for(failed=not fan_out.succeeded) or _NO_FOLD
        return await self._attempt(definition, task, attempt, leftover, until=until, fan_out=fan_out)

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


async def _nothing() -> None:
    """What handles a completion that only the other kind of `on_…` would want to know of."""


_NO_FOLD: Final = Definition(name=FOLD_NAME, function=_nothing, runs=Runs.ON_LOOP, timeout=60.0, parameters={})


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
