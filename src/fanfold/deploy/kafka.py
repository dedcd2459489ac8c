"""Whether Kafka can be reached, and has the topics that an application reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fanfold.deploy.findings import Finding, error, fine
from fanfold.sources.client import producer_config
from fanfold.sources.extra import require_kafka
from fanfold.sources.settings import BROKERS

_PATIENCE: Final = 5.0


def look(client: Mapping[str, Any], topics: Iterable[str]) -> list[Finding]:
    """Ask the brokers for their topics; it waits for them for five seconds. Nothing is created.

    Args:
        client: librdkafka's configuration, with the brokers.
        topics: those that the application needs.

    Raises:
        MissingExtraError: confluent-kafka isn't installed.
    """
    require_kafka()
    from confluent_kafka import KafkaException  # noqa: PLC0415 - an extra
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - as above

    brokers = client[BROKERS]
    try:
        there = AdminClient({**producer_config(client), "log_level": 0}).list_topics(timeout=_PATIENCE).topics
    except KafkaException as away:
        return [
            error(
                "kafka",
                f"Kafka at {brokers} can't be reached: {away.args[0].str()}",
                why="no event is enqueued, and no completion is published",
                cure="FANFOLD_KAFKA_BROKERS, or the network between here and there; security.protocol and sasl.* for "
                "a cluster that asks who you are",
            )
        ]
    missing = sorted(set(topics) - set(there))
    return [fine("kafka", f"Kafka at {brokers} answers"), *(_missing(topic) for topic in missing)]


def _missing(topic: str) -> Finding:
    return error(
        "kafka.topic",
        f"there is no topic {topic!r}, or none that these credentials may see",
        why="the application reads or writes it",
        cure=f"kafka-topics.sh --create --topic {topic}; or FANFOLD_KAFKA_TOPICS=NAME=TOPIC",
    )
