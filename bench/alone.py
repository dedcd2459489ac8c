"""How many tasks a second a ledger on PostgreSQL starts and ends, without a queue: what bounds workers on that side.

`.venv-3.11/bin/python bench/alone.py postgresql://…`; to compare versions, run each in turn, with its `src` in
PYTHONPATH and a `?schema=` of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
import uuid
from multiprocessing.synchronize import Barrier
from typing import Final

from application import NAMES
from fanfold.ledgers.postgres import PostgresLedger
from fanfold.ledgers.protocol import Claim, Finish, Plan
from fanfold.model import TaskSpec

ROUNDS: Final = 3
EVENTS: Final = 240
LANES: Final = 10
"""Each claims ten tasks and ends them, as a worker with a hundred slots does."""
_SPAWN: Final = multiprocessing.get_context("spawn")

Key = tuple[str, str]


def measure(url: str, processes: int) -> float:
    """Tasks a second, claimed and ended by so many processes together."""
    ready, done = _SPAWN.Barrier(processes + 1), _SPAWN.Barrier(processes + 1)
    workers = [_SPAWN.Process(target=_work, args=(url, ready, done)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    ready.wait()
    started = time.perf_counter()
    done.wait()
    rate = processes * EVENTS * len(NAMES) / (time.perf_counter() - started)
    for worker in workers:
        worker.join()
    return rate


def _work(url: str, ready: Barrier, done: Barrier) -> None:
    asyncio.run(_run(url, ready, done))


async def _run(url: str, ready: Barrier, done: Barrier) -> None:
    ledger = PostgresLedger(url)
    await ledger.start()
    keys: list[Key] = []
    for _ in range(EVENTS):
        fan_out_id = uuid.uuid4().hex
        tasks = [TaskSpec(name) for name in NAMES]
        await ledger.open(Plan(fan_out_id=fan_out_id, entity_id="doc", event_id=None, metadata={}, tasks=tasks))
        keys += [(fan_out_id, name) for name in NAMES]
    await asyncio.to_thread(ready.wait)
    await asyncio.gather(*(_lane(ledger, keys[lane::LANES]) for lane in range(LANES)))
    await asyncio.to_thread(done.wait)
    await ledger.close()


async def _lane(ledger: PostgresLedger, keys: list[Key]) -> None:
    for at in range(0, len(keys), 10):
        batch = keys[at : at + 10]
        await ledger.claim([Claim(fan_out_id=f, task_name=name, generation=0, worker="w") for f, name in batch])
        await ledger.finish([Finish(fan_out_id=f, task_name=name, attempt=1, result="null") for f, name in batch])


if __name__ == "__main__":
    for number in (1, 2):
        rates = [measure(sys.argv[1], number) for _ in range(ROUNDS)]
        print(f"{number} process(es): {statistics.median(rates):,.0f} tasks/s, median of {ROUNDS} rounds")
