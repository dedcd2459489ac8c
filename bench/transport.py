"""What one request of ten costs the client, in CPU: boto3 in threads, and the lean transport.

`.venv-3.11/bin/python bench/transport.py`. Against answers out of a can in another process, so that only the client
counts; all threads of this process are counted. Rounds are interleaved, and their medians shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import IO, Any, Final, cast

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from canned import COUNT
from fanfold.brokers.boto import BotoTransport, make_client
from fanfold.brokers.lean import LeanTransport
from fanfold.brokers.sqs import Transport

ROUNDS: Final = 7
AT_ONCE: Final = 4
"""Requests under way at once."""
_LIBRARIES: Final = ("boto3", "botocore", "httptools", "msgspec", "uvloop")
_BODY: Final = json.dumps({"entity_id": "doc-123", "task_name": "yearBuilt", "task_config": {}, "metadata": {"a": 1}})
_ATTRIBUTES: Final = {
    "entity_id": {"DataType": "String", "StringValue": "doc-123"},
    "task_name": {"DataType": "String", "StringValue": "yearBuilt"},
}


@contextmanager
def canned() -> Iterator[str]:
    """The URL of a queue whose answers come out of a can, in another process."""
    program = [sys.executable, str(Path(__file__).with_name("canned.py"))]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own
        port = int(cast("IO[bytes]", process.stdout).readline())
        yield f"http://127.0.0.1:{port}/123456789012/tasks.fifo"


def requests(queue_url: str) -> dict[str, dict[str, Any]]:
    """A request of each kind, by its action."""
    sent = {
        "MessageBody": _BODY.ljust(250),
        "MessageGroupId": "doc-123-yearBuilt",
        "MessageDeduplicationId": "doc-123-yearBuilt-" + "f" * 26,
        "MessageAttributes": _ATTRIBUTES,
    }
    return {
        "SendMessageBatch": {"QueueUrl": queue_url, "Entries": [{"Id": str(i), **sent} for i in range(COUNT)]},
        "ReceiveMessage": {
            "QueueUrl": queue_url,
            "MaxNumberOfMessages": COUNT,
            "WaitTimeSeconds": 20,
            "VisibilityTimeout": 60,
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            "ReceiveRequestAttemptId": "a" * 32,
        },
        "DeleteMessageBatch": {
            "QueueUrl": queue_url,
            "Entries": [{"Id": str(i), "ReceiptHandle": "A" * 180} for i in range(COUNT)],
        },
    }


async def cost(transport: Transport, action: str, payload: Mapping[str, Any], count: int) -> float:
    """Microseconds of CPU for each of `count` requests."""

    async def several(number: int) -> None:
        for _ in range(number):
            await transport.call(action, payload)

    await several(20)
    before = time.process_time()
    await asyncio.gather(*(several(count // AT_ONCE) for _ in range(AT_ONCE)))
    return (time.process_time() - before) / count * 1e6


async def round_of(make: Callable[[], Transport], count: int, queue_url: str) -> list[float]:
    """One round: the cost of each action."""
    transport = make()
    try:
        return [await cost(transport, action, payload, count) for action, payload in requests(queue_url).items()]
    finally:
        await asyncio.to_thread(transport.close)


def measure(queue_url: str) -> dict[str, list[float]]:
    """Medians by transport, for each action."""
    client = make_client(queue_url, region="eu-west-1")
    kinds: dict[str, tuple[Callable[[], Transport], int, Callable[[], asyncio.AbstractEventLoop] | None]] = {
        "boto3 in threads": (lambda: BotoTransport(client), 400, None),
        "lean": (lambda: LeanTransport(queue_url, region="eu-west-1"), 4_000, None),
        "lean on uvloop": (lambda: LeanTransport(queue_url, region="eu-west-1"), 4_000, uvloop.new_event_loop),
    }
    costs: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for _ in progress.track(range(ROUNDS)):
            for kind, (make, count, loop_factory) in kinds.items():
                with asyncio.Runner(loop_factory=loop_factory) as runner:
                    costs[kind].append(runner.run(round_of(make, count, queue_url)))
    client.close()
    return {kind: [median(column) for column in zip(*rounds, strict=True)] for kind, rounds in costs.items()}


def main() -> None:
    """Measure and print."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "NO_PROXY": "127.0.0.1"}
    console = Console(soft_wrap=True)
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {platform.machine()}, "
        f"{', '.join(f'{name} {version(name)}' for name in _LIBRARIES)}; {AT_ONCE} requests of {COUNT} at once"
    )
    with canned() as queue_url:
        costs = measure(queue_url)
    table = Table("CPU µs a request", "send", "receive", "delete", title=f"medians of {ROUNDS} rounds; x the lean one")
    for kind, of in costs.items():
        ratios = zip(of, costs["lean"], strict=True)
        table.add_row(kind, *(f"{mine:,.0f} ({mine / lean:.1f}x)" for mine, lean in ratios))
    console.print(table)


if __name__ == "__main__":
    main()
