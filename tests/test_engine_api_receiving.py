"""Receiving through the API: what comes, when, and what is told of it."""

from __future__ import annotations

import asyncio

import pytest

from fanfold import limits
from fanfold.engine import actions_receive
from fanfold.engine.service import SqsError
from sqs_api import ARN, BY_CONTENT, Api, redrive, text

INVALID = "InvalidParameterValueException"


@pytest.fixture
async def api(tmp_path):
    async with Api(tmp_path / "queues.db") as api:
        await api.create("orders")
        await api.create("orders.fifo", BY_CONTENT)
        yield api


async def send_all(api, queue, *bodies):
    """Bodies that begin with their group's letter."""
    for body in bodies:
        await api.send(queue, body, body[0] if queue.endswith(".fifo") else None)


async def give_back(api, queue, *handles):
    """What the engine does where a receive's caller has gone when its messages come."""
    await asyncio.wrap_future(actions_receive.give_back(api.engine._desk, queue, handles))


class TestRequests:
    @pytest.mark.parametrize(
        ("parameter", "values", "reason"),
        [
            ("MaxNumberOfMessages", (0, 11, -1), "Must be between 1 and 10, if provided."),
            ("WaitTimeSeconds", (-1, 21), "Must be >= 0 and <= 20, if provided."),
            ("VisibilityTimeout", (-1, 43_201), "Must be >= 0 and <= 43200, if provided."),
        ],
    )
    async def test_numbers_have_bounds(self, api, parameter, values, reason):
        for value in values:
            assert await api.refused("ReceiveMessage", "orders", **{parameter: value}) == (
                INVALID,
                f"Value {value} for parameter {parameter} is invalid. Reason: {reason}",
            )

    async def test_one_message_comes_where_nobody_says_how_many(self, api):
        await send_all(api, "orders", "a", "b")
        assert len((await api("ReceiveMessage", "orders"))["Messages"]) == 1

    async def test_an_empty_answer_is_empty(self, api):
        assert await api("ReceiveMessage", "orders") == {}

    @pytest.mark.parametrize("parameter", ["AttributeNames", "MessageSystemAttributeNames"])
    async def test_a_system_attribute_that_nobody_knows_is_refused(self, api, parameter):
        assert await api.refused("ReceiveMessage", "orders", **{parameter: ["All", "Colour"]}) == (
            "InvalidAttributeName",
            "Unknown Attribute Colour.",
        )


class TestWhatIsTold:
    async def test_system_attributes_of_a_standard_queue(self, api):
        await api.send("orders")
        api.clock.advance(5)
        [message] = await api.receive("orders", AttributeNames=["All"], VisibilityTimeout=0)
        assert message["Attributes"] == {
            "SenderId": "000000000000",
            "SentTimestamp": "1800000000000",
            "ApproximateReceiveCount": "1",
            "ApproximateFirstReceiveTimestamp": "1800000005000",
        }
        api.clock.advance(5)
        [message] = await api.receive("orders", AttributeNames=["All"])
        assert message["Attributes"]["ApproximateReceiveCount"] == "2"
        assert message["Attributes"]["ApproximateFirstReceiveTimestamp"] == "1800000005000"

    async def test_system_attributes_of_a_fifo_queue(self, api):
        sent = await api.send("orders.fifo", "b", "g", "d")
        [message] = await api.receive("orders.fifo", MessageSystemAttributeNames=["All"])
        assert message["Attributes"] == {
            "SenderId": "000000000000",
            "SentTimestamp": "1800000000000",
            "ApproximateReceiveCount": "1",
            "ApproximateFirstReceiveTimestamp": "1800000000000",
            "MessageGroupId": "g",
            "MessageDeduplicationId": "d",
            "SequenceNumber": sent["SequenceNumber"],
        }

    async def test_both_lists_of_names_count(self, api):
        await api.send("orders")
        [message] = await api.receive(
            "orders", AttributeNames=["SenderId"], MessageSystemAttributeNames=["SentTimestamp", "SequenceNumber"]
        )
        assert message["Attributes"].keys() == {"SenderId", "SentTimestamp"}

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ([], None),
            (["All"], {"General", "Hello", "Help.Me"}),
            (["*"], {"General", "Hello", "Help.Me"}),
            ([".*"], {"General", "Hello", "Help.Me"}),
            (["Foo", "Help"], None),
            (["Hello", "General"], {"General", "Hello"}),
            (["Foo", "Hello"], {"Hello"}),
            (["Hel.*"], {"Hello", "Help.Me"}),
            (["Help.*"], {"Help.Me"}),
            (["AWS."], None),
            (["..foo"], None),
        ],
    )
    async def test_message_attributes_are_chosen_by_name_and_prefix(self, api, asked, told):
        sent = {"Help.Me": text("Me"), "Hello": text("There"), "General": text("Kenobi")}
        await api.send("orders", MessageAttributes=sent)
        [message] = await api.receive("orders", MessageAttributeNames=asked)
        if told is None:
            assert message.keys() == {"MessageId", "ReceiptHandle", "MD5OfBody", "Body"}
        else:
            assert message["MessageAttributes"] == {name: sent[name] for name in told}
            assert len(message["MD5OfMessageAttributes"]) == 32


