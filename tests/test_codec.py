from __future__ import annotations

import json
import math
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import codec, ids, limits
from fanfold.errors import InvalidInputError, MalformedMessageError
from fanfold.model import Task

FIRST_SEVEN = ["entity_id", "task_name", "task_config", "metadata", "timestamp", "retry_count", "total_tasks"]
TASK = Task(
    entity_id="doc-123",
    task_name="yearBuilt",
    task_config={"depth": 2},
    metadata={"tenant": "acme"},
    timestamp="2026-11-24T02:00:00+00:00",
    retry_count=1,
    total_tasks=42,
    fan_out_id="f" * 32,
    generation=3,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"))
names = texts.filter(bool)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(texts, values, max_size=5)
tasks = st.builds(
    Task,
    entity_id=names,
    task_name=names,
    task_config=objects,
    metadata=objects,
    timestamp=texts,
    retry_count=st.integers(0, 1000),
    total_tasks=st.integers(1, 1000),
    fan_out_id=st.none() | texts,
    generation=st.integers(0, 1000),
)


@dataclass
class Point:
    x: float


class Range(msgspec.Struct):
    end: float


@given(tasks)
def test_what_is_encoded_is_decoded(task):
    assert codec.decode(codec.encode_body(task)) == task


@given(tasks)
def test_any_json_library_reads_the_body(task):
    assert json.loads(codec.encode_body(task))["task_config"] == task.task_config


def test_the_bodys_keys_and_their_order_are_fixed():
    assert list(json.loads(codec.encode_body(TASK))) == [*FIRST_SEVEN, "fan_out_id", "generation"]


def test_a_consumer_that_knows_only_the_first_seven_keys_finds_them():
    body = json.loads(codec.encode_body(TASK))
    assert {key: body[key] for key in FIRST_SEVEN} == {
        "entity_id": "doc-123",
        "task_name": "yearBuilt",
        "task_config": {"depth": 2},
        "metadata": {"tenant": "acme"},
        "timestamp": "2026-11-24T02:00:00+00:00",
        "retry_count": 1,
        "total_tasks": 42,
    }


def test_a_body_of_only_the_first_seven_keys_is_a_task_without_a_fan_out():
    body = json.dumps({key: getattr(TASK, key) for key in FIRST_SEVEN})
    task = codec.decode(body)
    assert {key: getattr(task, key) for key in FIRST_SEVEN} == {key: getattr(TASK, key) for key in FIRST_SEVEN}
    assert (task.fan_out_id, task.generation) == (None, 0)


def test_only_the_two_names_are_needed():
    assert codec.decode('{"entity_id": "doc-1", "task_name": "words"}') == Task(entity_id="doc-1", task_name="words")


def test_a_newer_producers_keys_are_passed_over():
    assert codec.decode('{"entity_id": "doc-1", "task_name": "words", "priority": 9}').task_name == "words"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "truncated"),
        ("not json", "malformed"),
        ('{"entity_id": "doc-1", "task_name": "wor', "truncated"),
        ('{"entity_id": "doc-1", "task_name": "words"} and more', "trailing"),
        ("null", "object"),
        ("[]", "object"),
        ('"text"', "object"),
        ("{}", "entity_id"),
        ('{"entity_id": "doc-1"}', "task_name"),
        ('{"task_name": "words"}', "entity_id"),
        ('{"entity_id": 1, "task_name": "words"}', "$.entity_id"),
        ('{"entity_id": "doc-1", "task_name": null}', "$.task_name"),
        ('{"entity_id": "", "task_name": "words"}', "empty"),
        ('{"entity_id": "doc-1", "task_name": ""}', "empty"),
        ('{"entity_id": "doc-1", "task_name": "words", "task_config": []}', "$.task_config"),
        ('{"entity_id": "doc-1", "task_name": "words", "metadata": "acme"}', "$.metadata"),
        ('{"entity_id": "doc-1", "task_name": "words", "timestamp": 1800000000}', "$.timestamp"),
        ('{"entity_id": "doc-1", "task_name": "words", "retry_count": "0"}', "$.retry_count"),
        ('{"entity_id": "doc-1", "task_name": "words", "total_tasks": 1.5}', "$.total_tasks"),
        ('{"entity_id": "doc-1", "task_name": "words", "fan_out_id": 7}', "$.fan_out_id"),
        ('{"entity_id": "doc-1", "task_name": "words", "generation": "x"}', "$.generation"),
        ('{"entity_id": "doc-1", "task_name": "words", "generation": -1}', "$.generation"),
        ('{"entity_id": "doc-1", "task_name": "words", "generation": 1e400}', "$.generation"),
        (f'{{"entity_id": "doc-1", "task_name": "words", "generation": {10**30}}}', "$.generation"),
        ('{"entity_id": "doc-1", "task_name": "words", "metadata": {"x": NaN}}', "malformed"),
        ('{"entity_id": "\\ud800", "task_name": "words"}', "surrogate"),
        ('{"entity_id": "\ud800", "task_name": "words"}', "surrogate"),
        ('\ufeff{"entity_id": "doc-1", "task_name": "words"}', "malformed"),
        ('{"entity_id": "doc-1", "task_name": "words", "metadata": {"x": ' + "[" * 100_000, "recursion"),
    ],
    ids=lambda value: ascii(value[-40:]),
)
def test_a_body_that_isnt_a_task_is_malformed_and_says_where(body, said):
    with pytest.raises(MalformedMessageError) as refused:
        codec.decode(body)
    assert said in str(refused.value)


