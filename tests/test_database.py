"""The file behind queue and ledger: shared commits, isolation, processes, and what can go wrong with a file."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress

import pytest

from fanfold.database import Database, Unflushed
from fanfold.errors import (
    ConfigurationError,
    StorageBusyError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)
from fanfold.turns import Turns

NORMAL, FULL = 1, 2
"""What `PRAGMA synchronous` answers."""
TABLE = "CREATE TABLE things (name TEXT PRIMARY KEY)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.db"


@pytest.fixture
def database(path):
    database = Database(path)
    database.open()
    database.migrate("things", [TABLE])
    yield database
    database.close()


def add(name):
    return lambda connection: connection.execute("INSERT INTO things VALUES (?)", (name,)).rowcount


def names(connection):
    return [row[0] for row in connection.execute("SELECT name FROM things ORDER BY name")]


def synchronous(connection):
    return connection.execute("PRAGMA synchronous").fetchone()[0]


class Hold:
    """An operation that holds its thread until it is let go."""

    def __init__(self, database):
        self.began, self.end = threading.Event(), threading.Event()
        self.statements = []
        self.future = database.write(self)

    def __call__(self, connection):
        connection.set_trace_callback(self.statements.append)
        self.began.set()
        self.end.wait()


class TestSharedCommits:
    def test_a_write_is_answered_with_what_the_operation_returns(self, database):
        assert database.write(add("a")).result() == 1
        assert database.read(names).result() == ["a"]

    def test_what_waits_goes_into_one_transaction(self, database):
        hold = Hold(database)
        hold.began.wait()
        waiting = [database.write(add(str(i))) for i in range(10)]
        hold.end.set()
        assert [future.result() for future in waiting] == [1] * 10
        assert hold.statements.count("COMMIT") == 2

    def test_an_operation_that_fails_takes_no_other_with_it(self, database):
        hold = Hold(database)
        hold.began.wait()
        waiting = [database.write(add(name)) for name in ("a", "b", "a", "c")]
        hold.end.set()
        assert isinstance(waiting[2].exception(), StorageError)
        assert [waiting[i].result() for i in (0, 1, 3)] == [1, 1, 1]
        assert database.read(names).result() == ["a", "b", "c"]

    def test_a_bad_statement_takes_no_other_with_it(self, database):
        hold = Hold(database)
        hold.began.wait()
        good = database.write(add("a"))
        bad = database.write(lambda connection: connection.execute("SELECT * FROM nothing"))
        hold.end.set()
        assert good.result() == 1
        assert isinstance(bad.exception(), StorageError)

    def test_an_operation_that_fails_leaves_nothing_behind(self, database):
        def half(connection):
            add("a")(connection)
            raise ValueError("stop")

        with pytest.raises(ValueError, match="stop"):
            database.write(half).result()
        assert database.read(names).result() == []

    def test_an_operation_cancelled_before_its_turn_does_not_run(self, database):
        hold = Hold(database)
        hold.began.wait()
        cancelled = database.write(add("a"))
        assert cancelled.cancel()
        hold.end.set()
        database.write(add("b")).result()
        assert database.read(names).result() == ["b"]

    @pytest.mark.parametrize(
        ("configured", "operations", "level"),
        [
            ("FULL", [synchronous], FULL),
            ("FULL", [Unflushed(synchronous)], NORMAL),
            ("FULL", [Unflushed(synchronous), Unflushed(synchronous)], NORMAL),
            ("FULL", [Unflushed(synchronous), synchronous], FULL),
            ("NORMAL", [synchronous, Unflushed(synchronous)], NORMAL),
        ],
    )
    def test_a_commit_is_flushed_where_one_of_its_operations_needs_that(self, path, configured, operations, level):
        database = Database(path, synchronous=configured)
        with database.opening():
            hold = Hold(database)
            hold.began.wait()
            waiting = [database.write(operation) for operation in operations]
            hold.end.set()
            assert [future.result() for future in waiting] == [level] * len(operations)
            assert database.write(synchronous).result() == (FULL if configured == "FULL" else NORMAL)
        database.close()

    def test_who_expects_a_commit_of_a_kind_changes_nothing_of_the_next_one(self, database):
        for operation, level in ((synchronous, FULL), (Unflushed(synchronous), NORMAL)):
            for flushes in (True, False):
                database.expect(flushes=flushes)
                assert database.write(operation).result() == level

    def test_a_read_sees_one_moment_however_long_it_takes(self, database):
        began, go_on = threading.Event(), threading.Event()

        def twice(connection):
            before = names(connection)
            began.set()
            go_on.wait()
            return before, names(connection)

        reading = database.read(twice)
        began.wait()
        database.write(add("a")).result()
        go_on.set()
        assert reading.result() == ([], [])

    def test_a_watch_notices_commits_once(self, database):
        watch = database.watch()
        assert not watch.changed()
        database.write(add("a")).result()
        assert watch.changed()
        assert not watch.changed()
        watch.close()


class TestLife:
    def test_each_open_needs_its_close(self, path):
        database = Database(path)
        database.open()
        database.open()
        database.close()
        assert database.read(lambda connection: connection.execute("SELECT 1").fetchone()).result() == (1,)
        database.close()
        with pytest.raises(StorageError, match="was closed"):
            database.read(names).result()

    def test_what_was_taken_on_is_done_before_the_end(self, path):
        database = Database(path)
        database.open()
        database.migrate("things", [TABLE])
        hold = Hold(database)
        hold.began.wait()
        last = database.write(add("a"))
        closing = threading.Thread(target=database.close)
        closing.start()
        hold.end.set()
        closing.join()
        assert last.result() == 1

    def test_whatever_is_handed_in_around_the_end_is_answered(self, path):
        database = Database(path)
        database.open()
        database.migrate("things", [TABLE])
        futures = []
        ready = threading.Barrier(2)

        def write():
            ready.wait()
            futures.extend(database.write(add(str(i))) for i in range(500))

        writer = threading.Thread(target=write)
        writer.start()
        ready.wait()
        database.close()
        writer.join()
        assert all(future.exception(timeout=60) is None or future.exception() for future in futures)

    def test_it_can_be_opened_again(self, path):
        database = Database(path)
        for name in "ab":
            database.open()
            database.migrate("things", [TABLE])
            database.write(add(name)).result()
            database.close()
        database.open()
        assert database.read(names).result() == ["a", "b"]
        database.close()

    def test_it_is_refused_after_a_fork(self, path):
        script = """
