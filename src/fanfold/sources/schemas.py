"""Decoders from confluent-kafka's own deserializers: Avro, Protobuf and JSON Schema with a schema registry.

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

registry = SchemaRegistryClient({"url": "https://registry:8081"})

@app.event("documents", decoder=schemas.decoder(AvroDeserializer(registry)))
def plan(event: Document): ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fanfold.sources.declaration import Decoder
from fanfold.sources.record import Record


def decoder(deserializer: Callable[[bytes | None, Any], Any]) -> Decoder:
    """A decoder for `@app.event` that calls a deserializer as confluent-kafka's consumer would.

    It runs in a thread, so that asking the registry holds up nobody.
    """

    def decode(record: Record) -> Any:
        from confluent_kafka.serialization import MessageField, SerializationContext  # noqa: PLC0415 - only with Kafka

        context = SerializationContext(record.topic, MessageField.VALUE, headers=list(record.headers))
        return deserializer(record.value, context)

    return decode
