from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from doubles import AWAY, DENIED, LOST, Heard, ScriptedQueue, delivery, until
from fanfold.leases import Leases
from fanfold.limits import MAX_VISIBILITY
from fanfold.testing import START, FakeClock

LEASE = 60.0
THIRD = LEASE / 3
LOOK = LEASE / 6
PATIENCE = LEASE / 8


class Heart:
    """A heartbeat on a clock that the test moves."""

    def __init__(self, queue, heard):
        self.clock = FakeClock()
        self.queue = queue
        self.leases = Leases(queue, lease=LEASE, clock=self.clock, telemetry=heard.telemetry)
        self.lost = []

    def hold(self, *deliveries):
        return [self.leases.hold(d, lambda d=d: self.lost.append(d)) for d in deliveries]

    async def passes(self, seconds, *, asked=0):
        """Let time pass when the heart sleeps, beside so many requests that wait for their answer until some time."""
        await until(lambda: self.clock.sleepers == 1 + asked)
        self.clock.advance(seconds)

    async def rests(self):
        """Return when the heart sleeps and waits for no answer."""
        await until(lambda: self.clock.sleepers == 1 and not self.leases._requests)


@pytest.fixture
async def heard():
    return Heard()


@pytest.fixture
async def queue():
    return ScriptedQueue()


@pytest.fixture
async def heart(queue, heard):
    made = Heart(queue, heard)
    made.leases.start()
    yield made
    await made.leases.stop()


async def never():
    await asyncio.Event().wait()


async def test_a_lease_is_extended_when_a_third_of_it_is_gone(heart, queue):
    message = delivery()
    heart.hold(message)
    await heart.passes(LOOK)
    await heart.rests()
    assert queue.calls == []
    await heart.passes(LOOK)
    await queue.called("extend")
    assert queue.calls == [("extend", [message], [LEASE])]


async def test_an_extended_lease_is_left_alone_for_another_third(heart, queue):
    heart.hold(delivery())
    await heart.passes(THIRD)
    await queue.called("extend")
    await heart.rests()
    await heart.passes(LOOK)
    await heart.rests()
    assert len(queue.calls) == 1
    await heart.passes(LOOK)
    await queue.called("extend", times=2)


async def test_it_is_extended_for_as_long_as_it_is_held(heart, queue):
    heart.hold(delivery())
    for times in range(1, 31):
        await heart.passes(THIRD)
        await queue.called("extend", times)
        await heart.rests()
    assert heart.lost == []


async def test_a_message_that_came_between_two_looks_is_extended_before_half_its_lease_is_gone(heart, queue):
    heart.hold(delivery(received_at=START + 0.1))
    await heart.passes(THIRD)
    await heart.rests()
    assert queue.calls == []
    await heart.passes(LOOK)
    await queue.called("extend")
    assert heart.clock.now() - START <= LEASE / 2


async def test_what_is_due_goes_in_requests_of_ten(heart, queue):
    heart.hold(*(delivery() for _ in range(25)))
    await heart.passes(THIRD)
    await queue.called("extend", times=3)
    assert [len(deliveries) for deliveries, _ in queue.of("extend")] == [10, 10, 5]


async def test_a_slow_request_holds_up_no_other(heart, queue, heard):
    queue.answers["extend"] = [never]
    slow, quick = [delivery() for _ in range(10)], delivery()
    heart.hold(*slow, quick)
    await heart.passes(THIRD)
    await heard.until("lease.extended")
    assert queue.of("extend")[1] == [[quick], [LEASE]]


async def test_a_slow_request_doesnt_stop_the_heart(heart, queue, heard):
    queue.answers["extend"] = [never]
    slow, next_one = delivery(), delivery(received_at=START + LOOK)
    heart.hold(slow, next_one)
    await heart.passes(THIRD)
    await queue.called("extend")
    await heart.passes(PATIENCE - 1, asked=1)
    heart.hold(delivery(received_at=START))
    await heart.passes(LOOK - PATIENCE + 1, asked=1)
    await heard.until("lease.extended")


async def test_a_request_without_an_answer_is_given_up_after_an_eighth_of_the_lease_and_made_again(heart, queue, heard):
    queue.answers["extend"] = [never]
    message = delivery()
    heart.hold(message)
    await heart.passes(THIRD)
    await queue.called("extend")
    await heart.passes(PATIENCE, asked=1)
    await heard.until("heartbeat.failed")
    await heart.passes(LOOK - PATIENCE)
    await heard.until("lease.extended")
    assert queue.of("extend") == [[[message], [LEASE]]] * 2
    assert heart.lost == []


async def test_no_second_request_is_made_beside_one_that_is_still_waited_for(heart, queue):
    queue.answers["extend"] = [never]
    heart.hold(delivery())
    await heart.passes(THIRD)
    await queue.called("extend")
    heart.hold(delivery(received_at=START - 1))
    await heart.passes(PATIENCE - 1, asked=1)
    await until(lambda: heart.clock.sleepers == 2)
    assert len(queue.calls) == 1


