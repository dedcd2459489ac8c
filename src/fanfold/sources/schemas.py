"""Decoders from confluent-kafka's own deserializers: Avro, Protobuf and JSON Schema with a schema registry.

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

registry = SchemaRegistryClient({"url": "https://registry:8081"})

@app.event("documents", decoder=schemas.decoder(AvroDeserializer(registry)))
def plan(event: Document): ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fanfold.outcome import Retry
from fanfold.sources.declaration import Decoder
from fanfold.sources.record import Record

_ASK_AGAIN: Final = 5.0
"""Seconds between two tries of an event whose schema can't be had."""


def decoder(deserializer: Callable[[bytes | None, Any], Any]) -> Decoder:
    """A decoder for `@app.event` that calls a deserializer as confluent-kafka's consumer would.

    It runs in a thread, so that asking the registry holds up nobody. While the registry is away or refuses to answer,
    events wait: it is no fault of theirs.
    """

    def decode(record: Record) -> Any:
        from confluent_kafka.serialization import MessageField, SerializationContext  # noqa: PLC0415 - only with Kafka

        context = SerializationContext(record.topic, MessageField.VALUE, headers=list(record.headers))
        try:
            return deserializer(record.value, context)
        except Exception as error:
            if _is_the_registrys(error):
                raise Retry(f"schema registry: {error or repr(error)}", delay=_ASK_AGAIN) from error
            raise

    return decode


def _is_the_registrys(error: Exception) -> bool:
    """Whether it says nothing about the record. A schema that isn't there (404) or can't be one (422) does."""
    status = getattr(error, "http_status_code", None)
    if status is not None:
        return status not in (404, 422)
    # The library speaks HTTP through requests, httpx or httpx2, by its version; the first one's errors are OSErrors.
    return isinstance(error, OSError) or any(kind.__name__ == "TransportError" for kind in type(error).__mro__)
