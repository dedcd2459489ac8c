from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner

from commands import fanfold
from fanfold import Fanfold, FanOutOptions, Reject, testing
from fanfold.cli import main

pytestmark = pytest.mark.usefixtures("here")

URL = "sqlite:///tasks.db"


@pytest.fixture
def app():
    """An application with a task that succeeds and one that can't."""
    with Fanfold(URL) as made:
        made.task("good")(_good)
        made.task("hopeless")(_hopeless)
        yield made


async def _good(entity_id):
    return {"length": len(entity_id)}


async def _hopeless():
    raise Reject("there is [no] such page")


def status(*arguments):
    return CliRunner().invoke(main, ["status", "--queue-url", URL, *arguments])


def told(*arguments):
    return json.loads(status(*arguments, "--json").stdout)


def test_a_queue_that_nobody_has_made_is_an_error_and_is_not_made(here):
    ran = status()
    assert ran.exit_code == 1
    assert "there is no such file here" in ran.stderr
    assert list(here.iterdir()) == []


def test_an_empty_queue_has_no_fan_outs_yet(app):
    assert app.status().messages_available == 0
    assert status().stdout.splitlines() == [f"{URL}: 0 available, 0 in flight, 0 delayed", "No fan-outs yet."]
    assert status("--open").stdout.splitlines()[1] == "No fan-outs are open."
    assert told() == {
        "queue": {"messages_available": 0, "messages_in_flight": 0, "messages_delayed": 0},
        "fan_outs": [],
    }


def test_without_a_ledger_it_says_so_and_shows_the_queue(app):
    app.enqueue("doc-1", ["good"])
    ran = status("--ledger", "none")
    assert ran.exit_code == 0
    assert ran.stdout.splitlines() == [
        f"{URL}: 1 available, 0 in flight, 0 delayed",
        "There is no ledger, so nobody knows the fan-outs; give --ledger.",
    ]
    assert told("--ledger", "none")["fan_outs"] is None


def test_one_fan_out_cannot_be_shown_without_a_ledger(app):
    app.enqueue("doc-1", ["good"])
    ran = status("0123", "--ledger", "none")
    assert ran.exit_code == 1
    assert "ledger" in ran.stderr


def test_fan_outs_are_listed_newest_first_with_their_numbers(app):
    first, second = (app.enqueue(name, ["good", "hopeless"]).fan_out_id for name in ("doc-1", "doc[red]2"))
    lines = [line.split() for line in status().stdout.splitlines()[1:]]
    assert lines[0] == ["fan-out", "entity_id", "tasks", "succeeded", "dead", "waiting", "running", "state", "created"]
    assert [line[:8] for line in lines[1:]] == [
        [second, "doc[red]2", "2", "0", "0", "2", "0", "open"],
        [first, "doc-1", "2", "0", "0", "2", "0", "open"],
    ]


def test_the_list_can_be_cut_to_the_newest(app):
    for number in range(3):
        app.enqueue(f"doc-{number}", ["good"])
    assert [fan_out["entity_id"] for fan_out in told("--limit", "2")["fan_outs"]] == ["doc-2", "doc-1"]


def test_the_list_can_leave_out_what_is_complete(app):
    app.enqueue("doc-1", ["good"])
    testing.drain(app)
    app.enqueue("doc-2", ["good"])
    assert [(f["entity_id"], f["state"]) for f in told()["fan_outs"]] == [("doc-2", "open"), ("doc-1", "complete")]
    assert [f["entity_id"] for f in told("--open")["fan_outs"]] == ["doc-2"]


def test_a_fan_out_that_is_open_exits_with_3(app):
    fan_out_id = app.enqueue("doc-1", ["good", "hopeless"]).fan_out_id
    ran = status(fan_out_id)
    assert ran.exit_code == 3
    assert ran.stdout.splitlines()[0] == f"{fan_out_id} entity_id doc-1 open"
    assert [line.split() for line in ran.stdout.splitlines()[2:]] == [
        ["good", "pending", "0"],
        ["hopeless", "pending", "0"],
    ]


