"""Message move tasks through the API."""

from __future__ import annotations

import base64
import json
import uuid

import pytest

from sqs_api import ARN, Api

INVALID = "InvalidParameterValueException"
NOT_FOUND = "ResourceNotFoundException"
NO_RESOURCE = "The resource that you specified for the"
FORM = "arn:<partition>:<service>:<region>:<account-id>:<resource-id>"


@pytest.fixture
async def api(tmp_path):
    async with Api(tmp_path / "queues.db") as api:
        yield api


async def letters(api, *bodies, name="tasks"):
    """A queue and its dead letter queue, with letters in it; each body's first sign is its group."""
    more = {"ContentBasedDeduplication": "true"} if name.endswith(".fifo") else {}
    queue, dead = await api.pair(name, **more)
    for body in bodies:
        await api.send(queue, body, body[0] if more else None)
    for _ in range(2):
        await api.receive(queue, VisibilityTimeout=0)
    assert await api.counts(dead) == (len(bodies), 0, 0)
    return queue, dead


async def start(api, dead, **more):
    return (await api("StartMessageMoveTask", SourceArn=ARN + dead, **more))["TaskHandle"]


async def tasks(api, dead, most=10):
    answer = await api("ListMessageMoveTasks", SourceArn=ARN + dead, MaxResults=most)
    return answer.get("Results", [])


async def collected(api, queue, count, **more):
    """The messages that arrive in a queue, as they arrive."""
    found = []
    while len(found) < count:
        found += await api.receive(queue, WaitTimeSeconds=20, AttributeNames=["All"], **more)
    return found


class TestMoving:
    @pytest.mark.parametrize("name", ["tasks", "tasks.fifo"])
    async def test_without_a_destination_letters_go_back_to_where_they_came_from(self, api, name):
        queue, dead = await letters(api, "a1", "b1", "a2", name=name)
        before = {m["Body"]: m["MessageId"] for m in await api.receive(dead, VisibilityTimeout=0)}
        api.clock.advance(7)
        await start(api, dead)
        moved = await collected(api, queue, 3)
        assert sorted(message["Body"] for message in moved) == ["a1", "a2", "b1"]
        for message in moved:
            assert message["MessageId"] != before[message["Body"]]
            assert message["Attributes"]["ApproximateReceiveCount"] == "1"
            assert message["Attributes"]["SentTimestamp"] == "1800000007000"
            assert "DeadLetterQueueSourceArn" not in message["Attributes"]
        assert await api.counts(dead) == (0, 0, 0)
        assert await api.until_moved(dead) == {
            "ApproximateNumberOfMessagesMoved": 3,
            "ApproximateNumberOfMessagesToMove": 3,
            "SourceArn": ARN + dead,
            "StartedTimestamp": 1_800_000_007_000,
            "Status": "COMPLETED",
        }

    async def test_several_sources_each_get_their_own(self, api):
        first, dead = await letters(api, "1a", "1b")
        second = await api.create("others", {"RedrivePolicy": (await api.attributes(first))["RedrivePolicy"]})
        await api.send(second, "2a")
        for _ in range(2):
            await api.receive(second, VisibilityTimeout=0)
        await start(api, dead)
        assert (await api.until_moved(dead))["ApproximateNumberOfMessagesMoved"] == 3
        assert (await api.bodies(first), await api.bodies(second)) == (["1a", "1b"], ["2a"])

    async def test_with_a_destination_they_go_there(self, api):
        _, dead = await letters(api, "a", "b")
        await api.create("elsewhere")
        await api.send(dead, "sent here by hand")
        await start(api, dead, DestinationArn=f"{ARN}elsewhere")
        moved = await collected(api, "elsewhere", 3)
        assert sorted(message["Body"] for message in moved) == ["a", "b", "sent here by hand"]
        assert (await api.until_moved(dead))["DestinationArn"] == f"{ARN}elsewhere"

    async def test_groups_keep_their_order(self, api):
        bodies = [f"{group}{number:02}" for number in range(3) for group in "abc"]
        queue, dead = await letters(api, *bodies, name="tasks.fifo")
        await start(api, dead)
        await api.until_moved(dead)
        moved = await api.bodies(queue)
        assert moved == [f"{group}{number:02}" for group in "abc" for number in range(3)]

    async def test_held_letters_stay_and_so_do_those_behind_them(self, api):
        queue, dead = await letters(api, "a1", "a2", "b1", name="tasks.fifo")
        await api.receive(dead, 1)
        await start(api, dead)
        task = await api.until_moved(dead)
        counts = task["ApproximateNumberOfMessagesMoved"], task["ApproximateNumberOfMessagesToMove"]
        assert counts == (1, 3)
        assert await api.bodies(queue) == ["b1"]
        assert await api.counts(dead) == (1, 1, 0)

    async def test_a_thousand_letters_move(self, api):
        queue, dead = await api.pair()
        await api.send_numbers(queue, 1000)
        while await api.receive(queue, VisibilityTimeout=1):
            pass
        api.clock.advance(1)
        while (await api.counts(dead))[0] < 1000:
            await api.receive(queue)
        await start(api, dead)
        assert (await api.until_moved(dead))["ApproximateNumberOfMessagesMoved"] == 1000
        assert await api.counts(queue) == (1000, 0, 0)

    async def test_a_letter_that_comes_back_meanwhile_is_not_moved_again(self, api):
        queue, dead = await letters(api, "a", "b")
        await start(api, dead, MaxNumberOfMessagesPerSecond=1)
        [first] = await collected(api, queue, 1, VisibilityTimeout=0)
        await api.receive(queue)
        assert await api.counts(dead) == (2, 0, 0)
        api.clock.advance(1)
        [second] = await collected(api, queue, 1)
        assert {first["Body"], second["Body"]} == {"a", "b"}
        api.clock.advance(1)
        assert (await api.until_moved(dead))["ApproximateNumberOfMessagesMoved"] == 2
        assert await api.counts(dead) == (1, 0, 0)

    async def test_an_old_handle_of_a_moved_letter_deletes_nothing(self, api):
        queue, dead = await letters(api, "a1", name="tasks.fifo")
        [held] = await api.receive(dead, VisibilityTimeout=0)
        await start(api, dead)
        await api.until_moved(dead)
        refusal = await api.refused("DeleteMessage", dead, ReceiptHandle=held["ReceiptHandle"])
        assert refusal[1].endswith("The receipt handle has expired.")
        assert await api.bodies(queue) == ["a1"]