class TestLargeOnes:
    @pytest.mark.parametrize("queue", ["orders", "orders.fifo"])
    async def test_a_receive_takes_no_more_behind_a_mebibyte_and_the_next_goes_on(self, api, queue):
        fifo = queue.endswith(".fifo")
        for number in range(4):
            body = f"{number}" + "x" * 600_000
            await api.send(queue, body, *(("g", str(number)) if fifo else ()))
        for numbers in (["0", "1"], ["2", "3"]):
            messages = await api.receive(queue, 10)
            assert [message["Body"][0] for message in messages] == numbers
            for message in messages:
                await api.delete(queue, message)


async def test_what_was_given_back_is_there_again_and_was_not_received(api):
    await send_all(api, "orders.fifo", "1")
    [message] = await api.receive("orders.fifo")
    polling = asyncio.create_task(
        api.receive("orders.fifo", WaitTimeSeconds=20, MessageSystemAttributeNames=["ApproximateReceiveCount"])
    )
    await api.until_polling()
    api.engine.give_back("http://sqs.test/0/orders.fifo", [message["ReceiptHandle"]])
    [again] = await polling
    assert again["Attributes"]["ApproximateReceiveCount"] == "1"


class TestStandardOrder:
    async def test_the_oldest_comes_first_also_after_it_came_back(self, api):
        await send_all(api, "orders", "1", "2", "3")
        [first] = await api.receive("orders", 1, VisibilityTimeout=5)
        api.clock.advance(5)
        await send_all(api, "orders", "4")
        assert await api.bodies("orders", 2) == ["1", "2"]
        await api.change("orders", first, 0)
        assert await api.bodies("orders") == ["1", "3", "4"]

    async def test_a_clock_that_steps_hides_nothing_and_reorders_nothing(self, api):
        for body, step in (("1", 3600), ("2", -7200), ("3", 0)):
            await send_all(api, "orders", body)
            api.clock.advance(step)
        assert await api.bodies("orders") == ["1", "2", "3"]

    async def test_hundreds_that_come_back_at_once_all_come(self, api):
        await api.send_numbers("orders", 250)
        while await api.receive("orders", VisibilityTimeout=5):
            pass
        api.clock.advance(5)
        found = []
        while bodies := await api.bodies("orders"):
            found += bodies
        assert sorted(found, key=int) == [str(n) for n in range(250)]


class TestDelays:
    async def test_a_delayed_message_isnt_there_yet(self, api):
        await api.send("orders", "later", DelaySeconds=10)
        assert await api.counts("orders") == (0, 0, 1)
        assert await api.receive("orders") == []
        api.clock.advance(10)
        assert await api.counts("orders") == (1, 0, 0)
        assert await api.bodies("orders") == ["later"]

    async def test_a_fifo_queues_delay_keeps_the_order(self, api):
        await api("SetQueueAttributes", "orders.fifo", Attributes={"DelaySeconds": "10"})
        await send_all(api, "orders.fifo", "a1", "a2")
        api.clock.advance(5)
        await send_all(api, "orders.fifo", "a3", "b1")
        assert await api.receive("orders.fifo") == []
        api.clock.advance(5)
        assert await api.bodies("orders.fifo") == ["a1", "a2"]
        api.clock.advance(5)
        assert await api.bodies("orders.fifo") == ["b1"]

    async def test_a_delayed_message_locks_those_sent_after_it(self, api):
        await api("SetQueueAttributes", "orders.fifo", Attributes={"DelaySeconds": "10"})
        await send_all(api, "orders.fifo", "a1")
        await api("SetQueueAttributes", "orders.fifo", Attributes={"DelaySeconds": "0"})
        await send_all(api, "orders.fifo", "a2", "b1")
        assert await api.counts("orders.fifo") == (2, 0, 1)
        assert await api.bodies("orders.fifo") == ["b1"]
        api.clock.advance(10)
        assert await api.bodies("orders.fifo") == ["a1", "a2"]

    async def test_a_receiver_that_waits_gets_it_when_its_time_comes(self, api):
        await api.send("orders", "later", DelaySeconds=10)
        poll = api.poll("orders")
        await api.until_polling(2)  # the end of its wait, and the end of the delay
        api.clock.advance(10)
        assert [message["Body"] for message in await poll] == ["later"]


