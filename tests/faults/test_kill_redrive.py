"""A redrive is killed between two steps; repeated, it loses nothing and doubles nothing."""

from __future__ import annotations

import asyncio

import apps
import pytest
from processes import KILLED

from fanfold import Fanfold, Reject
from fanfold.dead_letters.redriven import with_values
from fanfold.dead_letters.selection import Selection
from fanfold.dead_letters.tally import Tally
from fanfold.model import TaskState
from fanfold.reconciler import PATIENCE
from fanfold.testing import FakeClock, drain, drain_async

NAMES = [f"page-{number}" for number in range(12)]
HOLD = 301.0
"""Seconds after which what a killed redrive held is back, and the queue has forgotten what was sent."""

dying = Fanfold(clock=FakeClock())
mended = Fanfold(clock=FakeClock())


async def hopeless(entity_id, task_name):
    raise Reject(f"{task_name} of {entity_id} is torn")


async def read(entity_id, task_name, task_config, context):
    apps.note("start", entity_id, task_name, context.attempt)
    apps.note("dpi", entity_id, task_name, task_config.get("dpi", 0))
    return task_name


for _name in NAMES:
    dying.task(_name)(hopeless)
    mended.task(_name)(read)


@dying.on_complete
@mended.on_complete
async def fold(fan_out):
    apps.note("start", fan_out.entity_id, f"fold-{fan_out.generation}", 1)


STEPS = {
    "rerun": ("ledger", "rerun"),
    "send": ("broker", "send"),
    "note as sent": ("ledger", "sent"),
    "delete": ("queue", "delete"),
}
POINTS = [f"{when} {step}" for step in STEPS for when in ("before", "after")]


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.mark.parametrize(
    ("later", "worked"),
    [(0.0, True), (0.0, False), (HOLD, False)],
    ids=["workers in between", "repeated at once", "repeated after the window"],
)
@pytest.mark.parametrize("point", POINTS)
async def test_a_redrive_that_was_killed_is_repeated_and_each_task_runs_once(site, point, later, worked):
    async with site.producer(clock=FakeClock()) as producer:
        await producer.enqueue_async("doc-1", NAMES, event_id="1")
    assert site.run(drain_dying) == 0
    assert site.run(redrive_and_die, point) == KILLED
    if worked:
        assert site.run(drain_mended, later) == 0
    assert site.run(redrive_all, later) == 0
    assert site.run(redrive_all, 2 * HOLD) == 0  # what the killed one held, where it was repeated too early for that
    assert site.run(drain_mended, 2 * HOLD) == 0

    [fan_out], counts, letters = await site.outcome()
    assert fan_out.results == {name: name for name in NAMES}
    assert fan_out.fold_state is TaskState.SUCCEEDED
    runs = site.runs()
    assert {name: runs.get(("doc-1", name)) for name in NAMES} == {name: [1] for name in NAMES}
    folds = [name for _, name in runs if name.startswith("fold-")]
    assert folds[0] == "fold-0"
    assert folds[-1] == f"fold-{fan_out.generation}"
    assert all(len(attempts) == 1 for attempts in runs.values())
    assert (counts.messages_available, counts.messages_in_flight, letters) == (0, 0, [])


@pytest.mark.parametrize("point", ["after rerun", "before send"])
async def test_what_an_edited_redrive_left_unsent_the_workers_send_as_it_was_edited(site, point):
    async with site.producer(clock=FakeClock()) as producer:
        await producer.enqueue_async("doc-1", NAMES, event_id="1")
    assert site.run(drain_dying) == 0
    assert site.run(redrive_and_die, point, "task_config.dpi=600") == KILLED
    assert site.run(look_after) == 0

    [fan_out], _, _ = await site.outcome()
    assert {task.task_name: task.task_config for task in fan_out.tasks} == {name: {"dpi": 600} for name in NAMES}
    assert site.runs("dpi") == {("doc-1", name): [600] for name in NAMES}
    assert site.run(redrive_all, HOLD) == 0
    assert site.run(drain_mended, HOLD) == 0
    assert site.runs("dpi") == {("doc-1", name): [600] for name in NAMES}


async def test_an_edited_redrive_that_is_repeated_without_the_edit_sends_what_the_first_one_meant(site):
    async with site.producer(clock=FakeClock()) as producer:
        await producer.enqueue_async("doc-1", NAMES, event_id="1")
    assert site.run(drain_dying) == 0
    assert site.run(redrive_and_die, "before send", "task_config.dpi=600") == KILLED
    assert site.run(redrive_all, HOLD) == 0
    assert site.run(drain_mended, HOLD) == 0
    assert site.runs("dpi") == {("doc-1", name): [600] for name in NAMES}


def look_after():
    asyncio.run(_look_after())


async def _look_after():
    """Be the workers when the one who redrove must be dead: a round of their reconciler, and the rest."""
    async with mended:
        mended.clock.advance(PATIENCE + 1)
        worker = await mended.worker()
        await worker._reconciler.reconcile((await mended._open()).ledger)
        await drain_async(mended)


def drain_dying():
    drain(dying)


def drain_mended(later):
    mended.clock.advance(later)
    drain(mended)


def redrive_all(later):
    with Fanfold(clock=FakeClock(FakeClock().now() + later)) as app:
        tally = app.dead_letters.redrive(Selection())
    assert tally == Tally(done=tally.done, leftovers=tally.leftovers, hidden=tally.hidden)


def redrive_and_die(point, *settings):
    asyncio.run(_redrive_and_die(point, settings))


async def _redrive_and_die(point, settings):
    app = Fanfold(clock=FakeClock())
    parts, (when, step) = await app._open(), point.split(" ", 1)
    queue = parts.broker.dead_letter_queue()
    parts.broker.dead_letter_queue = lambda: queue
    holder, method = STEPS[step]
    part = {"broker": parts.broker, "ledger": parts.ledger, "queue": queue}[holder]
    done = getattr(part, method)

    async def die(*given, **named):
        if when == "after":
            await done(*given, **named)
        apps.die()

    setattr(part, method, die)
    await app.dead_letters.redrive_async(Selection(), edit=with_values(settings) if settings else None)
