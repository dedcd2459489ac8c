"""How many requests Fanfold makes of SQS, counted by `fanfold serve`'s own log. `python bench/serve_requests.py`.

Requests a task from enqueue to delete, of a saturated worker; requests of one fan-out of 42 and how they overlap; and
requests an hour of a worker that waits. AWS bills each of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from application import NAMES
from fanfold import Fanfold
from growth import drain, enqueue

QUEUES: Final = ("saturated.fifo", "ledger.fifo", "one.fifo", "idle.fifo")
_NOT_COUNTED: Final = ("GetQueueAttributes", "GetQueueUrl", "ListDeadLetterSourceQueues")
"""What a process asks once, when it begins."""


@dataclass(frozen=True, slots=True)
class Served:
    """A request in the server's log; times are seconds since the epoch."""

    queue: str
    action: str
    began: float
    ended: float


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, Callable[[], list[Served]]]]:
    """`fanfold serve` with a queue for each measurement: its URL, and what it has served so far."""
    command = [sys.executable, "-m", "fanfold", "serve", str(folder / "queue.db"), "--listen", "127.0.0.1:0", "--json"]
    command += ["--log-requests", "--log-format", "json", *(f"--create={name}" for name in QUEUES)]
    log = folder / "requests.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,  # noqa: S603 - our own
    ):
        said = json.loads(process.stdout.readline() if process.stdout else "")
        yield f"{said['url']}/000000000000", lambda: _served(log.read_text())
        process.terminate()


def _served(log: str) -> list[Served]:
    lines = [json.loads(line) for line in log.splitlines()]
    return [_request(line) for line in lines if line["event"] == "request.served" and "queue" in line]


def _request(line: dict[str, Any]) -> Served:
    ended = datetime.fromisoformat(line["time"]).timestamp()
    return Served(line["queue"], line["action"], ended - line["seconds"], ended)


def counted(served: Sequence[Served], queue: str) -> Counter[str]:
    """The requests of one queue, by action, without what a process asks once."""
    return Counter(one.action for one in served if one.queue == queue and one.action not in _NOT_COUNTED)


def most_at_once(served: Sequence[Served]) -> int:
    """How many requests were under way together, at most."""
    return max(sum(one.began <= other.began < one.ended for one in served) for other in served)


def an_hour(served: Sequence[Served]) -> float:
    """The rate of requests, from the first one's begin to the last one's, without what a process asks once."""
    begun = sorted(one.began for one in served if one.action not in _NOT_COUNTED)
    return (len(begun) - 1) * 3600 / (begun[-1] - begun[0])


def application(queue_url: str, ledger: str) -> Fanfold:
    """Tasks that do nothing, and a hundred slots."""
    app = Fanfold(queue_url, ledger=ledger, concurrency=100)
    for name in NAMES:
        app.task(name)(_nothing)
    if ledger != "none":
        app.on_complete(_nothing)
    return app


async def _nothing() -> None:
    """Do nothing."""


async def saturated(queue_url: str, ledger: str, events: int) -> None:
    """Enqueue so many fan-outs of 42, then work on them until all are done."""
    async with application(queue_url, ledger) as app:
        await enqueue(app, events, "saturated")
        await drain(app, events * len(NAMES))


async def one_fan_out(queue_url: str) -> None:
    """Enqueue 42 tasks."""
    async with application(queue_url, "none") as app:
        await app.enqueue_async("one", NAMES)


async def idle(queue_url: str, seconds: float) -> None:
    """Let a worker wait."""
    async with application(queue_url, "none") as app:
        worker = await app.worker()
        await worker.start()
        await asyncio.sleep(seconds)
        await worker.stop()


async def measure(base: str, served: Callable[[], list[Served]], ledger: Path, options: argparse.Namespace) -> None:
    """Measure and print."""
    tasks = options.events * len(NAMES)
    for queue, kept in (("saturated.fifo", "none"), ("ledger.fifo", f"sqlite:///{ledger}")):
        await saturated(f"{base}/{queue}", kept, options.events)
        requests = counted(served(), queue)
        by_action = ", ".join(f"{action} {number}" for action, number in sorted(requests.items()))
        said = "no ledger" if kept == "none" else "with ledger and completions"
        print(f"saturated, {said}: {requests.total() / tasks:.3f} requests a task ({tasks:,} tasks: {by_action})")
    await one_fan_out(f"{base}/one.fifo")
    sends = [one for one in served() if one.queue == "one.fifo" and one.action == "SendMessageBatch"]
    print(f"{len(NAMES)} tasks: {len(sends)} requests, {most_at_once(sends)} of them at once")
    await idle(f"{base}/idle.fifo", options.idle)
    print(f"idle worker: {an_hour([one for one in served() if one.queue == 'idle.fifo']):.0f} requests an hour")


def main() -> None:
    """Start a server, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=120, help="fan-outs of 42 for the saturated worker")
    parser.add_argument("--idle", type=float, default=120.0, help="seconds that the idle worker waits")
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {platform.machine()}")
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (base, served):
        asyncio.run(measure(base, served, Path(folder) / "ledger.db", options))


if __name__ == "__main__":
    main()
