"""Deleting and changing the visibility through the API, in queues of both types."""

from __future__ import annotations

import pytest

from fanfold.engine.service import SqsError
from sqs_api import BY_CONTENT, Api

INVALID = "InvalidParameterValueException"
EXPIRED = "Value {0} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
BEYOND = (
    "Value {0} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond "
    "the limit [43200 seconds]"
)
OUT_OF_RANGE = "Value 43201 for parameter VisibilityTimeout is invalid. Reason:"
UNAVAILABLE = (
    "Value {0} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for "
    "visibility timeout change."
)


@pytest.fixture
async def api(tmp_path):
    async with Api(tmp_path / "queues.db") as api:
        await api.create("orders")
        await api.create("others")
        await api.create("orders.fifo", BY_CONTENT)
        yield api


@pytest.fixture(params=["orders", "orders.fifo"])
def queue(request):
    return request.param


async def one(api, queue, body="a", **more):
    """A message that was received."""
    await api.send(queue, body, "g" if queue.endswith(".fifo") else None)
    return (await api.receive(queue, **more))[0]


def handle(message):
    return {"ReceiptHandle": message["ReceiptHandle"]}


class TestBothTypes:
    async def test_a_deleted_message_is_gone_and_a_second_delete_succeeds(self, api, queue):
        message = await one(api, queue)
        for _ in range(2):
            assert await api("DeleteMessage", queue, **handle(message)) == {}
        assert await api.counts(queue) == (0, 0, 0)

    async def test_after_an_extension_the_same_handle_still_deletes(self, api, queue):
        message = await one(api, queue, VisibilityTimeout=30)
        api.clock.advance(20)
        assert await api.change(queue, message, 30) == {}
        api.clock.advance(20)
        assert await api.receive(queue) == []
        await api.delete(queue, message)
        assert await api.counts(queue) == (0, 0, 0)

    async def test_a_message_given_back_is_available_at_once_and_not_for_good(self, api, queue):
        await api.change(queue, await one(api, queue), 0)
        assert await api.bodies(queue) == ["a"]
        assert await api.receive(queue) == []

    async def test_a_deleted_messages_visibility_cant_change(self, api, queue):
        message = await one(api, queue)
        await api.delete(queue, message)
        assert await api.refused("ChangeMessageVisibility", queue, VisibilityTimeout=42, **handle(message)) == (
            INVALID,
            UNAVAILABLE.format(message["ReceiptHandle"]),
        )

    @pytest.mark.parametrize("garbage", ["garbage", " ", "1.1", "9" * 400, "\u0661.1.x"])
    async def test_garbage_is_no_handle(self, api, queue, garbage):
        told = f'The input receipt handle "{garbage}" is not a valid receipt handle.'
        with pytest.raises(SqsError) as caught:
            await api("DeleteMessage", queue, ReceiptHandle=garbage)
        assert (caught.value.shape, caught.value.message, caught.value.status) == ("ReceiptHandleIsInvalid", told, 404)
        refusal = await api.refused("ChangeMessageVisibility", queue, ReceiptHandle=garbage, VisibilityTimeout=1)
        assert refusal == ("ReceiptHandleIsInvalid", told)

    async def test_another_queues_handle_is_not_valid_here(self, api, queue):
        message = await one(api, queue)
        told = f'The receipt handle "{message["ReceiptHandle"]}" is not valid for this queue.'
        assert await api.refused("DeleteMessage", "others", **handle(message)) == ("ReceiptHandleIsInvalid", told)
        assert await api.counts(queue) == (0, 1, 0)

    async def test_a_lease_ends_twelve_hours_after_its_receive_at_most(self, api, queue):
        message = await one(api, queue, VisibilityTimeout=43_200)
        api.clock.advance(100)
        assert await api.refused("ChangeMessageVisibility", queue, VisibilityTimeout=43_101, **handle(message)) == (
            INVALID,
            BEYOND.format(43101),
        )
        assert await api.change(queue, message, 43_100) == {}

    @pytest.mark.parametrize("seconds", [-1, 43_201])
    async def test_a_timeout_is_0_to_43200(self, api, queue, seconds):
        message = await one(api, queue)
        assert await api.refused("ChangeMessageVisibility", queue, VisibilityTimeout=seconds, **handle(message)) == (
            INVALID,
            f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200.",
        )

    async def test_handle_and_timeout_are_required(self, api, queue):
        for action, request, missing in (
            ("DeleteMessage", {}, "ReceiptHandle"),
            ("DeleteMessage", {"ReceiptHandle": ""}, "ReceiptHandle"),
            ("ChangeMessageVisibility", {"VisibilityTimeout": 1}, "ReceiptHandle"),
            ("ChangeMessageVisibility", {"ReceiptHandle": "x"}, "VisibilityTimeout"),
        ):
            assert await api.refused(action, queue, **request) == (
                "MissingRequiredParameterException",
                f"The request must contain the parameter {missing}.",
            )

    async def test_a_handle_that_no_receive_has_given_is_refused(self, api, queue):
        message = await one(api, queue)
        start, _, end = message["ReceiptHandle"].partition(".")[2].partition(".")
        number = message["ReceiptHandle"].partition(".")[0]
        forged = f"{number}.{int(start) + 1}.{end}"
        told = ("ReceiptHandleIsInvalid", f'The input receipt handle "{forged}" is not a valid receipt handle.')
        assert await api.refused("DeleteMessage", queue, ReceiptHandle=forged) == told


