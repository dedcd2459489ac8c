from __future__ import annotations

import random

import pytest

from fanfold import limits
from fanfold.errors import FanOutIncompleteError, LedgerError, NoDeadLetterQueueError, StorageBusyError
from fanfold.ledgers.protocol import Claim, Finish, Plan
from fanfold.ledgers.sqlite import SqliteLedger
from fanfold.model import FOLD_NAME, DeadLetter, Ended, Failure, Task, TaskSpec, TaskState
from fanfold.reconciler import DLQ_INTERVAL, HORIZON, INTERVAL, PATIENCE, ROLE, Reconciler
from fanfold.telemetry import Telemetry

ON = {"keep": 10 * 86_400.0}


class Queue:
    """What the reconciler asks of a broker: it looks at dead letters, and changes nothing."""

    retention = 345_600.0

    def __init__(self):
        self.letters = []
        self.asked = 0
        self.looks = 0
        self.count = None

    async def dead_letter_count(self):
        self.asked += 1
        if self.letters is None:
            raise NoDeadLetterQueueError("none")
        return len(self.letters) if self.count is None else self.count

    async def dead_letters(self, limit):
        self.looks += 1
        return self.letters[:limit]


@pytest.fixture
async def ledger(tmp_path, clock):
    made = SqliteLedger(f"sqlite:///{tmp_path}/ledger.db", clock=clock)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def said():
    return []


@pytest.fixture
def done():
    """What the reconciler sent, and told."""
    return []


@pytest.fixture
def queue():
    return Queue()


@pytest.fixture
def make(ledger, clock, queue, said, done):
    async def announce(task, generation):
        done.append(("fold", task.fan_out_id, generation))

    async def resend(unsent):
        done.append(("sent", unsent.fan_out.fan_out_id, [task.task_name for task in unsent.tasks]))
        await ledger.sent(unsent.fan_out.fan_out_id, unsent.fan_out.generation)
        return len(unsent.tasks)

    async def on_dead(task, failure, attempts):
        done.append(("dead", task.task_name, failure.type, attempts))

    def make(name="w1", **parts):
        given = {"announce": announce, "resend": resend, "on_dead": on_dead} | parts
        telemetry = Telemetry(said.append)
        return Reconciler(queue, ledger, name=name, clock=clock, rng=random.Random(1), telemetry=telemetry, **given)

    return make


@pytest.fixture
def reconciler(make):
    return make()


async def opened(ledger, *names, fan_out_id="f1", sent=True, **options):
    tasks = [TaskSpec(name) for name in names]
    planned = {"fan_out_id": fan_out_id, "entity_id": "doc-1", "event_id": None, "metadata": {}, "tasks": tasks}
    await ledger.open(Plan(**planned, **(ON | options)))
    if sent:
        await ledger.sent(fan_out_id, 0)


async def begin(ledger, name, fan_out_id="f1"):
    [claimed] = await ledger.claim([Claim(fan_out_id=fan_out_id, task_name=name, generation=0, worker="w")])
    assert claimed.state is TaskState.RUNNING
    return claimed.attempt


async def finish(ledger, name, fan_out_id="f1"):
    attempt = await begin(ledger, name, fan_out_id)
    await ledger.finish([Finish(fan_out_id=fan_out_id, task_name=name, attempt=attempt, result="1")])


async def die(ledger, name):
    """End a task for good, as a worker does that buries it with its reason."""
    attempt, failure = await begin(ledger, name), Failure(type="E", message="e")
    await ledger.finish([Finish(fan_out_id="f1", task_name=name, attempt=attempt, failure=failure, dead=True)])


def letter(name, *, fan_out_id="f1", reason="", generation=0):
    task = Task(entity_id="doc-1", task_name=name, fan_out_id=fan_out_id, generation=generation)
    return DeadLetter(message_id=name, receipt_handle="", body="", receive_count=100, reason=reason, task=task)


def names(said):
    return [event.name for event in said]


# Producers that died


async def test_what_was_sealed_and_never_sent_is_sent_once_its_producer_is_taken_for_dead(
    reconciler, ledger, clock, done, said
):
    await opened(ledger, "a", "b", sent=False)
    clock.advance(PATIENCE)
    await reconciler.reconcile(ledger)
    assert done == []
    clock.advance(1)
    await reconciler.reconcile(ledger)
    await reconciler.reconcile(ledger)
    assert done == [("sent", "f1", ["a", "b"])]
    assert names(said) == ["fan_out.resent"]


