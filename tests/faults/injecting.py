"""The small whole life of two fan-outs, in which calls of queue and ledger go wrong.

Producer, two workers with their reconcilers, and an operator have each a queue and a ledger of their own on one file,
as processes have. The clock is moved whenever no call is under way, so nothing depends on the machine's speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from typing import Any

import apps

from fanfold import Fanfold, Reject, Retry, TaskState, ids
from fanfold.errors import FanfoldError, StorageBusyError
from fanfold.model import FOLD_NAME, EntryError, SendResult

ACTS = [
    "broker.send", "broker.receive", "broker.extend", "broker.delete", "broker.dead_letter",
    "ledger.open", "ledger.sent", "ledger.claim", "ledger.finish", "ledger.get", "ledger.cancel", "ledger.summary",
    "ledger.rerun",
]  # fmt: skip
ROUNDS = [
    "ledger.lead", "ledger.unsent", "ledger.stalled", "ledger.overdue", "ledger.list", "ledger.unfolded",
    "ledger.unended_folds", "ledger.purge",
]  # fmt: skip
"""What the reconciler asks for ever, whether there is anything to find or not."""
LOOKS = [*ROUNDS, "broker.dead_letter_count", "broker.dead_letters", "ledger.stopped"]
"""ACTS and LOOKS are every method that a run calls, or is wrapped here: what does something once, and what looks."""

AWAY = StorageBusyError("the file is locked, says the test")
ENTRY = EntryError(code="StorageBusy", text=str(AWAY), retryable=True)
LATE = 100.0
"""Seconds that a late call takes: longer than a lease."""
SLOW = 30.0
"""Seconds that a slow task takes."""
STEP = 5.0
PATIENCE = 7_200.0
"""Seconds, on the moved clock, after which nothing will come any more."""
_LOOK = 0.0005
_QUIET = 3
_LONG = 100
"""Looks after which what waits is waiting for the clock: the poll that has found it is a late one."""

FIRST, SECOND = "doc-1", "doc-2"
NAMES = ["good", "hopeless", "unlucky"]


@dataclass(frozen=True, eq=False)
class Call:
    """A call that is about to be made. `given` is what it is about: entries, or an id."""

    faults: Faults
    method: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def given(self):
        return self.args[0] if self.args else None

    async def make(self):
        return await self.function(*self.args, **self.options)

    def refusal(self):
        """How the method says that queue or ledger are away: entry by entry, or by raising."""
        if self.method == "broker.send":
            return [SendResult(error=ENTRY)] * len(self.given)
        if self.method in {"broker.extend", "broker.delete", "broker.dead_letter"}:
            return [ENTRY] * len(self.given)
        raise AWAY


# What can become of a call


async def well(call):
    return await call.make()


async def error_before(call):
    return call.refusal()


async def error_after(call):
    await call.make()
    return call.refusal()


async def late(call):
    call.faults.under_way.discard(call)  # what it waits for is the clock
    await call.faults.clock.sleep(LATE)
    return await call.make()


async def killed_before(_call):
    apps.die()


async def killed_after(call):
    await call.make()
    apps.die()


class Faults:
    """Counts the calls of all parts, and lets some go wrong: `{(method, 3): late}` is the third call of that method."""

    def __init__(self, clock, faults=None, *, jumps=None):
        self.clock, self.faults, self.jumps = clock, faults or {}, jumps or {}
        self.happened = []
        self.counts = Counter()
        self.under_way = set()
        self._guard = threading.Lock()  # the heartbeats call from threads of their own

    async def watch(self, app):
        """Let the calls of an application's parts go through here."""
        parts = await app._open()
        for method in (*ACTS, *LOOKS):
            part, name = method.split(".")
            target = getattr(parts, part)
            setattr(target, name, self._watched(method, getattr(target, name)))

    async def have_come_round(self):
        """Whether what comes by the clock, whatever else there is, and is to go wrong the first time, has come."""
        return all(self.counts[method] for method, nth in self.faults if method in ROUNDS and nth == 1)

    def _watched(self, method, function):
        async def watched(*args, **options):
            call = Call(self, method, function, args, options)
            if isinstance(call.given, list) and not call.given:
                return await call.make()  # nothing is asked
            if method != "broker.receive":  # a poll that waits isn't under way: what it waits for may need the clock
                self.under_way.add(call)
            try:
                return await self._fault_of(method)(call)
            finally:
                self.under_way.discard(call)

        return watched

    def _fault_of(self, method):
        with self._guard:
            self.counts[method] += 1
            fault = self.faults.get((method, self.counts[method]))
        if fault is None:
            return well
        self.happened.append(fault)
        return fault

    async def move_the_clock(self, observer):
        """Move it when for some looks no call was under way, nor made, and nothing waits for a poll to find it."""
        quiet, counts, steps = 0, None, itertools.count(1)
        while True:
            await asyncio.sleep(_LOOK)
            quiet = 0 if self.under_way or counts != self.counts.total() else quiet + 1
            counts = self.counts.total()
            if quiet >= _LONG or (quiet >= _QUIET and not await is_ready(observer)):
                self.clock.advance(self.jumps.get(next(steps), STEP))
                quiet = 0


