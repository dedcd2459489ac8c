from __future__ import annotations

import json

import pytest

from fanfold import Reject, TaskQueueHandler, handler
from fanfold.errors import NotFifoError

SEVEN_KEYS = {
    "entity_id": "doc-1",
    "task_name": "yearBuilt",
    "task_config": {"page": 3},
    "metadata": {"tenant": "acme"},
    "timestamp": "2026-11-24T02:00:00+00:00",
    "retry_count": 0,
    "total_tasks": 1,
}


@pytest.fixture
def queue(sqs_client, sqs_queue, monkeypatch):
    monkeypatch.setattr(handler, "LONG_POLL", 0.0)  # nothing here waits for a message that isn't there
    made = TaskQueueHandler(sqs_client, *sqs_queue)
    yield made
    made.close()


async def answer(**given):
    return given


async def fail(**_):
    raise LookupError("no such page")


def plain_send(client, url, body):
    client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="g", MessageDeduplicationId="d")


@pytest.mark.parametrize(("client", "url"), [(None, "https://sqs.eu-west-1.amazonaws.com/1/t.fifo"), (object(), "")])
def test_a_missing_client_or_queue_url_is_a_value_error(client, url):
    with pytest.raises(ValueError, match="is missing"):
        TaskQueueHandler(client, url)


def test_a_queue_that_isnt_fifo_is_refused_by_its_name():
    with pytest.raises(NotFifoError, match="ends in"):
        TaskQueueHandler(object(), "https://sqs.eu-west-1.amazonaws.com/1/tasks")


async def test_one_task_goes_in_and_comes_out_completed(queue):
    assert queue.enqueue_tasks("doc-1", [{"name": "yearBuilt", "config": {"page": 3}}], {"tenant": "acme"}) == 1
    done = await queue.process_one(answer, extra="handed on")
    given = {key: SEVEN_KEYS[key] for key in ("entity_id", "task_name", "task_config", "metadata")}
    assert done == {
        "entity_id": "doc-1",
        "task_name": "yearBuilt",
        "result": given | {"extra": "handed on"},
        "status": "completed",
    }
    counts = {"messages_available": 0, "messages_in_flight": 0, "messages_delayed": 0}
    assert queue.get_queue_status() == counts


async def test_an_empty_queue_is_none(queue):
    assert await queue.process_one(answer) is None


async def test_a_failing_callback_is_reported_and_its_message_kept(queue):
    queue.enqueue_tasks("doc-1", [{"name": "yearBuilt"}], {})
    done = await queue.process_one(fail)
    assert done == {"entity_id": "doc-1", "task_name": "yearBuilt", "error": "no such page", "status": "failed"}
    counts = queue.get_queue_status()
    assert counts["messages_available"] + counts["messages_in_flight"] == 1


async def test_a_rejected_task_is_a_dead_letter_with_its_reason(queue):
    async def reject(**_):
        raise Reject("it has no roof")

    queue.enqueue_tasks("doc-1", [{"name": "roofType"}], {})
    assert (await queue.process_one(reject))["status"] == "failed"
    [letter] = queue.get_dlq_messages()
    assert (letter["entity_id"], letter["task_name"], letter["retry_count"]) == ("doc-1", "roofType", 0)
    assert letter["reason"] == "Reject: it has no roof"
    assert {"timestamp", "receipt_handle", "body", "receive_count"} <= letter.keys()


async def test_an_unreadable_message_is_set_aside_and_blinds_nobody(queue, sqs_client):
    plain_send(sqs_client, queue.queue_url, "not json")
    assert (await queue.process_one(answer))["status"] == "failed"
    [letter] = queue.get_dlq_messages()
    assert (letter["entity_id"], letter["body"]) == (None, "not json")


async def test_a_message_of_a_plain_boto3_producer_is_processed(queue, sqs_client):
    plain_send(sqs_client, queue.queue_url, json.dumps(SEVEN_KEYS))
    done = await queue.process_one(answer)
    assert done["result"] == {key: SEVEN_KEYS[key] for key in done["result"]}
    assert len(done["result"]) == 4


def test_a_plain_boto3_consumer_reads_our_message(queue, sqs_client):
    queue.enqueue_tasks("doc-1", [{"name": "yearBuilt", "config": {"page": 3}}], {"tenant": "acme"}, event_id="7")
    [message] = sqs_client.receive_message(
        QueueUrl=queue.queue_url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    )["Messages"]
    body = json.loads(message["Body"])
    assert {key: body[key] for key in SEVEN_KEYS if key != "timestamp"} == {
        key: value for key, value in SEVEN_KEYS.items() if key != "timestamp"
    }
    assert message["Attributes"]["MessageGroupId"] == "doc-1-yearBuilt"
    assert message["Attributes"]["MessageDeduplicationId"] == f"doc-1-yearBuilt-{body['fan_out_id']}"
    assert message["MessageAttributes"]["task_name"]["StringValue"] == "yearBuilt"


def test_without_a_dead_letter_queue_there_are_none_to_look_at_and_that_is_said(sqs_client, caplog):
    url = sqs_client.create_queue(QueueName="alone.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    alone = TaskQueueHandler(sqs_client, url)
    assert alone.get_dlq_messages() == []
    assert "dead_letter.unavailable" in caplog.text
    alone.close()
    sqs_client.delete_queue(QueueUrl=url)


@pytest.mark.usefixtures("sqs_client")  # for its credentials
def test_the_environment_says_where_the_queue_is(sqs_queue):
    url, dlq_url = sqs_queue
    variables = {"SQS_TASK_QUEUE_URL": url, "SQS_DLQ_URL": dlq_url, "AWS_DEFAULT_REGION": "eu-west-1"}
    made = TaskQueueHandler.from_env(variables)
    assert made.enqueue_tasks("doc-1", [{"name": "a"}, {"name": "b"}], {}) == 2
    made.close()
    made.sqs_client.close()
    with pytest.raises(ValueError, match="SQS_TASK_QUEUE_URL"):
        TaskQueueHandler.from_env({})
