"""The broker on the embedded engine: waiting, processes, letters, and a file in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading

import msgspec
import pytest

from engine_model import bodies
from fanfold.brokers.burial import letter_of
from fanfold.brokers.protocol import Burial
from fanfold.brokers.sqlite import SqliteBroker
from fanfold.database import Database
from fanfold.engine import queues
from fanfold.errors import ConfigurationError, NotFifoError, StorageCorruptError, StorageError
from fanfold.model import Failure, Message, QueueStatus
from watched_clock import WatchedClock

FAILURE = Failure(type="LookupError", message="no such document", traceback="in year_built")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture
def clock():
    return WatchedClock()


@pytest.fixture
async def broker(url, clock):
    broker = SqliteBroker(url, clock=clock)
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
async def real(url):
    """A broker on the machine's clock."""
    broker = SqliteBroker(url)
    await broker.open()
    yield broker
    await broker.close()


def message(body, group=None, deduplication_id=None, **attributes):
    return Message(body=body, group_id=group or body, deduplication_id=deduplication_id or body, attributes=attributes)


def waiting_receive(broker, *, wait=20, lease=30):
    return asyncio.create_task(broker.receive(10, wait=wait, lease=lease))


class TestSending:
    async def test_a_delivery_carries_what_was_sent(self, broker, clock):
        sent = (await broker.send([message("body", "group", "once", entity_id="doc-1")]))[0]
        delivery = (await broker.receive(10, wait=0, lease=30))[0]
        assert (delivery.message_id, delivery.body, delivery.group_id) == (sent.message_id, "body", "group")
        assert (delivery.deduplication_id, delivery.attributes) == ("once", {"entity_id": "doc-1"})
        assert (delivery.sent_at, delivery.received_at, delivery.receive_count) == (clock.now(), clock.now(), 1)

    async def test_what_sqs_would_refuse_is_its_entrys_error_alone(self, broker):
        results = await broker.send([message("good"), message("bad", "no spaces"), message("fine")])
        assert [result.error is None for result in results] == [True, False, True]
        assert results[1].error.code == "InvalidParameterValue"
        assert bodies(await broker.receive(10, wait=0, lease=30)) == ["good", "fine"]

    async def test_any_number_of_entries_goes_in_one_call(self, broker):
        results = await broker.send([message(str(number)) for number in range(1000)])
        assert len({result.message_id for result in results}) == 1000
        assert (await broker.status()).messages_available == 1000

    async def test_nothing_is_answered_with_nothing(self, broker):
        assert await broker.send([]) == []
        assert await broker.delete([]) == []
        assert await broker.extend([], []) == []
        assert await broker.dead_letter([]) == []

    async def test_a_receive_gives_a_hundred_at_most(self, broker):
        await broker.send([message(str(number)) for number in range(120)])
        assert len(await broker.receive(1000, wait=0, lease=30)) == 100

    async def test_and_ten_of_a_group_so_that_one_group_takes_no_slots_from_the_others(self, broker):
        grouped = [Message(body="x", group_id="one", deduplication_id=f"g{number}") for number in range(15)]
        await broker.send([*grouped, *(message(str(number)) for number in range(15))])
        received = await broker.receive(100, wait=0, lease=30)
        assert [d.deduplication_id for d in received if d.group_id == "one"] == [f"g{number}" for number in range(10)]
        assert len(received) == 25

    async def test_a_part_of_a_second_is_a_lease(self, broker, clock):
        await broker.send([message("a")])
        await broker.receive(10, wait=0, lease=0.25)
        assert (await broker.status()).messages_in_flight == 1
        clock.advance(0.25)
        assert (await broker.status()).messages_available == 1