async def test_a_lease_that_is_never_answered_is_told_lost_at_its_end_and_not_before(heart, queue, heard):
    queue.answers["extend"] = [never] * 4
    [held] = heart.hold(delivery())
    await heart.passes(THIRD)
    for times in range(1, 5):
        await queue.called("extend", times)
        await heart.passes(PATIENCE, asked=1)
        await heard.until("heartbeat.failed", times)
        assert not held.lost
        await heart.passes(LOOK - PATIENCE)
    await heard.until("lease.lost")
    await heart.rests()
    assert heart.clock.now() == START + LEASE
    assert heart.lost == [held.delivery]
    assert len(queue.calls) == 4


async def test_a_lease_that_is_refused_for_the_moment_is_told_lost_at_its_end_and_not_before(heart, queue, heard):
    queue.answers["extend"] = [[AWAY] for _ in range(9)]
    [held] = heart.hold(delivery(received_at=START + 1))
    await heart.passes(3 * LOOK)
    for times in range(1, 4):
        await heard.until("heartbeat.failed", times)
        await heart.rests()
        assert not held.lost
        await heart.passes(LOOK)
    await heard.until("heartbeat.failed", 4)
    await heart.passes(1)
    await heard.until("lease.lost")
    await heart.rests()
    assert heart.clock.now() == START + 1 + LEASE
    assert heard.of("lease.lost") == [{"message_id": held.delivery.message_id, "reason": AWAY.text}]


async def test_a_moments_refusal_costs_nothing_where_the_next_request_gets_through(heart, queue, heard):
    queue.answers["extend"] = [[AWAY]]
    [held] = heart.hold(delivery())
    await heart.passes(THIRD)
    await heard.until("heartbeat.failed")
    await heart.passes(LOOK)
    await heard.until("lease.extended")
    assert held.expires_at == START + THIRD + LOOK + LEASE
    await heart.rests()
    await heart.passes(LOOK * 3)
    await queue.called("extend", times=3)
    assert heart.lost == []


async def test_a_lease_that_the_queue_says_is_lost_is_told_at_once_and_once(heart, queue, heard):
    queue.answers["extend"] = [[LOST, None]]
    first, second = delivery(), delivery()
    lost, kept = heart.hold(first, second)
    await heart.passes(THIRD)
    await heard.until("lease.lost")
    await heart.rests()
    assert (heart.lost, lost.lost, kept.lost) == ([first], True, False)
    await heart.passes(THIRD)
    await queue.called("extend", times=2)
    assert queue.of("extend")[1] == [[second], [LEASE]]
    assert heart.lost == [first]


async def test_of_a_batch_only_those_that_failed_are_asked_for_again(heart, queue, heard):
    queue.answers["extend"] = [[None, AWAY, None]]
    messages = [delivery() for _ in range(3)]
    heart.hold(*messages)
    await heart.passes(THIRD)
    await heard.until("heartbeat.failed")
    assert heard.of("lease.extended") == [{"messages": 2}]
    await heart.rests()
    await heart.passes(LOOK)
    await queue.called("extend", times=2)
    assert queue.of("extend")[1][0] == [messages[1]]


async def test_without_the_permission_to_extend_a_task_goes_on_beyond_its_lease(heart, queue):
    queue.answers["extend"] = [[DENIED] for _ in range(5)]
    [held] = heart.hold(delivery())
    for times in range(1, 6):
        await heart.passes(THIRD)
        await queue.called("extend", times)
        await heart.rests()
    assert heart.clock.now() > START + LEASE
    assert not held.lost


async def test_after_a_sleep_of_the_machine_the_queue_is_asked_and_what_it_took_away_is_told(heart, queue, heard):
    queue.answers["extend"] = [[LOST]]
    [held] = heart.hold(delivery())
    await heart.passes(LEASE * 100)
    await heard.until("lease.lost")
    await heart.rests()
    assert held.lost
    assert len(queue.calls) == 1


async def test_a_clock_that_was_set_loses_nothing_that_the_queue_still_holds_for_us(heart, heard):
    [held] = heart.hold(delivery())
    await heart.passes(LEASE * 100)
    await heard.until("lease.extended")
    assert not held.lost


async def test_nothing_is_held_beyond_twelve_hours_from_its_receive(heart, queue, heard):
    [held] = heart.hold(delivery(received_at=START - MAX_VISIBILITY + 50))
    held.expires_at = START + THIRD * 2
    await heart.passes(THIRD)
    await queue.called("extend")
    assert queue.of("extend")[0][1] == [30.0]
    await heart.rests()
    await heart.passes(30)
    await heard.until("lease.lost")
    await heart.rests()
    assert queue.of("extend")[1][1] == [0.0]
    assert heard.of("lease.lost")[0]["reason"] == "12 hours after its receive"


