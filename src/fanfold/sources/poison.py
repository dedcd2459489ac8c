"""What becomes of an event that can never be enqueued: it is set aside with its reason, or the source stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from fanfold.errors import PoisonEventError
from fanfold.sources.planning import Poison
from fanfold.sources.record import Header, Record
from fanfold.telemetry import Telemetry

if TYPE_CHECKING:
    from fanfold.sources.publisher import Publisher

SetAside = Callable[[Poison, Record], Awaitable[None]]
"""Takes a poison event; returns when nothing needs to be kept of it where it came from."""

_LONGEST_MESSAGE: Final = 2_000
"""Characters of the reason in a header: enough to understand, and small beside a record of the largest size."""


def headers_of(poison: Poison, record: Record, group: str) -> Sequence[Header]:
    """The headers of the copy in the dead letter topic: the record's own, why it is there, and where it came from."""
    reasons = {
        "fanfold.error.stage": poison.stage,
        "fanfold.error.type": poison.failure.type,
        "fanfold.error.message": poison.failure.message[:_LONGEST_MESSAGE],
        "fanfold.origin.topic": record.topic,
        "fanfold.origin.partition": str(record.partition),
        "fanfold.origin.offset": str(record.offset),
        "fanfold.origin.timestamp": f"{record.timestamp:.3f}",
        "fanfold.group": group,
    }
    own = [header for header in record.headers if header[0] not in reasons]
    return [*own, *((name, text.encode()) for name, text in reasons.items())]


async def stop_at(poison: Poison, record: Record) -> None:
    """Stop the source: the poison event and what follows it stay uncommitted.

    Raises:
        PoisonEventError: always.
    """
    raise PoisonEventError(
        f"{record.place} can't be enqueued: {poison}. Its offset isn't committed: mend the planner or the topic and "
        "start again, or have such events set aside with a dead letter topic"
    )


class DeadLetterTopic:
    """Copies poison events to a topic. The copy is acknowledged before the event's offset counts as done."""

    def __init__(self, publisher: Publisher, topic: str, *, group: str, telemetry: Telemetry) -> None:
        self._publisher = publisher
        self._topic = topic
        self._group = group
        self._telemetry = telemetry

    async def __call__(self, poison: Poison, record: Record) -> None:
        """Set one aside. Raises what `Publisher.submit` says."""
        headers = headers_of(poison, record, self._group)
        await self._publisher.send(self._topic, key=record.key, value=record.value, headers=headers)
        self._telemetry.emit(
            "kafka.poison", record=record.place, stage=poison.stage, reason=str(poison.failure), topic=self._topic
        )
