from __future__ import annotations

import asyncio

import pytest

from fanfold.batcher import Batcher


class Queue:
    """Takes batches, and answers each item with itself and its batch's number when it is let."""

    def __init__(self, *, fails=None):
        self.batches = []
        self.arrived = asyncio.Event()
        self.let = asyncio.Event()
        self.let.set()
        self.fails = fails

    async def flush(self, items):
        self.batches.append(list(items))
        number = len(self.batches)
        self.arrived.set()
        await self.let.wait()
        if self.fails is not None:
            raise self.fails
        return [(item, number) for item in items]


@pytest.fixture
async def queue():
    return Queue()


def batcher(queue, *, size=10, linger=0.0):
    return Batcher(queue.flush, size=size, linger=linger)


async def test_what_comes_together_goes_together_and_each_gets_its_own_answer(queue):
    company = batcher(queue)
    assert await asyncio.gather(*map(company.add, "abc")) == [("a", 1), ("b", 1), ("c", 1)]
    assert queue.batches == [["a", "b", "c"]]


async def test_a_full_batch_leaves_at_once(queue):
    company = batcher(queue, size=2, linger=3600)
    assert await asyncio.gather(*map(company.add, "abcd")) == [("a", 1), ("b", 1), ("c", 2), ("d", 2)]


async def test_a_batch_that_isnt_full_waits_for_company(queue):
    company = batcher(queue, size=2, linger=3600)
    first = asyncio.create_task(company.add("a"))
    await asyncio.sleep(0)
    assert queue.batches == []
    assert await company.add("b") == ("b", 1)
    assert await first == ("a", 1)


async def test_a_batch_leaves_when_its_first_item_has_lingered(queue):
    assert await batcher(queue, linger=0.001).add("a") == ("a", 1)


async def test_one_that_wont_wait_takes_along_what_has_gathered(queue):
    company = batcher(queue, linger=3600)
    first = asyncio.create_task(company.add("a"))
    await asyncio.sleep(0)
    await company.add("b", wait=False)
    await first
    assert queue.batches == [["a", "b"]]


async def test_a_batch_under_way_holds_no_other_up(queue):
    queue.let.clear()
    company = batcher(queue, size=1)
    adds = [asyncio.create_task(company.add(item)) for item in "ab"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert queue.batches == [["a"], ["b"]]
    queue.let.set()
    await asyncio.gather(*adds)


async def test_a_batchs_failure_is_everyones():
    company = batcher(Queue(fails=OSError("down")))
    answers = await asyncio.gather(*map(company.add, "ab"), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["down", "down"]


async def test_the_next_batch_is_sent_after_a_failure():
    queue = Queue(fails=OSError("down"))
    company = batcher(queue)
    with pytest.raises(OSError, match="down"):
        await company.add("a")
    queue.fails = None
    assert await company.add("b") == ("b", 2)


async def test_a_caller_that_gives_up_leaves_the_others_their_answers(queue):
    queue.let.clear()
    company = batcher(queue)
    given_up, patient = asyncio.create_task(company.add("a")), asyncio.create_task(company.add("b"))
    await queue.arrived.wait()
    given_up.cancel()
    queue.let.set()
    assert await patient == ("b", 1)


async def test_a_caller_that_gives_up_hides_no_failure_from_the_others():
    queue = Queue(fails=OSError("down"))
    queue.let.clear()
    company = batcher(queue)
    given_up, patient = asyncio.create_task(company.add("a")), asyncio.create_task(company.add("b"))
    await queue.arrived.wait()
    given_up.cancel()
    queue.let.set()
    with pytest.raises(OSError, match="down"):
        await patient


async def test_an_answer_too_few_is_an_error_and_not_a_hang():
    async def forgetful(items):
        return items[1:]

    company = Batcher(forgetful, size=2, linger=0.0)
    answers = await asyncio.gather(*map(company.add, "ab"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError, ValueError]


async def test_drain_sends_what_waits_and_returns_when_all_have_their_answers(queue):
    company = batcher(queue, linger=3600)
    adds = [asyncio.create_task(company.add(item)) for item in "ab"]
    await asyncio.sleep(0)
    await company.drain()
    await asyncio.gather(*adds)
    assert queue.batches == [["a", "b"]]


async def test_drain_with_nothing_to_do_returns(queue):
    await batcher(queue).drain()
    assert queue.batches == []


async def test_cancel_gives_up_what_waits_and_what_is_under_way(queue):
    queue.let.clear()
    company = batcher(queue, size=2, linger=3600)
    adds = [asyncio.create_task(company.add(item)) for item in "abc"]
    await queue.arrived.wait()
    company.cancel()
    answers = await asyncio.gather(*adds, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 3
    assert queue.batches == [["a", "b"]]


async def test_after_cancel_it_can_be_used_again(queue):
    company = batcher(queue, size=2, linger=3600)
    gone = asyncio.create_task(company.add("a"))
    await asyncio.sleep(0)
    company.cancel()
    await asyncio.wait([gone])
    await asyncio.gather(company.add("b"), company.add("c"))
    assert queue.batches == [["b", "c"]]
