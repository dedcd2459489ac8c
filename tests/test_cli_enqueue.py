from __future__ import annotations

import json
import signal

import pytest
from click.testing import CliRunner

from commands import fanfold, started
from fanfold import Fanfold, limits
from fanfold.cli import main

pytestmark = pytest.mark.usefixtures("here")

URL = "sqlite:///tasks.db"
OVERSIZED = json.dumps({"a": "x" * limits.MAX_REQUEST_BYTES})


def enqueue(*arguments, stdin=None):
    return CliRunner().invoke(main, ["enqueue", "--queue-url", URL, *arguments], input=stdin)


def enqueue_lines(*lines, **options):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return enqueue("--file", "-", *options.get("arguments", ()), stdin=text)


def fan_outs():
    """All fan-outs, oldest first, with their tasks."""
    with Fanfold(URL) as app:
        return [app.fan_out(summary.fan_out_id).get() for summary in reversed(app.fan_outs())]


def waiting():
    with Fanfold(URL) as app:
        return app.status().messages_available


def test_tasks_on_the_command_line_become_one_fan_out():
    ran = enqueue("doc-1", "title", "words", "--metadata", '{"tenant": "acme"}', "--config", 'words={"min": 3}')
    assert ran.exit_code == 0, ran.stderr
    [fan_out] = fan_outs()
    assert (fan_out.entity_id, fan_out.metadata) == ("doc-1", {"tenant": "acme"})
    assert [(task.task_name, task.task_config) for task in fan_out.tasks] == [("title", {}), ("words", {"min": 3})]
    assert waiting() == 2
    assert ran.stdout.splitlines() == [
        "1 event(s): 2 task(s) enqueued, 0 known to the queue already, 0 done before",
        f"fan-out {fan_out.fan_out_id}",
    ]


def test_a_configuration_may_hold_an_equals_sign():
    assert enqueue("doc-1", "title", "--config", 'title={"pattern": "a=b"}').exit_code == 0
    assert fan_outs()[0].tasks[0].task_config == {"pattern": "a=b"}


