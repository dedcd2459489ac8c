"""Queues through the API: create, find, list, delete, purge."""

from __future__ import annotations

import pytest

from sqs_api import ARN, BY_CONTENT, FIFO, Api, redrive

BAD_NAME = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
BAD_FIFO_NAME = (
    "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo "
    "suffix and be 1 to 80 in length."
)
NOWHERE = ("QueueDoesNotExist", "The specified queue does not exist.")


@pytest.fixture
async def api(tmp_path):
    async with Api(tmp_path / "queues.db") as api:
        yield api


class TestCreating:
    async def test_a_queues_url_is_that_of_whoever_asks(self, api):
        created = await api("CreateQueue", QueueName="orders")
        assert created == {"QueueUrl": "http://sqs.test:9324/000000000000/orders"}
        assert await api("GetQueueUrl", QueueName="orders") == created

    async def test_a_queue_is_found_by_the_last_part_of_any_url(self, api):
        await api.create("orders")
        for url in ("orders", "http://elsewhere/1234/orders", "https://sqs.eu-west-1.amazonaws.com/1/orders/"):
            assert await api.counts(url) == (0, 0, 0)

    @pytest.mark.parametrize("name", ["", "a" * 81, "a b", "a/b", "a.b", "caf\u00e9", "a\n", ".fifo", "x.fifo"])
    async def test_a_standard_queues_name_has_1_to_80_letters_digits_hyphens_underscores(self, api, name):
        assert await api.refused("CreateQueue", QueueName=name) == ("InvalidParameterValueException", BAD_NAME)

    @pytest.mark.parametrize("name", ["x", "a" * 76 + ".fifo", "a b.fifo", ".fifo"])
    async def test_a_fifo_queues_name_ends_in_fifo(self, api, name):
        refusal = await api.refused("CreateQueue", QueueName=name, Attributes=FIFO)
        assert refusal == ("InvalidParameterValueException", BAD_FIFO_NAME)

    async def test_names_may_be_as_long_as_they_can_be(self, api):
        assert await api.create("a" * 80)
        assert await api.create("a" * 75 + ".fifo")

    async def test_a_name_is_required(self, api):
        assert await api.refused("CreateQueue") == (
            "MissingRequiredParameterException",
            "The request must contain the parameter QueueName.",
        )

    async def test_creating_it_again_with_the_same_or_no_attributes_changes_nothing(self, api):
        attributes = {"VisibilityTimeout": "69", "RedrivePolicy": redrive(await api.create("dead"), 3), "Policy": ""}
        await api.create("orders", attributes)
        await api.send("orders")
        await api.create("orders", attributes)
        await api.create("orders", {"VisibilityTimeout": "069", "RedrivePolicy": redrive("dead", "3")})
        await api.create("orders")
        assert await api.counts("orders") == (1, 0, 0)

    async def test_also_one_that_says_what_is_not_told_of_it(self, api):
        for _ in range(2):
            await api.create("orders", {"KmsDataKeyReusePeriodSeconds": "600"})

    @pytest.mark.parametrize(
        ("first", "second", "differs"),
        [
            ({"DelaySeconds": "1"}, {"ReceiveMessageWaitTimeSeconds": "0", "DelaySeconds": "2"}, "DelaySeconds"),
            ({}, {"VisibilityTimeout": "31"}, "VisibilityTimeout"),
            ({}, {"RedrivePolicy": redrive("dead")}, "RedrivePolicy"),
            ({"RedrivePolicy": redrive("dead")}, {"RedrivePolicy": redrive("dead", 2)}, "RedrivePolicy"),
            ({"KmsMasterKeyId": "a"}, {"KmsMasterKeyId": "b"}, "KmsMasterKeyId"),
        ],
    )
    async def test_creating_it_again_with_another_value_names_the_attribute(self, api, first, second, differs):
        await api.create("dead")
        await api.create("orders", first)
        assert await api.refused("CreateQueue", QueueName="orders", Attributes=second) == (
            "QueueNameExists",
            f"A queue already exists with the same name and a different value for attribute {differs}",
        )

    async def test_a_fifo_queue_can_be_created_again_with_what_it_is(self, api):
        await api.create("a.fifo", BY_CONTENT)
        await api.create("a.fifo", {"FifoQueue": "True", "ContentBasedDeduplication": "TRUE"})
        refusal = await api.refused(
            "CreateQueue", QueueName="a.fifo", Attributes={**FIFO, "ContentBasedDeduplication": "false"}
        )
        assert refusal[0] == "QueueNameExists"

    async def test_a_changed_attribute_is_what_the_next_creation_is_compared_with(self, api):
        await api.create("orders", {"DelaySeconds": "1"})
        await api("SetQueueAttributes", "orders", Attributes={"DelaySeconds": "2"})
        await api.create("orders", {"DelaySeconds": "2"})
        assert (await api.refused("CreateQueue", QueueName="orders", Attributes={"DelaySeconds": "1"}))[0] == (
            "QueueNameExists"
        )


