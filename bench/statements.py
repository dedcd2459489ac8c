"""What SQLite takes of a task's way on the embedded queue: `PYTHONPATH=. python bench/statements.py`, half a minute.

CPU of one thread, by step: a batch is one transaction, as it is when one worker is alone. The rest of what a task costs
is the worker's own, and the way between its threads.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from application import NAMES
from fanfold import codec
from fanfold.brokers.sqlite import SqliteBroker
from fanfold.database import Database
from fanfold.engine import leases, queues, receiving
from fanfold.engine.receiving import Receive
from fanfold.ledgers import writes
from fanfold.ledgers.protocol import Claim, Finish, Plan
from fanfold.ledgers.sqlite import SqliteLedger
from fanfold.model import Task, TaskSpec
from page import circumstances, figure, table

_FAN_OUTS: Final = 120
_BATCHES: Final = (10, 100)
_QUEUE: Final = "tasks.fifo"
_LEASE: Final = 60_000
T = TypeVar("T")


class Steps:
    """CPU seconds by step, on a connection of its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.took: dict[str, float] = defaultdict(float)

    def transact(self, step: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a step in a transaction, and count its statements and its commit."""
        began = time.thread_time()
        self._connection.execute("BEGIN IMMEDIATE")
        result = work(self._connection)
        worked = time.thread_time()
        self._connection.execute("COMMIT")
        self.took[step] += worked - began
        self.took["commits"] += time.thread_time() - worked
        return result


def _now() -> int:
    return int(time.time() * 1000)


def _received(connection: sqlite3.Connection, queue: queues.Queue, size: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < size:
        more = receiving.receive(connection, queue, Receive(limit=10, lease=_LEASE, now=_now()), lambda: "receipt")
        found += more
        if len(more) < 10:  # noqa: PLR2004 - what one receive takes
            break
    return found


def _claims(tasks: Sequence[Task]) -> list[Claim]:
    return [
        Claim(fan_out_id=str(task.fan_out_id), task_name=task.task_name, generation=0, worker="host:1:abcdef")
        for task in tasks
    ]


def _ends(tasks: Sequence[Task]) -> list[Finish]:
    return [
        Finish(fan_out_id=str(task.fan_out_id), task_name=task.task_name, attempt=1, result="null") for task in tasks
    ]


async def _fill(url: str, database: Database) -> None:
    broker, ledger = SqliteBroker(url, database=database), SqliteLedger(url, database=database)
    await broker.open()
    await ledger.start()
    specs = [TaskSpec(name) for name in NAMES]
    for number in range(_FAN_OUTS):
        header = Task(entity_id=f"doc-{number}", task_name="", fan_out_id=f"{number:026}", total_tasks=len(NAMES))
        encoder = codec.Encoder(header)
        await ledger.open(
            Plan(fan_out_id=f"{number:026}", entity_id=f"doc-{number}", event_id=None, metadata={}, tasks=specs)
        )
        await broker.send([encoder.encode(name, {}) for name in NAMES])
        await ledger.sent(f"{number:026}", 0)


def work_off(connection: sqlite3.Connection, size: int) -> dict[str, float]:
    """Work everything off in batches; answers CPU µs a task by step."""
    steps, done = Steps(connection), 0
    queue = queues.find(connection, _QUEUE)
    if queue is None:
        raise LookupError(_QUEUE)
    while found := steps.transact("receive", lambda c: _received(c, queue, size)):
        tasks = [codec.decode(message.body) for message in found]
        handles = [str(message.handle) for message in found]
        steps.transact("claim", lambda c: writes.claim(c, _claims(tasks), time.time()))  # noqa: B023 - run at once
        steps.transact("end", lambda c: writes.finish(c, _ends(tasks), time.time()))  # noqa: B023
        steps.transact("delete", lambda c: leases.delete(c, queue, handles, _now()))  # noqa: B023
        done += len(found)
    return {step: took / done * 1e6 for step, took in steps.took.items()}


def main() -> None:
    """Measure and print."""
    print(f"{circumstances()} synchronous=NORMAL, {_FAN_OUTS * len(NAMES):,} tasks, CPU µs a task")
    found: dict[int, dict[str, float]] = {}
    for size in _BATCHES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "tasks.db")
            database = Database(path, synchronous="NORMAL")
            with database.opening():
                asyncio.run(_fill(f"sqlite:///{path}?synchronous=normal", database))
                connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
                connection.execute("PRAGMA synchronous=NORMAL")
                found[size] = work_off(connection, size)
                connection.close()
    heads = ["messages in a batch", *found[_BATCHES[0]]]
    rows = [[str(size), *(figure(took) for took in steps.values())] for size, steps in found.items()]
    print("\n".join(table(heads, rows)))


if __name__ == "__main__":
    main()