def test_the_same_event_id_is_enqueued_once():
    first, second = (enqueue("doc-1", "title", "--event-id", "documents:3:1042") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "1 task(s) enqueued, 0 known" in first.stdout
    assert "0 task(s) enqueued, 1 known to the queue already" in second.stdout
    assert waiting() == 1


def test_without_an_event_id_each_call_is_an_event_of_its_own():
    enqueue("doc-1", "title")
    enqueue("doc-1", "title")
    assert len(fan_outs()) == waiting() == 2


def test_json_tells_a_script_what_became_of_the_event():
    ran = enqueue("doc-1", "title", "words", "--json")
    [fan_out] = fan_outs()
    assert json.loads(ran.stdout) == {
        "events": [
            {"fan_out_id": fan_out.fan_out_id, "entity_id": "doc-1", "total_tasks": 2, "sent": 2, "duplicates": 0,
             "settled": 0}
        ],
        "refused": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give ENTITY_ID and TASKS"),
        (["doc-1", "title", "--file", "-"], "or --file with events and nothing else"),
        (["--file", "-", "--event-id", "1"], "or --file with events and nothing else"),
        (["--file", "-", "--metadata", "{}"], "or --file with events and nothing else"),
        (["--file", "-", "--config", "a={}"], "or --file with events and nothing else"),
        (["--file", "missing.jsonl"], "No such file"),
        (["doc-1", "title", "--metadata", "{"], "--metadata '{' isn't a JSON object"),
        (["doc-1", "title", "--metadata", "[]"], "Expected `object`, got `array`"),
        (["doc-1", "title", "--config", "title"], "write TASK=JSON"),
        (["doc-1", "title", "--config", "title=3"], "--config title '3' isn't a JSON object"),
        (["doc-1", "title", "--config", "words={}"], "'words' isn't among the tasks"),
        (["doc-1", "title", "--config", "title={}", "--config", "title={}"], "has a configuration already"),
        (["doc-1", "title", "--metadata", "[" * 100_000], "isn't a JSON object"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_usage_is_named_and_exits_with_2(arguments, said):
    ran = enqueue(*arguments, stdin="")
    assert ran.exit_code == 2
    assert said in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["doc-1"], "no tasks for 'doc-1'"),
        (["", "title"], "entity_id '': it must be a non-empty string"),
        (["doc-1", ""], "task name '': it must be a non-empty string"),
        (["doc-1", "title", "title"], "task 'title' stands twice"),
        (["d" * 257, "title"], "has 257 characters; at most 256 are allowed"),
        (["doc-1", "fanfold.fold"], "reserved"),
        (["doc-1", "title", "--event-id", ""], "event_id '': it must be a non-empty string"),
        (["doc-1", "title", "--metadata", OVERSIZED], "at most 1,048,576 (1 MiB)"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)  # fmt: skip
def test_an_event_that_is_refused_exits_with_1_and_leaves_nothing(arguments, said):
    ran = enqueue(*arguments)
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert said in ran.stderr
    assert (fan_outs(), waiting()) == ([], 0)


def test_lines_of_a_file_are_events(here):
    (here / "events.jsonl").write_text(
        '{"entity_id": "doc-1", "tasks": ["title", {"name": "words", "config": {"min": 3}}]}\n'
        "\n"
        '{"entity_id": "doc-2", "tasks": ["title"], "metadata": {"tenant": "acme"}, "event_id": "2"}'
    )
    ran = enqueue("--file", "events.jsonl")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout == "2 event(s): 3 task(s) enqueued, 0 known to the queue already, 0 done before\n"
    by_entity = {fan_out.entity_id: fan_out for fan_out in fan_outs()}
    assert by_entity["doc-1"].tasks[1].task_config == {"min": 3}
    assert (by_entity["doc-2"].metadata, by_entity["doc-2"].event_id) == ({"tenant": "acme"}, "2")


def test_a_byte_order_mark_before_the_first_line_is_no_part_of_it():
    assert enqueue_lines('\ufeff{"entity_id": "doc-1", "tasks": ["title"]}').exit_code == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "not an event (JSON is malformed"),
        ("[]", "Expected `object`, got `array`"),
        ("[" * 100_000, "not an event"),
        ({"tasks": ["title"]}, "missing required field `entity_id`"),
        ({"entity_id": "doc"}, "missing required field `tasks`"),
        ({"entity_id": 7, "tasks": ["title"]}, "Expected `str`, got `int` - at `$.entity_id`"),
        ({"entity_id": "doc", "tasks": ["title"], "mettadata": {}}, "unknown field `mettadata`"),
        ({"entity_id": "doc", "tasks": [{"config": {}}]}, "missing required field `name` - at `$.tasks[0]`"),
        ({"entity_id": "doc", "tasks": [{"name": "a", "config": []}]}, "Expected `object`, got `array`"),
        ({"entity_id": "doc", "tasks": []}, "no tasks for 'doc'"),
        ({"entity_id": "doc", "tasks": ["title", "title"]}, "stands twice"),
        ({"entity_id": "", "tasks": ["title"]}, "must be a non-empty string"),
        ({"entity_id": "doc", "tasks": ["title"], "metadata": {"a": "x" * limits.MAX_REQUEST_BYTES}}, "1 MiB"),
        ({"entity_id": "\x00", "tasks": ["title"]}, "which SQS refuses"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_line_is_named_with_its_number_and_the_others_go_on(line, said):
    ran = enqueue_lines({"entity_id": "doc-1", "tasks": ["title"]}, line, {"entity_id": "doc-3", "tasks": ["title"]})
    assert ran.exit_code == 1
    assert ran.stderr.startswith("line 2: ")
    assert said in ran.stderr
    assert sorted(fan_out.entity_id for fan_out in fan_outs()) == ["doc-1", "doc-3"]
    assert ran.stdout.endswith("0 done before; 1 event(s) refused\n")


def test_a_line_that_is_not_utf8_is_a_bad_line_like_any_other():
    ran = enqueue(
        "--file", "-", stdin=b'{"entity_id": "\xff", "tasks": ["title"]}\n{"entity_id": "ok", "tasks": ["a"]}\n'
    )
    assert (ran.exit_code, ran.stderr[:8], len(fan_outs())) == (1, "line 1: ", 1)


def test_what_a_bad_line_says_is_shown_and_not_obeyed():
    ran = enqueue_lines('{"entity_id": "[red]doc\\u001b[2J", "tasks": []}')
    assert "[red]doc" in ran.stderr
    assert "\x1b" not in ran.stderr


def test_an_event_that_was_sealed_with_other_names_is_a_bad_line():
    event = {"entity_id": "doc-1", "tasks": ["title"], "event_id": "1"}
    assert enqueue_lines(event).exit_code == 0
    ran = enqueue_lines(event | {"tasks": ["other"]}, {"entity_id": "doc-2", "tasks": ["title"]})
    assert (ran.exit_code, ran.stderr[:8]) == (1, "line 1: ")
    assert len(fan_outs()) == 2


def test_json_tells_a_script_which_lines_were_refused():
    ran = enqueue_lines("{", {"entity_id": "doc-1", "tasks": ["title"]}, "[]", arguments=["--json"])
    told = json.loads(ran.stdout)
    assert [event["entity_id"] for event in told["events"]] == ["doc-1"]
    assert [refused["line"] for refused in told["refused"]] == [1, 3]
    assert all(refused["error"].startswith("not an event") for refused in told["refused"])


def test_many_lines_are_all_enqueued():
    ran = enqueue_lines(*({"entity_id": f"doc-{n}", "tasks": ["title"], "event_id": str(n)} for n in range(200)))
    assert (ran.exit_code, waiting()) == (0, 200)


def test_the_same_file_again_enqueues_nothing():
    lines = [{"entity_id": f"doc-{n}", "tasks": ["title", "words"], "event_id": str(n)} for n in range(3)]
    enqueue_lines(*lines)
    assert "0 task(s) enqueued, 6 known to the queue already" in enqueue_lines(*lines).stdout


def test_an_application_refuses_a_task_that_it_does_not_know(here, monkeypatch):
    (here / "enqueue_app.py").write_text(
        f"from fanfold import Fanfold\napp = Fanfold({URL!r})\n@app.task\nasync def title(): ...\n"
    )
    monkeypatch.syspath_prepend(str(here))
    ran = CliRunner().invoke(main, ["enqueue", "--app", "enqueue_app:app", "doc-1", "titel"])
    assert ran.exit_code == 1
    assert "titel" in ran.stderr
    assert "title" in ran.stderr
    assert CliRunner().invoke(main, ["enqueue", "--app", "enqueue_app:app", "doc-1", "title"]).exit_code == 0


def test_a_queue_that_fails_ends_the_file_at_once(here):
    (here / "tasks.db").write_bytes(b"this is no database, and long enough to be sure of it" * 20)
    ran = enqueue_lines(*({"entity_id": f"doc-{n}", "tasks": ["title"]} for n in range(1_000)))
    assert ran.exit_code == 1
    assert "Error: " in ran.stderr
    assert ran.stderr.count("line ") < 100
    assert "0 event(s)" in ran.stderr


async def test_a_line_does_not_wait_for_the_next_and_ctrl_c_ends_with_130(here):
    with started("enqueue", "--queue-url", URL, "--file", "-", cwd=here) as process:
        process.stdin.write('{"entity_id": "doc-1", "tasks": ["title"]}\n')
        process.stdin.flush()
        async with Fanfold(URL) as app:
            [delivery] = await (await app.broker()).receive(1, wait=20, lease=60)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=300)
    assert "doc-1" in delivery.body
    assert process.returncode == 130
    assert stdout.startswith("1 event(s): 1 task(s) enqueued")
    assert "interrupted, run it again for the rest" in stdout


def test_in_a_real_pipe_standard_output_is_clean_for_a_script(here):
    ran = fanfold(
        "enqueue", "--file", "-", "--json", cwd=here, stdin='{"entity_id": "doc-1", "tasks": ["title"]}\nnope\n'
    )
    assert ran.returncode == 1
    assert [event["entity_id"] for event in json.loads(ran.stdout)["events"]] == ["doc-1"]
    assert ran.stderr.startswith("line 2: ")


@pytest.mark.usefixtures("sqs_client")
def test_a_queue_that_is_not_there_ends_the_file_at_once(sqs_endpoint):
    events = "\n".join(json.dumps({"entity_id": f"doc-{n}", "tasks": ["title"]}) for n in range(1_000))
    url = f"{sqs_endpoint}/123456789012/nowhere.fifo"
    ran = CliRunner().invoke(main, ["enqueue", "--queue-url", url, "--file", "-"], input=events)
    assert ran.exit_code == 1
    assert "nowhere.fifo" in ran.stderr.splitlines()[-1]
    assert ran.stderr.count("line ") <= 16
    assert "0 event(s)" in ran.stderr
