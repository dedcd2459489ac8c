"""Workers are killed at random points, over and over; in the end, every promise must hold."""

from __future__ import annotations

from multiprocessing.connection import wait

import apps
import pytest
from processes import KILLED

from fanfold.model import TaskState

TASKS = ["steady", "threaded", "flaky", "retrying", "hopeless"]
SUCCEEDING = TASKS[:-1]
PLENTY = 10_000
AT_ONCE = 4
EVENTS_A_ROUND = 2
MOST_RUNS = 12
LONGEST_STRIKE = 0.03
LONGEST_ROUND = 0.2


# About 15 seconds on two cores; a machine with other work may take minutes.
@pytest.mark.timeout(900)
async def test_three_hundred_killed_workers_break_no_promise(make_site, rng):
    site = make_site(lease=0.75, max_attempts=PLENTY)
    entities = massacre(site, rng, kills=300, tasks=TASKS)
    site.drain()

    fan_outs, counts, letters = await site.outcome()
    starts, ends, fold_attempts = site.runs("start"), site.runs("end"), site.fold_attempts()
    assert interrupted(starts, ends) > 0
    assert [fan_out.entity_id for fan_out in fan_outs] == entities
    for fan_out in fan_outs:
        assert [task.task_name for task in fan_out.tasks] == TASKS
        assert list(fan_out.results) == SUCCEEDING
        assert list(fan_out.failures) == ["hopeless"]
        assert fan_out.fold_state is TaskState.SUCCEEDED
        attempts = {task.task_name: task.attempts for task in fan_out.tasks}
        attempts[apps.FOLD] = fold_attempts[fan_out.entity_id]
        for name, last in attempts.items():
            assert_none_after(last, starts[fan_out.entity_id, name])
        for name in (*SUCCEEDING, apps.FOLD):
            assert attempts[name] in ends[fan_out.entity_id, name]
        assert fan_out.results == {name: attempts[name] for name in SUCCEEDING}
    assert (counts.messages_available, counts.messages_in_flight) == (0, 0)
    assert sorted(letter.task.entity_id for letter in letters) == sorted(entities)
    assert {letter.reason for letter in letters} == {"Reject: this entity has none"}


# About 5 seconds on two cores.
@pytest.mark.timeout(900)
async def test_tasks_that_killed_workers_have_spent_are_dead_and_folded(make_site, rng):
    site, tasks = make_site(lease=0.75, max_attempts=2), [*TASKS, "deadly"]
    entities = massacre(site, rng, kills=60, tasks=tasks, app="deadly")
    site.drain("deadly")

    fan_outs, counts, letters = await site.outcome()
    starts, fold_attempts = site.runs("start"), site.fold_attempts()
    assert [fan_out.entity_id for fan_out in fan_outs] == entities
    for fan_out in fan_outs:
        assert sorted([*fan_out.results, *fan_out.failures]) == sorted(tasks)
        assert fan_out.failures["deadly"].type == "AttemptsSpent"
        assert fan_out.fold_state is TaskState.SUCCEEDED
        assert_none_after(fold_attempts[fan_out.entity_id], starts[fan_out.entity_id, apps.FOLD])
        for name in tasks:
            assert_none_after(2, starts.get((fan_out.entity_id, name), []))
    assert (counts.messages_available, counts.messages_in_flight) == (0, 0)
    dead = [(fan_out.entity_id, name) for fan_out in fan_outs for name in fan_out.failures]
    assert sorted((letter.task.entity_id, letter.task.task_name) for letter in letters) == sorted(dead)
    assert all(letter.reason for letter in letters)


def massacre(site, rng, *, kills, tasks, app="app"):
    """Kill workers, so many in all and several at once, while events come in; answers the events' entities.

    Most are killed some milliseconds after one of their runs has started, wherever they are then; in a round in which
    none is, a random one is killed: while it starts, waits or works.
    """

    def doomed():
        return site.doomed_worker(rng.randint(1, MOST_RUNS), rng.uniform(0, LONGEST_STRIKE), app)

    crew, killed, entities = [doomed() for _ in range(AT_ONCE)], 0, []
    with site.producer() as producer:
        while killed < kills:
            for _ in range(EVENTS_A_ROUND):
                entities.append(f"doc-{len(entities)}")
                producer.enqueue(entities[-1], tasks, event_id="1")
            fallen = wait([worker.sentinel for worker in crew], rng.uniform(0, LONGEST_ROUND))
            dead = [worker for worker in crew if worker.sentinel in fallen] or [rng.choice(crew)]
            for worker in dead:
                killed += slain(worker)
            crew = [worker for worker in crew if worker not in dead] + [doomed() for _ in dead]
    for worker in crew:
        slain(worker)
    return entities


def slain(worker):
    worker.kill()
    worker.join()
    return worker.exitcode == KILLED


def assert_none_after(last, started):
    """Each attempt was started once at most, and none after the last that the ledger counted."""
    assert len(set(started)) == len(started)
    assert max(started, default=0) <= last


def interrupted(starts, ends):
    """How many runs were begun and not ended, of tasks that nothing but a kill interrupts."""
    unscathed = {"steady", "threaded", apps.FOLD}
    return sum(len(set(starts[key]) - set(ends.get(key, ()))) for key in starts if key[1] in unscathed)
