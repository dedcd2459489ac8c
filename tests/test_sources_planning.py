from __future__ import annotations

import json
from dataclasses import dataclass, replace

import msgspec
import pytest

from fanfold import Fanfold, Reject, Retry, TaskSpec
from fanfold.sources import Record
from fanfold.sources.planning import Later, Nothing, Planned, Poison, Prepared, plan, plan_async

RECORD = Record(topic="documents", partition=3, offset=1042, key=b"doc-1", value=b'{"id": "doc-9", "pages": 2}')


@dataclass
class Document:
    id: str
    pages: int = 1


def decide(planner, record=RECORD, **options):
    app = Fanfold()
    app.event("documents", **options)(planner)
    return plan(app.events.get("documents"), record)


def two(event):  # noqa: ARG001 - a planner's shape
    return ["title", "words"]


def test_an_event_becomes_tasks_of_the_keys_entity_under_an_id_that_survives_redelivery():
    decision = decide(two)
    assert decision == Planned(entity_id="doc-1", tasks=["title", "words"], metadata={}, event_id="documents:3:1042")


def test_the_entity_the_event_id_and_the_metadata_come_from_functions():
    decision = decide(
        two,
        entity=lambda event: event["id"],
        event_id=lambda record: f"v{record.offset}",
        metadata=lambda key, event: {"key": key, "pages": event["pages"]},
    )
    assert (decision.entity_id, decision.event_id) == ("doc-9", "v1042")
    assert decision.metadata == {"key": "doc-1", "pages": 2}


def test_a_trace_goes_into_the_metadata():
    record = replace(RECORD, headers=[("traceparent", b"00-aa-bb-00"), ("traceparent", b"00-aa-cc-01")])
    assert decide(two, record).metadata == {"traceparent": "00-aa-cc-01"}
    assert decide(two, record, metadata=lambda event: {"traceparent": str(event["pages"])}).metadata == {
        "traceparent": "2"
    }


@pytest.mark.parametrize("answer", [None, [], (), iter(())], ids=lambda answer: type(answer).__name__)
def test_a_planner_may_find_nothing_to_do(answer):
    assert decide(lambda event: answer) == Nothing()  # noqa: ARG005 - a planner's shape


@pytest.mark.parametrize(
    ("answer", "tasks"),
    [
        ("title", ["title"]),
        ({"name": "title", "config": {"max": 3}}, [{"name": "title", "config": {"max": 3}}]),
        (TaskSpec("title"), [TaskSpec("title")]),
        (("title", TaskSpec("words")), ["title", TaskSpec("words")]),
        ((name for name in ["title"]), ["title"]),
    ],
    ids=["a name", "a dict", "a spec", "a tuple", "a generator"],
)
def test_a_planner_writes_tasks_as_callers_of_enqueue_do(answer, tasks):
    assert decide(lambda event: answer).tasks == tasks  # noqa: ARG005 - a planner's shape


def test_a_typed_event_is_validated():
    def planner(event: Document):
        return [f"page-{number}" for number in range(event.pages)]

    assert decide(planner).tasks == ["page-0", "page-1"]
    poison = decide(planner, replace(RECORD, value=b'{"id": 7}'))
    assert (poison.stage, poison.failure.type) == ("decoding", "ValidationError")
    assert "$.id" in poison.failure.message


def test_a_pydantic_like_event_is_validated_by_itself():
    class Model:
        @classmethod
        def model_validate(cls, value):
            made = cls()
            made.id = value["id"]
            return made

        @classmethod
        def model_validate_json(cls, value):
            return cls.model_validate(json.loads(value))

    def planner(event):
        return event.id

    planner.__annotations__ = {"event": Model}
    assert decide(planner).tasks == ["doc-9"]
    assert decide(planner, decoder=lambda record: json.loads(record.value)).tasks == ["doc-9"]


def test_what_a_decoder_answers_is_converted_to_the_events_type():
    def planner(event: Document):
        return event.id

    assert decide(planner, decoder=lambda record: json.loads(record.value)).tasks == ["doc-9"]
    assert decide(planner, decoder=lambda record: Document(record.key.decode())).tasks == ["doc-1"]


