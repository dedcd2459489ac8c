"""The fold's function with a step behind it: what has to be done as well before the fold counts as done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from fanfold.model import FanOut

FAN_OUT: Final = "fanfold.fan_out"
"""The keyword under which the step gets its fan-out: no function's own parameter can have that name."""


class Step(Protocol):
    """Something that is done with a complete fan-out. What it raises is the fold's outcome: the fold is tried again."""

    def run(self, fan_out: FanOut) -> None:
        """Do it, in a thread that may wait."""

    async def run_async(self, fan_out: FanOut) -> None:
        """Do it, on the loop."""


def alone(step: Step) -> Callable[..., Any]:
    """A fold that is nothing but the step."""

    async def run(**asked: Any) -> None:
        await step.run_async(asked[FAN_OUT])

    return run


def followed_on_loop(function: Callable[..., Any], step: Step) -> Callable[..., Any]:
    """An async fold, then the step; answers what the fold returned."""

    async def run(**asked: Any) -> Any:
        fan_out = asked.pop(FAN_OUT)
        result = await function(**asked)
        await step.run_async(fan_out)
        return result

    return run


def followed_in_thread(function: Callable[..., Any], step: Step) -> Callable[..., Any]:
    """A plain fold, then the step in the same thread; answers what the fold returned."""

    def run(**asked: Any) -> Any:
        fan_out = asked.pop(FAN_OUT)
        result = function(**asked)
        step.run(fan_out)
        return result

    return run
