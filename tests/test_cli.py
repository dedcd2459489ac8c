from __future__ import annotations

import pytest
from click.testing import CliRunner

from fanfold.cli import main


@pytest.mark.parametrize("command", [[], ["worker"], ["enqueue"], ["kafka"], ["status"], ["demo"]], ids=str)
def test_help_keeps_its_examples_on_lines_of_their_own(command):
    shown = CliRunner().invoke(main, [*command, "--help"])
    assert shown.exit_code == 0
    assert "\\b" not in shown.output
    assert any(line.startswith(("      fanfold ", "    fanfold ")) for line in shown.output.splitlines())
