from __future__ import annotations

import asyncio
import random

import pytest

from doubles import Heard, ScriptedQueue, delivery, until
from fanfold.errors import BrokerUnavailableError
from fanfold.intake import Intake
from fanfold.service import Deadline
from fanfold.slots import Slots
from fanfold.testing import FakeClock

AWAY = BrokerUnavailableError("no route to the queue")


class Bench:
    """An intake whose polls end when the test says so, and what it delivered."""

    def __init__(self, *, slots=10, longest_poll=28.0):
        self.queue = ScriptedQueue()
        self.heard = Heard()
        self.clock = FakeClock()
        self.slots = Slots(slots)
        self.delivered = []
        self.polls = []
        self.intake = Intake(
            self.queue,
            self.slots,
            self.delivered.append,
            lease=60,
            longest_poll=longest_poll,
            clock=self.clock,
            rng=random.Random(1),
            telemetry=self.heard.telemetry,
        )
        self.queue.answers["receive"] = Endless(self._poll)

    async def _poll(self):
        self.polls.append(asyncio.get_running_loop().create_future())
        return await self.polls[-1]

    def limits(self):
        """How many messages each poll asked for."""
        return [limit for limit, *_ in self.queue.of("receive")]

    async def polled(self, times):
        """Return when so many polls have begun, and no more that could."""
        await self.queue.called("receive", times)
        await settle()
        assert len(self.polls) == times

    async def brings(self, poll, count):
        """Let a poll bring so many messages; returns when everything has come of it that can."""
        self.polls[poll].set_result([delivery() for _ in range(count)])
        await settle()

    async def brings_slowly(self, polls):
        """Let some polls bring ten each, one after the other, a second after they began: the queue is far."""
        for poll in polls:
            self.clock.advance(1)
            await self.brings(poll, 10)

    async def fails(self, poll, error=AWAY):
        self.polls[poll].set_exception(error)
        await settle()

    async def tries_again(self, after):
        """Let the wait after a failure pass; returns when the next poll has begun."""
        await until(lambda: self.clock.sleepers == 1)
        self.clock.advance(after)
        await self.polled(len(self.polls) + 1)

    def open_polls(self):
        return sum(not poll.done() for poll in self.polls)


class Endless(list):
    """The same answer for ever."""

    def __init__(self, answer):
        super().__init__([answer])

    def pop(self, _):
        return self[0]


async def settle():
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def make():
    made = []

    async def make(**options):
        made.append(Bench(**options))
        await made[-1].intake.start()
        await made[-1].polled(1)
        return made[-1]

    yield make
    for bench in made:
        deadline = Deadline(3600)
        deadline.bring_forward()
        await bench.intake.stop(deadline)


async def test_it_asks_for_as_many_as_there_are_free_slots(make):
    bench = await make(slots=4)
    assert bench.queue.of("receive") == [[4, 20, 60]]


async def test_it_asks_for_ten_at_most(make):
    bench = await make(slots=100)
    assert bench.limits() == [10]


async def test_what_it_received_keeps_its_slots_and_the_rest_are_for_the_next_poll(make):
    bench = await make(slots=10)
    await bench.brings(0, 3)
    assert [len(deliveries) for deliveries in bench.delivered] == [3]
    assert bench.limits() == [10, 7]
    assert bench.slots.free == 0


async def test_with_no_free_slot_it_doesnt_poll(make):
    bench = await make(slots=5)
    await bench.brings(0, 5)
    assert len(bench.polls) == 1
    bench.slots.give_back(2)
    await bench.polled(2)
    assert bench.limits() == [5, 2]


async def test_never_more_messages_are_asked_for_than_there_are_slots(make):
    bench = await make(slots=25)
    await bench.brings(0, 10)
    assert sum(bench.limits()[1:]) == 15
    assert bench.slots.free == 0


async def test_a_full_answer_starts_several_polls_side_by_side(make):
    bench = await make(slots=100)
    await bench.brings(0, 10)
    assert bench.open_polls() == 3


async def test_never_more_than_three_polls_are_under_way(make):
    bench = await make(slots=1000)
    await bench.brings(0, 10)
    for poll in range(1, 6):
        await bench.brings(poll, 10)
        assert bench.open_polls() == 3


async def test_more_polls_are_under_way_where_the_queue_is_far(make):
    bench = await make(slots=1000)
    await bench.brings(0, 10)
    await bench.brings_slowly(range(1, 20))
    assert bench.open_polls() == 10


async def test_and_three_again_when_it_answers_at_once(make):
    bench = await make(slots=1000)
    await bench.brings(0, 10)
    await bench.brings_slowly(range(1, 20))
    while bench.open_polls() > 3:
        await bench.brings(len(bench.polls) - bench.open_polls(), 10)
    await bench.brings(len(bench.polls) - 3, 10)
    assert bench.open_polls() == 3