class TestRates:
    async def test_one_a_second_is_one_a_second(self, api):
        queue, dead = await letters(api, "a", "b", "c", "d")
        handle = await start(api, dead, MaxNumberOfMessagesPerSecond=1)
        for number in range(1, 4):
            await collected(api, queue, 1)
            assert await api.receive(queue) == []
            [task] = await tasks(api, dead)
            assert (task["ApproximateNumberOfMessagesMoved"], task["TaskHandle"]) == (number, handle)
            api.clock.advance(1)
        await collected(api, queue, 1)
        task = await api.until_moved(dead)
        assert (task["Status"], task["MaxNumberOfMessagesPerSecond"]) == ("COMPLETED", 1)
        assert "TaskHandle" not in task

    async def test_a_pause_saves_a_seconds_worth_at_most(self, api):
        queue, dead = await letters(api, *"abcdefgh")
        await start(api, dead, MaxNumberOfMessagesPerSecond=2)
        await collected(api, queue, 1)
        api.clock.advance(3600)
        await collected(api, queue, 2)
        assert await api.receive(queue) == []

    async def test_a_clock_that_steps_back_doesnt_stop_it(self, api):
        queue, dead = await letters(api, *"abc")
        await start(api, dead, MaxNumberOfMessagesPerSecond=1)
        await collected(api, queue, 1)
        api.clock.advance(-3600)
        api.engine._mover.wake()
        assert await api.receive(queue) == []
        while (await tasks(api, dead))[0]["ApproximateNumberOfMessagesMoved"] < 2:
            api.clock.advance(1)
            api.engine._mover.wake()
        assert len(await collected(api, queue, 1)) >= 1


