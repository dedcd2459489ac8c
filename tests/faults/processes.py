"""Real processes that work on one queue and ledger and can be killed at any point."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import sqlite3
import threading
from contextlib import closing

import apps

from fanfold import Fanfold
from fanfold.model import FOLD_NAME
from fanfold.runner import run_worker
from fanfold.testing import drain

KILLED = -signal.SIGKILL

# Processes are forked from a server that has imported already what the tests' modules import, so that one costs
# milliseconds: hundreds are started, and pytest and Hypothesis alone would take each a fifth of a second.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["fanfold.runner", "fanfold.testing", "hypothesis.stateful", "pytest"])

barrier = _processes.Barrier


class Site:
    """Where a test's processes meet: a queue, a ledger and a log in a folder.

    `settings` are what `FANFOLD_*` says to each of them.
    """

    def __init__(self, folder, **settings):
        self.url = f"sqlite:///{folder}/tasks.db"
        self.log = folder / "runs.log"
        self._ledger = settings.get("ledger")
        self._path = folder / "tasks.db"
        named = {f"FANFOLD_{name.upper()}": str(value) for name, value in settings.items()}
        self.environ = {"FANFOLD_QUEUE_URL": self.url, "FAULTS_LOG": str(self.log)} | named
        self._started = []

    def start(self, function, *arguments):
        """Run `function` in a process of its own."""
        process = _processes.Process(target=_run, args=(self.environ, function, *arguments))
        process.start()
        self._started.append(process)
        return process

    def run(self, function, *arguments):
        """Run `function` in a process of its own, to its end; answers the exit code."""
        process = self.start(function, *arguments)
        process.join()
        return process.exitcode

    def worker(self, name="app"):
        """Start a worker of one of the `apps`."""
        return self.start(_work, name)

    def doomed_worker(self, runs, seconds, name="app"):
        """The same, but it is killed so many seconds after it has started so many runs."""
        return self.start(_work_until_doom, name, runs, seconds)

    def drain(self, name="app"):
        """Let workers of one of the `apps` work until the queue is empty: the next one, where a task kills its own."""
        while (exitcode := self.run(_drain, name)) == KILLED:
            pass
        assert exitcode == 0

    def producer(self, **options):
        """An application without tasks of its own."""
        return Fanfold(self.url, ledger=self._ledger, **options)

    async def outcome(self):
        """All fan-outs with their tasks, the queue's counts, and the dead letters."""
        async with self.producer() as app:
            summaries = await app.fan_outs_async(limit=10_000)
            fan_outs = [await app.fan_out(summary.fan_out_id).get_async() for summary in reversed(summaries)]
            return fan_outs, await app.status_async(), await (await app.broker()).dead_letters(10_000)

    def runs(self, what="start"):
        """The attempts that were started (or ended) of each task, in order: `{(entity, task): [1, 2, …]}`."""
        found = {}
        for line in apps.lines(self.log):
            if line.what == what:
                found.setdefault((line.entity_id, line.task_name), []).append(line.attempt)
        return found

    def fold_attempts(self):
        """How many attempts of each fold the ledger has counted, by entity."""
        with closing(sqlite3.connect(self._path)) as connection:
            found = connection.execute(
                "SELECT f.entity_id, t.attempts FROM tasks AS t JOIN fan_outs AS f ON f.number = t.fan_out "
                "WHERE t.task_name = ?",
                (FOLD_NAME,),
            )
            return dict(found)

    def end(self):
        """Kill what a failed test left behind."""
        for process in self._started:
            process.kill()
            process.join()
            process.close()


def _run(environ, function, *arguments):
    os.environ.update(environ)
    logging.disable()
    function(*arguments)


def _work(name):
    run_worker(getattr(apps, name))


def _work_until_doom(name, runs, seconds):
    started = itertools.count(1)

    def count(event):
        if event.name == "task.started" and next(started) == runs:
            threading.Timer(seconds, apps.die).start()

    getattr(apps, name).subscribe(count)
    _work(name)


def _drain(name):
    drain(getattr(apps, name))
