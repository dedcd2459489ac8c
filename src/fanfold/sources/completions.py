"""The sink: a complete fan-out becomes a record, acknowledged before its fold counts as done."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fanfold.codec import to_json
from fanfold.errors import InvalidInputError
from fanfold.model import FanOut, Json
from fanfold.outcome import Reject, failure_of
from fanfold.retry import Backoff
from fanfold.sources.client import producer_config
from fanfold.sources.extra import require_kafka
from fanfold.sources.planning import TRACEPARENT
from fanfold.sources.record import Header
from fanfold.sources.settings import client_config

if TYPE_CHECKING:
    from fanfold.sources.publisher import Publisher

PATIENCE: Mapping[str, Any] = {"max_attempts": 1_000, "backoff": Backoff(base=1, cap=60)}
"""How often a fold that only publishes is tried: for most of a day without Kafka."""


class Completions:
    """Publishes complete fan-outs: a `fold.Step`.

    1. `prepare` connects, when a worker starts.
    2. Each fan-out becomes one record: key, value, headers. Its fold is over when the cluster has it.
    3. What can't be delivered is raised, and the fold is tried again: a record may come twice, and never not at all.
       `fan_out_id` and `generation` in its headers tell a second one from that of a re-run.
    """

    def __init__(
        self, topic: str, *, config: Mapping[str, Any], value: Callable[[FanOut], Json | bytes] | None = None
    ) -> None:
        """Nothing is connected before `prepare` or the first fan-out.

        Args:
            topic: where the records go.
            config: librdkafka's, over what the environment says.
            value: answers a record's value, JSON or bytes; None: `as_json`.
        """
        self.topic = topic
        self._config = config
        self._value = value or as_json
        self._guard = threading.Lock()
        self._publisher: Publisher | None = None

    def prepare(self) -> Publisher:
        """Connect in the background. Idempotent.

        Raises:
            MissingExtraError, ConfigurationError: Kafka's library, or the address of a broker, is missing.
        """
        require_kafka()
        from fanfold.sources.publisher import Publisher  # noqa: PLC0415 - only where there is Kafka

        with self._guard:
            if self._publisher is None:
                self._publisher = Publisher(producer_config(client_config(self._config, environ=os.environ)))
            return self._publisher

    def run(self, fan_out: FanOut) -> None:
        """Publish it, from a thread that may wait. Raises Reject where it can't be, KafkaError where it wasn't."""
        with _refused_for_good():
            self._submit(fan_out).result()

    async def run_async(self, fan_out: FanOut) -> None:
        """Publish it, on the loop. Raises as `run` does."""
        with _refused_for_good():
            await asyncio.wrap_future(self._submit(fan_out))

    def _submit(self, fan_out: FanOut) -> Future[None]:
        value = self._value(fan_out)
        encoded = value if isinstance(value, bytes) else to_json(value, what=f"completion of {fan_out.entity_id!r}")
        return self.prepare().submit(
            self.topic,
            key=fan_out.entity_id.encode(),
            value=encoded if isinstance(encoded, bytes) else encoded.encode(),
            headers=headers_of(fan_out),
        )


@contextmanager
def _refused_for_good() -> Iterator[None]:
    try:
        yield
    except InvalidInputError as error:
        raise Reject(failure_of(error, __file__)) from error


def as_json(fan_out: FanOut) -> Json:
    """A completion as it is published: results and failures by task name."""
    return {
        "entity_id": fan_out.entity_id,
        "fan_out_id": fan_out.fan_out_id,
        "event_id": fan_out.event_id,
        "generation": fan_out.generation,
        "metadata": fan_out.metadata,
        "completed_at": fan_out.completed_at,
        "total_tasks": fan_out.total_tasks,
        "succeeded": fan_out.succeeded,
        "results": fan_out.results,
        "failures": {name: {"type": f.type, "message": f.message} for name, f in fan_out.failures.items()},
    }


def headers_of(fan_out: FanOut) -> list[Header]:
    """A completion's headers: which fan-out it is, which event began it, and the trace that came with that."""
    texts = {"fan_out_id": fan_out.fan_out_id, "generation": str(fan_out.generation), "event_id": fan_out.event_id}
    trace = fan_out.metadata.get(TRACEPARENT)
    texts |= {TRACEPARENT: trace} if isinstance(trace, str) else {}
    return [(name, text.encode()) for name, text in texts.items() if text is not None]
