"""Calling a task's function, whatever it does: what comes of it is an outcome, and never an exception.

A function can raise anything (`SystemExit`, an exception that can't be pickled, `StopIteration`, which no future holds)
and return anything. Here, where it runs, that becomes one of three values, which cross threads and processes whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from fanfold import codec, limits
from fanfold.errors import InvalidInputError
from fanfold.outcome import Completed, Outcome, Reject, Retry, failure_of

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
_NOTHING: Final = Completed(None, "null")


def outcome_of(name: str, call: Callable[[], Any]) -> Outcome:
    """Call a plain function of the task `name`."""
    try:
        return _returned(name, call())
    except BaseException as error:  # noqa: BLE001 - a worker never dies of a task
        return _raised(error)


async def outcome_on_loop(
    name: str, function: Callable[..., Awaitable[Any]], arguments: Mapping[str, Any] = _NONE
) -> Outcome:
    """Await an async function of the task `name`, in the current asyncio task.

    Raises:
        CancelledError: that asyncio task was cancelled, as apart from a function that raises it by itself.
    """
    try:
        return _returned(name, await function(**arguments))
    except asyncio.CancelledError as error:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        return _raised(error)  # the function's own doing, not ours
    except BaseException as error:  # noqa: BLE001 - as above
        return _raised(error)


def _raised(error: BaseException) -> Outcome:
    # Made anew where a subclass may need more than its text to be made: these two cross into other processes.
    if isinstance(error, Retry):
        return Retry(error.failure, delay=error.delay)
    if isinstance(error, Reject):
        return Reject(error.failure)
    return Retry(failure_of(error, __file__))


def _returned(name: str, result: Any) -> Outcome:
    if result is None:
        return _NOTHING
    if isinstance(result, Retry | Reject):
        return _raised(result)
    try:
        encoded = codec.to_json(result, what=f"the result of task {name!r}")
    except InvalidInputError as error:  # what can't be kept today can't be kept tomorrow
        return Reject(failure_of(error, __file__))
    size = limits.utf8_size(encoded)
    if size > limits.MAX_RESULT_BYTES:
        return Reject(
            f"the result of task {name!r} has {size:,} bytes of JSON; at most {limits.MAX_RESULT_BYTES:,} are kept. "
            "Put it in a store and return its address."
        )
    return Completed(result, encoded)
