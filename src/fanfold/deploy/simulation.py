"""A discrete-event simulation of a queue and its workers, to check the formulas and to see what they can't say."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fanfold.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    import simpy


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What comes in, and who works on it. Times are seconds.

    `rate` tasks a second come at random; 0: all are there at the start. `outage` is when nobody works (a region is
    away, from and to); in `poisoned` each run fails (a bad deployment, from and to). Failed runs are tried again after
    `delay`, `attempts` in all; then the task is dead.
    """

    tasks: int
    seconds: float
    slots: int
    rate: float = 0.0
    failures: float = 0.0
    attempts: int = 5
    delay: float = 30.0
    outage: tuple[float, float] | None = None
    poisoned: tuple[float, float] | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if self.tasks < 1 or self.slots < 1 or self.seconds <= 0 or self.rate < 0:
            raise ConfigurationError("a simulation has at least 1 task and 1 slot, seconds above 0 and a rate from 0")


@dataclass(slots=True)
class Course:
    """How it went: seconds from the first arrival to the last end, and waits from arrival to a first start."""

    done: int = 0
    dead: int = 0
    runs: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    waited: float = 0.0
    longest_wait: float = 0.0
    most_waiting: int = 0

    @property
    def mean_wait(self) -> float:
        """Seconds from arrival to the first start, on average."""
        return self.waited / max(1, self.done + self.dead)

    def utilization(self, slots: int) -> float:
        """The share of its slots' time in which there was work."""
        return self.busy / (slots * self.seconds) if self.seconds else 0.0


def simulate(scenario: Scenario) -> Course:
    """Let a scenario run its course.

    Raises:
        MissingExtraError: simpy isn't installed.
    """
    try:
        import simpy  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("the simulation needs simpy: pip install 'fanfold[plan]'") from error
    return _Run(scenario, simpy.Environment()).course()


class _Run:
    """One run: arrivals, slots that take the oldest task, and retries that come back."""

    def __init__(self, scenario: Scenario, env: simpy.Environment) -> None:
        self._scenario = scenario
        self._env = env
        self._rng = random.Random(scenario.seed)  # noqa: S311 - a simulation
        self._waiting: deque[tuple[float, int]] = deque()
        self._idle: list[simpy.Event] = []
        self._course = Course()

    def course(self) -> Course:
        if self._scenario.rate:
            self._env.process(self._arrivals())
        else:
            self._waiting.extend((0.0, 1) for _ in range(self._scenario.tasks))
            self._course.most_waiting = self._scenario.tasks
        for _ in range(min(self._scenario.slots, self._scenario.tasks)):
            self._env.process(self._slot())
        self._env.run()
        return self._course

    def _arrivals(self) -> Generator[Any, Any, None]:
        for _ in range(self._scenario.tasks):
            yield self._env.timeout(self._rng.expovariate(self._scenario.rate))
            self._add(self._env.now, 1)

    def _add(self, arrived: float, attempt: int) -> None:
        self._waiting.append((arrived, attempt))
        self._course.most_waiting = max(self._course.most_waiting, len(self._waiting))
        if self._idle:
            self._idle.pop().succeed()

    def _slot(self) -> Generator[Any, Any, None]:
        env, course, mean = self._env, self._course, self._scenario.seconds
        while True:
            if not self._waiting:
                free = env.event()
                self._idle.append(free)
                yield free
                continue
            if (away := self._away()) > 0:
                yield env.timeout(away)
                continue
            arrived, attempt = self._waiting.popleft()
            if attempt == 1:
                course.waited += env.now - arrived
                course.longest_wait = max(course.longest_wait, env.now - arrived)
            took = self._rng.expovariate(1 / mean)
            yield env.timeout(took)
            course.runs += 1
            course.busy += took
            self._end(arrived, attempt)

    def _end(self, arrived: float, attempt: int) -> None:
        course, scenario = self._course, self._scenario
        if not (_inside(scenario.poisoned, self._env.now) or self._rng.random() < scenario.failures):
            course.done += 1
        elif attempt >= scenario.attempts:
            course.dead += 1
        else:
            self._env.process(self._again(arrived, attempt + 1))
            return
        course.seconds = self._env.now

    def _again(self, arrived: float, attempt: int) -> Generator[Any, Any, None]:
        yield self._env.timeout(self._scenario.delay * 2 ** (attempt - 2))
        self._add(arrived, attempt)

    def _away(self) -> float:
        """Seconds until somebody works again."""
        outage = self._scenario.outage
        return outage[1] - self._env.now if outage is not None and _inside(outage, self._env.now) else 0.0


def expected_wait(rate: float, seconds: float, slots: int) -> float:
    """Seconds that a task waits for a slot on average: Erlang's C, for random arrivals and run times (M/M/c).

    Infinite where more comes in than can be done.
    """
    busy = rate * seconds
    if busy >= slots:
        return math.inf
    blocked = 1.0  # Erlang's B, slot by slot: no factorials, so no overflow
    for slot in range(1, slots + 1):
        blocked = busy * blocked / (slot + busy * blocked)
    waits = blocked / (1 - busy / slots * (1 - blocked))
    return waits * seconds / (slots - busy)


def _inside(span: tuple[float, float] | None, now: float) -> bool:
    return span is not None and span[0] <= now < span[1]
