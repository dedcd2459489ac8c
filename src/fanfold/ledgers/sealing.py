"""What sealing a fan-out means in every ledger: a plan's digest, and what an event that comes again may be."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from fanfold.errors import FanOutSealedError
from fanfold.ledgers.protocol import Opened, Plan
from fanfold.model import TaskState


def new(plan: Plan) -> Opened:
    """A fan-out that wasn't there before."""
    return Opened(generation=0, states=dict.fromkeys((task.name for task in plan.tasks), TaskState.PENDING))


def found(plan: Plan, generation: int, states: Mapping[str, TaskState]) -> Opened:
    """A fan-out that is sealed already, as it stands.

    Raises:
        FanOutSealedError: it has other names than the plan.
    """
    planned = {task.name for task in plan.tasks}
    if planned != states.keys():
        added, missing = sorted(planned - states.keys()), sorted(states.keys() - planned)
        raise FanOutSealedError(
            f"event {plan.event_id!r} of {plan.entity_id!r} was enqueued before with other task names (new: "
            f"{_some(added)}, missing: {_some(missing)}); a fan-out is sealed. Use another event_id for another set of "
            "tasks."
        )
    return Opened(generation=generation, states=states)


def taken_over(plan: Plan) -> FanOutSealedError:
    """What a producer is told whose plan gave way, half written, to another one's for the same event."""
    return FanOutSealedError(
        f"event {plan.event_id!r} of {plan.entity_id!r} is being enqueued elsewhere with other task names. Use "
        "another event_id for another set of tasks."
    )


def digest(plan: Plan) -> str:
    """Tells plans with other names, or another order of them, apart."""
    hashed = hashlib.sha256()
    for task in plan.tasks:
        name = task.name.encode()
        hashed.update(len(name).to_bytes(4, "big") + name)
    return hashed.hexdigest()


def _some(names: Sequence[str]) -> list[str]:
    return [*names[:10], *(["…"] if len(names) > 10 else [])]  # noqa: PLR2004
