"""`fanfold dlq`, on the embedded queue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from fanfold import Fanfold, Reject
from fanfold.brokers.browsing import Browse
from fanfold.cli import main, working
from fanfold.dead_letters import desk
from fanfold.errors import BrokerUnavailableError
from fanfold.model import Message
from fanfold.testing import drain


@pytest.fixture
def url(tmp_path):
    """A queue with four dead letters: two tasks of two entities."""
    made = f"sqlite:///{tmp_path}/tasks.db?synchronous=NORMAL"
    app = Fanfold(made)

    @app.task("roof")
    async def roof():
        raise Reject("it has [no] roof")

    @app.task("words")
    async def words():
        raise Reject("it is empty")

    with app:
        for entity, tenant in (("doc-1", "acme"), ("pic-1", "other")):
            app.enqueue(entity, ["roof", "words"], metadata={"tenant": tenant}, event_id="1")
        drain(app)
    return made


@pytest.fixture
def run(url, monkeypatch):
    monkeypatch.setattr(working, "_somebody_there", lambda: True)

    def invoke(*arguments, **options):
        return CliRunner().invoke(main, ["dlq", *arguments, "--queue-url", url], **options)

    return invoke


def letters(run, *options):
    return json.loads(run("list", "--json", *options).stdout)


def waiting(url):
    with Fanfold(url) as app:
        return app.status().messages_available


def test_the_list_shows_each_letter_with_its_reason(run):
    shown = run("list")
    assert shown.exit_code == 0
    assert shown.stdout.count("Reject: it has [no] roof") == 2
    assert "doc-1" in shown.stdout


def test_the_list_can_be_narrowed_and_says_when_nothing_is_left(run):
    assert [letter["task"]["entity_id"] for letter in letters(run, "--task", "roof", "--tenant", "acme")] == ["doc-1"]
    assert run("list", "--task", "nobody").stdout == "No dead letters of that kind.\n"


def test_a_letter_is_shown_whole_by_the_beginning_of_its_id(run):
    [letter] = letters(run, "--task", "roof", "--entity", "doc-*")
    shown = run("show", letter["message_id"][:8])
    for text in ("doc-1", "it has [no] roof", '{"tenant": "acme"}', "dead", letter["message_id"]):
        assert text in shown.stdout


def test_an_id_that_is_no_letters_or_several_letters_says_so(run):
    unknown = run("show", "zzz")
    assert (unknown.exit_code, "no dead letter's id begins with 'zzz'" in unknown.stderr) == (1, True)
    assert (run("show", "").exit_code, "give an id" in run("show", "").stderr) == (2, True)


def test_of_several_letters_that_an_id_may_mean_none_is_shown(run, monkeypatch):
    monkeypatch.setattr("fanfold.dead_letters.selection.Selection.takes", lambda *_: True)
    several = run("show", "a")
    assert (several.exit_code, several.stdout) == (1, "")
    assert "4 dead letters' ids begin with 'a'; give more of it" in several.stderr


def test_letters_are_counted_by_a_trait(run):
    assert run("group", "--by", "tenant", "--json").stdout == run("group", "--by", "metadata.tenant", "--json").stdout
    assert run("group", "--by", "metadata.tenant", "--json").stdout == '{\n  "acme": 2,\n  "other": 2\n}\n'
    assert "4  in all" in run("group").stdout
    refused = run("group", "--by", "colour")
    assert (refused.exit_code, "metadata.KEY" in refused.stderr) == (1, True)


def test_a_dry_run_says_what_is_chosen_and_changes_nothing(run, url):
    shown = run("redrive", "--task", "roof", "--dry-run")
    assert (shown.exit_code, "2 dead letter(s) chosen; nothing was changed" in shown.stderr) == (0, True)
    assert shown.stdout.count("Reject: it has [no] roof") == 2
    listed = json.loads(run("redrive", "--task", "roof", "--dry-run", "--yes", "--json").stdout)
    assert {letter["task"]["task_name"] for letter in listed} == {"roof"}
    assert run("drop", "--all", "--dry-run", "--yes").exit_code == 0
    assert (waiting(url), len(letters(run))) == (0, 4)


def test_the_count_comes_before_the_question_and_a_no_changes_nothing(run, url):
    shown = run("redrive", "--all", input="n\n")
    assert shown.exit_code == 1
    assert "Send 4 dead letter(s) back?" in shown.stderr
    assert (waiting(url), len(letters(run))) == (0, 4)


def test_where_nobody_can_be_asked_nothing_is_done_without_yes(run, url, monkeypatch):
    monkeypatch.undo()
    refused = run("redrive", "--all")
    assert (refused.exit_code, "give --yes" in refused.stderr) == (2, True)
    assert (waiting(url), len(letters(run))) == (0, 4)


def test_a_look_makes_no_file(tmp_path):
    looked = CliRunner().invoke(main, ["dlq", "list", "--queue-url", f"sqlite:///{tmp_path}/none.db"])
    assert (looked.exit_code, "there is no such file" in looked.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_what_a_letter_says_is_no_code_for_the_terminal(run, url):
    with Fanfold(url) as app:
        broker = app._portal.call(app.broker())
        message = Message(
            body="x", group_id="g", deduplication_id="d", attributes={"fanfold_reason": "red \x9b31m ink"}
        )
        app._portal.call(broker.dead_letter_queue().send([message]))
    [letter] = [letter for letter in letters(run) if letter["task"] is None]
    for shown in (run("list"), run("show", letter["message_id"])):
        assert r"red \x9b31m ink" in shown.stdout


def test_the_chosen_are_sent_back(run, url):
    shown = run("redrive", "--task", "roof", "--yes")
    assert (shown.exit_code, shown.stdout) == (0, "2 sent back\n")
    assert (waiting(url), len(letters(run))) == (2, 2)


@pytest.mark.parametrize("command", ["redrive", "drop"])
def test_whoever_needs_not_be_asked_is_not_made_to_wait_for_a_second_look(run, command, monkeypatch):
    looks = []
    monkeypatch.setattr(desk, "Browse", lambda *a, **k: looks.append(k) or Browse(*a, **k))
    assert run(command, "--task", "roof", "--yes").exit_code == 0
    assert len(looks) == 1
    assert len(letters(run)) == 2


def test_an_edit_that_a_task_does_not_take_is_refused_before_anything_is_sent(run, url, tmp_path, monkeypatch):
    (tmp_path / "strict.py").write_text(
        "from fanfold import Fanfold\nimport msgspec\nclass C(msgspec.Struct):\n    pages: int = 1\n"
        f"app = Fanfold({url!r})\n@app.task('roof')\ndef roof(task_config: C): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    refused = run("redrive", "--app", "strict:app", "--task", "roof", "--set", "task_config.pages=many", "--yes")
    assert (refused.exit_code, "pages" in refused.stderr) == (1, True)
    assert (waiting(url), len(letters(run))) == (0, 4)


def test_nothing_chosen_is_a_wrong_usage_and_nothing_found_an_error(run):
    assert run("redrive", "--yes").exit_code == 2
    nothing = run("redrive", "--task", "nobody", "--yes")
    assert (nothing.exit_code, "no dead letter is of that kind" in nothing.stderr) == (1, True)
    assert run("purge", "--yes").exit_code == 0
    for command in (["redrive", "--all"], ["drop", "--all"], ["purge"]):
        for yes in ([], ["--yes"], ["--dry-run"]):
            nothing = run(*command, *yes)
            assert (nothing.exit_code, "the dead letter queue is empty" in nothing.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--since", "soon"], "90s, 30m, 2h or 7d"), (["--metadata", "x"], "KEY=VALUE"), (["--limit", "0"], "x>=1")],
)
def test_an_option_that_cant_be_read_says_how_to_write_it(run, options, said):
    refused = run("list", *options)
    assert (refused.exit_code, said in refused.stderr) == (2, True)


def test_a_dead_letter_queue_in_another_region_is_refused_before_anybody_is_asked():
    place = "https://sqs.{}.amazonaws.com/123456789012/{}.fifo"
    where = ["--queue-url", place.format("eu-west-1", "tasks"), "--dlq-url", place.format("us-east-1", "tasks-dlq")]
    for command in (["list"], ["redrive", "--all", "--yes"], ["drop", "--all", "--yes"]):
        refused = CliRunner().invoke(main, ["dlq", *command, *where])
        assert (refused.exit_code, "is in another region than" in refused.stderr) == (1, True)


def test_letters_set_aside_just_now_are_of_the_last_hour(run):
    assert len(letters(run, "--since", "1h")) == 4
    assert letters(run, "--since", "0s") == []


def test_letters_go_back_changed(run, url):
    assert run("redrive", "--entity", "doc-1", "--set", "task_config.size=3", "--yes").exit_code == 0
    with Fanfold(url) as app:
        app._portal.call(app.broker())
        sent = app._portal.call(app._parts.broker.peek(10))
    assert [json.loads(delivery.body)["task_config"] for delivery in sent] == [{"size": 3}] * 2


def test_one_letter_is_changed_in_the_editor(run, tmp_path):
    editor = tmp_path / "editor.py"
    editor.write_text("import sys, pathlib; p = pathlib.Path(sys.argv[1])\n"
                      "p.write_text(p.read_text().replace('acme', 'new'))\n")  # fmt: skip
    [letter] = letters(run, "--task", "roof", "--tenant", "acme")
    environ = {"EDITOR": f"{sys.executable} {editor}"}
    assert run("redrive", "--id", letter["message_id"], "--edit", "--yes", env=environ).stdout == "1 sent back\n"
    refused = run("redrive", "--all", "--edit", "--yes", env=environ)
    assert (refused.exit_code, "Give its --id" in refused.stderr) == (1, True)


def test_dropped_letters_are_gone(run):
    assert run("drop", "--task", "roof", "--yes").stdout == "2 dropped\n"
    assert len(letters(run)) == 2
    assert run("purge", "--yes", "--json").exit_code == 0
    assert letters(run) == []
    assert run("purge", "--yes").exit_code == 1


def test_letters_are_exported_and_imported_once(run, tmp_path):
    file = str(tmp_path / "letters.jsonl")
    exported = run("export", "--output", file)
    assert (exported.exit_code, f"4 dead letter(s) written to {file}" in exported.stderr) == (0, True)
    assert run("import", file, "--yes").stdout == "0 put back; 4 needed nothing more\n"
    run("purge", "--yes")
    assert run("import", file, "--yes").stdout == "4 put back\n"
    assert len(letters(run)) == 4


def test_an_export_replaces_a_file_whole_or_not_at_all(run, tmp_path, monkeypatch):
    file = tmp_path / "letters.jsonl"
    file.write_text("of yesterday")
    assert run("export", "--output", str(file), "--task", "nobody").exit_code == 0
    assert file.read_text() == ""
    file.write_text("of yesterday")

    async def away(*_):
        raise BrokerUnavailableError("away")

    monkeypatch.setattr("fanfold.dead_letters.desk.DeadLetters.find", away)
    assert run("export", "--output", str(file)).exit_code == 1
    assert file.read_text() == "of yesterday"


def test_an_unreadable_letter_blinds_nobody(run, url):
    with Fanfold(url) as app:
        broker = app._portal.call(app.broker())
        message = Message(body="no task", group_id="g", deduplication_id="d")
        app._portal.call(broker.dead_letter_queue().send([message]))
    assert "unreadable" in run("list").stdout
    [unreadable] = [letter for letter in letters(run) if letter["task"] is None]
    assert "no task" in run("show", unreadable["message_id"]).stdout


_INTERRUPTED = """
import asyncio, os, signal, sys
from fanfold.brokers import sqlite
from fanfold.dead_letters import desk
from fanfold.cli import main
send = sqlite.SqliteBroker.send
async def interrupted_send(self, messages):
    sqlite.SqliteBroker.send = send
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0)
    return await send(self, messages)
