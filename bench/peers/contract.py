"""What every peer's script has in common: its command line, its clock, and the JSON that it prints.

    python boto3_tens.py enqueue --tasks 5040 --url http://127.0.0.1:4566/000000000000/tasks.fifo
    python boto3_tens.py drain --tasks 5040 --url ...

Standard library only, since each script runs in its library's own environment. `Job.begin` starts the clock, once
what a process does once is done (imports, connections, tables); `Job.done` counts a task in its handler; the clock
stops with the last one's. CPU and memory are those of the process and its children until everything is settled.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

FAN_OUT = 42
"""Tasks of one event."""


class Job:
    """One round of one peer: how many tasks, where, and when it began and ended."""

    def __init__(self, tasks: int, url: str, mode: str) -> None:
        self.tasks = tasks
        self.url = url
        self.mode = mode
        self.prefix = f"{time.time_ns():x}"
        """In every entity's name, so that no round repeats another one's ids."""
        self._began = self._cpu = 0.0
        self._ended = 0.0
        self._count = itertools.count(1)
        self._last, self._tell = os.pipe()

    @property
    def endpoint(self) -> str:
        """The queue's URL without its path."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self.url.rpartition("/")[2]

    def entities(self) -> list[tuple[str, str]]:
        """Entity and task name of each task: events of 42 tasks."""
        return [(f"{self.prefix}-{number // FAN_OUT}", f"t{number % FAN_OUT}") for number in range(self.tasks)]

    def begin(self) -> None:
        """Start the clock."""
        self._began, self._cpu = time.perf_counter(), _cpu()

    def end(self) -> None:
        """Stop the clock, where no handler does."""
        self._ended = time.perf_counter()

    def done(self) -> None:
        """Count one task that has run, from any thread, or from one child process; the last one stops the clock."""
        if next(self._count) == self.tasks:
            os.write(self._tell, f"{time.perf_counter()}\n".encode())

    def wait(self) -> None:
        """Return when the last task has run."""
        self._ended = float(os.read(self._last, 100))

    async def wait_async(self) -> None:
        """The same on an event loop, with no thread that waits."""
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._last, told.set)
        await told.wait()
        loop.remove_reader(self._last)
        self.wait()

    def measured(self, settings: str, packages: Sequence[str]) -> dict[str, object]:
        """What is printed."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024 if self.mode == "prefork" else 0.0
        return {
            "seconds": self._ended - self._began,
            "cpu_seconds": _cpu() - self._cpu,
            "max_rss_mib": _peak() + children,
            "settings": settings,
            "versions": {"Python": platform.python_version()} | {package: version(package) for package in packages},
        }


def _peak() -> float:
    """MiB resident at most. Not `ru_maxrss`, which begins with that of the process that started this one."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def _cpu() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


Step = Callable[[Job], str]
"""Enqueues or drains; answers the settings in words."""


def main(steps: Mapping[str, Step], packages: Sequence[str], modes: Sequence[str] = ("",)) -> None:
    """Do the step that the command line names, and print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=list(steps))
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--mode", choices=modes, default=modes[0])
    options = parser.parse_args()
    job = Job(options.tasks, options.url, options.mode)
    settings = steps[options.step](job)
    print(json.dumps(job.measured(settings, packages)), flush=True)
    sys.stdout.flush()
    os._exit(0)  # what a library's threads still wait for is not measured
