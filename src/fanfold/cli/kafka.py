"""`fanfold kafka`: events in from Kafka."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from fanfold.cli import logs
from fanfold.cli.common import addresses, load, until_stopped
from fanfold.errors import FanfoldError, PoisonEventError
from fanfold.sources import settings
from fanfold.sources.order import Order
from fanfold.sources.runner import run_source

POISON: Final = 3


@click.command(short_help="Enqueue the events of Kafka topics until stopped.")
@click.argument("target", metavar="MODULE:NAME")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="NAME[=TOPIC]",
    help="A declared event to read, and the topic it comes from where that has another name; may be repeated. "
    "[else: FANFOLD_KAFKA_TOPICS, all that are declared]",
)
@click.option(
    "--group",
    metavar="NAME",
    help="The consumer group, which keeps the offsets. [else: the application's, FANFOLD_KAFKA_GROUP]",
)
@click.option(
    "--brokers",
    metavar="HOST:PORT,…",
    help="Where the cluster is. [else: the application's, FANFOLD_KAFKA_BROKERS]",
)
@click.option(
    "--dead-letter-topic",
    metavar="TOPIC",
    help="Where events go that can never be enqueued, with the reason in their headers; without one the source stops "
    "at the first. [else: FANFOLD_KAFKA_DEAD_LETTER_TOPIC]",
)
@click.option(
    "--order",
    type=click.Choice([order.value for order in Order]),
    help="Enqueue the events of one key, or of one partition, one after the other. [else: FANFOLD_KAFKA_ORDER, none]",
)
@click.option(
    "--max-in-flight",
    type=click.IntRange(1),
    help="Events at once: what is read and not committed yet. [else: FANFOLD_KAFKA_MAX_IN_FLIGHT, 500]",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(1),
    help="Their bytes at once. [else: FANFOLD_KAFKA_MAX_BYTES, 33554432]",
)
@click.option(
    "--config-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The client's options as name=value lines, for what has no place on a command line (passwords). "
    "[else: FANFOLD_KAFKA_CONFIG_FILE]",
)
@click.option(
    "-X",
    "--config",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="One of librdkafka's options, such as security.protocol=SASL_SSL; may be repeated.",
)
@addresses
@until_stopped
def kafka(
    target: str,
    *,
    topics: Sequence[str],
    group: str | None,
    brokers: str | None,
    dead_letter_topic: str | None,
    order: str | None,
    max_in_flight: int | None,
    max_bytes: int | None,
    config_file: Path | None,
    options: Sequence[str],
    log_level: str,
    log_format: str,
    **overrides: Any,
) -> None:
    """Enqueue the events of Kafka topics, as the application MODULE:NAME plans them, until stopped.

    \b
      fanfold kafka app:app --group fields --brokers localhost:9092
      fanfold kafka app:app --group fields --topic documents=prod.documents.v2 --dead-letter-topic documents.dead
      fanfold kafka app:app --group fields --config-file client.properties -X fetch.wait.max.ms=50

    An offset is committed when everything below it is in the ledger and the queue (or set aside), so nothing is lost
    whatever crashes, and what is read again isn't enqueued twice. While the queue or the ledger is away the source
    waits, and keeps its partitions. Start it several times with one group to share the partitions.

    SIGTERM or Ctrl-C stops it in order: nothing more is read, what is in flight gets the grace period, what is done is
    committed. A second one stops it at once. Exit codes: 0 stopped, 1 an error, 2 wrong usage, 3 stopped at an event
    that can never be enqueued, which stays uncommitted.
    """
    app = load(target, **overrides)
    logs.set_up(log_level, log_format)
    client = _client(config_file, options, {settings.BROKERS: brokers, settings.GROUP: group})
    given = {
        "topics": topics or None,
        "dead_letter_topic": dead_letter_topic,
        "order": order,
        "max_in_flight": max_in_flight,
        "max_bytes": max_bytes,
    }
    try:
        run_source(app, settings.resolve(given, code=app.kafka, client=client, environ=os.environ), say=_say)
    except PoisonEventError as error:
        sys.exit(_say(error))


def _say(error: FanfoldError) -> int:
    click.echo(f"Error: {error}", err=True)
    return POISON if isinstance(error, PoisonEventError) else 1


def _client(file: Path | None, options: Sequence[str], named: dict[str, str | None]) -> dict[str, Any]:
    found = settings.read_properties(file) if file is not None else {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--config {text!r}: write NAME=VALUE")
        found[name] = value
    return found | {name: value for name, value in named.items() if value is not None}
