"""Writes of an event loop: at once where nobody is in the way, and by the writer's thread elsewhere."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import closing

import pytest

from fanfold.database import Database
from fanfold.engine.commits import Commits


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path / "tasks.db", synchronous="NORMAL")
    opened.open()
    opened.write(lambda c: c.execute("CREATE TABLE notes (text TEXT UNIQUE)")).result()
    yield opened
    opened.close()


def note(text):
    """Notes a text; answers the thread that did."""

    def write(connection):
        connection.execute("INSERT INTO notes VALUES (?)", (text,))
        return threading.current_thread().name

    return write


def noted(database):
    """What is committed, as another connection sees it."""
    connection = sqlite3.connect(database.path)
    try:
        return sorted(text for (text,) in connection.execute("SELECT text FROM notes"))
    finally:
        connection.close()


HERE = threading.current_thread().name
WRITER = "fanfold-writer"


class Recorder:
    """A database that counts commits, refuses those at once where told to, and takes its time."""

    def __init__(self, *, at_once=True, seconds=0.0):
        self.groups, self.written, self.now = [], 0, 0.0
        self._at_once, self._seconds = at_once, seconds

    def write_at_once(self, jobs):
        self.groups.append(len(jobs))
        self.now += self._seconds
        for operation, future in jobs if self._at_once else ():
            future.set_result(operation(None))
        return self._at_once

    def write(self, operation):
        self.written += 1
        future = Future()
        future.set_result(operation(None))
        return future


class TestCommits:
    async def test_a_lone_write_is_committed_in_its_own_thread_before_it_answers(self, database):
        assert await Commits(database).write(note("a")) == HERE
        assert noted(database) == ["a"]

    async def test_what_comes_in_one_turn_of_the_loop_is_one_commit(self):
        recorder = Recorder()
        commits = Commits(recorder)
        assert await asyncio.gather(*(commits.write(lambda _, n=n: n) for n in range(5))) == [0, 1, 2, 3, 4]
        assert (recorder.groups, recorder.written) == ([5], 0)

    async def test_while_the_writer_is_busy_it_has_what_comes_too(self, database):
        begun, holding = threading.Event(), threading.Event()
        held = database.write(lambda _: begun.set() or holding.wait(60))
        await asyncio.to_thread(begun.wait, 60)
        writing = asyncio.create_task(Commits(database).write(note("a")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not writing.done()
        holding.set()
        assert await writing == WRITER
        assert held.result() is True

    async def test_where_another_program_holds_the_file_the_loop_goes_on(self, database):
        other = sqlite3.connect(database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(Commits(database).write(note("a")))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not writing.done()
        other.execute("ROLLBACK")
        other.close()
        assert await writing == WRITER

    async def test_one_that_fails_takes_none_of_the_others_with_it(self, database):
        commits = Commits(database)
        await commits.write(note("a"))
        results = await asyncio.gather(*(commits.write(note(text)) for text in ("b", "a", "c")), return_exceptions=True)
        assert [isinstance(result, Exception) for result in results] == [False, True, False]
        assert noted(database) == ["a", "b", "c"]

    async def test_after_the_file_was_closed_the_error_says_so(self, database):
        closed = Database(database.path)
        with pytest.raises(Exception, match="was closed"):
            await Commits(closed).write(note("a"))

    async def test_a_slow_disk_is_the_threads_for_a_while(self):
        recorder = Recorder(seconds=0.2)
        commits = Commits(recorder, timer=lambda: recorder.now)
        for _ in range(66):
            await commits.write(lambda _: None)
        assert (len(recorder.groups), recorder.written) == (2, 64)

    async def test_what_was_cancelled_before_its_commit_is_not_done(self):
        recorder = Recorder()
        writing = asyncio.create_task(Commits(recorder).write(lambda _: 1))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await asyncio.sleep(0)
        assert (recorder.groups, recorder.written) == ([], 0)

    @pytest.mark.parametrize("at_once", [True, False])
    async def test_a_result_whose_caller_has_gone_is_told(self, at_once):
        left, recorder = [], Recorder(at_once=at_once)
        writing = asyncio.create_task(Commits(recorder).write(lambda _: "found", left.append))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the commit is made, and its caller not yet awake
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert left == (["found"] if at_once else [])
        assert (len(recorder.groups), recorder.written) == (1, 0)


def test_an_interrupt_within_a_commit_leaves_nobody_waiting():
    class Interrupted:
        def write_at_once(self, jobs):  # noqa: ARG002 - a database asks for them
            raise KeyboardInterrupt

    commits, asked = Commits(Interrupted()), []

    async def ask():
        asked.append(asyncio.create_task(commits.write(lambda _: 1)))
        return await asked[0]

    with closing(asyncio.new_event_loop()) as loop:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(ask())
        loop.run_until_complete(asyncio.wait([*asyncio.all_tasks(loop), *asked]))
    assert asked[0].cancelled()


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(database):
    """Another process that has the turn until its input ends."""
    command = [sys.executable, "-c", HOLDER, f"{database.path}-turn"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process


async def test_where_another_process_has_the_turn_the_loop_goes_on(database, holder):
    writing = asyncio.create_task(Commits(database).write(note("a")))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not writing.done()
    holder.stdin.close()
    assert await writing == WRITER
