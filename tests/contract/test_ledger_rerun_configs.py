"""A re-run may give its tasks other configurations, in the write that lets them begin anew."""

from __future__ import annotations

import pytest

from fanfold.errors import InvalidInputError
from fanfold.model import Failure, TaskSpec, TaskState
from ledgering import claim, plan, run

DEAD = {"failure": Failure(type="LookupError", message="no roof"), "dead": True}
LARGE = {"text": "x" * 99_000}
SMALL = {"model": "small", "quote": "'\\\"\u0000ä"}


async def configs(ledger):
    return {task.task_name: task.task_config for task in await ledger.tasks("f1")}


@pytest.fixture
async def failed(ledger):
    tasks = [TaskSpec(name, LARGE if name == "a" else {"model": "large"}) for name in ("a", "b", "c")]
    await ledger.open(plan(tasks=tasks))
    for name in ("a", "b"):
        await run(ledger, name, **DEAD)
    await run(ledger, "c")
    return ledger


async def test_what_begins_anew_has_its_new_configuration_and_the_others_keep_theirs(failed, clock):
    unsent = await failed.rerun("f1", ["a"], configs={"a": SMALL, "b": SMALL, "c": SMALL, "nobody": SMALL})
    assert [(task.task_name, task.task_config) for task in unsent.tasks] == [("a", SMALL)]
    assert await configs(failed) == {"a": SMALL, "b": {"model": "large"}, "c": {"model": "large"}}
    clock.advance(60)
    [later] = await failed.unsent(untouched_for=59)
    assert [task.task_config for task in later.tasks] == [SMALL]


async def test_more_configurations_than_one_item_holds_are_taken_as_one_is(ledger):
    names = [f"t{number}" for number in range(6)]
    await ledger.open(plan(tasks=[TaskSpec(name, LARGE) for name in names]))
    for name in names:
        await run(ledger, name, **DEAD)
    larger = {name: {"text": name + "y" * 98_000} for name in names}
    assert {task.task_name for task in (await ledger.rerun("f1", configs=larger)).tasks} == set(names)
    assert await configs(ledger) == larger


async def test_a_re_run_after_an_edited_one_keeps_the_edit(failed):
    await failed.rerun("f1", ["b"], configs={"b": SMALL})
    claimed = await claim(failed, "b", generation=1)
    await failed.cancel("f1", ["b"])
    assert claimed.state is TaskState.RUNNING
    unsent = await failed.rerun("f1", ["b"], configs={})
    assert (unsent.fan_out.generation, (await configs(failed))["b"]) == (2, SMALL)


async def test_one_that_finds_nothing_to_re_run_changes_no_configuration(failed):
    await failed.rerun("f1", ["c"], configs={"c": SMALL})
    assert (await configs(failed))["c"] == {"model": "large"}


async def test_a_configuration_that_is_no_json_is_refused_and_nothing_begins(failed):
    with pytest.raises(InvalidInputError, match="config of 'a'"):
        await failed.rerun("f1", ["a"], configs={"a": {"when": {1, 2}.union}})
    assert (await failed.summary("f1")).generation == 0
