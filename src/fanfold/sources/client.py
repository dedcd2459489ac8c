"""librdkafka's configuration for the consumer and the producer: our defaults, the user's words, and what must hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fanfold.errors import ConfigurationError

_CONSUMER_DEFAULTS: Final[Mapping[str, Any]] = {
    "client.id": "fanfold",
    # A group's first start must not leave out what waits already.
    "auto.offset.reset": "earliest",
    "partition.assignment.strategy": "cooperative-sticky",
    # What librdkafka fetches ahead: enough to keep the source busy, little enough to keep it small.
    "queued.max.messages.kbytes": 16_384,
    "queued.min.messages": 10_000,
    "fetch.queue.backoff.ms": 50,
    # Apache Kafka answers a waiting fetch when there is something; some brokers do only when the wait is over.
    "fetch.wait.max.ms": 100,
}
_PRODUCER_DEFAULTS: Final[Mapping[str, Any]] = {
    "client.id": "fanfold",
    "enable.idempotence": True,
    "linger.ms": 5,
    # Within the time that a fold has, and short enough that a retry of the fold says what is wrong.
    "delivery.timeout.ms": 30_000,
}
_FORCED: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": False,
}

_OF_CONSUMERS: Final = (
    *("group.", "auto.offset.", "auto.commit.", "partition.assignment.", "session.timeout.", "heartbeat.", "fetch."),
    *("max.poll.", "max.partition.fetch.", "queued.m", "enable.auto.", "enable.partition.", "isolation.", "check.crcs"),
)
_OF_PRODUCERS: Final = (
    *("acks", "request.required.acks", "request.timeout.", "message.timeout.", "delivery.timeout.", "linger."),
    *("queue.buffering.", "batch.", "compression.", "transaction", "retries", "message.send.", "partitioner"),
    *("enable.idempotence", "enable.gapless.", "sticky.partitioning."),
)


def consumer_config(client: Mapping[str, Any]) -> dict[str, Any]:
    """The consumer's configuration.

    Raises:
        ConfigurationError: the user asks for what would commit offsets of events that aren't enqueued.
    """
    for name, value in _FORCED.items():
        if name in client and _truth(client[name]) is not value:
            raise ConfigurationError(
                f"Kafka option {name}={client[name]}: the source commits itself, what is enqueued; leave it out"
            )
    defaults = dict(_CONSUMER_DEFAULTS)
    if client.get("group.protocol") == "consumer":  # there the cluster assigns, and refuses to be told how
        del defaults["partition.assignment.strategy"]
    return {**defaults, **_without(client, _OF_PRODUCERS), **_FORCED}


def producer_config(client: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the producer: the sink's, and that of the dead letter topic."""
    return {**_PRODUCER_DEFAULTS, **_without(client, (*_OF_CONSUMERS, "transaction"))}


def _without(client: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in client.items() if not name.startswith(prefixes)}


def _truth(value: Any) -> bool:
    return value is True or str(value).lower() == "true"
