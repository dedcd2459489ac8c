from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from commands import Terminal
from fanfold import Ended, Fanfold, Reject, TaskState, testing
from fanfold.cli import main

pytestmark = pytest.mark.usefixtures("here")

URL = "sqlite:///tasks.db"


@pytest.fixture
def app(here):
    """An application with a task that succeeds and one that can't, and that another process can load as `made:app`."""
    (here / "made.py").write_text(APP)
    with Fanfold(URL) as made:
        made.task("good")(_good)
        made.task("hopeless")(_hopeless)
        yield made


APP = f"""
from fanfold import Fanfold
app = Fanfold({URL!r})
@app.on_complete
def fold(): ...
"""


async def _good(entity_id):
    return entity_id


async def _hopeless():
    raise Reject("never")


def cancel(*arguments):
    return CliRunner().invoke(main, ["cancel", "--queue-url", URL, *arguments])


def states(app, fan_out_id):
    return [task.state for task in app.fan_out(fan_out_id).tasks()]


def test_a_dry_run_says_what_it_would_be_and_does_nothing(app):
    fan_out_id = app.enqueue("doc-1", ["good", "hopeless"]).fan_out_id
    ran = cancel(fan_out_id, "--dry-run")
    assert ran.exit_code == 0
    assert ran.stdout.splitlines() == ["to cancel of 2: 2 task(s): good, hopeless", "Nothing was done."]
    assert states(app, fan_out_id) == [TaskState.PENDING] * 2


def test_where_nobody_can_be_asked_nothing_is_done_without_yes(app):
    fan_out_id = app.enqueue("doc-1", ["good"]).fan_out_id
    ran = cancel(fan_out_id)
    assert ran.exit_code == 2
    assert "nobody to ask" in ran.stderr
    assert states(app, fan_out_id) == [TaskState.PENDING]


def test_with_yes_all_that_is_left_is_cancelled_and_nothing_runs(app):
    fan_out_id = app.enqueue("doc-1", ["good", "hopeless"]).fan_out_id
    ran = cancel(fan_out_id, "--yes")
    assert (ran.exit_code, ran.stdout.splitlines()[-1]) == (0, "2 task(s) cancelled.")
    [fan_out] = testing.drain(app)
    assert (fan_out.ended, fan_out.progress.cancelled) == (Ended.CANCELLED, 2)


def test_chosen_tasks_are_cancelled_and_the_others_run(app):
    fan_out_id = app.enqueue("doc-1", ["good", "hopeless"]).fan_out_id
    ran = cancel(fan_out_id, "hopeless", "--yes", "--json")
    assert json.loads(ran.stdout) == {
        "fan_out_id": fan_out_id, "dry_run": False, "to_cancel": ["hopeless"], "cancelled": ["hopeless"],
    }  # fmt: skip
    [fan_out] = testing.drain(app)
    assert [task.state for task in fan_out.tasks] == [TaskState.SUCCEEDED, TaskState.CANCELLED]


def test_what_is_over_is_left_alone(app):
    fan_out_id = app.enqueue("doc-1", ["good"]).fan_out_id
    testing.drain(app)
    ran = cancel(fan_out_id)
    assert ran.exit_code == 0
    assert ran.stdout.splitlines() == ["to cancel of 1: 0 task(s)", "0 task(s) cancelled."]


@pytest.mark.parametrize("command", ["cancel", "rerun"])
@pytest.mark.parametrize(
    ("arguments", "said"), [(["0123"], "'0123' isn't in the ledger"), ([None, "roof"], "has no task 'roof'")]
)
def test_what_is_not_there_is_named_and_nothing_is_done(app, command, arguments, said):
    fan_out_id = app.enqueue("doc-1", ["good"]).fan_out_id
    asked = [argument or fan_out_id for argument in arguments]
    ran = CliRunner().invoke(main, [command, "--queue-url", URL, *asked, "--yes"])
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert said in ran.stderr
    assert states(app, fan_out_id) == [TaskState.PENDING]


@pytest.mark.parametrize("command", ["cancel", "rerun"])
def test_a_queue_that_nobody_has_made_is_an_error_and_is_not_made(here, command):
    ran = CliRunner().invoke(main, [command, "--queue-url", URL, "0123", "--yes"])
    assert (ran.exit_code, list(here.iterdir())) == (1, [])


def test_with_the_application_the_completion_is_sent_at_once(app, here, monkeypatch):
    monkeypatch.syspath_prepend(str(here))
    fan_out_id = app.enqueue("doc-1", ["good"]).fan_out_id
    before = app.status().messages_available
    assert cancel(fan_out_id, "--app", "made:app", "--yes").exit_code == 0
    assert app.status().messages_available == before + 1


def test_a_person_is_asked_and_may_say_no(app, here):
    fan_out_id = app.enqueue("doc-1", ["good", "hopeless"]).fan_out_id
    with Terminal("cancel", fan_out_id, "--queue-url", URL, cwd=here) as terminal:
        terminal.until("2 task\\(s\\)")
        terminal.until("Go on")
        terminal.type("n\n")
        assert terminal.end() == 1
    assert states(app, fan_out_id) == [TaskState.PENDING] * 2


def test_a_person_may_say_yes(app, here):
    fan_out_id = app.enqueue("doc-1", ["good", "hopeless"]).fan_out_id
    with Terminal("cancel", fan_out_id, "good", "--queue-url", URL, cwd=here) as terminal:
        terminal.until("Go on")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert states(app, fan_out_id) == [TaskState.CANCELLED, TaskState.PENDING]


def test_many_names_are_counted_and_not_all_written_out():
    with Fanfold(URL) as producer:
        fan_out_id = producer.enqueue("doc-1", [f"t{number}" for number in range(13)]).fan_out_id
    assert cancel(fan_out_id, "--dry-run").stdout.splitlines()[0] == (
        "to cancel of 13: 13 task(s): t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, and 3 more"
    )
