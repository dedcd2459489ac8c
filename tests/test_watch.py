"""Noticing other processes' commits: asked for, and told of."""

from __future__ import annotations

import sqlite3
import sys
import threading
from contextlib import closing

import pytest

from fanfold import watch as module
from fanfold.database import Database
from fanfold.engine.doorbell import Doorbell
from fanfold.watch import Watch

tells = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of writes")
HOUR = 3600


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.db"


@pytest.fixture
def database(path):
    database = Database(path, synchronous="NORMAL")
    database.open()
    yield database
    database.close()


@pytest.fixture
def another(database):
    """A connection such as another process has."""
    with closing(sqlite3.connect(database.path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE notes (text)")
        yield connection


@pytest.fixture
def watch(database, another):  # noqa: ARG001 - whose table it needs
    with closing(database.watch()) as watch:
        yield watch


@pytest.fixture
def mute(monkeypatch):
    """As where each user has all the watches that he may have."""

    def refuse():
        raise OSError(24, "too many")

    monkeypatch.setattr(module, "INotify", refuse)


def write(connection):
    connection.execute("INSERT INTO notes VALUES ('something')")


def test_a_commit_is_seen_once(watch, another):
    assert not watch.changed()
    write(another)
    assert watch.changed()
    assert not watch.changed()


@tells
def test_writes_are_told_of_once_each_time(watch, another):
    assert not watch.stirred(0)
    write(another)
    write(another)
    assert watch.stirred(HOUR)
    assert not watch.stirred(0)
    write(another)
    assert watch.stirred(HOUR)


@tells
def test_a_file_behind_a_link_is_watched_too(path, another):
    link = path.with_name("link.db")
    link.symlink_to(path)
    with closing(Watch(sqlite3.connect(link), link)) as watch:
        write(another)
        assert watch.stirred(HOUR)


@tells
def test_whoever_waits_for_writes_can_be_told_to_go(watch):
    gone = threading.Event()

    def wait():
        watch.stirred(HOUR)
        gone.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    watch.end()
    watch.end()
    waiting.join()
    assert gone.is_set()


@pytest.mark.usefixtures("mute")
def test_where_nobody_tells_it_can_still_be_asked(database, another):
    with closing(database.watch()) as watch:
        assert not watch.can_wait
        write(another)
        assert watch.changed()
        watch.end()


@tells
async def test_a_bell_that_sleeps_rings_at_another_processs_commit(database, another, monkeypatch):
    monkeypatch.setattr("fanfold.engine.doorbell._AWAKE", 1)
    monkeypatch.setattr("fanfold.engine.doorbell._LONGEST", HOUR)
    committing, stirred = threading.Lock(), Watch.stirred

    def told_at_the_commit(watch, seconds):
        """It would look once, a millisecond after the write, and a flush that is still under way would hide it."""
        found = stirred(watch, seconds)
        with committing:
            return found

    monkeypatch.setattr(Watch, "stirred", told_at_the_commit)
    doorbell = Doorbell(database)
    with doorbell.listen("tasks.fifo") as bell:
        for _ in range(3):
            await bell.wait(lambda: False)
            doorbell.found_nothing(bell, bell.seen, None)
            with committing:
                write(another)
    doorbell.close()


@tells
async def test_a_bell_that_sleeps_can_be_closed(database, monkeypatch):
    monkeypatch.setattr("fanfold.engine.doorbell._AWAKE", 0)
    monkeypatch.setattr("fanfold.engine.doorbell._LONGEST", HOUR)
    asleep = threading.Event()
    stirred = Watch.stirred

    def tells_of_sleep(watch, seconds):
        if seconds:
            asleep.set()
        return stirred(watch, seconds)

    monkeypatch.setattr(Watch, "stirred", tells_of_sleep)
    doorbell = Doorbell(database)
    with doorbell.listen("tasks.fifo"):
        asleep.wait()
        doorbell.close()
    assert doorbell._thread is None


@pytest.mark.usefixtures("mute")
async def test_where_nobody_tells_a_bell_rings_all_the_same(database, another):
    doorbell = Doorbell(database)
    with doorbell.listen("tasks.fifo") as bell:
        for _ in range(3):
            await bell.wait(lambda: False)
            doorbell.found_nothing(bell, bell.seen, None)
            write(another)
    doorbell.close()
