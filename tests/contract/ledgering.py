"""What the tests of ledgers do with one: plan, claim, finish."""

from __future__ import annotations

from fanfold.ledgers.protocol import Claim, Finish, Plan
from fanfold.model import TaskSpec


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