class TestFinding:
    @pytest.mark.parametrize(
        "action",
        [
            "DeleteQueue",
            "GetQueueAttributes",
            "ListDeadLetterSourceQueues",
            "ListQueueTags",
            "PurgeQueue",
            "ReceiveMessage",
        ],
    )
    @pytest.mark.parametrize("name", ["nowhere", "nowhere.fifo", "no where", "\ud800"])
    async def test_a_queue_that_is_not_there_says_so(self, api, action, name):
        assert await api.refused(action, name) == NOWHERE

    async def test_its_text_is_another_in_the_query_protocol(self, api):
        with pytest.raises(Exception, match="does not exist") as caught:
            await api("GetQueueUrl", QueueName="nowhere")
        assert caught.value.query_message == "The specified queue does not exist for this wsdl version."

    @pytest.mark.parametrize("action", ["DeleteQueue", "ReceiveMessage", "PurgeQueue", "GetQueueAttributes"])
    async def test_a_queue_url_is_required(self, api, action):
        assert await api.refused(action) == (
            "MissingRequiredParameterException",
            "The request must contain the parameter QueueUrl.",
        )

    async def test_there_are_no_other_actions(self, api):
        assert await api.refused("DropQueue") == (
            "UnknownOperationException",
            "The action DropQueue is not valid for this endpoint.",
        )


