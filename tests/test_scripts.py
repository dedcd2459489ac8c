"""The scripts behind `make`, with stand-ins for what would go to the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKING = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
SHIM = "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n"
OLD = '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1 && exit\n[ "$2" = \'\' ] && exit\nexit 1\n'
# Stands for uv: makes a folder with the Python that it was given, and notes what it was asked to install.
UV = """#!/bin/sh
echo "uv $*" >>"$NOTES"
if [ "$1" = venv ]; then
    for folder; do :; done
    mkdir -p "$folder/bin"
    ln -s "$4" "$folder/bin/python"
elif [ "$1" = pip ] && [ -e "$BROKEN" ]; then
    echo "no network" >&2
    exit 2
fi
"""
# Stands for a Python whose `-m venv` makes a folder with a pip that notes what it was asked to install.
PYTHON = """#!/bin/sh
case "$1$2" in
    -mvenv)
        mkdir -p "$3/bin"
        cp "$0" "$3/bin/python"
        printf '#!/bin/sh\\necho "uv $*" >>"$NOTES"\\n' >"$3/bin/uv"
        chmod +x "$3/bin/uv"
        echo venv >>"$NOTES"
        ;;
    -mpip) echo "$*" >>"$NOTES" ;;
    *) exec {python} "$@" ;;
esac
"""


class Checkout:
    """A copy of what the scripts read, and a PATH on which only what a test puts there is new."""

    def __init__(self, folder):
        self.folder = folder / "fanfold"
        self.tools = folder / "tools"
        self.notes = folder / "notes"
        self.broken = folder / "broken"
        self.tools.mkdir()
        shutil.copytree(ROOT / "scripts", self.folder / "scripts")
        for name in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
            shutil.copy(ROOT / name, self.folder / name)

    def tool(self, name, text):
        path = self.tools / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run(self, *command):
        without_uv = [folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "uv").exists()]
        return subprocess.run(
            command,
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))} | {
                "PATH": os.pathsep.join([str(self.tools), *without_uv]),
                "NOTES": str(self.notes),
                "BROKEN": str(self.broken),
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )  # fmt: skip

    def venv(self, python, kind="dev", folder=".venv-test"):
        return self.run("scripts/venv.sh", folder, str(python), kind)

    def noted(self):
        """What was asked of uv or pip since the last time."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.fixture
def python(checkout):
    return checkout.tool("python3.test", PYTHON.replace("{python}", sys.executable))


def test_help_lists_every_target(checkout):
    text = (checkout.folder / "Makefile").read_text()
    targets = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    listed = [line.split()[1] for line in checkout.run("make").stdout.splitlines()]
    assert sorted(listed) == sorted(targets)


def test_help_needs_no_python(checkout):
    assert "make demo" in checkout.run("make", "help", "PYTHON=/nowhere/python").stdout


@pytest.mark.parametrize("target", ["demo", "test", "check"])
def test_a_python_that_cannot_be_run_is_named_and_leaves_no_folder(checkout, target):
    shim = checkout.tool("python3.12", SHIM)
    ran = checkout.run("make", target, f"PYTHON={shim}")
    assert ran.returncode != 0
    assert f"PYTHON={shim}: it can't be run (it said so above), and Fanfold is set up with it. Name one" in ran.stderr
    assert list(checkout.folder.glob(".venv*")) == []


def test_a_python_that_is_too_old_is_named_and_leaves_no_folder(checkout):
    old = checkout.tool("python3.9", OLD)
    ran = checkout.venv(old)
    assert ran.returncode == 1
    assert f"PYTHON={old} is Python 3.9.1, and Fanfold needs Python 3.11 or newer. Try: make PYTHON=" in ran.stderr
    assert list(checkout.folder.glob(".venv*")) == []


def test_a_folder_that_is_not_ours_is_not_removed(checkout, python):
    ran = checkout.venv(python, folder="scripts")
    assert ran.returncode == 1
    assert (checkout.folder / "scripts/venv.sh").exists()


