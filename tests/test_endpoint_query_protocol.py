"""The query protocol: forms in, XML out. Requests and answers are those of the SQS API reference's examples."""

from __future__ import annotations

from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest

from fanfold.endpoint import query_protocol
from fanfold.endpoint.exchange import Request
from fanfold.engine.errors import SqsError

NS = "{http://queue.amazonaws.com/doc/2012-11-05/}"


def parsed(form, *, path="/", method="POST"):
    text = form if isinstance(form, str) else urlencode(form)
    query, body = ("", text.encode()) if method == "POST" else (text, b"")
    return query_protocol.parse(Request(method=method, path=path, query=query, headers={}, body=body))


def refused(form, **options):
    with pytest.raises(SqsError) as caught:
        parsed(form, **options)
    return caught.value


def document(response):
    return ET.fromstring(response.body)  # noqa: S314 - our own answer


def outline(element):
    """An element as nested pairs, without the namespace."""
    tag = element.tag.removeprefix(NS)
    return (tag, [outline(inner) for inner in element]) if len(element) else (tag, element.text)


def test_a_post_carries_its_form_in_the_body_and_a_get_in_the_query():
    form = {"Action": "GetQueueUrl", "QueueName": "orders", "Version": "2012-11-05"}
    assert parsed(form, method="POST") == parsed(form, method="GET") == ("GetQueueUrl", {"QueueName": "orders"})


def test_lists_come_in_the_order_of_their_numbers():
    form = {"Action": "ReceiveMessage", "MaxNumberOfMessages": "10", "AttributeName.10": "c", "AttributeName.9": "b",
            "AttributeName.1": "a", "MessageAttributeName.1": "All", "MessageSystemAttributeName.1": "All"}  # fmt: skip
    _, request = parsed(form)
    assert request == {
        "MaxNumberOfMessages": 10,
        "AttributeNames": ["a", "b", "c"],
        "MessageAttributeNames": ["All"],
        "MessageSystemAttributeNames": ["All"],
    }


def test_maps_have_their_own_names():
    attributes = {"Attribute.1.Name": "VisibilityTimeout", "Attribute.1.Value": "40"}
    emptied = {"Attribute.2.Name": "Policy", "Attribute.2.Value": ""}
    form = {"Action": "CreateQueue", **attributes, **emptied, "Tag.1.Key": "team", "Tag.1.Value": "roofs"}
    _, request = parsed(form)
    assert request["Attributes"] == {"VisibilityTimeout": "40", "Policy": ""}
    assert request["tags"] == {"team": "roofs"}


def test_a_batch_is_nested_three_deep():
    entry = "SendMessageBatchRequestEntry.1."
    form = {"Action": "SendMessageBatch", entry + "Id": "a", entry + "MessageBody": "line\r\nline + é",
            entry + "MessageAttribute.1.Name": "image", entry + "MessageAttribute.1.Value.DataType": "Binary",
            entry + "MessageAttribute.1.Value.BinaryValue": "AP8="}  # fmt: skip
    _, request = parsed(form)
    image = {"DataType": "Binary", "BinaryValue": b"\x00\xff"}
    assert request["Entries"] == [{"Id": "a", "MessageBody": "line\r\nline + é", "MessageAttributes": {"image": image}}]


@pytest.mark.parametrize(
    ("form", "request_"),
    [
        ("Action=ReceiveMessage&AttributeName=All", {"AttributeNames": ["All"]}),
        (
            "Action=SetQueueAttributes&Attribute.Name=DelaySeconds&Attribute.Value=5",
            {"Attributes": {"DelaySeconds": "5"}},
        ),
        ("Action=TagQueue&Tag.Key=team&Tag.Value=roofs", {"Tags": {"team": "roofs"}}),
        ("Action=DeleteMessageBatch&DeleteMessageBatchRequestEntry.Id=a", {"Entries": [{"Id": "a"}]}),
    ],
)
def test_an_only_entry_needs_no_number(form, request_):
    """As in the examples of AWS's API reference."""
    assert parsed(form)[1] == request_


def test_text_that_is_not_escaped_is_utf_8():
    assert parsed("Action=SendMessage&MessageBody=hé 🍮")[1] == {"MessageBody": "hé 🍮"}
    request = Request(method="POST", path="/", query="", headers={}, body=b"Action=SendMessage&MessageBody=h\xe9")
    with pytest.raises(SqsError, match="not UTF-8"):
        query_protocol.parse(request)


def test_an_empty_list_is_a_name_without_a_value():
    assert parsed("Action=SendMessageBatch&SendMessageBatchRequestEntry=")[1] == {"Entries": []}


