"""Everything that the README tells its reader to write or to run is written and run here, word by word."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commands import environment, started
from fanfold import settings
from fanfold.demo.fields import FIELDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"(?:<!-- example: (?P<name>\S+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```\n", re.DOTALL)
BLOCKS = {found["name"]: found["text"] for found in FENCE.finditer(README)}


def run(command, cwd, **variables):
    """Run a line of shell as the reader does, who has Fanfold on the PATH; answers what it printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-ec", command],  # noqa: S607 - whichever shell the reader has
        cwd=cwd,
        env=environment(**variables) | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def here(tmp_path):
    """A folder in which every file of the README is saved."""
    for name, text in BLOCKS.items():
        if name.endswith(".py"):
            (tmp_path / name).write_text(text)
    return tmp_path


def test_there_is_no_block_that_nothing_here_runs():
    assert len(BLOCKS) == README.count("```") / 2
    assert BLOCKS.keys() == {
        "two_commands", "install", "app.py", "session", "producer.py", "test_app.py", "provision", "environment",
    }  # fmt: skip


def test_the_two_commands_are_targets_and_the_number_of_fields_is_right():
    commands = [line.partition("#") for line in BLOCKS["two_commands"].splitlines()]
    for command, _, _ in commands:
        run(command.replace("make", "make -n"), ROOT)
    assert f" {len(FIELDS)} tasks each" in commands[0][2]


def test_installing_from_the_folder_puts_the_command_on_the_path(tmp_path):
    """Without the network: what would be fetched is taken from this environment."""
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    from_here = os.pathsep.join(entry for entry in sys.path if entry.endswith("site-packages"))
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PYTHONPATH": from_here}
    shown = run(BLOCKS["install"] + "command -v fanfold\nfanfold --version\n", tmp_path, **offline)
    assert f"{tmp_path}/.venv/bin/fanfold\nfanfold, version " in shown


def test_the_first_application_does_what_the_session_says(here):
    enqueue, work, look, again = BLOCKS["session"].splitlines()
    assert "2 task(s) enqueued" in run(enqueue, here)
    with started(*work.split()[1:], cwd=here) as worker:
        assert worker.stdout.readline() == "doc-123 {'yearBuilt': 1997, 'roofType': 'gable'} {}\n"
        worker.send_signal(signal.SIGINT)
        worker.communicate(timeout=300)
    assert worker.returncode == 0
    assert re.search(r"doc-123 +2 +2 +0 +0 +0 +complete", run(look, here))
    assert "0 task(s) enqueued, 0 known to the queue already, 2 done before" in run(again, here)


def test_the_first_application_is_twenty_lines():
    assert len([line for line in BLOCKS["app.py"].splitlines() if line]) <= 20


def test_the_producer_enqueues_from_python(here):
    assert run("python producer.py", here) == "2 sent, 0 done before\n"


def test_the_test_passes(here):
    assert "1 passed" in run("python -m pytest -p no:cacheprovider test_app.py", here)


@pytest.fixture
def account(sqs_client, sqs_endpoint):
    """What the README's commands find where AWS is: the client, and their environment."""
    said = {"AWS_ENDPOINT_URL": sqs_endpoint, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    yield sqs_client, said
    for name in ("tasks.fifo", "tasks-dlq.fifo"):
        sqs_client.delete_queue(QueueUrl=sqs_client.get_queue_url(QueueName=name)["QueueUrl"])


def test_the_queues_are_set_up_looked_over_and_named_by_the_environment(account, here):
    sqs, aws = account
    look, make, policy, doctor = BLOCKS["provision"].splitlines()
    assert "create tasks.fifo" in run(f"{look} || test $? = 3", here, **aws)
    assert "made" in run(make, here, **aws)
    url = sqs.get_queue_url(QueueName="tasks.fifo")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (attributes["FifoQueue"], attributes["FifoThroughputLimit"]) == ("true", "perMessageGroupId")
    assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] == 100
    assert "sqs:ReceiveMessage" in run(policy, here)
    named = re.search(r"https://\S+", doctor)[0]
    found = run(f"{doctor.replace(named, url)} || test $? = 3", here, AWS_DEFAULT_REGION="eu-west-1", **aws)
    assert "no permission that a worker needs is denied" in found
    code = "from fanfold import Fanfold; now = Fanfold().settings; print(now.queue_url, now.ledger)"
    queue_url, ledger = run(BLOCKS["environment"] + f'python -c "{code}"', here).split()
    assert (queue_url, ledger) == (named, "sqlite:////var/lib/fanfold/ledger.db")


def test_the_table_of_variables_is_the_one_in_force():
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| .* \| (.+?) \|$", README, re.MULTILINE)
    assert [tuple(filter(None, row[:2])) for row in rows] == list(settings.VARIABLES.values())
    defaults = settings.resolve({}, {})
    assert [row[2].strip("`") for row in rows if row[2].strip("`").isdigit() or "sqlite" in row[2]] == [
        f"{defaults.queue_url}",
        *(f"{value:g}" for value in (defaults.concurrency, defaults.lease, defaults.max_attempts, defaults.grace)),
    ]


def test_every_file_that_is_linked_is_there():
    assert [link for link in re.findall(r"\]\(([^)]+)\)", README) if not (ROOT / link).exists()] == []
