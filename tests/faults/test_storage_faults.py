"""The SQLite file fails: locked, full, read-only, damaged. Callers are told what to do, and workers live through it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from watching import Events, HeartClock

from fanfold import Fanfold, Retry, database, ids
from fanfold.errors import (
    FanOutIncompleteError,
    StorageBusyError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)
from fanfold.model import TaskState
from fanfold.testing import drain_async

LEASE = 60
NOBODY = 65534


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    """The moment after which a locked file is given up: nobody waits half a minute here."""
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.db"


@pytest.fixture
async def clock():
    return HeartClock()


@pytest.fixture
async def app(path, clock):
    async with Fanfold(f"sqlite:///{path}", clock=clock, lease=LEASE, concurrency=2) as made:
        yield made


class Lock:
    """Another program that holds the file's write lock."""

    def __init__(self, path):
        self._connection = sqlite3.connect(path, isolation_level=None)

    def take(self):
        self._connection.execute("BEGIN IMMEDIATE")

    def release(self):
        self._connection.execute("ROLLBACK")

    def close(self):
        self._connection.close()


@pytest.fixture
async def lock(app, path):
    await app.status_async()
    held = Lock(path)
    yield held
    held.close()


async def started(app):
    worker = await app.worker()
    await worker.start()
    return worker


async def only_fan_out(app):
    [summary] = await app.fan_outs_async()
    return await app.fan_out(summary.fan_out_id).get_async()


def enqueue(path):
    with Fanfold(f"sqlite:///{path}") as app:
        app.enqueue("doc-1", ["one", "two"], event_id="1")


# What a caller is told.


def test_a_file_that_is_no_database_is_named_with_the_cure(path):
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(StorageCorruptError, match=r"tasks\.db is not a sound SQLite database .*choose another file"):
        enqueue(path)


def test_a_damaged_database_is_named_with_the_cure(path):
    enqueue(path)
    sound = path.read_bytes()
    path.write_bytes(sound[:4096] + b"\xff" * (len(sound) - 4096))
    with pytest.raises(StorageCorruptError, match=r"tasks\.db is not a sound SQLite database .*restore it"):
        enqueue(path)


def test_the_file_of_a_newer_fanfold_is_let_go_of(path):
    enqueue(path)
    newer = sqlite3.connect(path)
    newer.execute("UPDATE fanfold_schema SET version = 1000")
    newer.commit()
    newer.close()
    before = set(threading.enumerate())
    with pytest.raises(StorageCorruptError, match="upgrade Fanfold"):
        enqueue(path)
    assert set(threading.enumerate()) <= before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"the folder .*missing doesn't exist; create it first"):
        enqueue(tmp_path / "missing" / "tasks.db")


def test_a_folder_in_place_of_the_file_is_named(path):
    path.mkdir()
    with pytest.raises(StorageReadOnlyError, match=r"tasks\.db can't be opened .*check that it is a file"):
        enqueue(path)


