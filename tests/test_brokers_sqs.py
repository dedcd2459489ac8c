"""The broker on SQS, against a transport that answers by script and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError

from fanfold import limits
from fanfold.brokers.boto import BotoTransport, broker_error, endpoint_of, make_client, region_of
from fanfold.brokers.protocol import Burial
from fanfold.brokers.sqs import SqsBroker
from fanfold.errors import (
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
    CredentialsError,
    NoDeadLetterQueueError,
    NotFifoError,
    PermissionMissingError,
    QueueNotFoundError,
)
from fanfold.model import Delivery, Failure, Message
from fanfold.telemetry import Telemetry

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo"
DLQ = "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks-dlq.fifo"
NOW = 1_700_000_000.0
FAILURE = Failure(type="LookupError", message="no such page", traceback="Traceback …")
REFUSED_HANDLE = "Value h for parameter ReceiptHandle is invalid. Reason:"
NOT_IN_FLIGHT = "Message does not exist or is not available for visibility timeout change."
DENIED = PermissionMissingError("sqs:ChangeMessageVisibility", "denied")


class StillClock:
    """A clock at which waiting takes no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return NOW

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@dataclass
class Scripted:
    """A transport. `script[action]` holds answers, errors or functions of the payload, in order; then all is well."""

    script: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def call(self, action, payload):
        self.asked.append((action, dict(payload)))
        steps = self.script.get(action, [])
        step = steps.pop(0) if steps else all_well
        if isinstance(step, Exception):
            raise step
        answer = step(payload) if callable(step) else step
        return await answer if asyncio.iscoroutine(answer) else answer

    def close(self):
        pass

    def entries(self, action):
        """The entries of each request of that action, without their ids."""
        return [
            [{k: v for k, v in entry.items() if k != "Id"} for entry in payload["Entries"]]
            for name, payload in self.asked
            if name == action
        ]


def all_well(payload):
    return {"Successful": [{"Id": e["Id"], "MessageId": e.get("MessageDeduplicationId")} for e in payload["Entries"]]}


def failing(position, *, code="InternalError", text="", sender_fault=False):
    """An answer in which the entry at `position` failed and the others were accepted."""

    def answer(payload):
        wrong = payload["Entries"][position]["Id"]
        failed = {"Id": wrong, "Code": code, "Message": text, "SenderFault": sender_fault}
        return {"Successful": [e for e in all_well(payload)["Successful"] if e["Id"] != wrong], "Failed": [failed]}

    return answer


def attributes(**wanted):
    return {"Attributes": {"FifoQueue": "true", **wanted}}


def message(number, *, group=None, body="{}"):
    return Message(body=body, group_id=group or f"g{number}", deduplication_id=f"m{number}")


def delivery(number=1, *, received_at=NOW, **fields):
    return Delivery(
        message_id=f"id{number}",
        receipt_handle=f"h{number}",
        body="{}",
        group_id=f"g{number}",
        deduplication_id=f"m{number}",
        receive_count=1,
        sent_at=NOW,
        received_at=received_at,
        **fields,
    )


def burial(number=1):
    return Burial(delivery=delivery(number), failure=FAILURE, attempts=3)


def sent_ids(transport, action="SendMessageBatch"):
    return [[entry["MessageDeduplicationId"] for entry in batch] for batch in transport.entries(action)]


@pytest.fixture
def transport():
    return Scripted()


@pytest.fixture
def events():
    return []


@pytest.fixture
def make(transport, events):
    def made(url=URL, **options):
        telemetry = Telemetry(events.append)
        options = {"transport": transport, "telemetry": telemetry, "clock": StillClock(), **options}
        return SqsBroker(url, rng=random.Random(1), **options)

    return made


@pytest.fixture
def broker(make):
    return make(dlq_url=DLQ)


# --- sending


async def test_42_messages_are_five_requests_under_way_at_once(broker, transport):
    together = asyncio.Barrier(5)

    async def answer_when_all_have_arrived(payload):
        await together.wait()
        return all_well(payload)

    transport.script["SendMessageBatch"] = [answer_when_all_have_arrived] * 5
    results = await broker.send([message(n) for n in range(42)])
    assert [result.message_id for result in results] == [f"m{n}" for n in range(42)]
    assert sorted(map(len, transport.entries("SendMessageBatch"))) == [2, 10, 10, 10, 10]


