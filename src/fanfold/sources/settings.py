"""What a source and a sink need to know, and where each value comes from.

Order of precedence as in `fanfold.settings`, first one wins: a command line option, an argument in code
(`Fanfold(kafka={…})`), a `FANFOLD_KAFKA_*` variable, the default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fanfold import settings
from fanfold.errors import ConfigurationError
from fanfold.sources.declaration import EventDeclaration, Events
from fanfold.sources.order import Order

BROKERS: Final = "bootstrap.servers"
GROUP: Final = "group.id"

CLIENT_VARIABLES: Final[Mapping[str, str]] = {BROKERS: "FANFOLD_KAFKA_BROKERS", GROUP: "FANFOLD_KAFKA_GROUP"}
CONFIG_FILE_VARIABLE: Final = "FANFOLD_KAFKA_CONFIG_FILE"
VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "topics": ("FANFOLD_KAFKA_TOPICS",),
    "dead_letter_topic": ("FANFOLD_KAFKA_DEAD_LETTER_TOPIC",),
    "order": ("FANFOLD_KAFKA_ORDER",),
    "max_in_flight": ("FANFOLD_KAFKA_MAX_IN_FLIGHT",),
    "max_bytes": ("FANFOLD_KAFKA_MAX_BYTES",),
}
"""Each setting's environment variables."""

_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """What a source reads, and how much of it at once.

    `client`: librdkafka's configuration, with brokers and group. `topics`: `NAME` or `NAME=TOPIC` of declared events;
    none: all. `max_in_flight`: records read and not committable; `max_bytes`: bytes of records not enqueued yet.
    """

    client: Mapping[str, Any]
    topics: Sequence[str] = ()
    dead_letter_topic: str | None = None
    order: Order = Order.NONE
    max_in_flight: int = 500
    max_bytes: int = 32 * 2**20

    def __post_init__(self) -> None:
        for name in ("max_in_flight", "max_bytes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}={getattr(self, name)}: a source takes at least one record at a time")
        if not self.client.get(GROUP):
            raise ConfigurationError("no consumer group: give --group or FANFOLD_KAFKA_GROUP; offsets are kept by it")

    @property
    def group(self) -> str:
        """The consumer group."""
        return str(self.client[GROUP])


def resolve(
    given: Mapping[str, Any],
    *,
    code: Mapping[str, Any] | None = None,
    client: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> KafkaSettings:
    """A source's settings.

    Args:
        given: the command line's options (None: not given), but for those about the client.
        code: `Fanfold(kafka=…)`, librdkafka's configuration.
        client: the same from the command line.
        environ: the environment.

    Raises:
        ConfigurationError: no brokers or group, or a value that can't work; the text names it.
    """
    found = settings.values(given, environ, VARIABLES, _TYPES)
    found["order"] = _order(found.get("order", Order.NONE))
    return KafkaSettings(client=client_config(code or {}, client or {}, environ), **found)


def client_config(
    code: Mapping[str, Any], given: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """What librdkafka is told: by the environment's file, its variables, the `code`, and what else is `given`.

    Raises:
        ConfigurationError: it names no brokers, or the file can't be read.
    """
    file = environ.get(CONFIG_FILE_VARIABLE)
    merged = read_properties(Path(file)) if file else {}
    merged |= {name: environ[variable] for name, variable in CLIENT_VARIABLES.items() if environ.get(variable)}
    merged |= {**code, **(given or {})}
    if not merged.get(BROKERS):
        raise ConfigurationError(
            "no Kafka brokers: give --brokers, FANFOLD_KAFKA_BROKERS, or Fanfold(kafka={'bootstrap.servers': …})"
        )
    return merged


def read_properties(path: Path) -> dict[str, Any]:
    """A client configuration as Kafka's own tools take it: `name=value` lines, `#` begins a comment.

    Raises:
        ConfigurationError: the file can't be read, or a line is neither.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"Kafka configuration {path}: {error}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals or not name.strip():
            raise ConfigurationError(f"Kafka configuration {path}, line {number}: write name=value")
        found[name.strip()] = value.strip()
    return found


def topics(events: Events, wanted: Sequence[str]) -> dict[str, EventDeclaration]:
    """The declared events by the topics that they are read from.

    Raises:
        ConfigurationError: an event that isn't declared, a topic twice, or no event at all.
    """
    if not len(events):
        raise ConfigurationError("this application declares no event; decorate a planner with @app.event('documents')")
    found: dict[str, EventDeclaration] = {}
    for text in wanted or [event.name for event in events]:
        name, _, topic = text.partition("=")
        event = events.get(name)
        if event is None:
            there = ", ".join([event.name for event in events][:_SHOWN])
            raise ConfigurationError(
                f"event {name!r} isn't declared; there are {there}. Write NAME=TOPIC to read an event from a topic of "
                "another name"
            )
        if found.setdefault(topic or name, event) is not event:
            raise ConfigurationError(f"topic {topic or name!r} is given to two events; a topic has one planner")
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.replace(",", " ").split() if word)


def _order(text: str) -> Order:
    try:
        return Order(text)
    except ValueError as error:
        raise ConfigurationError(f"order {text!r}: write {', '.join(Order)}") from error


_TYPES: Final[Mapping[str, Callable[[str], Any]]] = {"topics": _words, "max_in_flight": int, "max_bytes": int}