class TestWaiting:
    @pytest.mark.parametrize("queue", ["orders", "orders.fifo"])
    async def test_a_send_wakes_a_receiver(self, api, queue):
        poll = api.poll(queue)
        await api.until_polling()
        await send_all(api, queue, "a")
        assert [message["Body"] for message in await poll] == ["a"]

    async def test_the_queue_says_how_long_where_the_request_doesnt(self, api):
        await api("SetQueueAttributes", "orders", Attributes={"ReceiveMessageWaitTimeSeconds": "10"})
        poll = asyncio.create_task(api.receive("orders"))
        await api.until_polling()
        api.clock.advance(10)
        assert await poll == []
        assert await api.receive("orders", WaitTimeSeconds=0) == []

    async def test_a_delete_that_unlocks_a_group_wakes_one(self, api):
        await send_all(api, "orders.fifo", "a1", "a2")
        [first] = await api.receive("orders.fifo", 1)
        poll = api.poll("orders.fifo")
        await api.until_polling(2)
        await api.delete("orders.fifo", first)
        assert [message["Body"] for message in await poll] == ["a2"]

    async def test_one_send_wakes_one_of_many(self, api):
        polls = [api.poll("orders") for _ in range(20)]
        await api.until_polling(20)
        await send_all(api, "orders", "a")
        done, waiting = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        assert [len(poll.result()) for poll in done] == [1]
        api.engine.end_polls()
        assert await asyncio.gather(*waiting) == [[]] * 19

    async def test_a_batch_serves_many(self, api):
        polls = [api.poll("orders", 1) for _ in range(10)]
        await api.until_polling(10)
        await api("SendMessageBatch", "orders", Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(10)])
        received = await asyncio.gather(*polls)
        assert sorted(message["Body"] for messages in received for message in messages) == list("0123456789")

    async def test_one_queues_send_doesnt_wake_anothers_receiver(self, api):
        await api.create("others")
        poll = api.poll("others")
        await api.until_polling()
        await send_all(api, "orders", "a")
        assert not poll.done()
        api.engine.end_polls()
        assert await poll == []


class TestCancelledReceives:
    async def test_what_one_had_taken_is_available_again_and_not_received(self, api):
        await send_all(api, "orders.fifo", "a1", "a2")
        database = api.engine._desk.database
        receiving = asyncio.create_task(api.receive("orders.fifo"))
        await asyncio.sleep(0)  # handed to the writer
        database.write(lambda _: None).result()  # and done by it; its answer waits for the loop
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        [first, second] = await api.receive("orders.fifo", AttributeNames=["All"])
        assert [first["Body"], second["Body"]] == ["a1", "a2"]
        assert first["Attributes"]["ApproximateReceiveCount"] == "1"

    @pytest.mark.parametrize("queue", ["orders", "orders.fifo"])
    async def test_what_reached_nobody_can_be_given_back(self, api, queue):
        await send_all(api, queue, "a1")
        api.clock.advance(1)
        [lost] = await api.receive(queue)
        await give_back(api, queue, lost["ReceiptHandle"])
        api.clock.advance(1)
        [again] = await api.receive(queue, AttributeNames=["All"])
        assert again["Attributes"]["ApproximateReceiveCount"] == "1"
        first_received = int(again["Attributes"]["ApproximateFirstReceiveTimestamp"])
        assert first_received == int(again["Attributes"]["SentTimestamp"]) + 2000
        await give_back(api, queue, lost["ReceiptHandle"])  # that lease is over; the one that runs stays
        assert await api.counts(queue) == (0, 1, 0)

    async def test_what_is_given_back_wakes_a_receiver(self, api):
        await send_all(api, "orders", "a1")
        [lost] = await api.receive("orders")
        poll = api.poll("orders")
        await api.until_polling(2)
        await give_back(api, "orders", lost["ReceiptHandle"])
        assert [message["Body"] for message in await poll] == ["a1"]

    async def test_giving_back_nothing_does_nothing(self, api):
        await give_back(api, "orders", "garbage", "1.1.x")
        await give_back(api, "nowhere", "1.1.x")
        assert await api.counts("orders") == (0, 0, 0)


