"""Stages: 42 fields are extracted from a listing, checked against each other, and published if they hold.

python examples/pipeline/pipeline.py            # the listings beside this file, worked on in this process
fanfold worker pipeline:app                     # or, in this folder, workers as processes of their own
fanfold status --app pipeline:app FAN_OUT_ID    # a fan-out, with the stages before and after it
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from fanfold import Fanfold, FanOut, FanOutOptions, Reject, TaskSpec, testing

app = Fanfold("sqlite:///pipeline.db", entity="listing", task="field")

NUMBERS = (
    "yearBuilt", "yearRenovated", "floors", "rooms", "bedrooms", "bathrooms", "toilets", "kitchens",
    "balconies", "terraces", "garages", "parkingSpaces", "livingArea", "usableArea", "plotArea", "gardenArea",
    "cellarArea", "ceilingHeight", "price", "pricePerSquareMetre", "serviceCharge", "deposit",
)  # fmt: skip
WORDS = (
    "street", "city", "postcode", "country", "district", "propertyType", "condition", "roofType", "roofColour",
    "wallMaterial", "windowType", "floorType", "heating", "fuel", "energyClass", "hotWater", "internet", "view",
    "orientation", "availability",
)  # fmt: skip
FIELDS = (*NUMBERS, *WORDS)

ENOUGH = FanOutOptions(tolerated_failures="10%", rest="run")  # some listings say nothing of some fields
FEW = 2


@dataclass
class Fields:
    """What the first stage found: the configuration of a check."""

    fields: dict[str, float | str]


def extract(listing: str, field: str) -> float | str:
    """Find one field in a listing; one that isn't there won't be there on the next attempt."""
    path = Path(listing)
    if not path.is_file():
        raise Reject(f"there is no listing {listing}")
    found = re.search(rf"^{field}: *(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise Reject(f"it says nothing of {field}")
    return float(found[1]) if field in NUMBERS else found[1]


for name in FIELDS:
    app.task(name, timeout=60)(extract)


@app.task("years")
def years(task_config: Fields) -> str:
    """Nothing is renovated before it is built."""
    built, renovated = (task_config.fields.get(name) for name in ("yearBuilt", "yearRenovated"))
    if isinstance(built, float) and isinstance(renovated, float) and renovated < built:
        raise Reject(f"renovated in {renovated:g}, built in {built:g}")
    return "plausible"


@app.task("areas")
def areas(task_config: Fields) -> str:
    """What one lives in is not larger than what one uses."""
    living, usable = (task_config.fields.get(name) for name in ("livingArea", "usableArea"))
    if isinstance(living, float) and isinstance(usable, float) and living > usable:
        raise Reject(f"{living:g} m² to live in, {usable:g} m² in all")
    return "plausible"


@app.task("published")
def published(listing: str, task_config: Fields) -> str:
    """Write a listing's record beside it."""
    record = Path(listing).with_suffix(".json")
    record.write_text(json.dumps(task_config.fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return record.name


@app.on_complete
def next_stage(fan_out: FanOut) -> None:
    """Enqueue what follows. It is a task like any other: run again after a crash, it makes no second fan-out."""
    match fan_out.metadata["stage"]:
        case "extract":
            found = {"fields": fan_out.results}
            enqueue(fan_out, "validate", [TaskSpec("years", found), TaskSpec("areas", found)])
        case "validate":
            enqueue(fan_out, "publish", [TaskSpec("published", fan_out.tasks[0].task_config)])
        case "publish":
            say(fan_out, f"published as {fan_out.results['published']}")


@app.on_failure
def give_up(fan_out: FanOut) -> None:
    """Say why it goes no further."""
    reasons = [failure.message for failure in fan_out.failures.values()]
    why = "; ".join(reasons) if len(reasons) <= FEW else "it says too little"  # the first stage ends early, and goes on
    say(fan_out, f"stopped at {fan_out.metadata['stage']}: {why}")


def say(fan_out: FanOut, what: str) -> None:
    """Print a line about a listing, in one piece: plain functions run in threads, whose lines could mix."""
    print(f"{Path(fan_out.entity_id).name}: {what}\n", end="", flush=True)


def enqueue(before: FanOut, stage: str, tasks: list[TaskSpec]) -> None:
    """Enqueue the stage after `before`."""
    app.enqueue(before.entity_id, tasks, metadata={"stage": stage}, parent=before)


def main(listings: list[str]) -> None:
    """Work on listings with a throw-away queue."""
    with testing.embedded(app):
        for listing in listings:
            app.enqueue(listing, FIELDS, metadata={"stage": "extract"}, event_id="1", options=ENOUGH)
        testing.drain(app)


if __name__ == "__main__":
    here = Path(__file__).parent
    main(sys.argv[1:] or [str(path) for path in sorted((here / "listings").glob("*.txt"))])
