"""The demo as people run it: real processes on a small environment that is made for the test."""

from __future__ import annotations

import json
import os

import psutil
import pytest

from commands import ESCAPE, Terminal, fanfold, in_a_terminal
from distributions import make
from fanfold import Fanfold
from fanfold.demo.fields import FIELDS
from fanfold.demo.run import Place

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
_PATIENCE = 60


@pytest.fixture
def installed(tmp_path):
    """A folder of distributions: a good one, one with native code only, and one that is broken in every way."""
    folder = tmp_path / "site-packages"
    source = '"""Doc."""\nimport os\n\n\ndef main() -> None:\n    "Doc."\n'
    stated = "Summary: Good\nLicense-Expression: MIT\nRequires-Dist: native; python_version > '3'\n"
    commands = {"entry_points.txt": "[console_scripts]\ngood = good:main\n", "INSTALLER": "pip"}
    make(folder, "good", "1.0", metadata=stated, files={"good/__init__.py": source}, info=commands)
    make(folder, "native", "2.0", files={"native.so": b"\x7fELF"})
    make(folder, "broken", "3.0", record=b"\xff", info={"entry_points.txt": "nonsense\n", "WHEEL": b"\xff"})
    (folder / "nameless-1.0.dist-info").mkdir()
    return folder


@pytest.fixture
def large(tmp_path):
    """A folder of distributions that take a while to describe."""
    folder = tmp_path / "site-packages"
    source = "".join(f"def f{n}(a: int) -> int:\n    return a + {n}\n" for n in range(8_000))
    for number in range(4):
        make(folder, f"large{number}", files={f"large{number}.py": source})
    return folder


def demo(folder, *arguments, **variables):
    """Run the demo on the distributions in `folder`; answers what it tells a script."""
    ran = fanfold("demo", "--path", folder, "--json", *arguments, cwd=folder.parent, **variables)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def results(folder):
    return json.loads((folder.parent / "demo-run/results.json").read_text(encoding="utf-8"))


def check_results(folder):
    """Whether the results are those of the `installed` distributions."""
    found = results(folder)
    assert list(found) == ["broken-3.0", "good-1.0", "native-2.0"]
    names = {field.name for field in FIELDS}
    assert all(set(one["fields"]) | set(one["set_aside"]) == names for one in found.values())
    good, native, broken = (found[key] for key in ("good-1.0", "native-2.0", "broken-3.0"))
    assert good["fields"]["licence"] == {"licence": "MIT", "source": "License-Expression"}
    assert good["fields"]["commands"] == {"good": "good:main"}
    assert good["fields"]["longest_function"] == {"where": "good/__init__.py:5 main", "lines": 2, "unreadable": 0}
    assert good["fields"]["record_hashes"] == {"verified": 1, "missing": 0, "wrong": 0, "which": []}
    assert (native["fields"]["native_code"], native["fields"]["dependents"]) == (["native.so"], ["good"])
    assert native["set_aside"]["lines_of_code"] == "native 2.0 has no Python files"
    assert "RECORD of broken 3.0 is not UTF-8" in broken["set_aside"]["size_on_disk"]
    assert "entry_points.txt of broken 3.0 is broken" in broken["set_aside"]["entry_points"]
    assert [one["retried"] for one in found.values()] == [{}, {}, {}]


def check_single_descriptions(folder):
    """Whether each completion has written its own file."""
    for entity_id, description in results(folder).items():
        written = json.loads((folder.parent / f"demo-run/results/{entity_id}.json").read_text(encoding="utf-8"))
        assert written == {"distribution": entity_id} | description


def test_every_distribution_is_described_and_a_second_run_enqueues_nothing(installed):
    first = demo(installed)
    assert (first["distributions"], first["left_out"]) == (3, 1)
    assert first["tasks"] == first["tasks_enqueued"] == 3 * len(FIELDS)
    check_results(installed)
    check_single_descriptions(installed)
    before = results(installed)
    logs = [(installed.parent / f"demo-run/worker-{number}.log").read_text() for number in (1, 2)]
    ran = fanfold("demo", "--path", installed, cwd=installed.parent)
    assert ran.returncode == 0, ran.stderr
    assert [
        (installed.parent / f"demo-run/worker-{number}.log").read_text() for number in (1, 2)
    ] == logs  # none started
    assert f"Nothing enqueued: all {3 * len(FIELDS)} tasks of these 3 events were done before." in ran.stdout
    assert results(installed) == before


