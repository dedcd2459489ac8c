"""How many requests a real worker makes, beside the simulation. `python bench/sqs_requests.py`.

`fanfold serve` stands in for SQS. Tasks wait for a random time, so nothing but requests costs anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fanfold import Fanfold
from fanfold.brokers.lean import LeanTransport
from fanfold.brokers.sqs import SqsBroker
from fanfold.deploy.scenario import Course, Scenario
from fanfold.deploy.simulation import simulate

FIELDS = 42
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
LOADS = [(20, 1.0, 10, 0.0), (40, 3.0, 50, 0.0), (10, 1.0, 10, 6.0), (20, 1.0, 50, 2.0)]
"""Fan-outs, seconds a task, slots, and seconds between two fan-outs on average (0: all are there at the start)."""


class Counting:
    """A transport that counts its requests by action, empty receives apart."""

    def __init__(self, url: str) -> None:
        self._transport = LeanTransport(url)
        self.counts: Counter[str] = Counter()

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request."""
        answer = await self._transport.call(action, payload)
        self.counts["empty" if action == "ReceiveMessage" and not answer.get("Messages") else action] += 1
        return answer

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()


async def measured(url: str, folder: str, load: tuple[int, float, int, float]) -> Counter[str]:
    """The requests of one worker that does it all."""
    fan_outs, seconds, slots, gap = load
    rng = random.Random(1)  # noqa: S311 - a measurement
    left, over = fan_outs * FIELDS, asyncio.Event()

    async def work() -> None:
        nonlocal left
        await asyncio.sleep(rng.expovariate(1 / seconds))
        left -= 1
        if not left:
            over.set()

    async with Fanfold(url, ledger=f"sqlite:///{folder}/ledger.db", concurrency=slots, grace=5) as app:
        for n in range(FIELDS):
            app.task(f"field{n}")(work)
        broker = await app.broker()
        if not isinstance(broker, SqsBroker):
            raise TypeError(url)
        counting = Counting(url)
        broker._transport = counting  # noqa: SLF001 - to see what passes
        worker = await app.worker()
        if gap:
            await worker.start()
        for n in range(fan_outs):
            await asyncio.sleep(rng.expovariate(1 / gap) if gap else 0)
            await app.enqueue_async(f"doc-{url[-8:]}-{n}", [f"field{k}" for k in range(FIELDS)])
        await worker.start()
        await over.wait()
        await worker.stop()
    return counting.counts


def simulated(fan_outs: int, seconds: float, slots: int, gap: float) -> Course:
    """The same load, simulated."""
    rate = FIELDS / gap if gap else 0.0
    return simulate(
        Scenario(tasks=fan_outs * FIELDS, seconds=seconds, concurrency=slots, fan_out=FIELDS, rate=rate, poll=5.0)
    )


def main() -> None:
    """Measure each load and print it beside its simulation."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.environ.update(KEYS)
    logging.disable()
    print("| fan-outs, seconds, slots, gap | receives | simulated | deletes | simulated |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number, load in enumerate(LOADS):
            queue = f"load{number}.fifo"
            command = [sys.executable, "-m", "fanfold", "serve", str(Path(folder) / f"{number}.db"), "--json"]
            with subprocess.Popen(  # noqa: S603 - our own command
                [*command, "--create", queue, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
            ) as server:
                [url] = json.loads(server.stdout.readline() if server.stdout else "{}")["queues"]
                counts = asyncio.run(measured(url, folder, load))
                server.terminate()
            course = simulated(*load)
            row = (counts["ReceiveMessage"], course.receives, counts["DeleteMessageBatch"], course.deletes)
            print(f"| {', '.join(f'{value:g}' for value in load)} | {' | '.join(f'{value:,}' for value in row)} |")


if __name__ == "__main__":
    main()