async def test_a_request_stays_within_one_mebibyte(broker, transport):
    half = "x" * (limits.MAX_REQUEST_BYTES // 2)
    await broker.send([message(n, body=half) for n in range(3)])
    assert [len(batch) for batch in sent_ids(transport)] == [2, 1]


async def test_what_failed_in_passing_is_sent_again_with_the_same_deduplication_id(broker, transport):
    transport.script["SendMessageBatch"] = [failing(1)]
    results = await broker.send([message(n) for n in range(3)])
    assert sent_ids(transport) == [["m0", "m1", "m2"], ["m1"]]
    assert [result.message_id for result in results] == ["m0", "m1", "m2"]


async def test_an_entry_that_the_answer_does_not_mention_has_failed_and_is_sent_again(broker, transport):
    transport.script["SendMessageBatch"] = [lambda payload: {"Successful": all_well(payload)["Successful"][:2]}]
    results = await broker.send([message(n) for n in range(3)])
    assert sent_ids(transport)[1:] == [["m2"]]
    assert results[2].error is None


async def test_an_empty_answer_is_no_success(broker, transport):
    transport.script["SendMessageBatch"] = [{}] * 9
    [result] = await broker.send([message(1)])
    assert result.error.retryable


async def test_the_senders_own_fault_is_not_tried_again(broker, transport):
    transport.script["SendMessageBatch"] = [failing(0, code="InvalidMessageContents", sender_fault=True)]
    bad, good = await broker.send([message(0), message(1)])
    assert (bad.error.code, bad.error.retryable) == ("InvalidMessageContents", False)
    assert good.message_id == "m1"
    assert len(transport.asked) == 1


async def test_a_lost_request_is_made_again_and_hides_nothing_of_the_others(broker, transport):
    transport.script["SendMessageBatch"] = [BrokerUnavailableError("gone")]
    results = await broker.send([message(n) for n in range(12)])
    assert [result.message_id for result in results] == [f"m{n}" for n in range(12)]


async def test_what_keeps_failing_is_reported_after_few_tries_with_growing_waits(make, transport):
    clock = StillClock()
    transport.script["SendMessageBatch"] = [BrokerUnavailableError("gone")] * 99
    [result] = await make(clock=clock).send([message(1)])
    assert (result.error.retryable, "gone" in result.error.text) == (True, True)
    assert len(transport.asked) == len(clock.slept) + 1
    assert len(transport.asked) < 6
    assert clock.slept == sorted(clock.slept)


async def test_a_request_that_is_refused_as_a_whole_is_the_error_of_each_entry(broker, transport):
    transport.script["SendMessageBatch"] = [BrokerError("BatchRequestTooLong: too long")]
    results = await broker.send([message(1), message(2)])
    assert ["BatchRequestTooLong" in result.error.text for result in results] == [True, True]


async def test_requests_with_messages_of_one_group_are_made_one_after_the_other(broker, transport):
    log = []

    async def answer_in_a_later_round(payload):
        log.append("begin")
        later = asyncio.Event()
        asyncio.get_running_loop().call_soon(later.set)
        await later.wait()
        log.append("end")
        return all_well(payload)

    transport.script["SendMessageBatch"] = [answer_in_a_later_round] * 3
    await broker.send([message(n, group="g") for n in range(30)])
    assert log == ["begin", "end"] * 3
    assert [batch[0] for batch in sent_ids(transport)] == ["m0", "m10", "m20"]


async def test_a_lost_request_is_made_again_before_the_next_one_of_its_group(broker, transport):
    transport.script["SendMessageBatch"] = [BrokerUnavailableError("gone")]
    await broker.send([message(n, group="g") for n in range(20)])
    assert [batch[0] for batch in sent_ids(transport)] == ["m0", "m0", "m10"]


async def test_a_throttled_entry_is_sent_again_whosever_fault_it_is(broker, transport):
    transport.script["SendMessageBatch"] = [failing(0, code="RequestThrottled", sender_fault=True)]
    [result] = await broker.send([message(1)])
    assert result.error is None


async def test_a_message_that_sqs_would_refuse_does_not_spoil_its_request(broker, transport):
    bad = Message(body="x", group_id="with space", deduplication_id="d")
    refused_one, good = await broker.send([bad, message(1)])
    assert "MessageGroupId" in refused_one.error.text
    assert good.message_id == "m1"
    assert sent_ids(transport) == [["m1"]]


# --- receiving


async def test_a_receive_asks_for_whole_seconds_within_the_limits_of_sqs(broker, transport):
    transport.script["ReceiveMessage"] = [{}]
    assert await broker.receive(25, wait=19.2, lease=0.4) == []
    [(_, asked)] = transport.asked
    assert (asked["MaxNumberOfMessages"], asked["WaitTimeSeconds"], asked["VisibilityTimeout"]) == (10, 20, 1)
    assert asked["MessageAttributeNames"] == ["All"]


async def test_each_receive_has_an_attempt_id_of_its_own(broker, transport):
    transport.script["ReceiveMessage"] = [{}, {}]
    await broker.receive(1, wait=0, lease=60)
    await broker.receive(1, wait=0, lease=60)
    assert len({asked["ReceiveRequestAttemptId"] for _, asked in transport.asked}) == 2


async def test_a_received_message_becomes_a_delivery(broker, transport):
    system = {"MessageGroupId": "g", "MessageDeduplicationId": "d", "ApproximateReceiveCount": "3",
              "SentTimestamp": "1700000000250"}  # fmt: skip
    own = {"entity_id": {"DataType": "String", "StringValue": "doc-1"},
           "pages": {"DataType": "Number", "StringValue": "3"},
           "picture": {"DataType": "Binary", "BinaryValue": b"x"}}  # fmt: skip
    told = {"MessageId": "id", "ReceiptHandle": "h", "Body": "{}", "Attributes": system, "MessageAttributes": own}
    transport.script["ReceiveMessage"] = [{"Messages": [told]}]
    [got] = await broker.receive(10, wait=0, lease=60)
    assert (got.message_id, got.receipt_handle, got.body, got.group_id, got.deduplication_id) == (
        "id", "h", "{}", "g", "d",
    )  # fmt: skip
    assert (got.receive_count, got.sent_at, got.received_at) == (3, 1700000000.25, NOW)
    assert got.attributes == {"entity_id": "doc-1"}


async def test_a_receive_that_fails_raises(broker, transport):
    transport.script["ReceiveMessage"] = [BrokerUnavailableError("gone")]
    with pytest.raises(BrokerUnavailableError):
        await broker.receive(1, wait=0, lease=60)


async def test_a_missing_permission_to_receive_is_told_once_though_every_receive_fails(broker, transport, events):
    transport.script["ReceiveMessage"] = [PermissionMissingError("sqs:ReceiveMessage", "denied")] * 2
    for _ in range(2):
        with pytest.raises(PermissionMissingError):
            await broker.receive(1, wait=0, lease=60)
    assert [event.fields["action"] for event in events] == ["sqs:ReceiveMessage"]


# --- leases and deletes


@pytest.mark.parametrize(("seconds", "whole"), [(0, 0), (0.1, 1), (60, 60), (60.5, 61)])
async def test_leases_are_extended_by_whole_seconds_and_never_shorter(broker, transport, seconds, whole):
    await broker.extend([delivery()], [seconds])
    assert transport.entries("ChangeMessageVisibilityBatch") == [[{"ReceiptHandle": "h1", "VisibilityTimeout": whole}]]


async def test_a_lease_ends_twelve_hours_after_the_receive(broker, transport):
    await broker.extend([delivery(received_at=NOW - 43_000), delivery(2, received_at=NOW - 50_000)], [900, 900])
    [[nearly, over]] = transport.entries("ChangeMessageVisibilityBatch")
    assert 195 <= nearly["VisibilityTimeout"] <= 200
    assert over["VisibilityTimeout"] == 0


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("ReceiptHandleIsInvalid", ""),
        ("AWS.SimpleQueueService.MessageNotInflight", ""),
        ("MessageNotInflight", ""),
        ("InvalidParameterValue", f"{REFUSED_HANDLE} The receipt handle has expired."),
        ("InvalidParameterValue", f"{REFUSED_HANDLE} {NOT_IN_FLIGHT}"),
    ],
)
async def test_a_handle_that_holds_nothing_any_more_is_a_lost_lease(broker, transport, code, text):
    transport.script["DeleteMessageBatch"] = [failing(0, code=code, text=text, sender_fault=True)]
    transport.script["ChangeMessageVisibilityBatch"] = [failing(0, code=code, text=text, sender_fault=True)]
    [deleted] = await broker.delete([delivery()])
    [extended] = await broker.extend([delivery()], [60])
    assert (deleted.lease_lost, extended.lease_lost) == (True, True)
    assert len(transport.asked) == 2


