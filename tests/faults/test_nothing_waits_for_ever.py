"""Each way in which a fan-out could wait for ever, on a real queue and ledger: a worker that just waits settles it."""

from __future__ import annotations

import asyncio

import pytest

from fanfold import Fanfold, FanOutOptions, TaskState, limits
from fanfold.brokers.protocol import Broker
from fanfold.errors import FanOutIncompleteError
from fanfold.ledgers.protocol import Claim
from fanfold.model import FOLD_NAME, Ended, EntryError, SendResult
from fanfold.reconciler import PATIENCE

LEASE = 60.0
ASIDE = 200.0
"""Seconds for which the other messages are kept: longer than the loop of crashes takes."""


@pytest.fixture
def runs():
    """What ran, in order."""
    return []


@pytest.fixture
async def app(tmp_path, clock, runs):
    """Two tasks and a completion that say when they run; no lease or timeout ends however fast the clock is moved."""

    async def run(task_name):
        runs.append(task_name)

    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", clock=clock, lease=limits.MAX_VISIBILITY) as made:
        made.task("a", timeout=limits.MAX_VISIBILITY)(run)
        made.task("b", timeout=limits.MAX_VISIBILITY)(run)
        made.on_complete(lambda fan_out: runs.append(("fold", fan_out.ended)))
        yield made


@pytest.fixture
async def settled(app, until):
    """Lets a worker wait until a fan-out and its fold are over; answers the fan-out."""

    async def wait(fan_out_id):
        worker = await app.worker()
        await worker.start()
        waiting = asyncio.create_task(app.fan_out(fan_out_id).wait_async(folded=True))
        await until(waiting.done, moving=True)
        await worker.stop()
        return await waiting

    return wait


async def crash(app: Fanfold, name):
    """Receive a message as a worker that dies of it does, until the queue itself sets it aside."""
    broker: Broker = await app.broker()
    while not await broker.dead_letter_count():
        for delivery in await broker.receive(10, wait=0, lease=1):
            if f'"{name}"' not in delivery.body:
                await broker.extend([delivery], [ASIDE])
        app.clock.advance(1)


async def lose_all(app):
    """Take the messages away, as their retention does."""
    broker = await app.broker()
    while received := await broker.receive(10, wait=0, lease=LEASE):
        await broker.delete(received)


async def test_a_task_that_the_queue_set_aside_after_a_loop_of_crashes_is_dead(app, runs, settled):
    enqueued = await app.enqueue_async("doc-1", ["a", "b"])
    await crash(app, "b")
    fan_out = await settled(enqueued.fan_out_id)
    assert [task.state for task in fan_out.tasks] == [TaskState.SUCCEEDED, TaskState.DEAD]
    assert fan_out.failures["b"].type == "MovedByQueue"
    assert runs == ["a", ("fold", Ended.COMPLETE)]


async def test_what_expired_in_the_queue_is_sent_anew(app, runs, clock, settled):
    enqueued = await app.enqueue_async("doc-1", ["a", "b"])
    await lose_all(app)
    clock.advance((await app.broker()).retention + limits.MAX_VISIBILITY)
    fan_out = await settled(enqueued.fan_out_id)
    assert fan_out.succeeded
    assert sorted(runs[:2]) == ["a", "b"]
    assert runs[2:] == [("fold", Ended.COMPLETE)]


async def test_what_a_producer_sealed_and_didnt_send_is_sent(app, runs, settled):
    broker = await app.broker()
    send, broker.send = broker.send, refuse
    with pytest.raises(FanOutIncompleteError) as raised:
        await app.enqueue_async("doc-1", ["a", "b"])
    broker.send = send
    fan_out = await settled(raised.value.fan_out_id)
    assert fan_out.succeeded
    assert sorted(runs[:2]) == ["a", "b"]


async def refuse(messages):
    return [SendResult(error=EntryError(code="Away", text="the producer dies of it"))] * len(messages)


async def test_a_fold_that_nobody_sent_before_the_last_message_was_gone_is_sent(app, runs, clock, settled):
    enqueued = await app.enqueue_async("doc-1", ["a", "b"])
    await app.fan_out(enqueued.fan_out_id).cancel_async()  # which sends the fold, as the last task's worker does
    await lose_all(app)
    clock.advance(max(PATIENCE, limits.DEDUPLICATION_WINDOW))
    fan_out = await settled(enqueued.fan_out_id)
    assert (fan_out.fold_state, runs) == (TaskState.SUCCEEDED, [("fold", Ended.CANCELLED)])


@pytest.mark.parametrize("keep", [60.0, 30 * 86_400.0], ids=["kept for a minute", "kept for a month"])
async def test_a_fold_that_began_and_expired_in_the_queue_is_sent_anew(app, runs, clock, settled, keep):
    enqueued = await app.enqueue_async("doc-1", ["a", "b"], options=FanOutOptions(keep=keep))
    await app.fan_out(enqueued.fan_out_id).cancel_async()
    begun = Claim(fan_out_id=enqueued.fan_out_id, task_name=FOLD_NAME, generation=0, worker="dies")
    await (await app._open()).ledger.claim([begun])
    await lose_all(app)
    clock.advance((await app.broker()).retention + limits.MAX_VISIBILITY + 1)
    fan_out = await settled(enqueued.fan_out_id)
    assert (fan_out.fold_state, runs) == (TaskState.SUCCEEDED, [("fold", Ended.CANCELLED)])


async def test_a_fold_that_the_queue_set_aside_is_dead_and_not_waited_for(app, runs, settled):
    enqueued = await app.enqueue_async("doc-1", ["a"])
    await app.fan_out(enqueued.fan_out_id).cancel_async()
    second = await app.enqueue_async("doc-2", ["b"], options=FanOutOptions(deadline=86_400))
    ledger = (await app._open()).ledger
    [claimed] = await ledger.claim(
        [Claim(fan_out_id=enqueued.fan_out_id, task_name=FOLD_NAME, generation=0, worker="which dies of it")]
    )
    assert claimed.state is TaskState.RUNNING
    await crash(app, FOLD_NAME)
    fan_out = await settled(enqueued.fan_out_id)
    assert fan_out.fold_state is TaskState.DEAD
    assert (await settled(second.fan_out_id)).succeeded
    assert runs == ["b", ("fold", Ended.COMPLETE)]


async def test_what_is_overdue_ends_although_its_messages_are_gone(app, runs, settled):
    enqueued = await app.enqueue_async("doc-1", ["a", "b"], options=FanOutOptions(deadline=600))
    await lose_all(app)
    fan_out = await settled(enqueued.fan_out_id)
    assert (fan_out.ended, fan_out.progress.cancelled) == (Ended.DEADLINE, 2)
    assert runs == [("fold", Ended.DEADLINE)]
