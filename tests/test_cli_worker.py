from __future__ import annotations

import json
import re
import signal
import sys

import pytest
from click.testing import CliRunner

from commands import fanfold, started
from fanfold import Fanfold
from fanfold.cli import main

APP = """
from fanfold import Fanfold
app = Fanfold("sqlite:///tasks.db")

@app.task("title")
async def title(entity_id: str) -> str:
    return entity_id.upper()
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module of this folder; what was imported of it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    written = []

    def write_module(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        written.append(name)
        return tmp_path

    yield write_module
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def settings(monkeypatch):
    """What a worker would have worked on, as `settings(*arguments)`."""
    seen = []
    monkeypatch.setattr(sys.modules["fanfold.cli.worker"], "run_worker", lambda app: seen.append(app.settings))
    monkeypatch.setattr("fanfold.cli.logs.set_up", lambda level, form: None)  # noqa: ARG005 - this process's log is pytest's

    def run(*arguments):
        ran = CliRunner().invoke(main, ["worker", *arguments])
        assert ran.exit_code == 0, ran.stderr
        return seen.pop()

    return run


@pytest.mark.parametrize(
    "target", ["worker_app", "worker_app:", ":app", "worker_app.py:app", "./worker_app:app", ".worker_app:app", ""]
)
def test_a_target_that_is_not_module_and_name_is_told_how_to_write_one(write, target):
    write("worker_app", APP)
    ran = CliRunner().invoke(main, ["worker", target])
    assert ran.exit_code == 1
    assert f"application {target!r}: write MODULE:NAME, for example app:app" in ran.stderr


@pytest.mark.parametrize("target", ["nowhere:app", "nowhere.at.all:app", "json.nowhere:app"])
def test_a_module_that_is_not_there_is_named(target):
    ran = CliRunner().invoke(main, ["worker", target])
    assert ran.exit_code == 1
    assert re.search(r"no module '(nowhere|json\.nowhere)' here or on the Python path; run the command", ran.stderr)


def test_a_module_that_lacks_a_dependency_is_not_taken_for_a_missing_one(write):
    write("worker_app", "import work\n")
    ran = CliRunner().invoke(main, ["worker", "worker_app:app"])
    assert ran.exit_code == 1
    assert "importing worker_app raised ModuleNotFoundError: No module named 'work'" in ran.stderr
    assert "run the command from" not in ran.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("settings = {}\nregion = settings['region']\n", "KeyError: 'region'"),
        ("def broken(:\n", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit('usage: worker_app')\n", "SystemExit: usage: worker_app"),
    ],
)
def test_a_module_that_raises_is_an_error_that_says_where(write, source, said):
    write("worker_app", source)
    ran = fanfold("worker", "worker_app:app", cwd=write("other", ""))
    assert ran.returncode == 1
    assert f"importing worker_app raised {said}" in ran.stderr
    assert re.search(r"worker_app\.py\D+[12]\b", ran.stderr)
    assert "importlib" not in ran.stderr
    assert "fanfold/cli" not in ran.stderr


def test_a_declaration_that_cannot_work_says_where_it_stands(write):
    write("worker_app", APP + "\n@app.task('words')\nasync def words(colour): ...\n")
    ran = CliRunner().invoke(main, ["worker", "worker_app:app"])
    assert ran.exit_code == 1
    assert "raised DeclarationError" in ran.stderr
    assert "colour" in ran.stderr
    assert "worker_app.py" in ran.stderr


@pytest.mark.parametrize("name", ["application", "title"])
def test_a_name_that_is_no_application_is_told_which_there_is(write, name):
    write("worker_app", APP)
    ran = CliRunner().invoke(main, ["worker", f"worker_app:{name}"])
    assert ran.exit_code == 1
    assert f"worker_app.{name} is not a Fanfold application; there is worker_app:app" in ran.stderr


def test_a_module_without_an_application_says_so(write):
    write("worker_app", "app = 7\n")
    ran = CliRunner().invoke(main, ["worker", "worker_app:app"])
    assert "worker_app.app is not a Fanfold application; worker_app has none" in ran.stderr


def test_an_application_without_tasks_is_no_worker(write):
    folder = write("worker_app", "from fanfold import Fanfold\napp = Fanfold()\n")
    ran = fanfold("worker", "worker_app:app", cwd=folder)
    assert ran.returncode == 1
    assert "this application declares no task; decorate a function with @app.task(...)" in ran.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--concurrency", "0"), ("--concurrency", "many"), ("--lease", "nan"), ("--lease", "-1"), ("--grace", "inf"),
     ("--grace", "soon"), ("--log-level", "loud"), ("--log-format", "xml")],
)  # fmt: skip
def test_an_option_that_cannot_work_is_wrong_usage(option, value):
    ran = CliRunner().invoke(main, ["worker", "worker_app:app", option, value])
    assert ran.exit_code == 2
    assert f"Invalid value for '{option}'" in ran.stderr


def test_a_lease_over_what_sqs_allows_is_an_error(write):
    folder = write("worker_app", APP)
    ran = fanfold("worker", "worker_app:app", "--lease", "43201", cwd=folder)
    assert ran.returncode == 1
    assert "lease=43201.0: above 0 and at most 43200 seconds" in ran.stderr


def test_an_option_beats_code_and_code_beats_the_environment(write, settings, monkeypatch):
    write("worker_app", 'from fanfold import Fanfold\napp = Fanfold("sqlite:///code.db", concurrency=3)\n')
    for name, value in {"QUEUE_URL": "sqlite:///env.db", "CONCURRENCY": "4", "LEASE": "5", "GRACE": "6"}.items():
        monkeypatch.setenv(f"FANFOLD_{name}", value)
    found = settings("worker_app:app", "--grace", "7")
    assert (found.queue_url, found.concurrency, found.lease, found.grace) == ("sqlite:///code.db", 3, 5.0, 7.0)
    found = settings("worker_app:app", "--queue-url", "sqlite:///option.db", "--concurrency", "8", "--lease", "9")
    assert (found.queue_url, found.concurrency, found.lease) == ("sqlite:///option.db", 8, 9.0)


def test_our_variables_beat_the_aws_style_ones(write, settings, monkeypatch):
    write("worker_app", "from fanfold import Fanfold\napp = Fanfold()\n")
    monkeypatch.setenv("SQS_TASK_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/aws.fifo")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert settings("worker_app:app").queue_url == "https://sqs.eu-west-1.amazonaws.com/1/aws.fifo"
    monkeypatch.setenv("FANFOLD_QUEUE_URL", "sqlite:///env.db")
    monkeypatch.setenv("FANFOLD_REGION", "eu-north-1")
    found = settings("worker_app:app")
    assert (found.queue_url, found.region) == ("sqlite:///env.db", "eu-north-1")


def test_every_address_option_is_taken(write, settings):
    write("worker_app", APP)
    found = settings("worker_app:app", "--dlq-url", "d", "--ledger", "none", "--region", "eu-west-1")
    assert (found.dlq_url, found.ledger, found.region) == ("d", "none", "eu-west-1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_works_until_a_signal_and_exits_with_0(write, number):
    folder = write("worker_app", APP)
    with Fanfold("sqlite:///tasks.db") as app, started("worker", "worker_app:app", cwd=folder) as process:
        fan_out_id = app.enqueue("doc-1", ["title"]).fan_out_id
        log = next_event(process, "task.completed")
        assert re.search(r"task.completed entity_id=doc-1 task_name=title", log)
        process.send_signal(number)
        stdout, log = process.communicate(timeout=300)
        assert (process.returncode, stdout) == (0, "")
        assert "worker.stopped" in log
        assert app.fan_out(fan_out_id).get().results == {"title": "DOC-1"}
        assert app.status().messages_in_flight == 0


def test_the_log_can_be_json_for_machines(write):
    folder = write("worker_app", APP)
    with started("worker", "worker_app:app", "--log-format", "json", "--concurrency", "3", cwd=folder) as process:
        event = json.loads(next_event(process, "worker.started"))
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=300)
    assert (event["event"], event["level"], event["concurrency"]) == ("worker.started", "info", 3)
    assert [json.loads(line)["event"] for line in rest.splitlines()][-1] == "worker.stopped"


def test_the_log_can_be_quiet(write):
    folder = write("worker_app", APP)
    with Fanfold("sqlite:///tasks.db") as app:
        app.enqueue("doc-1", ["unknown"])
        with started("worker", "worker_app:app", "--log-level", "warning", cwd=folder) as process:
            assert "task.retried" in process.stderr.readline()  # the first line: nothing was said of the start
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=300)[1] == ""


def next_event(process, name):
    """The line of the log that tells of the event."""
    return next(line for line in process.stderr if name in line)
