"""What the tests of ledgers do with one: plan, claim, finish."""

from __future__ import annotations

from fanfold.ledgers.protocol import Claim, Finish, Plan
from fanfold.model import FOLD_NAME, Failure, TaskSpec


def plan(*names, fan_out_id="f1", **fields):
    tasks = [TaskSpec(name) for name in names or ["words", "roof"]]
    return Plan(**{"fan_out_id": fan_out_id, "entity_id": "doc-1", "event_id": "e1", "metadata": {}, "tasks": tasks}
                | fields)  # fmt: skip


async def claim(ledger, name="words", *, fan_out_id="f1", generation=0, worker="w1"):
    [answer] = await ledger.claim([Claim(fan_out_id=fan_out_id, task_name=name, generation=generation, worker=worker)])
    return answer


async def finish(ledger, name="words", attempt=1, *, fan_out_id="f1", **how):
    how = how or {"result": "1"}
    [answer] = await ledger.finish([Finish(fan_out_id=fan_out_id, task_name=name, attempt=attempt, **how)])
    return answer


async def run(ledger, name="words", *, fan_out_id="f1", **how):
    """One attempt from its claim to its end."""
    claimed = await claim(ledger, name, fan_out_id=fan_out_id)
    return await finish(ledger, name, claimed.attempt, fan_out_id=fan_out_id, **how)


async def completed(ledger, *fan_out_ids):
    for fan_out_id in fan_out_ids:
        await ledger.open(plan("words", fan_out_id=fan_out_id))
        await run(ledger, fan_out_id=fan_out_id)


async def record(ledger, name="words", fan_out_id="f1"):
    return {task.task_name: task for task in await ledger.tasks(fan_out_id)}[name]


def ids(fan_outs):
    return [fan_out.fan_out_id for fan_out in fan_outs]


def large(count, **fields):
    return plan(tasks=[TaskSpec(f"t{number}") for number in range(count)], **fields)


async def everything(ledger, clock):
    """Each kind of call, at least once, in about the order of a fan-out's life."""
    dead = {"failure": Failure(type="LookupError", message="no roof"), "dead": True}
    await ledger.open(large(42, deadline=60.0, tolerated_failures=3, min_succeeded=40))
    await ledger.open(large(42))
    await ledger.unsent(untouched_for=-1)
    await ledger.sent("f1", 0)
    await run(ledger, "t0")
    await run(ledger, "t1", **dead)
    await finish(ledger, "t1", None, **dead)
    await ledger.stopped([Claim(fan_out_id="f1", task_name="t2", generation=0, worker="w")])
    await ledger.cancel("f1", ["t3"])
    await ledger.stalled(untouched_for=-1)
    clock.advance(90)
    await ledger.overdue()
    await claim(ledger, "t4")
    await ledger.unfolded(completed_since=0, completed_before=clock.now() + 1)
    await ledger.unended_folds(untouched_for=-1)
    await run(ledger, FOLD_NAME)
    await ledger.rerun("f1", ["t0"], failed_only=False)
    await ledger.rerun("f1")
    await ledger.cancel("f1")
    await ledger.open(large(2_001, fan_out_id="f2", parent="f1", keep=1))
    await ledger.open(large(2_001, fan_out_id="f2", parent="f1"))
    await ledger.list()
    await ledger.list(open_only=True)
    await ledger.list(entity_id="doc-1")
    await ledger.list(parent="f1")
    await ledger.get("f1")
    await ledger.summary("f1")
    await ledger.tasks("f1")
    await ledger.lead("role", "w", 60)
    await ledger.cancel("f2")
    clock.advance(2)
    assert await ledger.purge() == 1
