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

from fanfold.ledgers.protocol import Claim, Finish, Plan, Reopen
from fanfold.model import FOLD_NAME, Failure, TaskSpec, TaskState
from fanfold.testing import FakeClock

NAMES = ["words", "roof", "owner"]
WORKERS = ["left", "right"]
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

    def reopen(self, generation):
        """Whether the task begins anew."""
        if self.state in (TaskState.SUCCEEDED, TaskState.CANCELLED) or generation <= self.generation:
            return False
        self.state, self.attempts, self.generation = TaskState.PENDING, 0, generation
        return True

    def claim(self, generation):
        """Whether a claim starts an attempt."""
        if self.state.terminal or generation < self.generation:
            return False
        self.state, self.attempts, self.generation = TaskState.RUNNING, self.attempts + 1, generation
        return True

    def finish(self, generation, attempt, state):
        """Whether an end counts as applied."""
        current = attempt in (None, self.attempts) and generation == self.generation
        unstarted = state is TaskState.DEAD and self.state in (TaskState.PENDING, TaskState.FAILED)
        if current and (self.state is TaskState.RUNNING or unstarted):
            self.state = state
            self.applied.append((generation, state))
            return True
        return self.state is state and (generation, attempt) == (self.generation, self.attempts)


class Interleavings(RuleBasedStateMachine):
    """Messages are delivered to either worker at any time, as often as it pleases; workers die, are late, or repeat."""

    def __init__(self, ledger, fan_out_id, runner):
        super().__init__()
        self.ledger, self.fan_out_id, self.runner = ledger, fan_out_id, runner
        self.tasks = {}
        self.generation = 0
        self.folds = {}
        self.folds_sent = set()
        self.runs = []

    @initialize(names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    def an_event_arrives(self, names):
        self.tasks = {name: Expected() for name in names}
        self.event_arrives_again()

    @rule()
    def event_arrives_again(self):
        tasks = [TaskSpec(name) for name in self.tasks]
        plan = Plan(fan_out_id=self.fan_out_id, entity_id="doc-1", event_id="e1", metadata={}, tasks=tasks)
        assert self.runner.run(self.ledger.open(plan)) == {name: task.state for name, task in self.tasks.items()}

    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def messages_are_delivered(self, data, worker):
        message = st.tuples(st.sampled_from(list(self.tasks)), st.integers(0, 2))
        self.deliver(data.draw(st.lists(message, min_size=1, max_size=4)), worker)

    @precondition(lambda self: self.folds_sent)
    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def a_folds_message_is_delivered(self, data, worker):
        self.deliver([(FOLD_NAME, data.draw(st.sampled_from(sorted(self.folds_sent))))], worker)

    @rule(worker=st.sampled_from(WORKERS))
    def a_fold_is_delivered_that_nobody_should_have_sent(self, worker):
        if not self.complete:
            self.deliver([(FOLD_NAME, self.generation)], worker)

    @rule(data=st.data())
    def dead_letters_are_sent_back(self, data):
        letters = data.draw(st.lists(st.sampled_from(list(self.tasks)), min_size=1, max_size=3, unique=True))
        reopens = [
            Reopen(fan_out_id=self.fan_out_id, task_name=name, generation=self.tasks[name].generation + 1)
            for name in letters
        ]
        answers = self.runner.run(self.ledger.reopen(reopens))
        assert answers == [self.begins_anew(reopen.task_name, reopen.generation) for reopen in reopens]

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
        name = data.draw(st.sampled_from(list(self.tasks)))
        self.end([(name, data.draw(st.integers(0, self.tasks[name].generation)), None, TaskState.DEAD)])

    @invariant()
    def the_ledger_stands_as_the_protocol_says(self):
        if not self.tasks:
            return
        found = self.runner.run(self.ledger.get(self.fan_out_id))
        stands = [(task.task_name, task.state, task.attempts, task.generation) for task in found.tasks]
        assert stands == [(name, task.state, task.attempts, task.generation) for name, task in self.tasks.items()]
        fold = self.folds.get(self.generation)
        assert (found.generation, found.fold_state) == (self.generation, fold.state if fold else None)
        assert (found.completed_at is not None) is self.complete

    def teardown(self):
        # Whatever is left is delivered until it is over, as the queue does.
        if not self.tasks:
            return
        for name, task in self.tasks.items():
            if not task.state.terminal:
                self.deliver([(name, task.generation)], "left")
                self.end([(name, task.generation, task.attempts, TaskState.SUCCEEDED)])
        self.deliver([(name, task.generation) for name, task in self.tasks.items()], "left")  # whose deletes were lost
        assert self.generation in self.folds_sent
        self.deliver([(FOLD_NAME, self.generation)], "right")
        fold = self.folds[self.generation]
        if not fold.state.terminal:
            self.end([(FOLD_NAME, self.generation, fold.attempts, TaskState.SUCCEEDED)])
        for generation in sorted(self.folds_sent):
            self.deliver([(FOLD_NAME, generation)], "left")

        found = self.runner.run(self.ledger.get(self.fan_out_id))
        assert {task.task_name for task in found.tasks if task.state.terminal} == set(self.tasks)
        for task in (*self.tasks.values(), *self.folds.values()):
            ends = [generation for generation, state in task.applied if state.terminal]
            assert sorted(set(ends)) == ends  # once in a generation
        assert found.fold_state is fold.state
        assert fold.state.terminal

    @property
    def complete(self):
        return bool(self.tasks) and all(task.state.terminal for task in self.tasks.values())

    @property
    def fold_due(self):
        fold = self.folds.get(self.generation)
        return self.complete and not (fold and fold.state.terminal)

    def begins_anew(self, name, generation):
        """Whether a task stands in that generation or a later one, after it began anew where it could."""
        complete = self.complete
        if self.tasks[name].reopen(generation):
            self.generation += complete
        return self.tasks[name].generation >= generation

    def claims_fold(self, generation):
        """Whether the claim of a fold starts an attempt."""
        if not self.complete or generation < self.generation:
            return False
        return self.folds.setdefault(generation, Expected(generation=generation)).claim(generation)

    def deliver(self, messages, worker):
        claims = [
            Claim(fan_out_id=self.fan_out_id, task_name=name, generation=generation, worker=worker)
            for name, generation in messages
        ]
        answers = self.runner.run(self.ledger.claim(claims))
        for (name, generation), answer in zip(messages, answers, strict=True):
            if name == FOLD_NAME:
                self.fold_was_claimed(generation, answer)
            else:
                self.task_was_claimed(name, generation, answer)

    def fold_was_claimed(self, generation, answer):
        if self.claims_fold(generation):
            assert (answer.state, answer.attempt) == (TaskState.RUNNING, self.folds[generation].attempts)
            self.runs.append((FOLD_NAME, generation, answer.attempt))
        else:
            last = self.folds[max(self.folds)].state if self.folds else TaskState.CANCELLED
            assert answer.state is (last if last.terminal else TaskState.CANCELLED)
        assert not answer.fold_due

    def task_was_claimed(self, name, generation, answer):
        self.begins_anew(name, generation)
        task = self.tasks[name]
        if task.claim(generation):
            assert (answer.state, answer.attempt, answer.fold_due) == (TaskState.RUNNING, task.attempts, False)
            self.runs.append((name, generation, answer.attempt))
        else:
            assert answer.state is (TaskState.CANCELLED if generation < task.generation else task.state)
            assert answer.fold_due is self.fold_due
            self.note_fold(answer)

    def note_fold(self, answer):
        if answer.fold_due:
            assert answer.fold_generation == self.generation
            self.folds_sent.add(answer.fold_generation)

    def end(self, ends, *, lost=False):
        finishes = [
            Finish(fan_out_id=self.fan_out_id, task_name=name, generation=generation, attempt=attempt, **ENDS[state])
            for name, generation, attempt, state in ends
        ]
        answers = self.runner.run(self.ledger.finish(finishes))
        applied = [self.ends(*end) for end in ends]
        assert [answer.applied for answer in answers] == applied
        for (name, _, _, state), answer in zip(ends, answers, strict=True):
            # Those of the same write that came before the last one may say it too.
            assert answer.fold_due is (name != FOLD_NAME and state.terminal and self.fold_due)
            if not lost:
                self.note_fold(answer)

    def ends(self, name, generation, attempt, state):
        if name != FOLD_NAME:
            return self.tasks[name].finish(generation, attempt, state)
        # There is one row for all folds: what a newer one began, an older one can't end.
        return generation == max(self.folds) and self.folds[generation].finish(generation, attempt, state)


@pytest.mark.timeout(600)  # a failure is first made small
@pytest.mark.parametrize("kind", LEDGERS)
def test_names_end_once_and_the_fold_is_announced_once_whatever_happens_in_between(kind, tmp_path):
    fan_outs = itertools.count()
    ledger = LEDGERS[kind](tmp_path, FakeClock())
    with asyncio.Runner() as runner:
        runner.run(ledger.start())
        run_state_machine_as_test(
            lambda: Interleavings(ledger, f"f{next(fan_outs)}", runner),
            settings=settings(max_examples=60, stateful_step_count=30, deadline=None),
        )
        runner.run(ledger.close())