class TestListing:
    @pytest.fixture(autouse=True)
    async def _queues(self, api):
        for name in ("b-1", "a-2", "a-1", "a-3", "a.fifo", "A-1"):
            await api.create(name)

    async def names(self, api, **request):
        return [url.rpartition("/")[2] for url in (await api("ListQueues", **request)).get("QueueUrls", [])]

    async def test_all_queues_are_listed_by_name(self, api):
        assert await self.names(api) == ["A-1", "a-1", "a-2", "a-3", "a.fifo", "b-1"]

    @pytest.mark.parametrize(
        ("prefix", "names"),
        [
            ("a-", ["a-1", "a-2", "a-3"]),
            ("a.", ["a.fifo"]),
            ("a.fifo", ["a.fifo"]),
            ("a.fifo.", []),
            ("", ["A-1", "a-1", "a-2", "a-3", "a.fifo", "b-1"]),
            ("c", []),
            ("%", []),
            ("~", []),
            ("\ud800", []),
        ],
    )
    async def test_a_prefix_chooses(self, api, prefix, names):
        assert await self.names(api, QueueNamePrefix=prefix) == names

    async def test_where_there_is_none_the_list_is_left_out(self, api):
        assert await api("ListQueues", QueueNamePrefix="c") == {}

    async def test_pages_follow_each_other(self, api):
        pages, request = [], {"QueueNamePrefix": "a", "MaxResults": 2}
        while True:
            answer = await api("ListQueues", **request)
            pages.append([url.rpartition("/")[2] for url in answer["QueueUrls"]])
            if "NextToken" not in answer:
                break
            request["NextToken"] = answer["NextToken"]
        assert pages == [["a-1", "a-2"], ["a-3", "a.fifo"]]

    async def test_a_queue_that_is_deleted_between_pages_doesnt_matter(self, api):
        token = (await api("ListQueues", MaxResults=2))["NextToken"]
        await api("DeleteQueue", "a-1")
        assert await self.names(api, MaxResults=2, NextToken=token) == ["a-2", "a-3"]

    async def test_without_a_page_size_there_is_no_next_page(self, api):
        assert "NextToken" not in await api("ListQueues")

    @pytest.mark.parametrize("size", [0, -1, 1001])
    async def test_a_page_has_1_to_1000(self, api, size):
        assert await api.refused("ListQueues", MaxResults=size) == (
            "InvalidParameterValueException",
            "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer between 1 and 1000.",
        )

    @pytest.mark.parametrize("token", ["garbage", "", "\ud800", "4pyT", "*"])
    async def test_a_token_that_nobody_gave_is_refused(self, api, token):
        assert await api.refused("ListQueues", NextToken=token) == (
            "InvalidParameterValueException",
            "Invalid or expired next token.",
        )

    async def test_a_dead_letter_queues_sources_are_listed(self, api):
        for name in ("s2", "s1", "s3"):
            await api.create(name, {"RedrivePolicy": redrive("b-1")})
        answer = await api("ListDeadLetterSourceQueues", "b-1", MaxResults=2)
        assert [url.rpartition("/")[2] for url in answer["queueUrls"]] == ["s1", "s2"]
        answer = await api("ListDeadLetterSourceQueues", "b-1", MaxResults=2, NextToken=answer["NextToken"])
        assert [url.rpartition("/")[2] for url in answer["queueUrls"]] == ["s3"]
        assert "NextToken" not in answer
        assert await api("ListDeadLetterSourceQueues", "a-1") == {"queueUrls": []}


class TestDeleting:
    async def test_a_deleted_queue_is_gone_with_its_messages(self, api):
        await api.create("orders")
        await api.send("orders")
        assert await api("DeleteQueue", "orders") == {}
        assert await api.refused("ReceiveMessage", "orders") == NOWHERE
        api.clock.advance(60)
        await api.create("orders")
        assert await api.receive("orders") == []
        assert await api.counts("orders") == (0, 0, 0)

    async def test_its_name_can_be_taken_again_after_a_minute(self, api):
        await api.create("orders")
        await api("DeleteQueue", "orders")
        api.clock.advance(59.999)
        assert await api.refused("CreateQueue", QueueName="orders") == (
            "QueueDeletedRecently",
            "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
        )
        api.clock.advance(0.001)
        assert await api.create("orders")

    async def test_a_switch_turns_that_minute_off(self, tmp_path):
        async with Api(tmp_path / "queues.db", recreate_delay=False) as api:
            await api.create("orders")
            await api("DeleteQueue", "orders")
            assert await api.create("orders")

    async def test_a_handle_of_the_queue_before_is_not_valid_in_the_one_after(self, api):
        await api.create("orders")
        await api.send("orders")
        [held] = await api.receive("orders")
        await api("DeleteQueue", "orders")
        api.clock.advance(60)
        await api.create("orders")
        refusal = await api.refused("DeleteMessage", "orders", ReceiptHandle=held["ReceiptHandle"])
        assert refusal[0] == "ReceiptHandleIsInvalid"

    async def test_a_receive_that_waits_at_it_is_told(self, api):
        await api.create("orders")
        polls = [api.poll("orders") for _ in range(3)]
        await api.until_polling(3)
        await api("DeleteQueue", "orders")
        for poll in polls:
            with pytest.raises(Exception, match="does not exist"):
                await poll

    async def test_a_dead_letter_queue_that_was_deleted_leaves_messages_where_they_are(self, api):
        queue, dead = await api.pair()
        await api.send(queue)
        await api("DeleteQueue", dead)
        for _ in range(3):
            assert await api.bodies(queue, VisibilityTimeout=0) == ["body"]
        api.clock.advance(60)
        await api.create(dead)
        assert await api.receive(queue) == []
        assert await api.bodies(dead) == ["body"]


