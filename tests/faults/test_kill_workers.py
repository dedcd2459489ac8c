"""Workers are killed at random points, over and over; in the end, every promise must hold."""

from __future__ import annotations

import asyncio

import apps

from fanfold.model import TaskState

TASKS = ["steady", "threaded", "flaky", "retrying", "hopeless"]
SUCCEEDING = TASKS[:-1]
AT_ONCE = 4
EVENTS = 3
LONGEST_WAIT = 0.25
"""Seconds between two kills at most: a worker of four lives for half a second on average."""


def massacre(site, rng, kills, tasks, app="app"):
    """Kill a random one of several workers at a random moment, so many times, while one event a kill comes in."""
    with site.producer() as producer:
        crew = [site.worker(app) for _ in range(AT_ONCE)]
        for number in range(kills):
            for event in range(EVENTS):
                producer.enqueue(f"doc-{number}-{event}", tasks, event_id="1")
            doomed = crew.pop(rng.randrange(AT_ONCE))
            doomed.join(rng.uniform(0, LONGEST_WAIT))
            doomed.kill()
            crew.append(site.worker(app))
        for doomed in crew:
            doomed.kill()
            doomed.join()


async def outcome(site):
    """What ledger and queue say at the end: all fan-outs with their tasks, the queue's counts, the dead letters."""
    async with site.producer() as app:
        summaries = await app.fan_outs_async(limit=10_000)
        fan_outs = [await app.fan_out_async(summary.fan_out_id) for summary in summaries]
        return fan_outs, await app.status_async(), await (await app.broker()).dead_letters(10_000)


# About 60 seconds: 220 kills, and the leases of the last of them.
def test_hundreds_of_killed_workers_break_no_promise(make_site, rng):
    site, kills = make_site(lease=0.75, max_attempts=10_000), 220
    massacre(site, rng, kills, TASKS)
    site.drain()

    fan_outs, counts, letters = asyncio.run(outcome(site))
    starts, ends, fold_attempts = site.runs("start"), site.runs("end"), site.fold_attempts()
    assert len(fan_outs) == kills * EVENTS
    print(interrupted(starts, ends), sum(max(v) for v in starts.values()), max(max(v) for v in starts.values()), len([1 for k,v in starts.items() if k[1]=='fold' and max(v)>1]))
    assert interrupted(starts, ends) > 0
    for fan_out in fan_outs:
        assert [t.task_name for t in fan_out.tasks] == TASKS
        assert list(fan_out.results) == SUCCEEDING
        assert list(fan_out.failures) == ["hopeless"]
        assert fan_out.fold_state is TaskState.SUCCEEDED
        for task in fan_out.tasks:
            key = (fan_out.entity_id, task.task_name)
            assert_no_attempt_after(task.attempts, starts[key])
            if task.state is TaskState.SUCCEEDED:
                assert task.result == task.attempts
                assert task.attempts in ends[key]
        fold = (fan_out.entity_id, apps.FOLD)
        assert_no_attempt_after(fold_attempts[fan_out.entity_id], starts[fold])
        assert fold_attempts[fan_out.entity_id] in ends[fold]
    assert (counts.messages_available, counts.messages_in_flight) == (0, 0)
    assert sorted(letter.task.entity_id for letter in letters) == sorted(f.entity_id for f in fan_outs)
    assert {letter.reason for letter in letters} == {"Reject: this entity has none"}


def assert_no_attempt_after(last, started):
    """Each attempt was started once at most, and none after the one whose end is recorded."""
    assert len(set(started)) == len(started)
    assert max(started) <= last


def interrupted(starts, ends):
    """How many runs of tasks that only a kill can interrupt were begun and not ended."""
    return sum(len(set(starts[key]) - set(ends.get(key, ()))) for key in starts if key[1] in ("steady", "threaded"))
