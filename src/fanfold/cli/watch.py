"""`fanfold status --watch`: what changes, as it changes."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar

from fanfold.app import Fanfold
from fanfold.cli import shown
from fanfold.cli.common import beside, one_line, to_people
from fanfold.errors import FanfoldError
from fanfold.model import FanOut, QueueStatus, TaskState

_BAR: Final = 60
"""Columns of the bar."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found: the queue's counts where they were asked for, and the fan-outs."""

    counts: QueueStatus | None
    fan_outs: Sequence[FanOut]


Look = Callable[[], Awaitable[Seen]]


class _View(Protocol):
    def show(self, seen: Seen, before: Seen | None) -> None: ...


class Lines:
    """For a pipe: a line for each thing that changed."""

    def __init__(self, queue_url: str) -> None:
        self._queue_url = queue_url

    def show(self, seen: Seen, before: Seen | None) -> None:
        """Print what is new since the look before."""
        if seen.counts is not None and (before is None or before.counts != seen.counts):
            self._say(shown.queue_line(self._queue_url, seen.counts))
        known = {fan_out.fan_out_id: shown.progress_line(fan_out) for fan_out in before.fan_outs} if before else {}
        for fan_out in reversed(seen.fan_outs):
            if known.get(fan_out.fan_out_id) != (line := shown.progress_line(fan_out)):
                self._say(line)

    def _say(self, line: str) -> None:
        click.echo(f"{shown.time(time.time())}  {one_line(line)}")


class JsonLines:
    """For a script: an object on a line for each look that found something new."""

    def show(self, seen: Seen, before: Seen | None) -> None:
        """Print what there is, if it is another than before."""
        if before is None or _told(before) != _told(seen):
            click.echo(json.dumps(_told(seen), ensure_ascii=False, default=str))


class Screen:
    """For a terminal: drawn again in place at each look."""

    def __init__(self, app: Fanfold, live: Live) -> None:
        self._app = app
        self._live = live

    def show(self, seen: Seen, before: Seen | None) -> None:  # noqa: ARG002 - it is all drawn again
        """Draw."""
        if seen.counts is None:
            [fan_out] = seen.fan_outs
            self._live.update(_one(fan_out), refresh=True)
            return
        line = one_line(shown.queue_line(self._app.settings.queue_url, seen.counts))
        self._live.update(Group(line, shown.overview(self._app.words, seen.fan_outs, fold=True)), refresh=True)


async def watch(app: Fanfold, look: Look, view: _View, *, every: float, over: Callable[[Seen], bool]) -> Seen:
    """Look every so many seconds and show what is there, until it is `over`; answers what was seen last.

    A queue or ledger that is away for the moment is looked at again; any other error ends it.
    """
    before: Seen | None = None
    while True:
        try:
            seen = await look()
        except FanfoldError as error:
            if not error.transient:
                raise
            beside().print(one_line(f"{error}; looking again in {every:g} s"), soft_wrap=True)
        else:
            view.show(seen, before)
            if over(seen):
                return seen
            before = seen
        await app.clock.sleep(every)


async def watch_here(app: Fanfold, look: Look, *, every: float, as_json: bool, over: Callable[[Seen], bool]) -> Seen:
    """`watch` on standard output, whatever that is."""
    console = to_people()
    if as_json:
        return await watch(app, look, JsonLines(), every=every, over=over)
    if not console.is_terminal:
        return await watch(app, look, Lines(app.settings.queue_url), every=every, over=over)
    with Live(console=console, auto_refresh=False) as live:
        return await watch(app, look, Screen(app, live), every=every, over=over)


def is_over(fan_out: FanOut, *, folds: bool) -> bool:
    """Whether nothing more will happen to a fan-out: it has ended, and its completion too where one will come."""
    if fan_out.completed_at is None:
        return False
    fold = fan_out.fold_state
    return (not folds and fold is None) or fold in (TaskState.SUCCEEDED, TaskState.DEAD, TaskState.CANCELLED)


def _one(fan_out: FanOut) -> RenderableType:
    bar = ProgressBar(total=fan_out.total_tasks, completed=fan_out.progress.done, width=_BAR)
    return Group(one_line(shown.progress_line(fan_out)), bar)


def _told(seen: Seen) -> dict[str, Any]:
    if seen.counts is None:
        return shown.summary(seen.fan_outs[0])
    return {"queue": dataclasses.asdict(seen.counts), "fan_outs": [shown.summary(found) for found in seen.fan_outs]}