class TestPurging:
    async def test_a_purge_takes_held_and_delayed_messages_too(self, api):
        await api.create("orders")
        for _ in range(3):
            await api.send("orders")
        await api.send("orders", DelaySeconds=5)
        await api.receive("orders", 1)
        assert await api.counts("orders") == (2, 1, 1)
        assert await api("PurgeQueue", "orders") == {}
        assert await api.counts("orders") == (0, 0, 0)
        api.clock.advance(60)
        assert await api.receive("orders") == []

    async def test_another_purge_has_to_wait_a_minute(self, api):
        await api.create("orders")
        await api("PurgeQueue", "orders")
        api.clock.advance(59.999)
        with pytest.raises(Exception, match="Only one PurgeQueue operation on orders is allowed") as caught:
            await api("PurgeQueue", "orders")
        assert (caught.value.shape, caught.value.status) == ("PurgeQueueInProgress", 403)
        api.clock.advance(0.001)
        assert await api("PurgeQueue", "orders") == {}

    async def test_messages_sent_after_it_come(self, api):
        await api.create("orders")
        await api.send("orders", "before")
        await api("PurgeQueue", "orders")
        await api.send("orders", "after")
        assert await api.bodies("orders") == ["after"]

    async def test_it_forgets_what_was_sent(self, api):
        await api.create("orders.fifo")
        first = await api.send("orders.fifo", "a", "g", "once")
        await api("PurgeQueue", "orders.fifo")
        second = await api.send("orders.fifo", "b", "g", "once")
        assert int(second["SequenceNumber"]) > int(first["SequenceNumber"])
        assert await api.bodies("orders.fifo") == ["b"]

    async def test_a_handle_from_before_it_deletes_nothing_and_changes_nothing(self, api):
        await api.create("orders.fifo")
        await api.send("orders.fifo", "a", "g", "once")
        [held] = await api.receive("orders.fifo")
        await api("PurgeQueue", "orders.fifo")
        await api.delete("orders.fifo", held)
        refusal = await api.refused(
            "ChangeMessageVisibility", "orders.fifo", ReceiptHandle=held["ReceiptHandle"], VisibilityTimeout=1
        )
        assert refusal[1].endswith("Message does not exist or is not available for visibility timeout change.")

    async def test_what_it_leaves_behind_is_cleared_away(self, api):
        await api.create("orders")
        for _ in range(5):
            await api.send("orders")
        await api("PurgeQueue", "orders")
        database = api.engine._desk.database
        while database.read(lambda c: c.execute("SELECT count(*) FROM stocks").fetchone()).result() != (1,):
            await api.counts("orders")
        assert database.read(lambda c: c.execute("SELECT count(*) FROM messages").fetchone()).result() == (0,)


async def test_arns_name_account_and_region(tmp_path):
    async with Api(tmp_path / "queues.db", account="123456789012", region="eu-west-1") as api:
        await api.create("orders")
        assert await api.attributes("orders", "QueueArn") == {"QueueArn": "arn:aws:sqs:eu-west-1:123456789012:orders"}
        created = await api("CreateQueue", QueueName="dead", Attributes={"RedrivePolicy": redrive("orders")})
        assert created["QueueUrl"].endswith("/123456789012/dead")
        assert "123456789012:orders" in (await api.attributes("dead", "RedrivePolicy"))["RedrivePolicy"]
    assert ARN == "arn:aws:sqs:us-east-1:000000000000:"