def test_a_fan_out_that_is_complete_exits_with_0(app):
    fan_out_id = app.enqueue("doc-1", ["good"]).fan_out_id
    testing.drain(app)
    ran = status(fan_out_id)
    assert ran.exit_code == 0
    assert ran.stdout.splitlines()[2].split() == ["good", "succeeded", "1", '{"length":', "5}"]


def test_a_fan_out_with_failures_exits_with_4_and_says_why(app):
    fan_out_id = app.enqueue("doc-1", ["good", "hopeless"]).fan_out_id
    testing.drain(app)
    ran = status(fan_out_id)
    assert ran.exit_code == 4
    assert ran.stdout.splitlines()[3].split(maxsplit=3) == ["hopeless", "dead", "1", "Reject: there is [no] such page"]
    [good, hopeless] = told(fan_out_id)["tasks"]
    assert (good["state"], good["result"], good["attempts"]) == ("succeeded", {"length": 5}, 1)
    assert hopeless["failure"]["message"] == "there is [no] such page"


def test_a_fan_out_whose_completion_was_set_aside_exits_with_4(app):
    app.on_complete(_hopeless)
    fan_out_id = app.enqueue("doc-1", ["good"]).fan_out_id
    testing.drain(app)
    assert status(fan_out_id).exit_code == 4
    assert told(fan_out_id)["state"] == "complete, fold dead"


def test_an_unknown_fan_out_exits_with_1(app):
    app.enqueue("doc-1", ["good"])
    ran = status("0123")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "fan-out '0123' isn't in the ledger; `fanfold status` lists those that are" in ran.stderr


def test_a_teams_own_words_are_the_headings(here, monkeypatch):
    (here / "status_app.py").write_text(
        f"from fanfold import Fanfold\napp = Fanfold({URL!r}, entity='doc_id', task='field_name')\n"
    )
    monkeypatch.syspath_prepend(str(here))
    with Fanfold(URL) as app:
        fan_out_id = app.enqueue("doc-1", ["title"]).fan_out_id
    named = CliRunner().invoke(main, ["status", "--app", "status_app:app"])
    assert "doc_id" in named.stdout.splitlines()[1].split()
    one = CliRunner().invoke(main, ["status", "--app", "status_app:app", fan_out_id])
    assert f"{fan_out_id} doc_id doc-1 open" in one.stdout
    assert one.stdout.splitlines()[1].startswith("field_name")


def test_long_results_are_cut_for_people_and_whole_for_scripts(app):
    app.task("long")(_long)
    fan_out_id = app.enqueue("doc-1", ["long"]).fan_out_id
    testing.drain(app)
    shown = status(fan_out_id).stdout.splitlines()[2]
    assert shown.rstrip().endswith("x…")
    assert told(fan_out_id)["tasks"][0]["result"] == "x" * 5_000


async def _long():
    return "x" * 5_000


def test_control_characters_in_names_and_reasons_are_shown_and_not_obeyed(app):
    app.task("odd")(_odd)
    fan_out_id = app.enqueue("doc\x9b2J", ["odd"]).fan_out_id
    testing.drain(app)
    shown = status(fan_out_id).stdout + status().stdout
    assert "doc\\x9b2J" in shown
    assert "Reject: \\x1b[2J gone" in shown
    assert not {"\x1b", "\x9b"} & set(shown)


async def _odd():
    raise Reject("\x1b[2J gone")


def test_the_list_can_be_those_that_failed(app):
    app.enqueue("good", ["good"])
    app.enqueue("bad", ["good", "hopeless"])
    app.enqueue("tolerant", ["good", "hopeless"], options=FanOutOptions(tolerated_failures=1))
    testing.drain(app)
    app.enqueue("open", ["hopeless"])
    for number in range(3):
        app.enqueue(f"later-{number}", ["good"])
    assert [f["entity_id"] for f in told("--failed", "--limit", "1")["fan_outs"]] == ["bad"]
    assert status("--failed", "--entity", "good").stdout.splitlines()[1] == "No fan-outs of good have failed."


