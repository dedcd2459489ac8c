"""Formulas and simulation against the requests that a real worker makes."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from fanfold import Fanfold
from fanfold.brokers.lean import LeanTransport
from fanfold.deploy.cost import requests
from fanfold.deploy.load import Load
from fanfold.deploy.scenario import Scenario
from fanfold.deploy.simulation import simulate


class Counting:
    """A transport that counts its requests by action; receives only where they brought something."""

    def __init__(self, transport):
        self.transport, self.counts = transport, Counter()

    async def call(self, action, payload):
        answer = await self.transport.call(action, payload)
        self.counts[action] += action != "ReceiveMessage" or bool(answer.get("Messages"))
        return answer

    def close(self):
        self.transport.close()


class Together:
    """Tasks that end when so many of them run, and so in one moment."""

    def __init__(self, size, tasks):
        self.size, self.left, self.running = size, tasks, []
        self.over = asyncio.Event()

    async def __call__(self):
        ended = asyncio.get_running_loop().create_future()
        self.running.append(ended)
        if len(self.running) == self.size:
            for each in self.running:
                each.set_result(None)
            self.running = []
        await ended
        self.left -= 1
        if not self.left:
            self.over.set()


async def worked_off(url, ledger, *, entities, tasks, concurrency):
    """Enqueue, and let one worker do it all; answers what the queue was asked for."""
    async with Fanfold(url, ledger=ledger, concurrency=concurrency, grace=1) as app:
        together = Together(concurrency, entities * tasks)

        async def run():
            await together()

        for n in range(tasks):
            app.task(f"t{n}")(run)
        broker = await app.broker()
        counting = broker._transport = Counting(LeanTransport(url))
        for n in range(entities):
            await app.enqueue_async(f"doc-{n}", [f"t{k}" for k in range(tasks)])
        worker = await app.worker()
        await worker.start()
        await together.over.wait()
        await worker.stop()
    return counting.counts


@pytest.mark.parametrize(("concurrency", "entities", "tasks"), [(1, 3, 4), (10, 4, 10)])
async def test_a_workers_requests_are_those_of_the_simulation(sqs_queue, tmp_path, concurrency, entities, tasks):
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    load = {"entities": entities, "tasks": tasks, "concurrency": concurrency}
    counts = await worked_off(sqs_queue[0], ledger, **load)
    course = simulate(Scenario(tasks=entities * tasks, seconds=1.0, concurrency=concurrency, random_times=False))
    assert counts["ReceiveMessage"] == course.receives
    assert counts["DeleteMessageBatch"] == course.deletes
    assert counts["SendMessageBatch"] == requests(Load(seconds=1.0, **load)).send - entities
