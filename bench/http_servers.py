"""The endpoint under its own connections (`fanfold serve`), and under two ASGI servers: uvicorn and granian.

`python bench/http_servers.py`; granian is measured where it is installed (`pip install granian`). CPU is the
server's, of all its processes, for each request of ten messages over plain kept-alive connections, and with boto3.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import boto3
import psutil

from fanfold.clock import SystemClock
from fanfold.database import Database
from fanfold.endpoint.access import Unsigned
from fanfold.endpoint.application import Application
from fanfold.endpoint.exchange import Request
from fanfold.endpoint.health import Health
from fanfold.engine.service import SqsEngine
from serve_idle import idle

QUEUE: Final = "bench.fifo"
FILE: Final = "FANFOLD_BENCH_FILE"
HEAD: Final = "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AmazonSQS.{}\r\nContent-Length: {}\r\n\r\n"


class Asgi:
    """The application as ASGI servers want it: the engine opens with the server's process and closes with it.

    It watches for no client that goes away: that would cost an ASGI application a task more for each poll.
    """

    def __init__(self, file: Path) -> None:
        self._engine = SqsEngine(Database(file))
        self._application = Application(self._engine, Unsigned(), health=Health(self._engine, SystemClock()))

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve a request, or start and stop."""
        if scope["type"] != "lifespan":
            await self._serve(scope, receive, send)
            return
        await receive()
        await self._engine.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._engine.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        head = Request(method=scope["method"], path=scope["path"], query=query, headers=headers)
        exchange = self._application.begin(head)
        more = True
        while more:
            message = await receive()
            exchange.feed(message.get("body", b""))
            more = message.get("more_body", False)
        answer = await exchange.answer()
        if answer is None:
            return
        encoded = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        encoded.append((b"x-amzn-requestid", answer.request_id.encode()))
        encoded.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        await send({"type": "http.response.body", "body": answer.body})


if FILE in os.environ:
    app = Asgi(Path(os.environ[FILE]))


@contextmanager
def own(file: Path) -> Iterator[tuple[int, int]]:
    """`fanfold serve`; yields its process id and port."""
    command = [sys.executable, "-m", "fanfold", "serve", str(file), "--listen", "127.0.0.1:0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own command
        yield process.pid, json.loads(process.stdout.readline() if process.stdout else "")["port"]
        process.terminate()


@contextmanager
def asgi(server: str, file: Path) -> Iterator[tuple[int, int]]:
    """The same application under an ASGI server with one worker; yields its process id and port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    options = {
        "uvicorn": "--http httptools --loop uvloop --no-access-log --log-level warning --no-server-header",
        "granian": "--interface asgi --workers 1 --loop uvloop --no-log --http 1 --backpressure 5000",
    }[server]
    command = [sys.executable, "-m", server, *options.split(), "--port", str(port), "http_servers:app"]
    environ = os.environ | {FILE: str(file)}
    with subprocess.Popen(command, env=environ, cwd=Path(__file__).parent) as process:  # noqa: S603 - as above
        _until_up(port)
        yield process.pid, port
        process.terminate()


def _until_up(port: int) -> None:
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health").read()
        except OSError:
            time.sleep(0.05)
        else:
            return


class Client:
    """A plain kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def call(self, action: str, **payload: Any) -> dict[str, Any]:
        """Make one request."""
        body = json.dumps({"QueueUrl": QUEUE, **payload}).encode()
        self._writer.write(HEAD.format(action, len(body)).encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        answer: dict[str, Any] = json.loads(await self._reader.readexactly(int(length.split(b":")[1])))
        return answer


def entries(prefix: str) -> list[dict[str, str]]:
    """Ten messages of ten groups."""
    return [
        {
            "Id": str(n),
            "MessageBody": "x" * 200,
            "MessageGroupId": f"{prefix}{n}",
            "MessageDeduplicationId": f"{prefix}{n}",
        }
        for n in range(10)
    ]


async def send(port: int, connections: int, requests: int) -> None:
    """Send so many tens over each connection."""

    async def one(number: int) -> None:
        client = Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**22))
        for request in range(requests):
            await client.call("SendMessageBatch", Entries=entries(f"{connections}-{number}-{request}-"))

    await asyncio.gather(*(one(number) for number in range(connections)))


