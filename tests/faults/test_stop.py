"""A worker process is told to stop in the middle of work: it exits by itself, and nothing stays invisible."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import apps
import psutil
import pytest

from fanfold import ids
from fanfold.model import TaskState

KINDS = ["on_loop", "in_thread", "in_process"]
LONG = 3600
EXITS_WITHIN = 90
"""Seconds in which a process that has nothing left to do has exited on the busiest machine."""

signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])


class Busy:
    """`fanfold worker` in the middle of work: a task of each kind runs, and behind each waits the next of its group."""

    def __init__(self, folder, site):
        gate = folder / "gate"
        os.mkfifo(gate)
        os.mkfifo(site.log)
        self._gate = gate
        self._gate_open = None
        # Open for writing too, so that it doesn't end between two writers.
        self._lines = os.fdopen(os.open(site.log, os.O_RDWR))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fanfold", "worker", "apps:gated"],
            cwd=Path(__file__).parent,
            env=os.environ | site.environ | {"FAULTS_GATE": str(gate)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running = {}
        """The processes in which the tasks run, by name."""

    def wait_until_busy(self):
        for _ in KINDS:
            line = apps.parse(self._lines.readline())
            self.running[line.task_name] = line.pid

    def stop(self, number):
        """Send a signal, and return when the worker has begun to stop."""
        self.signal(number)
        while "worker.stopping" not in (line := self._process.stderr.readline()):
            assert line, "it ended without a word"

    def signal(self, number):
        if number == signal.SIGINT:  # a terminal sends it to the worker's own processes too
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def open_gate(self):
        """Let the running tasks end."""
        self._gate_open = os.open(self._gate, os.O_RDWR)

    def exit_code(self):
        return self._process.wait(EXITS_WITHIN)

    def close(self):
        self._process.kill()
        self._process.communicate()
        self._lines.close()
        if self._gate_open is not None:
            os.close(self._gate_open)


@pytest.fixture
def busy(make_site, tmp_path):
    made = []

    def make(grace):
        site = make_site(grace=grace)
        with site.producer(group_by=ids.group_per_entity) as producer:
            for kind in KINDS:
                producer.enqueue(f"doc-{kind}", [kind, "next"], event_id="1")
        made.append(Busy(tmp_path, site))
        made[-1].wait_until_busy()
        return site, made[-1]

    yield make
    for worker in made:
        worker.close()


@signals
async def test_what_runs_is_finished_and_what_waits_in_lanes_is_given_back(busy, number):
    site, worker = busy(grace=LONG)
    assert (await site.outcome())[1].messages_in_flight == 2 * len(KINDS)
    worker.stop(number)
    worker.open_gate()
    assert worker.exit_code() == 0

    fan_outs, counts, _ = await site.outcome()
    assert (counts.messages_available, counts.messages_in_flight) == (len(KINDS), 0)
    for fan_out in fan_outs:
        running, waiting = fan_out.tasks
        assert running.state is TaskState.SUCCEEDED
        assert (waiting.state, waiting.attempts) == (TaskState.PENDING, 0)


@signals
async def test_what_still_runs_when_the_grace_is_over_is_given_back(busy, number):
    site, worker = busy(grace=1)
    worker.stop(number)
    assert worker.exit_code() == 0

    fan_outs, counts, _ = await site.outcome()
    assert (counts.messages_available, counts.messages_in_flight) == (2 * len(KINDS), 0)
    assert [task.state for fan_out in fan_outs for task in fan_out.tasks] == [TaskState.RUNNING, TaskState.PENDING] * 3
    assert not psutil.pid_exists(worker.running["in_process"])


@signals
async def test_a_second_signal_stops_at_once_and_loses_nothing(busy, number):
    site, worker = busy(grace=LONG)
    worker.stop(number)
    worker.signal(number)
    assert worker.exit_code() == 0

    _, counts, _ = await site.outcome()
    assert (counts.messages_available, counts.messages_in_flight) == (2 * len(KINDS), 0)


async def test_a_second_signal_counts_although_it_comes_together_with_the_first(busy):
    _, worker = busy(grace=LONG)
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        worker.signal(number)
    assert worker.exit_code() == 0