import os, sys
from pathlib import Path
from fanfold.database import Database, Unflushed
from fanfold.errors import ConfigurationError
database = Database(Path(sys.argv[1]))
database.open()
child = os.fork()
if child == 0:
    try:
        database.write(lambda connection: None)
    except ConfigurationError as error:
        os._exit(7 if "after the fork" in str(error) else 1)
    os._exit(0)
_, status = os.waitpid(child, 0)
database.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""
        assert subprocess.run([sys.executable, "-c", script, path], check=False).returncode == 7

    def test_the_error_after_a_fork_is_one_of_configuration(self, database, monkeypatch):
        monkeypatch.setattr("os.getpid", lambda: -1)
        with pytest.raises(ConfigurationError, match="don't survive one"):
            database.read(names)


class TestMigrations:
    def test_each_script_runs_once(self, database):
        database.migrate("things", [TABLE, "ALTER TABLE things ADD COLUMN size INTEGER"])
        database.migrate("things", [TABLE, "ALTER TABLE things ADD COLUMN size INTEGER"])
        columns = database.read(lambda c: [row[1] for row in c.execute("PRAGMA table_info(things)")]).result()
        assert columns == ["name", "size"]

    def test_a_script_that_fails_changes_nothing(self, database):
        with pytest.raises(StorageError):
            database.migrate("others", ["CREATE TABLE others (name TEXT); CREATE TABLE things (name TEXT);\n"])
        tables = database.read(lambda c: c.execute("SELECT name FROM sqlite_schema WHERE name = 'others'").fetchall())
        assert tables.result() == []

    def test_a_file_of_a_newer_version_is_refused(self, database):
        database.migrate("others", ["CREATE TABLE others (name TEXT)", "CREATE TABLE more (name TEXT)"])
        with pytest.raises(StorageCorruptError, match="version 2, this Fanfold knows 1; upgrade"):
            database.migrate("others", ["CREATE TABLE others (name TEXT)"])

    def test_processes_may_do_it_at_once(self, path):
        script = """
import sys
from pathlib import Path
from fanfold.database import Database, Unflushed
database = Database(Path(sys.argv[1]))
database.open()
database.migrate("things", ["CREATE TABLE things (name TEXT PRIMARY KEY)"] * 1)
database.close()
"""
        processes = [subprocess.Popen([sys.executable, "-c", script, path]) for _ in range(3)]
        assert [process.wait() for process in processes] == [0, 0, 0]


