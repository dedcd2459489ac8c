"""What a running task can know and ask for, when it has a `context` parameter."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import msgspec


class Allowance(msgspec.Struct, eq=False):
    """How long a run may take: a deadline in seconds since the epoch, which the task itself can move."""

    deadline: float = math.inf
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One run of one task. `attempt` counts from 1, `logger` is the task's own (`fanfold.task.<name>`)."""

    entity_id: str
    task_name: str
    fan_out_id: str | None
    attempt: int
    max_attempts: int
    logger: logging.Logger
    _allowance: Allowance

    @property
    def deadline(self) -> float:
        """When the run times out, in seconds since the epoch."""
        return self._allowance.deadline

    @property
    def cancelled(self) -> bool:
        """Whether the run is over for the worker: timed out, lease lost, or the worker stops.

        A plain function in a thread can't be interrupted; a long one should look here between its steps.
        """
        return self._allowance.cancelled

    def extend(self, seconds: float) -> None:
        """Ask for `seconds` more before the timeout. May be called from a thread.

        SQS holds a message for at most 12 hours from its receive, whatever is asked for here.
        """
        if seconds <= 0:
            raise ValueError(f"extend({seconds}): ask for more than 0 seconds")
        self._allowance.deadline += seconds
