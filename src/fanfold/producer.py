"""Fan-out: from one event to N accepted messages, with the sealed set of names recorded first."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from fanfold import codec, ids
from fanfold.brokers.protocol import Broker
from fanfold.clock import Clock
from fanfold.errors import FanfoldError, FanOutIncompleteError, InvalidInputError, NoLedgerError
from fanfold.ledgers.protocol import Ledger, Opened, Plan, Unsent
from fanfold.model import (
    FOLD_NAME,
    Enqueued,
    FanOut,
    FanOutOptions,
    Json,
    Message,
    SendResult,
    Task,
    TaskRecord,
    TaskSpec,
    TaskState,
)
from fanfold.registry import Registry, check_text
from fanfold.telemetry import Telemetry
from fanfold.tolerance import tolerance

Tasks = Iterable[str | Mapping[str, Json] | TaskSpec]
"""Tasks as callers write them: a name, `{"name": …, "config": {…}}`, or a `TaskSpec`."""

_RANDOM_BITS: Final = 74
_PIECE: Final = 1_000
"""Messages that are in memory at once, however large the fan-out."""
_NO_OPTIONS: Final = FanOutOptions()
_STRATEGIES: Final = {"task": ids.group_per_task, "entity": ids.group_per_entity}


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
        self,
        entity_id: str,
        tasks: Tasks,
        *,
        metadata: Mapping[str, Json] | None = None,
        event_id: str | None = None,
        options: FanOutOptions | None = None,
        parent: FanOut | None = None,
    ) -> Enqueued:
        """Fan one event out. See `Fanfold.enqueue`, which hands its arguments here."""
        if self._ledger is None and (options is not None or parent is not None):
            raise NoLedgerError(
                "options and parent need a ledger, which alone knows how far a fan-out is; give ledger=…"
            )
        options = options or _NO_OPTIONS
        plan = self._plan(entity_id, tasks, metadata or {}, event_id=event_id, options=options, parent=parent)
        group_by = self._group_by_of(options.order_by)
        ready = self._checked(plan, group_by)
        opened = await self._ledger.open(plan) if self._ledger is not None else Opened(generation=0, states={})
        names, messages = await self._waiting(plan, opened, group_by, ready)
        duplicates = await self._send(_header(plan, opened.generation), names, messages)
        report = Enqueued(
            fan_out_id=plan.fan_out_id,
            entity_id=entity_id,
            total_tasks=len(plan.tasks),
            sent=len(names),
            duplicates=duplicates,
            settled=len(plan.tasks) - len(names),
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

    async def resend(self, unsent: Unsent) -> int:
        """Send the waiting tasks of a fan-out, with the ids that they have anyway; answers how many.

        Raises:
            FanOutIncompleteError: the queue didn't accept some.
        """
        header, names = unsent.fan_out.task(""), [record.task_name for record in unsent.tasks]
        await self._send(header, names, self._messages(header, unsent.tasks, self._group_by_of(unsent.order_by)))
        return len(names)

    async def announce(self, task: Task, generation: int) -> None:
        """Send the fold of the fan-out that `task` belongs to. Sending it twice makes one fold.

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

    def _plan(
        self,
        entity_id: str,
        tasks: Tasks,
        metadata: Mapping[str, Json],
        *,
        event_id: str | None,
        options: FanOutOptions,
        parent: FanOut | None,
    ) -> Plan:
        check_text("entity_id", entity_id)
        if not isinstance(metadata, Mapping):
            raise InvalidInputError(f"metadata {metadata!r}: it must be a dict that JSON can carry")
        specs = [_spec(task) for task in ([tasks] if isinstance(tasks, str) else tasks)]
        self._check_specs(entity_id, specs)
        counts = tolerance(options, len(specs))
        if parent is not None and event_id is None:
            # A completion that is retried must not make a second fan-out of its next stage.
            event_id = f"{parent.fan_out_id}:{parent.generation}"
        if event_id is None:
            fan_out_id = ids.new_fan_out_id(self._clock.now(), self._rng.getrandbits(_RANDOM_BITS))
        else:
            fan_out_id = ids.derived_fan_out_id(entity_id, check_text("event_id", event_id))
        return Plan(
            fan_out_id=fan_out_id,
            entity_id=entity_id,
            event_id=event_id,
            metadata=metadata,
            tasks=specs,
            parent=parent.fan_out_id if parent is not None else None,
            min_succeeded=counts.min_succeeded,
            tolerated_failures=counts.tolerated_failures,
            cancel_rest=options.rest == "cancel",
            deadline=options.deadline,
            order_by=options.order_by if isinstance(options.order_by, str) else None,
            keep=options.keep,
        )

    def _check_specs(self, entity_id: str, specs: Sequence[TaskSpec]) -> None:
        if not specs:
            raise InvalidInputError(f"no tasks for {entity_id!r}: a fan-out needs at least one, or it could never fold")
        names = [spec.name for spec in specs]
        if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
            raise InvalidInputError(f"task {twice[0]!r} stands twice in the fan-out of {entity_id!r}; names are unique")
        if len(self._registry):  # a producer that declares no tasks enqueues for workers that do
            for spec in specs:
                self._registry.require(spec.name).config(spec.config)

    def _checked(self, plan: Plan, group_by: ids.GroupBy) -> Sequence[Message]:
        """Encode everything, to know that it can be; answers the messages of a plan that isn't too large to keep."""
        encode = self._encoder(_header(plan, 0), group_by).encode
        messages = (encode(spec.name, spec.config) for spec in plan.tasks)
        if len(plan.tasks) <= _PIECE:
            return list(messages)
        collections.deque(messages, maxlen=0)
        return ()

    async def _waiting(
        self, plan: Plan, opened: Opened, group_by: ids.GroupBy, ready: Sequence[Message]
    ) -> tuple[list[str], Iterable[Message]]:
        """What is to be sent of a plan: names and messages. `ready` are those of the whole one, or none."""
        header = _header(plan, opened.generation)
        if self._ledger is not None and opened.generation:
            records = [record for record in await self._ledger.tasks(plan.fan_out_id) if not record.state.terminal]
            return [record.task_name for record in records], self._messages(header, records, group_by)
        specs = [spec for spec in plan.tasks if not opened.states.get(spec.name, TaskState.PENDING).terminal]
        names = [spec.name for spec in specs]
        if ready and len(specs) == len(plan.tasks):
            return names, ready
        encode = self._encoder(header, group_by).encode
        return names, (encode(spec.name, spec.config) for spec in specs)

    def _messages(self, header: Task, records: Sequence[TaskRecord], group_by: ids.GroupBy) -> Iterator[Message]:
        """The messages of recorded tasks, each of its own generation: the queue may still have it by the id of that."""
        generations = {record.generation for record in records}
        encoders = {g: self._encoder(dataclasses.replace(header, generation=g), group_by) for g in generations}
        return (encoders[record.generation].encode(record.task_name, record.task_config) for record in records)

    async def _send(self, header: Task, names: Sequence[str], messages: Iterable[Message]) -> int:
        """Send what waits, piece by piece, and note that it is sent; answers how many the queue knew already."""
        fan_out_id, duplicates, coming = str(header.fan_out_id), 0, iter(messages)
        for at in range(0, len(names), _PIECE):
            piece = names[at : at + _PIECE]
            results = await self._broker.send(list(itertools.islice(coming, len(piece))))
            self._raise_unsent(fan_out_id, piece, results, names[at + _PIECE :])
            duplicates += sum(result.duplicate is True for result in results)
        if self._ledger is not None:
            await self._note_sent(self._ledger, fan_out_id, header.generation)
        return duplicates

    def _encoder(self, header: Task, group_by: ids.GroupBy) -> codec.Encoder:
        stamped = dataclasses.replace(header, timestamp=codec.timestamp(self._clock.now()))
        return codec.Encoder(stamped, group_by=group_by)

    async def _note_sent(self, ledger: Ledger, fan_out_id: str, generation: int) -> None:
        try:
            await ledger.sent(fan_out_id, generation)
        except FanfoldError as error:  # the queue has them: the worst is that they are sent again, and dropped
            self._telemetry.emit("sent.unrecorded", fan_out_id=fan_out_id, reason=str(error))

    def _group_by_of(self, order_by: str | ids.GroupBy | None) -> ids.GroupBy:
        return _STRATEGIES[order_by] if isinstance(order_by, str) else order_by or self._group_by

    def _raise_unsent(
        self, fan_out_id: str, names: Sequence[str], results: Sequence[SendResult], not_tried: Sequence[str] = ()
    ) -> None:
        unsent = [(name, r.error) for name, r in zip(names, results, strict=True) if r.error is not None]
        if unsent:
            first = unsent[0][1]
            refused = [name for name, _ in unsent]
            raise FanOutIncompleteError(fan_out_id, [*refused, *not_tried], f"{first.code}: {first.text}")


def _header(plan: Plan, generation: int) -> Task:
    """What all messages of a fan-out have in common, as a task without a name."""
    return Task(
        entity_id=plan.entity_id,
        task_name="",
        metadata=plan.metadata,
        total_tasks=len(plan.tasks),
        fan_out_id=plan.fan_out_id,
        generation=generation,
    )


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
