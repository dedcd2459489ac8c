"""Anything may come over the wire: the answer is always a well-formed one, and never a fault of ours."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote_plus
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_requests import FakeEngine, application, ask
from fanfold.endpoint.access import Key, Role, Signed
from fanfold.endpoint.model import sqs_model
from fanfold.testing import FakeClock

ACTIONS = sorted(sqs_model().actions)
MEMBERS = sorted({member for action in sqs_model().actions.values() for member in action.input.members})

latin = st.text(st.characters(max_codepoint=255))
header_value = st.text(st.characters(min_codepoint=32, max_codepoint=255).filter(lambda c: c != "\x7f"), max_size=60)
actions = st.sampled_from(ACTIONS)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=5), inner),
    max_leaves=12,
)
indexes = st.sampled_from(["1", "2", "0", "01", "-1", "x", "", "99999999999999999999"])
wire_names = st.sampled_from(
    ["AttributeName", "Attribute", "Tag", "TagKey", "MessageAttribute", "SendMessageBatchRequestEntry", "QueueUrl",
     "MessageBody", "MaxNumberOfMessages", "Name", "Value", "Key", "Id", "BinaryValue", "StringListValue", "DataType"]
)  # fmt: skip
form_names = st.lists(wire_names | indexes | st.text(max_size=4), min_size=1, max_size=14).map(".".join)
signatures = st.sampled_from(["", "AWS4-HMAC-SHA256 ", "Credential=AK/20261124/us-east-1/sqs/aws4_request, "]).flatmap(
    lambda start: st.tuples(st.just(start), header_value).map("".join)
)


def served(*parts, guard=None, **request):
    return asyncio.run(ask(application(FakeEngine(), guard), *parts, **request))


def assert_well_formed(answer, *, json_asked):
    assert answer.status in {200, 400, 403, 404, 405, 413}
    assert answer.headers["x-amzn-requestid"]
    document = json.loads(answer.body) if json_asked else ET.fromstring(answer.body)  # noqa: S314 - our own answer
    if answer.status != 200:
        assert (
            ("__type" in document) if json_asked else (document.tag.endswith(("ErrorResponse", "OperationException")))
        )


@given(action=actions | latin, body=st.binary(max_size=300))
def test_any_bytes_as_json(action, body):
    target = f"AmazonSQS.{action}"
    assert_well_formed(served(body, headers={"x-amz-target": target}), json_asked=True)


@given(action=actions, payload=values)
def test_any_json(action, payload):
    body = json.dumps(payload).encode()
    assert_well_formed(served(body, headers={"x-amz-target": f"AmazonSQS.{action}"}), json_asked=True)


@given(method=st.sampled_from(["GET", "POST"]), path=latin, query=latin, body=st.binary(max_size=300))
def test_any_bytes_as_a_form(method, path, query, body):
    answer = served(body, method=method, path=f"/{path}" if path != "health" else "/", query=query)
    assert_well_formed(answer, json_asked=False)


def encoded(action, form):
    fields = {"Action": action} | form
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields.items()).encode()


@given(action=actions, form=st.dictionaries(form_names, st.text(max_size=10), max_size=12))
def test_any_form(action, form):
    assert_well_formed(served(encoded(action, form), path="/0/q"), json_asked=False)


@given(action=actions | st.text(max_size=5), form=st.dictionaries(form_names, st.text(max_size=10), max_size=12))
def test_any_form_whose_answer_is_to_be_json(action, form):
    answer = served(encoded(action, form), path="/0/q", headers={"accept": "application/json"})
    assert answer.status in {200, 400, 404}
    assert answer.headers["x-amzn-requestid"]
    assert list(answer.json) == ([f"{action}Response"] if answer.status == 200 else ["Error", "RequestId"])


@given(
    headers=st.dictionaries(st.from_regex(r"[a-z-]{1,20}", fullmatch=True), header_value, max_size=5),
    json_asked=st.booleans(),
)
def test_any_headers(headers, json_asked):
    target = {"x-amz-target": "AmazonSQS.ListQueues"} if json_asked else {}
    answer = served(b"Action=ListQueues" if not json_asked else b"{}", headers=headers | target)
    assert_well_formed(answer, json_asked=json_asked)


@given(host=header_value, length=header_value)
def test_any_host_and_length(host, length):
    assert_well_formed(served(headers={"host": host, "content-length": length}), json_asked=False)


@given(authorization=signatures, date=header_value | st.just("20270115T080000Z"), body=st.binary(max_size=50))
def test_any_signature(authorization, date, body):
    headers = {"authorization": authorization, "x-amz-date": date, "x-amz-target": "AmazonSQS.ListQueues"}
    answer = served(body, guard=guard(), headers=headers)
    assert answer.status in {400, 403}
    assert_well_formed(answer, json_asked=True)


@given(parts=st.dictionaries(st.sampled_from(["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
                                              "X-Amz-SignedHeaders"]), st.text(max_size=30)))  # fmt: skip
def test_any_presigned_url(parts):
    query = "&".join(f"{name}={quote_plus(value)}" for name, value in parts.items()) + "&X-Amz-Signature=0"
    assert served(method="GET", query=query, guard=guard()).status in {400, 403}


@pytest.mark.parametrize("depth", [1_000, 1_000_000])
def test_deep_nesting_is_refused(depth):
    for opened in (b"[", b'{"a":'):
        answer = served(b'{"QueueUrl":' + opened * (depth // 10), headers={"x-amz-target": "AmazonSQS.ListQueues"})
        assert_well_formed(answer, json_asked=True)


def guard():
    return Signed([Key("AK", "0" * 40, Role.OPERATOR)], region="us-east-1", clock=FakeClock())
