"""Sequences of requests, legal ones and ones with one thing wrong, without anything that belongs to one endpoint.

A receipt handle is written as `Handle(n)`: the n-th that the endpoint itself handed out in this sequence, from the end.
Every value is chosen so that no lease, window or delay ends while a sequence runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Handle:
    back: int


@dataclass(frozen=True)
class Request:
    action: str
    parameters: dict[str, Any] = field(default_factory=dict)
    elsewhere: bool = False
    """To a queue that doesn't exist."""


LONG = "x" * 129
_good_ids = st.sampled_from(["a", "b", "c", "a-b_c.d", "!#$%&'()*+,-./", "x" * 128])
_bad_ids = st.sampled_from(["", " ", "a b", "é", LONG])
_bodies = st.one_of(st.sampled_from(["m", "two\nlines", "\t", "cr\r", "é\U0001f600", "<&>\"'", "x" * 2048]),
                    st.integers(0, 9).map(lambda n: f"m{n}"))  # fmt: skip
_bad_bodies = st.sampled_from(["", "\x00", "a\x0bb", "\ufffe"])
_handles = st.integers(0, 5).map(Handle)
_bad_handles = st.sampled_from(["garbage", "AQEB", ""])
_visibility = st.sampled_from([0, 60, 43200])
_bad_visibility = st.sampled_from([-1, 43201])

