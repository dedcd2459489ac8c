from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest

from doubles import AWAY, DENIED, LOST, Heard, ScriptedLedger, ScriptedQueue, delivery, until
from fanfold import codec
from fanfold.errors import FanOutIncompleteError, InvalidInputError, LedgerError, StorageBusyError
from fanfold.leases import Leases
from fanfold.ledgers.protocol import Recorded
from fanfold.model import EntryError, Failure
from fanfold.outcome import Completed, Reject, Retry
from fanfold.settler import Settlement, Settler
from fanfold.testing import FakeClock

DONE = Completed(42, "42")
LATER = Retry("not yet", delay=7)
HOPELESS = Reject("no roof")
NO_DLQ = EntryError(code="NoDeadLetterQueue", text="there is none")
OURS = {"entity_id": "doc-1", "task_name": "title", "fan_out_id": "f" * 32, "attempt": 1}
"""What every event about one of this module's settlements says."""


class Bench:
    """A settler between a queue and a ledger that the test prepares."""

    def __init__(self, *, ledger=True, linger=0.0):
        self.heard = Heard()
        self.clock = FakeClock()
        self.queue = ScriptedQueue(linger=linger)
        self.ledger = ScriptedLedger() if ledger else None
        self.leases = Leases(self.queue, lease=60, clock=self.clock, telemetry=self.heard.telemetry)
        self.announced, self.unsendable = [], {}
        self.settler = Settler(
            self.queue,
            self.ledger,
            self.leases,
            announce=self.announce,
            telemetry=self.heard.telemetry,
            clock=self.clock,
        )

    async def announce(self, task, generation):
        assert generation == 0  # nothing here is run again
        if task.fan_out_id in self.unsendable:
            raise self.unsendable[task.fan_out_id]
        self.announced.append((task.fan_out_id, [method for method, *_ in self.queue.calls]))

    def settlement(self, outcome, *, attempt=1, tracked=None, recorded=False, fold_due=False, **message):
        received = delivery(**message)
        self.leases.hold(received, lambda: None)
        tracked = self.ledger is not None and not recorded if tracked is None else tracked
        return Settlement(
            delivery=received,
            task=codec.decode(received.body) if received.body.startswith("{") else None,
            attempt=attempt,
            outcome=outcome,
            tracked=tracked,
            recorded=recorded,
            fold_due=fold_due,
        )

    async def settle(self, *settlements):
        """Settle them together; answers which of them stand."""
        return await asyncio.gather(*(self.settler.settle(settlement) for settlement in settlements))


@pytest.fixture
async def bench():
    return Bench()


@pytest.fixture
async def without_ledger():
    return Bench(ledger=False)


# What goes together.


async def test_ten_settlements_go_in_one_batch_and_the_eleventh_in_the_next(without_ledger):
    bench = without_ledger
    assert await bench.settle(*(bench.settlement(DONE) for _ in range(11))) == [True] * 11
    assert [len(deliveries) for [deliveries] in bench.queue.of("delete")] == [10, 1]


async def test_a_settlement_waits_for_company_where_requests_are_dear():
    bench = Bench(ledger=False, linger=3600)
    first = asyncio.create_task(bench.settler.settle(bench.settlement(DONE)))
    await asyncio.sleep(0)
    assert bench.queue.calls == []
    rest = [asyncio.create_task(bench.settler.settle(bench.settlement(DONE))) for _ in range(9)]
    await asyncio.gather(first, *rest)
    assert [len(deliveries) for [deliveries] in bench.queue.of("delete")] == [10]


async def test_it_waits_no_longer_than_the_linger():
    bench = Bench(ledger=False, linger=0.001)
    assert await bench.settle(bench.settlement(DONE)) == [True]


async def test_where_nothing_else_runs_it_goes_at_once_with_what_has_gathered():
    bench = Bench(ledger=False, linger=3600)
    first = asyncio.create_task(bench.settler.settle(bench.settlement(DONE)))
    await asyncio.sleep(0)
    await bench.settler.settle(bench.settlement(DONE), wait=False)
    await first
    assert [len(deliveries) for [deliveries] in bench.queue.of("delete")] == [2]


async def test_a_stop_sends_what_waits_for_company_and_returns_when_it_is_settled():
    bench = Bench(ledger=False, linger=3600)
    settling = asyncio.create_task(bench.settler.settle(bench.settlement(DONE)))
    await asyncio.sleep(0)
    await bench.settler.drain()
    assert await settling
    assert len(bench.queue.of("delete")) == 1


