"""Workers are killed, and the ledger's PostgreSQL server goes and comes back; in the end, every promise must hold."""

from __future__ import annotations

import signal
from multiprocessing.connection import wait

import apps
import pytest

from fanfold.model import TaskState

TASKS = ["steady", "threaded", "flaky", "retrying", "hopeless"]
SUCCEEDING = TASKS[:-1]
PLENTY = 10_000
ROUNDS = 40
FOLD_ATTEMPTS = (
    "SELECT f.entity_id, t.attempts FROM fanfold.tasks AS t JOIN fanfold.fan_outs AS f ON f.number = t.fan_out "
    "WHERE t.position < 0"
)


@pytest.fixture
def site(make_site, stoppable_postgres):
    return make_site(lease=0.75, max_attempts=PLENTY, ledger=stoppable_postgres.url)


# About 15 seconds on two cores.
async def test_killed_workers_and_a_server_that_restarts_break_no_promise(site, stoppable_postgres, rng):
    entities = havoc(site, stoppable_postgres, rng)
    site.drain()

    fan_outs, counts, letters = await site.outcome()
    starts, ends, folds = site.runs("start"), site.runs("end"), dict(stoppable_postgres.execute(FOLD_ATTEMPTS))
    assert [fan_out.entity_id for fan_out in fan_outs] == entities
    for fan_out in fan_outs:
        assert [task.task_name for task in fan_out.tasks] == TASKS
        assert (list(fan_out.results), list(fan_out.failures)) == (SUCCEEDING, ["hopeless"])
        assert fan_out.fold_state is TaskState.SUCCEEDED
        attempts = {task.task_name: task.attempts for task in fan_out.tasks} | {apps.FOLD: folds[fan_out.entity_id]}
        for name, last in attempts.items():
            started = starts[fan_out.entity_id, name]
            assert len(set(started)) == len(started)
            assert max(started) <= last
        assert {name for name in (*SUCCEEDING, apps.FOLD) if attempts[name] in ends[fan_out.entity_id, name]} == {
            *SUCCEEDING,
            apps.FOLD,
        }
        assert_folded_after_its_tasks(apps.lines(site.log), fan_out.entity_id)
    assert (counts.messages_available, counts.messages_in_flight) == (0, 0)
    assert sorted(letter.task.entity_id for letter in letters) == sorted(entities)


def havoc(site, server, rng):
    """While events come in, kill a worker in each round and restart the server in every third; answers the entities."""

    def doomed():
        return site.doomed_worker(rng.randint(1, 12), rng.uniform(0, 0.03))

    crew, entities = [doomed(), doomed()], []
    with site.producer() as producer:
        for number in range(ROUNDS):
            for _ in range(2):
                entities.append(f"doc-{len(entities)}")
                producer.enqueue(entities[-1], TASKS, event_id="1")
            fallen = wait([worker.sentinel for worker in crew], rng.uniform(0, 0.3))
            dead = [worker for worker in crew if worker.sentinel in fallen] or [rng.choice(crew)]
            if number % 3 == 0:
                server.restart(rng.choice([signal.SIGINT, signal.SIGQUIT]))
            for worker in dead:
                worker.kill()
                worker.join()
            crew = [worker for worker in crew if worker not in dead] + [doomed() for _ in dead]
    for worker in crew:
        worker.kill()
        worker.join()
    return entities


def assert_folded_after_its_tasks(lines, entity_id):
    of = [line for line in lines if line.entity_id == entity_id]
    before = of[: next(at for at, line in enumerate(of) if line.task_name == apps.FOLD)]
    assert {line.task_name for line in before if line.what == "end"} == set(SUCCEEDING)
    assert "hopeless" in {line.task_name for line in before}
