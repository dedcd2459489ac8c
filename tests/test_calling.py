from __future__ import annotations

import asyncio

import pytest

from fanfold.calling import outcome_of, outcome_on_loop
from fanfold.errors import InvalidInputError
from fanfold.limits import MAX_RESULT_BYTES
from fanfold.outcome import Completed, Reject, Retry

ANYTHING = [
    ValueError("no such page"),
    InvalidInputError("of its own enqueue"),
    TimeoutError("theirs"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration("x"),
    StopAsyncIteration("x"),
    asyncio.CancelledError(),
    BaseException("of no kind"),
]


class SlowDown(Retry):
    def __init__(self, seconds, _):
        super().__init__("slow down", delay=seconds)


async def outcome(kind, function):
    """What comes of a function that is called where plain ones are, or where async ones are."""
    if kind == "plain":
        return outcome_of("task", function)

    async def run():
        return function()

    return await asyncio.create_task(outcome_on_loop("task", run))


kinds = pytest.mark.parametrize("kind", ["plain", "async"])


def raising(error):
    def raises():
        raise error

    return raises


@kinds
async def test_a_result_is_completed_as_the_json_that_it_is(kind):
    result = await outcome(kind, lambda: {"pages": [1, 2]})
    assert result == Completed({"pages": [1, 2]}, '{"pages":[1,2]}')


@kinds
@pytest.mark.parametrize("error", ANYTHING, ids=lambda error: type(error).__name__)
async def test_whatever_is_raised_is_a_retry_that_says_what_it_was(kind, error):
    if kind == "async" and isinstance(error, StopIteration):
        pytest.skip("a coroutine can't raise it: Python makes it a RuntimeError")
    result = await outcome(kind, raising(error))
    assert isinstance(result, Retry)
    assert (result.failure.type, result.failure.message) == (type(error).__name__, str(error))


@kinds
async def test_a_failure_has_the_functions_own_traceback_and_not_the_callers(kind):
    def looks_it_up():
        return {}["page"]

    result = await outcome(kind, looks_it_up)
    assert "looks_it_up" in result.failure.traceback
    assert "fanfold/calling.py" not in result.failure.traceback


@kinds
@pytest.mark.parametrize("returned", [True, False], ids=["returned", "raised"])
async def test_a_function_says_itself_what_should_happen_next(kind, returned):
    for signal in (Retry("rate limited", delay=77), Reject("no roof")):
        result = await outcome(kind, (lambda signal=signal: signal) if returned else raising(signal))
        assert type(result) is type(signal)
        assert result.failure is signal.failure
        assert getattr(result, "delay", None) == getattr(signal, "delay", None)


@kinds
async def test_a_kind_of_retry_of_ones_own_is_a_plain_one_afterwards(kind):
    result = await outcome(kind, raising(SlowDown(5, "more than can be unpickled")))
    assert type(result) is Retry
    assert (result.delay, result.failure.type, result.failure.message) == (5, "SlowDown", "slow down")


@kinds
@pytest.mark.parametrize(
    "result", [object(), float("nan"), {1: {2}, "x": lambda: None}], ids=["object", "NaN", "lambda"]
)
async def test_a_result_that_isnt_json_gives_the_task_up_with_the_reason(kind, result):
    rejected = await outcome(kind, lambda: result)
    assert isinstance(rejected, Reject)
    assert rejected.failure.message.startswith("the result of task 'task'")


@kinds
async def test_a_result_may_have_256_kib_and_not_a_byte_more(kind):
    quotes = 2
    assert isinstance(await outcome(kind, lambda: "x" * (MAX_RESULT_BYTES - quotes)), Completed)
    rejected = await outcome(kind, lambda: "x" * (MAX_RESULT_BYTES - quotes + 1))
    assert isinstance(rejected, Reject)
    assert "has 262,145 bytes of JSON; at most 262,144 are kept" in rejected.failure.message


async def test_a_results_bytes_count_and_not_its_characters():
    assert isinstance(outcome_of("task", lambda: "ü" * (MAX_RESULT_BYTES // 2)), Reject)


async def test_the_cancellation_of_its_asyncio_task_is_raised():
    started = asyncio.Event()

    async def endless():
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(outcome_on_loop("task", endless))
    await started.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