async def test_what_is_given_up_is_told_nobody_and_lets_its_leases_go():
    bench = Bench(ledger=False, linger=3600)
    settling = asyncio.create_task(bench.settler.settle(bench.settlement(DONE)))
    await asyncio.sleep(0)
    bench.settler.cancel()
    await asyncio.wait([settling])
    assert settling.cancelled()
    assert bench.queue.calls == []
    assert bench.heard.events == []


async def test_each_kind_of_outcome_gets_its_own_request(without_ledger):
    bench = without_ledger
    done, later, hopeless = bench.settlement(DONE), bench.settlement(LATER), bench.settlement(HOPELESS)
    assert await bench.settle(later, done, hopeless) == [True, True, True]
    assert bench.queue.of("delete") == [[[done.delivery]]]
    assert bench.queue.of("extend") == [[[later.delivery], [7]]]
    [[[burial]]] = bench.queue.of("dead_letter")
    assert (burial.delivery, burial.failure.message, burial.attempts) == (hopeless.delivery, "no roof", 1)


# The ledger first, the queue last.


async def test_the_ledger_is_told_before_the_fold_is_sent_and_the_message_deleted_last(bench):
    bench.ledger.answers["finish"] = [[Recorded(applied=True, fold_due=True)]]
    settlement = bench.settlement(DONE)
    assert await bench.settle(settlement) == [True]
    assert bench.announced == [("f" * 32, [])]
    assert bench.queue.calls == [("delete", [settlement.delivery])]


@pytest.mark.parametrize(
    ("outcome", "result", "message", "dead"),
    [(DONE, "42", None, False), (LATER, None, "not yet", False), (HOPELESS, None, "no roof", True)],
    ids=["completed", "retried", "rejected"],
)
async def test_the_ledger_learns_how_the_attempt_ended(bench, outcome, result, message, dead):
    await bench.settle(bench.settlement(outcome, attempt=3))
    [[finish]] = bench.ledger.finished
    assert (finish.fan_out_id, finish.task_name, finish.attempt) == ("f" * 32, "title", 3)
    assert (finish.result, finish.failure and finish.failure.message, finish.dead) == (result, message, dead)


async def test_while_the_ledger_is_away_the_outcome_is_held_and_its_lease_extended(bench):
    bench.ledger.answers["finish"] = [StorageBusyError("locked"), StorageBusyError("locked")]
    bench.leases.start()
    settlement = bench.settlement(DONE)
    settling = asyncio.create_task(bench.settler.settle(settlement))
    await bench.heard.until("settle.failed")
    await until(lambda: bench.clock.sleepers == 2)  # the heart's, and the ledger's next try
    bench.clock.advance(20)
    await bench.queue.called("extend")
    await bench.heard.until("settle.failed", times=2)
    assert bench.queue.of("delete") == []
    await until(lambda: bench.clock.sleepers == 2)
    bench.clock.advance(20)
    assert await settling
    assert [finishes[0].result for finishes in bench.ledger.finished] == ["42"] * 3
    assert bench.queue.of("delete") == [[[settlement.delivery]]]
    await bench.leases.stop()


async def test_the_ledger_is_asked_less_and_less_often_but_every_ten_seconds(bench):
    bench.ledger.answers["finish"] = [StorageBusyError("locked")] * 9
    settling = asyncio.create_task(bench.settler.settle(bench.settlement(DONE)))
    for times in range(1, 10):
        await bench.heard.until("settle.failed", times)
        await until(lambda: bench.clock.sleepers == 1)
        bench.clock.advance(10)
    await settling
    waits = [fields["retry_in"] for fields in bench.heard.of("settle.failed")]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


async def test_what_the_ledger_refuses_to_hold_takes_nobody_along(bench):
    refusal = LedgerError("the value is too large")
    answers = [refusal, [Recorded(applied=True)], refusal, [Recorded(applied=True)]]
    bench.ledger.answers["finish"] = answers
    first, refused, last = (bench.settlement(DONE, task_name=name) for name in ("a", "b", "c"))
    assert await bench.settle(first, refused, last) == [True, False, True]
    assert bench.queue.of("delete") == [[[first.delivery, last.delivery]]]
    [said] = bench.heard.of("settle.failed")
    assert (said["task_name"], said["reason"]) == ("b", "the value is too large")


async def test_a_late_workers_outcome_is_dropped_and_its_message_left_alone(bench):
    bench.ledger.answers["finish"] = [[Recorded(applied=False)]]
    assert await bench.settle(bench.settlement(DONE)) == [False]
    assert bench.queue.calls == []
    assert bench.heard.names() == ["outcome.dropped"]