@pytest.mark.parametrize(
    "form",
    [
        "Action=ReceiveMessage&MaxNumberOfMessages=ten",
        "Action=ReceiveMessage&MaxNumberOfMessages=",
        "Action=ReceiveMessage&MaxNumberOfMessages=1e400",
        "Action=ReceiveMessage&MaxNumberOfMessages=٣",
        "Action=ReceiveMessage&MaxNumberOfMessages.1=1",
        "Action=ReceiveMessage&AttributeName=All&AttributeName.1=All",
        "Action=ReceiveMessage&AttributeName.one=All",
        "Action=ReceiveMessage&AttributeName.1.x=All",
        "Action=ReceiveMessage&AttributeName.9999999999999999999999=All",
        "Action=CreateQueue&Attribute.1.Name=A",
        "Action=CreateQueue&Attribute.Name=A",
        "Action=SendMessage&MessageAttribute.1.Name=a&MessageAttribute.1.Value.BinaryValue=no",
        "Action=SendMessage&MessageBody=%ff",
        "Action=SendMessage&" + "&".join(f"x{n}=1" for n in range(5_000)),
    ],
    ids=lambda form: form[:70],
)
def test_what_is_no_request_is_refused(form):
    error = refused(form)
    assert (error.shape, error.status) == ("SerializationException", 400)


@pytest.mark.parametrize("name", ["", ".", "a..b", "." * 50, "Entries" + ".1" * 60, "MessageBody.", ".MessageBody"])
def test_names_that_are_none_are_dropped(name):
    assert parsed(urlencode({"Action": "SendMessage", name: "x"})) == ("SendMessage", {})


def test_a_request_without_an_action_gets_what_sqs_says():
    error = refused("QueueName=orders", path="/000000000000/orders", method="GET")
    response = query_protocol.failure(error, "id")
    assert (response.status, response.body) == (404, b'<?xml version="1.0"?><UnknownOperationException/>')


@pytest.mark.parametrize("action", ["Nope", "", "\x01<"])
def test_an_unknown_action_is_named_in_well_formed_xml(action):
    response = query_protocol.failure(refused({"Action": action}), "id")
    code = document(response).find(f"{NS}Error/{NS}Code")
    assert (response.status, code.text) == (400, "InvalidAction")


@pytest.mark.parametrize("action", ["CreateQueue", "ListQueues"])
def test_a_queues_own_url_refuses_what_is_not_about_a_queue(action):
    assert refused({"Action": action}, path="/000000000000/orders").message == (
        f"The action {action} is not valid for this endpoint."
    )
    assert parsed({"Action": action})[0] == action


def test_an_answer_is_wrapped_as_sqs_wraps_it():
    response = query_protocol.answer("GetQueueUrl", {"QueueUrl": "http://localhost/0/orders"}, "the-id")
    assert response.headers == {"content-type": "text/xml"}
    assert outline(document(response)) == (
        "GetQueueUrlResponse",
        [
            ("GetQueueUrlResult", [("QueueUrl", "http://localhost/0/orders")]),
            ("ResponseMetadata", [("RequestId", "the-id")]),
        ],
    )


def test_an_action_that_answers_nothing_has_no_result_element():
    response = query_protocol.answer("DeleteMessage", {}, "the-id")
    assert outline(document(response)) == (
        "DeleteMessageResponse",
        [("ResponseMetadata", [("RequestId", "the-id")])],
    )


def test_an_empty_receive_has_an_empty_result():
    assert b"<ReceiveMessageResult/>" in query_protocol.answer("ReceiveMessage", {}, "id").body


def test_messages_have_flat_maps():
    message = {
        "MessageId": "m",
        "Body": "b",
        "Attributes": {"SenderId": "me"},
        "MessageAttributes": {"image": {"DataType": "Binary", "BinaryValue": b"\x00"}},
    }
    root = document(query_protocol.answer("ReceiveMessage", {"Messages": [message, message]}, "id"))
    first, second = root.findall(f"{NS}ReceiveMessageResult/{NS}Message")
    assert outline(first) == outline(second)
    assert outline(first)[1] == [
        ("MessageId", "m"),
        ("Body", "b"),
        ("Attribute", [("Name", "SenderId"), ("Value", "me")]),
        ("MessageAttribute", [("Name", "image"), ("Value", [("BinaryValue", "AA=="), ("DataType", "Binary")])]),
    ]


@pytest.mark.parametrize("body", ["a\r\nb\rc", "<&>\"'", "\t é 🏠 \ue000", " lead and trail "], ids=repr)
def test_a_body_comes_out_of_the_xml_as_it_went_in(body):
    root = document(query_protocol.answer("ReceiveMessage", {"Messages": [{"Body": body}]}, "id"))
    assert root.find(f".//{NS}Body").text == body


def test_a_failed_entry_says_whose_fault_it_is():
    failed = [{"Id": "1", "SenderFault": True, "Code": "InvalidParameterValue", "Message": "no"}]
    root = document(query_protocol.answer("SendMessageBatch", {"Failed": failed}, "id"))
    assert outline(root.find(f".//{NS}BatchResultErrorEntry"))[1] == [
        ("Id", "1"),
        ("SenderFault", "true"),
        ("Code", "InvalidParameterValue"),
        ("Message", "no"),
    ]


def test_an_error_has_the_query_protocols_code_and_text():
    error = SqsError("QueueDoesNotExist", "not there", query_message="not there for this wsdl version.")
    assert outline(document(query_protocol.failure(error, "the-id"))) == (
        "ErrorResponse",
        [
            (
                "Error",
                [
                    ("Type", "Sender"),
                    ("Code", "AWS.SimpleQueueService.NonExistentQueue"),
                    ("Message", "not there for this wsdl version."),
                    ("Detail", None),
                ],
            ),
            ("RequestId", "the-id"),
        ],
    )