class TestFifo:
    async def test_an_expired_handle_neither_deletes_nor_changes(self, api):
        message = await one(api, "orders.fifo", VisibilityTimeout=1)
        api.clock.advance(1)
        told = (INVALID, EXPIRED.format(message["ReceiptHandle"]))
        assert await api.refused("DeleteMessage", "orders.fifo", **handle(message)) == told
        assert (
            await api.refused("ChangeMessageVisibility", "orders.fifo", VisibilityTimeout=9, **handle(message)) == told
        )
        assert await api.bodies("orders.fifo") == ["a"]

    async def test_only_the_newest_handle_counts(self, api):
        old = await one(api, "orders.fifo", VisibilityTimeout=0)
        [new] = await api.receive("orders.fifo")
        assert (await api.refused("DeleteMessage", "orders.fifo", **handle(old)))[0] == INVALID
        await api.delete("orders.fifo", new)

    async def test_a_handle_from_before_the_move_to_the_dead_letter_queue_has_expired(self, api):
        queue, dead = await api.pair("tasks.fifo", ContentBasedDeduplication="true")
        message = await one(api, queue, VisibilityTimeout=0)
        await api.receive(queue)
        assert (await api.refused("DeleteMessage", queue, **handle(message)))[1] == (
            EXPIRED.format(message["ReceiptHandle"])
        )
        assert await api.counts(dead) == (1, 0, 0)


class TestStandard:
    async def test_an_expired_handle_still_deletes(self, api):
        message = await one(api, "orders", VisibilityTimeout=1)
        api.clock.advance(1)
        await api.delete("orders", message)
        assert await api.counts("orders") == (0, 0, 0)

    async def test_an_expired_handle_still_hides_the_message(self, api):
        message = await one(api, "orders", VisibilityTimeout=1)
        api.clock.advance(1)
        await api.change("orders", message, 10)
        assert await api.receive("orders") == []
        api.clock.advance(10)
        assert await api.bodies("orders") == ["a"]

    async def test_an_older_handle_gives_the_message_back(self, api):
        old = await one(api, "orders", VisibilityTimeout=0)
        assert await api.bodies("orders", VisibilityTimeout=30) == ["a"]
        await api.change("orders", old, 0)
        assert await api.bodies("orders") == ["a"]

    async def test_the_handle_of_another_message_is_none_of_one_that_nobody_has_received(self, api):
        message = await one(api, "orders")
        await api.send("orders", "b")
        queue_id, seq, receipt = message["ReceiptHandle"].split(".")
        forged = {"ReceiptHandle": f"{queue_id}.{int(seq) + 1}.{receipt}"}
        assert (await api.refused("DeleteMessage", "orders", **forged))[0] == "ReceiptHandleIsInvalid"
        refusal = await api.refused("ChangeMessageVisibility", "orders", VisibilityTimeout=9, **forged)
        assert refusal[0] == "ReceiptHandleIsInvalid"
        assert await api.bodies("orders") == ["b"]

    async def test_a_handle_from_before_the_move_to_the_dead_letter_queue_touches_nothing(self, api):
        queue, dead = await api.pair()
        message = await one(api, queue, VisibilityTimeout=0)
        await api.receive(queue)
        await api.delete(queue, message)
        refusal = await api.refused("ChangeMessageVisibility", queue, VisibilityTimeout=1, **handle(message))
        assert refusal[1] == UNAVAILABLE.format(message["ReceiptHandle"])
        assert await api.counts(dead) == (1, 0, 0)


