"""confluent-kafka's values ⇄ ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message, TopicPartition
from confluent_kafka import KafkaError as Code

from fanfold.errors import InvalidInputError, KafkaError, KafkaUnavailableError
from fanfold.sources.assignment import Place
from fanfold.sources.record import Record

_REFUSED: Final = frozenset({Code.MSG_SIZE_TOO_LARGE, Code.INVALID_MSG, Code.RECORD_LIST_TOO_LARGE})
_AWAY: Final = frozenset({Code._MSG_TIMED_OUT, Code._TRANSPORT, Code._ALL_BROKERS_DOWN})  # noqa: SLF001 - library's names
_MISCONFIGURED: Final = Code._INVALID_ARG  # noqa: SLF001 - as above


def record_of(message: Message) -> Record:
    """A message without an error."""
    kind, milliseconds = message.timestamp()
    return Record(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=message.key(),
        value=message.value(),
        headers=[(name, value.encode() if isinstance(value, str) else value) for name, value in _headers(message)],
        timestamp=milliseconds / 1000 if kind != TIMESTAMP_NOT_AVAILABLE else 0.0,
    )


def places_of(partitions: Iterable[TopicPartition]) -> list[Place]:
    """Partitions as places."""
    return [(partition.topic, partition.partition) for partition in partitions]


def partitions_of(places: Iterable[Place]) -> list[TopicPartition]:
    """Places as partitions."""
    return [TopicPartition(*place) for place in places]


def offsets_of(positions: Mapping[Place, int]) -> list[TopicPartition]:
    """Positions as offsets to commit."""
    return [TopicPartition(*place, position) for place, position in positions.items()]


def shown(places: Collection[Place]) -> str:
    """Places as one word."""
    return ",".join(f"{topic}:{partition}" for topic, partition in sorted(places)) or "none"


def cant_start(error: object, config: Mapping[str, Any], seconds: float) -> KafkaError:
    """Why a client couldn't start, with the cure."""
    if not isinstance(error, Code) or error.code() == _MISCONFIGURED:
        return KafkaError(f"Kafka's client refuses its configuration: {error}")
    return KafkaUnavailableError(
        f"no Kafka broker answers at {config.get('bootstrap.servers')} within {seconds:g} s ({error.str()}); check "
        "--brokers, and the security options that the cluster asks for"
    )


def not_delivered(error: object, topic: str) -> Exception:
    """Why a record wasn't delivered, with the cure."""
    if not isinstance(error, Code):  # librdkafka's own queue is full
        return KafkaUnavailableError(f"topic {topic!r}: {error}; too much waits for acknowledgement, try again later")
    if error.code() in _REFUSED:
        return InvalidInputError(
            f"topic {topic!r} refuses the record: {error.str()}. Raise message.max.bytes here and max.message.bytes of "
            "the topic, or publish less"
        )
    if error.retriable() or error.code() in _AWAY:
        return KafkaUnavailableError(f"topic {topic!r}: the record wasn't acknowledged ({error.str()}); try again")
    return KafkaError(f"topic {topic!r}: {error.str()} ({error.name()})")


def _headers(message: Message) -> Iterable[tuple[str, str | bytes | None]]:
    headers = message.headers() or ()
    return headers.items() if isinstance(headers, dict) else headers
