from __future__ import annotations

import pytest

from fanfold.errors import PoisonEventError
from fanfold.model import Failure
from fanfold.sources import Record
from fanfold.sources.planning import Poison
from fanfold.sources.poison import headers_of, stop_at

POISON = Poison("planning", Failure(type="KeyError", message="no 'id' in ünïcode"))


def record(headers=()):
    return Record(topic="documents", partition=3, offset=1042, key=b"k", value=b"v", headers=headers, timestamp=12.5)


def test_the_headers_say_why_and_where_from():
    assert headers_of(POISON, record(), "fields") == [
        ("fanfold.error.stage", b"planning"),
        ("fanfold.error.type", b"KeyError"),
        ("fanfold.error.message", "no 'id' in ünïcode".encode()),
        ("fanfold.origin.topic", b"documents"),
        ("fanfold.origin.partition", b"3"),
        ("fanfold.origin.offset", b"1042"),
        ("fanfold.origin.timestamp", b"12.500"),
        ("fanfold.group", b"fields"),
    ]


def test_the_records_own_headers_stay_but_for_the_reasons_of_an_earlier_time():
    own = [("trace", b"1"), ("trace", b"2"), ("null", None), ("fanfold.error.type", b"old")]
    kept = headers_of(POISON, record(own), "fields")
    assert kept[:3] == own[:3]
    assert [value for name, value in kept if name == "fanfold.error.type"] == [b"KeyError"]


def test_a_long_reason_is_cut():
    long = Poison("decoding", Failure(type="E", message="x" * 100_000))
    assert len(dict(headers_of(long, record(), "fields"))["fanfold.error.message"]) == 2_000


async def test_without_a_dead_letter_topic_the_source_is_stopped_and_told_what_to_do():
    with pytest.raises(PoisonEventError, match="documents:3:1042 can't be enqueued: planning it failed: KeyError"):
        await stop_at(POISON, record())
