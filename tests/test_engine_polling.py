"""Who is woken, and who isn't: long polls over a queue in memory."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest

from fanfold.database import Database
from fanfold.engine.doorbell import Doorbell
from fanfold.engine.polling import LongPolls, Look, Source

QUEUE, OTHER = "queue", "other"


class Shelf:
    """A queue to poll that counts who looks. `later` is when something will be there."""

    def __init__(self, polls, clock, queue=QUEUE):
        self.polls = polls
        self.clock = clock
        self.queue = queue
        self.things = []
        self.later = None
        self.looks = 0
        self.receives = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.looking = asyncio.Event()

    async def receive(self):
        self.receives += 1
        return Look(found=[self.things.pop(0)] if self.things else [], ready_at=self.ready())

    async def ready_at(self):
        self.looks += 1
        self.looking.set()
        await self.gate.wait()
        return self.ready()

    def ready(self):
        return self.clock.now() if self.things else self.later

    def poll(self, wait=20.0, **more):
        source = Source(queue=self.queue, receive=self.receive, ready_at=self.ready_at, **more)
        return asyncio.create_task(self.polls.receive(source, wait))


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "tasks.db", synchronous="NORMAL")
    database.open()
    yield database
    database.close()


@pytest.fixture
def doorbell(database, monkeypatch):
    monkeypatch.setattr("fanfold.engine.doorbell._TICK", 3600)
    doorbell = Doorbell(database)
    yield doorbell
    doorbell.close()


@pytest.fixture
def polls(doorbell, clock):
    return LongPolls(doorbell, clock)


@pytest.fixture
def shelf(polls, clock):
    return Shelf(polls, clock)


async def settled():
    """Return when everybody has done what there is to do now: nothing here waits for a thread."""
    for _ in range(50):
        await asyncio.sleep(0)


class TestWaking:
    async def test_a_ring_wakes_one_of_many(self, shelf, doorbell):
        polling = [shelf.poll() for _ in range(1000)]
        await settled()
        shelf.things.append("a")
        doorbell.ring(QUEUE)
        await settled()
        assert [poll.result() for poll in polling if poll.done()] == [["a"]]
        assert shelf.looks == 2  # the one that found it, and one to see that there is no more
        shelf.polls.end()
        await asyncio.gather(*polling)

    async def test_as_many_are_woken_as_there_are_messages(self, shelf, doorbell):
        polling = [shelf.poll() for _ in range(10)]
        await settled()
        shelf.things += "abc"
        doorbell.ring(QUEUE, 3)
        await settled()
        assert sorted(poll.result() for poll in polling if poll.done()) == [["a"], ["b"], ["c"]]
        shelf.polls.end()
        await asyncio.gather(*polling)

    async def test_whoever_finds_something_wakes_the_next(self, shelf, doorbell):
        polling = [shelf.poll() for _ in range(4)]
        await settled()
        shelf.things += "abc"
        doorbell.ring(QUEUE)
        await settled()
        assert sorted(poll.result() for poll in polling if poll.done()) == [["a"], ["b"], ["c"]]
        shelf.polls.end()
        await asyncio.gather(*polling)

    async def test_another_queues_ring_wakes_nobody(self, shelf, polls, clock, doorbell):
        other = Shelf(polls, clock, OTHER)
        polling = [shelf.poll(), other.poll()]
        await settled()
        doorbell.ring(OTHER)
        await settled()
        assert (shelf.looks, other.looks) == (0, 1)
        polls.end()
        assert await asyncio.gather(*polling) == [[], []]

    async def test_a_ring_that_finds_nothing_ends_there(self, shelf, doorbell):
        polling = [shelf.poll() for _ in range(10)]
        await settled()
        doorbell.ring(QUEUE)
        await settled()
        assert shelf.looks == 1
        shelf.polls.end()
        await asyncio.gather(*polling)

    async def test_everybody_can_be_rung_again_and_again(self, shelf, doorbell):
        polling = [shelf.poll() for _ in range(3)]
        await settled()
        for looks in (3, 6, 9):
            doorbell.ring(QUEUE, 3)
            await settled()
            assert shelf.looks == looks
        shelf.polls.end()
        await asyncio.gather(*polling)


class TestNoRingIsLost:
    async def test_a_waiter_cancelled_after_its_ring_passes_it_on(self, shelf, doorbell):
        first, second = shelf.poll(), shelf.poll()
        await settled()
        shelf.things.append("a")
        doorbell.ring(QUEUE)
        first.cancel()
        assert await second == ["a"]

    async def test_a_waiter_cancelled_during_its_look_passes_the_ring_on(self, shelf, doorbell):
        first, second = shelf.poll(), shelf.poll()
        await settled()
        shelf.gate.clear()
        doorbell.ring(QUEUE)
        await shelf.looking.wait()
        shelf.things.append("a")
        shelf.gate.set()
        first.cancel()
        assert await second == ["a"]

    async def test_a_ring_during_the_only_waiters_look_makes_it_look_again(self, shelf, doorbell):
        polling = shelf.poll()
        await settled()
        shelf.gate.clear()
        ready, shelf.ready = shelf.ready, lambda: None  # its look sees what was there before the change
        doorbell.ring(QUEUE)
        await shelf.looking.wait()
        doorbell.ring(QUEUE)
        shelf.gate.set()
        await settled()
        assert shelf.looks == 2
        shelf.ready = ready
        shelf.things.append("a")
        doorbell.ring(QUEUE)
        assert await polling == ["a"]

    async def test_a_waiter_that_fails_at_its_look_passes_the_ring_on(self, shelf, doorbell):
        first, second = shelf.poll(), shelf.poll()
        await settled()
        real, shelf.ready = shelf.ready, lambda: 1 / 0
        shelf.gate.clear()
        doorbell.ring(QUEUE)
        await shelf.looking.wait()
        shelf.things.append("a")
        shelf.gate.set()
        with pytest.raises(ZeroDivisionError):
            await first
        shelf.ready = real
        assert await second == ["a"]

    async def test_a_waiter_whose_loop_has_ended_is_passed_over(self, shelf, doorbell):
        polling = None

        async def listen_and_end():
            doorbell.listen(QUEUE).__enter__()

        await asyncio.to_thread(lambda: asyncio.run(listen_and_end()))
        polling = shelf.poll()
        await settled()
        shelf.things.append("a")
        doorbell.ring(QUEUE)
        assert await polling == ["a"]

    async def test_nothing_is_left_behind_among_rings_from_threads_and_cancelled_waiters(self, shelf, doorbell):
        found = []
        all_found = asyncio.Event()

        def produce(first):
            for number in range(first, first + 200):
                shelf.things.append(number)
                doorbell.ring(QUEUE)

        async def consume(*, patient):
            while not all_found.is_set():
                polling = shelf.poll()
                if not patient:
                    await asyncio.sleep(0)
                    polling.cancel()
                got = (await asyncio.gather(polling, return_exceptions=True))[0]
                found.extend(got if isinstance(got, list) else [])
                if len(found) == 600:
                    all_found.set()
                    shelf.polls.end()

        consumers = [asyncio.create_task(consume(patient=number % 3 > 0)) for number in range(9)]
        producers = [asyncio.to_thread(produce, first) for first in (0, 200, 400)]
        await asyncio.gather(*producers, *consumers)
        assert sorted(found) == list(range(600))
        assert doorbell._lines == {}


class TestTheNextLeasesEnd:
    async def test_one_of_many_minds_it(self, shelf, clock):
        shelf.later = clock.now() + 5
        polling = [shelf.poll() for _ in range(100)]
        await settled()
        assert clock.sleepers == 101
        clock.advance(5)
        shelf.things.append("a")
        await settled()
        assert [poll.result() for poll in polling if poll.done()] == [["a"]]
        shelf.polls.end()
        await asyncio.gather(*polling)

    async def test_where_the_one_that_minds_it_goes_away_another_does(self, shelf, clock):
        shelf.later = clock.now() + 5
        first, second = shelf.poll(), shelf.poll()
        await settled()
        first.cancel()
        await settled()
        clock.advance(5)
        shelf.things.append("a")
        assert await second == ["a"]

    async def test_an_earlier_end_is_minded_as_soon_as_it_is_known(self, shelf, clock, doorbell):
        shelf.later = clock.now() + 10
        polling = [shelf.poll(), shelf.poll()]
        await settled()
        shelf.later = clock.now() + 3
        doorbell.ring(QUEUE)
        await settled()
        clock.advance(3)
        shelf.things.append("a")
        await settled()
        assert [poll.result() for poll in polling if poll.done()] == [["a"]]
        shelf.polls.end()
        await asyncio.gather(*polling)


class TestQuiet:
    """What one waiter has seen, its neighbours need not look for."""

    @pytest.fixture(autouse=True)
    async def _waiting(self, shelf, doorbell):
        doorbell._blind = False  # the thread that looks for other processes' commits has begun
        shelf.later = shelf.clock.now() + 5
        waiting = shelf.poll(1000)
        await settled()
        assert shelf.receives == 1
        yield
        shelf.polls.end()
        await waiting

    async def test_a_newcomer_doesnt_look_where_nothing_has_rung(self, shelf):
        polling = [shelf.poll(3) for _ in range(10)]
        await settled()
        shelf.clock.advance(3)
        assert await asyncio.gather(*polling) == [[]] * 10
        assert (shelf.receives, shelf.looks) == (1, 0)

    async def test_it_is_woken_all_the_same(self, shelf, doorbell):
        shelf.polls.end()
        polling = shelf.poll()
        await settled()
        shelf.things.append("a")
        doorbell.ring(QUEUE)
        assert await polling == ["a"]

    async def test_it_looks_after_a_ring(self, shelf, doorbell):
        doorbell.ring(QUEUE)
        shelf.things.append("a")
        assert await shelf.poll() == ["a"]

    async def test_it_looks_when_the_next_leases_end_has_passed(self, shelf):
        shelf.clock._now += 5  # and nobody has been woken yet
        polling = shelf.poll()
        await settled()
        assert shelf.receives == 2
        polling.cancel()

    async def test_it_looks_when_its_wait_ends_after_a_ring_that_nobody_has_answered(self, shelf, doorbell):
        polling = shelf.poll(3)
        await settled()
        shelf.gate.clear()
        doorbell.ring(QUEUE)  # the other one's look is held up
        await settled()
        shelf.things.append("a")
        shelf.clock.advance(3)
        assert await polling == ["a"]
        shelf.gate.set()

    async def test_it_looks_where_it_asks_for_something_particular(self, shelf):
        polling = shelf.poll(particular=True)
        await settled()
        assert shelf.receives == 2
        polling.cancel()

    async def test_it_looks_where_the_queue_says_how_long_to_wait(self, shelf):
        assert await shelf.poll(None) == []
        assert shelf.receives == 2

    async def test_it_looks_while_nobody_can_see_other_processes_commits(self, shelf, doorbell):
        doorbell._blind = True
        polling = shelf.poll()
        await settled()
        assert shelf.receives == 2
        polling.cancel()

    async def test_a_look_that_began_before_a_ring_makes_nothing_quiet(self, shelf, doorbell):
        with doorbell.listen(QUEUE) as bell:
            assert doorbell.quiet(bell, shelf.clock.now())
            seen = bell.seen
            doorbell.ring(QUEUE)
            doorbell.found_nothing(bell, seen, None)
            assert not doorbell.quiet(bell, shelf.clock.now())
            doorbell.found_nothing(bell, bell.seen, None)
            assert doorbell.quiet(bell, shelf.clock.now())


class Failing:
    """A watch that fails as often as it is told to, and says when somebody looked."""

    can_wait = False

    def __init__(self, watch, failures):
        self.watch = watch
        self.failures = failures
        self.closed = False

    def changed(self):
        if self.failures:
            self.failures -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return self.watch.changed()

    def end(self):
        self.watch.end()

    def close(self):
        self.closed = True
        self.watch.close()


class TestOtherProcesses:
    """Where nobody tells of their writes; `test_watch.py` has the rest."""

    @pytest.fixture(autouse=True)
    def _often(self, doorbell, monkeypatch):
        assert doorbell  # made first: it sets the tick to never
        monkeypatch.setattr("fanfold.engine.doorbell._TICK", 0.001)
        monkeypatch.setattr("fanfold.watch.INotify", None)

    async def test_it_looks_less_often_where_nothing_happens_and_as_often_again_after_a_change(
        self, doorbell, shelf, database, monkeypatch
    ):
        pauses = []
        lazy, eager = threading.Event(), threading.Event()
        wait = doorbell._closed.wait

        def waited(seconds):
            pauses.append(seconds)
            if seconds > 0.001:
                lazy.set()
            elif lazy.is_set():
                eager.set()
            return wait(seconds)

        monkeypatch.setattr("fanfold.engine.doorbell._PATIENCE", 3)
        monkeypatch.setattr(doorbell._closed, "wait", waited)
        polling = shelf.poll()
        await asyncio.to_thread(lazy.wait)
        assert max(pauses) == 0.0025
        database.write(lambda c: c.execute("CREATE TABLE change (x)")).result()
        await asyncio.to_thread(eager.wait)
        shelf.things.append("a")
        doorbell.ring(shelf.queue, 1)
        assert await polling == ["a"]

    async def test_a_look_that_fails_is_tried_again_and_polls_go_on(self, shelf, database, monkeypatch):
        opened = []
        looked = threading.Event()
        watch = database.watch

        def open_watch():
            if len(opened) == 1:
                opened.append(None)
                raise sqlite3.OperationalError("unable to open database file")
            opened.append(Failing(watch(), failures=1 if not opened else 0))
            if len(opened) == 3:
                looked.set()
            return opened[-1]

        monkeypatch.setattr(database, "watch", open_watch)
        polling = shelf.poll()
        await asyncio.to_thread(looked.wait)
        assert opened[0].closed
        shelf.things.append("a")
        database.write(lambda c: c.execute("CREATE TABLE change (x)")).result()
        assert await polling == ["a"]

    async def test_a_look_that_works_again_rings_for_what_it_missed(self, shelf, database, monkeypatch):
        watches = []
        failed = threading.Event()
        watch = database.watch

        def open_watch():
            if watches:
                failed.wait()
            watches.append(Failing(watch(), failures=0 if watches else 1))
            return watches[-1]

        monkeypatch.setattr(database, "watch", open_watch)
        polling = shelf.poll()
        shelf.things.append("a")
        failed.set()
        assert await polling == ["a"]
