from __future__ import annotations

import dataclasses
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import model
from fanfold.model import Failure, FanOut, Message, Progress, Task, TaskRecord, TaskState, Timeout

VALUES = [value for value in vars(model).values() if inspect.isclass(value) and dataclasses.is_dataclass(value)]


def fan_out(*tasks):
    return FanOut(
        fan_out_id="f" * 32,
        entity_id="doc-1",
        event_id=None,
        metadata={},
        total_tasks=len(tasks),
        created_at=0.0,
        completed_at=None,
        progress=Progress(),
        tasks=tasks,
    )


@pytest.mark.parametrize("value", VALUES)
def test_every_value_is_frozen_and_has_slots(value):
    assert value.__dataclass_params__.frozen
    assert "__slots__" in vars(value)


@pytest.mark.parametrize("value", [value for value in VALUES if len(dataclasses.fields(value)) > 2])
def test_a_value_of_more_than_two_parts_is_made_by_keyword(value):
    assert all(field.kw_only for field in dataclasses.fields(value))


def test_the_terminal_states_are_the_three_from_which_nothing_comes():
    assert {state for state in TaskState if state.terminal} == {"succeeded", "dead", "cancelled"}


def test_timeouts_have_names_by_kind_of_work():
    assert (Timeout.FAST_API, Timeout.DATABASE) == (60, 120)
    assert (Timeout.LLM_INFERENCE, Timeout.ML_MODEL, Timeout.PIPELINE) == (900, 900, 900)


@given(st.builds(Progress, **dict.fromkeys(TaskState, st.integers(0, 50))))
def test_progress_counts_every_state_once(progress):
    assert progress.done == progress.succeeded + progress.dead + progress.cancelled
    assert progress.total == sum(getattr(progress, state) for state in TaskState)


def test_progress_has_a_count_for_each_state():
    assert {field.name for field in dataclasses.fields(Progress)} == set(TaskState)


def test_results_are_those_of_the_succeeded_in_the_order_of_the_plan():
    found = fan_out(
        TaskRecord(task_name="words", state=TaskState.SUCCEEDED, result=42),
        TaskRecord(task_name="roof", state=TaskState.DEAD),
        TaskRecord(task_name="author", state=TaskState.RUNNING),
        TaskRecord(task_name="a", state=TaskState.SUCCEEDED),
    )
    assert list(found.results.items()) == [("words", 42), ("a", None)]


def test_failures_are_those_that_ended_without_a_result():
    reason = Failure(type="LookupError", message="no roof")
    found = fan_out(
        TaskRecord(task_name="roof", state=TaskState.DEAD, failure=reason),
        TaskRecord(task_name="words", state=TaskState.FAILED, failure=reason),
        TaskRecord(task_name="author", state=TaskState.CANCELLED),
    )
    assert found.failures == {"roof": reason, "author": Failure(type="cancelled", message="")}


def test_a_failure_reads_as_type_and_message():
    assert str(Failure(type="ValueError", message="no such page")) == "ValueError: no such page"
    assert str(Failure(type="TimeoutError", message="")) == "TimeoutError"


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_of_a_failure_can_be_stored(text):
    failure = Failure(type=text, message=text, traceback=text)
    assert f"{failure.type}{failure.message}{failure.traceback}".encode().decode() == f"{failure.message}" * 3


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_failure_keeps_a_text_that_can_be_stored_as_it_is(text):
    assert Failure(type="E", message=text).message == text


def test_a_messages_size_counts_bytes_of_the_body_and_of_names_types_and_values_of_attributes():
    message = Message(body="é", group_id="g", deduplication_id="d", attributes={"entity_id": "ü1"})
    assert message.size == 2 + len("entity_id") + len("String") + 3


def test_a_task_crosses_into_another_process_whole():
    task = Task(entity_id="doc-1", task_name="words", task_config={"depth": 2}, fan_out_id="f" * 32)
    assert pickle.loads(pickle.dumps(task)) == task  # noqa: S301 - our own bytes
