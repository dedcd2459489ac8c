"""Where the time of one call of `fanfold serve` goes. `PYTHONPATH=. python bench/serve_calls.py`.

1. From outside: calls of ten messages over one plain kept-alive connection, beside fauxqs, by turns.
2. From inside: the same calls in process, what of their CPU SQLite takes, for its statements and its commits, how long
   they wait for the disk, and what is done when the answer is out. Seconds of CPU, since on a busy machine those of a
   clock say what others do.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from conformance.environments import UnavailableError
from conformance.peers import PEERS, Endpoint, fanfold
from fanfold.database import Database
from fanfold.engine.service import CallContext, SqsEngine

CALLS: Final = 200
ROUNDS: Final = 5
QUEUE: Final = {"QueueName": "calls.fifo", "Attributes": {"FifoQueue": "true", "VisibilityTimeout": "600"}}
BODY: Final = '{"entity_id": "doc-123", "task_name": "yearBuilt", "task_config": {}, "metadata": {}}'
ACTIONS: Final = ("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch")
TURNS: Final = 3
"""Of the loop, in which what was deferred until the answer is carried out."""
NUMBERS: Final = count()
SPENT: Final[dict[str, float]] = {"statements": 0.0, "commits": 0.0, "waits": 0.0}
"""Seconds in SQLite: of CPU, and of waiting in commits."""

Call = Callable[[str, dict[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class Asked:
    """An endpoint, and what its calls took: seconds by action, and CPU seconds of its process."""

    endpoint: Endpoint
    connection: http.client.HTTPConnection
    url: str = ""
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu: float = 0.0

    def call(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        """Make one request."""
        headers = {
            "X-Amz-Target": f"AmazonSQS.{action}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": "AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/sqs/aws4_request, "
            "SignedHeaders=host, Signature=00",
        }
        body = json.dumps(request)
        started = time.perf_counter()
        self.connection.request("POST", "/", body, headers)
        said = self.connection.getresponse().read()
        self.seconds[action].append(time.perf_counter() - started)
        answer: dict[str, Any] = json.loads(said or b"{}")
        return answer

    @property
    def used(self) -> float:
        """CPU seconds of the server so far."""
        times = psutil.Process(self.endpoint.pid).cpu_times()
        return float(times.user + times.system)


def entries() -> list[dict[str, str]]:
    """Ten messages, each in a group of its own."""
    number = next(NUMBERS)
    return [
        {
            "Id": str(n),
            "MessageBody": BODY,
            "MessageGroupId": f"g{number}-{n}",
            "MessageDeduplicationId": f"{number}-{n}",
        }
        for n in range(10)
    ]


def handles(received: dict[str, Any]) -> list[dict[str, str]]:
    """What deletes all that was received."""
    return [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(received["Messages"])]


def a_round(call: Call, url: str) -> None:
    """Send so many tens, then receive and delete them."""
    for _ in range(CALLS):
        call("SendMessageBatch", {"QueueUrl": url, "Entries": entries()})
    for _ in range(CALLS):
        received = call("ReceiveMessage", {"QueueUrl": url, "MaxNumberOfMessages": 10})
        call("DeleteMessageBatch", {"QueueUrl": url, "Entries": handles(received)})


def from_outside() -> None:
    """Print a table: milliseconds of a call, and CPU of the server."""
    with ExitStack() as stack:
        asked = []
        for start in (fanfold, partial(fanfold, synchronous="NORMAL"), PEERS["fauxqs"]):
            try:
                endpoint = stack.enter_context(start())
            except UnavailableError as reason:
                print(f"left out: {reason}")
                continue
            asked.append(Asked(endpoint, http.client.HTTPConnection(urlsplit(endpoint.url).netloc)))
        for one in asked:
            one.url = one.call("CreateQueue", QUEUE)["QueueUrl"]
            a_round(one.call, one.url)  # warms up
            one.seconds.clear()
        for _ in range(ROUNDS):
            for one in asked:
                before = one.used
                a_round(one.call, one.url)
                one.cpu += one.used - before
    print(
        "| | send 10, ms | receive 10, ms | delete 10, ms | CPU of the server, µs a call |",
        "|---|---|---|---|---|",
        sep="\n",
    )
    for one in asked:
        medians = (f"{statistics.median(one.seconds[action]) * 1000:.2f}" for action in ACTIONS)
        print(f"| {one.endpoint.name} | {' | '.join(medians)} | {one.cpu / (3 * CALLS * ROUNDS) * 1e6:.0f} |")


class Timed(sqlite3.Connection):
    """A connection that takes the time of its statements: seconds by their kind."""

    def execute(self, statement: str, /, *arguments: Any) -> sqlite3.Cursor:
        """Execute one."""
        cpu, clock = time.process_time(), time.perf_counter()
        try:
            return super().execute(statement, *arguments)
        finally:
            cpu = time.process_time() - cpu
            SPENT["commits" if statement == "COMMIT" else "statements"] += cpu
            if statement == "COMMIT":
                SPENT["waits"] += time.perf_counter() - clock - cpu

    def executemany(self, statement: str, arguments: Any, /) -> sqlite3.Cursor:
        """Execute one for each."""
        cpu = time.process_time()
        try:
            return super().executemany(statement, arguments)
        finally:
            SPENT["statements"] += time.process_time() - cpu


class TimedDatabase(Database):
    """A file whose connections take the time."""

    def _connect(self) -> sqlite3.Connection:
        connect, sqlite3.connect = sqlite3.connect, partial(sqlite3.connect, factory=Timed)  # type: ignore[assignment]
        try:
            return super()._connect()
        finally:
            sqlite3.connect = connect


async def from_inside(synchronous: str) -> None:
    """Print a row for each action: what a call costs, and its parts."""
    with tempfile.TemporaryDirectory() as folder:
        engine = SqsEngine(TimedDatabase(Path(folder, "calls.db"), synchronous=synchronous))
        await engine.open()
        await engine.call("CreateQueue", QUEUE, CallContext("http://localhost"))
        spent: dict[str, list[float]] = {action: [0.0] * 5 for action in ACTIONS}

        async def call(action: str, **request: Any) -> dict[str, Any]:
            before = (time.process_time(), *SPENT.values())
            answer = await engine.call(action, {"QueueUrl": "calls.fifo", **request}, CallContext("http://localhost"))
            answered = (time.process_time(), *SPENT.values())
            for _ in range(TURNS):
                await asyncio.sleep(0)
            parts = [end - start for start, end in zip(before, answered, strict=True)]
            parts.append(time.process_time() - answered[0])
            spent[action] = [so_far + part for so_far, part in zip(spent[action], parts, strict=True)]
            return answer

        for _ in range(CALLS * ROUNDS):
            await call("SendMessageBatch", Entries=entries())
        for _ in range(CALLS * ROUNDS):
            await call("DeleteMessageBatch", Entries=handles(await call("ReceiveMessage", MaxNumberOfMessages=10)))
        await engine.close()
    for action in ACTIONS:
        whole, statements, commits, waits, afterwards = spent[action]
        told = (whole, statements, commits, whole - statements - commits, waits, afterwards)
        print(f"| {synchronous} | {action} | {' | '.join(f'{1e6 * one / CALLS / ROUNDS:.0f}' for one in told)} |")


def main() -> None:
    """Measure and print."""
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, SQLite {sqlite3.sqlite_version}")
    from_outside()
    print(
        "",
        "| synchronous | action | CPU, µs | statements | commit | the rest, Python | waits, µs | CPU behind it, µs |",
        "|---|---|---|---|---|---|---|---|",
        sep="\n",
    )
    for synchronous in ("FULL", "NORMAL"):
        asyncio.run(from_inside(synchronous))


if __name__ == "__main__":
    main()