class TestTroubleWithTheFile:
    def test_a_folder_that_is_missing_is_named(self, tmp_path):
        with pytest.raises(StorageError, match="create it first"):
            Database(tmp_path / "nowhere" / "file.db").open()

    def test_a_folder_in_its_place_is_no_file(self, path):
        path.mkdir()
        with pytest.raises(StorageReadOnlyError, match="can't be opened"):
            Database(path).open()

    def test_something_else_in_its_place_is_no_database(self, path):
        path.write_bytes(b"This is no database. " * 100)
        with pytest.raises(StorageCorruptError, match="not a sound SQLite database"):
            Database(path).open()

    def test_an_open_that_failed_can_be_tried_again(self, path):
        path.write_bytes(b"This is no database. " * 100)
        database = Database(path)
        with pytest.raises(StorageCorruptError):
            database.open()
        path.unlink()
        database.open()
        database.close()

    def test_a_full_disk_keeps_nothing_and_may_be_tried_again(self, database):
        def fill(connection):
            connection.execute("PRAGMA max_page_count = 10")
            connection.executemany("INSERT INTO things VALUES (?)", [(f"{i:1000}",) for i in range(100)])

        with pytest.raises(StorageFullError, match="nothing was half-written") as caught:
            database.write(fill).result()
        assert caught.value.transient
        assert database.read(names).result() == []
        assert database.write(add("small")).result() == 1

    def test_a_full_disk_is_the_error_of_all_that_shared_the_commit(self, database):
        def fill(connection):
            connection.execute("PRAGMA max_page_count = 10")
            connection.executemany("INSERT INTO things VALUES (?)", [(f"{i:1000}",) for i in range(100)])

        hold = Hold(database)
        hold.began.wait()
        waiting = [database.write(add("a")), database.write(fill)]
        hold.end.set()
        assert [type(future.exception()) for future in waiting] == [StorageFullError, StorageFullError]

    def test_a_file_that_can_not_be_written_is_an_error_of_its_own(self, database):
        def write_nothing(connection):
            connection.execute("PRAGMA query_only = ON")
            add("a")(connection)

        with pytest.raises(StorageReadOnlyError, match="writable"):
            database.write(write_nothing).result()

    def test_a_file_that_another_program_holds_is_busy(self, database, path):
        database.write(lambda connection: connection.execute("PRAGMA busy_timeout = 0").fetchone()).result()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageBusyError, match="locked by another program") as caught:
            database.write(add("a")).result()
        assert caught.value.transient
        other.execute("ROLLBACK")
        other.close()
        assert database.write(add("a")).result() == 1

    def test_a_turn_that_can_not_be_had_is_the_writes_error(self, database, monkeypatch):
        def refuse(*_):
            raise OSError("no locks left")

        monkeypatch.setattr("fcntl.lockf", refuse)
        with pytest.raises(OSError, match="no locks left"):
            database.write(add("a")).result()
        monkeypatch.undo()
        assert database.write(add("a")).result() == 1


