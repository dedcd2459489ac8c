"""A producer is killed on its way; the same event, enqueued again, mends what it left behind."""

from __future__ import annotations

import asyncio

import apps
import pytest
from processes import KILLED

from fanfold import Fanfold
from fanfold.errors import FanOutSealedError
from fanfold.model import TaskState
from fanfold.testing import drain

NAMES = [f"page-{number}" for number in range(24)]
CHUNK = 10
"""Messages in one request to SQS; the embedded queue takes them all at once, so the test cuts them itself."""

ACCEPTED = {"before open": 0, "after open": 0, "after the first chunk": CHUNK, "after send": len(NAMES)}
"""The points at which a producer dies, and how many of its messages the queue has by then."""

pages = Fanfold()


@pages.on_complete
def fold(fan_out, context):
    apps.note("start", fan_out.entity_id, apps.FOLD, context.attempt)


def page(entity_id, task_name, context):
    apps.note("start", entity_id, task_name, context.attempt)
    return task_name


for _name in NAMES:
    pages.task(_name)(page)


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.mark.parametrize("point", ACCEPTED)
async def test_an_event_enqueued_again_is_there_once_runs_once_and_folds_once(site, point):
    assert site.run(enqueue_and_die, point) == KILLED
    await enqueue(site)
    assert (await site.outcome())[1].messages_available == len(NAMES)
    site.run(drain_pages)
    await assert_all_ran_once(site)


@pytest.mark.parametrize(("point", "accepted"), ACCEPTED.items())
async def test_what_workers_did_in_the_meantime_is_not_done_again(site, point, accepted):
    assert site.run(enqueue_and_die, point) == KILLED
    site.run(drain_pages)
    report = await enqueue(site)
    assert (report.settled, report.sent) == (accepted, len(NAMES) - accepted)
    site.run(drain_pages)
    await assert_all_ran_once(site)


async def test_a_fan_out_whose_producer_died_stays_open_until_the_event_is_enqueued_again(site):
    site.run(enqueue_and_die, "after the first chunk")
    site.run(drain_pages)
    [fan_out], _, _ = await site.outcome()
    assert (fan_out.progress.succeeded, fan_out.progress.pending) == (CHUNK, len(NAMES) - CHUNK)
    assert fan_out.completed_at is None
    assert ("doc-1", apps.FOLD) not in site.runs()


async def test_the_set_that_a_killed_producer_sealed_stays_sealed(site):
    site.run(enqueue_and_die, "after open")
    async with site.producer() as producer:
        with pytest.raises(FanOutSealedError, match="page-23"):
            await producer.enqueue_async("doc-1", NAMES[:-1], event_id="1")


async def enqueue(site):
    async with site.producer() as producer:
        return await producer.enqueue_async("doc-1", NAMES, event_id="1")


async def assert_all_ran_once(site):
    [fan_out], counts, letters = await site.outcome()
    assert fan_out.results == {name: name for name in NAMES}
    assert fan_out.fold_state is TaskState.SUCCEEDED
    assert site.runs() == {("doc-1", name): [1] for name in (*NAMES, apps.FOLD)}
    assert (counts.messages_available, counts.messages_in_flight, letters) == (0, 0, [])


def drain_pages():
    drain(pages)


def enqueue_and_die(point):
    asyncio.run(_enqueue_and_die(point))


async def _enqueue_and_die(point):
    app = Fanfold()
    parts = await app._open()
    open_, send = parts.ledger.open, parts.broker.send

    async def open_or_die(plan):
        die_if(point == "before open")
        states = await open_(plan)
        die_if(point == "after open")
        return states

    async def send_or_die(messages):
        await send(messages[:CHUNK])
        die_if(point == "after the first chunk")
        await send(messages[CHUNK:])
        die_if(point == "after send")

    parts.ledger.open, parts.broker.send = open_or_die, send_or_die
    await app.enqueue_async("doc-1", NAMES, event_id="1")


def die_if(here):
    if here:
        apps.die()
