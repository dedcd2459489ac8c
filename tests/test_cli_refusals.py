"""Every command that opens a queue says at once what is wrong with its address, on one line, and exits with 1."""

from __future__ import annotations

import os
import sys

import pytest
from click.testing import CliRunner

from fanfold.cli import main

COMMANDS = {
    "worker": ["worker", "refused_app:app"],
    "enqueue": ["enqueue", "doc-1", "title"],
    "status": ["status"],
}
APP = """
from fanfold import Fanfold
app = Fanfold()

@app.task("title")
async def title(entity_id: str) -> str:
    return entity_id.upper()
"""

commands = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with an application that is known by its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("fanfold.cli.logs.set_up", lambda level, form: None)  # noqa: ARG005 - this process's log is pytest's
    (tmp_path / "refused_app.py").write_text(APP)
    yield tmp_path
    sys.modules.pop("refused_app", None)


@pytest.fixture
def no_credentials(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


def refused(command, queue_url):
    """What a command says of this address."""
    ran = CliRunner().invoke(main, [*command, "--queue-url", queue_url])
    assert ran.exit_code == 1, ran.output
    assert ran.stdout == ""
    [said] = ran.stderr.splitlines()
    return said


@commands
@pytest.mark.usefixtures("sqs_client")
def test_a_queue_that_isnt_there(sqs_endpoint, command):
    url = f"{sqs_endpoint}/123456789012/nowhere.fifo"
    assert "nowhere.fifo" in refused(command, url)


@commands
def test_a_queue_that_isnt_fifo(command):
    said = refused(command, "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks")
    assert "'tasks' is not a FIFO queue; the name of one ends in .fifo" in said


@commands
def test_an_address_that_is_none(command):
    said = refused(command, "tasks.fifo")
    assert "'tasks.fifo'" in said
    assert "write " in said


@commands
@pytest.mark.usefixtures("no_credentials")
def test_no_credentials(command):
    said = refused(command, "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo")
    assert "no AWS credentials" in said
    assert "AWS_PROFILE" in said


@commands
def test_a_queue_that_cant_be_reached(command, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    said = refused(command, "http://127.0.0.1:9/123456789012/tasks.fifo")
    assert "127.0.0.1:9" in said


@commands
def test_a_folder_that_isnt_there(here, command):
    said = refused(command, f"sqlite:///{here}/nowhere/tasks.db")
    assert f"{here}/nowhere" in said
    assert ("Is this the right folder" if command == ["status"] else "create it first") in said


@commands
def test_a_file_that_is_no_database(here, command):
    (here / "tasks.db").write_bytes(b"not a database at all, whatever its name says" * 100)
    said = refused(command, f"sqlite:///{here}/tasks.db")
    assert "tasks.db" in said
    assert "database" in said