class TestTurns:
    def test_a_killed_holder_lets_go(self, tmp_path):
        path = tmp_path / "turn"
        script = """
import sys
from pathlib import Path
from fanfold.turns import Turns
turns = Turns(Path(sys.argv[1]))
turns.open()
with turns:
    print("held", flush=True)
    sys.stdin.read()
"""
        with subprocess.Popen(
            [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout.readline() == b"held\n"
            turns = Turns(path)
            turns.open()
            got = threading.Event()

            def take():
                with turns:
                    got.set()

            waiter = threading.Thread(target=take)
            waiter.start()
            assert not got.is_set()
            holder.send_signal(signal.SIGKILL)
            waiter.join()
        assert got.is_set()
        turns.close()

    def test_a_folder_that_can_not_be_written_is_named(self, tmp_path):
        with pytest.raises(StorageReadOnlyError, match="can't be written"):
            Turns(tmp_path).open()

    def test_closing_twice_is_fine(self, tmp_path):
        turns = Turns(tmp_path / "turn")
        turns.open()
        turns.close()
        turns.close()


OTHER = """
import fcntl, sqlite3, sys
turn, connection = open(sys.argv[1] + "-turn", "r+"), sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
for _ in sys.stdin:
    fcntl.lockf(turn, fcntl.LOCK_EX)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")
    fcntl.lockf(turn, fcntl.LOCK_UN)
    print("written", flush=True)
"""


class Interruption:
    """Raises KeyboardInterrupt as a signal's handler does, at one of the steps of our code at which Python asks for it.

    These are the begin of a function, and the end of a call of C.
    """

    def __init__(self, step):
        self.where = None
        self._step = step

    def __enter__(self):
        sys.setprofile(self._profile)

    def __exit__(self, *_):
        sys.setprofile(None)

    def _profile(self, frame, event, _):
        code = frame.f_code
        ours = code.co_filename.endswith(("/database.py", "/connection_thread.py", "/turns.py"))
        if ours and not code.co_flags & inspect.CO_GENERATOR and event in ("call", "c_return"):
            self._step -= 1
            if not self._step:
                sys.setprofile(None)
                self.where = code.co_name
                raise KeyboardInterrupt


class TestInterrupts:
    @pytest.fixture
    def loop(self):
        with closing(asyncio.new_event_loop()) as loop:
            yield loop

    @pytest.fixture
    def other(self, database):
        with subprocess.Popen(
            [sys.executable, "-c", OTHER, str(database.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            yield process
            process.stdin.close()

    @pytest.mark.parametrize("kinds", [(lambda o: o, Unflushed), (Unflushed, lambda o: o)])
    def test_wherever_one_lands_the_file_can_be_used_and_accepted_writes_are_flushed(
        self, database, other, loop, kinds
    ):
        landed = []
        before, during = (kind(synchronous) for kind in kinds)

        def at_once(operation):
            future = loop.create_future()
            return database.write_at_once([(operation, future)]) and future.result()

        for step in itertools.count(1):
            until(lambda: at_once(before))
            interruption = Interruption(step)
            with suppress(KeyboardInterrupt), interruption:
                at_once(during)
            if interruption.where is None:
                break
            landed.append(interruption.where)
            other.stdin.write(b"\n")
            other.stdin.flush()
            assert other.stdout.readline() == b"written\n"
            assert until(lambda: at_once(synchronous)) == FULL
            database.write(Unflushed(synchronous)).result()
            assert database.write(synchronous).result() == FULL
        assert {"at_once", "_write_unless_busy", "_make_ready", "_let_flush", "_transact", "pass_on"} <= set(landed)


def until(attempt):
    """What an attempt answers as soon as nobody is in its way."""
    while not (found := attempt()):
        pass
    return found


def test_openers_of_one_process_come_to_a_new_file_at_the_same_moment(tmp_path):
    failures = []

    def use(path, together):
        database = Database(path)
        together.wait()
        try:
            database.open()
            database.close()
        except StorageError as error:
            failures.append(error)

    for number in range(100):  # about one round in ten failed
        together = threading.Barrier(4)
        threads = [threading.Thread(target=use, args=(tmp_path / f"{number}.db", together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
