"""Print the completions of documents, one line each, from the first one on: `python follow.py`. Ctrl-C ends it."""

from __future__ import annotations

import json
import os
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

TOPIC = "documents.fields"


def main() -> None:
    """Print each record of the topic when it comes. All partitions are read, so no group shares them out."""
    options = {"group.id": "unused", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": os.environ["FANFOLD_KAFKA_BROKERS"], **options})
    partitions = consumer.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions
    consumer.assign([TopicPartition(TOPIC, number, OFFSET_BEGINNING) for number in partitions])
    while True:
        record = consumer.poll(1)
        if record is None:
            continue
        if record.error() is not None:
            raise KafkaException(record.error())
        completion = json.loads(record.value() or b"{}")
        shown = {"doc_id": completion["entity_id"], **{name: completion[name] for name in ("results", "failures")}}
        print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
