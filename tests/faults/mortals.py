"""Whole applications on one loop that can be killed at any point, and a clock that is moved when they are at rest.

Each has a queue and a ledger of its own, as a process has. A dead one has no effect any more: its calls aren't made,
its tasks are cancelled, and what was under way in its threads ends unseen, as a request does whose sender died.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections import Counter
from enum import Enum

from botocore.exceptions import ConnectTimeoutError
from injecting import ACTS, LOOKS, Call, is_ready

from dynamodb_clients import Wrapped
from fanfold import Fanfold, Reject, Retry
from fanfold.errors import FanfoldError
from fanfold.model import TaskState

REQUEST = "request"
"""What stands for a method where a fault comes to one of DynamoDB's requests, of which a call may make several."""
SLOW = 30.0
"""Seconds that a slow task takes: beats of its lease, and rounds of the reconciler."""
STEP = 5.0
_LOOK = 0.0005
_QUIET = 3
_LONG = 100
"""Looks after which what waits is waiting for the clock."""

_mortal: contextvars.ContextVar[Mortal | None] = contextvars.ContextVar("mortal", default=None)


class Way(Enum):
    """What may become of a call, before it has its effect or after."""

    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    KILL_BEFORE = "kill before"
    KILL_AFTER = "kill after"

    @property
    def kills(self):
        return self in (Way.KILL_BEFORE, Way.KILL_AFTER)

    @property
    def comes_after(self):
        return self in (Way.ERROR_AFTER, Way.KILL_AFTER)


class Book:
    """What was seen of all applications' calls: which successes were recorded, and what must not have happened."""

    def __init__(self):
        self.successes = {}
        self.over = {}
        self.wrongs = []
        self.happened = Counter()

    def before_claims(self, claims):
        """Which of these tasks were over, in their generation, before anybody asked."""
        keys = [(claim.fan_out_id, claim.task_name) for claim in claims]
        return [self.over.get(key, -1) >= claim.generation for key, claim in zip(keys, claims, strict=True)]

    def claimed(self, claims, over, answers):
        for claim, was_over, answer in zip(claims, over, answers, strict=True):
            if was_over and answer is not None and answer.state is TaskState.RUNNING:
                self.wrongs.append(f"it runs again after its end: {claim}")

    def finished(self, finishes, answers):
        for finish, answer in zip(finishes, answers, strict=True):
            if answer.applied and finish.state.terminal:
                self._end(finish.fan_out_id, finish.task_name, finish.generation)
            if answer.applied and finish.state is TaskState.SUCCEEDED:
                key = finish.fan_out_id, finish.task_name, finish.generation
                self.successes.setdefault(key, set()).add(finish.attempt)

    def cancelled(self, fan_out_id, generation, names):
        for name in names:
            self._end(fan_out_id, name, generation)

    def _end(self, fan_out_id, task_name, generation):
        key = fan_out_id, task_name
        self.over[key] = max(generation, self.over.get(key, -1))


