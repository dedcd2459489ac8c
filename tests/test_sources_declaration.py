from __future__ import annotations

from dataclasses import dataclass

import pytest

from fanfold import Fanfold
from fanfold.errors import DeclarationError


@dataclass
class Document:
    id: str


@pytest.fixture
def app():
    return Fanfold(entity="doc_id")


def declared(app, function, **options):
    app.event("documents", **options)(function)
    return app.events.get("documents")


def test_the_planner_stays_a_function_that_can_be_called(app):
    @app.event("documents")
    def plan(event):
        return event

    assert plan("x") == "x"


def test_a_planner_asks_by_name_and_in_the_teams_words(app):
    event = declared(app, lambda event, doc_id, key, record: (event, doc_id, key, record))
    values = {"event": 1, "entity_id": 2, "key": 3, "record": 4}
    assert event.planner(values) == (1, 2, 3, 4)


def test_a_planner_that_takes_keywords_gets_all(app):
    assert set(declared(app, lambda **asked: asked).planner({"event": 1, "entity_id": 2, "key": 3, "record": 4})) == {
        "event",
        "doc_id",
        "key",
        "record",
    }


def test_an_async_planner_is_known_as_one(app):
    async def plan(event):
        return event

    assert declared(app, plan).asynchronous


def test_the_events_type_is_the_annotation_of_its_parameter(app):
    def plan(event: Document):
        return event

    assert declared(app, plan).event_type is Document


@pytest.mark.parametrize("asked", ["payload", "task_config", "task_name"])
def test_a_planner_cant_ask_for_what_nobody_knows(app, asked):
    with pytest.raises(DeclarationError, match=f"planner of event 'documents' asks for '{asked}'.* event, doc_id"):
        declared(app, eval(f"lambda {asked}: None"))  # noqa: S307 - a parameter by a name that is a parameter


def test_a_topic_has_one_planner(app):
    declared(app, lambda event: event)
    with pytest.raises(DeclarationError, match="declared twice"):
        declared(app, lambda event: event)


@pytest.mark.parametrize("name", ["", None, 7])
def test_an_event_has_a_name(app, name):
    with pytest.raises(DeclarationError, match="write the name of its topic"):
        app.event(name)(lambda event: event)


def test_an_unknown_option_is_named(app):
    with pytest.raises(DeclarationError, match="unknown option 'timeout'"):
        app.events.add(lambda event: event, "documents", timeout=3)


@pytest.mark.parametrize("option", ["entity", "event_id", "metadata"])
def test_the_functions_beside_the_planner_are_plain_ones(app, option):
    async def later(event):
        return event

    for value in ("name", later):
        with pytest.raises(DeclarationError, match=f"{option} of event 'documents' is .* plain function"):
            declared(app, lambda event: event, **{option: value})


def test_the_functions_beside_the_planner_ask_by_name_too(app):
    with pytest.raises(DeclarationError, match="entity of event 'documents' asks for 'doc'"):
        declared(app, lambda event: event, entity=lambda doc: doc)


def test_a_decoder_is_a_function(app):
    with pytest.raises(DeclarationError, match="decoder='json'"):
        declared(app, lambda event: event, decoder="json")


def test_an_annotation_that_cant_be_read_is_refused(app):
    def plan(event: Missing):  # noqa: F821 - the point
        return event

    with pytest.raises(DeclarationError, match="annotations can't be read"):
        declared(app, plan)


def test_a_type_that_cant_be_validated_is_refused(app):
    def plan(event: dict[str, int] | dict[int, str]):
        return event

    with pytest.raises(DeclarationError, match="can't be validated"):
        declared(app, plan)
