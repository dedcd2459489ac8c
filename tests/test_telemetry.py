from __future__ import annotations

import logging

import pytest

from fanfold.telemetry import Event, LogSubscriber, Telemetry


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, logger="fanfold")
    return caplog


def broken(_event):
    raise RuntimeError("disk full")


def test_each_subscriber_gets_each_event_in_the_order_in_which_they_subscribed():
    heard = []
    telemetry = Telemetry(lambda event: heard.append(("first", event)))
    telemetry.subscribe(lambda event: heard.append(("second", event)))
    telemetry.emit("task.completed", task_name="words")
    event = Event("task.completed", {"task_name": "words"})
    assert heard == [("first", event), ("second", event)]


def test_a_subscribers_failure_keeps_no_event_from_the_others():
    heard = []
    Telemetry(broken, heard.append).emit("task.completed")
    assert heard == [Event("task.completed")]


def test_a_subscribers_failure_is_logged_once(log):
    telemetry = Telemetry(broken)
    telemetry.emit("task.completed")
    telemetry.emit("task.completed")
    [record] = log.records
    assert "failed; work goes on without it" in record.getMessage()
    assert "disk full" in str(record.exc_info[1])


def test_a_subscriber_that_failed_is_asked_again():
    heard = []

    def wavering(event):
        heard.append(event.name)
        if len(heard) == 1:
            raise RuntimeError

    telemetry = Telemetry(wavering)
    telemetry.emit("one")
    telemetry.emit("two")
    assert heard == ["one", "two"]


def test_two_subscribers_failures_are_both_logged(log):
    Telemetry(broken, lambda _event: 1 / 0).emit("task.completed")
    assert len(log.records) == 2


def test_nobody_needs_to_listen():
    Telemetry().emit("task.completed", task_name="words")


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("task.completed", logging.INFO),
        ("something.new", logging.INFO),
        ("task.started", logging.DEBUG),
        ("task.retried", logging.WARNING),
        ("outcome.dropped", logging.WARNING),
        ("task.dead", logging.ERROR),
    ],
)
def test_an_event_is_logged_at_its_level(log, name, level):
    LogSubscriber()(Event(name))
    assert [record.levelno for record in log.records] == [level]


def test_a_log_line_reads_as_name_and_fields(log):
    LogSubscriber()(Event("task.completed", {"entity_id": "doc-1", "attempt": 2, "seconds": 0.12345}))
    assert log.records[0].getMessage() == "task.completed entity_id=doc-1 attempt=2 seconds=0.123"


def test_a_field_that_is_empty_or_has_spaces_is_quoted(log):
    LogSubscriber()(Event("task.dead", {"error": "no such page", "worker": ""}))
    assert log.records[0].getMessage() == "task.dead error='no such page' worker=''"


def test_a_fields_line_breaks_stay_in_one_line(log):
    LogSubscriber()(Event("task.dead", {"error": "no\nsuch"}))
    assert log.records[0].getMessage() == r"task.dead error='no\nsuch'"


def test_a_teams_own_words_stand_in_its_log(log):
    LogSubscriber({"entity_id": "doc_id"})(Event("task.completed", {"entity_id": "doc-1", "task_name": "words"}))
    assert log.records[0].getMessage() == "task.completed doc_id=doc-1 task_name=words"


def test_a_handler_gets_the_fields_as_values(log):
    LogSubscriber()(Event("task.completed", {"attempt": 2}))
    assert log.records[0].event == "task.completed"
    assert log.records[0].fields == {"attempt": 2}


def test_what_nobody_wants_to_read_is_not_formatted(caplog):
    class Unreadable:
        def __str__(self):
            raise AssertionError("formatted")

    caplog.set_level(logging.WARNING, logger="fanfold")
    LogSubscriber()(Event("task.completed", {"what": Unreadable()}))
    assert caplog.records == []
