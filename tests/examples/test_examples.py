from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commands import fanfold, started

ROOT = Path(__file__).parents[2]


def run(*command, cwd=ROOT):
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_orders_are_confirmed_or_refused_with_their_reason():
    lines = sorted(run("examples/orders/orders.py").splitlines())
    assert [line.split(" {")[0] for line in lines] == ["order-1 confirmed", "order-2 refused", "order-3 confirmed"]
    assert lines[1].endswith("only 2 of 'desk' in stock")


def test_documents_come_back_as_one_record_each(tmp_path):
    (tmp_path / "plain.txt").write_text("no heading here\n")
    (tmp_path / "good.md").write_text("# A title\n\n## One\n\n[a](b) and words\n")
    script = str(ROOT / "examples/document_fields/document_fields.py")
    lines = run(script, "good.md", "plain.txt", cwd=tmp_path)
    good, plain = sorted((json.loads(line) for line in lines.splitlines()), key=lambda record: record["doc_id"])
    assert good["fields"] == {"title": "A title", "word_count": 8, "headings": ["One"], "links": 1, "longest_line": 16}
    assert plain["failures"] == {"title": "plain.txt has no heading of the first level"}


def test_documents_that_cannot_be_read_say_why(tmp_path):
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    script = str(ROOT / "examples/document_fields/document_fields.py")
    lines = run(script, "latin.txt", "missing.txt", cwd=tmp_path)
    latin, missing = sorted((json.loads(line) for line in lines.splitlines()), key=lambda record: record["doc_id"])
    assert (latin["fields"], set(latin["failures"].values())) == ({}, {"latin.txt is not UTF-8 (byte 2)"})
    assert (missing["fields"], set(missing["failures"].values())) == ({}, {"missing.txt is not there"})


def test_orders_are_worked_on_by_a_worker_of_its_own(tmp_path):
    url = f"sqlite:///{tmp_path}/orders.db"
    line = '{"item": "pen", "quantity": 10}'
    options = ["--config", f"reserve={line}", "--config", f"price={line}", "--metadata", '{"customer": "alice"}']
    here = ROOT / "examples/orders"
    tasks = ["order-1", "reserve", "price", "fraud"]
    assert fanfold("enqueue", "--app", "orders:app", "--queue-url", url, *tasks, *options, cwd=here).returncode == 0
    with started("worker", "orders:app", "--queue-url", url, cwd=here) as worker:
        assert worker.stdout.readline().startswith(
            "order-1 confirmed {'reserve': 110, 'price': 15.0, 'fraud': 'clear'}"
        )
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=300)
    assert worker.returncode == 0


@pytest.fixture
def listings(tmp_path):
    """The pipeline's listings, where their records may be written."""
    left = shutil.ignore_patterns("*.json")  # somebody has tried the example
    return shutil.copytree(ROOT / "examples/pipeline/listings", tmp_path / "listings", ignore=left)


def test_a_listing_goes_through_three_stages_and_one_that_fails_stops_where_it_does(listings):
    lines = run("examples/pipeline/pipeline.py", *sorted(map(str, listings.iterdir()))).splitlines()
    assert sorted(lines) == [
        "hill-road-1.txt: published as hill-road-1.json",
        "lake-street-7.txt: stopped at validate: renovated in 1978, built in 1994; 210 m² to live in, 190 m² in all",
        "mill-lane-3.txt: stopped at extract: it says too little",
    ]
    record = json.loads((listings / "hill-road-1.json").read_text())
    assert (len(record), record["yearBuilt"], record["roofType"]) == (42, 1987.0, "gable")


def test_workers_of_their_own_work_on_the_pipeline_and_status_shows_its_stages(listings, tmp_path):
    here, listing = ROOT / "examples/pipeline", str(listings / "hill-road-1.txt")
    options = ["--app", "pipeline:app", "--queue-url", f"sqlite:///{tmp_path}/pipeline.db"]
    enqueue = [*options, listing, "yearBuilt", "--metadata", '{"stage": "extract"}']
    assert fanfold("enqueue", *enqueue, cwd=here).returncode == 0
    with started("worker", "pipeline:app", *options[2:], cwd=here) as worker:
        assert worker.stdout.readline() == "hill-road-1.txt: published as hill-road-1.json\n"
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=300)
    newest = json.loads(fanfold("status", *options, "--json", cwd=here).stdout)["fan_outs"]
    stages = [fan_out["fan_out_id"] for fan_out in reversed(newest)]
    shown = fanfold("status", *options, stages[1], cwd=here).stdout
    tree = shown[shown.index("stages:") :].splitlines()[1:]
    assert [line.strip(" └─").split()[0] for line in tree] == stages
    assert [fan_out["metadata"]["stage"] for fan_out in newest] == ["publish", "validate", "extract"]
