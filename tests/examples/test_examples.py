from __future__ import annotations

import json
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
