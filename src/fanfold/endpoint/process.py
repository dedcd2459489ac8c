"""An endpoint as a process: signals in, exit code out."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Final

from fanfold.endpoint.endpoint import Endpoint, Plan
from fanfold.loops import new_event_loop
from fanfold.runner import Signals, signals_as_before
from fanfold.service import Deadline

_GARBAGE: Final = 50_000
"""Objects between two collections. Requests leave next to no cycles, and what thousands of waiting polls hold would be
looked through again and again in vain."""


def run_endpoint(plan: Plan, *, grace: float, on_start: Callable[[Endpoint], None]) -> None:
    """Serve until SIGTERM or SIGINT (Ctrl-C), then stop in order within `grace` seconds; a second signal stops at once.

    `on_start` is called when requests are accepted.

    Raises:
        ConfigurationError, StorageError: the plan can't be carried out.
    """
    with signals_as_before(), asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(plan, grace, on_start))


async def _serve(plan: Plan, grace: float, on_start: Callable[[Endpoint], None]) -> None:
    endpoint = Endpoint(plan)
    signals = Signals()
    await endpoint.start()
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    on_start(endpoint)
    await signals.first.wait()
    deadline = Deadline(grace)
    signals.on_second(deadline.bring_forward)
    await endpoint.stop(deadline)
