"""A queue, a ledger and a log in a folder, and real processes that work on them and can be killed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import secrets
import signal
import sqlite3
import sys
from contextlib import closing

import apps
import pytest

from fanfold import Fanfold
from fanfold.model import FOLD_NAME
from fanfold.runner import run_worker
from fanfold.testing import drain

KILLED = -signal.SIGKILL

# Processes are forked from a server that has imported Fanfold already, so that one costs milliseconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["fanfold.runner", "fanfold.testing"])


class Site:
    """Where a test's processes meet. `settings` are what `FANFOLD_*` says to each of them."""

    def __init__(self, folder, **settings):
        self.url = f"sqlite:///{folder}/tasks.db"
        self.log = folder / "runs.log"
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

    def drain(self, name="app"):
        """Let workers of one of the `apps` work until the queue is empty: the next one, where a task kills its own."""
        while (exitcode := self.run(_drain, name)) == KILLED:
            pass
        assert exitcode == 0

    def producer(self, **options):
        """An application without tasks of its own."""
        return Fanfold(self.url, **options)

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
            return dict(
                connection.execute(
                    "SELECT f.entity_id, t.attempts FROM tasks AS t JOIN fan_outs AS f ON f.number = t.fan_out "
                    "WHERE t.task_name = ?",
                    (FOLD_NAME,),
                )
            )

    def end(self):
        """Kill what a failed test left behind."""
        for process in self._started:
            process.kill()
            process.join()
            process.close()


@pytest.fixture
def make_site(tmp_path):
    made = []

    def make(**settings):
        made.append(Site(tmp_path, **settings))
        return made[-1]

    yield make
    for site in made:
        site.end()


@pytest.fixture
def rng():
    seed = secrets.randbits(32)
    sys.stdout.write(f"seed of this run's random choices: {seed}\n")  # pytest shows it where the test fails
    return random.Random(seed)


def _run(environ, function, *arguments):
    os.environ.update(environ)
    logging.disable()
    function(*arguments)


def _work(name):
    run_worker(getattr(apps, name))


def _drain(name):
    drain(getattr(apps, name))
