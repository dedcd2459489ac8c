"""What the demo writes: one description a distribution, and all of them in one file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fanfold.model import FanOut


def described(fan_out: FanOut) -> dict[str, Any]:
    """A distribution's fields, and what was set aside or retried, by field."""
    return {
        "fields": fan_out.results,
        "set_aside": {name: failure.message or failure.type for name, failure in fan_out.failures.items()},
        "retried": {task.task_name: task.attempts for task in fan_out.tasks if task.attempts > 1},
    }


def write(target: Path, value: dict[str, Any]) -> None:
    """Write JSON. A crash in the middle leaves the old file or the new one, never half of one."""
    beside = target.with_name(f"{target.name}.{os.getpid()}.part")
    beside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(target)