class TestWaiting:
    async def test_a_send_wakes_a_receiver(self, broker, clock):
        receiving = waiting_receive(broker)
        await clock.until_asleep()
        await broker.send([message("a")])
        assert bodies(await receiving) == ["a"]

    async def test_a_receiver_on_another_loop_is_woken(self, url):
        broker = SqliteBroker(url)
        await broker.open()
        received = []

        def run():
            received.extend(asyncio.run(broker.receive(10, wait=20, lease=30)))

        thread = threading.Thread(target=run)
        thread.start()
        await broker.send([message("a")])
        await asyncio.to_thread(thread.join)
        assert bodies(received) == ["a"]
        await broker.close()

    async def test_a_delete_that_unblocks_a_group_wakes_a_receiver(self, broker, clock):
        await broker.send([message("a1", "a"), message("a2", "a")])
        first = await broker.receive(1, wait=0, lease=30)
        receiving = waiting_receive(broker)
        await clock.until_asleep(2)
        await broker.delete(first)
        assert bodies(await receiving) == ["a2"]

    async def test_a_message_given_back_wakes_a_receiver(self, broker, clock):
        await broker.send([message("a")])
        first = await broker.receive(1, wait=0, lease=30)
        receiving = waiting_receive(broker)
        await clock.until_asleep(2)
        await broker.extend(first, [0])
        assert bodies(await receiving) == ["a"]

    async def test_a_lease_that_ends_wakes_a_receiver(self, broker, clock):
        await broker.send([message("a")])
        await broker.receive(1, wait=0, lease=5)
        receiving = waiting_receive(broker)
        await clock.until_asleep(2)
        clock.advance(5)
        assert [(d.body, d.receive_count) for d in await receiving] == [("a", 2)]

    async def test_a_lease_that_is_shortened_wakes_a_receiver_at_its_new_end(self, broker, clock):
        await broker.send([message("a")])
        first = await broker.receive(1, wait=0, lease=60)
        receiving = waiting_receive(broker)
        await clock.until_asleep(2)
        await broker.extend(first, [3])
        await clock.until(lambda: clock.next_alarm() <= 3)
        clock.advance(3)
        assert bodies(await receiving) == ["a"]

    async def test_a_send_into_a_locked_group_wakes_nobody_with_nothing(self, broker, clock):
        await broker.send([message("a1", "a")])
        await broker.receive(1, wait=0, lease=60)
        receiving = waiting_receive(broker)
        await clock.until_asleep(2)
        await broker.send([message("a2", "a"), message("b1", "b")])
        assert bodies(await receiving) == ["b1"]

    async def test_what_becomes_visible_when_the_wait_ends_still_comes(self, broker, clock):
        await broker.send([message("a")])
        await broker.receive(1, wait=0, lease=5)
        receiving = waiting_receive(broker, wait=10)
        await clock.until_asleep(2)
        clock.advance(10)
        assert bodies(await receiving) == ["a"]

    async def test_the_end_of_the_wait_is_an_empty_answer(self, broker, clock):
        receiving = waiting_receive(broker, wait=10)
        await clock.until_asleep()
        clock.advance(10)
        assert await receiving == []

    async def test_several_receivers_share_what_comes(self, broker):
        receiving = [waiting_receive(broker) for _ in range(5)]
        await broker.send([message(str(number)) for number in range(50)])
        assert sorted(map(len, await asyncio.gather(*receiving))) == [10] * 5

    async def test_end_polls_answers_waiting_receivers(self, broker, clock):
        receiving = [waiting_receive(broker) for _ in range(3)]
        await clock.until_asleep(3)
        await asyncio.to_thread(broker.end_polls)
        assert await asyncio.gather(*receiving) == [[], [], []]

    async def test_end_polls_answers_a_receiver_that_is_only_about_to_wait(self, broker):
        receiving = waiting_receive(broker)
        await asyncio.sleep(0)  # it has begun, and waits for its first look
        broker.end_polls()
        assert await receiving == []

    async def test_end_polls_is_over_for_later_receives(self, broker, clock):
        broker.end_polls()
        receiving = waiting_receive(broker)
        await clock.until_asleep()
        await broker.send([message("a")])
        assert bodies(await receiving) == ["a"]

    async def test_close_answers_waiting_receivers(self, url, clock):
        broker = SqliteBroker(url, clock=clock)
        await broker.open()
        receiving = waiting_receive(broker)
        await clock.until_asleep()
        await broker.close()
        assert await receiving == []

    async def test_a_cancelled_receiver_leaves_nothing_behind(self, broker, clock):
        receiving = waiting_receive(broker)
        await clock.until_asleep()
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        await clock.until_awake()
        assert not broker._doorbell._lines
        await broker.send([message("a")])
        assert bodies(await broker.receive(10, wait=20, lease=30)) == ["a"]

    async def test_a_cancelled_sender_wakes_the_receiver_all_the_same(self, broker, clock):
        receiving = waiting_receive(broker)
        await clock.until_asleep()
        sending = asyncio.create_task(broker.send([message("a")]))
        holding = threading.Event()
        broker._database.write(lambda _: holding.wait())
        await asyncio.sleep(0)  # the send is handed in behind what holds the writer
        broker._database.write(lambda _: None)
        holding.set()
        await asyncio.wrap_future(broker._database.write(lambda _: None))
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert bodies(await receiving) == ["a"]

    async def test_a_receiver_whose_loop_is_gone_disturbs_nobody(self, url):
        broker = SqliteBroker(url)
        await broker.open()
        listening = contextlib.ExitStack()

        async def listen_and_end():
            listening.enter_context(broker._doorbell.listen("tasks.fifo"))

        await asyncio.to_thread(lambda: asyncio.run(listen_and_end()))
        receiving = waiting_receive(broker)
        await broker.send([message("a")])
        assert bodies(await receiving) == ["a"]
        listening.close()
        await broker.close()