class TestEnding:
    async def test_a_cancelled_task_leaves_the_rest(self, api):
        queue, dead = await letters(api, *"abcde")
        handle = await start(api, dead, MaxNumberOfMessagesPerSecond=1)
        await collected(api, queue, 1)
        assert await api("CancelMessageMoveTask", TaskHandle=handle) == {"ApproximateNumberOfMessagesMoved": 1}
        [task] = await tasks(api, dead)
        assert (task["Status"], "TaskHandle" in task) == ("CANCELLED", False)
        api.clock.advance(10)
        assert await api.counts(dead) == (4, 0, 0)
        assert await api.refused("CancelMessageMoveTask", TaskHandle=handle) == (
            INVALID,
            "Only a task whose status is RUNNING can be cancelled.",
        )

    @pytest.mark.parametrize("which", ["destination", "source", "origin"])
    async def test_a_queue_that_is_deleted_meanwhile_fails_it(self, api, which):
        queue, dead = await letters(api, *"abcde")
        await api.create("elsewhere")
        more = {"DestinationArn": f"{ARN}elsewhere"} if which == "destination" else {}
        target = "elsewhere" if more else queue
        await start(api, dead, MaxNumberOfMessagesPerSecond=1, **more)
        await collected(api, target, 1)
        await api("DeleteQueue", {"destination": "elsewhere", "source": dead, "origin": queue}[which])
        api.clock.advance(1)
        if which == "source":
            database = api.engine._desk.database
            while (failure := database.read(failure_of).result()) == (None,):
                await api("ListQueues")
        else:
            task = await api.until_moved(dead)
            assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("FAILED", 1)
            failure = (task["FailureReason"],)
            assert await api.counts(dead) == (4, 0, 0)
        assert failure == ("AWS.SimpleQueueService.NonExistentQueue",)

    async def test_a_letter_that_came_from_nowhere_fails_it(self, api):
        _, dead = await letters(api)
        await api.send(dead, "by hand")
        await start(api, dead)
        task = await api.until_moved(dead)
        assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
        assert await api.bodies(dead) == ["by hand"]

    async def test_the_last_ten_are_remembered_the_newest_first(self, api):
        _, dead = await letters(api)
        for _ in range(12):
            await start(api, dead)
            await api.until_moved(dead)
            api.clock.advance(1)
        times = [task["StartedTimestamp"] for task in await tasks(api, dead)]
        assert times == [1_800_000_000_000 + second * 1000 for second in range(11, 1, -1)]
        assert len(await tasks(api, dead, 3)) == 3
        assert len((await api("ListMessageMoveTasks", SourceArn=ARN + dead))["Results"]) == 1


class TestOverRestarts:
    async def test_a_running_task_goes_on_after_a_restart(self, tmp_path):
        async with Api(tmp_path / "queues.db") as api:
            queue, dead = await letters(api, *"abc")
            handle = await start(api, dead, MaxNumberOfMessagesPerSecond=1)
            await collected(api, queue, 1)
        async with Api(tmp_path / "queues.db", api.clock) as again:
            api.clock.advance(1)
            await collected(again, queue, 1)
            [task] = await tasks(again, dead)
            assert (task["TaskHandle"], task["ApproximateNumberOfMessagesMoved"]) == (handle, 2)
            api.clock.advance(1)
            await collected(again, queue, 1)

    async def test_another_engine_carries_on_what_one_left(self, api, tmp_path):
        queue, dead = await letters(api, *"abc")
        async with Api(tmp_path / "queues.db", api.clock) as other:
            await start(other, dead, MaxNumberOfMessagesPerSecond=1)
            await collected(other, queue, 1)
        for _ in range(2):
            api.clock.advance(5)
            await collected(api, queue, 1)
        api.clock.advance(5)
        assert (await api.until_moved(dead))["ApproximateNumberOfMessagesMoved"] == 3

    async def test_two_engines_keep_to_one_rate(self, api, tmp_path):
        queue, dead = await letters(api, *"abcd")
        async with Api(tmp_path / "queues.db", api.clock) as other:
            await start(other, dead, MaxNumberOfMessagesPerSecond=1)
            for number in range(1, 4):
                await collected(api, queue, 1)
                assert await other.receive(queue) == []
                assert (await tasks(other, dead))[0]["ApproximateNumberOfMessagesMoved"] == number
                api.clock.advance(1)
                other.engine._mover.wake()
                api.engine._mover.wake()


