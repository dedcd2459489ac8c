from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import types
from functools import partial
from pathlib import Path

import psutil
import pytest

import processed
from fanfold import processes
from fanfold.limits import MAX_RESULT_BYTES
from fanfold.outcome import Completed, Reject, Retry
from fanfold.processes import Processes

LONG = 3600


@pytest.fixture
async def pool():
    made = Processes(2)
    yield made
    made.close()


class Said:
    """A FIFO through which what runs in a child says its pids."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path = str(path)

    async def open(self):
        self._lines = asyncio.StreamReader()
        # Open for writing too, so that it doesn't end between two writers.
        pipe = os.fdopen(os.open(self.path, os.O_RDWR | os.O_NONBLOCK))
        protocol = asyncio.StreamReaderProtocol(self._lines)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)

    def close(self):
        self._transport.close()

    async def next(self):
        """The pids that are said next."""
        return [int(pid) for pid in (await self._lines.readline()).split()]


class Gate:
    """A FIFO that what runs in children waits to see opened."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path = str(path)
        self._opened = []

    def open(self):
        self._opened.append(os.open(self.path, os.O_RDWR))

    def close(self):
        for opened in self._opened:
            os.close(opened)


@pytest.fixture
async def said(tmp_path):
    made = Said(tmp_path / "said")
    await made.open()
    yield made
    made.close()


@pytest.fixture
def gate(tmp_path):
    made = Gate(tmp_path / "gate")
    yield made
    made.close()


async def run(pool, function, *arguments, seconds=LONG):
    return await pool.run("task", pickle.dumps(partial(function, *arguments)), seconds=seconds)


async def ended(*pids):
    """Return when no process of these runs any more."""
    for pid in pids:
        while runs(pid):  # noqa: ASYNC110 - the kernel tells only parents
            await asyncio.sleep(0)