async def test_a_lease_that_would_be_too_long_is_not_lost(broker, transport):
    text = "Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
    wrong = failing(0, code="InvalidParameterValue", text=text, sender_fault=True)
    transport.script["ChangeMessageVisibilityBatch"] = [wrong]
    [error] = await broker.extend([delivery()], [60])
    assert not error.lease_lost


async def test_deletes_that_fail_in_passing_are_tried_again_and_each_has_its_answer(broker, transport):
    transport.script["DeleteMessageBatch"] = [failing(2)]
    assert await broker.delete([delivery(n) for n in range(10)]) == [None] * 10
    assert transport.entries("DeleteMessageBatch")[1] == [{"ReceiptHandle": "h2"}]


async def test_a_missing_permission_to_extend_is_told_once_and_is_no_lost_lease(broker, transport, events):
    transport.script["ChangeMessageVisibilityBatch"] = [DENIED, DENIED]
    for _ in range(2):
        [error] = await broker.extend([delivery()], [60])
        assert (error.lease_lost, error.retryable) == (False, False)
    assert [(event.name, event.fields["action"]) for event in events] == [
        ("permission.missing", "sqs:ChangeMessageVisibility")
    ]


# --- dead letters


async def test_a_copy_goes_to_the_dead_letter_queue_with_its_reason_before_the_original_is_deleted(broker, transport):
    assert await broker.dead_letter([burial()]) == [None]
    (sent, copy), (deleted, original) = transport.asked
    assert (sent, copy["QueueUrl"]) == ("SendMessageBatch", DLQ)
    assert (deleted, original["QueueUrl"]) == ("DeleteMessageBatch", URL)
    [entry] = copy["Entries"]
    assert entry["MessageAttributes"]["fanfold_error_type"]["StringValue"] == "LookupError"
    assert (entry["MessageGroupId"], entry["MessageDeduplicationId"]) == ("id1", "id1")