class TestRefusals:
    async def test_the_source_must_be_a_dead_letter_queue(self, api):
        for name in ("orders", "others"):
            await api.create(name)
        assert await api.refused("StartMessageMoveTask", SourceArn=f"{ARN}orders", DestinationArn=f"{ARN}others") == (
            INVALID,
            "Source queue must be configured as a Dead Letter Queue.",
        )

    @pytest.mark.parametrize("action", ["StartMessageMoveTask", "ListMessageMoveTasks"])
    async def test_the_source_must_be_there(self, api, action):
        told = "The resource that you specified for the SourceArn parameter doesn't exist."
        assert await api.refused(action, SourceArn=f"{ARN}nowhere") == (NOT_FOUND, told)
        with pytest.raises(Exception, match="doesn't exist") as caught:
            await api(action, SourceArn=f"{ARN}\ud800")
        assert caught.value.status == 404
        for arn in ("", "orders", "arn:aws:sns:us-east-1:1:orders", "arn:aws:sqs:us-east-1:1:"):
            told = f"You must use this format to specify the SourceArn: {FORM}"
            assert await api.refused(action, SourceArn=arn) == (INVALID, told)
        assert await api.refused(action) == (
            "MissingRequiredParameterException",
            "The request must contain the parameter SourceArn.",
        )

    @pytest.mark.parametrize(
        ("arn", "refusal"),
        [
            (f"{ARN}nowhere", (NOT_FOUND, f"{NO_RESOURCE} DestinationArn parameter doesn't exist.")),
            ("invalid", (INVALID, f"You must use this format to specify the DestinationArn: {FORM}")),
            (f"{ARN}tasks-dlq", (INVALID, "Source queue arn and destination queue arn cannot be the same.")),
            (f"{ARN}a.fifo", (INVALID, "The source queue and destination queue must be of the same queue type.")),
        ],
    )
    async def test_the_destination_must_fit(self, api, arn, refusal):
        _, dead = await letters(api)
        await api.create("a.fifo")
        assert await api.refused("StartMessageMoveTask", SourceArn=ARN + dead, DestinationArn=arn) == refusal

    @pytest.mark.parametrize("rate", [0, -1, 501])
    async def test_a_rate_is_1_to_500(self, api, rate):
        _, dead = await letters(api)
        told = (
            "Value for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: You must enter a number that's "
            "between 1 and 500."
        )
        request = {"SourceArn": ARN + dead, "MaxNumberOfMessagesPerSecond": rate}
        assert await api.refused("StartMessageMoveTask", **request) == (INVALID, told)

    @pytest.mark.parametrize("most", [0, 11])
    async def test_a_list_has_1_to_10(self, api, most):
        _, dead = await letters(api)
        shape, told = await api.refused("ListMessageMoveTasks", SourceArn=ARN + dead, MaxResults=most)
        assert (shape, told.rpartition(": ")[2]) == (INVALID, "You must enter a number that's between 1 and 10.")

    async def test_a_queue_has_one_running_task(self, api):
        _, dead = await letters(api, "a", "b")
        await start(api, dead, MaxNumberOfMessagesPerSecond=1)
        assert await api.refused("StartMessageMoveTask", SourceArn=ARN + dead) == (
            INVALID,
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        )

    @pytest.mark.parametrize(
        "handle",
        [
            "foobared",
            "*",
            "\ud800",
            base64.b64encode(b"4").decode(),
            base64.b64encode(b"{}").decode(),
            base64.b64encode(b'{"taskId": 4, "sourceArn": "arn:aws:sqs:us-east-1:1:q"}').decode(),
            base64.b64encode(b'{"taskId": "x", "sourceArn": 4}').decode(),
            base64.b64encode(b"[" * 100_000).decode(),
        ],
    )
    async def test_garbage_is_no_task_handle(self, api, handle):
        told = (INVALID, "Value for parameter TaskHandle is invalid.")
        assert await api.refused("CancelMessageMoveTask", TaskHandle=handle) == told

    async def test_a_task_must_be_there_to_be_cancelled(self, api):
        await api.create("orders")

        def handle(source):
            said = {"taskId": str(uuid.uuid4()), "sourceArn": ARN + source}
            return base64.b64encode(json.dumps(said).encode()).decode()

        assert await api.refused("CancelMessageMoveTask", TaskHandle=handle("nowhere")) == (
            NOT_FOUND,
            "The resource that you specified for the SourceArn parameter doesn't exist.",
        )
        assert await api.refused("CancelMessageMoveTask", TaskHandle=handle("orders")) == (
            NOT_FOUND,
            "Task does not exist.",
        )

    async def test_a_task_handle_tells_task_and_source(self, api):
        _, dead = await letters(api)
        said = json.loads(base64.b64decode(await start(api, dead)))
        assert said == {"taskId": str(uuid.UUID(said["taskId"])), "sourceArn": ARN + dead}


def failure_of(connection):
    return connection.execute("SELECT failure FROM move_tasks").fetchone()