async def test_what_was_sent_is_left_to_the_queue(reconciler, ledger, clock, done):
    await opened(ledger, "a")
    clock.advance(86_400)
    await reconciler.reconcile(ledger)
    assert done == []


# Messages that the queue keeps no longer


async def test_what_waits_for_longer_than_the_queue_keeps_messages_is_sent_anew(reconciler, ledger, clock, done, queue):
    await opened(ledger, "a", "b", "c")
    await finish(ledger, "a")
    await begin(ledger, "b")
    clock.advance(queue.retention + limits.MAX_VISIBILITY)
    await reconciler.reconcile(ledger)
    assert done == []
    clock.advance(1)
    await reconciler.reconcile(ledger)
    assert done == [("sent", "f1", ["b", "c"])]


async def test_after_that_it_has_its_time_again(reconciler, ledger, clock, done, queue):
    await opened(ledger, "a")
    clock.advance(queue.retention + limits.MAX_VISIBILITY + 1)
    await reconciler.reconcile(ledger)
    clock.advance(3_600)
    await reconciler.reconcile(ledger)
    assert len(done) == 1


# Deadlines


async def test_what_is_overdue_ends_and_folds(reconciler, ledger, clock, done, said):
    await opened(ledger, "a", "b", deadline=60)
    await finish(ledger, "a")
    clock.advance(60)
    await reconciler.reconcile(ledger)
    await reconciler.reconcile(ledger)
    assert (await ledger.get("f1")).ended is Ended.DEADLINE
    assert done == [("fold", "f1", 0)]
    assert names(said) == ["fan_out.overdue"]


async def test_without_a_completion_to_handle_an_overdue_fan_out_ends_all_the_same(make, ledger, clock, done):
    await opened(ledger, "a", deadline=60)
    clock.advance(60)
    await make(announce=None).reconcile(ledger)
    assert (await ledger.get("f1")).ended is Ended.DEADLINE
    assert done == []


# What the queue set aside


async def test_a_task_that_the_queue_set_aside_is_dead_and_told_and_its_fan_out_folds(
    reconciler, ledger, done, queue, said
):
    await opened(ledger, "a")
    queue.letters = [letter("a")]
    await reconciler.reconcile(ledger)
    [task] = await ledger.tasks("f1")
    assert (task.state, task.failure.type) == (TaskState.DEAD, "MovedByQueue")
    assert "100 receives" in task.failure.message
    assert done == [("dead", "a", "MovedByQueue", 100), ("fold", "f1", 0)]
    assert names(said) == ["task.dead"]


async def test_letters_with_a_reason_or_of_nobody_known_or_of_what_is_over_change_nothing(
    reconciler, ledger, done, queue, said
):
    await opened(ledger, "a", "b")
    await finish(ledger, "b")
    unreadable = DeadLetter(message_id="x", receipt_handle="", body="x", receive_count=1)
    queue.letters = [letter("a", reason="no roof"), letter("b"), letter("a", fan_out_id="f9"), unreadable]
    await reconciler.reconcile(ledger)
    assert [task.state for task in await ledger.tasks("f1")] == [TaskState.PENDING, TaskState.SUCCEEDED]
    assert (done, names(said)) == ([], [])


async def test_a_letter_from_before_a_rerun_kills_nothing_of_it(reconciler, ledger, queue):
    await opened(ledger, "a")
    await die(ledger, "a")
    await ledger.rerun("f1")
    await ledger.sent("f1", 1)
    queue.letters = [letter("a", generation=0)]
    await reconciler.reconcile(ledger)
    assert [task.state for task in await ledger.tasks("f1")] == [TaskState.PENDING]


@pytest.mark.parametrize("end", [finish, die])
async def test_once_nothing_is_open_and_no_fold_under_way_the_queue_is_asked_for_nothing(
    reconciler, ledger, queue, clock, end
):
    await opened(ledger, "a")
    queue.letters = [letter("b")]
    await reconciler.reconcile(ledger)
    await finish(ledger, "a")
    await end(ledger, FOLD_NAME)
    for _ in range(3):
        clock.advance(DLQ_INTERVAL)
        await reconciler.reconcile(ledger)
    assert (queue.asked, queue.looks) == (1, 1)


async def test_the_letters_are_looked_through_when_their_number_changes_and_else_once_in_ten(
    reconciler, ledger, queue, clock
):
    await opened(ledger, "a")
    queue.letters, looks = [letter("b")], []
    for number in range(12):
        if number == 5:
            queue.letters.append(letter("c"))
        await reconciler.reconcile(ledger)
        clock.advance(DLQ_INTERVAL)
        looks.append(queue.looks)
    assert looks == [1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]


