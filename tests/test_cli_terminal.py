"""What a person sees and types; `test_cli_*` are what a script sees."""

from __future__ import annotations

import json
import re

import pytest

from commands import ESCAPE, Terminal, fanfold, in_a_terminal
from fanfold import Fanfold, testing

COLOUR = re.compile(r"\x1b\[[\d;]*\b(3[0-7]|9[0-7]|38;[\d;]+)m")
APP = """
import asyncio
from fanfold import Fanfold
app = Fanfold("sqlite:///tasks.db")

@app.task("endless")
async def endless():
    await asyncio.Event().wait()
"""


@pytest.fixture
def here(tmp_path):
    """A folder with a queue in which one task is done."""
    with Fanfold(f"sqlite:///{tmp_path}/tasks.db") as app:

        @app.task("title")
        async def title(entity_id):
            return entity_id

        app.enqueue("doc-1", ["title"])
        testing.drain(app)
    return tmp_path


@pytest.fixture
def fan_out_id(here):
    ran = fanfold("status", "--queue-url", "sqlite:///tasks.db", "--json", cwd=here)
    return json.loads(ran.stdout)["fan_outs"][0]["fan_out_id"]


def status(*arguments, **options):
    return in_a_terminal("status", "--queue-url", "sqlite:///tasks.db", *arguments, **options)


def test_a_terminal_shows_states_in_colour(here, fan_out_id):
    exit_code, shown = status(fan_out_id, cwd=here)
    assert exit_code == 0
    assert f"{ESCAPE}[32msucceeded{ESCAPE}[0m" in shown


@pytest.mark.parametrize("variables", [{"NO_COLOR": 1}, {"TERM": "dumb"}])
def test_no_color_and_a_dumb_terminal_are_respected(here, fan_out_id, variables):
    exit_code, shown = status(fan_out_id, cwd=here, **variables)
    assert (exit_code, COLOUR.search(shown)) == (0, None)
    assert "succeeded" in shown


def test_a_pipe_gets_no_escape_codes(here, fan_out_id):
    ran = fanfold("status", fan_out_id, "--queue-url", "sqlite:///tasks.db", cwd=here)
    assert ESCAPE not in ran.stdout + ran.stderr
    assert "succeeded" in ran.stdout


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_id_is_cut_however_narrow_the_terminal(here, fan_out_id, columns):
    _, shown = status(cwd=here, columns=columns)
    assert fan_out_id in shown
    assert "…" not in shown


def events(here, count):
    lines = (json.dumps({"entity_id": f"doc-{n}", "tasks": ["title"]}) for n in range(count))
    (here / "events.jsonl").write_text("\n".join(lines) + "\nnonsense\n")


def test_a_terminal_shows_the_count_of_events_and_whole_lines_of_errors(here):
    events(here, 50)
    exit_code, shown = in_a_terminal("enqueue", "--file", "events.jsonl", cwd=here)
    assert exit_code == 1
    assert re.search(r"\d+ events", shown)
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown)
    assert re.search(r"line 51: not an event \([^\r\n]*event_id\r\n", plain)
    assert "50 event(s): 50 task(s) enqueued" in plain


def test_a_pipe_gets_no_count_of_events(here):
    events(here, 50)
    ran = fanfold("enqueue", "--file", "events.jsonl", cwd=here)
    assert ran.stderr.startswith("line 51: ")
    assert len(ran.stderr.splitlines()) == 1
    assert ESCAPE not in ran.stdout + ran.stderr


def test_ctrl_c_ends_an_enqueue_that_waits_for_lines(here):
    with Terminal("enqueue", "--file", "-", cwd=here, FANFOLD_QUEUE_URL="sqlite:///typed.db") as terminal:
        terminal.type('{"entity_id": "doc-1", "tasks": []}\n')
        terminal.until("line 1: no tasks")
        terminal.press_ctrl_c()
        assert terminal.end() == 130
    assert "interrupted, run it again for the rest" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_ctrl_c_twice_ends_a_worker_at_once_and_leaves_nothing_invisible(here):
    (here / "app.py").write_text(APP)
    with Fanfold(f"sqlite:///{here}/tasks.db") as app:
        app.enqueue("doc-2", ["endless"])
        with Terminal("worker", "app:app", "--log-level", "debug", cwd=here) as terminal:
            terminal.until("task.started")
            terminal.press_ctrl_c()
            terminal.until("worker.stopping")
            terminal.press_ctrl_c()
            assert terminal.end() == 0
        assert "Traceback" not in terminal.shown
        counts = app.status()
    assert (counts.messages_available, counts.messages_in_flight) == (1, 0)
