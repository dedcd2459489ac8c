"""Records out: an idempotent producer whose every record is waited for until the cluster has it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Message, Producer

from fanfold.sources.messages import not_delivered
from fanfold.sources.record import Header

_LOOK: Final = 0.1
"""Seconds of one wait for acknowledgements; they end it when they come."""


class Publisher:
    """Sends records, from any thread or event loop.

    1. `submit` hands a record to librdkafka, which batches, retries and keeps their order per partition.
    2. A thread fetches acknowledgements while there are any to come, and ends when there are none.
    3. The future has a result only when the cluster has the record, as safe as `acks=all` makes it.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Connects in the background. `config` is librdkafka's, for a producer."""
        self._producer = Producer(dict(config), logger=logging.getLogger("fanfold.kafka"))
        self._guard = threading.Lock()
        self._outstanding = 0
        self._thread: threading.Thread | None = None

    def submit(self, topic: str, *, key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> Future[None]:
        """Send a record.

        The future raises InvalidInputError where it can never be accepted (too large), KafkaUnavailableError where it
        wasn't acknowledged in time (`delivery.timeout.ms`), KafkaError for anything else.
        """
        acknowledged: Future[None] = Future()
        with self._guard:
            self._outstanding += 1
        try:
            self._produce(topic, key, value, headers, self._answer(acknowledged, topic))
        except (KafkaException, BufferError) as error:
            self._settle(acknowledged, not_delivered(error.args[0] if error.args else error, topic))
        else:
            self._watch()
        return acknowledged

    async def send(self, topic: str, *, key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> None:
        """`submit`, waited for in an event loop."""
        await asyncio.wrap_future(self.submit(topic, key=key, value=value, headers=headers))

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        answer: Callable[[Code | None, Message], None],
    ) -> None:
        self._producer.produce(topic, key=key, value=value, headers=list(headers), on_delivery=answer)

    def _answer(self, acknowledged: Future[None], topic: str) -> Callable[[Code | None, Message], None]:
        def answer(error: Code | None, _: Message) -> None:
            self._settle(acknowledged, not_delivered(error, topic) if error is not None else None)

        return answer

    def _settle(self, acknowledged: Future[None], error: Exception | None) -> None:
        with self._guard:
            self._outstanding -= 1
        if not acknowledged.set_running_or_notify_cancel():
            return  # nobody waits any more
        if error is None:
            acknowledged.set_result(None)
        else:
            acknowledged.set_exception(error)

    def _watch(self) -> None:
        with self._guard:
            if self._outstanding and self._thread is None:
                self._thread = threading.Thread(target=self._fetch, name="fanfold-publisher", daemon=True)
                self._thread.start()

    def _fetch(self) -> None:
        while True:
            self._producer.poll(_LOOK)
            with self._guard:
                if not self._outstanding:
                    self._thread = None
                    return
