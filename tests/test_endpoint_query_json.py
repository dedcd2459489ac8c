"""The query protocol answered in JSON, as SQS does for `Accept: application/json`."""

from __future__ import annotations

import json

from fanfold.endpoint import query_json
from fanfold.endpoint.faults import no_action
from fanfold.engine.errors import SqsError


def document(response):
    assert response.headers == {"content-type": "application/json"}
    return json.loads(response.body)


def test_an_answer_is_wrapped_as_in_xml():
    response = query_json.answer("GetQueueUrl", {"QueueUrl": "http://localhost/0/orders"}, "the-id")
    assert (response.status, document(response)) == (
        200,
        {
            "GetQueueUrlResponse": {
                "GetQueueUrlResult": {"QueueUrl": "http://localhost/0/orders"},
                "ResponseMetadata": {"RequestId": "the-id"},
            }
        },
    )


def test_an_action_without_a_result_answers_its_metadata():
    assert document(query_json.answer("DeleteMessage", {}, "the-id")) == {
        "DeleteMessageResponse": {"ResponseMetadata": {"RequestId": "the-id"}}
    }


def test_messages_and_queue_urls_begin_with_a_small_letter_and_what_is_not_there_is_null():
    received = document(query_json.answer("ReceiveMessage", {"Messages": [{"Body": "{}"}]}, "id"))
    [message] = received["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"]
    assert (message["Body"], message["MessageId"]) == ("{}", None)
    listed = document(query_json.answer("ListQueues", {"QueueUrls": ["a"]}, "id"))
    assert listed["ListQueuesResponse"]["ListQueuesResult"] == {"queueUrls": ["a"], "NextToken": None}
    nothing = document(query_json.answer("ReceiveMessage", {}, "id"))
    assert nothing["ReceiveMessageResponse"]["ReceiveMessageResult"] == {"messages": None}


def test_maps_are_lists_of_names_and_values_and_bytes_are_base64():
    attribute = {"DataType": "Binary", "BinaryValue": b"\xff"}
    message = {"Attributes": {"SenderId": "AID"}, "MessageAttributes": {"proof": attribute}}
    received = document(query_json.answer("ReceiveMessage", {"Messages": [message]}, "id"))
    [told] = received["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"]
    assert told["Attributes"] == [{"Name": "SenderId", "Value": "AID"}]
    [proof] = told["MessageAttributes"]
    assert (proof["Name"], proof["Value"]["DataType"], proof["Value"]["BinaryValue"]) == ("proof", "Binary", "/w==")


def test_an_error_has_the_query_protocols_code():
    response = query_json.failure(SqsError("QueueDoesNotExist", "The specified queue does not exist."), "the-id")
    error = document(response)["Error"]
    assert (response.status, error["Type"]) == (400, "Sender")
    assert error["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    assert document(response)["RequestId"] == "the-id"


def test_what_is_no_request_at_all_is_told_so_in_xml_as_on_aws():
    refused = query_json.failure(no_action(), "the-id")
    assert (refused.status, b"<UnknownOperationException" in refused.body) == (404, True)
