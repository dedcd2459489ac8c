from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fanfold.portal import Portal


@pytest.fixture
def portal():
    made = Portal()
    yield made
    made.close()


async def where():
    return threading.current_thread(), asyncio.get_running_loop()


def test_a_caller_without_a_loop_gets_the_coroutines_result(portal):
    thread, _ = portal.call(where())
    assert thread.name == "fanfold-portal"


def test_a_caller_gets_the_coroutines_error(portal):
    async def fails():
        raise LookupError("no such page")

    with pytest.raises(LookupError, match="no such page"):
        portal.call(fails())


def test_calls_share_one_loop(portal):
    assert portal.call(where()) == portal.call(where())


def test_callers_in_several_threads_share_one_loop(portal):
    barrier = threading.Barrier(4)

    def call():
        barrier.wait()
        return portal.call(where())

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: call(), range(4)))) == 1


async def test_a_caller_may_have_a_loop_of_its_own(portal):
    _, loop = await asyncio.to_thread(portal.call, where())
    assert loop is not asyncio.get_running_loop()


def test_before_the_first_call_there_is_no_thread():
    before = threading.enumerate()
    Portal().close()
    assert set(threading.enumerate()) <= set(before)


def test_close_ends_the_thread_and_the_loop(portal):
    thread, loop = portal.call(where())
    portal.close()
    assert not thread.is_alive()
    assert loop.is_closed()


def test_close_may_come_twice(portal):
    portal.call(where())
    portal.close()
    portal.close()


def test_a_call_after_close_starts_another_thread(portal):
    _, before = portal.call(where())
    portal.close()
    _, after = portal.call(where())
    assert after is not before


def test_close_leaves_no_task_behind_that_never_ends(portal):
    ended = []

    async def lingers():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def leave_behind():
        task = asyncio.create_task(lingers())
        await asyncio.sleep(0)
        return task

    task = portal.call(leave_behind())
    portal.close()
    assert (task.cancelled(), ended) == (True, ["cancelled"])


def test_a_call_from_the_portals_own_loop_is_an_error_and_not_a_deadlock(portal):
    async def inside():
        portal.call(where())

    with pytest.raises(RuntimeError, match="await"):
        portal.call(inside())
