"""Document fields from Kafka: an event for each document in, a record with all its fields out.

`README.md` beside this file says how it is run.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from fanfold import Fanfold, Reject

app = Fanfold("sqlite:///kafka_fields.db", entity="doc_id", task="field_name")

FIELDS = ["title", "word_count", "links"]


class Document(msgspec.Struct):
    """An event: what has happened to a document. The record's key is the document's path."""

    what: str
    tenant: str = "nobody"


@app.event("documents", metadata=lambda event: {"tenant": event.tenant})
def plan(event: Document, doc_id: str) -> list[str]:
    """Which fields are wanted: none of a document that was removed, and what isn't a document can't be planned."""
    if event.what not in ("arrived", "changed", "removed"):
        raise Reject(f"{event.what!r} of {doc_id}: nobody knows what that means")
    return [] if event.what == "removed" else FIELDS


app.publish_completions("documents.fields")


def _text(doc_id: str) -> str:
    try:
        return Path(doc_id).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Reject(f"{doc_id} is not there") from None


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


@app.task("links")
def links(doc_id: str) -> int:
    """Markdown links."""
    return len(re.findall(r"\[[^\]]+\]\([^)]+\)", _text(doc_id)))
