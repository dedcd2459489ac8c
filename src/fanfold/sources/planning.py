"""A record → what should be done about it. Decides, and touches neither Kafka nor the queue."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fanfold.errors import InvalidInputError
from fanfold.model import Failure, Json, TaskSpec
from fanfold.outcome import Reject, Retry, failure_of
from fanfold.registry import check_text
from fanfold.sources.declaration import EventDeclaration
from fanfold.sources.decoding import decode
from fanfold.sources.record import Record

TRACEPARENT: Final = "traceparent"
"""The W3C's header and, in the metadata, the key under which a trace goes from the event to its completion."""

_ASKED_AGAIN: Final = 30.0
"""Seconds until a function that asked for a retry without a delay is called again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The event means these tasks."""

    entity_id: str
    tasks: Sequence[str | Mapping[str, Json] | TaskSpec]
    metadata: Mapping[str, Json]
    event_id: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """The event means no tasks."""


@dataclass(frozen=True, slots=True)
class Later:
    """The planner, or the decoder, can't say yet, and wants to be asked again in so many seconds."""

    delay: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class Poison:
    """The event can never be enqueued. `stage` is what failed: decoding, identifying, planning or enqueueing."""

    stage: str
    failure: Failure

    def __str__(self) -> str:
        return f"{self.stage} it failed: {self.failure}"


Decision = Planned | Nothing | Later | Poison


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An event that is decoded and identified: what its planner may ask for, and what the fan-out will be called."""

    values: Mapping[str, Any]
    metadata: Mapping[str, Json]
    event_id: str


def prepare(declaration: EventDeclaration, record: Record) -> Prepared | Later | Poison:
    """Decode a record, and say whose it is."""
    try:
        event = decode(declaration, record)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code raises anything; every event ends
        return _undecided("decoding", error)
    try:
        return _identified(declaration, record, event)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
        return _undecided("identifying", error)


def plan(declaration: EventDeclaration, record: Record) -> Decision | Prepared:
    """Decide about a record; where the planner is async, as far as that goes without it."""
    prepared = prepare(declaration, record)
    if not isinstance(prepared, Prepared) or declaration.asynchronous:
        return prepared
    try:
        return _decided(prepared, declaration.planner(prepared.values))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
        return _undecided("planning", error)


async def plan_async(declaration: EventDeclaration, prepared: Prepared) -> Decision:
    """Decide about a prepared event with its async planner."""
    try:
        return _decided(prepared, await declaration.planner(prepared.values))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
        return _undecided("planning", error)


def _identified(declaration: EventDeclaration, record: Record, event: Any) -> Prepared:
    values = {"event": event, "record": record, "key": _key(record)}
    entity_id = declaration.entity(values) if declaration.entity is not None else values["key"]
    if entity_id is None:
        raise InvalidInputError("the record has no key that is text, and so no entity id; give entity=lambda event: …")
    return Prepared(
        values=values | {"entity_id": check_text("entity_id", entity_id)},
        metadata=_metadata(declaration, record, values),
        # A function's None must not become an id that is new at every delivery.
        event_id=check_text("event_id", declaration.event_id(values) if declaration.event_id else record.place),
    )


def _metadata(declaration: EventDeclaration, record: Record, values: Mapping[str, Any]) -> Mapping[str, Json]:
    own = declaration.metadata(values) if declaration.metadata is not None else {}
    if not isinstance(own, Mapping):
        raise InvalidInputError(f"metadata {own!r}: it must be a dict that JSON can carry")
    trace = record.header(TRACEPARENT)
    return own if trace is None or TRACEPARENT in own else {**own, TRACEPARENT: trace.decode("ascii", "replace")}


def _key(record: Record) -> str | None:
    try:
        return None if record.key is None else record.key.decode()
    except UnicodeDecodeError:
        return None


def _decided(prepared: Prepared, answer: Any) -> Decision:
    if isinstance(answer, Retry | Reject):
        return _undecided("planning", answer)
    if inspect.isawaitable(answer):
        raise TypeError("the planner answered an awaitable; declare it with async def")
    single = isinstance(answer, str | Mapping | TaskSpec)
    tasks = [answer] if single else [*(answer or ())]
    if not tasks:
        return Nothing()
    return Planned(
        entity_id=prepared.values["entity_id"], tasks=tasks, metadata=prepared.metadata, event_id=prepared.event_id
    )


def _undecided(stage: str, error: Exception | SystemExit) -> Later | Poison:
    if isinstance(error, Retry):
        return Later(_ASKED_AGAIN if error.delay is None else error.delay, error.failure)
    return Poison(stage, error.failure if isinstance(error, Reject) else failure_of(error, __file__))