class TestRetention:
    @pytest.mark.parametrize("queue", ["orders", "orders.fifo"])
    async def test_what_is_too_old_is_gone_also_while_it_is_held(self, api, queue):
        await api("SetQueueAttributes", queue, Attributes={"MessageRetentionPeriod": "60", "VisibilityTimeout": "60"})
        await send_all(api, queue, "a1", "b1")
        api.clock.advance(5)
        [held] = await api.receive(queue, 1)
        api.clock.advance(54.999)
        assert await api.counts(queue) == (1, 1, 0)
        api.clock.advance(0.001)
        assert await api.counts(queue) == (0, 0, 0)
        assert await api.receive(queue) == []
        await api.delete(queue, held)

    async def test_younger_messages_of_a_group_come_when_the_old_ones_are_gone(self, api):
        await api("SetQueueAttributes", "orders.fifo", Attributes={"MessageRetentionPeriod": "60"})
        await send_all(api, "orders.fifo", "a1", "b1")
        await api.receive("orders.fifo", 1, VisibilityTimeout=1000)
        api.clock.advance(30)
        await send_all(api, "orders.fifo", "a2")
        assert await api.bodies("orders.fifo") == ["b1"]
        api.clock.advance(30)
        assert await api.bodies("orders.fifo") == ["a2"]

    @pytest.mark.parametrize("queue", ["orders", "orders.fifo"])
    async def test_thousands_that_are_too_old_hide_no_young_one(self, api, queue):
        await api("SetQueueAttributes", queue, Attributes={"MessageRetentionPeriod": "60"})
        database = api.engine._desk.database
        ids = {"MessageGroupId": "g"} if queue.endswith(".fifo") else {}
        await api.send_numbers(queue, 1500, **ids)
        api.clock.advance(59)
        await api.send(queue, "young", "g" if ids else None)
        api.clock.advance(1)
        assert await api.bodies(queue, WaitTimeSeconds=20) == ["young"]
        left = database.read(lambda c: c.execute("SELECT count(*) FROM messages").fetchone()).result()[0]
        assert left < 500

    async def test_a_poll_gets_the_next_of_a_group_once_the_held_one_is_too_old(self, api):
        await api("SetQueueAttributes", "orders.fifo", Attributes={"MessageRetentionPeriod": "60"})
        await send_all(api, "orders.fifo", "a1")
        await api.receive("orders.fifo", VisibilityTimeout=1000)
        api.clock.advance(45)
        await send_all(api, "orders.fifo", "a2")
        poll = api.poll("orders.fifo")
        await api.until_polling()
        api.clock.advance(15)
        assert [message["Body"] for message in await poll] == ["a2"]

    @pytest.mark.parametrize("queue", ["orders", "orders.fifo"])
    async def test_what_is_too_old_goes_from_the_file_though_nobody_asks(self, api, queue):
        await api("SetQueueAttributes", queue, Attributes={"MessageRetentionPeriod": "60"})
        database = api.engine._desk.database
        for number in range(500):
            await api.send(queue, str(number), f"g{number % 7}" if queue.endswith(".fifo") else None)
        await api.create("others")
        await api.send("others")  # kept for four days
        await api.until_polling(0)
        api.clock.advance(60)
        left = 501
        while left > 1:
            [left] = await asyncio.wrap_future(
                database.read(lambda c: c.execute("SELECT count(*) FROM messages").fetchone())
            )
        assert left == 1

    async def test_a_period_that_is_changed_counts_for_what_is_there(self, api):
        await send_all(api, "orders", "a")
        api.clock.advance(100)
        await api("SetQueueAttributes", "orders", Attributes={"MessageRetentionPeriod": "100"})
        assert await api.receive("orders") == []

    async def test_in_a_standard_dead_letter_queue_it_counts_from_the_first_send(self, api):
        queue, dead = await api.pair("tasks")
        await api("SetQueueAttributes", dead, Attributes={"MessageRetentionPeriod": "60"})
        await send_all(api, queue, "a")
        api.clock.advance(59)
        await api.receive(queue, VisibilityTimeout=0)
        await api.receive(queue)
        assert await api.counts(dead) == (1, 0, 0)
        api.clock.advance(1)
        assert await api.receive(dead) == []

    async def test_in_a_fifo_dead_letter_queue_it_counts_from_the_move(self, api):
        queue, dead = await api.pair("tasks.fifo", ContentBasedDeduplication="true")
        await api("SetQueueAttributes", dead, Attributes={"MessageRetentionPeriod": "60"})
        await send_all(api, queue, "a")
        api.clock.advance(59)
        await api.receive(queue, VisibilityTimeout=0)
        await api.receive(queue)
        api.clock.advance(59)
        assert await api.bodies(dead, VisibilityTimeout=0) == ["a"]
        api.clock.advance(1)
        assert await api.receive(dead) == []