async def test_only_what_was_copied_is_deleted(broker, transport):
    transport.script["SendMessageBatch"] = [failing(1, code="InvalidMessageContents", sender_fault=True)]
    first, second, third = await broker.dead_letter([burial(n) for n in range(3)])
    assert (first, second.code, third) == (None, "InvalidMessageContents", None)
    assert transport.entries("DeleteMessageBatch") == [[{"ReceiptHandle": "h0"}, {"ReceiptHandle": "h2"}]]


@pytest.mark.parametrize("error", [PermissionMissingError("sqs:SendMessage", "denied"), QueueNotFoundError("gone")])
async def test_a_dead_letter_queue_that_can_not_be_written_is_told_once_and_nothing_is_deleted(
    broker, transport, events, error
):
    transport.script["SendMessageBatch"] = [error, error]
    for _ in range(2):
        [refused] = await broker.dead_letter([burial()])
        assert refused is not None
    assert transport.entries("DeleteMessageBatch") == []
    assert [event.name for event in events].count("dead_letter.unavailable") == 1


async def test_a_passing_failure_does_not_make_the_dead_letter_queue_unavailable(broker, transport, events):
    transport.script["SendMessageBatch"] = [BrokerUnavailableError("gone")] * 9
    [error] = await broker.dead_letter([burial()])
    assert error.retryable
    assert transport.entries("DeleteMessageBatch") == []
    assert events == []


async def test_without_a_dead_letter_queue_nothing_is_deleted_and_it_is_told_once(make, transport, events):
    broker = make()
    for _ in range(2):
        [error] = await broker.dead_letter([burial()])
        assert error is not None
    assert transport.asked == []
    assert [event.name for event in events] == ["dead_letter.unavailable"]


