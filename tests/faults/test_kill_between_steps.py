"""A worker is killed between two steps of a settlement; the next worker knows from the ledger what is left to do."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

import apps
import pytest
from processes import KILLED

from fanfold import Fanfold, Reject
from fanfold.model import TaskState
from fanfold.testing import FakeClock, drain

# On a clock that stands still, the killed worker's leases end when its successor moves the clock: nothing waits.
good = Fanfold(clock=FakeClock())
bad = Fanfold(clock=FakeClock())
APPS = {"good": good, "bad": bad}


@good.task("title")
async def title(entity_id, context):
    apps.note("start", entity_id, "title", context.attempt)
    return entity_id.title()


@bad.task("title")
async def no_title(entity_id, context):
    apps.note("start", entity_id, "title", context.attempt)
    raise Reject("it has no title")


@good.on_complete
@bad.on_complete
async def fold(fan_out, context):
    apps.note("start", fan_out.entity_id, apps.FOLD, context.attempt)


@dataclass(frozen=True)
class Point:
    """Where a worker dies: after (or before) a call of a method of ledger or broker, the first or a later one."""

    name: str
    part: str
    method: str
    call: int = 1
    before: bool = False

    def __str__(self):
        return self.name


RECEIVED = Point("after the receive", "broker", "receive")
CLAIMED = Point("after the claim", "ledger", "claim")
RUN = Point("after the run", "ledger", "finish", before=True)
RECORDED = Point("after the record", "ledger", "finish")
FOLD_SENT = Point("after the fold was sent", "broker", "send")
DELETED = Point("after the delete", "broker", "delete")
BURIED = Point("after the dead letter", "broker", "dead_letter")
FOLD_CLAIMED = Point("after the fold's claim", "ledger", "claim", call=2)
FOLD_RUN = Point("after the fold's run", "ledger", "finish", call=2, before=True)
FOLD_RECORDED = Point("after the fold's record", "ledger", "finish", call=2)
FOLD_DELETED = Point("after the fold's delete", "broker", "delete", call=2)


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.mark.parametrize(
    ("point", "runs"),
    [(RECEIVED, [1]), (CLAIMED, [2]), (RUN, [1, 2]), (RECORDED, [1]), (FOLD_SENT, [1]), (DELETED, [1])],
    ids=str,
)
async def test_a_success_is_recorded_once_and_folded_once(site, point, runs):
    [fan_out], letters = await killed_at(site, point, "good")
    assert fan_out.results == {"title": "Doc-1"}
    assert fan_out.fold_state is TaskState.SUCCEEDED
    assert site.runs() == {("doc-1", "title"): runs, ("doc-1", apps.FOLD): [1]}
    assert letters == []


@pytest.mark.parametrize(
    ("point", "runs"),
    [(RECEIVED, [1]), (CLAIMED, [2]), (RUN, [1, 2]), (RECORDED, [1]), (FOLD_SENT, [1]), (BURIED, [1])],
    ids=str,
)
async def test_a_dead_task_is_one_dead_letter_with_its_reason_and_folded_once(site, point, runs):
    [fan_out], [letter] = await killed_at(site, point, "bad")
    assert fan_out.failures["title"].message == "it has no title"
    assert fan_out.fold_state is TaskState.SUCCEEDED
    assert site.runs() == {("doc-1", "title"): runs, ("doc-1", apps.FOLD): [1]}
    assert (letter.reason, letter.task.task_name) == ("Reject: it has no title", "title")


@pytest.mark.parametrize(
    ("point", "runs"),
    [(FOLD_CLAIMED, [2]), (FOLD_RUN, [1, 2]), (FOLD_RECORDED, [1]), (FOLD_DELETED, [1])],
    ids=str,
)
async def test_a_fold_runs_again_only_where_its_end_was_not_recorded(site, point, runs):
    [fan_out], letters = await killed_at(site, point, "good")
    assert fan_out.fold_state is TaskState.SUCCEEDED
    assert site.runs() == {("doc-1", "title"): [1], ("doc-1", apps.FOLD): runs}
    assert letters == []


async def killed_at(site, point, name):
    """Let one worker die at `point` and another finish; answers the fan-outs and the dead letters."""
    async with site.producer(clock=FakeClock()) as producer:
        await producer.enqueue_async("doc-1", ["title"], event_id="1")
    assert site.run(work_and_die, name, point) == KILLED
    assert site.run(drain_app, name) == 0
    fan_outs, counts, letters = await site.outcome()
    assert (counts.messages_available, counts.messages_in_flight) == (0, 0)
    return fan_outs, letters


def drain_app(name):
    drain(APPS[name])


def work_and_die(name, point):
    asyncio.run(_work_and_die(APPS[name], point))


def hold_after_the_first(broker):
    receive, received = broker.receive, []

    async def only_the_first(limit, **options):
        if received:
            await asyncio.Event().wait()
        received.extend(answer := await receive(limit, **options))
        return answer

    broker.receive = only_the_first


async def _work_and_die(app, point):
    opened = await app._open()
    if point.call == 1:  # the worker dies over its first message: it must not get at the fold beside that
        hold_after_the_first(opened.broker)
    part = getattr(opened, point.part)
    method, calls = getattr(part, point.method), itertools.count(1)

    async def call_or_die(given, **options):
        answer = None if point.before else await method(given, **options)
        if given and (answer or point.before) and next(calls) == point.call:  # empty calls are no steps
            apps.die()
        return await method(given, **options) if point.before else answer

    setattr(part, point.method, call_or_die)
    worker = await app.worker()
    await worker.start()
    await worker.wait()
