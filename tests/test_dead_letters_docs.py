"""What docs/dead-letters.md shows is run as it stands there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fanfold import Fanfold, Reject
from fanfold.cli import main
from fanfold.testing import drain

TEXT = (Path(__file__).parents[1] / "docs" / "dead-letters.md").read_text(encoding="utf-8")
COMMANDS = [line.strip() for line in TEXT.splitlines() if line.startswith("    fanfold ")]
[PYTHON] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def letters(tmp_path, monkeypatch):
    """The folder of an embedded queue with a dead letter for each thing that the page chooses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["fanfold.cli.dlq"], "_somebody_there", lambda: True)
    monkeypatch.setenv("FANFOLD_QUEUE_URL", "sqlite:///tasks.db")
    with Fanfold("sqlite:///tasks.db") as app:

        @app.task("roofType", max_attempts=1)
        async def roof_type():
            raise TimeoutError("the model is asleep")

        @app.task("words")
        async def words():
            raise Reject("it is empty")

        for tenant in ("acme", "other"):
            app.enqueue(f"doc-12-{tenant}", ["roofType", "words"], metadata={"tenant": tenant})
        drain(app)
        [letter, *_] = app.dead_letters.find().letters
    return letter.message_id


def test_the_commands_are_run_as_they_stand_there(letters):
    assert len(COMMANDS) > 5
    for line in COMMANDS:
        for command in line.partition("   ")[0].split("; "):
            _, *arguments = shlex.split(command.replace("3f2a", letters[:8]).replace("MalformedMessage", "Reject"))
            ran = CliRunner().invoke(main, arguments, input="y\n")
            assert (command, ran.exit_code, ran.output) == (command, 0, ran.output)


@pytest.mark.usefixtures("letters")
def test_the_python_is_run_as_it_stands_there(capsys):
    exec(compile(PYTHON, "dead-letters.md", "exec"), {})  # noqa: S102 - our own page
    printed = capsys.readouterr().out
    assert "TimeoutError: the model is asleep" in printed
    assert "{'acme': 2, 'other': 2}" in printed
    assert "2 0 0 []" in printed
