from __future__ import annotations

import asyncio

import pytest

from doubles import LOST, Heard, ScriptedQueue, delivery, until
from fanfold.lane import Lane
from fanfold.leases import Leases
from fanfold.outcome import Completed, Reject, Retry
from fanfold.settler import Settlement
from fanfold.testing import FakeClock

DONE = Completed(None, "null")


class Bench:
    """A lane whose runs end when the test says so."""

    def __init__(self):
        self.queue, self.clock = ScriptedQueue(), FakeClock()
        self.leases = Leases(self.queue, lease=60, clock=self.clock, telemetry=Heard().telemetry)
        self.started, self.settled, self.handed_over, self.unrun, self.interrupted = [], [], [], [], []
        self.runs = {}
        self.under_way = []
        self.over = asyncio.get_running_loop().create_future()
        self.standing = {}
        """What settling a delivery answers (True unless told), or an exception to raise."""
        self.settling = asyncio.Event()
        self.let = asyncio.Event()
        self.let.set()
        self.given_back = asyncio.Event()
        self.given_back.set()

    def lane(self, *deliveries):
        """A lane that has begun, and what is done when it is over."""
        made = Lane(deliveries, self.leases, self)
        made.start()
        return made, self.over

    async def decide(self, lease, run, left):
        self.started.append(lease.delivery)
        self.under_way.append(run)
        self.left = left
        ends = self.runs[lease.delivery.message_id] = asyncio.get_running_loop().create_future()
        return self.settlement(lease, await ends)

    def settlement(self, lease, outcome):
        return Settlement(delivery=lease.delivery, task=None, attempt=1, outcome=outcome, tracked=False)

    async def settle(self, lease, settlement):
        self.settling.set()
        await self.let.wait()
        self.settled.append(settlement.delivery)
        answer = self.standing.get(lease.delivery.message_id, True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def hand_over(self, settlement):
        self.handed_over.append(settlement.delivery)

    async def give_back(self, unrun, interrupted):
        await self.given_back.wait()
        self.unrun += [lease.delivery for lease in unrun]
        self.interrupted += [lease.delivery for lease in interrupted]

    def lane_ended(self, _, error):
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)

    async def ends(self, message, outcome=DONE):
        """Let a run end as soon as it has started."""
        await until(lambda: message.message_id in self.runs)
        self.runs[message.message_id].set_result(outcome)


@pytest.fixture
async def bench():
    return Bench()


async def test_messages_run_one_after_the_other_in_their_order(bench):
    messages = [delivery(group="g") for _ in range(3)]
    _, working = bench.lane(*messages)
    for number, message in enumerate(messages, start=1):
        await until(lambda number=number: len(bench.started) == number)
        assert bench.settled == messages[: number - 1]
        await bench.ends(message)
    await working
    assert bench.started == bench.settled + bench.handed_over == messages
    assert bench.handed_over == messages[-1:]  # nothing waits for the last one's settlement
    assert (bench.unrun, bench.interrupted) == ([], [])


async def test_the_next_one_starts_only_when_the_one_before_is_settled(bench):
    first, second = delivery(group="g"), delivery(group="g")
    bench.let.clear()
    _, working = bench.lane(first, second)
    await bench.ends(first)
    await bench.settling.wait()
    assert bench.started == [first]
    bench.let.set()
    await bench.ends(second)
    await working


@pytest.mark.parametrize("outcome", [DONE, Reject("no")], ids=["completed", "rejected"])
async def test_after_an_end_for_good_the_next_one_starts(bench, outcome):
    first, second = delivery(group="g"), delivery(group="g")
    _, working = bench.lane(first, second)
    await bench.ends(first, outcome)
    await bench.ends(second)
    await working
    assert bench.started == [first, second]


async def test_after_a_retry_the_rest_is_given_back_unrun(bench):
    first, second, third = (delivery(group="g") for _ in range(3))
    _, working = bench.lane(first, second, third)
    await bench.ends(first, Retry("not yet"))
    await working
    assert (bench.started, bench.settled) == ([first], [first])
    assert (bench.unrun, bench.interrupted) == ([second, third], [])


async def test_after_an_outcome_that_doesnt_stand_the_rest_is_given_back_unrun(bench):
    first, second = delivery(group="g"), delivery(group="g")
    bench.standing[first.message_id] = False
    _, working = bench.lane(first, second)
    await bench.ends(first)
    await working
    assert (bench.started, bench.unrun) == ([first], [second])


