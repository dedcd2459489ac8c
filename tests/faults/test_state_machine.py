"""Producer, two workers with their reconcilers, an operator, a clock and faults, in any order, on each ledger."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from injecting import ACTS, LOOKS
from mortals import REQUEST, Way, World, application

from fanfold import ids
from fanfold.ledgers.dynamodb import ledger as dynamodb
from fanfold.model import FOLD_NAME, TaskState
from fanfold.testing import FakeClock
from servers import table_of

OF_PRODUCERS = ["broker.send", "ledger.open", "ledger.sent", "ledger.summary", "ledger.cancel", "ledger.rerun"]
NAMES = ["good", "hopeless", "unlucky"]
PLANS = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
ENTITY = st.sampled_from(["first", "second"])


def faults(methods, most):
    """Faults by the method that they come to: to which of its calls from then on, and what becomes of that."""
    way = st.tuples(st.integers(1, most), st.sampled_from(Way))
    return st.dictionaries(st.sampled_from([*methods, REQUEST]), way, max_size=2)


BY_PRODUCER = faults(OF_PRODUCERS, 2)
BY_WORKER = faults([*(method for method in ACTS if method not in OF_PRODUCERS), "broker.send", *LOOKS], 4)
KINDS = {"sqlite": 20, "postgres": 12, "dynamodb": 4}
"""Examples of each: fewer where each request is one to moto's server, which takes its time."""
PATIENCE = 7_200.0
"""Seconds, on the moved clock, after which nothing will come any more."""


