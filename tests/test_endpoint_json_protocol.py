"""The JSON protocol. Its oracle is botocore: what that sends is understood, and what we answer that understands."""

from __future__ import annotations

import json

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from fanfold.endpoint import json_protocol
from fanfold.endpoint.exchange import Request
from fanfold.endpoint.model import sqs_model
from fanfold.engine.errors import SqsError

SERVICE = ServiceModel(Loader().load_service_model("sqs", "service-2"), "sqs")
ATTRIBUTE = {"DataType": "Binary.png", "BinaryValue": b"\x00\xff"}


def request(action, body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(method="POST", path="/", query="", headers={"x-amz-target": f"AmazonSQS.{action}"}, body=raw)


def from_botocore(action, payload):
    sent = create_serializer("json").serialize_to_request(payload, SERVICE.operation_model(action))
    headers = {name.lower(): value for name, value in sent["headers"].items()}
    return Request(method=sent["method"], path=sent["url_path"], query="", headers=headers, body=sent["body"])


def to_botocore(action, response):
    answered = {"status_code": response.status, "headers": dict(response.headers), "body": response.body}
    return create_parser("json").parse(answered, SERVICE.operation_model(action).output_shape)


def refused(action, body):
    with pytest.raises(SqsError) as caught:
        json_protocol.parse(request(action, body))
    return caught.value


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("ListQueues", {}),
        ("CreateQueue", {"QueueName": "q.fifo", "Attributes": {"FifoQueue": "true"}, "tags": {"team": "roofs"}}),
        ("ReceiveMessage", {"QueueUrl": "u", "AttributeNames": ["All"], "MaxNumberOfMessages": 10}),
        ("SendMessage", {"QueueUrl": "u", "MessageBody": "a\rb é 🏠", "MessageAttributes": {"image": ATTRIBUTE}}),
        ("SendMessageBatch", {"QueueUrl": "u", "Entries": [{"Id": "1", "MessageBody": "b", "DelaySeconds": 0}]}),
        ("UntagQueue", {"QueueUrl": "u", "TagKeys": ["team", "cost"]}),
        ("StartMessageMoveTask", {"SourceArn": "arn", "MaxNumberOfMessagesPerSecond": 500}),
    ],
)
def test_what_botocore_sends_arrives_as_it_was_said(action, payload):
    assert json_protocol.parse(from_botocore(action, payload)) == (action, payload)


def test_botocore_reads_an_answer():
    result = {"Messages": [{"MessageId": "m", "Body": "a\rb", "MessageAttributes": {"image": ATTRIBUTE}}]}
    answered = to_botocore("ReceiveMessage", json_protocol.answer("ReceiveMessage", result, "id"))
    assert answered["Messages"] == result["Messages"]


def test_botocore_reads_an_errors_query_code_and_its_shape():
    error = SqsError("QueueDoesNotExist", "The specified queue does not exist.")
    answered = to_botocore("SendMessage", json_protocol.failure(error, "id"))["Error"]
    assert answered["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    assert answered["QueryErrorCode"] == "QueueDoesNotExist"
    assert (answered["Message"], answered["Type"]) == ("The specified queue does not exist.", "Sender")


def test_errors_that_the_model_lists_are_in_the_services_namespace_and_others_in_the_frameworks():
    types = [
        json.loads(json_protocol.failure(SqsError(shape, "text"), "id").body)["__type"]
        for shape in ("QueueDoesNotExist", "InvalidParameterValueException")
    ]
    assert types == [
        "com.amazonaws.sqs#QueueDoesNotExist",
        "com.amazon.coral.service#InvalidParameterValueException",
    ]


def test_a_fault_of_ours_is_the_receivers():
    failure = json_protocol.failure(SqsError("InternalFailure", "text", status=500, sender_fault=False), "id")
    assert failure.status == 500
    assert failure.headers["x-amzn-query-error"] == "InternalFailure;Receiver"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10", "STRING_VALUE can not be converted to an Integer"),
        (1.5, "NUMBER_VALUE can not be converted to an Integer"),
        (True, "BOOLEAN_VALUE can not be converted to an Integer"),
        ([1], "Start of list found where not expected."),
        ({"a": 1}, "Start of structure or map found where not expected."),
    ],
    ids=str,
)
def test_a_number_of_another_type_is_refused_in_awss_words(value, text):
    error = refused("ReceiveMessage", {"QueueUrl": "u", "MaxNumberOfMessages": value})
    assert (error.shape, error.status, error.message) == ("SerializationException", 400, text)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 10**40], ids=str)
def test_a_number_that_is_no_integer_of_the_model_is_refused(value):
    assert refused("ReceiveMessage", {"MaxNumberOfMessages": value}).shape == "SerializationException"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"MessageBody": null, "MessageAttributes": null}',
        b'{"Unknown": {"deep": [1, null, {"x": 1.5}]}}',
    ],
    ids=str,
)
def test_what_is_empty_null_or_unknown_is_left_out(body):
    assert json_protocol.parse(request("SendMessage", body)) == ("SendMessage", {})


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'"text"',
        b"{",
        b'{"MessageBody": "\xff"}',
        b'{"MessageBody": "\\ud800"}',
        b'{"x": ' + b"[" * 100_000,
        b'{"MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "no base64"}}}',
        b'{"MessageAttributes": {"a": "text"}}',
        b'{"MessageAttributes": [1]}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_no_request_is_refused(body):
    assert refused("SendMessage", body).shape == "SerializationException"


@pytest.mark.parametrize("target", ["AmazonSQS.Nope", "SendMessage", "AmazonSNS.SendMessage", ""])
def test_an_unknown_action_is_refused(target):
    asked = Request(method="POST", path="/", query="", headers={"x-amz-target": target}, body=b"{}")
    with pytest.raises(SqsError, match="is not valid for this endpoint") as caught:
        json_protocol.parse(asked)
    assert caught.value.shape == "UnknownOperationException"


def test_every_action_of_the_model_is_known():
    assert len(sqs_model().actions) == 23
    for action in sqs_model().actions:
        assert json_protocol.parse(request(action, {})) == (action, {})
