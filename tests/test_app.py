from __future__ import annotations

import asyncio
import threading

import pytest

from fanfold import Fanfold
from fanfold.errors import ConfigurationError, FanOutSealedError, InvalidInputError, StorageError, UnknownTaskError


@pytest.fixture
def app(tmp_path):
    with Fanfold(f"sqlite:///{tmp_path}/tasks.db") as made:
        yield made


def test_many_first_uses_at_once_open_once(app):
    async def enqueue_many():
        return await asyncio.gather(*(app.enqueue_async(f"doc-{n}", ["a"]) for n in range(100)))

    assert len({done.fan_out_id for done in asyncio.run(enqueue_many())}) == 100


def test_first_uses_from_many_threads_open_once(app):
    threads = [threading.Thread(target=app.enqueue, args=(f"doc-{n}", ["a"])) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.status().messages_available == 20


def test_a_failed_opening_is_tried_again_at_the_next_use(tmp_path):
    with Fanfold(f"sqlite:///{tmp_path}/later/tasks.db") as app:
        with pytest.raises(StorageError, match="create it first"):
            app.enqueue("doc-1", ["a"])
        (tmp_path / "later").mkdir()
        assert app.enqueue("doc-1", ["a"]).sent == 1


def test_the_same_event_is_the_same_fan_out(app):
    first = app.enqueue("doc-1", ["a", "b"], event_id="7")
    again = app.enqueue("doc-1", ["a", "b"], event_id="7")
    assert again.fan_out_id == first.fan_out_id
    assert (again.sent, again.duplicates) == (2, 2)
    assert app.status().messages_available == 2


def test_an_event_is_sealed_with_its_names(app):
    app.enqueue("doc-1", ["a", "b"], event_id="7")
    with pytest.raises(FanOutSealedError, match=r"new: \['c'\], missing: \['b'\]"):
        app.enqueue("doc-1", ["a", "c"], event_id="7")


@pytest.mark.parametrize(
    ("entity_id", "tasks", "text"),
    [
        ("", ["a"], "entity_id ''"),
        ("doc-1", [], "no tasks"),
        ("doc-1", ["a", "a"], "'a' stands twice"),
        ("doc-1", [{"name": "a", "conf": {}}], "'conf'"),
        ("doc-1", [{"name": "a", "config": {"x": object()}}], "can't be written as JSON"),
        ("doc-1", [{"name": "a", "config": {"x": "y" * 1_100_000}}], "1,048,576"),
        ("doc-1", ["fanfold.fold"], "reserved"),
    ],
)
def test_what_a_caller_gets_wrong_is_said_before_anything_is_recorded(app, entity_id, tasks, text):
    with pytest.raises(InvalidInputError, match=text):
        app.enqueue(entity_id, tasks)
    assert app.fan_outs() == []


def test_a_name_that_isnt_declared_is_refused_with_the_nearest(app):
    app.task("yearBuilt")(lambda: 1)
    with pytest.raises(UnknownTaskError, match="yearBuilt"):
        app.enqueue("doc-1", ["yearBuild"])


def test_settings_are_fixed_once_the_queue_is_open(app):
    app.status()
    with pytest.raises(ConfigurationError, match="after the first use"):
        app.configure(concurrency=3)
