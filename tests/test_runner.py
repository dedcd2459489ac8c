from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from commands import environment
from fanfold import Fanfold, runner
from fanfold.errors import ConfigurationError, StorageError
from fanfold.model import TaskState
from fanfold.runner import run_worker

LONG = 3600
EXITS_WITHIN = 90
"""Seconds in which a process that has nothing left to do has exited on the busiest machine."""

signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture
def asked(url):
    """The queue's counts and the fan-outs' tasks, as another process sees them afterwards."""

    def ask():
        with Fanfold(url) as app:
            counts = app.status()
            tasks = [task for found in app.fan_outs() for task in app.fan_out(found.fan_out_id).get().tasks]
            return counts.messages_available, counts.messages_in_flight, {t.task_name: t for t in tasks}

    return ask


def on(app, name, *numbers):
    """Send this process signals when the application's parts say something for the first time."""
    left = list(numbers)

    def hear(event):
        if event.name == name:
            while left:
                signal.raise_signal(left.pop(0))

    app.subscribe(hear)


def endless(app, name="endless"):
    @app.task(name)
    async def never_ends():
        await asyncio.Event().wait()


# Signals.


@signals
def test_at_the_first_signal_what_runs_is_finished_and_the_call_returns(url, asked, number):
    app = Fanfold(url, grace=LONG)

    @app.task
    async def one():
        signal.raise_signal(number)
        await asyncio.sleep(0)
        return "done all the same"

    app.enqueue("doc-1", ["one"])
    run_worker(app)
    available, in_flight, tasks = asked()
    assert (available, in_flight) == (0, 0)
    assert tasks["one"].result == "done all the same"


@signals
def test_a_second_signal_ends_what_runs_at_once_and_gives_it_back(url, asked, number):
    app = Fanfold(url, grace=LONG)
    endless(app)
    on(app, "task.started", number)
    on(app, "worker.stopping", number)
    app.enqueue("doc-1", ["endless"])
    run_worker(app)
    assert asked()[:2] == (1, 0)


def test_both_signals_in_one_moment_are_two(url, asked):
    app = Fanfold(url, grace=LONG)
    endless(app)
    on(app, "task.started", signal.SIGTERM, signal.SIGINT)
    app.enqueue("doc-1", ["endless"])
    run_worker(app)
    assert asked()[:2] == (1, 0)


def test_a_third_signal_changes_nothing(url, asked):
    app = Fanfold(url, grace=LONG)
    endless(app)
    on(app, "task.started", *[signal.SIGTERM] * 3)
    on(app, "worker.stopping", signal.SIGTERM)
    app.enqueue("doc-1", ["endless"])
    run_worker(app)
    assert asked()[:2] == (1, 0)


def test_a_signal_before_the_first_message_stops_an_idle_worker(url):
    app = Fanfold(url, grace=LONG)
    endless(app)
    on(app, "worker.started", signal.SIGTERM)
    run_worker(app)


def test_when_the_grace_is_over_what_runs_is_given_back(url, asked):
    app = Fanfold(url, grace=0)
    endless(app)
    on(app, "task.started", signal.SIGTERM)
    app.enqueue("doc-1", ["endless"])
    run_worker(app)
    available, in_flight, tasks = asked()
    assert (available, in_flight) == (1, 0)
    assert tasks["endless"].state is TaskState.RUNNING  # as the ledger knows it; its next attempt is a new claim


def test_afterwards_signals_mean_again_what_they_meant(url):
    app = Fanfold(url)
    endless(app)
    on(app, "worker.started", signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    run_worker(app)
    assert signal.getsignal(signal.SIGTERM) == before


async def test_the_second_signal_is_heeded_although_nobody_was_told_what_it_hurries(monkeypatch):
    handlers = {}
    monkeypatch.setattr(
        asyncio.get_running_loop(), "add_signal_handler", lambda number, handler: handlers.update({number: handler})
    )
    hurried = []
    heard = runner.Signals()
    assert set(handlers) == {signal.SIGTERM, signal.SIGINT}
    handlers[signal.SIGTERM]()
    assert heard.first.is_set()
    heard.on_second(lambda: hurried.append("one signal only"))
    assert hurried == []
    handlers[signal.SIGINT]()
    assert hurried == ["one signal only"]
    heard.on_second(lambda: hurried.append("both had come"))
    assert hurried == ["one signal only", "both had come"]


# What can't start, and what can't be closed.


def test_an_application_without_tasks_doesnt_start(url):
    with pytest.raises(ConfigurationError, match="declares no task"):
        run_worker(Fanfold(url))


def test_a_queue_that_cant_be_opened_is_its_error_and_not_waited_for(tmp_path):
    app = Fanfold(f"sqlite:///{tmp_path}/nowhere/tasks.db")
    endless(app)
    with pytest.raises(StorageError, match="nowhere"):
        run_worker(app)


def test_a_closing_that_never_ends_doesnt_hold_up_the_end(url, monkeypatch):
    app = Fanfold(url)
    endless(app)
    on(app, "worker.started", signal.SIGTERM)
    close, tried = app.close_async, []

    async def never_closes():
        tried.append(True)
        try:
            await asyncio.Event().wait()
        finally:
            await close()

    monkeypatch.setattr(app, "close_async", never_closes)
    monkeypatch.setattr(runner, "LAST_MOMENTS", 0)
    run_worker(app)
    assert tried


def test_a_closing_that_fails_is_said(url, monkeypatch):
    app = Fanfold(url)
    endless(app)
    on(app, "worker.started", signal.SIGTERM)
    close = app.close_async

    async def closes_and_fails():
        await close()
        raise StorageError("not all of it was written")

    monkeypatch.setattr(app, "close_async", closes_and_fails)
    with pytest.raises(StorageError, match="not all of it"):
        run_worker(app)


# What outlives the worker: a process of its own, since its end is the process's.


OUTLIVING = """
import asyncio, threading
from fanfold import Fanfold
from fanfold.runner import run_worker

app = Fanfold({url!r}, grace=0)

def say_so():
    print("running", flush=True)

@app.subscribe
def hear(event):
    if event.name == "task.completed":
        print(event.name, flush=True)
    if event.name == "worker.stopped":
        print("a last word that waits in its buffer")

@app.task
def in_thread():
    say_so()
    threading.Event().wait()

@app.task
async def swallows_its_end():
    say_so()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

@app.task
async def leaves_something_behind():
    async def behind():
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass
    app.left = asyncio.create_task(behind())
    await asyncio.sleep(0)
    say_so()

@app.task
async def leaves_a_thread_behind():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    say_so()

run_worker(app)
"""


@pytest.mark.parametrize(
    ("name", "back"),
    [
        ("in_thread", 1),
        ("swallows_its_end", 1),
        ("leaves_something_behind", 0),
        ("leaves_a_thread_behind", 0),
    ],
)
def test_what_cant_be_ended_doesnt_keep_the_process_and_its_message_is_free(url, asked, tmp_path, name, back):
    with Fanfold(url) as producer:
        producer.enqueue("doc-1", [name])
    worker = subprocess.Popen(
        [sys.executable, "-c", OUTLIVING.format(url=url)],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        try:
            assert worker.stdout.readline() == "running\n"
            if not back:
                assert worker.stdout.readline() == "task.completed\n"
            worker.send_signal(signal.SIGTERM)
            said, _ = worker.communicate(timeout=EXITS_WITHIN)
        finally:
            worker.kill()
    assert worker.returncode == 0
    assert said == "a last word that waits in its buffer\n"
    assert asked()[:2] == (back, 0)
