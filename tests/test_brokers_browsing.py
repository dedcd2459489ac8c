"""Looking through a queue that can only be received from, with answers by script."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from fanfold.brokers.browsing import Browse, browsed
from fanfold.errors import BrokerUnavailableError, PermissionMissingError
from fanfold.model import Delivery, QueueStatus


def delivery(number, handle="h"):
    return Delivery(
        message_id=f"id{number}",
        receipt_handle=f"{handle}{number}",
        body="",
        group_id=f"g{number}",
        deduplication_id=f"d{number}",
        receive_count=1,
        sent_at=0.0,
        received_at=0.0,
    )


@dataclass
class Scripted:
    """A queue whose receives answer in order, then with nothing; `count` is what it says that it holds."""

    answers: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    given_back: list = field(default_factory=list)
    count: int | Exception = 0
    under_way: int = 0
    most_at_once: int = 0

    async def peek(self, limit, *, after=None):  # noqa: ARG002 - nothing can be read here
        return None

    async def receive(self, limit, *, wait, lease):
        self.asked.append((limit, wait, lease))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return await answer if asyncio.iscoroutine(answer) else answer

    async def status(self):
        if isinstance(self.count, Exception):
            raise self.count
        return QueueStatus(messages_available=0, messages_in_flight=self.count, messages_delayed=0)

    async def extend(self, deliveries, seconds):
        assert set(seconds) <= {0.0}
        self.given_back += [d.receipt_handle for d in deliveries]
        return [None] * len(deliveries)


def tens(count):
    return [[delivery(n) for n in range(first, first + 10)] for first in range(0, count, 10)]


async def test_full_answers_bring_more_requests_at_once_up_to_sixteen():
    queue = Scripted(tens(470))
    async with Browse(queue, hold=60) as browse:
        pages = [len(page) async for page in browse.pages()]
    assert sum(pages) == browse.seen == 470
    assert queue.most_at_once == 16
    assert len(pages) <= 10  # 47 of ten would be as many questions to the ledger
    assert {lease for _, _, lease in queue.asked} == {60}
    assert sorted(queue.given_back) == sorted(f"h{n}" for n in range(470))


async def test_a_queue_is_empty_only_when_a_long_poll_says_so():
    queue = Scripted([[], [delivery(1)]])
    assert [d.message_id for d in await browsed(queue, 100)] == ["id1"]
    assert [wait for _, wait, _ in queue.asked] == [0, 1, 0, 1]


async def test_after_many_messages_the_counts_may_say_that_this_is_all():
    queue = Scripted(tens(1_000), count=1_000)
    async with Browse(queue) as browse:
        assert sum([len(page) async for page in browse.pages()]) == 1_000
    assert {wait for _, wait, _ in queue.asked} == {0}


@pytest.mark.parametrize("count", [1_001, PermissionMissingError("sqs:GetQueueAttributes", "may not count")])
async def test_counts_that_say_otherwise_or_nothing_leave_the_last_word_to_a_long_poll(count):
    queue = Scripted(tens(1_000), count=count)
    async with Browse(queue) as browse:
        assert sum([len(page) async for page in browse.pages()]) == 1_000
    assert queue.asked[-1][1] == 1
    assert browse.hidden == (1 if count == 1_001 else 0)


async def test_a_look_that_is_left_early_gives_back_what_is_still_on_its_way():
    queue = Scripted(tens(470))
    async with Browse(queue) as browse:
        async for _ in browse.pages():
            break
    assert queue.under_way == 0
    assert len(queue.given_back) == 10 * len([1 for _ in queue.asked])


async def test_what_was_deleted_meanwhile_is_not_given_back():
    queue = Scripted(tens(10))
    async with Browse(queue) as browse:
        async for _ in browse.pages():
            browse.forget(["id3", "id4"])
    assert len(queue.given_back) == 8


async def test_what_is_asked_to_stay_held_stays_held():
    queue = Scripted(tens(10))
    assert len(await browsed(queue, 10, hold=30)) == 10
    assert queue.given_back == []
    assert queue.asked == [(10, 0, 30)]


async def test_an_error_half_way_gives_back_what_the_others_brought():
    queue = Scripted([*tens(10), [delivery(10)], BrokerUnavailableError("gone")])
    with pytest.raises(BrokerUnavailableError):
        await browsed(queue, 100)
    assert len(queue.given_back) == 11


async def test_a_look_that_is_cancelled_waits_for_what_is_on_its_way_and_gives_it_back():
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slowly():
        asked.set()
        await answered.wait()
        return [delivery(99)]

    queue = Scripted([*tens(10), slowly()])
    look = asyncio.create_task(browsed(queue, 100))
    await asked.wait()
    look.cancel()
    await asyncio.sleep(0)
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await look
    assert sorted(queue.given_back) == sorted([*(f"h{n}" for n in range(10)), "h99"])


async def test_a_look_that_takes_longer_than_its_hold_ends_and_gives_back_by_the_newest_handles():
    again = [delivery(n, handle="new") for n in range(10)]
    queue = Scripted([*tens(10), again, []])
    assert len(await browsed(queue, 100)) == 10
    assert queue.given_back == [f"new{n}" for n in range(10)]


async def test_what_two_receives_of_one_round_bring_is_seen_once_by_the_newest_handle():
    queue = Scripted([*tens(10), [delivery(10)], [delivery(10, handle="new")]])
    assert len(await browsed(queue, 100)) == 11
    assert sorted(queue.given_back) == sorted([*(f"h{n}" for n in range(10)), "new10"])