class TestDeadLetters:
    @pytest.mark.parametrize("name", ["tasks", "tasks.fifo"])
    async def test_a_message_moves_on_the_receive_after_the_last_one_allowed(self, api, name):
        more = {"ContentBasedDeduplication": "true"} if name.endswith(".fifo") else {}
        queue, dead = await api.pair(name, 2, **more)
        attributes = {"MyAttribute": text("foobar")}
        sent = await api.send(
            queue,
            "a1",
            "a" if more else None,
            MessageAttributes=attributes,
            MessageSystemAttributes={"AWSTraceHeader": text("Root=1")},
        )
        for _ in range(2):
            assert await api.bodies(queue, VisibilityTimeout=0) == ["a1"]
        assert await api.receive(queue) == []
        assert await api.counts(queue) == (0, 0, 0)
        [letter] = await api.receive(dead, AttributeNames=["All"], MessageAttributeNames=["All"])
        assert (letter["MessageId"], letter["Body"]) == (sent["MessageId"], "a1")
        assert letter["MessageAttributes"] == attributes
        told = letter["Attributes"]
        assert told["DeadLetterQueueSourceArn"] == ARN + queue
        assert (told["ApproximateReceiveCount"], told["AWSTraceHeader"]) == ("3", "Root=1")
        if more:
            assert told["MessageDeduplicationId"] == sent["MessageId"]
            assert told["MessageGroupId"] == "a"

    async def test_the_next_message_comes_in_the_same_receive(self, api):
        queue, _ = await api.pair()
        await send_all(api, queue, "a")
        await api.receive(queue, VisibilityTimeout=0)
        await send_all(api, queue, "b")
        assert await api.bodies(queue, 1) == ["b"]

    async def test_a_dead_letter_queue_may_have_one_of_its_own(self, api):
        for name, dead in (("third", None), ("second", "third"), ("first", "second")):
            await api.create(name, {"RedrivePolicy": redrive(dead)} if dead else {})
        await send_all(api, "first", "a")
        for name in ("first", "second"):
            await api.receive(name, VisibilityTimeout=0)
            assert await api.receive(name) == []
        [letter] = await api.receive("third", AttributeNames=["DeadLetterQueueSourceArn"])
        assert letter["Attributes"] == {"DeadLetterQueueSourceArn": f"{ARN}second"}

    async def test_more_spent_messages_than_one_receive_can_move_hide_no_other(self, api):
        queue, dead = await api.pair()
        await api.send_numbers(queue, 1200)
        while await api.receive(queue, VisibilityTimeout=5):
            pass
        api.clock.advance(5)
        await send_all(api, queue, "new")
        assert await api.bodies(queue, WaitTimeSeconds=20) == ["new"]
        for _ in range(12):  # each takes some of them along
            assert await api.receive(queue) == []
        assert await api.counts(dead) == (1200, 0, 0)


