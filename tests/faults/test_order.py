"""Two worker processes and groups of several messages: one of a group at a time, in the order of the plan."""

from __future__ import annotations

from contextlib import suppress

import apps
import pytest
from processes import KILLED, barrier

from fanfold import Fanfold, Retry, ids
from fanfold.testing import drain

NAMES = ["third", "first", "second"]
"""The order of the plan, which is no other order by chance."""

steps = Fanfold(group_by=ids.group_per_entity)
deadly_steps = Fanfold(group_by=ids.group_per_entity)


meetings = []
"""In each of two worker processes a barrier: its first run goes on when the other's has started too."""


def step(entity_id, task_name, context):
    apps.note("start", entity_id, task_name, context.attempt)
    with suppress(IndexError):
        meetings.pop().wait()
    apps.note("end", entity_id, task_name, context.attempt)
    if task_name == "first" and context.attempt == 1:
        raise Retry("not yet", delay=apps.DELAY)


def deadly_step(entity_id, task_name, context):
    apps.note("start", entity_id, task_name, context.attempt)
    if task_name == "first" and context.attempt == 1:
        apps.die()
    apps.note("end", entity_id, task_name, context.attempt)


for _name in NAMES:
    steps.task(_name)(step)
    deadly_steps.task(_name)(deadly_step)


IN_ORDER = [("third", 1), ("first", 1), ("first", 2), ("second", 1)]


@pytest.mark.parametrize("concurrency", [1, 10], ids=["one message at a time", "whole groups in one receive"])
async def test_two_workers_never_run_two_of_a_group_at_once_and_keep_the_order(make_site, concurrency):
    site, entities = make_site(concurrency=concurrency), [f"doc-{number}" for number in range(8 * concurrency)]
    await enqueue(site, entities)
    meeting = barrier(2)
    workers = [site.start(meet_and_drain, meeting) for _ in range(2)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0

    lines = apps.lines(site.log)
    assert {line.pid for line in lines} == {worker.pid for worker in workers}
    for entity in entities:
        ran = [(line.what, line.task_name, line.attempt) for line in lines if line.entity_id == entity]
        assert ran == [(what, *run) for run in IN_ORDER for what in ("start", "end")]


async def test_a_killed_worker_leaves_its_groups_in_order(make_site):
    site = make_site(lease=2)
    await enqueue(site, ["doc-1"])
    assert site.run(drain_deadly) == KILLED
    assert site.run(drain_deadly) == 0

    ran = [(line.what, line.task_name, line.attempt) for line in apps.lines(site.log)]
    interrupted = ("end", "first", 1)
    assert ran == [(what, *run) for run in IN_ORDER for what in ("start", "end") if (what, *run) != interrupted]


async def enqueue(site, entities):
    async with site.producer(group_by=ids.group_per_entity) as producer:
        for entity in entities:
            await producer.enqueue_async(entity, NAMES, event_id="1")


def meet_and_drain(meeting):
    meetings.append(meeting)
    drain(steps)


def drain_deadly():
    drain(deadly_steps)
