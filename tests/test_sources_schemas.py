from __future__ import annotations

from dataclasses import dataclass

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.struct_pb2 import Struct

from fanfold import Fanfold
from fanfold.sources import Record, schemas
from fanfold.sources.planning import Later, plan

TOPIC = "documents"
VALUE = SerializationContext(TOPIC, MessageField.VALUE)
AVRO = '{"type": "record", "name": "Document", "fields": [{"name": "id", "type": "string"}]}'


@dataclass
class Document:
    id: str


@pytest.fixture
def registry():
    return SchemaRegistryClient.new_client({"url": "mock://"})


def decide(planner, decoder, value):
    app = Fanfold()
    app.event(TOPIC, decoder=decoder, entity=lambda key: key)(planner)
    return plan(app.events.get(TOPIC), Record(topic=TOPIC, partition=0, offset=0, key=b"k", value=value))


def test_avro_events_are_decoded_by_the_registrys_schema_and_typed_by_annotation(registry):
    def planner(event: Document):
        return event.id

    value = AvroSerializer(registry, AVRO)({"id": "title"}, VALUE)
    assert decide(planner, schemas.decoder(AvroDeserializer(registry)), value).tasks == ["title"]


def test_protobuf_events_are_messages_of_their_own_class(registry):
    def planner(event: Struct):
        return event["id"]

    message = Struct()
    message["id"] = "title"
    options = {"use.deprecated.format": False}
    value = ProtobufSerializer(Struct, registry, options)(message, VALUE)
    assert decide(planner, schemas.decoder(ProtobufDeserializer(Struct, options)), value).tasks == ["title"]


@pytest.mark.parametrize("value", [b"", b"no schema id", b"\x00\x00\x00\x00\x63rest"], ids=repr)
def test_what_no_schema_fits_is_poison(registry, value):
    decision = decide(lambda event: event, schemas.decoder(AvroDeserializer(registry)), value)
    assert decision.stage == "decoding"


def test_a_tombstone_is_none(registry):
    assert decide(
        lambda event: ["a"] if event is None else [], schemas.decoder(AvroDeserializer(registry)), None
    ).tasks == ["a"]


@pytest.mark.parametrize(
    "error",
    [SchemaRegistryError(503, 50301, "starting"), SchemaRegistryError(401, 401, "who?"), ConnectionRefusedError("no")],
    ids=["unavailable", "unauthorized", "unreachable"],
)
def test_while_the_registry_has_no_answer_an_event_waits(error):
    def deserialize(*_):
        raise error

    decided = decide(lambda event: event, schemas.decoder(deserialize), b"any")
    assert isinstance(decided, Later)
    assert str(error) in decided.failure.message


def test_while_the_registrys_own_client_cant_reach_it_an_event_waits():
    away = SchemaRegistryClient({"url": "http://127.0.0.1:1", "max.retries": 0})
    value = b"\x00\x00\x00\x00\x01anything"
    decided = decide(lambda event: event, schemas.decoder(AvroDeserializer(away)), value)
    assert isinstance(decided, Later)


def test_a_schema_that_the_registry_doesnt_have_is_poison():
    def deserialize(*_):
        raise SchemaRegistryError(404, 40403, "Schema not found")

    assert decide(lambda event: event, schemas.decoder(deserialize), b"any").stage == "decoding"