def test_the_list_can_be_one_entitys_and_of_those_the_open_ones(app):
    first = app.enqueue("doc-1", ["good"]).fan_out_id
    app.fan_out(app.enqueue("doc-1", ["good"]).fan_out_id).cancel()
    app.enqueue("doc-2", ["good"])
    assert len(told("--entity", "doc-1")["fan_outs"]) == 2
    assert [f["fan_out_id"] for f in told("--entity", "doc-1", "--open", "--limit", "1")["fan_outs"]] == [first]


@pytest.mark.parametrize("arguments", [["--open", "--failed"], ["0123", "--open"], ["0123", "--entity", "doc-1"]])
def test_filters_that_contradict_each_other_are_wrong_usage(arguments):
    assert status(*arguments).exit_code == 2


# Stages


@pytest.fixture
def stages(app):
    """Three fan-outs of which each one's completion enqueued the next: their ids."""
    app.on_complete(lambda fan_out, metadata: _next_stage(app, fan_out, metadata))
    app.enqueue("doc-1", ["good"], metadata={"left": 2}, event_id="1")
    testing.drain(app)
    return [fan_out.fan_out_id for fan_out in reversed(app.fan_outs())]


def _next_stage(app, fan_out, metadata):
    if metadata["left"]:
        app.enqueue(fan_out.entity_id, ["good"], metadata={"left": metadata["left"] - 1}, parent=fan_out)


def test_each_stage_shows_the_stages_before_and_after_it(stages):
    for fan_out_id in stages:
        shown = status(fan_out_id).stdout.splitlines()
        tree = shown[shown.index("stages:") + 1 :]
        assert [line.lstrip(" └├─│").split()[0] for line in tree] == stages
        assert [line for line in tree if line.startswith(stages[0])] == tree[:1]
        links = told(fan_out_id)["chain"]
        assert [(link["fan_out_id"], link["depth"], link["state"]) for link in links] == [
            (stage, depth, "complete") for depth, stage in enumerate(stages)
        ]


def test_a_stage_that_is_kept_no_longer_is_shown_as_such(stages, here):
    with closing(sqlite3.connect(here / "tasks.db")) as connection, connection:
        connection.execute("DELETE FROM fan_outs WHERE fan_out_id = ?", (stages[0],))
    assert [line.strip(" └─") for line in status(stages[1]).stdout.splitlines()][-3] == f"{stages[0]} kept no longer"
    assert told(stages[1])["chain"][0]["state"] == "forgotten"


def test_a_completion_may_have_enqueued_several(app):
    first = app.enqueue("doc-1", ["good"])
    testing.drain(app)
    parent = app.fan_out(first.fan_out_id).get()
    children = [app.enqueue(name, ["good"], parent=parent).fan_out_id for name in ("left", "right")]
    assert [(link["fan_out_id"], link["depth"]) for link in told(first.fan_out_id)["chain"]] == [
        (first.fan_out_id, 0), (children[0], 1), (children[1], 1),
    ]  # fmt: skip


def test_a_fan_out_that_stands_alone_shows_no_stages(app):
    fan_out_id = app.enqueue("doc-1", ["good"]).fan_out_id
    assert "stages:" not in status(fan_out_id).stdout
    assert [link["fan_out_id"] for link in told(fan_out_id)["chain"]] == [fan_out_id]


# Other processes


def test_another_process_reads_the_same_state(app, here):
    fan_out_id = app.enqueue("doc-1", ["good"]).fan_out_id
    ran = fanfold("status", fan_out_id, "--json", cwd=here, FANFOLD_QUEUE_URL=URL)
    assert ran.returncode == 3, ran.stderr
    assert json.loads(ran.stdout)["fan_out_id"] == fan_out_id