async def test_looking_for_dead_letters_without_a_queue_for_them_is_an_error_that_names_the_cure(make):
    with pytest.raises(NoDeadLetterQueueError, match=r"tasks\.fifo.*redrive policy.*SQS_DLQ_URL"):
        await make().dead_letters(10)


async def test_looking_at_dead_letters_gives_all_of_them_back(broker, transport):
    def letters(*numbers):
        return {"Messages": [{"MessageId": f"id{n}", "ReceiptHandle": f"h{n}", "Body": "no task"} for n in numbers]}

    transport.script["ReceiveMessage"] = [letters(*range(10)), letters(10, 11), {}, {}, {}]
    found = await broker.dead_letters(50)
    assert [letter.message_id for letter in found] == [f"id{n}" for n in range(12)]
    assert [letter.task for letter in found] == [None] * 12
    given_back = [e for batch in transport.entries("ChangeMessageVisibilityBatch") for e in batch]
    assert given_back == [{"ReceiptHandle": f"h{n}", "VisibilityTimeout": 0} for n in range(12)]


async def test_dead_letters_are_given_back_also_when_looking_fails_half_way(broker, transport):
    one = {"Messages": [{"MessageId": "i", "ReceiptHandle": "h", "Body": ""}]}
    transport.script["ReceiveMessage"] = [one, BrokerUnavailableError("gone")]
    with pytest.raises(BrokerUnavailableError):
        await broker.dead_letters(50)
    assert transport.entries("ChangeMessageVisibilityBatch") == [[{"ReceiptHandle": "h", "VisibilityTimeout": 0}]]


async def test_no_more_dead_letters_are_received_than_were_asked_for(broker, transport):
    transport.script["ReceiveMessage"] = [{"Messages": [{"MessageId": "i", "ReceiptHandle": "h", "Body": ""}]}, {}, {}]
    await broker.dead_letters(3)
    asked = [payload for action, payload in transport.asked if action == "ReceiveMessage"]
    assert [payload["MaxNumberOfMessages"] for payload in asked] == [3, 2, 2]
    # A short poll asks only some of SQS's servers: the last word is a long one's.
    assert [payload["WaitTimeSeconds"] for payload in asked] == [0, 0, 1]


# --- opening


@pytest.mark.parametrize("url", ["", "tasks.fifo", "ftp://host/1/tasks.fifo", "https:///1/tasks.fifo", "https://host/"])
def test_what_is_not_the_url_of_a_queue_is_refused_at_once(make, url):
    with pytest.raises(ConfigurationError, match="https://sqs"):
        make(url)


def test_a_standard_queue_is_refused_at_once(make):
    with pytest.raises(NotFifoError, match=r"\.fifo"):
        make(URL.removesuffix(".fifo"))


async def test_a_queue_that_says_that_it_is_not_fifo_is_refused(broker, transport):
    transport.script["GetQueueAttributes"] = [attributes(FifoQueue="false")]
    with pytest.raises(NotFifoError):
        await broker.open()


async def test_opening_twice_asks_once(broker, transport):
    transport.script["GetQueueAttributes"] = [attributes()]
    await broker.open()
    await broker.open()
    assert len(transport.asked) == 1


async def test_the_dead_letter_queue_is_found_from_the_redrive_policy(make, transport):
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:eu-west-1:123456789012:tasks-dlq.fifo"})
    transport.script["GetQueueAttributes"] = [attributes(RedrivePolicy=policy)]
    transport.script["GetQueueUrl"] = [{"QueueUrl": DLQ}]
    broker = make()
    await broker.open()
    await broker.dead_letter([burial()])
    assert transport.asked[1][1] == {"QueueName": "tasks-dlq.fifo", "QueueOwnerAWSAccountId": "123456789012"}
    assert transport.asked[2][1]["QueueUrl"] == DLQ


async def test_a_missing_permission_to_find_the_dead_letter_queue_is_not_fatal(make, transport):
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:eu-west-1:123456789012:tasks-dlq.fifo"})
    transport.script["GetQueueAttributes"] = [attributes(RedrivePolicy=policy)]
    transport.script["GetQueueUrl"] = [PermissionMissingError("sqs:GetQueueUrl", "denied")]
    await make().open()


