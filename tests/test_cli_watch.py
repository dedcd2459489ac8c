"""`fanfold status --watch`, as people and scripts meet it, and its loop on a clock that is moved."""

from __future__ import annotations

import asyncio
import json

import pytest

from commands import ESCAPE, Terminal, fanfold, started
from fanfold import Fanfold, Reject, testing
from fanfold.cli.watch import Seen, watch
from fanfold.errors import StorageBusyError, UnknownFanOutError

URL = "sqlite:///tasks.db"
APP = f"""
from fanfold import Fanfold
app = Fanfold({URL!r})
@app.task("good")
async def good(): ...
@app.on_complete
def fold(): ...
"""


@pytest.fixture
def app(tmp_path):
    """An application with a task that succeeds and one that can't."""
    with Fanfold(f"sqlite:///{tmp_path}/tasks.db") as made:

        @made.task("good")
        async def good(): ...

        @made.task("hopeless")
        async def hopeless():
            raise Reject("never")

        yield made


@pytest.fixture
def fan_out_id(app):
    return app.enqueue("doc-1", ["good", "hopeless"]).fan_out_id


def watching(*arguments, here):
    return started("status", "--queue-url", URL, "--watch", "--every", "0.02", *arguments, cwd=here)


def test_in_a_pipe_each_change_is_a_line_and_the_end_is_the_fan_outs(app, fan_out_id, tmp_path):
    with watching(fan_out_id, here=tmp_path) as process:
        first = process.stdout.readline()
        assert first.endswith(f"  {fan_out_id} doc-1 open 0 of 2: 2 waiting\n")
        testing.drain(app)
        *_, last = process.stdout
        assert last.endswith(f"  {fan_out_id} doc-1 complete 2 of 2: 1 succeeded, 1 dead\n")
        assert process.wait(60) == 4
        assert ESCAPE not in first + last


def test_for_a_script_each_change_is_an_object_on_a_line(app, fan_out_id, tmp_path):
    with watching(fan_out_id, "--json", here=tmp_path) as process:
        assert json.loads(process.stdout.readline())["progress"]["pending"] == 2
        testing.drain(app)
        seen = [json.loads(line) for line in process.stdout]
        assert (seen[-1]["state"], seen[-1]["progress"]["succeeded"]) == ("complete", 1)
        assert len(seen) == len({json.dumps(each) for each in seen})


def test_what_has_ended_already_is_shown_once(app, fan_out_id, tmp_path):
    testing.drain(app)
    ran = fanfold("status", fan_out_id, "--watch", cwd=tmp_path, FANFOLD_QUEUE_URL=URL)
    assert (ran.returncode, len(ran.stdout.splitlines())) == (4, 1)


def test_all_fan_outs_are_watched_until_ctrl_c(app, fan_out_id, tmp_path):
    with watching(here=tmp_path) as process:
        assert "2 available" in process.stdout.readline()
        assert fan_out_id in process.stdout.readline()
        second = app.enqueue("doc-2", ["good"]).fan_out_id
        while second not in process.stdout.readline():
            pass
        process.send_signal(2)
        _, errors = process.communicate(timeout=300)
        assert (process.returncode, errors.strip()) == (130, "Interrupted.")


def test_a_terminal_is_redrawn_in_place_until_the_end(app, fan_out_id, tmp_path):
    arguments = "status", fan_out_id, "--queue-url", URL, "--watch", "--every", "0.02"
    with Terminal(*arguments, cwd=tmp_path) as terminal:
        terminal.until("open +0 of 2")
        testing.drain(app)
        terminal.until("complete +2 of 2")
        assert terminal.end() == 4
    assert f"{ESCAPE}[?25h" in terminal.shown  # the cursor is back


@pytest.mark.usefixtures("fan_out_id")
def test_ctrl_c_ends_a_redrawn_overview_without_a_traceback(tmp_path):
    with Terminal("status", "--queue-url", URL, "--watch", cwd=tmp_path, columns=60) as terminal:
        terminal.until("doc-1")
        terminal.press_ctrl_c()
        assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert terminal.shown.rindex(f"{ESCAPE}[?25h") > terminal.shown.rindex(f"{ESCAPE}[?25l")


def test_with_the_application_its_completion_is_waited_for(app, tmp_path):
    (tmp_path / "made.py").write_text(APP)
    fan_out_id = app.enqueue("doc-1", ["good"]).fan_out_id
    testing.drain(app)
    arguments = fan_out_id, "--app", "made:app"
    with watching(*arguments, here=tmp_path) as watcher:
        assert "complete" in watcher.stdout.readline()
        assert watcher.poll() is None
        app.on_complete(lambda: None)
        app.fan_out(fan_out_id).rerun(failed_only=False)
        testing.drain(app)
        assert watcher.wait(60) == 0


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_an_interval_that_isnt_one_is_wrong_usage(tmp_path, seconds):
    assert fanfold("status", "--watch", "--every", seconds, cwd=tmp_path).returncode == 2


# The loop


class Noted:
    def __init__(self):
        self.shown = []

    def show(self, seen, before):
        self.shown.append((seen, before))


async def test_it_looks_again_after_the_interval_and_shows_what_was_there_before(app, clock, until):
    app.clock = clock
    looks, view = [Seen(None, [1]), Seen(None, [2])], Noted()
    watched = asyncio.create_task(watch(app, _answers(looks), view, every=5, over=lambda seen: seen.fan_outs == [2]))
    await until(lambda: clock.sleepers)
    assert len(view.shown) == 1
    clock.advance(5)
    assert (await watched).fan_outs == [2]
    assert view.shown == [(Seen(None, [1]), None), (Seen(None, [2]), Seen(None, [1]))]


async def test_a_ledger_that_is_away_for_the_moment_is_looked_at_again(app, clock, until, capsys):
    app.clock = clock
    looks = [StorageBusyError("the file is locked"), Seen(None, [1])]
    watched = asyncio.create_task(watch(app, _answers(looks), Noted(), every=5, over=lambda _: True))
    await until(watched.done, moving=True)
    assert (await watched).fan_outs == [1]
    assert "the file is locked; looking again in 5 s" in capsys.readouterr().err


async def test_any_other_error_ends_it(app):
    with pytest.raises(UnknownFanOutError):
        await watch(app, _answers([UnknownFanOutError("gone")]), Noted(), every=5, over=lambda _: True)


def _answers(answers):
    async def look():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look
