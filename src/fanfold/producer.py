"""Fan-out: from one event to N accepted messages, with the sealed set of names recorded first."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fanfold import codec, ids
from fanfold.brokers.protocol import Broker
from fanfold.clock import Clock
from fanfold.errors import FanOutIncompleteError, InvalidInputError
from fanfold.ledgers.protocol import Ledger, Plan
from fanfold.model import FOLD_NAME, Enqueued, Json, Message, SendResult, Task, TaskSpec, TaskState
from fanfold.registry import Registry, check_text
from fanfold.telemetry import Telemetry

Tasks = Iterable[str | Mapping[str, Json] | TaskSpec]
"""Tasks as callers write them: a name, `{"name": …, "config": {…}}`, or a `TaskSpec`."""

_RANDOM_BITS: Final = 74


class Producer:
    """Turns events into messages.

    1. Everything that the caller got wrong is found before anything is recorded or sent.
    2. The ledger seals the set of names.
    3. What isn't terminal is sent, and every answer is looked at.

    It never reports success while a task is neither terminal nor accepted by the queue.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger | None,
        *,
        registry: Registry,
        telemetry: Telemetry,
        clock: Clock,
        rng: random.Random,
        group_by: ids.GroupBy = ids.group_per_task,
    ) -> None:
        self._broker = broker
        self._ledger = ledger
        self._registry = registry
        self._telemetry = telemetry
        self._clock = clock
        self._rng = rng
        self._group_by = group_by

    async def enqueue(
        self, entity_id: str, tasks: Tasks, *, metadata: Mapping[str, Json] | None = None, event_id: str | None = None
    ) -> Enqueued:
        """Fan one event out. See `Fanfold.enqueue`, which hands its arguments here."""
        plan = self._plan(entity_id, tasks, metadata or {}, event_id)
        messages = self._messages(plan)
        states = await self._ledger.open(plan) if self._ledger is not None else {}
        waiting = [n for n in messages if not states.get(n, TaskState.PENDING).terminal]
        sent = await self._broker.send([messages[name] for name in waiting])
        self._raise_unsent(plan.fan_out_id, waiting, sent)
        report = Enqueued(
            fan_out_id=plan.fan_out_id,
            entity_id=entity_id,
            total_tasks=len(plan.tasks),
            sent=len(waiting),
            duplicates=sum(result.duplicate is True for result in sent),
            settled=len(plan.tasks) - len(waiting),
        )
        self._telemetry.emit(
            "fan_out.enqueued",
            entity_id=entity_id,
            fan_out_id=plan.fan_out_id,
            tasks=report.total_tasks,
            sent=report.sent,
            duplicates=report.duplicates,
            settled=report.settled,
        )
        return report

    async def announce(self, task: Task, generation: int = 0) -> None:
        """Send the fold of the fan-out that `task` belongs to. Sending it twice makes one fold in each generation.

        Raises:
            FanOutIncompleteError: the queue didn't accept it.
        """
        fold = Task(
            entity_id=task.entity_id,
            task_name=FOLD_NAME,
            metadata=task.metadata,
            timestamp=codec.timestamp(self._clock.now()),
            total_tasks=task.total_tasks,
            fan_out_id=task.fan_out_id,
            generation=generation,
        )
        # The fold is a group of its own: in its entity's group it would wait behind the entity's next event.
        self._raise_unsent(str(task.fan_out_id), [FOLD_NAME], await self._broker.send([codec.encode(fold)]))

    def _plan(self, entity_id: str, tasks: Tasks, metadata: Mapping[str, Json], event_id: str | None) -> Plan:
        check_text("entity_id", entity_id)
        if not isinstance(metadata, Mapping):
            raise InvalidInputError(f"metadata {metadata!r}: it must be a dict that JSON can carry")
        specs = [_spec(task) for task in ([tasks] if isinstance(tasks, str) else tasks)]
        self._check_specs(entity_id, specs)
        if event_id is None:
            fan_out_id = ids.new_fan_out_id(self._clock.now(), self._rng.getrandbits(_RANDOM_BITS))
        else:
            fan_out_id = ids.derived_fan_out_id(entity_id, check_text("event_id", event_id))
        return Plan(fan_out_id=fan_out_id, entity_id=entity_id, event_id=event_id, metadata=metadata, tasks=specs)

    def _check_specs(self, entity_id: str, specs: Sequence[TaskSpec]) -> None:
        if not specs:
            raise InvalidInputError(f"no tasks for {entity_id!r}: a fan-out needs at least one, or it could never fold")
        names = [spec.name for spec in specs]
        if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
            raise InvalidInputError(f"task {twice[0]!r} stands twice in the fan-out of {entity_id!r}; names are unique")
        if len(self._registry):  # a producer that declares no tasks enqueues for workers that do
            for spec in specs:
                self._registry.require(spec.name).config(spec.config)

    def _messages(self, plan: Plan) -> dict[str, Message]:
        timestamp = codec.timestamp(self._clock.now())
        return {
            spec.name: codec.encode(
                Task(
                    entity_id=plan.entity_id,
                    task_name=spec.name,
                    task_config=spec.config,
                    metadata=plan.metadata,
                    timestamp=timestamp,
                    total_tasks=len(plan.tasks),
                    fan_out_id=plan.fan_out_id,
                ),
                group_by=self._group_by,
            )
            for spec in plan.tasks
        }

    def _raise_unsent(self, fan_out_id: str, names: Sequence[str], results: Sequence[SendResult]) -> None:
        unsent = [(name, r.error) for name, r in zip(names, results, strict=True) if r.error is not None]
        if unsent:
            first = unsent[0][1]
            raise FanOutIncompleteError(fan_out_id, [name for name, _ in unsent], f"{first.code}: {first.text}")


def _spec(task: str | Mapping[str, Json] | TaskSpec) -> TaskSpec:
    if isinstance(task, str):
        task = TaskSpec(task)
    elif isinstance(task, Mapping):
        if unknown := sorted(task.keys() - {"name", "config"}):
            raise InvalidInputError(
                f"task {dict(task)!r} has {unknown[0]!r}; a task has 'name' and, if needed, 'config'"
            )
        task = TaskSpec(task.get("name", ""), task.get("config") or {})
    if not isinstance(task, TaskSpec):
        raise InvalidInputError(f"task {task!r}: write a name, {{'name': …, 'config': {{…}}}} or a TaskSpec")
    check_text("task name", task.name)
    if task.name.startswith("fanfold."):
        raise InvalidInputError(f"task name {task.name!r}: names that begin with 'fanfold.' are reserved")
    if not isinstance(task.config, Mapping):
        raise InvalidInputError(f"config of task {task.name!r} is {task.config!r}; it must be a dict")
    return task