async def test_a_dead_letter_queue_that_is_gone_is_no_missing_permission(make, transport, events):
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:eu-west-1:123456789012:tasks-dlq.fifo"})
    transport.script["GetQueueAttributes"] = [attributes(RedrivePolicy=policy)]
    transport.script["GetQueueUrl"] = [QueueNotFoundError("gone")]
    await make().open()
    assert events == []


async def test_a_missing_permission_to_look_at_the_queue_is_told_once_and_not_fatal(broker, transport, events):
    transport.script["GetQueueAttributes"] = [PermissionMissingError("sqs:GetQueueAttributes", "denied")]
    await broker.open()
    assert [event.name for event in events] == ["permission.missing"]


async def test_the_counts_of_the_queue_are_its_status(broker, transport):
    counts = {"ApproximateNumberOfMessages": "5", "ApproximateNumberOfMessagesNotVisible": "2",
              "ApproximateNumberOfMessagesDelayed": "1"}  # fmt: skip
    transport.script["GetQueueAttributes"] = [{"Attributes": counts}]
    status = await broker.status()
    assert (status.messages_available, status.messages_in_flight, status.messages_delayed) == (5, 2, 1)


# --- boto3


VPC = "https://vpce-0a1b-2c.sqs.eu-west-1.vpce.amazonaws.com"
FIPS = "https://sqs-fips.us-east-1.amazonaws.com"
DUAL_STACK = "https://sqs.us-east-1.api.aws"


@pytest.mark.parametrize(
    ("host", "region", "endpoint"),
    [
        ("https://sqs.eu-west-1.amazonaws.com", "eu-west-1", None),
        ("https://sqs.cn-north-1.amazonaws.com.cn", "cn-north-1", None),
        ("https://us-east-2.queue.amazonaws.com", "us-east-2", None),
        ("http://127.0.0.1:4566", None, "http://127.0.0.1:4566"),
        (VPC, "eu-west-1", VPC),
        (FIPS, "us-east-1", FIPS),
        (DUAL_STACK, "us-east-1", DUAL_STACK),
    ],
)
def test_region_and_endpoint_come_from_the_url(host, region, endpoint):
    assert (region_of(f"{host}/1/tasks.fifo"), endpoint_of(f"{host}/1/tasks.fifo")) == (region, endpoint)


def refused(code, status=400, text="as it is"):
    return ClientError({"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}, "x")


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (refused("AWS.SimpleQueueService.NonExistentQueue"), QueueNotFoundError),
        (refused("QueueDoesNotExist"), QueueNotFoundError),
        (refused("AccessDenied", 403), PermissionMissingError),
        (refused("AccessDeniedException", 403), PermissionMissingError),
        (refused("InvalidClientTokenId", 403), CredentialsError),
        (refused("ExpiredToken", 403), CredentialsError),
        (refused("RequestThrottled"), BrokerUnavailableError),
        (refused("ThrottlingException"), BrokerUnavailableError),
        (refused("", 503), BrokerUnavailableError),
        (refused("BatchRequestTooLong"), BrokerError),
        (boto.NoCredentialsError(), CredentialsError),
        (boto.EndpointConnectionError(endpoint_url=URL), BrokerUnavailableError),
        (boto.ReadTimeoutError(endpoint_url=URL), BrokerUnavailableError),
        (boto.ConnectTimeoutError(endpoint_url=URL), BrokerUnavailableError),
        (boto.ConnectionClosedError(endpoint_url=URL), BrokerUnavailableError),
        (boto.ParamValidationError(report="bad"), BrokerError),
        (ConnectionResetError("reset"), BrokerUnavailableError),
    ],
)
def test_each_of_botos_errors_is_one_of_ours(error, ours):
    assert type(broker_error(error, "SendMessageBatch", URL)) is ours


def test_a_missing_permission_is_named_as_iam_names_it():
    error = broker_error(refused("AccessDenied", 403), "DeleteMessageBatch", URL)
    assert error.action == "sqs:DeleteMessage"
    assert "sqs:DeleteMessage" in str(error)
    assert URL in str(error)


