"""The demo's application: every installed Python distribution is an event, its fields are the tasks.

An application of your own looks like this one; only the functions differ.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from fanfold import Fanfold, FanOut
from fanfold.demo.fields import FIELDS

app = Fanfold(entity="distribution", task="field", concurrency=8, lease=30, grace=20)

for field in FIELDS:
    app.task(field.name, timeout=field.timeout, process=field.heavy)(field.function)


@app.on_complete(timeout=60)
def write_description(fan_out: FanOut) -> str:
    """Write what was found of a distribution into its own file; answers the file's name."""
    folder = Path(os.environ["FANFOLD_DEMO_RESULTS"])
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{fan_out.entity_id}.json"
    description = {
        "distribution": fan_out.entity_id,
        "fields": fan_out.results,
        "set_aside": {name: failure.message or failure.type for name, failure in fan_out.failures.items()},
        "retried": {task.task_name: task.attempts for task in fan_out.tasks if task.attempts > 1},
    }
    # Written beside and renamed: a crash in the middle leaves the old file or the new one, never half of one.
    beside = target.with_suffix(".part")
    beside.write_text(json.dumps(description, indent=2, ensure_ascii=False), encoding="utf-8")
    beside.replace(target)
    return target.name
