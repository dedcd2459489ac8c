"""Tell of documents: `python produce.py WHAT PATH…`, as in `python produce.py arrived README.md`."""

from __future__ import annotations

import json
import os
import sys

from confluent_kafka import Producer


def main(what: str, *paths: str) -> None:
    """Send an event for each document; return when the cluster has them."""
    producer = Producer({"bootstrap.servers": os.environ["FANFOLD_KAFKA_BROKERS"], "enable.idempotence": True})
    for path in paths:
        producer.produce("documents", key=path, value=json.dumps({"what": what, "tenant": "acme"}))
    if left := producer.flush(30):
        sys.exit(f"{left} event(s) weren't acknowledged within 30 s")


if __name__ == "__main__":
    main(*sys.argv[1:])