@contextmanager
def unwritable(*, file, folder):
    """A queue's file with these modes for the file (None: there is none) and its folder, in a place open to anybody."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "tasks.db"
        if file is not None:
            enqueue(path)
            for beside in Path(made).iterdir():
                beside.chmod(file)
        Path(made).chmod(folder)
        yield path
        Path(made).chmod(0o755)


@pytest.mark.parametrize(
    ("file", "folder"),
    [(None, 0o555), (0o444, 0o555), (0o444, 0o777)],
    ids=["no file in a read-only folder", "a read-only file in a read-only folder", "a read-only file"],
)
def test_what_cannot_be_written_is_named_with_the_cure(make_site, file, folder):
    with unwritable(file=file, folder=folder) as path:
        assert make_site().run(enqueue_as_nobody, path) == 0


def enqueue_as_nobody(path):
    Fanfold().enqueue("doc-1", ["one"])  # whatever is imported late is imported now, while it can be read
    if os.geteuid() == 0:  # no mode keeps root from writing
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    with pytest.raises(
        StorageReadOnlyError,
        match=r"can't be (written|opened).*(folder writable for this user|check .* its permissions)",
    ):
        enqueue(path)


def test_a_locked_file_is_named_with_the_cure_and_the_event_goes_through_later(path):
    enqueue(path)
    lock = Lock(path)
    lock.take()
    with Fanfold(f"sqlite:///{path}") as app:
        with pytest.raises(StorageBusyError, match=r"tasks\.db was locked by another program .*close what holds it"):
            app.enqueue("doc-2", ["one", "two"], event_id="1")
        lock.release()
        assert app.enqueue("doc-2", ["one", "two"], event_id="1").sent == 2
        assert app.status().messages_available == 4
    lock.close()


async def test_what_a_locked_file_kept_from_being_sent_is_named_task_by_task(app, lock):
    ledger = (await app._open()).ledger
    open_ = ledger.open

    async def open_and_lock(plan):
        states = await open_(plan)
        lock.take()
        return states

    ledger.open = open_and_lock
    with pytest.raises(FanOutIncompleteError, match=r"locked by another program.*: one, two\. Enqueue the same event"):
        await app.enqueue_async("doc-1", ["one", "two"], event_id="1")
    ledger.open = open_
    lock.release()
    assert (await app.enqueue_async("doc-1", ["one", "two"], event_id="1")).sent == 2


async def limit(app, pages=None):
    """Let the file grow by so many pages more; None: as far as it likes."""

    def set_limit(connection):
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        most = 2**31 if pages is None else count + pages
        connection.execute(f"PRAGMA max_page_count = {most}")

    await asyncio.wrap_future((await app.broker())._database.write(set_limit))


async def test_on_a_full_disk_nothing_is_half_written_and_the_event_goes_through_later(app):
    await limit(app, pages=0)
    large = [{"name": f"page-{number}", "config": {"text": "x" * 10_000}} for number in range(10)]
    with pytest.raises(StorageFullError, match=r"the disk that holds .*tasks\.db is full.* Free space and retry"):
        await app.enqueue_async("doc-1", large, event_id="1")
    assert await app.fan_outs_async() == []
    assert (await app.status_async()).messages_available == 0
    await limit(app)
    assert (await app.enqueue_async("doc-1", large, event_id="1")).sent == len(large)
    assert (await app.status_async()).messages_available == len(large)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False).returncode == 0
    )
    if not mounted:
        pytest.skip("mounting a file system takes root")
    yield place
    subprocess.run(["/bin/umount", place], check=True)


async def test_a_disk_that_is_really_full_is_named_and_used_again_once_there_is_space(small_disk):
    filler = small_disk / "filler"
    async with Fanfold(f"sqlite:///{small_disk}/tasks.db") as app:
        await app.enqueue_async("doc-0", ["one"], event_id="1")
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 2**20)
        text = {"text": "x" * 100_000}
        with pytest.raises(StorageFullError, match="Free space and retry"):
            await app.enqueue_async("doc-1", ["one"], metadata=text, event_id="1")
        filler.unlink()
        assert (await app.enqueue_async("doc-1", ["one"], metadata=text, event_id="1")).sent == 1
        assert (await app.status_async()).messages_available == 2


# What a worker lives through.


async def test_a_worker_polls_again_after_a_locked_file(path):
    async with Fanfold(f"sqlite:///{path}") as app:

        @app.task
        async def one():
            return 1

        await app.enqueue_async("doc-1", ["one"])
        events, lock = Events(app), Lock(path)
        lock.take()
        worker = await started(app)
        await events.until("poll.failed")
        lock.close()
        await events.until("task.completed")
        await worker.stop()
        assert (await only_fan_out(app)).results == {"one": 1}


async def test_an_outcome_waits_for_a_locked_file_and_is_recorded_then(app, lock, clock):
    runs = []

    @app.task
    async def one():
        runs.append(1)
        lock.take()
        return 1

    await app.enqueue_async("doc-1", ["one"])
    events = Events(app)
    worker = await started(app)
    await events.until("settle.failed")
    assert (await app.status_async()).messages_in_flight == 1
    lock.release()
    clock.advance(1)
    await worker.stop()
    assert (await only_fan_out(app)).results == {"one": 1}
    assert (await app.status_async()).messages_in_flight == 0
    assert runs == [1]


async def test_an_outcome_waits_for_space_on_a_full_disk_and_is_recorded_then(app, clock):
    result = "x" * 100_000

    @app.task
    async def one():
        await limit(app, pages=0)
        return result

    await app.enqueue_async("doc-1", ["one"])
    events = Events(app)
    worker = await started(app)
    await events.until("settle.failed")
    assert (await app.status_async()).messages_in_flight == 1
    await limit(app)
    clock.advance(1)
    await worker.stop()
    assert (await only_fan_out(app)).results == {"one": result}
    assert (await app.status_async()).messages_in_flight == 0


async def test_a_completion_that_a_locked_file_held_up_is_sent_with_the_next_delivery(app, lock):
    folds = []

    @app.task
    async def one():
        return 1

    @app.on_complete
    async def fold(fan_out):
        folds.append(fan_out.results)

    await app.enqueue_async("doc-1", ["one"])
    await lock_after_the_record(app, lock)
    events = Events(app)
    worker = await started(app)
    await events.until("settle.failed")
    lock.release()
    await worker.stop()
    assert folds == []
    assert (await app.status_async()).messages_in_flight == 1
    [fan_out] = await drain_async(app)
    assert folds == [{"one": 1}]
    assert fan_out.fold_state is TaskState.SUCCEEDED


async def test_a_message_that_a_locked_file_kept_from_being_deleted_is_not_run_again(app, lock):
    runs = []

    @app.task
    async def one():
        runs.append(1)

    await app.enqueue_async("doc-1", ["one"])
    await lock_after_the_record(app, lock)
    events = Events(app)
    worker = await started(app)
    await events.until("settle.failed")
    lock.release()
    await worker.stop()
    assert (await app.status_async()).messages_in_flight == 1
    await drain_async(app)
    assert runs == [1]
    assert (await app.status_async()).messages_in_flight == 0


async def lock_after_the_record(app, lock):
    """Take the lock right after an outcome has been recorded for the first time."""
    ledger = (await app._open()).ledger
    finish = ledger.finish

    async def finish_and_lock(finishes):
        recorded = await finish(finishes)
        lock.take()
        ledger.finish = finish
        return recorded

    ledger.finish = finish_and_lock


async def test_a_heartbeat_that_met_a_locked_file_is_made_up_for_by_the_next(app, lock, clock):
    running, finish = asyncio.Event(), asyncio.Event()

    @app.task
    async def patient(context):
        running.set()
        await finish.wait()
        return context.attempt

    await app.enqueue_async("doc-1", ["patient"])
    worker = await started(app)
    await running.wait()
    await clock.heart_sleeps()
    lock.take()
    clock.advance(LEASE / 3)
    await clock.heart_sleeps()
    lock.release()
    clock.advance(LEASE / 3)
    await clock.heart_sleeps()
    clock.advance(LEASE / 2)  # beyond the end that the lease would have had
    finish.set()
    await worker.stop()
    assert (await only_fan_out(app)).results == {"patient": 1}
    assert await (await app.broker()).ready_in() is None


async def test_a_lane_that_a_locked_file_kept_from_going_back_takes_no_slot_with_it(path, clock):
    async with Fanfold(f"sqlite:///{path}", clock=clock, concurrency=2, group_by=ids.group_per_entity) as app:
        both, met = asyncio.Barrier(2), asyncio.Event()

        @app.task
        async def first(context):
            if context.attempt == 1:
                raise Retry("not yet", delay=1)

        @app.task
        async def second():
            return None

        @app.task
        async def meeting():
            await both.wait()
            met.set()

        await app.enqueue_async("doc-1", ["first", "second"])
        lock = Lock(path)
        given_back = await lock_before_the_give_back(app, lock)
        worker = await started(app)
        await given_back.wait()
        lock.release()
        for entity in ("doc-2", "doc-3"):
            await app.enqueue_async(entity, ["meeting"])
        await met.wait()
        await worker.stop()
        lock.close()


async def lock_before_the_give_back(app, lock):
    """Take the lock when a worker is about to give messages back; answers the event of its having tried."""
    broker, tried = await app.broker(), asyncio.Event()
    extend = broker.extend

    async def lock_and_extend(deliveries, seconds):
        if any(seconds) or tried.is_set():
            return await extend(deliveries, seconds)
        lock.take()
        try:
            return await extend(deliveries, seconds)
        finally:
            tried.set()

    broker.extend = lock_and_extend
    return tried
