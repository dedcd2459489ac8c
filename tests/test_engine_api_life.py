"""The engine over time: restarts, several engines on a file, clocks that step, files of older versions."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading

import pytest

from fanfold.brokers.sqlite import SqliteBroker
from fanfold.database import Database
from fanfold.engine import queues
from fanfold.engine.service import SqsEngine
from fanfold.errors import StorageCorruptError, StorageError
from fanfold.model import Message
from sqs_api import ARN, BY_CONTENT, CONTEXT, Api, binary, redrive, text
from watched_clock import WatchedClock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queues.db"


@pytest.fixture
async def api(path):
    async with Api(path) as api:
        yield api


class TestOpening:
    async def test_open_and_close_are_idempotent(self, path):
        engine = SqsEngine(Database(path))
        await engine.close()
        for _ in range(2):
            await engine.open()
            await engine.open()
            assert await engine.call("ListQueues", {}, CONTEXT) == {}
            await engine.close()
            await engine.close()

    async def test_a_call_on_a_closed_engine_says_so(self, path):
        engine = SqsEngine(Database(path))
        with pytest.raises(StorageError, match="open the app"):
            await engine.call("ListQueues", {}, CONTEXT)

    async def test_a_file_that_is_no_database_is_refused(self, path):
        path.write_bytes(b"This is no database. " * 100)
        engine = SqsEngine(Database(path))
        with pytest.raises(StorageCorruptError):
            await engine.open()
        path.unlink()
        await engine.open()
        await engine.close()

    async def test_close_answers_waiting_receives_with_nothing(self, path):
        async with Api(path) as api:
            await api.create("orders")
            polls = [api.poll("orders") for _ in range(3)]
            await api.until_polling(3)
        assert await asyncio.gather(*polls) == [[]] * 3

    async def test_end_polls_answers_them_and_goes_on(self, api):
        await api.create("orders")
        poll = api.poll("orders")
        await api.until_polling()
        await asyncio.to_thread(api.engine.end_polls)
        assert await poll == []
        await api.send("orders")
        assert await api.bodies("orders", WaitTimeSeconds=20) == ["body"]

    async def test_calls_may_come_from_any_loop(self, api):
        await api.create("orders")
        poll = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(api.bodies("orders", WaitTimeSeconds=20))))
        await api.send("orders")
        assert await poll == ["body"]

    async def test_a_full_disk_is_a_storage_error_and_nothing_is_kept(self, api):
        await api.create("orders")
        api.engine._desk.database.write(lambda c: c.execute("PRAGMA max_page_count = 60").fetchone()).result()
        with pytest.raises(StorageError, match="full"):
            await api.send("orders", "x" * 500_000)
        assert await api.counts("orders") == (0, 0, 0)

    async def test_a_refused_call_runs_nobody_elses_again(self, api):
        await api.create("orders")
        database, runs, holding = api.engine._desk.database, [], threading.Event()
        database.write(lambda _: holding.wait())
        refused = asyncio.create_task(api.refused("PurgeQueue", "nowhere"))
        await asyncio.sleep(0)  # handed to the writer
        counted = database.write(lambda _: runs.append(None))
        holding.set()
        await asyncio.wrap_future(counted)
        assert (await refused)[0] == "QueueDoesNotExist"
        assert len(runs) == 1


class TestRestarts:
    async def test_windows_leases_and_sequence_numbers_go_on(self, path):
        async with Api(path) as api:
            await api.create("orders.fifo", {"VisibilityTimeout": "100"})
            first = await api.send("orders.fifo", "a", "g", "once")
            await api.send("orders.fifo", "b", "h", "twice")
            [held] = await api.receive("orders.fifo", 1, ReceiveRequestAttemptId="try")
            api.clock.advance(50)
        async with Api(path, api.clock) as again:
            assert (await again.send("orders.fifo", "c", "g", "once"))["SequenceNumber"] == first["SequenceNumber"]
            new = await again.send("orders.fifo", "d", "g", "new")
            assert int(new["SequenceNumber"]) > int(first["SequenceNumber"])
            assert await again.receive("orders.fifo", 1, ReceiveRequestAttemptId="try") == [held]
            assert await again.bodies("orders.fifo", VisibilityTimeout=0) == ["b"]
            await again.delete("orders.fifo", held)
            assert await again.bodies("orders.fifo") == ["b", "d"]

    async def test_sequence_numbers_grow_over_an_empty_file(self, path):
        numbers = []
        for _ in range(3):
            async with Api(path) as api:
                await api.create("orders.fifo", BY_CONTENT)
                numbers.append(int((await api.send("orders.fifo", str(len(numbers)), "g"))["SequenceNumber"]))
                await api.delete("orders.fifo", *await api.receive("orders.fifo"))
        assert numbers == sorted(set(numbers))

    async def test_attributes_tags_deletes_and_purges_are_remembered(self, path):
        async with Api(path) as api:
            for name in ("kept", "deleted", "purged"):
                await api.create(name, {"DelaySeconds": "7"}, tags={"a": "b"})
            before = await api.attributes("kept")
            await api("DeleteQueue", "deleted")
            await api("PurgeQueue", "purged")
        async with Api(path, api.clock) as again:
            assert await again.attributes("kept") == before
            assert await again("ListQueueTags", "kept") == {"Tags": {"a": "b"}}
            assert (await again.refused("CreateQueue", QueueName="deleted"))[0] == "QueueDeletedRecently"
            assert (await again.refused("PurgeQueue", "purged"))[0] == "PurgeQueueInProgress"


class TestSeveralEngines:
    @pytest.fixture
    async def other(self, path, api):
        async with Api(path, api.clock) as other:
            yield other

    async def test_what_one_does_the_other_sees(self, api, other):
        await api.create("orders", {"VisibilityTimeout": "5"})
        await other("SetQueueAttributes", "orders", Attributes={"VisibilityTimeout": "50"})
        assert await api.attributes("orders", "VisibilityTimeout") == {"VisibilityTimeout": "50"}
        await api("DeleteQueue", "orders")
        assert (await other.refused("SendMessage", "orders", MessageBody="x"))[0] == "QueueDoesNotExist"

    async def test_a_send_in_one_wakes_a_receiver_in_the_other(self, api, other):
        await api.create("orders")
        polls = [api.poll("orders") for _ in range(3)]
        await api.until_polling(4)  # and the other engine's mover
        await other.send("orders")
        done, waiting = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        assert [len(poll.result()) for poll in done] == [1]
        api.engine.end_polls()
        assert await asyncio.gather(*waiting) == [[], []]

    async def test_a_newcomer_beside_waiting_ones_misses_nothing_of_the_other(self, api, other):
        await api.create("orders")
        waiting = api.poll("orders", 1)
        await api.until_polling(2)
        for number in range(20):
            newcomer = api.poll("orders", 1)
            await other.send("orders", str(number))
            done, _ = await asyncio.wait([waiting, newcomer], return_when=asyncio.FIRST_COMPLETED)
            [found] = done
            assert [message["Body"] for message in found.result()] == [str(number)]
            waiting = newcomer if found is waiting else waiting
        api.engine.end_polls()
        assert await waiting == []

    async def test_a_queue_that_one_deletes_ends_the_others_receives(self, api, other):
        await api.create("orders")
        poll = api.poll("orders")
        await api.until_polling(2)
        await other("DeleteQueue", "orders")
        with pytest.raises(Exception, match="does not exist"):
            await poll

    async def test_duplicates_are_duplicates_whoever_sends(self, api, other):
        await api.create("orders.fifo")
        first = await api.send("orders.fifo", "a", "g", "once")
        assert await other.send("orders.fifo", "a", "g", "once") == first


class TestAClockThatSteps:
    async def test_a_step_back_hides_nothing_and_numbers_grow(self, api):
        await api.create("orders.fifo", BY_CONTENT)
        first = await api.send("orders.fifo", "a1", "a")
        api.clock.advance(-3600)
        second = await api.send("orders.fifo", "a2", "a")
        assert int(first["SequenceNumber"]) < int(second["SequenceNumber"])
        assert await api.bodies("orders.fifo") == ["a1", "a2"]

    async def test_a_step_forward_ends_leases_and_windows_as_if_the_time_had_passed(self, api):
        await api.create("orders.fifo")
        await api.send("orders.fifo", "a", "g", "once")
        [held] = await api.receive("orders.fifo")
        api.clock.advance(3600)
        assert (await api.refused("DeleteMessage", "orders.fifo", ReceiptHandle=held["ReceiptHandle"]))[1].endswith(
            "expired."
        )
        await api.send("orders.fifo", "b", "g", "once")
        assert await api.bodies("orders.fifo") == ["a", "b"]

    async def test_a_step_back_and_forth_loses_nothing(self, api):
        await api.create("orders")
        for step in (3600, -7200, 3600):
            await api.send("orders")
            api.clock.advance(step)
            assert len(await api.receive("orders", VisibilityTimeout=0)) > 0
        assert (await api.counts("orders"))[0] == 3


def version_1(path, now):
    """A file as the first version left it: one message waits, one is held, one was moved by the redrive policy."""
    database = Database(path, synchronous="NORMAL")
    database.open()
    database.migrate("engine", queues.SCHEMA[:1])

    def add(connection):
        connection.execute("INSERT INTO queues (id, name, created_at) VALUES (1, 'tasks-dlq.fifo', ?)", (now,))
        connection.execute("INSERT INTO queues VALUES (2, 'tasks.fifo', 3, 1, 0, ?)", (now,))
        for seq, queue, body, visible_at, receipt, source in (
            (5, 2, "waits", now, None, None),
            (6, 2, "held", now + 60_000, "x", None),
            (7, 1, "dead", now, None, 2),
        ):
            row = (seq, queue, body, now, visible_at, int(receipt is not None), receipt, source, '{"entity_id":"doc"}')
            connection.execute(
                "INSERT INTO messages VALUES (?1, ?2, ?3, ?3, ?3, ?3, ?9, ?4, ?5, 1, ?6, ?7, ?4, ?8)", row
            )
        connection.execute("INSERT INTO deduplications VALUES (5, 2, 'waits', 'waits', ?)", (now + 300_000,))
        connection.execute("UPDATE sqlite_sequence SET seq = 41 WHERE name = 'messages'")

    database.write(add).result()
    database.close()


class TestOlderFiles:
    @pytest.fixture
    def clock(self, path):
        clock = WatchedClock()
        version_1(path, int(clock.now() * 1000))
        return clock

    async def test_a_file_of_the_first_version_goes_on(self, path, clock):
        async with Api(path, clock) as api:
            assert await api.counts("tasks.fifo") == (1, 1, 0)
            [waits] = await api.receive("tasks.fifo", AttributeNames=["All"], MessageAttributeNames=["All"])
            assert waits["MessageAttributes"] == {"entity_id": text("doc")}
            assert waits["Attributes"]["SequenceNumber"] == str(2**64 + 5)
            clock.advance(60)
            again = await api.receive("tasks.fifo", AttributeNames=["All"])
            counts = {message["Body"]: message["Attributes"]["ApproximateReceiveCount"] for message in again}
            assert counts == {"waits": "2", "held": "2"}
            [dead] = await api.receive("tasks-dlq.fifo", AttributeNames=["DeadLetterQueueSourceArn"])
            assert dead["Attributes"] == {"DeadLetterQueueSourceArn": f"{ARN}tasks.fifo"}

    async def test_its_numbers_and_windows_go_on(self, path, clock):
        async with Api(path, clock) as api:
            assert (await api.send("tasks.fifo", "x", "g", "waits"))["MessageId"] == "waits"
            assert (await api.send("tasks.fifo", "x", "g", "new"))["SequenceNumber"] == str(2**64 + 42)

    async def test_its_queues_keep_their_policy_and_their_messages_for_ever(self, path, clock):
        async with Api(path, clock) as api:
            told = await api.attributes("tasks.fifo", "RedrivePolicy", "MessageRetentionPeriod")
            assert json.loads(told["RedrivePolicy"]) == {
                "deadLetterTargetArn": f"{ARN}tasks-dlq.fifo",
                "maxReceiveCount": 3,
            }
            assert told["MessageRetentionPeriod"] == "1209600"
            clock.advance(10_000_000)
            assert len(await api.receive("tasks.fifo")) == 2

    async def test_it_opens_once_however_many_open_it(self, path, clock):
        engines = [Api(path, clock) for _ in range(3)]
        await asyncio.gather(*(api.engine.open() for api in engines))
        for api in engines:
            assert (await api.counts("tasks.fifo"))[:2] == (1, 1)
            await api.engine.close()


class TestBesideABroker:
    """A queue of `SqliteBroker` is a queue of the engine's."""

    @pytest.fixture
    async def broker(self, path, api):
        broker = SqliteBroker(f"sqlite:///{path}", clock=api.clock)
        await broker.open()
        yield broker
        await broker.close()

    async def test_what_one_sends_the_other_receives(self, api, broker):
        await broker.send([Message(body="a", group_id="g", deduplication_id="d", attributes={"x": "y"})])
        [received] = await api.receive("tasks.fifo", MessageAttributeNames=["All"])
        assert (received["Body"], received["MessageAttributes"]) == ("a", {"x": text("y")})
        attributes = {"s": text("1"), "n": text("2", "Number"), "b": binary(b"3"), "c": text("4", "String.custom")}
        await api.send("tasks.fifo", "b", "h", "e", MessageAttributes=attributes)
        [delivery] = await broker.receive(10, wait=0, lease=30)
        assert (delivery.body, delivery.attributes) == ("b", {"s": "1", "c": "4"})

    async def test_its_queues_keep_messages_for_ever_until_somebody_says_otherwise(self, api, broker):
        await broker.send([Message(body="a", group_id="g", deduplication_id="d")])
        api.clock.advance(20_000_000)
        assert len(await broker.receive(10, wait=0, lease=0)) == 1
        await api("SetQueueAttributes", "tasks.fifo", Attributes={"MessageRetentionPeriod": "60"})
        assert await broker.receive(10, wait=0, lease=0) == []

    async def test_its_redrive_policy_stays_as_somebody_set_it(self, api, broker):
        policy = {"RedrivePolicy": redrive("tasks-dlq.fifo", 7)}
        await api("SetQueueAttributes", "tasks.fifo", Attributes=policy)
        before = await api.attributes("tasks.fifo", "RedrivePolicy")
        again = SqliteBroker(broker.url, clock=api.clock)
        await again.open()
        await again.close()
        assert await api.attributes("tasks.fifo", "RedrivePolicy") == before
        assert json.loads(before["RedrivePolicy"])["maxReceiveCount"] == 7

    async def test_a_policy_that_was_taken_away_is_set_again(self, api, broker):
        await api("SetQueueAttributes", "tasks.fifo", Attributes={"RedrivePolicy": ""})
        again = SqliteBroker(broker.url, clock=api.clock)
        await again.open()
        await again.close()
        assert "tasks-dlq.fifo" in (await api.attributes("tasks.fifo"))["RedrivePolicy"]

    async def test_a_queue_that_was_deleted_under_it_is_every_entrys_error(self, api, broker):
        await api("DeleteQueue", "tasks.fifo")
        [result] = await broker.send([Message(body="a", group_id="g", deduplication_id="d")])
        assert (result.error.code, result.error.retryable) == ("QueueNotFound", False)
        with pytest.raises(Exception, match="was deleted; open the app again"):
            await broker.receive(10, wait=20, lease=30)

    async def test_its_redriven_messages_say_where_they_came_from(self, api, broker):
        await api("SetQueueAttributes", "tasks.fifo", Attributes={"RedrivePolicy": redrive("tasks-dlq.fifo", 1)})
        await broker.send([Message(body="a", group_id="g", deduplication_id="d")])
        for _ in range(2):
            await broker.receive(10, wait=0, lease=0)
        await api("StartMessageMoveTask", SourceArn=f"{ARN}tasks-dlq.fifo")
        [back] = await broker.receive(10, wait=20, lease=30)
        assert (back.body, back.receive_count) == ("a", 1)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from fanfold.database import Database
