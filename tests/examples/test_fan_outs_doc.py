"""Everything in docs/fan-outs.md is run here, word by word, and every row of its table has a test."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from test_readme import FENCE, ROOT, run

from fanfold import FanOutOptions
from fanfold.limits import MAX_RESULT_BYTES

PAGE = (ROOT / "docs/fan-outs.md").read_text(encoding="utf-8")
BLOCKS = {found["name"]: found["text"] for found in FENCE.finditer(PAGE)}

ROWS = {
    "while it is open": "test_idempotence.test_enqueued_an_hour_later_while_the_first_messages_still_wait",
    "while a task waits for its retry": "test_idempotence."
    "test_enqueued_an_hour_later_while_one_of_its_tasks_is_to_be_retried",
    "after everything succeeded": "test_idempotence.test_enqueued_an_hour_after_it_was_done",
    "after a task was set aside or cancelled": "test_idempotence.test_a_dead_task_is_not_brought_back_by_its_event",
    "while it is being run again": "test_fan_outs."
    "test_an_event_that_comes_again_while_its_fan_out_is_run_again_runs_nothing_twice",
    "by two producers at the same moment": "test_idempotence.test_enqueued_by_two_processes_at_once",
    "after its producer died half-way": "test_kill_producer."
    "test_an_event_enqueued_again_is_there_once_runs_once_and_folds_once",
    "with other task names": "test_kill_producer.test_the_set_that_a_killed_producer_sealed_stays_sealed",
    "with other options, configurations or metadata": "test_idempotence."
    "test_what_is_said_otherwise_the_second_time_changes_nothing",
    "after it was forgotten (`keep`)": "test_idempotence.test_an_event_that_is_kept_no_longer_is_a_new_one",
    "without an `event_id`": "test_idempotence.test_without_an_event_id_each_call_is_a_fan_out_of_its_own",
}


@pytest.fixture
def here(tmp_path):
    """A folder in which every file of the page is saved."""
    for name, text in BLOCKS.items():
        if name.endswith(".py"):
            (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def drained(here):
    """The same, in which the fan-outs of `options.py` have ended: their ids by entity, and what was printed."""
    run("python options.py", here)
    printed = drain(here)
    listed = json.loads(run("fanfold status --queue-url sqlite:///fields.db --json", here))
    return {fan_out["entity_id"]: fan_out for fan_out in listed["fan_outs"]}, printed


def drain(here):
    return run('python -c "from fields import app; from fanfold import testing; testing.drain(app)"', here)


def test_there_is_no_block_that_nothing_here_runs():
    assert len(BLOCKS) == PAGE.count("```") / 2
    assert BLOCKS.keys() == {"fields.py", "options.py", "read.py", "status", "cancel.py", "rerun", "stages.py"}


def test_fan_outs_end_as_their_options_say_and_hooks_are_told(drained):
    fan_outs, printed = drained
    assert {name: fan_out["ended"] for name, fan_out in fan_outs.items()} == {
        "enough": "enough", "tolerant": "complete", "prompt": "complete",
    }  # fmt: skip
    lines = printed.splitlines()
    assert "dead tolerant links links can't be counted offline" in lines
    assert "complete tolerant complete {'title': 'TOLERANT', 'words': 3}" in lines
    assert "failed prompt complete {'links': \"Reject: links can't be counted offline\"}" in lines
    assert "complete enough enough {'title': 'ENOUGH', 'words': 3}" in lines


def test_the_table_of_options_says_what_there_is():
    names = re.findall(r"^\| `(\w+)` \| .* \|$", PAGE, re.MULTILINE)
    assert names == list(FanOutOptions.__dataclass_fields__)
    assert f"{FanOutOptions().keep:,.0f} (14 days)" in PAGE
    assert f"{MAX_RESULT_BYTES:,} bytes" in PAGE


@pytest.mark.usefixtures("drained")
def test_what_is_read_in_python_is_there(here):
    first, done, results, last = run("python read.py", here).splitlines()
    assert first.split()[1:] == ["enough", "2"]
    assert (done, len(eval(results))) == ("3 of 3", 2)  # noqa: S307 - what Python printed
    assert last.startswith("0 open, [")


def test_the_command_line_shows_the_same(drained, here):
    fan_outs, _ = drained
    failed, of_entity, watched = BLOCKS["status"].splitlines()
    assert [line.split()[1] for line in run(failed, here).splitlines()[2:]] == ["prompt"]
    assert [found["entity_id"] for found in json.loads(run(of_entity, here))["fan_outs"]] == ["enough"]
    line = run(f"{watched} || test $? = 4", here, FAN_OUT_ID=fan_outs["tolerant"]["fan_out_id"])
    assert line.rstrip().endswith("complete 3 of 3: 2 succeeded, 1 dead")


def test_cancelling_says_what_it_cancelled(here):
    assert run("python cancel.py", here).splitlines() == ["['links']", "['title']", "cancelled"]


def test_running_again_takes_what_was_asked_for(drained, here):
    fan_outs, _ = drained
    fan_out_id = fan_outs["prompt"]["fan_out_id"]
    dry, failed, named, everything = BLOCKS["rerun"].splitlines()
    assert run(dry, here, FAN_OUT_ID=fan_out_id).splitlines() == [
        "to run again of 3: 1 task(s): links",
        "Nothing was done.",
    ]
    for line, sent in ((failed, 1), (named, 2), (everything, 3)):
        assert run(line, here, FAN_OUT_ID=fan_out_id).splitlines()[-1] == f"{sent} task(s) sent."
        drain(here)
    told = json.loads(run(f"fanfold status --app fields:app {fan_out_id} --json || test $? = 4", here))
    assert (told["generation"], told["fold_state"]) == (3, "succeeded")


def test_the_stages_follow_each_other(here):
    assert run("python stages.py", here) == "{'publish': 'published Doc-1'}\n"


def test_each_row_of_what_happens_to_an_event_that_comes_again_has_a_test(monkeypatch):
    table = PAGE[PAGE.index("| the event is enqueued again") :].split("\n\n")[0]
    rows = [row.split(" | ")[0].removeprefix("| ") for row in table.splitlines()[2:]]
    assert rows == list(ROWS)
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    monkeypatch.syspath_prepend(str(ROOT / "tests/faults"))
    for where in ROWS.values():
        module, name = where.split(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_every_file_that_is_linked_is_there():
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", PAGE)]
    assert [link for link in links if not (Path(ROOT, "docs") / link).exists()] == []