class Mortal:
    """An application, with a worker or without, until it dies. `faults`, by method: which call, and what becomes of it."""

    def __init__(self, app, book):
        self.app, self.book = app, book
        self.faults = {}
        self.dead = False
        self.stalled_until = 0.0
        self.worker = None
        self.tasks = weakref.WeakSet()
        self.under_way = set()
        self.calls = 0

    async def live(self, *, working):
        """Open queue and ledger, and begin to work."""
        parts = await self.app._open()
        for method in (*ACTS, *LOOKS):
            part, name = method.split(".")
            target = getattr(parts, part)
            setattr(target, name, self._watched(method, getattr(target, name)))
        if store := getattr(parts.ledger, "_open_store", None):
            store._client = Doomed(store._client, self)
        if working:
            self.worker = await self.app.worker()
            await self.act(self.worker.start)

    async def act(self, function, *args, **options):
        """Do something as this application; None where it dies of it, or is told of an error."""
        task = contextvars.copy_context().run(self._begin, function(*args, **options))
        await asyncio.wait([task])
        return task.result() if not task.cancelled() and not isinstance(task.exception(), FanfoldError) else None

    async def bury(self):
        """Let nothing be left of it."""
        self.dead = True
        while left := [task for task in self.tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        if self.worker is not None:
            await self.worker._leases.stop()
            self.worker._executor.close()
        await self.app.close_async()

    def fault(self, method):
        """What is to become of a call that is about to be made, or None."""
        left, way = self.faults.get(method, (0, None))
        if left > 1:
            self.faults[method] = left - 1, way
            return None
        self.faults.pop(method, None)
        if way is not None:
            self.book.happened[way] += 1
        return way

    def _begin(self, coroutine):
        _mortal.set(self)
        return asyncio.ensure_future(coroutine)

    def _watched(self, method, function):
        async def watched(*args, **options):
            call = Call(self, method, function, args, options)
            if isinstance(call.given, list) and not call.given:
                return await call.make()  # nothing is asked
            await self._wake_up()
            self.calls += 1
            way = self.fault(method)
            if way is Way.KILL_BEFORE:
                self.dead = True
                raise asyncio.CancelledError
            if way is Way.ERROR_BEFORE:
                return call.refusal()
            if method != "broker.receive":  # a poll waits for the clock
                self.under_way.add(call)
            try:
                answer = await self._made(method, call)
            finally:
                self.under_way.discard(call)
            self.dead = self.dead or way is Way.KILL_AFTER
            await self._wake_up()
            return call.refusal() if way is Way.ERROR_AFTER else answer

        return watched

    async def _wake_up(self):
        """Wait, before a call and for its answer, while it is stalled, as a process is that gets no CPU."""
        while not self.dead and self.stalled_until > self.app.clock.now():
            await self.app.clock.sleep(self.stalled_until - self.app.clock.now())
        if self.dead:
            raise asyncio.CancelledError

    async def _made(self, method, call):
        """Make a call that goes on when its caller dies, and write down what it did."""
        if not method.startswith("ledger."):
            return await call.make()
        return await asyncio.shield(contextvars.Context().run(asyncio.ensure_future, self._written_down(method, call)))

    async def _written_down(self, method, call):
        over = self.book.before_claims(call.given) if method == "ledger.claim" else ()
        answer = await call.make()
        if method == "ledger.claim":
            self.book.claimed(call.given, over, answer)
        elif method == "ledger.finish":
            self.book.finished(call.given, answer)
        return answer


class Doomed(Wrapped):
    """DynamoDB's client of an application that may die between two requests of one call."""

    def __init__(self, client, mortal):
        super().__init__(client)
        self.mortal = mortal

    def close(self):
        """It is shared by all."""

    def around(self, _name, _payload, call):
        way = None if self.mortal.dead else self.mortal.fault(REQUEST)
        self.mortal.dead = self.mortal.dead or (way is not None and way.kills)
        answer = call() if not self.mortal.dead or (way is not None and way.comes_after) else None
        if self.mortal.dead or way is not None:
            raise ConnectTimeoutError(endpoint_url="http://ledger")
        return answer


class World:
    """All applications on one queue and one ledger, and their clock. For one running loop."""

    WORKERS = "left", "right"

    def __init__(self, make, clock):
        """`make` makes an application."""
        self.book = Book()
        self.clock = clock
        self._make = make
        self.mortals = {}
        self.observer = make()

    async def begin(self):
        """Let them all live."""
        asyncio.get_running_loop().set_task_factory(_factory)
        await self.mortal("producer")
        for name in self.WORKERS:
            await self.mortal(name)

    async def mortal(self, name):
        """The one of this name that lives: the next, where the last has died."""
        if (known := self.mortals.get(name)) is None or known.dead:
            if known is not None:
                await known.bury()
            self.mortals[name] = Mortal(self._make(), self.book)
            await self.mortals[name].live(working=name in self.WORKERS)
        return self.mortals[name]

    async def kill(self, name):
        """Kill it, whatever it does."""
        if name in self.mortals:
            await self.mortals[name].bury()

    async def pass_time(self, seconds):
        """Move the clock in steps, each when all have come to rest."""
        ends = self.clock.now() + seconds
        while self.clock.now() < ends:
            await self._rest()
            self.clock.advance(min(STEP, ends - self.clock.now()))
        await self._rest()

    async def end(self):
        """Let nothing be left."""
        for name in list(self.mortals):
            await self.kill(name)
        await self.observer.close_async()

    async def _rest(self):
        quiet, before = 0, None
        while not (quiet >= _LONG or (quiet >= _QUIET and not await is_ready(self.observer))):
            await asyncio.sleep(_LOOK)
            for mortal in self.mortals.values():
                if mortal.dead and any(not task.done() for task in mortal.tasks):
                    await mortal.bury()
            now = sum(mortal.calls for mortal in self.mortals.values())
            busy = any(mortal.under_way for mortal in self.mortals.values() if not mortal.dead)
            quiet = 0 if busy or now != before else quiet + 1
            before = now


def application(url, ledger, clock):
    """Tasks of every kind of ending, and a completion."""
    app = Fanfold(url, ledger=ledger, clock=clock, max_attempts=1_000)

    @app.task("good")
    async def good(): ...

    @app.task("hopeless")
    async def hopeless():
        raise Reject("never")

    @app.task("unlucky")
    async def unlucky(context):
        await clock.sleep(SLOW)
        if context.attempt == 1:
            raise Retry("once more", delay=1)

    app.on_complete(good)
    return app


def _factory(loop, coroutine, **options):
    task = asyncio.Task(coroutine, loop=loop, **options)
    if (mortal := _mortal.get()) is not None:
        mortal.tasks.add(task)
    return task
