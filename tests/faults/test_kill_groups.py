"""Workers are killed at random points while groups of several messages are worked on: their order outlives it.

The history is the log, in which each run writes a line at its start and one at its end; a killed one lacks its end.
"""

from __future__ import annotations

import itertools
import threading
from multiprocessing.connection import wait

import apps
import pytest
from processes import KILLED

from fanfold import Backoff, Fanfold, FanOutOptions, ids
from fanfold.model import TaskState
from fanfold.runner import run_worker
from fanfold.testing import drain

STEPS = ["third", "first", "flaky", "second", "last"]
"""The order of the plan, which is no other order by chance."""
PLENTY = 10_000
AT_ONCE = 3
KILLS = 30
MOST_RUNS = 8
EVENTS_A_ROUND = 5
"""They make more runs than there can be without one that dooms its worker."""
LONGEST_STRIKE = 0.02


def step(entity_id, task_name, context):
    apps.note("start", entity_id, task_name, context.attempt)
    apps.work(entity_id)
    apps.note("end", entity_id, task_name, context.attempt)
    if task_name == "flaky" and context.attempt == 1:
        raise ConnectionError("the first call never gets through")
    return context.attempt


def stepped(app):
    """Declare the steps, and a completion that counts its runs."""
    for name in STEPS:
        app.task(name, backoff=Backoff(base=apps.DELAY))(step)

    @app.on_complete(max_attempts=PLENTY)
    def fold(fan_out, context):
        apps.note("start", fan_out.entity_id, apps.FOLD, context.attempt)
        apps.work(fan_out.entity_id)
        apps.note("end", fan_out.entity_id, apps.FOLD, context.attempt)

    return app


ordered = stepped(Fanfold(group_by=ids.group_per_entity))
APP_SAYS = {"group_by": ids.group_per_entity}, None
FAN_OUT_SAYS = {}, FanOutOptions(order_by="entity")


# About 15 seconds each on two cores; a machine with other work may take minutes. The lease is so long that nobody is
# thought dead because the machine is busy.
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("of_app", "options"), [APP_SAYS, FAN_OUT_SAYS], ids=["of the application", "of the fan-out"])
async def test_groups_keep_their_order_whenever_workers_are_killed(make_site, rng, of_app, options):
    site = make_site(lease=2, max_attempts=PLENTY, concurrency=6)
    with site.producer(**of_app) as producer:
        entities, killed = massacre(
            site, rng, lambda entity: producer.enqueue(entity, STEPS, event_id="1", options=options)
        )
    assert site.run(drain_ordered) == 0

    lines = apps.lines(site.log)
    fan_outs, counts, letters = await site.outcome()
    assert [fan_out.entity_id for fan_out in fan_outs] == entities
    assert (counts.messages_available, counts.messages_in_flight, letters) == (0, 0, [])
    assert {line.entity_id for line in lines} == set(entities)
    interrupted = 0
    for fan_out in fan_outs:
        history = [(at, line) for at, line in enumerate(lines) if line.entity_id == fan_out.entity_id]
        cut_off = interruptions(history)
        assert_one_at_a_time(cut_off, last_words(lines), killed)
        assert_in_order_and_recorded_once(fan_out, history, site.fold_attempts()[fan_out.entity_id])
        interrupted += len(cut_off)
    assert interrupted > 0


def interruptions(history):
    """The runs that have no end, each with the place of the line that came next in its group; every other is whole.

    Fails where a run begins before, or ends after, another of its group has begun.
    """
    found, running = [], None
    for at, line in history:
        run = line.task_name, line.attempt, line.pid
        if line.what == "end":
            assert run == running, f"{run} ended while {running} was running"
            running = None
        else:
            if running is not None:
                found.append((running, at))
            running = run
    assert running is None
    return found


def assert_one_at_a_time(cut_off, last_words, killed):
    """What has no end was killed before the next of its group began: its process says nothing after that."""
    for (_, _, pid), next_at in cut_off:
        assert pid in killed
        assert last_words[pid] < next_at


def assert_in_order_and_recorded_once(fan_out, history, fold_attempts):
    starts = [line for _, line in history if line.what == "start"]
    assert [name for name, _ in itertools.groupby(line.task_name for line in starts)] == [*STEPS, apps.FOLD]
    assert fan_out.fold_state is TaskState.SUCCEEDED
    recorded = {task.task_name: task.attempts for task in fan_out.tasks} | {apps.FOLD: fold_attempts}
    assert fan_out.results == {name: recorded[name] for name in STEPS}
    for name, last in recorded.items():
        attempts = [line.attempt for line in starts if line.task_name == name]
        assert attempts == sorted(set(attempts))
        assert attempts[-1] == last


def last_words(lines):
    """Where in the log each process wrote last."""
    return {line.pid: at for at, line in enumerate(lines)}


def massacre(site, rng, enqueue):
    """Let workers be killed some milliseconds after one of their runs has started, while events come in.

    Answers the events' entities and the killed processes.
    """

    def doomed():
        return site.start(work_until_doom, rng.randint(1, MOST_RUNS), rng.uniform(0, LONGEST_STRIKE))

    crew, killed, entities = [doomed() for _ in range(AT_ONCE)], set(), []
    while len(killed) < KILLS:
        for _ in range(EVENTS_A_ROUND):
            entities.append(f"doc-{len(entities)}")
            enqueue(entities[-1])
        fallen = wait([worker.sentinel for worker in crew])
        dead = [worker for worker in crew if worker.sentinel in fallen]
        killed |= slain(dead)
        crew = [worker for worker in crew if worker not in dead] + [doomed() for _ in dead]
    return entities, killed | slain(crew)


def slain(workers):
    """Kill what is still alive of these; answers their pids."""
    for worker in workers:
        worker.kill()
        worker.join()
        assert worker.exitcode == KILLED
    return {worker.pid for worker in workers}


def work_until_doom(runs, seconds):
    started = itertools.count(1)

    def count(event):
        if event.name == "task.started" and next(started) == runs:
            threading.Timer(seconds, apps.die).start()

    ordered.subscribe(count)
    run_worker(ordered)


def drain_ordered():
    drain(ordered)