async def test_the_queue_is_looked_at_once_a_minute_at_most(reconciler, ledger, queue, clock):
    await opened(ledger, "a")
    for number in range(6):
        queue.letters = [letter("b")] * (number + 1)
        await reconciler.reconcile(ledger)
        clock.advance(DLQ_INTERVAL / 3)
    assert queue.looks == 2


async def test_without_a_dead_letter_queue_the_rest_is_done(reconciler, ledger, queue, clock, done):
    await opened(ledger, "a", sent=False)
    queue.letters = None
    clock.advance(PATIENCE + 1)
    await reconciler.reconcile(ledger)
    assert done == [("sent", "f1", ["a"])]


# Folds


async def test_a_fold_that_nobody_claimed_is_sent_again_and_not_in_every_round(reconciler, ledger, clock, done):
    await opened(ledger, "a")
    await finish(ledger, "a")
    await reconciler.reconcile(ledger)
    assert done == []
    clock.advance(PATIENCE + 1)
    for _ in range(3):
        await reconciler.reconcile(ledger)
    assert done == [("fold", "f1", 0)]
    clock.advance(limits.DEDUPLICATION_WINDOW)
    await reconciler.reconcile(ledger)
    assert done == [("fold", "f1", 0)] * 2


async def test_a_fold_that_began_and_whose_message_is_older_than_the_queue_keeps_any_is_sent_anew(
    reconciler, ledger, clock, done, queue
):
    await opened(ledger, "a")
    await finish(ledger, "a")
    await begin(ledger, FOLD_NAME)
    clock.advance(queue.retention + limits.MAX_VISIBILITY)
    await reconciler.reconcile(ledger)
    assert done == []
    clock.advance(1)
    for _ in range(3):
        await reconciler.reconcile(ledger)
    assert done == [("fold", "f1", 0)]


async def test_what_completed_long_ago_is_not_folded_any_more(reconciler, ledger, clock, done):
    await opened(ledger, "a")
    await finish(ledger, "a")
    clock.advance(HORIZON + 1)
    await reconciler.reconcile(ledger)
    assert done == []


async def test_a_fold_that_couldnt_be_sent_is_sent_in_the_next_round(make, ledger, clock, said):
    errors, sent = [FanOutIncompleteError("f1", [FOLD_NAME], "refused")], []

    async def announce(task, generation):
        if errors:
            raise errors.pop()
        sent.append((task.fan_out_id, generation))

    await opened(ledger, "a")
    await finish(ledger, "a")
    clock.advance(PATIENCE + 1)
    reconciler = make(announce=announce)
    for _ in range(3):
        await reconciler.reconcile(ledger)
    assert sent == [("f1", 0)]
    assert names(said) == ["reconcile.failed", "fold.resent"]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_fold_that_the_queue_set_aside_is_noticed_although_nothing_is_open_any_more(  # noqa: PLR0917 - fixtures
    make, ledger, clock, done, queue, restarted
):
    before = make()
    await opened(ledger, "a")
    await before.reconcile(ledger)
    await finish(ledger, "a")
    await begin(ledger, FOLD_NAME)
    queue.letters = [letter(FOLD_NAME)]
    clock.advance(2 * HORIZON)
    await (make() if restarted else before).reconcile(ledger)
    assert (await ledger.get("f1")).fold_state is TaskState.DEAD
    assert done == []  # on_task_dead is for tasks of the plan


async def test_a_fold_that_the_queue_set_aside_is_noticed_by_workers_that_have_none_themselves(
    make, ledger, clock, queue
):
    await opened(ledger, "a")
    await finish(ledger, "a")
    await begin(ledger, FOLD_NAME)
    queue.letters = [letter(FOLD_NAME)]
    clock.advance(PATIENCE + 1)
    await make(announce=None).reconcile(ledger)
    assert (await ledger.get("f1")).fold_state is TaskState.DEAD


async def test_a_fold_that_the_queue_set_aside_before_its_first_claim_is_sent_and_not_looked_for(
    make, ledger, clock, done, queue
):
    await opened(ledger, "a")
    await finish(ledger, "a")
    queue.letters = [letter(FOLD_NAME)]
    clock.advance(PATIENCE + 1)
    await make().reconcile(ledger)
    assert (done, queue.asked) == ([("fold", "f1", 0)], 0)


# What can't be done