@given(st.text(st.characters(exclude_categories=()), max_size=40) | values.map(json.dumps))
def test_whatever_a_body_is_it_is_a_task_or_malformed(body):
    try:
        assert codec.decode(body).task_name
    except MalformedMessageError as refused:
        assert "the body is not a task" in str(refused)  # noqa: PT017 - both ways are right, and each is looked at


def test_a_malformed_bodys_error_shows_its_beginning_only():
    with pytest.raises(MalformedMessageError) as refused:
        codec.decode("secret" * 10_000)
    assert "It begins 'secretsecret" in str(refused.value)
    assert len(str(refused.value)) < 250


def test_a_message_has_the_ids_of_its_task():
    message = codec.encode(TASK)
    assert message.group_id == "doc-123-yearBuilt"
    assert message.deduplication_id == f"doc-123-yearBuilt-{'f' * 32}-3"
    assert message.attributes == {"entity_id": "doc-123", "task_name": "yearBuilt"}
    assert codec.decode(message.body) == TASK


def test_a_message_goes_into_the_group_that_the_strategy_says():
    assert codec.encode(TASK, group_by=ids.group_per_entity).group_id == "doc-123"


def test_a_task_without_a_fan_out_cant_be_sent():
    with pytest.raises(InvalidInputError, match="fan_out_id"):
        codec.encode(Task(entity_id="doc-1", task_name="words"))


def filled(size):
    empty = codec.encode(Task(entity_id="é", task_name="words", task_config={"text": ""}, fan_out_id="f" * 32))
    text = "é" * ((size - empty.size) // 2) + "x" * ((size - empty.size) % 2)
    return Task(entity_id="é", task_name="words", task_config={"text": text}, fan_out_id="f" * 32)


def test_a_message_of_exactly_one_mebibyte_is_sent():
    assert codec.encode(filled(limits.MAX_REQUEST_BYTES)).size == 1_048_576


def test_one_byte_more_is_refused_with_the_limit_in_bytes():
    with pytest.raises(InvalidInputError) as refused:
        codec.encode(filled(limits.MAX_REQUEST_BYTES + 1))
    assert "1,048,577 bytes" in str(refused.value)
    assert "1,048,576 (1 MiB)" in str(refused.value)
    assert "'words' of 'é'" in str(refused.value)


@pytest.mark.parametrize("bad", ["\ufffe", "\uffff"])
def test_a_character_that_sqs_refuses_is_named(bad):
    with pytest.raises(InvalidInputError, match=f"'words' of 'doc-1' contains {bad!r}".replace("\\", r"\\")):
        codec.encode_body(Task(entity_id="doc-1", task_name="words", metadata={"text": f"a{bad}"}))


def test_control_characters_travel_escaped():
    task = Task(entity_id="doc-1", task_name="words", metadata={"text": "\0\x1f"})
    assert limits.unrepresentable(codec.encode_body(task)) is None
    assert codec.decode(codec.encode_body(task)) == task


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda number: number,
        lambda number: [None, number],
        lambda number: {"a": {"b": (number,)}},
        lambda number: {number},
        lambda number: [Point(number)],
        lambda number: {"range": Range(number)},
    ],
    ids=["bare", "in a list", "deep", "in a set", "in a dataclass", "in a struct"],
)
def test_a_number_that_json_cant_carry_is_refused_wherever_it_is(number, wrap):
    with pytest.raises(InvalidInputError, match=f"the result holds {number!r}"):
        codec.to_json(wrap(number), what="the result")


@pytest.mark.parametrize(
    "value",
    [object(), [object()], {(1, 2): 3}, "\ud800", {"\ud800": 1}, 1j, lambda: 1],
    ids=["object", "in a list", "key", "lone surrogate", "surrogate key", "complex", "function"],
)
def test_what_isnt_json_is_refused_and_named(value):
    with pytest.raises(InvalidInputError, match="config of task 'words' can't be written as JSON"):
        codec.to_json(value, what="config of task 'words'")


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(InvalidInputError, match="can't be written as JSON"):
        codec.to_json(value, what="the result")


def test_a_none_is_no_obstacle():
    assert codec.to_json({"a": None, "b": [1.5, None]}, what="the result") == '{"a":null,"b":[1.5,null]}'


@given(values)
def test_a_value_comes_out_as_it_went_in(value):
    assert codec.from_json(codec.to_json(value, what="value")) == value


def test_time_is_written_in_utc():
    assert codec.timestamp(1_800_000_000.5) == "2027-01-15T08:00:00.500000+00:00"
