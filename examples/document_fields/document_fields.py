"""Document fields: text files are the documents, facts about each are the tasks, results come back as one record.

python examples/document_fields/document_fields.py README.md CHANGELOG.md
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from fanfold import Fanfold, FanOut, Reject, testing

app = Fanfold("sqlite:///documents.db", entity="doc_id", task="field_name")

FIELDS = ("title", "word_count", "headings", "links", "longest_line")


def _text(doc_id: str) -> str:
    try:
        return Path(doc_id).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Reject(f"{doc_id} is not there") from None
    except UnicodeDecodeError as error:
        raise Reject(f"{doc_id} is not UTF-8 (byte {error.start})") from error


@app.task("title")
def title(doc_id: str) -> str:
    """The first heading."""
    found = re.search(r"^# (.+)$", _text(doc_id), re.MULTILINE)
    if found is None:
        raise Reject(f"{doc_id} has no heading of the first level")
    return found.group(1)


@app.task("word_count")
def word_count(doc_id: str) -> int:
    """Words, as white space parts them."""
    return len(_text(doc_id).split())


@app.task("headings")
def headings(doc_id: str) -> list[str]:
    """Headings of the second level."""
    return re.findall(r"^## (.+)$", _text(doc_id), re.MULTILINE)


@app.task("links")
def links(doc_id: str) -> int:
    """Markdown links."""
    return len(re.findall(r"\[[^\]]+\]\([^)]+\)", _text(doc_id)))


@app.task("longest_line")
def longest_line(doc_id: str) -> int:
    """Characters of the longest line."""
    return max(map(len, _text(doc_id).splitlines()), default=0)


@app.on_complete
async def publish(fan_out: FanOut) -> None:
    """Print the document's record as one line of JSON: on the loop, since lines of two threads would mingle."""
    failures = {name: failure.message for name, failure in fan_out.failures.items()}
    print(json.dumps({"doc_id": fan_out.entity_id, "fields": fan_out.results, "failures": failures}))


def main(paths: list[str]) -> None:
    """Describe these files, on a throw-away queue and in this process."""
    with testing.embedded(app):
        for path in paths:
            changed = Path(path).stat().st_mtime_ns if Path(path).exists() else "gone"
            app.enqueue(path, FIELDS, event_id=f"{path}:{changed}")
        testing.drain(app)


if __name__ == "__main__":
    main(sys.argv[1:] or ["README.md"])
