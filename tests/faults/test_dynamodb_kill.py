"""Workers with their ledger on DynamoDB are killed at random points; in the end, every promise must hold."""

from __future__ import annotations

import apps
import pytest
from processes import Site
from test_kill_workers import PLENTY, SUCCEEDING, TASKS, massacre

from fanfold.model import TaskState
from servers import table_of


@pytest.fixture
def site(tmp_path, sqs_endpoint, monkeypatch):
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "eu-west-1"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    ledger = f"dynamodb://{table_of(tmp_path)}?endpoint_url={sqs_endpoint}&create=true"
    made = Site(tmp_path, lease=3, max_attempts=PLENTY, ledger=ledger)
    made.environ |= keys
    yield made
    made.end()


@pytest.mark.timeout(300)
async def test_killed_workers_break_no_promise_with_a_ledger_on_dynamodb(site, rng):
    entities = massacre(site, rng, kills=12, tasks=TASKS)
    site.drain()

    fan_outs, counts, letters = await site.outcome()
    starts, ends = site.runs("start"), site.runs("end")
    assert sorted(fan_out.entity_id for fan_out in fan_outs) == sorted(entities)
    for fan_out in fan_outs:
        assert [task.task_name for task in fan_out.tasks] == TASKS
        assert list(fan_out.results) == SUCCEEDING
        assert list(fan_out.failures) == ["hopeless"]
        assert fan_out.fold_state is TaskState.SUCCEEDED
        for name in (*TASKS, apps.FOLD):
            started = starts[fan_out.entity_id, name]
            assert len(set(started)) == len(started)
        for task in fan_out.tasks:
            assert max(starts[fan_out.entity_id, task.task_name]) <= task.attempts
        assert all(fan_out.results[name] in ends[fan_out.entity_id, name] for name in SUCCEEDING)
    assert (counts.messages_available, counts.messages_in_flight) == (0, 0)
    assert sorted(letter.task.entity_id for letter in letters) == sorted(entities)
