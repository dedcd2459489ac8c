"""What looking through dead letters and sending chosen ones back costs.

On the embedded queue with its ledger; with --serve on `fanfold serve` and a ledger in a file; or on --queue-url.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from fanfold import Fanfold, codec
from fanfold.brokers.burial import letter_message
from fanfold.dead_letters.selection import Selection
from fanfold.ledgers.protocol import Finish, Ledger, Plan
from fanfold.model import DeadLetter, Failure, Task, TaskSpec

_CHUNK: Final = 500
_TASKS: Final = 10
_FAILURE: Final = Failure(type="TimeoutError", message="no answer", traceback="in roof_type\n" * 20)


async def fill(app: Fanfold, letters: int) -> None:
    """Let every task of a fan-out for every ten letters die, and put the letters into the dead letter queue."""
    dead = (await app.broker()).dead_letter_queue()
    ledger, _ = await app._ledger_and_producer()  # noqa: SLF001 - a bench may look inside
    for first in range(0, letters, _CHUNK):
        tasks = [_task(number) for number in range(first, min(first + _CHUNK, letters))]
        await _die(ledger, tasks)
        results = await dead.send([letter_message(_letter(task)) for task in tasks])
        if errors := [result.error for result in results if result.error is not None]:
            raise SystemExit(f"a letter was refused: {errors[0]}")


async def _die(ledger: Ledger, tasks: list[Task]) -> None:
    for one in tasks[::_TASKS]:
        names = [TaskSpec(f"t{number}") for number in range(_TASKS)]
        plan = Plan(fan_out_id=str(one.fan_out_id), entity_id=one.entity_id, event_id=None, metadata={}, tasks=names)
        await ledger.open(plan)
    ends = [
        Finish(fan_out_id=str(t.fan_out_id), task_name=t.task_name, attempt=None, failure=_FAILURE, dead=True)
        for t in tasks
    ]
    await ledger.finish(ends)


def _task(number: int) -> Task:
    fan_out = number // _TASKS
    return Task(
        entity_id=f"doc-{fan_out}",
        task_name=f"t{number % _TASKS}",
        metadata={"tenant": f"tenant-{fan_out % 7}"},
        fan_out_id=f"{fan_out:032x}",
    )


def _letter(task: Task) -> DeadLetter:
    sent = codec.encode(task)
    return DeadLetter(
        message_id="",
        receipt_handle="",
        body=sent.body,
        receive_count=1,
        reason=str(_FAILURE),
        error_type=_FAILURE.type,
        traceback=_FAILURE.traceback,
        attempts=5,
        group_id=sent.group_id,
        source_message_id=f"{task.entity_id}-{task.task_name}",
        attributes=sent.attributes,
    )


async def measure(queue_url: str, ledger: str | None, letters: int, server: int | None = None) -> None:
    """Print seconds and rates; `server` is the process whose CPU is told, too."""
    async with Fanfold(queue_url, ledger=ledger) as app:
        await fill(app, letters)
        chosen = Selection(metadata={"tenant": "tenant-3"})
        await _timed("listed", lambda: _found(app), server)
        await _timed("one tenant of seven sent back", lambda: _sent(app, chosen), server)
        await _timed("the rest sent back", lambda: _sent(app, Selection()), server)


async def _found(app: Fanfold) -> int:
    return len((await app.dead_letters.find_async()).letters)


async def _sent(app: Fanfold, chosen: Selection) -> int:
    tally = await app.dead_letters.redrive_async(chosen)
    if tally.failed or tally.errors:
        raise SystemExit(f"not all was sent back: {tally}")
    return tally.done


async def _timed(what: str, work: Callable[[], Awaitable[int]], server: int | None) -> None:
    started, cpu, theirs = time.perf_counter(), time.process_time(), _cpu(server)
    count = await work()
    took, used = time.perf_counter() - started, time.process_time() - cpu
    served = f", {_cpu(server) - theirs:.2f} s of the server's" if server is not None else ""
    print(f"{what}: {count:,} in {took:.2f} s ({count / took:,.0f}/s), {used:.2f} s of this process's CPU{served}")


def _cpu(process: int | None) -> float:
    """Seconds of CPU that another process has used, as Linux counts them."""
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(folder: str) -> Iterator[tuple[str, int]]:
    """`fanfold serve` on a fresh file in a process of its own; yields the URL of a queue on it, and the process."""
    command = [sys.executable, "-m", "fanfold", "serve", f"{folder}/served.db", "--json", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
    try:
        said: dict[str, Any] = json.loads(process.stdout.readline() if process.stdout else "")
        yield _created(said["url"]), process.pid
    finally:
        process.terminate()
        process.wait()


def _created(endpoint: str) -> str:
    import boto3  # noqa: PLC0415 - only where queues are created

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "bench")
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")
    sqs = boto3.client("sqs", endpoint_url=endpoint)
    dlq = sqs.create_queue(QueueName="bench-dlq.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dlq, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 100})
    created = sqs.create_queue(QueueName="bench.fifo", Attributes={"FifoQueue": "true", "RedrivePolicy": policy})
    return created["QueueUrl"]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=10_000)
    parser.add_argument("--serve", action="store_true", help="over `fanfold serve`, with the ledger in a file")
    parser.add_argument("--queue-url", help="an SQS FIFO queue with an empty dead letter queue; default: a new file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = f"sqlite:///{Path(folder) / 'ledger.db'}"
        if options.serve:
            with served(folder) as (url, server):
                asyncio.run(measure(url, ledger, options.letters, server))
        elif options.queue_url:
            asyncio.run(measure(options.queue_url, ledger, options.letters))
        else:
            asyncio.run(measure(f"sqlite:///{folder}/tasks.db", None, options.letters))


if __name__ == "__main__":
    main()
