"""An application whose events come from Kafka, and sources of it in processes of their own that can be killed."""

from __future__ import annotations

import itertools
import threading

import apps

from fanfold import Fanfold
from fanfold.sources.runner import run_source
from fanfold.sources.settings import resolve
from fanfold.testing import drain

NAMES = ["a", "b", "c"]

app = Fanfold()


def work(entity_id, task_name, context):
    apps.note("start", entity_id, task_name, context.attempt)


for _name in NAMES:
    app.task(_name)(work)


@app.on_complete
def fold(fan_out, context):
    apps.note("start", fan_out.entity_id, apps.FOLD, context.attempt)


@app.event("events", entity=lambda event: event["id"])
def plan(event):
    assert event["id"]
    return NAMES


def source(client, topic, **given):
    """Run a source until it is told to stop."""
    run_source(app, resolve({"topics": [f"events={topic}"], **given}, client=client))


def doomed_source(enqueued, seconds, client, topic):
    """The same, but it is killed so many seconds after it has enqueued so many events."""
    count = itertools.count(1)

    def strike(event):
        if event.name == "fan_out.enqueued" and next(count) == enqueued:
            threading.Timer(seconds, apps.die).start()

    app.subscribe(strike)
    source(client, topic)


def drain_all():
    """Work until the queue is empty."""
    drain(app)