def test_a_missing_permission_for_the_queues_key_is_named_too():
    text = "User x is not authorized to perform: kms:GenerateDataKey on resource y"
    error = broker_error(refused("KMS.AccessDeniedException", text=text), "SendMessageBatch", URL)
    assert error.action == "kms:GenerateDataKey"


@pytest.fixture
def no_aws_settings(monkeypatch, tmp_path):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def test_what_stands_in_for_sqs_needs_no_region(no_aws_settings):  # noqa: ARG001 - sets the environment
    client = make_client("http://127.0.0.1:4566/1/tasks.fifo", region=None)
    assert client.meta.endpoint_url == "http://127.0.0.1:4566"
    client.close()


def test_a_host_that_botocore_refuses_is_a_configuration_error(no_aws_settings):  # noqa: ARG001 - as above
    with pytest.raises(ConfigurationError, match="no SQS client"):
        make_client("http://my_queue_:x/1/tasks.fifo", region=None)


def test_our_own_client_waits_long_for_a_poll_and_shortly_for_all_else(no_aws_settings):  # noqa: ARG001 - as above
    client = make_client(URL, region=None)
    timeouts = [method.__self__.meta.config.read_timeout for method in (client.receive_message, client.send_message)]
    assert timeouts == [40, 10]
    assert (client.meta.region_name, client.meta.endpoint_url) == ("eu-west-1", "https://sqs.eu-west-1.amazonaws.com")
    client.close()


async def test_a_client_that_was_given_is_not_closed():
    class Client:
        closed = False

        def get_queue_attributes(self, **_):
            return attributes()

        def close(self):
            self.closed = True

    client = Client()
    broker = SqsBroker(URL, client=client)
    await broker.open()
    await broker.close()
    assert not client.closed


async def test_without_a_client_the_lean_transport_is_made_anew_after_a_close(monkeypatch):
    made = []

    class Lean:
        def __init__(self, url, *, region, **_):
            self.told, self.closed = (url, region), 0
            made.append(self)

        async def call(self, _action, _payload):
            return attributes()

        def close(self):
            self.closed += 1

    monkeypatch.setattr("fanfold.brokers.lean.LeanTransport", Lean)
    broker = SqsBroker(URL, region="eu-north-1")
    for _ in range(2):
        await broker.open()
        await broker.close()
    await broker.close()
    assert [(each.told, each.closed) for each in made] == [((URL, "eu-north-1"), 1)] * 2


class BlockingClient:
    """A client whose receive waits until it is told to end."""

    def __init__(self) -> None:
        self.polling, self.end = threading.Event(), threading.Event()

    def receive_message(self, **_):
        self.polling.set()
        self.end.wait()
        return {}

    def send_message_batch(self, **payload):
        return all_well(payload)


async def test_a_long_poll_does_not_hold_up_a_send():
    client = BlockingClient()
    broker = SqsBroker(URL, client=client)
    poll = asyncio.create_task(broker.receive(10, wait=20, lease=60))
    try:
        await asyncio.to_thread(client.polling.wait)
        [result] = await broker.send([message(1)])
        assert (result.message_id, poll.done()) == ("m1", False)
    finally:
        client.end.set()
    assert await poll == []
    await broker.close()


async def test_a_clients_error_comes_as_ours():
    class Refusing:
        def delete_message_batch(self, **_):
            raise refused("AccessDenied", 403)

    transport = BotoTransport(Refusing())
    with pytest.raises(PermissionMissingError):
        await transport.call("DeleteMessageBatch", {"QueueUrl": URL, "Entries": []})
    transport.close()


_GIVE_UP_A_POLL = """
import asyncio, threading
from fanfold.brokers.sqs import SqsBroker

polling = threading.Event()

class Client:
    def receive_message(self, **_):
        polling.set()
        threading.Event().wait()

async def main():
    broker = SqsBroker("https://sqs.eu-west-1.amazonaws.com/1/tasks.fifo", client=Client())
    poll = asyncio.create_task(broker.receive(1, wait=20, lease=60))
    await asyncio.to_thread(polling.wait)
    poll.cancel()
    await broker.close()

asyncio.run(main())
"""


def test_a_poll_that_was_given_up_does_not_hold_up_the_end_of_the_process():
    subprocess.run([sys.executable, "-c", _GIVE_UP_A_POLL], check=True, timeout=300)
