"""What the ledgers write of an end: of an attempt's, and of a task's that its fan-out's end cancels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fanfold.ledgers.protocol import Finish
from fanfold.model import Ended, Failure

_WHY: Final = {
    Ended.COMPLETE: "it was cancelled",
    Ended.ENOUGH: "enough of the fan-out's tasks had succeeded",
    Ended.FAILED: "more of the fan-out's tasks had failed than are tolerated",
    Ended.DEADLINE: "the fan-out's deadline came",
    Ended.CANCELLED: "it was cancelled",
}

CANCELLED_BY: Final[Mapping[Ended, str]] = {
    ended: msgspec.json.encode(Failure(type="Cancelled", message=why)).decode() for ended, why in _WHY.items()
}
"""Why a task is cancelled, by what ended its fan-out: the failure, as JSON text."""


def failure(finish: Finish) -> str | None:
    """An attempt's failure as JSON text."""
    return msgspec.json.encode(finish.failure).decode() if finish.failure else None


def values(finish: Finish) -> dict[str, Any]:
    """An attempt's end as PostgreSQL's functions take it, by column; the failure is JSON text."""
    return {
        "fan_out_id": finish.fan_out_id,
        "task_name": finish.task_name,
        "attempt": finish.attempt,
        "generation": finish.generation,
        "state": finish.state.value,
        "result": finish.result,
        "failure": failure(finish),
    }
