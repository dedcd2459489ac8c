"""Two workers, any order of events: every name ends once, and the completion is announced once."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_kinds import LEDGERS

from fanfold.ledgers.protocol import Claim, Finish, Opened, Plan
from fanfold.model import FOLD_NAME, Failure, TaskSpec, TaskState
from fanfold.testing import FakeClock

NAMES = ["words", "roof", "owner"]
WORKERS = ["left", "right"]
EXAMPLES = {"dynamodb": 20}
"""Fewer where each request is one to moto's server, which takes its time."""
ENDS = {
    TaskState.SUCCEEDED: {"result": "1"},
    TaskState.FAILED: {"failure": Failure(type="TimeoutError", message="slow")},
    TaskState.DEAD: {"failure": Failure(type="LookupError", message="no roof"), "dead": True},
}


@dataclass
class Expected:
    """A task as the protocol says it should stand."""

    state: TaskState = TaskState.PENDING
    attempts: int = 0
    generation: int = 0
    applied: list[tuple[int, TaskState]] = field(default_factory=list)

    def claim(self, generation):
        """Whether a claim starts an attempt."""
        if self.state.terminal or generation < self.generation:
            return False
        self.state, self.attempts, self.generation = TaskState.RUNNING, self.attempts + 1, generation
        return True

    def finish(self, generation, attempt, state):
        """Whether an end counts as applied."""
        if generation != self.generation:
            return False
        current = attempt in (None, self.attempts)
        unstarted = state is TaskState.DEAD and self.state in (TaskState.PENDING, TaskState.FAILED)
        if current and (self.state is TaskState.RUNNING or unstarted):
            self.state = state
            self.applied.append((self.attempts, state))
            return True
        return self.state is state and attempt == self.attempts

    def cancel(self):
        """Whether it is cancelled now."""
        if self.state.terminal:
            return False
        self.state = TaskState.CANCELLED
        return True