from fanfold.engine.service import CallContext, SqsEngine

async def main():
    engine = SqsEngine(Database(Path(sys.argv[1])))
    await engine.open()
    async def call(action, **request):
        return await engine.call(action, request, CallContext("http://sqs.test"))
    await call("CreateQueue", QueueName="a.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})
    for number in range(20):
        sent = await call("SendMessage", QueueUrl="a.fifo", MessageBody=str(number), MessageGroupId="g")
        print(sent["SequenceNumber"], flush=True)
    await call("DeleteMessage", QueueUrl="a.fifo", ReceiptHandle=(
        await call("ReceiveMessage", QueueUrl="a.fifo"))["Messages"][0]["ReceiptHandle"])
    print("deleted", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_was_answered_survives_a_kill(path):
    command = [sys.executable, "-c", KILLED, str(path)]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    numbers = ran.stdout.split()
    assert (ran.returncode, numbers[-1], len(numbers)) == (-9, "deleted", 21)
    engine = SqsEngine(Database(path))
    await engine.open()
    received = []
    while len(received) < 19:
        request = {"QueueUrl": "a.fifo", "MaxNumberOfMessages": 10, "AttributeNames": ["All"]}
        received += (await engine.call("ReceiveMessage", request, CONTEXT))["Messages"]
        handles = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(received[-10:])]
        await engine.call("DeleteMessageBatch", {"QueueUrl": "a.fifo", "Entries": handles}, CONTEXT)
    assert [message["Attributes"]["SequenceNumber"] for message in received] == numbers[1:-1]
    again = {"QueueUrl": "a.fifo", "MessageBody": "7", "MessageGroupId": "g"}
    assert (await engine.call("SendMessage", again, CONTEXT))["SequenceNumber"] == numbers[7]
    await engine.close()