class TestBatches:
    async def test_each_entry_has_its_answer(self, api, queue):
        for body in "abc":
            await api.send(queue, body, "g" if queue.endswith(".fifo") else None)
        received = await api.receive(queue)
        changes = [{"Id": m["Body"], **handle(m), "VisibilityTimeout": 60} for m in received]
        successful = {"Successful": [{"Id": "a"}, {"Id": "b"}, {"Id": "c"}]}
        assert await api("ChangeMessageVisibilityBatch", queue, Entries=changes) == successful
        api.clock.advance(59)
        assert await api.counts(queue) == (0, 3, 0)
        deletes = [{"Id": m["Body"], **handle(m)} for m in received]
        assert await api("DeleteMessageBatch", queue, Entries=deletes) == successful
        assert await api.counts(queue) == (0, 0, 0)

    async def test_bad_entries_leave_the_good_ones_alone(self, api, queue):
        message = await one(api, queue)
        deletes = [{"Id": "1"}, {"Id": "2", **handle(message)}, {"Id": "3", "ReceiptHandle": "dummy"}]
        assert await api("DeleteMessageBatch", queue, Entries=deletes) == {
            "Successful": [{"Id": "2"}],
            "Failed": [
                {
                    "Id": "1",
                    "SenderFault": True,
                    "Code": "MissingParameter",
                    "Message": "The request must contain the parameter ReceiptHandle.",
                },
                {
                    "Id": "3",
                    "SenderFault": True,
                    "Code": "ReceiptHandleIsInvalid",
                    "Message": 'The input receipt handle "dummy" is not a valid receipt handle.',
                },
            ],
        }

    async def test_bad_changes_leave_the_good_ones_alone(self, api, queue):
        message = await one(api, queue)
        changes = [
            {"Id": "1", **handle(message), "VisibilityTimeout": 43_201},
            {"Id": "2", **handle(message)},
            {"Id": "3", "VisibilityTimeout": 1},
            {"Id": "4", **handle(message), "VisibilityTimeout": 100},
            {"Id": "5", "ReceiptHandle": "dummy", "VisibilityTimeout": 1},
        ]
        answer = await api("ChangeMessageVisibilityBatch", queue, Entries=changes)
        assert answer["Successful"] == [{"Id": "4"}]
        assert [(one["Id"], one["Code"], one["Message"]) for one in answer["Failed"]] == [
            (
                "1",
                "InvalidParameterValue",
                f"{OUT_OF_RANGE} VisibilityTimeout must be an integer between 0 and 43200.",
            ),
            (
                "2",
                "MissingParameter",
                "The request must contain the parameter ChangeMessageVisibilityBatchRequestEntry.2.VisibilityTimeout.",
            ),
            ("3", "MissingParameter", "The request must contain the parameter ReceiptHandle."),
            (
                "5",
                "ReceiptHandleIsInvalid",
                'The input receipt handle "dummy" is not a valid receipt handle.',
            ),
        ]

    async def test_an_expired_entry_of_a_fifo_queue_says_so(self, api):
        message = await one(api, "orders.fifo", VisibilityTimeout=0)
        answer = await api("DeleteMessageBatch", "orders.fifo", Entries=[{"Id": "1", **handle(message)}])
        assert answer == {
            "Failed": [
                {
                    "Id": "1",
                    "SenderFault": True,
                    "Code": "InvalidParameterValue",
                    "Message": EXPIRED.format(message["ReceiptHandle"]),
                }
            ]
        }