def application(url, clock):
    """Tasks of every kind of ending, and a completion. What is hopeless is so in the first generation only."""
    app = Fanfold(url, clock=clock, max_attempts=1_000)

    @app.task("good")
    async def good(): ...

    @app.task("hopeless")
    async def hopeless():
        fan_out = await app.fan_out(ids.derived_fan_out_id(FIRST, "1")).get_async()
        if not fan_out.generation:
            raise Reject("never")

    @app.task("unlucky")
    async def unlucky(context):
        await clock.sleep(SLOW)  # over beats of its lease, and rounds of the reconciler
        if context.attempt == 1:
            raise Retry("once more", delay=1)

    app.on_complete(good)
    return app


async def live(url, faults):
    """Two fan-outs: one whose failed task is run again, one that is cancelled. Returns when all is over."""
    async with AsyncExitStack() as stack:
        observer, *made = [await stack.enter_async_context(application(url, faults.clock)) for _ in range(5)]
        for app in made:
            await faults.watch(app)
        moving = asyncio.create_task(faults.move_the_clock(observer))
        stack.callback(moving.cancel)  # after the workers have stopped: what is late must come to its end
        producer, operator, *working = made
        for app in working:
            worker = await app.worker()
            stack.push_async_callback(worker.stop, 0)
            await worker.start()
        await story(observer, producer, operator)
        await until(observer, faults.have_come_round)


async def story(observer, producer, operator):
    """What producer and operator do, each step only where it wasn't done before: a second life goes on with a first."""
    first, second = (ids.derived_fan_out_id(*event) for event in ((FIRST, "1"), (SECOND, "2")))
    await accepted(observer, lambda: producer.enqueue_async(FIRST, NAMES, event_id="1"), first)
    await until(observer, lambda: is_folded(observer, first, generations=1))
    await accepted(observer, lambda: producer.enqueue_async(SECOND, NAMES[:1] + NAMES[2:], event_id="2"), second)
    await again_and_again(operator.fan_out(second).cancel_async)
    if not (await observer.fan_out(first).summary_async()).generation:
        await again_and_again(operator.fan_out(first).rerun_async)
    await until(observer, lambda: is_folded(observer, first, generations=2))
    await until(observer, lambda: is_folded(observer, second, generations=1))
    await until(observer, lambda: is_empty(observer))


async def accepted(observer, enqueue, fan_out_id):
    """Enqueue until the ledger knows of it: then it is the workers' business, whatever the producer was told."""
    while await observer.fan_out(fan_out_id).get_async() is None:
        with contextlib.suppress(FanfoldError):
            await enqueue()


async def again_and_again(command):
    """As an operator does who is told of an error."""
    while True:
        with contextlib.suppress(FanfoldError):
            return await command()


async def is_folded(observer, fan_out_id, generations):
    summary = await observer.fan_out(fan_out_id).summary_async()
    return summary.generation >= generations or (
        summary.generation == generations - 1 and summary.fold_state is TaskState.SUCCEEDED
    )


async def is_ready(observer):
    ready_in = await (await observer.broker()).ready_in()
    return ready_in is not None and ready_in <= 0


async def is_empty(observer):
    counts = await observer.status_async()
    return counts.messages_available == counts.messages_in_flight == 0


async def until(observer, holds):
    """Look until it holds; what hasn't come after hours, on the moved clock, never will."""
    ends = observer.clock.now() + PATIENCE
    while not await holds():
        if observer.clock.now() > ends:
            found = [await observer.fan_out(f.fan_out_id).get_async() for f in await observer.fan_outs_async()]
            raise AssertionError(f"this is for ever: {await observer.status_async()}, {found}")
        await asyncio.sleep(_LOOK)


# What the file itself has seen: no process's memory is asked


def write_down(path):
    """Let the ledger's file note each task that ends as `succeeded`."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE successes (fan_out INTEGER, task_name TEXT, generation INTEGER)")
        connection.execute(
            "CREATE TRIGGER note AFTER UPDATE OF terminal ON tasks "
            "WHEN NEW.terminal = 'succeeded' AND OLD.terminal IS NOT 'succeeded' "
            "BEGIN INSERT INTO successes VALUES (NEW.fan_out, NEW.task_name, NEW.generation); END"
        )


def successes(path):
    """How often each (entity, task, generation) became a success."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT f.entity_id, s.task_name, s.generation "
            "FROM successes AS s JOIN fan_outs AS f ON f.number = s.fan_out"
        )
        return Counter(found)


async def assert_the_promise_is_kept(url, path, *, lettered=True):
    """Every name ended, each success was recorded once, and each generation has one fold.

    Where the dead task was run again before its letter could be made, it has none: its message is superseded.
    """
    async with Fanfold(url) as app:
        first, second = [await app.fan_out(f.fan_out_id).get_async() for f in reversed(await app.fan_outs_async())]
        letters = await (await app.broker()).dead_letters(100)
    assert [(task.task_name, task.state) for task in first.tasks] == [(name, TaskState.SUCCEEDED) for name in NAMES]
    assert [task.task_name for task in second.tasks if task.state.terminal] == ["good", "unlucky"]
    once = {(FIRST, "good", 0), (FIRST, "unlucky", 0), (FIRST, "hopeless", 1)}
    folds = {(FIRST, FOLD_NAME, 0), (FIRST, FOLD_NAME, 1), (SECOND, FOLD_NAME, 0)}
    done = {(SECOND, task.task_name, 0) for task in second.tasks if task.state is TaskState.SUCCEEDED}
    assert successes(path) == Counter(once | folds | done)
    found = {(letter.task.task_name, letter.reason) for letter in letters}
    assert found == {("hopeless", "Reject: never")} or not (lettered or found)
