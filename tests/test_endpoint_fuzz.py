"""Anything may come over the wire: the answer is always a well-formed one, and never a fault of ours."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from urllib.parse import quote_plus
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from endpoint_requests import FakeEngine, application, ask
from fanfold.endpoint.access import Key, Role, Signed
from fanfold.endpoint.connections import Connection
from fanfold.endpoint.crowd import Connections
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


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and passes on no more once it is closed or reading is paused."""

    def __init__(self):
        super().__init__()
        self.written, self.closed, self.paused = b"", False, False

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    abort = close

    def can_write_eof(self):
        return True

    write_eof = close  # the client has read it, and closes

    def is_closing(self):
        return self.closed

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def get_extra_info(self, name, default=None):
        return ("127.0.0.1", 9324) if name == "sockname" else default


async def quiet(wire):
    """Let the connection go on until it waits for more, or has closed."""
    turns = 5
    while turns or (wire.paused and not wire.closed):
        turns = max(0, turns - 1)
        await asyncio.sleep(0)


async def say(pieces):
    """Send pieces over a connection; answers what came back."""
    wire, every = Wire(), Connections(application(FakeEngine()), most=1, scheme="http")
    connection = Connection(every)
    connection.connection_made(wire)
    for piece in pieces:
        await quiet(wire)
        if not wire.closed:
            connection.data_received(piece)
    await quiet(wire)
    connection.connection_lost(None)
    assert every.open == set()
    return wire.written


def statuses(written):
    """The answers' statuses, where they are whole answers and nothing else."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        found.append(int(line.removeprefix(b"HTTP/1.1 ")[:3]))
        lengths = [int(header[15:]) for header in headers if header.startswith(b"content-length:")]
        written = rest[sum(lengths) :]
    return found


lines = st.sampled_from(["POST / HTTP/1.1", "GET /?Action=ListQueues HTTP/1.1", "GET /health HTTP/1.0",
                         "PUT * HTTP/1.1", "CONNECT a:1 HTTP/1.1", "GET http://[::1]/0/q#f HTTP/1.1",
                         "POST /0/q HTTP/1.1"])  # fmt: skip
said = st.sampled_from(["Host: localhost", "Host: a b", "X-Amz-Target: AmazonSQS.ListQueues", "Connection: close",
                        "Content-Length: 2", "Content-Length: 5", "Content-Length: 99999999", "Upgrade: h2c",
                        "Transfer-Encoding: chunked", "Expect: 100-continue", "Connection: Upgrade", " folded",
                        "Accept: application/json", "X: \x80"])  # fmt: skip
ends = st.sampled_from([b"", b"{}", b"2\r\n{}\r\n0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"fffffffffffffffff\r\n", b"\r\n"])
heads = st.builds(
    lambda line, headers: "\r\n".join([line, *headers, "", ""]).encode("latin-1"), lines, st.lists(said, max_size=6)
)
streams = st.lists(st.one_of(heads, ends, st.binary(max_size=40)), max_size=8).map(b"".join)


@given(stream=streams, cuts=st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_over_a_connection_get_whole_answers_or_none(stream, cuts):
    places = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    written = asyncio.run(say([piece for piece in pieces if piece]))
    assert set(statuses(written)) <= {100, 200, 400, 403, 404, 405, 413, 431, 501}


@example(stream=b"POST / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", size=1)
@given(stream=streams, size=st.integers(1, 9))
def test_how_bytes_are_cut_up_changes_no_answer(stream, size):
    whole = statuses(asyncio.run(say([stream])))
    cut = statuses(asyncio.run(say([stream[n : n + size] for n in range(0, len(stream), size)])))
    assert [status for status in cut if status != 100] == [status for status in whole if status != 100]


def guard():
    return Signed([Key("AK", "0" * 40, Role.OPERATOR)], region="us-east-1", clock=FakeClock())