def test_a_tombstone_is_none():
    seen = []
    assert decide(lambda event: seen.extend([event]), replace(RECORD, value=None)) == Nothing()
    assert seen == [None]


def test_a_tombstone_is_poison_for_a_planner_whose_type_has_no_none():
    def planner(event: Document):
        return event.id

    def lenient(event: Document | None):
        return event and event.id

    assert decide(planner, replace(RECORD, value=None)).stage == "decoding"
    assert decide(lenient, replace(RECORD, value=None)) == Nothing()


def boom(_):
    raise KeyError("no such field")


@pytest.mark.parametrize(
    ("stage", "options", "record"),
    [
        ("decoding", {}, replace(RECORD, value=b"{not json")),
        ("decoding", {}, replace(RECORD, value=b"\xff\xfe")),
        ("decoding", {"decoder": boom}, RECORD),
        ("identifying", {"entity": lambda event: event["nobody"]}, RECORD),
        ("identifying", {"entity": lambda event: event["pages"]}, RECORD),
        ("identifying", {"entity": lambda event: ""}, RECORD),  # noqa: ARG005 - its shape
        ("identifying", {"entity": lambda event: "x" * 257}, RECORD),  # noqa: ARG005 - its shape
        ("identifying", {}, replace(RECORD, key=None)),
        ("identifying", {}, replace(RECORD, key=b"\xff")),
        ("identifying", {"event_id": lambda event: None}, RECORD),  # noqa: ARG005 - its shape
        ("identifying", {"metadata": lambda event: [event]}, RECORD),
    ],
)
def test_what_can_never_be_enqueued_is_poison_and_says_at_which_stage(stage, options, record):
    poison = decide(two, record, **options)
    assert isinstance(poison, Poison)
    assert poison.stage == stage
    assert poison.failure.message


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3), Reject("never")], ids=repr)
def test_a_planner_that_raises_is_poison(error):
    def planner(event):  # noqa: ARG001 - a planner's shape
        raise error

    assert decide(planner).stage == "planning"


def test_a_rejected_event_keeps_the_planners_own_reason():
    assert str(decide(lambda event: Reject("too old")).failure) == "Reject: too old"  # noqa: ARG005 - a planner's shape


def test_a_generator_that_raises_half_way_is_poison():
    def planner(event):  # noqa: ARG001 - a planner's shape
        yield "title"
        raise ValueError("odd")

    assert decide(planner).stage == "planning"


@pytest.mark.parametrize(("retry", "delay"), [(Retry("soon", delay=2), 2), (Retry("some time"), 30)], ids=str)
def test_a_planner_may_ask_for_time(retry, delay):
    decision = decide(lambda event: retry)  # noqa: ARG005 - a planner's shape
    assert isinstance(decision, Later)
    assert decision.delay == delay


@pytest.mark.parametrize("option", ["decoder", "entity", "event_id", "metadata"])
def test_the_functions_beside_the_planner_may_ask_for_time_too(option):
    def away(record):  # noqa: ARG001 - what each of them may take
        raise Retry("the registry is away", delay=3)

    decision = decide(lambda event: event, **{option: away})
    assert isinstance(decision, Later)
    assert (decision.delay, str(decision.failure)) == (3, "Retry: the registry is away")


def test_a_plain_planner_that_answers_a_coroutine_is_told_to_be_async():
    async def later():
        return ["title"]

    made = later()
    poison = decide(lambda event: made)  # noqa: ARG005 - a planner's shape
    made.close()
    assert "async def" in poison.failure.message


async def test_an_async_planner_is_asked_on_the_loop():
    app = Fanfold()

    @app.event("documents")
    async def planner(event, entity_id):
        return [entity_id, event["id"]]

    declaration = app.events.get("documents")
    prepared = plan(declaration, RECORD)
    assert isinstance(prepared, Prepared)
    assert (await plan_async(declaration, prepared)).tasks == ["doc-1", "doc-9"]


async def test_an_async_planner_that_raises_is_poison():
    app = Fanfold()

    @app.event("documents")
    async def planner(event):
        raise msgspec.ValidationError(event["id"])

    declaration = app.events.get("documents")
    assert (await plan_async(declaration, plan(declaration, RECORD))).stage == "planning"