class Machine(RuleBasedStateMachine):
    """Everything that can happen to two fan-outs. In the end all come back, nothing fails any more, and all is over."""

    def __init__(self, make, clock, runner, number):
        super().__init__()
        self.runner = runner
        self.number = number
        self.opened = {}
        self.world = World(lambda: make(number), clock)
        runner.run(self.world.begin())

    @initialize(names=PLANS, faults=BY_PRODUCER)
    def an_event_arrives_first(self, names, faults):
        self.opened["first"] = names
        self.runner.run(self.enqueue("first", faults))

    @rule(names=PLANS, faults=BY_PRODUCER)
    def another_event_arrives(self, names, faults):
        self.opened.setdefault("second", names)
        self.runner.run(self.enqueue("second", faults))

    @rule(faults=BY_PRODUCER)
    def the_first_event_arrives_again(self, faults):
        self.runner.run(self.enqueue("first", faults))

    @rule(of=ENTITY, name=st.none() | st.sampled_from(NAMES), faults=BY_PRODUCER)
    def a_fan_out_or_a_task_of_it_is_cancelled(self, of, name, faults):
        self.runner.run(self.cancel(of, name, faults))

    @rule(of=ENTITY, failed_only=st.booleans(), faults=BY_PRODUCER)
    def a_fan_out_is_run_again(self, of, failed_only, faults):
        self.runner.run(self.rerun(of, faults, failed_only=failed_only))

    @rule(seconds=st.sampled_from([0.0, 5.0, 30.0, 90.0]), left=BY_WORKER, right=BY_WORKER)
    def time_passes(self, seconds, left, right):
        self.runner.run(self.work(seconds, left, right))

    @rule(whose=st.sampled_from(World.WORKERS), seconds=st.sampled_from([10.0, 100.0]))
    def a_worker_stalls(self, whose, seconds):
        self.runner.run(self.stall(whose, seconds))

    @rule(whose=st.sampled_from(World.WORKERS))
    def a_worker_is_killed_whatever_it_does(self, whose):
        self.runner.run(self.world.kill(whose))

    @rule(whose=st.sampled_from(World.WORKERS))
    def a_worker_comes_back(self, whose):
        self.runner.run(self.world.mortal(whose))

    @invariant()
    def nothing_runs_after_its_end(self):
        assert self.world.book.wrongs == []

    def teardown(self):
        try:
            self.runner.run(self.everything_ends())
            assert self.world.book.wrongs == []
        finally:
            self.runner.run(self.world.end())

    async def enqueue(self, entity, faults):
        producer = await self.producer(faults)
        await producer.act(producer.app.enqueue_async, self.named(entity), self.opened[entity], event_id="1")

    async def cancel(self, of, name, faults):
        if (known := await self.look(of)) is not None and (name is None or name in self.opened[of]):
            operator = await self.producer(faults)
            names = [name] if name is not None else []
            cancelled = await operator.act(operator.app.fan_out(known.fan_out_id).cancel_async, *names)
            self.world.book.cancelled(known.fan_out_id, known.generation, cancelled or ())

    async def rerun(self, of, faults, *, failed_only):
        operator = await self.producer(faults)
        await operator.act(operator.app.fan_out(self.fan_out_id(of)).rerun_async, failed_only=failed_only)

    async def work(self, seconds, left, right):
        for whose, faults in zip(World.WORKERS, (left, right), strict=True):
            self.world.mortals[whose].faults |= faults
        await self.world.pass_time(seconds)

    async def stall(self, whose, seconds):
        self.world.mortals[whose].stalled_until = self.world.clock.now() + seconds

    async def producer(self, faults):
        """Who enqueues, cancels and runs again: each time the next process, where the last one died of it."""
        made = await self.world.mortal("producer")
        made.faults = dict(faults)
        return made

    async def everything_ends(self):
        for whose in World.WORKERS:
            (await self.world.mortal(whose)).faults.clear()
        for entity in self.opened:
            if await self.look(entity) is None:  # otherwise it is the workers' business, whatever the producer was told
                await self.enqueue(entity, {})
        for _ in range(int(PATIENCE / 60)):
            await self.world.pass_time(60)
            found = {entity: await self.look(entity) for entity in self.opened}
            status = await self.world.observer.status_async()
            if all(map(is_over, found.values())) and status.messages_available == status.messages_in_flight == 0:
                break
        for entity, fan_out in found.items():
            self.kept(fan_out, self.opened[entity])

    def kept(self, fan_out, names):
        """Every name ended, each success was recorded once, and each generation has at most one fold, the last one."""
        assert is_over(fan_out), f"this is for ever: {fan_out}"
        assert [task.task_name for task in fan_out.tasks] == names
        successes = self.world.book.successes
        for task in fan_out.tasks:
            if task.state is TaskState.SUCCEEDED:
                key = fan_out.fan_out_id, task.task_name, task.generation
                assert successes.get(key, {task.attempts}) == {task.attempts}
        assert all(len(attempts) == 1 for attempts in successes.values()), successes
        assert fan_out.fold_state is TaskState.SUCCEEDED
        folds = {key[2] for key in successes if key[:2] == (fan_out.fan_out_id, FOLD_NAME)}
        assert folds <= set(range(fan_out.generation + 1))

    async def look(self, entity):
        return await self.world.observer.fan_out(self.fan_out_id(entity)).get_async()

    def named(self, entity):
        return f"{entity}-{self.number}"

    def fan_out_id(self, entity):
        return ids.derived_fan_out_id(self.named(entity), "1")


def is_over(fan_out):
    return (
        fan_out is not None
        and fan_out.completed_at is not None
        and fan_out.fold_state is not None
        and fan_out.fold_state.terminal
    )


@pytest.fixture
def ledger_url(request, tmp_path, monkeypatch):
    """Makes the URL of a ledger of a kind; None is the queue's own file."""

    def make(kind):
        if kind == "postgres":
            return f"{request.getfixturevalue('postgres_url')}&connections=1"
        if kind == "dynamodb":
            client = request.getfixturevalue("dynamodb_client")
            monkeypatch.setattr(dynamodb, "make_client", lambda _: client)
            return f"dynamodb://{table_of(tmp_path)}?create=true"
        return None

    return make


@pytest.mark.timeout(600)  # a failure is first made small
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_happens_in_whatever_order_breaks_no_promise(kind, ledger_url, tmp_path):
    numbers, clock, ledger = itertools.count(), FakeClock(), ledger_url(kind)

    def make(number):
        return application(f"sqlite:///{tmp_path}/{number}.db?synchronous=NORMAL", ledger, clock)

    with asyncio.Runner() as runner:
        run_state_machine_as_test(
            lambda: Machine(make, clock, runner, next(numbers)),
            settings=settings(max_examples=KINDS[kind], stateful_step_count=12, deadline=None),
        )