async def test_a_closed_lane_lets_what_runs_end_and_gives_the_rest_back(bench):
    first, second = delivery(group="g"), delivery(group="g")
    lane, working = bench.lane(first, second)
    await until(lambda: bench.runs)
    lane.close()
    await bench.ends(first)
    await working
    assert (bench.settled, bench.unrun, bench.interrupted) == ([first], [second], [])


async def test_a_lane_that_is_closed_before_it_works_runs_nothing(bench):
    message = delivery()
    lane, working = bench.lane(message)
    lane.close()
    await working
    assert (bench.started, bench.unrun) == ([], [message])


async def test_an_interrupted_run_is_given_back_and_so_is_the_rest(bench):
    first, second = delivery(group="g"), delivery(group="g")
    lane, working = bench.lane(first, second)
    await until(lambda: bench.runs)
    lane.interrupt()
    await working
    assert bench.runs[first.message_id].cancelled()
    assert (bench.settled, bench.interrupted, bench.unrun) == ([], [first], [second])


async def test_an_interrupt_is_without_effect_on_a_settlement(bench):
    first, second = delivery(group="g"), delivery(group="g")
    bench.let.clear()
    lane, working = bench.lane(first, second)
    await bench.ends(first)
    await bench.settling.wait()
    lane.interrupt()
    bench.let.set()
    await working
    assert (bench.settled, bench.interrupted, bench.unrun) == ([first], [], [second])


async def test_interrupting_again_and_again_is_one_interrupt(bench):
    first, second = delivery(group="g"), delivery(group="g")
    bench.given_back.clear()
    lane, working = bench.lane(first, second)
    await until(lambda: bench.runs)
    for _ in range(3):
        lane.interrupt()
        await asyncio.sleep(0)
    bench.given_back.set()
    await working
    assert (bench.interrupted, bench.unrun) == ([first], [second])


async def test_the_lane_goes_on_without_a_run_that_ignores_its_timeout(bench):
    first, second = delivery(group="g"), delivery(group="g")
    _, working = bench.lane(first, second)
    await until(lambda: bench.runs)
    rogue = bench.runs[first.message_id]
    bench.left(Settlement(delivery=first, task=None, attempt=1, outcome=Reject("late"), tracked=False))
    await bench.ends(second)
    await working
    rogue.set_result(DONE)  # counts for nothing any more
    await asyncio.sleep(0)
    assert (bench.settled, bench.handed_over) == ([first], [second])


async def test_the_lane_goes_on_without_a_run_that_ignores_its_interrupt(bench):
    first, second = delivery(group="g"), delivery(group="g")
    lane, working = bench.lane(first, second)
    await until(lambda: bench.runs)
    lane.close()
    bench.left(None)
    await working
    bench.runs[first.message_id].set_exception(RuntimeError("too late to matter"))
    await asyncio.sleep(0)
    assert (bench.interrupted, bench.unrun, bench.settled) == ([first], [second], [])


async def test_where_deciding_fails_the_rest_is_given_back_and_the_failure_is_raised(bench):
    first, second = delivery(group="g"), delivery(group="g")
    _, working = bench.lane(first, second)
    await until(lambda: bench.runs)
    bench.runs[first.message_id].set_exception(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        await working
    assert (bench.interrupted, bench.unrun) == ([], [second])


async def test_where_settling_fails_the_rest_is_given_back_and_the_failure_is_raised(bench):
    first, second = delivery(group="g"), delivery(group="g")
    bench.standing[first.message_id] = RuntimeError("a bug")
    _, working = bench.lane(first, second)
    await bench.ends(first)
    with pytest.raises(RuntimeError, match="a bug"):
        await working
    assert (bench.interrupted, bench.unrun) == ([], [second])


async def test_every_lease_is_held_from_the_start_whether_its_message_runs_or_waits(bench):
    messages = [delivery(group="g") for _ in range(3)]
    lane, working = bench.lane(*messages)
    assert list(bench.leases._held) == [message.receipt_handle for message in messages]
    lane.interrupt()
    await working


async def test_one_lease_lost_ends_the_lane_as_a_whole(bench):
    first, second, third = (delivery(group="g") for _ in range(3))
    bench.queue.answers["extend"] = [[None, LOST, None]]
    _, working = bench.lane(first, second, third)
    await until(lambda: bench.runs)
    bench.leases.start()
    await until(lambda: bench.clock.sleepers == 1)
    bench.clock.advance(20)
    await working
    assert (bench.started, bench.settled) == ([first], [])
    assert (bench.interrupted, bench.unrun) == ([first], [second, third])
    await bench.leases.stop()