sqlite.SqliteBroker.send = interrupted_send
desk._PIECE = 2
main(sys.argv[1:])
"""


def test_ctrl_c_ends_the_pieces_it_is_at_and_says_how_far_it_came(url, run):
    with Fanfold(url) as app:
        broker = app._portal.call(app.broker())
        more = [Message(body="x", group_id=f"g{n}", deduplication_id=f"d{n}") for n in range(8)]
        app._portal.call(broker.dead_letter_queue().send(more))
    command = [sys.executable, "-c", _INTERRUPTED, "dlq", "redrive", "--all", "--yes", "--queue-url", url]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert ended.returncode == 128 + signal.SIGINT
    assert "interrupted: 6 of 12 done; run it again for the rest" in ended.stderr
    assert run("redrive", "--all", "--yes").stdout == "6 sent back\n"
    assert waiting(url) == 12


_IMPORT_ENDED = """
import asyncio, os, signal, sys
from fanfold.brokers import sqlite
from fanfold.cli import main
send, how = sqlite.SqliteBroker.send, getattr(signal, sys.argv.pop(1))
async def ended(self, messages):
    await send(self, messages[: len(messages) // 2])
    os.kill(os.getpid(), how)
    await asyncio.sleep(0)
    return await send(self, messages[len(messages) // 2 :])
sqlite.SqliteBroker.send = ended
main(sys.argv[1:])
"""


@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_an_import_that_was_ended_half_way_is_repeated_and_doubles_nothing(run, url, tmp_path, how):
    file = str(tmp_path / "letters.jsonl")
    run("export", "--output", file)
    run("purge", "--yes")
    command = [sys.executable, "-c", _IMPORT_ENDED, how, "dlq", "import", file, "--yes", "--queue-url", url]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert ended.returncode == (128 + signal.SIGINT if how == "SIGINT" else -signal.SIGKILL)
    assert ("run it again for the rest: nothing is doubled" in ended.stderr) == (how == "SIGINT")
    assert 2 <= len(letters(run)) <= 4
    assert run("import", file, "--yes").exit_code == 0
    assert len(letters(run)) == 4
    assert len({letter["source_message_id"] for letter in letters(run)}) == 4
