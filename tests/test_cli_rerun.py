from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fanfold import Fanfold, FanOutOptions, Reject, TaskState, testing
from fanfold.cli import main

pytestmark = pytest.mark.usefixtures("here")

URL = "sqlite:///tasks.db"


@pytest.fixture
def runs():
    """What ran, in order."""
    return []


@pytest.fixture
def app(runs):
    """An application with a task that succeeds, and one that fails the first time."""
    with Fanfold(URL) as made:

        @made.task("good")
        async def good():
            runs.append("good")

        @made.task("unlucky")
        async def unlucky():
            runs.append("unlucky")
            if runs.count("unlucky") == 1:
                raise Reject("not this time")

        yield made


@pytest.fixture
def fan_out_id(app):
    """One success, one failure."""
    fan_out_id = app.enqueue("doc-1", ["good", "unlucky"]).fan_out_id
    testing.drain(app)
    return fan_out_id


def rerun(*arguments):
    return CliRunner().invoke(main, ["rerun", "--queue-url", URL, *arguments])


def test_a_dry_run_says_what_it_would_be_and_does_nothing(app, fan_out_id):
    ran = rerun(fan_out_id, "--dry-run")
    assert ran.exit_code == 0
    assert ran.stdout.splitlines() == ["to run again of 2: 1 task(s): unlucky", "Nothing was done."]
    assert app.fan_out(fan_out_id).summary().generation == 0


def test_where_nobody_can_be_asked_nothing_is_done_without_yes(app, fan_out_id):
    assert rerun(fan_out_id).exit_code == 2
    assert app.fan_out(fan_out_id).summary().generation == 0


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        ([], ["unlucky"]),
        (["--failed"], ["unlucky"]),
        (["--all"], ["good", "unlucky"]),
        (["good"], ["good"]),
        (["good", "unlucky", "--failed"], ["unlucky"]),
    ],
    ids=["nothing said", "failed", "all", "named", "the failed of the named"],
)
def test_what_was_asked_for_runs_again_and_nothing_else(app, fan_out_id, runs, arguments, again):
    runs.clear()
    runs.append("unlucky")  # so that it succeeds now
    ran = rerun(fan_out_id, *arguments, "--yes", "--json")
    assert json.loads(ran.stdout) == {
        "fan_out_id": fan_out_id, "dry_run": False, "to_run": again, "sent": len(again),
    }  # fmt: skip
    [fan_out] = testing.drain(app)
    assert sorted(runs[1:]) == again
    assert fan_out.generation == 1


def test_what_waits_already_is_told_apart(fan_out_id):
    assert rerun(fan_out_id, "--yes").stdout.splitlines()[-1] == "1 task(s) sent."
    assert rerun(fan_out_id, "good", "--yes").stdout.splitlines() == [
        "to run again of 2: 1 task(s): good",
        "1 task(s) sent. 1 that waited already were sent again, too.",
    ]


def test_where_all_went_well_there_is_nothing_to_run(app, fan_out_id):
    app.enqueue("doc-2", ["good"], event_id="7")
    testing.drain(app)
    [newest, _] = app.fan_outs()
    ran = rerun(newest.fan_out_id)
    assert (ran.exit_code, ran.stdout.splitlines()) == (0, ["to run again of 1: 0 task(s)", "0 task(s) sent."])
    assert fan_out_id != newest.fan_out_id


@pytest.mark.parametrize("arguments", [["--all", "--failed"], ["--all", "good"]])
def test_what_contradicts_itself_is_wrong_usage(fan_out_id, arguments):
    assert rerun(fan_out_id, *arguments, "--yes").exit_code == 2


def test_the_order_that_the_event_asked_for_is_kept(app):
    options = FanOutOptions(order_by="entity")
    fan_out_id = app.enqueue("doc-1", ["unlucky", "good"], options=options).fan_out_id
    testing.drain(app)
    assert rerun(fan_out_id, "--all", "--yes").exit_code == 0
    [fan_out] = testing.drain(app)
    assert [task.state for task in fan_out.tasks] == [TaskState.SUCCEEDED] * 2