@pytest.mark.parametrize("error", [FanOutIncompleteError("f1", ["a"], "refused"), ZeroDivisionError("by a strategy")])
async def test_what_one_fan_out_runs_into_keeps_the_others_from_nothing(  # noqa: PLR0917 - fixtures
    make, ledger, clock, said, done, error
):
    async def resend(unsent):
        if unsent.fan_out.fan_out_id == "f1":
            raise error
        done.append(("sent", unsent.fan_out.fan_out_id))
        return 1

    for name in ("f1", "f2"):
        await opened(ledger, "a", fan_out_id=name, sent=False)
    await opened(ledger, "a", fan_out_id="f3", deadline=60)
    clock.advance(PATIENCE + 1)
    await make(resend=resend).reconcile(ledger)
    assert done == [("sent", "f2"), ("fold", "f3", 0)]
    assert said[0].fields["fan_out_id"] == "f1"
    assert names(said) == ["reconcile.failed", "fan_out.resent", "fan_out.overdue"]


async def test_a_step_that_is_refused_keeps_the_others_from_nothing(  # noqa: PLR0917 - fixtures
    make, ledger, clock, said, done, monkeypatch
):
    async def denied(**_):
        raise LedgerError("the right to read is missing")

    await opened(ledger, "a", deadline=60)
    clock.advance(60)
    monkeypatch.setattr(ledger, "stalled", denied)
    await make().reconcile(ledger)
    assert done == [("fold", "f1", 0)]
    assert names(said) == ["reconcile.failed", "fan_out.overdue"]


async def test_a_ledger_that_is_away_ends_the_round(make, ledger, clock, done, monkeypatch):
    async def away(**_):
        raise StorageBusyError("locked")

    await opened(ledger, "a", deadline=60)
    clock.advance(60)
    monkeypatch.setattr(ledger, "unsent", away)
    with pytest.raises(StorageBusyError):
        await make().reconcile(ledger)
    assert done == []


# Forgetting


async def test_without_a_completion_what_is_kept_no_longer_is_forgotten(make, ledger, clock):
    await opened(ledger, "a", keep=60.0)
    await finish(ledger, "a")
    clock.advance(60)
    await make(announce=None).reconcile(ledger)
    assert await ledger.get("f1") is None


async def test_what_is_kept_no_longer_is_forgotten_when_its_completion_is_over(reconciler, ledger, clock):
    await opened(ledger, "a", keep=60.0)
    await finish(ledger, "a")
    clock.advance(60)
    await reconciler.reconcile(ledger)
    await finish(ledger, FOLD_NAME)
    assert await ledger.get("f1") is not None
    await reconciler.reconcile(ledger)
    assert await ledger.get("f1") is None


async def test_a_completion_that_never_began_is_waited_for_as_long_as_its_message_may_be_there(
    reconciler, ledger, clock, queue
):
    await opened(ledger, "a", keep=60.0)
    await finish(ledger, "a")
    clock.advance(queue.retention + limits.MAX_VISIBILITY - 1)
    await reconciler.reconcile(ledger)
    assert await ledger.get("f1") is not None
    clock.advance(2)
    await reconciler.reconcile(ledger)
    assert await ledger.get("f1") is None


# Rounds


async def test_one_of_two_reconcilers_is_active_and_the_other_takes_over(make, ledger, clock, until):
    left, right = make("left"), make("right")
    await left.start()
    await until(lambda: clock.sleepers == 1)
    clock.advance(INTERVAL * 1.25)
    await until(lambda: clock.sleepers == 1)
    assert not await ledger.lead(ROLE, "right", 1)
    await left.stop()
    clock.advance(3 * INTERVAL)
    await right.start()
    await until(lambda: clock.sleepers == 1)
    clock.advance(INTERVAL * 1.25)
    await until(lambda: clock.sleepers == 1)
    assert not await ledger.lead(ROLE, "left", 1)
    await right.stop()


@pytest.mark.parametrize(
    "error", [StorageBusyError("busy"), FanOutIncompleteError("f1", ["a"], "away"), OSError("a bug")]
)
async def test_a_round_that_fails_is_reported_and_followed_by_another(  # noqa: PLR0917 - fixtures
    make, ledger, clock, said, until, error
):
    errors, done = [error], []

    async def resend(unsent):
        if errors:
            raise errors.pop()
        done.append(unsent.fan_out.fan_out_id)
        return 1

    await opened(ledger, "a", sent=False)
    clock.advance(PATIENCE)
    reconciler = make(resend=resend)
    await reconciler.start()
    for _ in range(2):
        await until(lambda: clock.sleepers == 1)
        clock.advance(INTERVAL * 1.25)
    await until(lambda: done)
    assert names(said)[0] == "reconcile.failed"
    await reconciler.stop()