def test_people_get_tables_and_the_reasons(installed):
    ran = fanfold("demo", "--path", installed, "--workers", 1, "--documents", 2, cwd=installed.parent)
    lines = [line.rstrip() for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, ran.stderr
    assert lines[0].split() == ["distribution", "licence", "lines", "of", "code", "bytes", "fields", "set", "aside"]
    assert [line.split()[0] for line in lines[1:3]] == ["broken-3.0", "good-1.0"]
    assert "Set aside, with the first reason" in lines
    assert any("broken 3.0 has no Summary" in line for line in lines)
    assert lines[-3:] == [
        "left out: 1 folder(s) whose METADATA states no name and version",
        f"{2 * len(FIELDS)} of {2 * len(FIELDS)} tasks enqueued.",
        "Results: demo-run/results.json",
    ]
    assert ESCAPE not in ran.stdout + ran.stderr
    assert ran.stderr == "2 distributions, 1 worker processes; their logs are in demo-run\n"


def test_a_terminal_shows_the_progress(installed):
    exit_code, shown = in_a_terminal("demo", "--path", installed, "--documents", 1, cwd=installed.parent, NO_COLOR=1)
    assert exit_code == 0
    for row in ("events enqueued", "fields done", "distributions described"):
        assert row in shown
    assert f"{len(FIELDS)}/{len(FIELDS)}" in shown


def test_the_same_demo_works_on_sqs(installed, served_queue):
    url, _ = served_queue
    options = ("--queue-url", url, "--region", "eu-west-1")
    first = demo(installed, *options, **CREDENTIALS)
    assert first["tasks_enqueued"] == 3 * len(FIELDS)
    check_results(installed)
    check_single_descriptions(installed)
    assert demo(installed, *options, **CREDENTIALS)["tasks_enqueued"] == 0


def test_addresses_of_the_environment_are_not_used(installed):
    elsewhere = {
        "FANFOLD_QUEUE_URL": "sqlite:///real.db",
        "FANFOLD_LEDGER": "sqlite:///real.db",
        "SQS_TASK_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/real.fifo",
        "SQS_DLQ_URL": "https://sqs.eu-west-1.amazonaws.com/1/real-dlq.fifo",
    }
    assert demo(installed, "--documents", 1, **elsewhere)["tasks_enqueued"] == len(FIELDS)
    assert not (installed.parent / "real.db").exists()


def test_a_place_is_in_force_for_its_block_only(tmp_path, monkeypatch):
    monkeypatch.setenv("SQS_DLQ_URL", "before")
    monkeypatch.setenv("FANFOLD_LEDGER", "before")
    monkeypatch.setenv("FANFOLD_REGION", "eu-west-1")
    before = dict(os.environ)
    place = Place(folder=tmp_path, queue_url="sqlite:///a.db", ledger="sqlite:///b.db")
    with place.in_force():
        inside = {name: os.environ.get(name) for name in ("FANFOLD_QUEUE_URL", "FANFOLD_LEDGER", "SQS_DLQ_URL")}
        assert inside == {
            "FANFOLD_QUEUE_URL": "sqlite:///a.db",
            "FANFOLD_LEDGER": "sqlite:///b.db",
            "SQS_DLQ_URL": None,
        }
        assert os.environ["FANFOLD_REGION"] == "eu-west-1"
    assert dict(os.environ) == before


def test_the_folder_may_have_any_name(installed):
    folder = installed.parent / "50% of a?demo#1"
    assert demo(installed, "--documents", 1, "--folder", folder)["results"] == str(folder / "results.json")
    assert (folder / "tasks.db").exists()


def test_a_folder_that_cannot_be_made_is_named(installed):
    (installed.parent / "file").touch()
    ran = fanfold("demo", "--path", installed, "--folder", "file/demo", cwd=installed.parent)
    assert ran.returncode == 1
    assert ran.stderr.endswith("Error: --folder file/demo: Not a directory; name one that can be made\n")


def test_a_folder_without_distributions_is_named(tmp_path):
    ran = fanfold("demo", "--path", tmp_path, cwd=tmp_path)
    assert (ran.returncode, list(tmp_path.iterdir())) == (1, [])
    assert f"--path {tmp_path}: no distribution is installed there" in ran.stderr


def test_ctrl_c_in_the_middle_stops_the_workers_and_the_next_run_goes_on(large):
    total = 4 * len(FIELDS)
    with Terminal("demo", "--path", large, cwd=large.parent, NO_COLOR=1) as terminal:
        terminal.until(rf" [1-9]\d*/{total} ")
        below = psutil.Process(terminal.process.pid).children(recursive=True)
        terminal.press_ctrl_c()
        assert terminal.end() == 130
    assert "Interrupted; what is done is kept. Run the demo again to go on." in terminal.shown
    assert "Traceback" not in terminal.shown
    assert len(below) >= 2
    assert psutil.wait_procs(below, _PATIENCE)[1] == []
    with Fanfold(f"sqlite:///{large.parent}/demo-run/tasks.db") as app:
        left = app.status()
    assert left.messages_in_flight == 0
    assert left.messages_available > 0
    second = demo(large)
    assert second["tasks_enqueued"] < total
    assert [len(one["fields"]) + len(one["set_aside"]) for one in results(large).values()] == [len(FIELDS)] * 4


def test_workers_end_when_the_demo_is_killed(large):
    with Terminal("demo", "--path", large, cwd=large.parent, NO_COLOR=1) as terminal:
        terminal.until(rf" [1-9]\d*/{4 * len(FIELDS)} ")
        workers = psutil.Process(terminal.process.pid).children()
        terminal.process.kill()
        terminal.end()
    assert len(workers) == 2
    assert psutil.wait_procs(workers, _PATIENCE)[1] == []


def test_a_worker_that_dies_ends_the_demo_with_its_last_words(large):
    with Terminal("demo", "--path", large, cwd=large.parent, NO_COLOR=1) as terminal:
        terminal.until(rf" [1-9]\d*/{4 * len(FIELDS)} ")
        workers = psutil.Process(terminal.process.pid).children()
        workers[0].kill()
        assert terminal.end() == 1
    assert "Error: worker " in terminal.shown
    assert "ended with exit code -9: " in terminal.shown
    assert psutil.wait_procs(workers, _PATIENCE)[1] == []
