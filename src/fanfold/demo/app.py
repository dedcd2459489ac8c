"""The demo's application: every installed Python distribution is an event, its fields are the tasks.

An application of your own looks like this one; only the functions differ.
"""

from __future__ import annotations

import os
from pathlib import Path

from fanfold import Fanfold, FanOut
from fanfold.demo.descriptions import described, write
from fanfold.demo.fields import FIELDS

app = Fanfold(entity="distribution", task="field", concurrency=8, lease=30, grace=20)

for field in FIELDS:
    app.task(field.name, timeout=field.timeout, process=field.heavy)(field.function)


@app.on_complete(timeout=60)
def write_description(fan_out: FanOut) -> str:
    """Write what was found of a distribution into its own file; answers the file's name."""
    folder = Path(os.environ.get("FANFOLD_DEMO_RESULTS", "demo-run/results"))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{fan_out.entity_id}.json"
    write(target, {"distribution": fan_out.entity_id} | described(fan_out))
    return target.name
