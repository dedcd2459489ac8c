from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from commands import environment, fanfold
from fanfold import __version__
from fanfold.cli import main

COMMANDS = [[], *([name] for name in main.commands)]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_help_keeps_its_examples_on_lines_of_their_own(command):
    shown = CliRunner().invoke(main, [*command, "--help"])
    assert shown.exit_code == 0
    assert "\\b" not in shown.output
    assert any(line.startswith(("      fanfold ", "    fanfold ")) for line in shown.output.splitlines())


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_help_explains_every_option_and_cuts_no_sentence(command):
    shown = CliRunner().invoke(main, [*command, "--help"])
    assert "..." not in shown.output.replace("[ARGS]...", "").replace("[TASKS]...", "")
    options = (main.commands[command[0]] if command else main).params
    explained = [option.help for option in options if option.param_type_name == "option"]
    assert all(explained)


def test_h_is_short_for_help():
    assert CliRunner().invoke(main, ["status", "-h"]).output == CliRunner().invoke(main, ["status", "--help"]).output


@pytest.mark.parametrize(
    ("wrong", "right"), [(["staus"], "status"), (["status", "--jsn"], "--json"), (["worker", "--concurency"], "--conc")]
)
def test_a_misspelt_command_or_option_is_answered_with_the_right_one_and_exit_code_2(wrong, right):
    shown = CliRunner().invoke(main, wrong)
    assert shown.exit_code == 2
    assert f"Did you mean '{right}" in shown.stderr


def test_an_error_of_ours_is_a_text_on_standard_error_and_exit_code_1(tmp_path):
    ran = fanfold("status", "--queue-url", "ftp://somewhere", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Error: queue URL 'ftp://somewhere': write sqlite:///tasks.db")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"FANFOLD_LEASE": "soon"}, "FANFOLD_LEASE='soon': it must be a number"),
        ({"FANFOLD_QUEUE_URL": "sqlite:///"}, "write sqlite:///relative.db"),
    ],
)
def test_a_variable_that_cannot_work_is_named(tmp_path, variables, said):
    ran = fanfold("status", cwd=tmp_path, **variables)
    assert ran.returncode == 1
    assert said in ran.stderr


def test_a_reader_that_has_gone_ends_a_command_without_a_traceback(tmp_path):
    fanfold("enqueue", "doc-1", "title", cwd=tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as nowhere:  # noqa: PTH123 - a pipe's end has no path
        ran = subprocess.run(
            [sys.executable, "-m", "fanfold", "status"],
            cwd=tmp_path, env=environment(), stdout=nowhere, stderr=subprocess.PIPE, timeout=300, check=False,
        )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (1, b"")


def test_the_version_is_the_packages():
    assert CliRunner().invoke(main, ["--version"]).output.endswith(f", version {__version__}\n")