async def test_an_extension_that_raises_is_made_again_at_the_next_look(heart, queue, heard):
    queue.answers["extend"] = [RuntimeError("a bug")]
    heart.hold(delivery())
    await heart.passes(THIRD)
    await heard.until("heartbeat.failed")
    assert heard.of("heartbeat.failed") == [{"messages": 1, "reason": "RuntimeError('a bug')"}]
    await heart.rests()
    await heart.passes(LOOK)
    await heard.until("lease.extended")


async def test_someone_who_cant_be_told_of_a_loss_keeps_it_from_nobody_else(heart, queue, heard):
    queue.answers["extend"] = [[LOST, LOST]]
    heart.leases.hold(delivery(), lambda: 1 / 0)
    [other] = heart.hold(delivery())
    await heart.passes(THIRD)
    await heard.until("lease.lost", times=2)
    await heart.rests()
    assert heart.lost == [other.delivery]


async def test_what_was_let_go_is_not_extended_any_more(heart, queue):
    gone, held = delivery(), delivery()
    heart.hold(gone, held)
    await heart.leases.let_go([gone])
    await heart.passes(THIRD)
    await queue.called("extend")
    assert queue.of("extend") == [[[held], [LEASE]]]


async def test_letting_go_waits_for_an_extension_that_is_under_way(heart, queue):
    answer = asyncio.Event()
    queue.answers["extend"] = [partial(wait_for, answer)]
    message = delivery()
    heart.hold(message)
    await heart.passes(THIRD)
    await queue.called("extend")
    letting_go = asyncio.create_task(heart.leases.let_go([message]))
    await asyncio.sleep(0)
    assert not letting_go.done()
    in_the_heart(heart, answer.set)
    await letting_go


async def test_letting_go_of_others_waits_for_nothing(heart, queue):
    queue.answers["extend"] = [never]
    under_way, other = delivery(), delivery(received_at=START + LOOK)
    heart.hold(under_way, other)
    await heart.passes(THIRD)
    await queue.called("extend")
    await heart.leases.let_go([other])
    await heart.leases.let_go([delivery()])  # never held


async def test_letting_go_waits_no_longer_than_an_eighth_of_the_lease(heart, queue):
    queue.answers["extend"] = [never]
    message = delivery()
    heart.hold(message)
    await heart.passes(THIRD)
    await queue.called("extend")
    letting_go = asyncio.create_task(heart.leases.let_go([message]))
    await heart.passes(PATIENCE, asked=1)
    await letting_go


async def test_one_who_gives_up_letting_go_takes_nobody_along(heart, queue, heard):
    answer = asyncio.Event()
    queue.answers["extend"] = [partial(wait_for, answer)]
    first, second = delivery(), delivery()
    heart.hold(first, second)
    await heart.passes(THIRD)
    await queue.called("extend")
    given_up, patient = (asyncio.create_task(heart.leases.let_go([d])) for d in (first, second))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    assert not patient.done()
    in_the_heart(heart, answer.set)
    await patient
    assert heard.of("heartbeat.failed") == []


async def test_what_was_let_go_during_its_extension_is_not_told_lost(heart, queue, heard):
    answer = asyncio.Event()
    queue.answers["extend"] = [partial(wait_for, answer, [LOST])]
    message = delivery()
    [held] = heart.hold(message)
    await heart.passes(THIRD)
    await queue.called("extend")
    letting_go = asyncio.create_task(heart.leases.let_go([message]))
    await asyncio.sleep(0)
    in_the_heart(heart, answer.set)
    await letting_go
    assert (heart.lost, held.lost, heard.of("lease.lost")) == ([], False, [])


async def test_the_heart_beats_while_the_loop_that_holds_the_message_is_blocked(heart, queue):
    heart.hold(delivery())
    await until(lambda: heart.clock.sleepers == 1)
    asked, extend = threading.Event(), queue.extend

    async def extend_and_say(*given):
        asked.set()
        return await extend(*given)

    queue.extend = extend_and_say
    heart.clock.advance(THIRD)
    assert asked.wait(60)  # the whole loop waits, and the heart has one of its own


async def test_a_stop_in_the_middle_of_an_extension_ends_it_and_lets_go(queue, heard):
    heart = Heart(queue, heard)
    heart.leases.start()
    queue.answers["extend"] = [never]
    message = delivery()
    heart.hold(message)
    await heart.passes(THIRD)
    await queue.called("extend")
    await heart.leases.stop()
    await heart.leases.let_go([message])
    assert heart.lost == []


async def test_stopping_is_idempotent_and_safe_before_a_start(queue, heard):
    heart = Heart(queue, heard)
    await heart.leases.stop()
    heart.leases.start()
    await heart.leases.stop()
    await heart.leases.stop()


async def test_starting_twice_starts_one_heart(heart):
    before = threading.active_count()
    heart.leases.start()
    assert threading.active_count() == before


async def wait_for(event, answer=None):
    """An answer that comes when the event is set, in the heart's own loop."""
    await event.wait()
    return answer


def in_the_heart(heart, call):
    heart.leases._loop.call_soon_threadsafe(call)
