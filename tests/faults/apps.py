"""Applications whose runs can be counted even when their worker is killed in the middle of one.

Each start and end of a run is one line in the file that `FAULTS_LOG` names, written with one append: a process killed
at any point leaves whole lines only. The file may be a FIFO, and then a test waits for the lines by reading them.
Queue, lease and attempts come from `FANFOLD_*`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from fanfold import Backoff, Fanfold, Reject, Retry, ids

FOLD = "fold"
DELAY = 0.05
"""Seconds until a retry."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log: what a run did (`start` or `end`), of what, as which attempt, and in which process."""

    what: str
    entity_id: str
    task_name: str
    attempt: int
    pid: int


def note(what: str, entity_id: str, task_name: str, attempt: int) -> None:
    """Append one line, whole or not at all."""
    file = os.open(os.environ["FAULTS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, f"{what} {entity_id} {task_name} {attempt} {os.getpid()}\n".encode())
    finally:
        os.close(file)


def parse(line: str) -> Line:
    """A line as it was written."""
    what, entity_id, task_name, attempt, pid = line.split()
    return Line(what, entity_id, task_name, int(attempt), int(pid))


def lines(path: Path) -> list[Line]:
    """All lines of a log, in the order in which they were written."""
    return [parse(line) for line in path.read_text().splitlines()] if path.exists() else []


def die() -> None:
    """End this process as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def work(text: str) -> str:
    """A few milliseconds of real work outside the interpreter's lock."""
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"salt", 20_000).hex()


def counted(app: Fanfold) -> Fanfold:
    """Declare tasks of every kind of ending on `app`, and a completion: all of them count their runs."""

    @app.task("steady")
    async def steady(entity_id, context):
        note("start", entity_id, "steady", context.attempt)
        note("end", entity_id, "steady", context.attempt)
        return context.attempt

    @app.task("threaded")
    def threaded(entity_id, context):
        note("start", entity_id, "threaded", context.attempt)
        work(entity_id)
        note("end", entity_id, "threaded", context.attempt)
        return context.attempt

    @app.task("flaky", backoff=Backoff(base=DELAY))
    async def flaky(entity_id, context):
        note("start", entity_id, "flaky", context.attempt)
        if context.attempt == 1:
            raise ConnectionError("the first call never gets through")
        note("end", entity_id, "flaky", context.attempt)
        return context.attempt

    @app.task("retrying")
    def retrying(entity_id, context):
        note("start", entity_id, "retrying", context.attempt)
        work(entity_id)
        if context.attempt == 1:
            raise Retry("not yet", delay=DELAY)
        note("end", entity_id, "retrying", context.attempt)
        return context.attempt

    @app.task("hopeless")
    async def hopeless(entity_id, context):
        note("start", entity_id, "hopeless", context.attempt)
        raise Reject("this entity has none")

    @app.on_complete(max_attempts=10_000)
    def fold(fan_out, context):
        note("start", fan_out.entity_id, FOLD, context.attempt)
        work(fan_out.entity_id)
        note("end", fan_out.entity_id, FOLD, context.attempt)

    return app


app = counted(Fanfold())
"""Every kind of ending."""

deadly = counted(Fanfold())
"""The same, with a task that takes its worker with it."""


@deadly.task("deadly")
def kills_its_worker(entity_id, context):
    note("start", entity_id, "deadly", context.attempt)
    die()


gated = Fanfold(group_by=ids.group_per_entity)
"""Tasks of every kind that end when the test opens the FIFO that `FAULTS_GATE` names for writing, and `next` ones."""


def wait_at_the_gate() -> None:
    """Return when the test opens the gate."""
    os.close(os.open(os.environ["FAULTS_GATE"], os.O_RDONLY))


@gated.task("on_loop")
async def gated_on_loop(entity_id):
    note("start", entity_id, "on_loop", 1)
    await asyncio.to_thread(wait_at_the_gate)


@gated.task("in_thread")
def gated_in_thread(entity_id):
    note("start", entity_id, "in_thread", 1)
    wait_at_the_gate()


@gated.task("in_process", process=True)
def gated_in_process(entity_id):
    note("start", entity_id, "in_process", 1)
    wait_at_the_gate()


@gated.task("next")
async def next_of_its_group(entity_id):
    note("start", entity_id, "next", 1)
