"""Logging of the commands: lines for people, JSON for machines, both on standard error."""

from __future__ import annotations

import json
import logging
from typing import Final

from fanfold.codec import timestamp

_TEXT: Final = "%(asctime)s %(levelname)-7s %(message)s"


def set_up(level: str, form: str) -> None:
    """Send the log to standard error, at `level`, as `text` or `json`."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if form == "json" else logging.Formatter(_TEXT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("fanfold").setLevel(level.upper())


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        entry = {"time": timestamp(record.created), "level": record.levelname.lower(), "logger": record.name}
        entry["event"] = getattr(record, "event", None) or record.getMessage()
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)
