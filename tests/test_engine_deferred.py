"""Changes that are carried out after their answer: nobody sees the queues without them, whatever happens between."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing

import msgspec
import pytest

from fanfold.brokers.sqlite import SqliteBroker
from fanfold.database import Database
from fanfold.engine import deferred, leases, queues, receiving, sending
from fanfold.engine.deferred import Later
from fanfold.engine.receiving import Receive
from fanfold.engine.sending import NewMessage
from fanfold.errors import StorageCorruptError
from fanfold.model import QueueStatus
from sqs_api import Api

QUEUE = "tasks.fifo"
LEASE = 60_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queues.db"


@pytest.fixture
async def api(path, monkeypatch):
    """Its commits take no time: on a busy machine they seem slow, and the loop leaves them to the writer's thread."""
    async with Api(path) as api:
        monkeypatch.setattr(api.engine._desk.commits, "_timer", lambda: 0.0)
        await api.create(QUEUE)
        yield api


@pytest.fixture
def database(api):
    """The file, as another process has it open."""
    other = Database(api.path)
    other.open()
    yield other
    other.close()


def deferred_count(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM deferred").fetchone()[0]


class Elsewhere:
    """A process that decides changes, is answered, and dies before it carries them out."""

    def __init__(self, database, clock):
        self._database, self._clock = database, clock

    def send(self, *bodies):
        messages = [NewMessage(body=b, message_id=b, group_id=b, deduplication_id=b) for b in bodies]
        self._leave(lambda c, write: sending.send(c, queues.load(c, QUEUE), messages, self._now(), write))

    def receive(self):
        request = Receive(limit=1, lease=LEASE, now=self._now())
        taken = self._leave(
            lambda c, write: receiving.receive(c, queues.load(c, QUEUE), request, lambda: "receipt", write)
        )
        return [str(message.handle) for message in taken]

    def delete(self, *handles):
        return self._leave(lambda c, write: leases.delete(c, queues.load(c, QUEUE), handles, self._now(), write))

    def _leave(self, decide):
        def change(connection):
            later = Later()
            decided = decide(connection, later)
            later.defer(connection)
            return decided

        return self._database.write(deferred.settled(change)).result()

    def _now(self):
        return int(self._clock.now() * 1000)


@pytest.fixture
def elsewhere(api, database):
    return Elsewhere(database, api.clock)


class TestStatements:
    @pytest.fixture
    def connection(self):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.executescript("".join(queues.SCHEMA))
            yield connection

    def test_run_in_the_order_in_which_they_came_and_are_forgotten(self, connection):
        stock = connection.execute("INSERT INTO stocks DEFAULT VALUES").lastrowid
        for messages in (1, 2):
            later = Later()
            later("count", [(messages, 0, stock), (0, messages, stock)])
            later.defer(connection)
        assert deferred.is_any(connection)
        for _ in range(2):
            deferred.carry_out(connection)
            assert not deferred.is_any(connection)
            assert connection.execute("SELECT message_count, held_count FROM stocks").fetchall() == [(3, 3)]

    def test_of_a_change_that_has_none_leave_nothing(self, connection):
        Later().defer(connection)
        assert not deferred.is_any(connection)

    def test_that_are_large_are_run_at_once(self, connection):
        later = Later()
        body = "x" * 100_000
        later("add", [(1, 1, "m", "g", "d", body, "{}", None, 0, 0, 0)])
        later.defer(connection)
        assert not deferred.is_any(connection)
        assert connection.execute("SELECT body FROM messages").fetchall() == [(body,)]

    def test_that_an_earlier_fanfold_has_left_in_a_file_are_still_understood(self, connection):
        """If this fails, a statement that files may hold has changed: let the old one be run too, by its old name."""
        now, stock = 1_700_000_000_000, connection.execute("INSERT INTO stocks DEFAULT VALUES").lastrowid
        rows = [
            [seq, stock, f"m{seq}", group, f"d{seq}", f"b{seq}", "{}", None, now, 0, now]
            for seq, group in ((1, "a"), (2, "a"), (3, "b"))
        ]
        loose = [4, stock, "m4", "", "", "b4", "{}", None, now, 0, 0]
        lease = {"receipt": "r", "now": now, "state": 1, "until": now + 30_000, "seqs": "[1,3]"}
        left = [
            ("remember", [[1, stock, "d1", "m1", now + 300_000]]),
            ("add", rows),
            ("add_loose", [loose]),
            ("count", [[4, 0, stock]]),
            ("lease", [lease]),
            ("delete", [["[1]"]]),
            ("promote", [[0, now + 1, 2]]),
        ]
        assert {name for name, _ in left} == set(deferred.DEFERRABLE)
        connection.execute("INSERT INTO deferred (statements) VALUES (?)", (msgspec.msgpack.encode(left),))
        deferred.carry_out(connection)
        read = "SELECT seq, group_id, body, head, state, visible_at, receive_count, receipt FROM messages"
        assert connection.execute(read).fetchall() == [
            (2, "a", "b2", 1, 0, now + 1, 0, None),
            (3, "b", "b3", 1, 1, now + 30_000, 1, "r"),
            (4, "", "b4", 1, 0, 0, 0, None),
        ]
        windows = connection.execute("SELECT seq, deduplication_id, message_id, expires_at FROM deduplications")
        assert windows.fetchall() == [(1, "d1", "m1", now + 300_000)]
        assert connection.execute("SELECT message_count, held_count FROM stocks").fetchall() == [(4, 0)]


class TestLoneCalls:
    async def test_are_answered_first_and_carried_out_two_turns_later(self, api):
        await api.send(QUEUE, group="a", once="a")
        assert deferred_count(api.path) == 1
        for _ in range(2):
            await asyncio.sleep(0)
        assert deferred_count(api.path) == 0
        with closing(sqlite3.connect(api.path)) as connection:
            assert connection.execute("SELECT body FROM messages").fetchall() == [("body",)]

    async def test_that_come_together_are_carried_out_as_they_come(self, api):
        await asyncio.gather(*(api.send(QUEUE, group=name, once=name) for name in "ab"))
        assert deferred_count(api.path) == 0

    async def test_one_after_the_other_each_see_the_one_before(self, api):
        await api.send(QUEUE, group="a", once="a")
        assert (await api.send(QUEUE, "again", group="a", once="a"))["MessageId"]
        [message] = await api.receive(QUEUE)
        assert message["Body"] == "body"
        assert await api.receive(QUEUE) == []
        await api.delete(QUEUE, message)
        assert await api.counts(QUEUE) == (0, 0, 0)

    async def test_of_which_one_was_refused_leave_nothing(self, api):
        assert (await api.refused("SendMessage", QUEUE, MessageBody="body"))[0] == "MissingRequiredParameterException"
        assert deferred_count(api.path) == 0

    async def test_are_not_waited_for_by_a_receive_that_was_cancelled_over_its_answer(self, api):
        await api.send(QUEUE, group="a", once="a")
        receiving = asyncio.create_task(api.receive(QUEUE))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it has its messages, and isn't awake yet
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        [message] = await api.receive(QUEUE, WaitTimeSeconds=20, MessageSystemAttributeNames=["All"])
        assert message["Attributes"]["ApproximateReceiveCount"] == "1"


async def test_the_kind_of_commit_that_follows_is_made_ready_after_the_answer(api, monkeypatch):
    """Sends follow sends; a delete, which is flushed, follows a receive, which isn't, and the other way round."""
    expected = []
    monkeypatch.setattr(api.engine._database, "expect", lambda *, flushes: expected.append(flushes))

    async def after(call):
        answer = await call
        for _ in range(2):
            await asyncio.sleep(0)
        return answer

    for name in "abc":
        await after(api.send(QUEUE, group=name, once=name))
    assert expected == [True, True, True]
    for _ in "abc":
        [message] = await after(api.receive(QUEUE, 1))
        await after(api.delete(QUEUE, message))
    assert expected[-3:] == [False, True, False]


class TestWhatSomebodyElseDeferred:
    """A process was killed between its answer and its statements."""

    async def test_is_received(self, api, elsewhere):
        elsewhere.send("a", "b")
        assert await api.bodies(QUEUE) == ["a", "b"]

    async def test_is_counted(self, api, elsewhere):
        elsewhere.send("a", "b")
        assert await api.counts(QUEUE) == (2, 0, 0)
        elsewhere.receive()
        assert await api.counts(QUEUE) == (1, 1, 0)

    async def test_is_a_duplicate_of_what_is_sent_again(self, api, elsewhere):
        elsewhere.send("a")
        assert (await api.send(QUEUE, group="a", once="a"))["MessageId"] == "a"
        assert await api.counts(QUEUE) == (1, 0, 0)

    async def test_is_held_where_it_was_received(self, api, elsewhere):
        elsewhere.send("a", "b")
        elsewhere.receive()
        assert await api.bodies(QUEUE) == ["b"]

    async def test_is_gone_where_it_was_deleted_and_the_next_of_its_group_follows(self, api, elsewhere):
        await api.send(QUEUE, "first", group="a", once="a1")
        await api.send(QUEUE, "second", group="a", once="a2")
        assert elsewhere.delete(*elsewhere.receive()) == [None]
        assert await api.bodies(QUEUE) == ["second"]

    async def test_is_purged_with_the_rest(self, api, elsewhere):
        elsewhere.send("a")
        await api("PurgeQueue", QUEUE)
        assert await api.counts(QUEUE) == (0, 0, 0)
        assert deferred_count(api.path) == 0

    async def test_is_found_by_a_poll_that_waits(self, api, elsewhere):
        poll = api.poll(QUEUE)
        await api.until_polling()
        elsewhere.send("a")
        assert [message["Body"] for message in await poll] == ["a"]

    async def test_is_carried_out_by_whoever_closes_the_file(self, path):
        async with Api(path) as api:
            await api.create(QUEUE)
            database = Database(path)
            with database.opening():
                Elsewhere(database, api.clock).send("a")
            database.close()
            assert deferred_count(path) == 1
        assert deferred_count(path) == 0

    async def test_is_carried_out_by_the_mover_where_nobody_asks(self, api, elsewhere):
        elsewhere.send("a")
        await api.clock.until_asleep(1)
        while deferred_count(api.path):
            api.clock.advance(5)
            await asyncio.sleep(0)

    async def test_is_seen_by_programs_that_use_the_file_directly(self, api, elsewhere):
        broker = SqliteBroker(f"sqlite:///{api.path}?queue={QUEUE}", clock=api.clock)
        await broker.open()
        elsewhere.send("a", "b")
        assert [delivery.body for delivery in await broker.peek(10)] == ["a", "b"]
        elsewhere.send("c")
        assert await broker.status() == QueueStatus(messages_available=3, messages_in_flight=0, messages_delayed=0)
        elsewhere.send("d")
        assert await broker.ready_in() == 0
        received = await broker.receive(10, wait=0, lease=60)
        assert [delivery.body for delivery in received] == ["a", "b", "c", "d"]
        elsewhere.delete(received[0].receipt_handle)
        assert await broker.dead_letter_count() == 0
        assert await broker.status() == QueueStatus(messages_available=0, messages_in_flight=3, messages_delayed=0)
        await broker.close()


class TestWhatCanNotBeCarriedOut:
    """Also where the disk is full."""

    @pytest.fixture(params=[msgspec.msgpack.encode([("of a newer Fanfold", [[1]])]), b"\xc1"])
    async def api(self, api, request):
        with closing(sqlite3.connect(api.path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO deferred (statements) VALUES (?)", (request.param,))
        return api

    async def test_is_the_error_of_whatever_works_with_messages(self, api):
        for call in (
            api.send(QUEUE, group="a", once="a"),
            api.receive(QUEUE),
            api.counts(QUEUE),
            api("PurgeQueue", QUEUE),
        ):
            with pytest.raises(StorageCorruptError, match="upgrade Fanfold"):
                await call

    async def test_hides_no_queue(self, api):
        assert (await api("ListQueues"))["QueueUrls"]
        assert await api("GetQueueUrl", QueueName=QUEUE)
        assert await api("ListQueueTags", QUEUE) == {}

    async def test_does_not_keep_the_file_open(self, api):
        await api.engine.close()
        assert not [thread.name for thread in threading.enumerate() if thread.name == "fanfold-writer"]
        assert deferred_count(api.path) == 1