class TestTime:
    async def test_a_lease_does_not_run_while_its_receive_waits_for_the_file(self, broker, clock):
        await broker.send([message("a")])
        holding, held = threading.Event(), threading.Event()
        blocking = asyncio.wrap_future(broker._database.write(lambda _: (held.set(), holding.wait())))
        await asyncio.to_thread(held.wait)
        receiving = waiting_receive(broker, wait=0, lease=30)
        await asyncio.sleep(0)  # the receive is handed in behind what holds the writer
        clock.advance(60)
        holding.set()
        await blocking
        delivery = (await receiving)[0]
        assert delivery.received_at == clock.now()
        assert await broker.delete([delivery]) == [None]

    async def test_a_clock_that_steps_back_hides_nothing_that_waits(self, broker, clock):
        await broker.send([message("a")])
        clock.advance(-3600)
        assert await broker.ready_in() == 0
        assert bodies(await broker.receive(10, wait=0, lease=30)) == ["a"]

    async def test_an_extension_to_the_very_end_of_twelve_hours_is_none_too_long(self, broker, clock):
        await broker.send([message("a")])
        [held] = await broker.receive(10, wait=0, lease=30)
        holding = threading.Event()
        broker._database.write(lambda _: holding.wait())
        extending = asyncio.create_task(broker.extend([held], [43_200]))
        await asyncio.sleep(0)
        clock.advance(0.5)
        holding.set()
        assert await extending == [None]
        assert (await broker.extend([held], [43_201]))[0].code == "InvalidParameterValue"

    @pytest.mark.parametrize("version", [1, 2])
    async def test_the_file_of_an_older_version_goes_on(self, tmp_path, clock, version):
        database = Database(tmp_path / "tasks.db", synchronous="NORMAL")
        database.open()
        database.migrate("engine", queues.SCHEMA[:1])
        now = int(clock.now() * 1000)
        add_to_version_1(database, now)
        database.migrate("engine", queues.SCHEMA[:version])
        database.close()
        broker = SqliteBroker(f"sqlite:///{tmp_path}/tasks.db", clock=clock)
        await broker.open()
        assert bodies(await broker.receive(10, wait=0, lease=30)) == ["waits"]
        clock.advance(60)
        assert [(d.body, d.receive_count) for d in await broker.receive(10, wait=0, lease=30)] == [
            ("waits", 2),
            ("held", 2),
        ]
        await broker.close()

    async def test_what_an_older_version_knew_still_holds(self, tmp_path, clock):
        database = Database(tmp_path / "tasks.db", synchronous="NORMAL")
        database.open()
        database.migrate("engine", queues.SCHEMA[:2])
        add_to_version_1(database, int(clock.now() * 1000))
        database.write(hold_and_remember).result()
        database.close()
        broker = SqliteBroker(f"sqlite:///{tmp_path}/tasks.db", clock=clock)
        await broker.open()
        [waiting] = await broker.receive(10, wait=0, lease=30)
        assert [result.duplicate for result in await broker.send([message("waits", "waits", "waits")])] == [True]
        held = msgspec.structs.replace(waiting, receipt_handle=f"1.{HELD}.x")
        assert await broker.delete([held, waiting]) == [None, None]
        assert await broker.status() == QueueStatus(messages_available=0, messages_in_flight=0, messages_delayed=0)
        await broker.close()


