"""A discrete-event simulation of a queue and its workers, to check the formulas and to see what they can't say."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fanfold import limits
from fanfold.deploy.scenario import Course, Scenario
from fanfold.errors import MissingExtraError

if TYPE_CHECKING:
    import simpy

_POLLS: Final = 3
_BATCH: Final = limits.MAX_BATCH_ENTRIES

Waiting = tuple[float, int]
"""When a task arrived, and which attempt comes next."""


def simulate(scenario: Scenario) -> Course:
    """Let a scenario run its course: until every task is done or dead.

    Raises:
        MissingExtraError: simpy isn't installed.
    """
    try:
        import simpy  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("the simulation needs simpy: pip install 'fanfold[plan]'") from error
    env = simpy.Environment()
    world = _World(scenario, env)
    for _ in range(scenario.workers):
        env.process(_Worker(world).poll_forever())
    world.start()
    env.run(until=world.over)
    return world.course


class _World:
    """What all workers share: the clock, the queue, what comes in, and the account of it all."""

    def __init__(self, scenario: Scenario, env: simpy.Environment) -> None:
        self.scenario = scenario
        self.env = env
        self.rng = random.Random(scenario.seed)  # noqa: S311 - a simulation
        self.course = Course()
        self.over = env.event()
        self._waiting: deque[Waiting] = deque()
        self._in_flight = 0
        self._polls: dict[simpy.Event, None] = {}

    def start(self) -> None:
        """Let it come in: at random, or all at once."""
        if self.scenario.rate:
            self.env.process(self._arrivals())
        else:
            self._add([(0.0, 1)] * self.scenario.tasks)

    def take(self, most: int) -> list[Waiting]:
        """Receive. At its limit of messages in flight, SQS answers with none, and without an error."""
        most = min(most, len(self._waiting), self.scenario.in_flight_limit - self._in_flight)
        self._in_flight += most
        self.course.most_in_flight = max(self.course.most_in_flight, self._in_flight)
        self.course.receives += most > 0
        return [self._waiting.popleft() for _ in range(most)]

    def wait_for_some(self) -> simpy.Event:
        """Happens when something is there to receive."""
        event = self.env.event()
        self._polls[event] = None
        return event

    def wait_no_more(self, event: simpy.Event) -> None:
        """Its poll has ended: what comes later is another's to be told."""
        self._polls.pop(event, None)

    def away(self) -> float:
        """Seconds until the queue answers: 0 unless its region is away."""
        outage = self.scenario.outage
        return outage[1] - self.env.now if outage is not None and _inside(outage, self.env.now) else 0.0

    def fails(self) -> bool:
        """Whether a run that ends now fails."""
        return _inside(self.scenario.poisoned, self.env.now) or self.rng.random() < self.scenario.failures

    def settle(self, done: int, dead: int) -> None:
        """Tell that so many tasks are over."""
        self._in_flight -= done + dead
        self.course.done += done
        self.course.dead += dead
        if self.course.done + self.course.dead == self.scenario.tasks:
            self.course.seconds = self.env.now
            self.over.succeed()
        self._wake()

    def come_back(self, task: Waiting) -> None:
        """Let a failed task be tried again after its delay; SQS counts it as in flight till then."""
        delay = self.scenario.backoff.delay(task[1], self.rng)
        self.env.timeout(delay).callbacks.append(partial(self._back, (task[0], task[1] + 1)))

    def _back(self, task: Waiting, _: simpy.Event) -> None:
        self._in_flight -= 1
        self._add([task])

    def _arrivals(self) -> Generator[Any, Any, None]:
        left, scenario = self.scenario.tasks, self.scenario
        while left:
            yield self.env.timeout(self.rng.expovariate(scenario.drawn))
            if self.rng.random() < scenario.share(self.env.now):
                came = min(left, scenario.fan_out)
                left -= came
                self._send([(self.env.now, 1)] * came)

    def _send(self, tasks: list[Waiting]) -> None:
        """Nobody can send while the region is away either; what has come by then is sent when it is back."""
        if (away := self.away()) > 0:
            self.env.timeout(away).callbacks.append(lambda _: self._add(tasks))
        else:
            self._add(tasks)

    def _add(self, tasks: list[Waiting]) -> None:
        self._waiting.extend(tasks)
        self.course.most_waiting = max(self.course.most_waiting, len(self._waiting))
        self._wake()

    def _wake(self) -> None:
        for _ in range(min(len(self._polls), -(-len(self._waiting) // _BATCH))):
            event = next(iter(self._polls))
            del self._polls[event]
            event.succeed()


class _Worker:
    """One worker: polls for free slots, runs, and settles what ends together in one request."""

    def __init__(self, world: _World) -> None:
        self._world = world
        self._env = world.env
        self._free = world.scenario.concurrency
        self._polls = 0
        self._plenty = False
        self._changed = world.env.event()
        self._batch: list[tuple[Waiting, bool]] = []

    def poll_forever(self) -> Generator[Any, Any, None]:
        wanted = min(_BATCH, self._world.scenario.concurrency)
        while True:
            while not self._free or self._polls >= (_POLLS if self._plenty else 1):
                yield self._change()
            if self._free < wanted:
                yield self._env.timeout(self._world.scenario.linger)  # for more free slots
            count = min(wanted, self._free)
            self._free -= count
            self._polls += 1
            self._env.process(self._poll(count))

    def _poll(self, count: int) -> Generator[Any, Any, None]:
        world, scenario = self._world, self._world.scenario
        yield self._env.timeout(scenario.round_trip + world.away())
        tasks = world.take(count)
        ends = self._env.timeout(scenario.poll)
        while not tasks and not ends.processed:
            some = world.wait_for_some()
            yield some | ends
            world.wait_no_more(some)
            tasks = world.take(count)
        world.course.empty += not tasks
        self._polls -= 1
        self._plenty = len(tasks) == count
        self._give_back(count - len(tasks))
        for task in tasks:
            self._run(task)

    def _run(self, task: Waiting) -> None:
        world, course = self._world, self._world.course
        if task[1] == 1:
            course.waited += self._env.now - task[0]
            course.longest_wait = max(course.longest_wait, self._env.now - task[0])
        took = world.scenario.run_time(world.rng)
        course.runs += 1
        course.busy += took
        self._env.timeout(took).callbacks.append(partial(self._ended, task))

    def _ended(self, task: Waiting, _: simpy.Event) -> None:
        self._batch.append((task, self._world.fails()))
        if len(self._batch) == _BATCH:
            self._flush()
        elif len(self._batch) == 1:
            first = self._batch
            self._env.timeout(self._world.scenario.linger).callbacks.append(lambda _: self._flush(first))

    def _flush(self, only: list[tuple[Waiting, bool]] | None = None) -> None:
        if only is None or only is self._batch:
            batch, self._batch = self._batch, []
            answered = self._env.timeout(self._world.scenario.round_trip + self._world.away())
            answered.callbacks.append(partial(self._settled, batch))

    def _settled(self, batch: list[tuple[Waiting, bool]], _: simpy.Event) -> None:
        world = self._world
        failed = [task for task, fails in batch if fails]
        dead = [task for task in failed if task[1] >= world.scenario.attempts]
        for task in failed:
            if task[1] < world.scenario.attempts:
                world.come_back(task)
        world.course.deletes += len(failed) < len(batch) or bool(dead)
        world.course.changes += len(failed) > len(dead)
        self._give_back(len(batch))
        world.settle(len(batch) - len(failed), len(dead))

    def _give_back(self, count: int) -> None:
        self._free += count
        if self._changed.callbacks:  # somebody waits for it
            changed, self._changed = self._changed, self._env.event()
            changed.succeed()

    def _change(self) -> simpy.Event:
        return self._changed


def _inside(span: tuple[float, float] | None, now: float) -> bool:
    return span is not None and span[0] <= now < span[1]