class Interleavings(RuleBasedStateMachine):
    """Messages are delivered to either worker at any time, as often as it pleases; workers die, are late, or repeat."""

    def __init__(self, ledger, fan_out_id, runner):
        super().__init__()
        self.ledger, self.fan_out_id, self.runner = ledger, fan_out_id, runner
        self.tasks = {}
        self.generation = 0
        self.fold = None
        self.folds = []
        self.fold_sent = False
        self.ended = False
        self.runs = []

    @initialize(names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    def an_event_arrives(self, names):
        self.tasks = {name: Expected() for name in names}
        self.event_arrives_again()

    @rule()
    def event_arrives_again(self):
        tasks = [TaskSpec(name) for name in self.tasks]
        plan = Plan(fan_out_id=self.fan_out_id, entity_id="doc-1", event_id="e1", metadata={}, tasks=tasks)
        states = {name: task.state for name, task in self.tasks.items()}
        assert self.runner.run(self.ledger.open(plan)) == Opened(generation=self.generation, states=states)

    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def messages_are_delivered(self, data, worker):
        message = st.tuples(st.sampled_from(list(self.tasks)), st.integers(0, self.generation))
        self.deliver(data.draw(st.lists(message, min_size=1, max_size=4)), worker)

    @precondition(lambda self: self.fold_sent)
    @rule(worker=st.sampled_from(WORKERS))
    def the_folds_message_is_delivered(self, worker):
        self.deliver([(FOLD_NAME, self.generation)], worker)

    @rule(worker=st.sampled_from(WORKERS))
    def a_fold_of_another_generation_is_delivered(self, worker):
        [answer] = self.claim([(FOLD_NAME, self.generation + 1)], worker)
        assert (answer.state, answer.attempt) == (TaskState.CANCELLED, 0)

    @rule(worker=st.sampled_from(WORKERS))
    def a_fold_is_delivered_that_nobody_should_have_sent(self, worker):
        if not self.complete:
            self.deliver([(FOLD_NAME, self.generation)], worker)

    @rule(data=st.data())
    def tasks_are_cancelled(self, data):
        names = data.draw(st.none() | st.lists(st.sampled_from(list(self.tasks)), min_size=1, unique=True))
        answer = self.runner.run(self.ledger.cancel(self.fan_out_id, names))
        assert set(answer.task_names) == {name for name in names or self.tasks if self.tasks[name].cancel()}
        self.settle()
        assert (answer.fold_due, answer.generation) == (self.fold_due, self.generation if self.fold_due else 0)
        self.fold_sent |= answer.fold_due

    @rule(data=st.data(), failed_only=st.booleans())
    def tasks_are_run_again(self, data, failed_only):
        names = data.draw(st.none() | st.lists(st.sampled_from(list(self.tasks)), min_size=1, unique=True))
        answer = self.runner.run(self.ledger.rerun(self.fan_out_id, names, failed_only=failed_only))
        chosen = [self.tasks[name] for name in names or self.tasks if self.tasks[name].state.terminal]
        chosen = [task for task in chosen if not (failed_only and task.state is TaskState.SUCCEEDED)]
        if chosen:
            self.generation += 1
            self.folds.append(self.fold)
            self.fold, self.fold_sent, self.ended = None, False, False
        for task in chosen:
            task.state, task.attempts, task.generation, task.applied = TaskState.PENDING, 0, self.generation, []
        waiting = [name for name, task in self.tasks.items() if task.state is TaskState.PENDING]
        assert [task.task_name for task in answer.tasks] == waiting
        assert answer.fan_out.generation == self.generation

    @precondition(lambda self: self.fold and self.fold.state is TaskState.DEAD)
    @rule()
    def a_dead_fold_is_run_again(self):
        answer = self.runner.run(self.ledger.rerun(self.fan_out_id, [FOLD_NAME]))
        self.generation += 1
        self.folds.append(self.fold)
        self.fold, self.fold_sent = None, True
        assert (list(answer.tasks), answer.fan_out.generation) == ([], self.generation)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), lost=st.booleans())
    def a_run_ends(self, data, lost):
        run = data.draw(st.sampled_from(self.runs))
        if not lost:  # otherwise it writes its end again, or dies
            self.runs.remove(run)
        self.end([(*run, data.draw(st.sampled_from(list(ENDS))))], lost=lost)

    @precondition(lambda self: len(self.runs) > 1)
    @rule(data=st.data())
    def all_runs_end_in_one_write(self, data):
        ends = [(*run, data.draw(st.sampled_from(list(ENDS)))) for run in self.runs]
        self.runs = []
        self.end(ends)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def a_worker_dies(self, data):
        self.runs.remove(data.draw(st.sampled_from(self.runs)))

    @rule(data=st.data())
    def the_queue_sets_a_message_aside(self, data):
        name, generation = data.draw(st.sampled_from(list(self.tasks))), data.draw(st.integers(0, self.generation))
        self.end([(name, generation, None, TaskState.DEAD)])

    @invariant()
    def the_ledger_stands_as_the_protocol_says(self):
        if not self.tasks:
            return
        found = self.runner.run(self.ledger.get(self.fan_out_id))
        stands = [(task.task_name, task.state, task.attempts, task.generation) for task in found.tasks]
        assert stands == [(name, task.state, task.attempts, task.generation) for name, task in self.tasks.items()]
        assert found.fold_state == (self.fold.state if self.fold else None)
        assert (found.completed_at is not None) is self.complete

    def teardown(self):
        # Whatever is left is delivered until it is over, as the queue does.
        if not self.tasks:
            return
        for name, task in self.tasks.items():
            if not task.state.terminal:
                self.deliver([(name, self.generation)], "left")
                self.end([(name, task.generation, task.attempts, TaskState.SUCCEEDED)])
        self.deliver([(name, self.generation) for name in self.tasks], "left")  # whose deletes were lost
        assert self.fold_sent
        self.deliver([(FOLD_NAME, self.generation)], "right")
        if not self.fold.state.terminal:
            self.end([(FOLD_NAME, self.generation, self.fold.attempts, TaskState.SUCCEEDED)])
        self.deliver([(FOLD_NAME, self.generation)], "left")

        found = self.runner.run(self.ledger.get(self.fan_out_id))
        assert {task.task_name for task in found.tasks if task.state.terminal} == set(self.tasks)
        for task in (*self.tasks.values(), self.fold):
            ends = [state for _, state in task.applied if state.terminal]
            assert len(ends) == (task.state is not TaskState.CANCELLED)
        assert found.fold_state is self.fold.state
        assert self.fold.state.terminal

    @property
    def complete(self):
        return self.ended

    def settle(self):
        self.ended = self.ended or all(task.state.terminal for task in self.tasks.values())

    @property
    def fold_due(self):
        return self.complete and not (self.fold and self.fold.state.terminal)

    def claim(self, messages, worker):
        claims = [
            Claim(fan_out_id=self.fan_out_id, task_name=name, generation=generation, worker=worker)
            for name, generation in messages
        ]
        return self.runner.run(self.ledger.claim(claims))

    def deliver(self, messages, worker):
        for (name, generation), answer in zip(messages, self.claim(messages, worker), strict=True):
            if name == FOLD_NAME and self.fold is None:
                if not self.complete:
                    assert (answer.state, answer.attempt) == (TaskState.CANCELLED, 0)
                    continue
                self.fold = Expected(generation=self.generation)
            task = self.fold if name == FOLD_NAME else self.tasks[name]
            if task.claim(generation):
                assert (answer.state, answer.attempt, answer.fold_due) == (TaskState.RUNNING, task.attempts, False)
                self.runs.append((name, generation, answer.attempt))
            else:
                superseded = generation < task.generation
                assert answer.state is (TaskState.CANCELLED if superseded else task.state)
                assert answer.fold_due is (name != FOLD_NAME and self.fold_due)
                assert answer.generation == (self.generation if answer.fold_due else 0)
                self.fold_sent |= answer.fold_due

    def end(self, ends, *, lost=False):
        finishes = [
            Finish(fan_out_id=self.fan_out_id, task_name=name, generation=generation, attempt=attempt, **ENDS[state])
            for name, generation, attempt, state in ends
        ]
        answers = self.runner.run(self.ledger.finish(finishes))
        applied = [self.apply(*end) for end in ends]
        assert [answer.applied for answer in answers] == applied
        self.settle()
        for (name, _, _, state), answer in zip(ends, answers, strict=True):
            # Those of the same write that came before the last one may say it too.
            assert answer.fold_due is (name != FOLD_NAME and state.terminal and self.fold_due)
            self.fold_sent |= answer.fold_due and not lost

    def apply(self, name, generation, attempt, state):
        task = self.fold if name == FOLD_NAME else self.tasks[name]
        return task is not None and task.finish(generation, attempt, state)


@pytest.mark.timeout(600)  # a failure is first made small
@pytest.mark.parametrize("kind", LEDGERS)
def test_names_end_once_and_the_fold_is_announced_once_whatever_happens_in_between(kind, request, tmp_path):
    fan_outs = itertools.count()
    ledger = LEDGERS[kind](request, tmp_path, FakeClock())
    with asyncio.Runner() as runner:
        runner.run(ledger.start())
        run_state_machine_as_test(
            lambda: Interleavings(ledger, f"f{next(fan_outs)}", runner),
            settings=settings(max_examples=EXAMPLES.get(kind, 60), stateful_step_count=30, deadline=None),
        )
        runner.run(ledger.close())