def add_to_version_1(database, now):
    """A queue as the first version left it: one message waits, another is held for a minute."""

    def add(connection):
        connection.execute("INSERT INTO queues (id, name, created_at) VALUES (1, 'tasks.fifo', ?)", (now,))
        for body, visible_at, receipt in (("waits", now, None), ("held", now + 60_000, "x")):
            connection.execute(
                "INSERT INTO messages (queue, message_id, group_id, deduplication_id, body, attributes, sent_at, "
                "visible_at, head, receive_count, receipt, received_at) "
                "VALUES (1, :body, :body, :body, :body, '{}', :now, :visible_at, 1, :receives, :receipt, :now)",
                {"body": body, "now": now, "visible_at": visible_at, "receives": int(receipt is not None),
                 "receipt": receipt},
            )  # fmt: skip

    database.write(add).result()


HELD = 2
"""The number of the message that the older version's holder has a handle of."""


def hold_and_remember(connection):
    """What version 2 says beside: one is held, and the other's deduplication window is open."""
    connection.execute("UPDATE messages SET state = 1 WHERE seq = ?", (HELD,))
    connection.execute(
        "INSERT INTO deduplications (seq, queue, deduplication_id, message_id, expires_at) "
        "SELECT seq, queue, deduplication_id, message_id, sent_at + 300000 FROM messages WHERE seq <> ?", (HELD,)
    )  # fmt: skip


class TestDeadLetters:
    async def test_a_letter_says_why_it_is_there(self, broker):
        await broker.send([message('{"entity_id": "doc-1", "task_name": "yearBuilt"}', "g", "d", entity_id="doc-1")])
        delivery = (await broker.receive(10, wait=0, lease=30))[0]
        burial = Burial(delivery=delivery, failure=FAILURE, attempts=5)
        assert await broker.dead_letter([burial]) == [None]
        letters = await broker.dead_letters(10)
        assert [(x.reason, x.error_type, x.task.task_name) for x in letters] == [
            ("LookupError: no such document", "LookupError", "yearBuilt")
        ]
        assert letters == await broker.dead_letters(10)
        assert (await broker.status()).messages_in_flight == 0

    async def test_they_can_be_read_like_any_queue(self, url, broker, clock):
        await broker.send([message("a", "g", "d", entity_id="doc-1")])
        delivery = (await broker.receive(10, wait=0, lease=30))[0]
        await broker.dead_letter([Burial(delivery=delivery, failure=FAILURE, attempts=5, body="b")])
        dead = SqliteBroker(f"{url}?queue=tasks-dlq.fifo", clock=clock)
        await dead.open()
        letter = (await dead.receive(10, wait=0, lease=30))[0]
        assert letter.body == "b"
        assert letter.attributes["fanfold_attempts"] == "5"
        assert letter_of(letter).source_message_id == delivery.message_id
        assert letter.attributes["entity_id"] == "doc-1"
        await dead.close()

    async def test_a_lost_lease_buries_nothing(self, broker, clock):
        await broker.send([message("a")])
        delivery = (await broker.receive(10, wait=0, lease=30))[0]
        clock.advance(30)
        errors = await broker.dead_letter([Burial(delivery=delivery, failure=FAILURE, attempts=5)])
        assert errors[0].lease_lost
        assert await broker.dead_letters(10) == []

    async def test_the_queue_itself_sets_aside_what_is_received_too_often(self, url, clock):
        broker = SqliteBroker(url, clock=clock, max_receive_count=1)
        await broker.open()
        await broker.send([message("a")])
        await broker.receive(10, wait=0, lease=0)
        assert await broker.receive(10, wait=0, lease=0) == []
        assert [(letter.body, letter.reason) for letter in await broker.dead_letters(10)] == [("a", "")]
        await broker.close()


