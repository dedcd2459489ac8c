"""What waiting costs `fanfold serve`: CPU and memory with thousands of idle long polls. `python bench/serve_idle.py`.

Each of so many connections asks for messages of an empty queue, waits its 20 seconds, and asks again, as consumers do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil

REQUEST = (
    b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\nContent-Length: %d\r\n\r\n%s"
)
WAIT = 20


async def poll(port: int, queue: str, begun: asyncio.Semaphore) -> None:
    """Poll one queue for ever over one connection."""
    body = json.dumps({"QueueUrl": queue, "WaitTimeSeconds": WAIT, "MaxNumberOfMessages": 10}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        writer.write(REQUEST % (len(body), body))
        begun.release()
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))


def idle(cpu: Callable[[], float], port: int, queue: str, polls: int, seconds: float) -> float:
    """Per cent of a core, with so many polls, over so many seconds from when all of them wait."""
    return asyncio.run(_idle(cpu, port, queue, polls, seconds))


async def _idle(cpu: Callable[[], float], port: int, queue: str, polls: int, seconds: float) -> float:
    begun = asyncio.Semaphore(0)
    tasks = []
    for _ in range(polls):
        tasks.append(asyncio.create_task(poll(port, queue, begun)))
        await begun.acquire()
        await asyncio.sleep(WAIT / polls)  # spread over the length of a poll, as independent consumers are
    before = cpu()
    await asyncio.sleep(seconds)
    used = cpu() - before
    for task in tasks:
        task.cancel()
    return 100 * used / seconds


def _cpu(server: psutil.Process) -> float:
    times = server.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Start a server, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polls", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fanfold", "serve", str(Path(folder) / "idle.db"), "--create", "idle.fifo"]
        command += ["--listen", "127.0.0.1:0", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
            said = json.loads(process.stdout.readline() if process.stdout else "")
            server = psutil.Process(process.pid)
            empty = server.memory_info().rss / 1e6
            cpu = idle(lambda: _cpu(server), said["port"], said["queues"][0], options.polls, options.seconds)
            memory = server.memory_info().rss / 1e6
            process.terminate()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {platform.machine()}")
    print(f"{options.polls:,} idle polls: {cpu:.1f} % of a core, {memory:.0f} MB (with none: {empty:.0f} MB)")


if __name__ == "__main__":
    main()