def runs(pid):
    """Whether a process does anything still; one that its parent hasn't reaped doesn't."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_call_runs_in_another_process(pool):
    outcome = await run(pool, processed.pid)
    assert isinstance(outcome, Completed)
    assert outcome.result != os.getpid()
    assert outcome.encoded == str(outcome.result)


async def test_calls_one_after_the_other_share_a_process(pool):
    assert await run(pool, processed.pid) == await run(pool, processed.pid)


async def test_calls_at_once_have_a_process_each_and_no_more_than_there_are_run(pool, said, gate):
    both = [asyncio.create_task(run(pool, processed.meets, said.path, gate.path)) for _ in range(2)]
    first, second = [await said.next() for _ in both]
    assert first != second
    third = asyncio.create_task(run(pool, processed.pid))
    await asyncio.sleep(0)
    assert len(pool._busy) == 2
    gate.open()
    assert [(await third).result] in (first, second)


RAISING = [
    (processed.raises_odd, "OddError", "odd"),
    (processed.raises_unpicklable, "UnpicklableError", "sealed"),
    (processed.raises_local, "LocalError", "nobody can import me"),
    (processed.raises_keyboard_interrupt, "KeyboardInterrupt", ""),
    (processed.raises_system_exit, "SystemExit", "3"),
    (processed.raises_a_timeout, "TimeoutError", "the far side was slow"),
    (processed.raises_os_error, "BrokenPipeError", "their own pipe"),
]


async def test_whatever_a_call_raises_is_its_own_failure_and_the_process_goes_on(pool):
    before = await run(pool, processed.pid)
    for function, kind, message in RAISING:
        outcome = await run(pool, function)
        assert isinstance(outcome, Retry)
        assert (outcome.failure.type, outcome.failure.message) == (kind, message)
        assert f"in {function.__name__}" in outcome.failure.traceback
    assert await run(pool, processed.pid) == before


async def test_a_call_says_itself_what_should_happen_next(pool):
    retry = await run(pool, processed.raises_odd_retry)
    assert (type(retry), retry.delay, retry.failure.message) == (Retry, 77, "later")
    reject = await run(pool, processed.returns_reject)
    assert (type(reject), reject.failure.message) == (Reject, "no roof")


async def test_a_result_that_isnt_json_gives_the_task_up_and_the_process_goes_on(pool):
    before = await run(pool, processed.pid)
    outcome = await run(pool, processed.returns_a_lambda)
    assert isinstance(outcome, Reject)
    assert outcome.failure.message.startswith("the result of task 'task'")
    assert await run(pool, processed.pid) == before


async def test_a_result_crosses_as_json_although_its_object_couldnt(pool):
    outcome = await run(pool, processed.returns_a_local_dataclass)
    assert (outcome.result, outcome.encoded) == ({"page": 7}, '{"page":7}')


@pytest.mark.parametrize(
    ("function", "how"),
    [(processed.exits, "exit code 9"), (processed.is_killed, "signal 9, Killed")],
    ids=["by itself", "killed"],
)
async def test_a_process_that_dies_is_the_failure_of_its_call(pool, function, how):
    outcome = await run(pool, function)
    assert isinstance(outcome, Retry)
    assert outcome.failure.type == "ProcessDied"
    assert how in outcome.failure.message
    assert isinstance(await run(pool, processed.pid), Completed)


async def test_a_process_that_dies_takes_no_other_along(pool, said, gate):
    other = asyncio.create_task(run(pool, processed.meets, said.path, gate.path))
    [pid] = await said.next()
    assert isinstance(await run(pool, processed.is_killed), Retry)
    gate.open()
    assert (await other).result == pid


async def test_an_idle_process_that_was_killed_is_nobodys_failure(pool):
    killed = (await run(pool, processed.pid)).result
    os.kill(killed, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, killed, os.WEXITED | os.WNOWAIT)  # it is left to be reaped
    outcome = await run(pool, processed.pid)
    assert isinstance(outcome, Completed)
    assert outcome.result != killed


async def test_a_function_that_the_process_cant_import_is_a_failure_and_not_waited_for(pool, monkeypatch):
    ghost = types.ModuleType("ghost")
    exec("def function(): pass", ghost.__dict__)  # noqa: S102 - a module that only this process has
    monkeypatch.setitem(sys.modules, "ghost", ghost)
    outcome = await run(pool, ghost.function)
    assert isinstance(outcome, Retry)
    assert (outcome.failure.type, outcome.failure.message) == ("ModuleNotFoundError", "No module named 'ghost'")
    assert isinstance(await run(pool, processed.pid), Completed)


async def test_at_its_timeout_a_call_really_ends(pool, said):
    running = asyncio.create_task(run(pool, processed.never_ends, said.path, seconds=0.01))
    [pid] = await said.next()
    with pytest.raises(TimeoutError, match=r"^no result within 0\.01 s$"):
        await running
    await ended(pid)
    assert (await run(pool, processed.pid)).result != pid


async def test_what_a_call_has_started_ends_with_it(pool, said):
    running = asyncio.create_task(run(pool, processed.starts_another, said.path))
    pids = await said.next()
    running.cancel()
    await asyncio.wait([running])
    await ended(*pids)


async def test_importing_the_application_has_its_own_time(pool, monkeypatch):
    monkeypatch.setattr(processes, "_LOADING", 0)
    with pytest.raises(TimeoutError, match="its process didn't import the application within 0 s"):
        await run(pool, processed.pid)


async def test_a_call_that_is_given_up_is_killed_alone(pool, said, gate):
    given_up = asyncio.create_task(run(pool, processed.never_ends, said.path))
    [pid] = await said.next()
    other = asyncio.create_task(run(pool, processed.meets, said.path, gate.path))
    [others] = await said.next()
    given_up.cancel()
    await asyncio.wait([given_up])
    assert given_up.cancelled()
    await ended(pid)
    gate.open()
    assert (await other).result == others


async def test_one_who_waits_for_a_process_can_be_given_up_too(said):
    pool = Processes(1)
    running = asyncio.create_task(run(pool, processed.never_ends, said.path))
    await said.next()
    waiting = asyncio.create_task(run(pool, processed.pid))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    running.cancel()
    await asyncio.wait([running])
    assert isinstance(await run(pool, processed.pid), Completed)
    pool.close()


async def test_closing_kills_what_runs_and_what_idles(said):
    pool = Processes(2)
    running = asyncio.create_task(run(pool, processed.never_ends, said.path))
    [busy] = await said.next()
    idle = (await run(pool, processed.pid)).result
    pool.close()
    assert not runs(busy)
    assert not runs(idle)
    assert (await running).failure.type == "ProcessDied"
    pool.close()


async def test_signals_that_ask_the_service_to_stop_are_left_to_the_parent(pool):
    assert (await run(pool, processed.survives_signals)).result == "still here"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_what_a_call_forks_is_ended_by_signals_as_usual(pool, number):
    assert (await run(pool, processed.fork_is_ended_by, number)).result == number


async def test_a_result_of_the_largest_size_crosses_whole(pool):
    size = MAX_RESULT_BYTES - len('""')
    outcome = await run(pool, processed.returns_text, size)
    assert isinstance(outcome, Completed)
    assert len(outcome.result) == size
    assert isinstance(await run(pool, processed.returns_text, size + 1), Reject)
    assert isinstance(await run(pool, processed.pid), Completed)


async def test_many_calls_at_once_share_the_processes_that_there_are(pool):
    outcomes = await asyncio.gather(*(run(pool, processed.pid) for _ in range(50)))
    assert 1 <= len({outcome.result for outcome in outcomes}) <= 2


async def test_a_call_that_takes_more_memory_than_there_is_fails_alone(pool):
    outcome = await run(pool, processed.takes_more_memory_than_it_may)
    assert isinstance(outcome, Retry)
    assert outcome.failure.type == "MemoryError"
    assert isinstance(await run(pool, processed.pid), Completed)


async def test_a_child_ends_with_a_parent_that_was_killed(said):
    script = f"import processed; processed.is_a_parent({said.path!r})"
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=Path(__file__).parent)
    [child] = await said.next()
    parent.kill()
    await parent.wait()
    await ended(child)