class TestLife:
    async def test_open_and_close_are_idempotent(self, url):
        broker = SqliteBroker(url)
        await broker.close()
        await asyncio.gather(broker.open(), broker.open())
        await broker.open()
        await broker.close()
        await broker.close()

    async def test_it_can_be_opened_again(self, url, clock):
        broker = SqliteBroker(url, clock=clock)
        for _ in range(2):
            await broker.open()
            receiving = waiting_receive(broker)
            await clock.until_asleep()
            await broker.send([message("a")])
            await broker.delete(await receiving)
            await broker.close()
            clock.advance(300)

    async def test_a_shared_file_stays_open_for_the_other(self, tmp_path):
        database = Database(tmp_path / "tasks.db")
        database.open()
        broker = SqliteBroker(f"sqlite:///{tmp_path}/tasks.db", database=database)
        await broker.open()
        await broker.close()
        assert database.read(lambda c: c.execute("SELECT count(*) FROM queues").fetchone()).result() == (2,)
        database.close()

    async def test_before_open_and_after_close_it_says_so(self, url):
        broker = SqliteBroker(url)
        with pytest.raises(StorageError, match="open the app"):
            await broker.receive(1, wait=0, lease=30)
        with pytest.raises(StorageError, match="open the app"):
            await broker.status()

    async def test_an_open_that_failed_can_be_closed_and_tried_again(self, tmp_path):
        path = tmp_path / "tasks.db"
        path.write_bytes(b"This is no database. " * 100)
        broker = SqliteBroker(f"sqlite:///{path}")
        with pytest.raises(StorageCorruptError):
            await broker.open()
        await broker.close()
        path.unlink()
        await broker.open()
        await broker.close()

    async def test_a_file_in_trouble_is_the_error_of_each_entry(self, broker):
        limit = broker._database.write(lambda c: c.execute("PRAGMA max_page_count = 30").fetchone())
        limit.result()
        results = await broker.send([message(str(n), entity_id="x" * 100_000) for n in range(2)])
        assert [(r.error.code, r.error.retryable) for r in results] == [("StorageFull", True)] * 2
        assert (await broker.status()).messages_available == 0

    @pytest.mark.parametrize(
        ("url", "error"),
        [("sqlite:///a.db?queue=tasks", NotFifoError), ("sqlite:///a.db?color=red", ConfigurationError)],
    )
    def test_a_url_that_can_not_work_is_refused_at_once(self, url, error):
        with pytest.raises(error):
            SqliteBroker(url)


class TestPersistence:
    async def test_leases_deduplication_and_sequence_survive_a_restart(self, url, clock):
        broker = SqliteBroker(url, clock=clock)
        await broker.open()
        await broker.send([message("a"), message("b")])
        held = await broker.receive(1, wait=0, lease=30)
        await broker.close()

        again = SqliteBroker(url, clock=clock)
        await again.open()
        assert [result.duplicate for result in await again.send([message("a"), message("c")])] == [True, False]
        status = await again.status()
        assert (status.messages_available, status.messages_in_flight) == (2, 1)
        assert await again.delete(held) == [None]
        assert bodies(await again.receive(10, wait=0, lease=30)) == ["b", "c"]
        await again.close()


IMPORTS = "from fanfold.brokers.sqlite import SqliteBroker\nfrom fanfold.model import Message"


def run(script, url, **options):
    code = f"import asyncio, sys\n{IMPORTS}\n{script}"
    return subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True, **options)


SEND_ONE = """
async def main():
    broker = SqliteBroker(sys.argv[1])
    await broker.open()
    await broker.send([Message(body="from afar", group_id="g", deduplication_id="d")])
    await broker.close()
asyncio.run(main())
"""
SEND_FOR_EVER = """
async def main():
    broker = SqliteBroker(sys.argv[1])
    await broker.open()
    number = 0
    while True:
        await broker.send([Message(body=str(number), group_id=str(number), deduplication_id=str(number))])
        print(number, flush=True)
        number += 1
asyncio.run(main())
"""
DRAIN = """
async def main():
    broker = SqliteBroker(sys.argv[1])
    await broker.open()
    while deliveries := await broker.receive(10, wait=0, lease=300):
        for delivery in deliveries:
            print(delivery.body, flush=True)
        await broker.delete(deliveries)
    await broker.close()
asyncio.run(main())
"""


class TestProcesses:
    async def test_a_send_in_another_process_wakes_a_receiver(self, real):
        receiving = waiting_receive(real)
        with await asyncio.to_thread(run, SEND_ONE, real.url) as process:
            assert bodies(await receiving) == ["from afar"]
            assert await asyncio.to_thread(process.wait) == 0

    async def test_what_was_accepted_survives_a_kill(self, real):
        with await asyncio.to_thread(run, SEND_FOR_EVER, real.url) as process:
            accepted = [await asyncio.to_thread(process.stdout.readline) for _ in range(20)]
            process.send_signal(signal.SIGKILL)
        assert (await real.status()).messages_available >= len(accepted)

    async def test_each_message_goes_to_one_of_two_processes(self, real):
        await real.send([message(str(number), f"group-{number % 40}") for number in range(400)])
        processes = [await asyncio.to_thread(run, DRAIN, real.url) for _ in range(2)]
        outputs = await asyncio.gather(*(asyncio.to_thread(process.communicate) for process in processes))
        assert [process.returncode for process in processes] == [0, 0]
        assert sorted(int(line) for output, _ in outputs for line in output.split()) == list(range(400))
