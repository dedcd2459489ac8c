"""The polyglot example, whole: three languages as processes, over a real `fanfold serve`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.environments import Environment, UnavailableError
from conformance.peers import fanfold

EXAMPLE = Path(__file__).parents[2] / "examples" / "polyglot"
pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="Node.js with npm isn't installed here"),
    pytest.mark.timeout(600),  # the first run installs the AWS command line and the Node packages
]


@pytest.fixture(scope="module")
def aws():
    try:
        return str(Path(Environment(name="awscli").make()).parent)
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example as a stranger has it, with its Node packages as locked."""
    folder = tmp_path_factory.mktemp("polyglot")
    for path in EXAMPLE.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    installed = subprocess.run(["npm", "ci", "--no-fund", "--no-audit"], cwd=folder, capture_output=True, text=True)  # noqa: PLW1510, S607
    if installed.returncode != 0:
        pytest.skip(f"the Node packages can't be had: {installed.stderr.strip()[-200:]}")
    return folder


@pytest.fixture
def environ(aws, tmp_path):
    with fanfold("--create", "tasks.fifo", "--create", "node.fifo", file=tmp_path / "queues.db") as endpoint:
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FANFOLD_"))},
            "AWS_ENDPOINT_URL_SQS": endpoint.url,
            "PATH": f"{aws}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }


@contextmanager
def running(*command, folder, environ):
    """A process of the example. Lines of its output are what the tests wait for.

    It is killed at the end: an orderly stop waits for the poll in flight, up to 20 seconds.
    """
    process = subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def python_worker(folder, environ):
    return running(sys.executable, "-m", "fanfold", "worker", "app:app", folder=folder, environ=environ)


def node_worker(folder, environ):
    return running("node", "worker.mjs", folder=folder, environ=environ)


def produce(document, text, *, folder, environ):
    subprocess.run(["./produce.sh", document, text], cwd=folder, env=environ, check=True, capture_output=True)


def record_of(worker):
    return json.loads(worker.stdout.readline())


@pytest.fixture(autouse=True)
def fresh_ledger(folder):
    yield
    for path in folder.glob("ledger.db*"):
        path.unlink()


def test_a_document_comes_back_once_with_what_both_languages_found(folder, environ):
    with python_worker(folder, environ) as worker, node_worker(folder, environ):
        produce("menu-1", "Crème brûlée 🍮 for two", folder=folder, environ=environ)
        assert record_of(worker) == {
            "document": "menu-1",
            "words": 5,
            "initials": "CB🍮FT",
            "slug": "creme-brulee-for-two",
            "graphemes": 22,
        }


def test_the_same_event_again_is_not_worked_on_twice(folder, environ):
    with python_worker(folder, environ) as worker, node_worker(folder, environ):
        for document in ("menu-1", "menu-1", "menu-2"):
            produce(document, "one two", folder=folder, environ=environ)
        assert sorted(record_of(worker)["document"] for _ in range(2)) == ["menu-1", "menu-2"]
        worker.kill()
        assert worker.stdout.read() == ""


def test_a_fan_out_waits_for_a_node_worker_that_starts_later(folder, environ):
    with python_worker(folder, environ) as worker:
        produce("menu-3", "Éclair", folder=folder, environ=environ)
        with node_worker(folder, environ):
            assert record_of(worker)["slug"] == "eclair"


def test_the_readme_names_every_command_and_the_record_that_comes_back():
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    for command in ("npm ci", "fanfold serve", "fanfold worker app:app", "node worker.mjs", "./produce.sh menu-1"):
        assert command in readme
    assert '"slug": "creme-brulee-for-two", "graphemes": 22' in readme