async def test_a_task_that_the_ledger_knew_to_be_over_is_only_acknowledged(bench):
    settlement = bench.settlement(DONE, recorded=True)
    assert await bench.settle(settlement) == [True]
    assert bench.ledger.finished == []
    assert bench.queue.calls == [("delete", [settlement.delivery])]
    assert bench.heard.events == []


async def test_a_task_that_the_ledger_knew_to_be_over_sends_a_fold_that_is_still_due(bench):
    await bench.settle(bench.settlement(DONE, recorded=True, fold_due=True))
    assert bench.announced == [("f" * 32, [])]


# The fold.


async def test_two_tasks_that_complete_a_fan_out_together_send_one_fold(bench):
    bench.ledger.answers["finish"] = [[Recorded(applied=True, fold_due=True)] * 2]
    await bench.settle(bench.settlement(DONE), bench.settlement(DONE, task_name="words"))
    assert len(bench.announced) == 1


async def test_a_message_whose_fold_couldnt_be_sent_is_not_acknowledged(bench):
    bench.unsendable["f" * 32] = FanOutIncompleteError("f" * 32, ["fanfold.fold"], "away")
    bench.ledger.answers["finish"] = [[Recorded(applied=True, fold_due=True)]]
    await bench.settle(bench.settlement(DONE))
    assert bench.queue.calls == []
    assert bench.heard.names() == ["task.completed", "settle.failed"]


@pytest.mark.parametrize(
    "error",
    [FanOutIncompleteError("f", ["fanfold.fold"], "away"), InvalidInputError("over 1 MiB")],
    ids=["refused by the queue", "too large to be sent"],
)
async def test_one_fold_that_cant_be_sent_keeps_no_other_from_being_sent(bench, error):
    bench.unsendable["a" * 32] = error
    bench.ledger.answers["finish"] = [[Recorded(applied=True, fold_due=True)] * 2]
    held, sent = bench.settlement(DONE, fan_out_id="a" * 32), bench.settlement(DONE, fan_out_id="b" * 32)
    await bench.settle(held, sent)
    assert bench.announced == [("b" * 32, [])]
    assert bench.queue.of("delete") == [[[sent.delivery]]]


# What the queue answers.


async def test_of_a_batch_only_what_failed_is_said_to_have_failed(without_ledger):
    bench = without_ledger
    bench.queue.answers["delete"] = [[None, AWAY, None]]
    settlements = [bench.settlement(DONE, task_name=name) for name in ("a", "b", "c")]
    assert await bench.settle(*settlements) == [True, False, True]
    assert [fields["task_name"] for fields in bench.heard.of("task.completed")] == ["a", "c"]
    [failed] = bench.heard.of("settle.failed")
    assert (failed["task_name"], failed["outcome"], failed["reason"]) == ("b", "completed", f"{AWAY.code}: {AWAY.text}")


@pytest.mark.parametrize("error", [AWAY, LOST, DENIED], ids=["for the moment", "lost", "for good"])
async def test_what_the_ledger_has_recorded_stands_although_the_queue_couldnt_be_told(bench, error):
    bench.queue.answers["delete"] = [[error]]
    assert await bench.settle(bench.settlement(DONE)) == [True]
    assert bench.heard.names() == ["task.completed", "settle.failed"]


async def test_without_a_ledger_an_outcome_whose_lease_was_lost_is_dropped(without_ledger):
    bench = without_ledger
    bench.queue.answers["delete"] = [[LOST]]
    assert await bench.settle(bench.settlement(DONE)) == [False]
    assert bench.heard.events[0].name == "outcome.dropped"
    assert bench.heard.of("outcome.dropped") == [OURS | {"outcome": "completed", "reason": LOST.text}]
    assert bench.heard.names() == ["outcome.dropped"]


async def test_a_dead_task_whose_copy_the_dead_letter_queue_didnt_take_is_left_to_the_redrive_policy(without_ledger):
    bench = without_ledger
    bench.queue.answers["dead_letter"] = [[NO_DLQ]]
    assert await bench.settle(bench.settlement(HOPELESS)) == [False]
    assert [method for method, *_ in bench.queue.calls] == ["dead_letter"]  # neither deleted nor changed
    assert bench.heard.names() == ["settle.failed"]
    [said] = bench.heard.of("settle.failed")
    assert (said["error"], said["outcome"]) == ("Reject: no roof", "dead")