async def drain(port: int, connections: int) -> int:
    """Receive and delete all there is; answers how many requests that took."""

    async def one() -> int:
        client = Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**22))
        requests = 1
        while batch := (await client.call("ReceiveMessage", MaxNumberOfMessages=10)).get("Messages"):
            handles = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(batch)]
            await client.call("DeleteMessageBatch", Entries=handles)
            requests += 2
        return requests

    return sum(await asyncio.gather(*(one() for _ in range(connections))))


def with_boto3(port: int, requests: int) -> tuple[float, float]:
    """Send and drain so many tens with boto3; answers messages a second of each."""
    client = boto3.client(
        "sqs", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", aws_access_key_id="a",
        aws_secret_access_key="b",  # noqa: S106 - nobody checks it
    )  # fmt: skip
    started = time.perf_counter()
    for request in range(requests):
        client.send_message_batch(QueueUrl=QUEUE, Entries=entries(f"boto-{request}-"))  # type: ignore[arg-type]
    sent = time.perf_counter()
    while batch := client.receive_message(QueueUrl=QUEUE, MaxNumberOfMessages=10).get("Messages"):
        handles = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(batch)]
        client.delete_message_batch(QueueUrl=QUEUE, Entries=handles)  # type: ignore[arg-type]
    done = time.perf_counter()
    client.close()
    return 10 * requests / (sent - started), 10 * requests / (done - sent)


class Meter:
    """CPU seconds and memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        process = psutil.Process(pid)
        self._all = [process, *process.children(recursive=True)]

    @property
    def cpu(self) -> float:
        """Seconds so far."""
        return sum(times.user + times.system for times in (process.cpu_times() for process in self._all))

    @property
    def memory(self) -> float:
        """Megabytes."""
        return sum(process.memory_info().rss for process in self._all) / 1e6


def measure(pid: int, port: int, options: argparse.Namespace) -> None:
    """Measure one server and print."""
    meter = Meter(pid)
    asyncio.run(_create(port))
    for connections in (1, 8):
        requests = options.requests // connections
        before, started = meter.cpu, time.perf_counter()
        asyncio.run(send(port, connections, requests))
        between, sent = meter.cpu, time.perf_counter()
        drained = asyncio.run(drain(port, connections))
        after, done = meter.cpu, time.perf_counter()
        total = requests * connections
        print(
            f"  {connections} connection(s): send {10 * total / (sent - started):>7,.0f} messages/s "
            f"({1e6 * (between - before) / total:.0f} µs CPU a request), drain {10 * total / (done - sent):>7,.0f}/s "
            f"({1e6 * (after - between) / drained:.0f} µs)"
        )
    sent_rate, drain_rate = with_boto3(port, options.requests // 2)
    print(f"  boto3: send {sent_rate:>7,.0f} messages/s, drain {drain_rate:>7,.0f}/s")
    cpu = idle(lambda: meter.cpu, port, QUEUE, options.polls, options.seconds)
    print(f"  {options.polls:,} idle polls: {cpu:.1f} % of a core; memory {meter.memory:.0f} MB")


async def _create(port: int) -> None:
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    await client.call("CreateQueue", QueueName=QUEUE, Attributes={"FifoQueue": "true"})


def main() -> None:
    """Measure each server on a fresh file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--polls", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {platform.machine()}")
    servers: dict[str, Callable[[Path], AbstractContextManager[tuple[int, int]]]] = {
        "fanfold": own,
        "uvicorn": partial(asgi, "uvicorn"),
        "granian": partial(asgi, "granian"),
    }
    for name, server in servers.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed")
            continue
        with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "bench.db") as (pid, port):
            print(f"{name} {version(name)}")
            measure(pid, port, options)


if __name__ == "__main__":
    main()
