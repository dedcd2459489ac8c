"""The application that the Kafka benchmark runs: a record is five tasks that do nothing; the first may say it began."""

from __future__ import annotations

from typing import Any

from application import NAMES, application

app = application()


@app.event("documents", entity=lambda event: event["id"])
def plan(event: dict[str, Any]) -> list[str]:
    """Five tasks."""
    return ["announce", *NAMES[:4]] if event.get("announce") else NAMES[:5]