_attributes = st.dictionaries(
    st.sampled_from(["name", "a.b", "x-1", "y_2"]),
    st.sampled_from([
        {"DataType": "String", "StringValue": "v"},
        {"DataType": "String.custom", "StringValue": "é"},
        {"DataType": "Number", "StringValue": "12.5"},
        {"DataType": "Number.int", "StringValue": "3"},
        {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    ]),
    max_size=3,
)  # fmt: skip
_bad_attributes = st.sampled_from([
    {"": {"DataType": "String", "StringValue": "v"}},
    {".a": {"DataType": "String", "StringValue": "v"}},
    {"a.": {"DataType": "String", "StringValue": "v"}},
    {"a..b": {"DataType": "String", "StringValue": "v"}},
    {"aws.x": {"DataType": "String", "StringValue": "v"}},
    {"AMAZON.x": {"DataType": "String", "StringValue": "v"}},
    {"a b": {"DataType": "String", "StringValue": "v"}},
    {"name": {"DataType": "String", "StringValue": ""}},
    {"name": {"DataType": "Number", "StringValue": "twelve"}},
    {"name": {"DataType": "Strange", "StringValue": "v"}},
    {"name": {"DataType": "", "StringValue": "v"}},
])  # fmt: skip


def requests(*, fifo):
    """One request to a queue of a kind."""
    return st.one_of(_sends(fifo), _batches(fifo), _receives(), _settles(), _queue_requests(), _elsewhere())


def sequences(*, fifo):
    """What is sent to one fresh queue."""
    return st.lists(requests(fifo=fifo), min_size=1, max_size=15)


def _message(fifo):
    ids = {"MessageGroupId": _good_ids, "MessageDeduplicationId": _good_ids} if fifo else {}
    return st.fixed_dictionaries({"MessageBody": _bodies, **ids}, optional={"MessageAttributes": _attributes})


def _wrong(fifo):
    """What can be put into a message to make it illegal: one thing at a time, since which error comes first is nobody's
    promise."""
    wrong = [
        _bad_bodies.map(lambda body: {"MessageBody": body}),
        _bad_attributes.map(lambda attributes: {"MessageAttributes": attributes}),
        st.sampled_from([{"DelaySeconds": -1}, {"DelaySeconds": 901}]),
    ]
    if fifo:
        wrong += [
            _bad_ids.map(lambda bad: {"MessageGroupId": bad}),
            _bad_ids.map(lambda bad: {"MessageDeduplicationId": bad}),
            st.just({"DelaySeconds": 5}),
        ]
    return st.one_of(wrong)


def _sends(fifo):
    legal = _message(fifo)
    illegal = st.builds(lambda message, wrong: {**message, **wrong}, legal, _wrong(fifo))
    missing = st.builds(
        lambda message, key: {name: value for name, value in message.items() if name != key},
        legal,
        st.sampled_from(["MessageBody", "MessageGroupId", "MessageDeduplicationId"] if fifo else ["MessageBody"]),
    )
    return st.one_of(legal, legal, legal, illegal, missing).map(lambda message: Request("SendMessage", message))


def _entries(contents, ids=("1", "two", "3_-", "x" * 80)):
    return st.lists(contents, min_size=1, max_size=len(ids)).map(
        lambda chosen: [{"Id": ids[place], **content} for place, content in enumerate(chosen)]
    )


def _broken(entries):
    """Faults of a batch as a whole."""
    return st.builds(
        lambda chosen, fault: fault(chosen),
        entries,
        st.sampled_from([
            lambda _: [],
            lambda chosen: [{**chosen[0], "Id": str(number)} for number in range(11)],
            lambda chosen: [{**chosen[0], "Id": "same"}, {**chosen[0], "Id": "same"}],
            lambda chosen: [{**chosen[0], "Id": "not valid"}],
            lambda chosen: [{**chosen[0], "Id": ""}],
            lambda chosen: [{**chosen[0], "Id": "x" * 81}],
        ]),
    )  # fmt: skip


def _batches(fifo):
    return st.one_of(
        _batch("SendMessageBatch", _message(fifo)),
        _batch("DeleteMessageBatch", st.fixed_dictionaries({"ReceiptHandle": _handles})),
        _batch("ChangeMessageVisibilityBatch", st.fixed_dictionaries(
            {"ReceiptHandle": _handles, "VisibilityTimeout": _visibility})),
    )  # fmt: skip


def _batch(action, contents):
    entries = _entries(contents)
    return st.one_of(entries, entries, _broken(entries)).map(lambda chosen: Request(action, {"Entries": chosen}))


def _receives():
    options = {
        "MaxNumberOfMessages": st.integers(1, 10),
        "VisibilityTimeout": st.sampled_from([0, 60]),
        "MessageAttributeNames": st.sampled_from([["All"], ["a.*"], ["name", "x-1"], [".*"]]),
    }
    # All of the system attributes, always: a receive that doesn't look has nothing to compare.
    legal = st.fixed_dictionaries({"AttributeNames": st.just(["All"])}, optional=options)
    wrong = st.sampled_from([
        {"MaxNumberOfMessages": 0},
        {"MaxNumberOfMessages": 11},
        {"WaitTimeSeconds": -1},
        {"WaitTimeSeconds": 21},
        {"VisibilityTimeout": -1},
        {"VisibilityTimeout": 43201},
    ])  # fmt: skip
    illegal = st.builds(lambda request, fault: {**request, **fault}, legal, wrong)
    return st.one_of(legal, legal, legal, illegal).map(lambda request: Request("ReceiveMessage", request))


def _settles():
    deletes = st.one_of(_handles, _handles, _bad_handles).map(
        lambda handle: Request("DeleteMessage", {"ReceiptHandle": handle})
    )
    legal = st.fixed_dictionaries({"ReceiptHandle": _handles, "VisibilityTimeout": _visibility})
    illegal = st.one_of(
        st.fixed_dictionaries({"ReceiptHandle": _handles, "VisibilityTimeout": _bad_visibility}),
        st.fixed_dictionaries({"ReceiptHandle": _bad_handles, "VisibilityTimeout": _visibility}),
    )
    changes = st.one_of(legal, legal, illegal).map(lambda request: Request("ChangeMessageVisibility", request))
    return st.one_of(deletes, changes)


def _queue_requests():
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return st.sampled_from([
        Request("GetQueueAttributes", {"AttributeNames": counts}),
        Request("GetQueueAttributes", {"AttributeNames": ["Strange"]}),
        Request("SetQueueAttributes", {"Attributes": {"VisibilityTimeout": "120"}}),
        Request("SetQueueAttributes", {"Attributes": {"VisibilityTimeout": "43201"}}),
        Request("SetQueueAttributes", {"Attributes": {"DelaySeconds": "901"}}),
        Request("SetQueueAttributes", {"Attributes": {"MaximumMessageSize": "1023"}}),
        Request("SetQueueAttributes", {"Attributes": {"MessageRetentionPeriod": "59"}}),
        Request("SetQueueAttributes", {"Attributes": {"ReceiveMessageWaitTimeSeconds": "21"}}),
        Request("SetQueueAttributes", {"Attributes": {"Strange": "1"}}),
        Request("TagQueue", {"Tags": {"a": "1", "b": "2"}}),
        Request("UntagQueue", {"TagKeys": ["a", "never"]}),
        Request("ListQueueTags"),
    ])  # fmt: skip


def _elsewhere():
    return st.sampled_from([
        Request("GetQueueAttributes", {"AttributeNames": ["All"]}, elsewhere=True),
        Request("SendMessage", {"MessageBody": "m"}, elsewhere=True),
        Request("ReceiveMessage", elsewhere=True),
        Request("DeleteMessage", {"ReceiptHandle": "garbage"}, elsewhere=True),
        Request("PurgeQueue", elsewhere=True),
        Request("DeleteQueue", elsewhere=True),
        Request("ListQueueTags", elsewhere=True),
        Request("ListDeadLetterSourceQueues", elsewhere=True),
    ])  # fmt: skip
