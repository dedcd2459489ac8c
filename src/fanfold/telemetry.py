"""Events first: the parts say what happened (`task.completed {…}`), and log, metrics and traces are subscribers.

A subscriber's failure is contained: it is logged once per subscriber, and work goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fanfold.model import Task

logger: Final = logging.getLogger("fanfold")

_LEVELS: Final[Mapping[str, int]] = {
    "task.started": logging.DEBUG,
    "task.skipped": logging.DEBUG,
    "lease.extended": logging.DEBUG,
    "task.retried": logging.WARNING,
    "task.dead": logging.ERROR,
    "task.overdue": logging.WARNING,
    "outcome.dropped": logging.WARNING,
    "lease.lost": logging.WARNING,
    "heartbeat.failed": logging.WARNING,
    "claim.failed": logging.WARNING,
    "reconcile.failed": logging.WARNING,
    "poll.failed": logging.WARNING,
    "settle.failed": logging.WARNING,
    "hook.failed": logging.ERROR,
    "fan_out.overdue": logging.WARNING,
    "fan_out.resent": logging.WARNING,
    "sent.unrecorded": logging.WARNING,
    "cancellations.failed": logging.WARNING,
    "permission.missing": logging.WARNING,
    "dead_letter.unavailable": logging.WARNING,
    "kafka.commit_failed": logging.WARNING,
    "kafka.error": logging.WARNING,
    "kafka.failed": logging.ERROR,
    "kafka.left_behind": logging.WARNING,
    "kafka.lost": logging.WARNING,
    "kafka.planned_before": logging.WARNING,
    "kafka.poison": logging.ERROR,
    "kafka.waiting": logging.WARNING,
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a dotted name, and fields of plain values."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)


Subscriber = Callable[[Event], None]


class Telemetry:
    """Hands each event to every subscriber, in the order in which they subscribed."""

    def __init__(self, *subscribers: Subscriber) -> None:
        self._subscribers: list[Subscriber] = []
        self._wants: list[Callable[[str], bool] | None] = []
        for subscriber in subscribers:
            self.subscribe(subscriber)
        self._broken: set[int] = set()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Hand later events to `subscriber` too. It runs in the thread that emits, so it must be quick."""
        self._subscribers.append(subscriber)
        self._wants.append(getattr(subscriber, "wants", None))

    def hears(self, name: str) -> bool:
        """Whether any subscriber wants events of this name: what nobody hears needs no fields.

        A subscriber that has no method `wants(name) -> bool` wants all.
        """
        for wants in self._wants:  # noqa: SIM110 - asked twice for each message, and any() of a generator costs thrice
            if wants is None or wants(name):
                return True
        return False

    def emit(self, name: str, **fields: Any) -> None:
        """Tell every subscriber. Never raises."""
        event = Event(name, fields)
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                if id(subscriber) not in self._broken:
                    self._broken.add(id(subscriber))
                    logger.exception("telemetry subscriber %r failed; work goes on without it", subscriber)


class LogSubscriber:
    """Writes each event to the `fanfold` logger as `name key=value …`.

    `words` renames fields, so that a team's own words for entity and task stand in its log.
    """

    def __init__(self, words: Mapping[str, str] | None = None) -> None:
        self._words = dict(words or {})

    def wants(self, name: str) -> bool:
        """Whether events of this name are logged, at the logger's present level."""
        return logger.isEnabledFor(_LEVELS.get(name, logging.INFO))

    def __call__(self, event: Event) -> None:
        """Log one event at its level (INFO unless the event is routine or bad news)."""
        level = _LEVELS.get(event.name, logging.INFO)
        if logger.isEnabledFor(level):
            shown = " ".join(f"{self._words.get(k, k)}={_plain(v)}" for k, v in event.fields.items())
            logger.log(level, "%s %s", event.name, shown, extra={"event": event.name, "fields": dict(event.fields)})


def fields_of(task: Task) -> dict[str, str | None]:
    """The fields by which an event says which task it is about."""
    return {"entity_id": task.entity_id, "task_name": task.task_name, "fan_out_id": task.fan_out_id}


def _plain(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    # A field is one word in one line, whatever is in it: a log can't be made to say what didn't happen.
    return text if text.isprintable() and text and " " not in text else repr(text)