@pytest.mark.parametrize("uv", [True, False], ids=["uv", "pip"])
def test_the_development_environment_has_what_the_lock_pins_and_no_other_build_backend(checkout, python, uv):
    if uv:
        checkout.tool("uv", UV)
    assert checkout.venv(python).returncode == 0
    made, locked, ours = checkout.noted()
    assert made.startswith("uv venv" if uv else "venv")
    assert locked.endswith("--require-hashes -r requirements-dev.lock")
    assert ours.endswith("--no-deps --no-build-isolation --editable .")


def test_the_demos_environment_has_the_locks_versions(checkout, python):
    checkout.tool("uv", UV)
    assert checkout.venv(python, "run").returncode == 0
    pinned = (checkout.folder / ".venv-test/constraints.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in pinned} >= {
        "boto3",
        "click",
        "rich",
        "msgspec",
        "httptools",
        "hatchling",
    }
    assert all("==" in line and "hash" not in line for line in pinned)
    assert all("--constraint .venv-test/constraints.txt" in line for line in checkout.noted()[1:])


def test_an_environment_stays_while_nothing_has_changed(checkout, python):
    checkout.tool("uv", UV)
    checkout.venv(python)
    checkout.noted()
    (checkout.folder / "pyproject.toml").touch()
    (checkout.folder / "requirements-dev.lock").touch()
    assert checkout.venv(python).returncode == 0
    assert checkout.noted() == []


def test_settings_of_tools_do_not_make_it_anew(checkout, python):
    checkout.tool("uv", UV)
    checkout.venv(python)
    checkout.noted()
    with (checkout.folder / "pyproject.toml").open("a") as project:
        project.write("\n[tool.another]\nsetting = 1\n")
    checkout.venv(python)
    assert checkout.noted() == []


@pytest.mark.parametrize("name", ["requirements-dev.lock", "scripts/venv.sh"])
def test_an_environment_is_made_anew_when_what_it_is_made_from_changes(checkout, python, name):
    checkout.tool("uv", UV)
    checkout.venv(python)
    checkout.noted()
    left_behind = checkout.folder / ".venv-test/of_an_older_lock.py"
    left_behind.touch()
    with (checkout.folder / name).open("a") as changed:
        changed.write("# another\n")
    assert checkout.venv(python).returncode == 0
    assert checkout.noted()[0].startswith("uv venv")
    assert not left_behind.exists()


def test_an_environment_is_made_anew_when_its_python_is_gone(checkout, python):
    checkout.tool("uv", UV)
    checkout.venv(python)
    checkout.noted()
    (checkout.folder / ".venv-test/bin/python").unlink()
    checkout.venv(python)
    assert len(checkout.noted()) == 3


def test_an_environment_that_was_not_finished_is_made_anew(checkout, python):
    checkout.tool("uv", UV)
    checkout.broken.touch()
    assert checkout.venv(python).returncode != 0
    checkout.broken.unlink()
    checkout.noted()
    assert checkout.venv(python).returncode == 0
    assert len(checkout.noted()) == 3


def test_the_lock_is_renewed_with_uv_in_an_environment_of_its_own_where_there_is_none(checkout, python):
    for _ in range(2):
        assert checkout.run("make", "lock", f"PYTHON={python}", "ARGS=--upgrade").returncode == 0
    made, installed, first, second = checkout.noted()
    assert (made, installed[-3:]) == ("venv", " uv")
    assert first == second
    assert first.startswith("uv pip compile pyproject.toml --group dev --universal --python-version 3.11")
    assert first.endswith("--output-file requirements-dev.lock --upgrade")


def test_the_oldest_and_the_newest_working_python_are_found(checkout):
    checkout.tool("python3.11", WORKING)
    checkout.tool("python3.99", SHIM)
    found = checkout.run("scripts/pythons.sh")
    assert found.returncode == 0, found.stderr
    paths = found.stdout.splitlines()
    assert 1 <= len(paths) <= 2
    versions = [
        subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout for path in paths
    ]
    assert versions[0].startswith("Python 3.1")