async def test_without_the_permission_to_change_a_lease_retries_wait_for_its_end_and_dont_complain_each_time(
    without_ledger,
):
    bench = without_ledger
    bench.queue.answers["extend"] = [[DENIED], [DENIED]]
    assert await bench.settle(bench.settlement(LATER)) == [False]
    assert await bench.settle(bench.settlement(LATER)) == [False]
    assert bench.heard.names() == ["task.retried", "task.retried"]


async def test_a_retry_that_couldnt_be_delayed_for_the_moment_is_a_retry_all_the_same(bench):
    bench.queue.answers["extend"] = [[AWAY]]
    assert await bench.settle(bench.settlement(LATER)) == [True]
    assert bench.heard.names() == ["task.retried", "settle.failed"]


async def test_a_queue_that_raises_leaves_no_lease_behind(without_ledger):
    bench = without_ledger
    bench.queue.answers["delete"] = [RuntimeError("a bug")]
    with pytest.raises(RuntimeError, match="a bug"):
        await bench.settle(bench.settlement(DONE))
    assert bench.leases._held == {}


@pytest.mark.parametrize("outcome", [DONE, LATER, HOPELESS], ids=["completed", "retried", "rejected"])
async def test_no_lease_is_extended_any_more_when_the_queue_is_told(bench, outcome):
    held = []
    for method in ("delete", "extend", "dead_letter"):
        bench.queue.answers[method] = [partial(note, held, bench.leases)]
    await bench.settle(bench.settlement(outcome))
    assert held == [{}]


async def note(held, leases):
    held.append(dict(leases._held))


# What is said.


@pytest.mark.parametrize(
    ("outcome", "name", "more"),
    [
        (DONE, "task.completed", {}),
        (LATER, "task.retried", {"delay": 7, "error": "Retry: not yet"}),
        (HOPELESS, "task.dead", {"error": "Reject: no roof"}),
    ],
    ids=["completed", "retried", "rejected"],
)
@pytest.mark.parametrize("ledger", [True, False], ids=["with a ledger", "without one"])
async def test_what_was_settled_is_said_once(outcome, name, more, ledger):
    bench = Bench(ledger=ledger)
    await bench.settle(bench.settlement(outcome))
    assert bench.heard.names() == [name]
    assert bench.heard.of(name) == [OURS | more]


async def test_with_a_ledger_it_is_said_when_it_is_recorded_and_not_before(bench):
    bench.ledger.answers["finish"] = [StorageBusyError("locked")]
    settling = asyncio.create_task(bench.settler.settle(bench.settlement(DONE)))
    await bench.heard.until("settle.failed")
    assert bench.heard.of("task.completed") == []
    await until(lambda: bench.clock.sleepers == 1)
    bench.clock.advance(1)
    await settling
    assert bench.heard.of("task.completed") == [OURS]


async def test_without_a_ledger_it_is_said_when_the_queue_has_answered(without_ledger):
    bench, answer = without_ledger, asyncio.Event()
    bench.queue.answers["delete"] = [answer.wait]
    settling = asyncio.create_task(bench.settler.settle(bench.settlement(DONE)))
    await bench.queue.called("delete")
    assert bench.heard.events == []
    answer.set()
    await settling
    assert bench.heard.names() == ["task.completed"]


async def test_a_drop_says_whose_outcome_it_was_and_why_it_counts_for_nothing(bench):
    bench.settler.drop(bench.settlement(LATER, attempt=2), "the lease was lost")
    [said] = bench.heard.of("outcome.dropped")
    more = {"delay": 7, "error": "Retry: not yet", "outcome": "retried", "reason": "the lease was lost"}
    assert said == OURS | {"attempt": 2} | more


async def test_a_body_that_cant_be_read_is_named_by_its_message(bench):
    reject = Reject(Failure(type="MalformedMessage", message="not a task"))
    settlement = bench.settlement(reject, tracked=False, body="not json")
    assert await bench.settle(settlement) == [True]
    [[[burial]]] = bench.queue.of("dead_letter")
    assert burial.body is None  # as it came
    [said] = bench.heard.of("task.dead")
    assert said["message_id"] == settlement.delivery.message_id
    assert bench.ledger.finished == []


async def test_the_copy_of_a_dead_task_counts_its_retries(bench):
    await bench.settle(bench.settlement(HOPELESS, attempt=3))
    [[[burial]]] = bench.queue.of("dead_letter")
    assert json.loads(burial.body)["retry_count"] == 2
    assert burial.attempts == 3