class TestAttempts:
    async def test_a_repetition_gives_the_same_messages_and_handles_and_starts_the_leases_anew(self, api):
        await send_all(api, "orders.fifo", "a1", "a2", "b1")
        first = await api.receive("orders.fifo", 2, ReceiveRequestAttemptId="try", AttributeNames=["All"])
        api.clock.advance(20)
        second = await api.receive("orders.fifo", 2, ReceiveRequestAttemptId="try", AttributeNames=["All"])
        assert second == first
        assert [message["Body"] for message in first] == ["a1", "a2"]
        api.clock.advance(29)
        assert await api.bodies("orders.fifo") == ["b1"]
        await api.delete("orders.fifo", *first)

    @pytest.mark.parametrize("what", ["deleted", "changed", "expired", "five minutes old"])
    async def test_it_is_a_new_receive_where_a_message_was_touched_or_is_back(self, api, what):
        lease = 1000 if what == "five minutes old" else 30
        await send_all(api, "orders.fifo", "a1", "a2", "b1")
        first = await api.receive("orders.fifo", 2, ReceiveRequestAttemptId="try", VisibilityTimeout=lease)
        if what == "deleted":
            await api.delete("orders.fifo", first[0])
        if what == "changed":
            await api.change("orders.fifo", first[1], 60)
        api.clock.advance({"expired": 30, "five minutes old": 300}.get(what, 0))
        second = await api.receive("orders.fifo", 2, ReceiveRequestAttemptId="try")
        expected = ["b1", "a1"] if what == "expired" else ["b1"]
        assert [message["Body"] for message in second] == expected
        assert not {one["ReceiptHandle"] for one in first} & {one["ReceiptHandle"] for one in second}

    async def test_another_attempt_is_another_receive(self, api):
        await send_all(api, "orders.fifo", "a1", "b1")
        for attempt, body in (("one", "a1"), ("two", "b1"), ("one", "a1")):
            assert await api.bodies("orders.fifo", 1, ReceiveRequestAttemptId=attempt) == [body]

    async def test_an_empty_receive_can_be_repeated_with_success(self, api):
        assert await api.receive("orders.fifo", ReceiveRequestAttemptId="try") == []
        await send_all(api, "orders.fifo", "a1")
        assert await api.bodies("orders.fifo", ReceiveRequestAttemptId="try") == ["a1"]

    async def test_a_standard_queue_takes_no_notice(self, api):
        await send_all(api, "orders", "1", "2")
        for body in "12":
            assert await api.bodies("orders", 1, ReceiveRequestAttemptId="try") == [body]

    @pytest.mark.parametrize("attempt", ["", "a b", "a" * 129, "\u00e4"])
    async def test_an_attempts_id_has_the_form_of_the_others(self, api, attempt):
        assert (await api.refused("ReceiveMessage", "orders.fifo", ReceiveRequestAttemptId=attempt))[1].endswith(
            "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. 1 to 128 in length."
        )


class TestInFlight:
    @pytest.fixture(autouse=True)
    def _few(self, monkeypatch):
        monkeypatch.setattr(limits, "MAX_IN_FLIGHT", 3)

    async def test_a_full_fifo_queue_gives_no_more_and_no_error(self, api):
        await send_all(api, "orders.fifo", "a1", "b1", "c1", "d1")
        assert await api.bodies("orders.fifo") == ["a1", "b1", "c1"]
        assert await api.receive("orders.fifo") == []
        api.clock.advance(30)
        assert await api.bodies("orders.fifo") == ["d1", "a1", "b1"]

    async def test_a_full_standard_queue_tells_those_who_dont_wait(self, api):
        await send_all(api, "orders", "1", "2", "3", "4")
        taken = await api.receive("orders")
        assert len(taken) == 3
        with pytest.raises(SqsError, match="in flight") as caught:
            await api.receive("orders")
        assert (caught.value.shape, caught.value.status) == ("OverLimit", 403)
        poll = api.poll("orders")
        await api.until_polling(2)
        await api.delete("orders", taken[0])
        assert [message["Body"] for message in await poll] == ["4"]

    async def test_a_receiver_that_waits_at_a_full_queue_is_served_when_a_lease_ends(self, api):
        await send_all(api, "orders.fifo", "a1", "b1", "c1", "d1")
        await api.receive("orders.fifo", VisibilityTimeout=10)
        poll = api.poll("orders.fifo")
        await api.until_polling(2)
        api.clock.advance(10)
        assert [message["Body"] for message in await poll] == ["d1", "a1", "b1"]

    async def test_what_was_deleted_given_back_or_moved_takes_no_room(self, api):
        queue, dead = await api.pair()
        await send_all(api, queue, "1", "2", "3", "4", "5", "6")
        first, second, _ = await api.receive(queue)
        await api.delete(queue, first)
        await api.change(queue, second, 0)
        api.clock.advance(30)
        assert await api.bodies(queue) == ["4", "5", "6"]
        assert await api.counts(dead) == (2, 0, 0)
        with pytest.raises(SqsError, match="in flight"):
            await api.receive(queue)
