from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command, cwd=ROOT):
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
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


def test_the_readmes_first_application_does_what_it_says(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "app.py").write_text(re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1))
    config = 'roofType={"roof": "gable"}'
    enqueue = ["-m", "fanfold", "enqueue", "--app", "app:app", "doc-123", "yearBuilt", "roofType", "--config", config]
    assert "2 task(s) enqueued" in run(*enqueue, "--event-id", "documents:3:1042", cwd=tmp_path)
    drain = "from app import app; from fanfold import testing; testing.drain(app)"
    assert run("-c", drain, cwd=tmp_path).startswith("doc-123 {'yearBuilt': 1997, 'roofType': 'gable'} {}")
    assert "2 done before" in run(*enqueue, "--event-id", "documents:3:1042", cwd=tmp_path)
    assert "complete" in run("-m", "fanfold", "status", "--app", "app:app", cwd=tmp_path)