async def test_a_long_poll_that_waited_says_nothing_of_how_far_the_queue_is(make):
    bench = await make(slots=1000)
    bench.clock.advance(20)
    await bench.brings(0, 10)
    assert bench.open_polls() == 3


async def test_a_short_answer_is_followed_by_one_poll(make):
    bench = await make(slots=100)
    await bench.brings(0, 9)
    assert bench.open_polls() == 1


async def test_when_the_queue_has_run_empty_the_polls_beside_each_other_shrink_to_one(make):
    bench = await make(slots=100)
    await bench.brings(0, 10)
    for poll in range(1, 4):
        await bench.brings(poll, 0)
    assert len(bench.polls) == 5
    assert bench.open_polls() == 1


async def test_an_idle_queue_has_one_long_poll_after_the_other(make):
    bench = await make(slots=100)
    for poll in range(5):
        assert bench.open_polls() == 1
        await bench.brings(poll, 0)
    assert {wait for _, wait, _ in bench.queue.of("receive")} == {20}


@pytest.mark.parametrize(("longest", "wait"), [(28, 20), (8, 8), (0.5, 1), (-2, 1)])
async def test_a_poll_is_no_longer_than_there_is_time_to_stop_in(make, longest, wait):
    bench = await make(longest_poll=longest)
    assert bench.queue.of("receive")[0][1] == wait


async def test_a_failed_poll_is_said_and_gives_its_slots_back(make):
    bench = await make(slots=10)
    await bench.fails(0)
    assert bench.heard.of("poll.failed") == [{"failures": 1, "reason": "no route to the queue"}]
    assert bench.slots.free == 10


@pytest.mark.parametrize(
    "error", [AWAY, RuntimeError("a bug"), TimeoutError()], ids=["ours", "a bug", "without a text"]
)
async def test_no_error_ends_the_polling(make, error):
    bench = await make()
    await bench.fails(0, error)
    await bench.tries_again(after=1)


async def test_the_waits_after_failures_grow_to_half_a_minute_and_have_jitter(make):
    bench = await make()
    waits = []
    for poll in range(12):
        await bench.fails(poll)
        await until(lambda: bench.clock.sleepers == 1)
        waits.append(next_sleep(bench.clock))
        bench.clock.advance(waits[-1])
        await bench.polled(poll + 2)
    full = [min(30, 0.5 * 2**n) for n in range(12)]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, full, strict=True))
    assert len(set(waits[-4:])) == 4


def next_sleep(clock):
    [(at, _)] = clock._sleepers.values()
    return at - clock.now()


async def test_after_a_good_receive_a_failure_counts_as_the_first_again(make):
    bench = await make()
    await bench.fails(0)
    await bench.tries_again(after=1)
    await bench.brings(1, 0)
    await bench.fails(2)
    assert [fields["failures"] for fields in bench.heard.of("poll.failed")] == [1, 1]


async def test_after_a_failure_there_is_one_poll_until_the_queue_answers(make):
    bench = await make(slots=100)
    await bench.brings(0, 10)
    for poll in range(1, 4):
        await bench.fails(poll)
    await bench.tries_again(after=30)
    assert bench.open_polls() == 1


async def test_it_knows_when_a_receive_last_succeeded(make):
    bench = await make()
    assert bench.intake.last_receive_at is None
    bench.clock.advance(5)
    await bench.brings(0, 0)
    good = bench.clock.now()
    assert bench.intake.last_receive_at == good
    bench.clock.advance(5)
    await bench.fails(1)
    assert bench.intake.last_receive_at == good


async def test_a_stop_starts_no_new_poll_and_delivers_what_the_one_in_flight_brings(make):
    bench = await make(slots=10)
    stopping = asyncio.create_task(bench.intake.stop(Deadline(3600)))
    await settle()
    assert bench.queue.polls_ended == 1
    assert not stopping.done()
    await bench.brings(0, 2)
    await stopping
    assert [len(deliveries) for deliveries in bench.delivered] == [2]
    assert len(bench.polls) == 1


async def test_a_stop_waits_for_all_polls_in_flight(make):
    bench = await make(slots=100)
    await bench.brings(0, 10)
    stopping = asyncio.create_task(bench.intake.stop(Deadline(3600)))
    for poll in range(1, 4):
        assert not stopping.done()
        await bench.brings(poll, 1)
    await stopping
    assert len(bench.polls) == 4


async def test_a_stop_during_a_failures_wait_is_at_once(make):
    bench = await make()
    await bench.fails(0)
    await until(lambda: bench.clock.sleepers == 1)
    await bench.intake.stop(Deadline(3600))
    assert len(bench.polls) == 1


async def test_at_the_deadline_a_poll_that_doesnt_end_is_given_up(make):
    bench = await make(slots=10)
    deadline = Deadline(3600)
    stopping = asyncio.create_task(bench.intake.stop(deadline))
    await settle()
    deadline.bring_forward()
    await stopping
    assert bench.polls[0].cancelled()
    assert bench.slots.free == 10
    assert bench.heard.of("poll.failed") == []
