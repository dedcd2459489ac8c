from __future__ import annotations

import pytest

from fanfold import Fanfold
from fanfold.errors import ConfigurationError
from fanfold.sources.client import consumer_config, producer_config
from fanfold.sources.order import Order
from fanfold.sources.settings import VARIABLES, client_config, read_properties, resolve, topics

MINIMUM = {"bootstrap.servers": "b:9092", "group.id": "g"}


def test_with_the_least_said_the_defaults_hold():
    found = resolve({}, code=MINIMUM, environ={})
    assert (found.topics, found.dead_letter_topic, found.order) == ((), None, Order.NONE)
    assert (found.max_in_flight, found.max_bytes, found.group) == (500, 33_554_432, "g")


def test_every_setting_has_its_variable():
    wanted = {
        "topics": "documents, orders=prod.orders",
        "dead_letter_topic": "dead",
        "order": "key",
        "max_in_flight": "7",
        "max_bytes": "70",
    }
    environ = {VARIABLES[name][0]: text for name, text in wanted.items()}
    environ |= {"FANFOLD_KAFKA_BROKERS": "e:9092", "FANFOLD_KAFKA_GROUP": "eg"}
    found = resolve({}, environ=environ)
    assert (found.topics, found.dead_letter_topic, found.order) == (
        ("documents", "orders=prod.orders"),
        "dead",
        Order.KEY,
    )
    assert (found.max_in_flight, found.max_bytes) == (7, 70)
    assert found.client == {"bootstrap.servers": "e:9092", "group.id": "eg"}


def test_an_option_wins_over_the_variable():
    environ = {"FANFOLD_KAFKA_ORDER": "key", "FANFOLD_KAFKA_MAX_IN_FLIGHT": "7"}
    found = resolve({"order": "partition", "max_in_flight": None}, code=MINIMUM, environ=environ)
    assert (found.order, found.max_in_flight) == (Order.PARTITION, 7)


def test_the_client_is_told_by_the_command_line_then_code_then_variables_then_the_environments_file(tmp_path):
    file = tmp_path / "client.properties"
    names = ["a", "b", "c", "bootstrap.servers"]
    file.write_text("".join(f"{name}=file\n" for name in names))
    environ = {"FANFOLD_KAFKA_CONFIG_FILE": str(file), "FANFOLD_KAFKA_BROKERS": "variable"}
    found = client_config({"a": "code", "b": "code"}, {"a": "option"}, environ)
    assert found == {"a": "option", "b": "code", "c": "file", "bootstrap.servers": "variable"}


def test_without_brokers_the_three_places_to_say_them_are_named():
    with pytest.raises(ConfigurationError, match=r"--brokers, FANFOLD_KAFKA_BROKERS, or Fanfold"):
        resolve({}, environ={})


def test_without_a_group_the_places_to_say_it_are_named():
    with pytest.raises(ConfigurationError, match="--group or FANFOLD_KAFKA_GROUP"):
        resolve({}, code={"bootstrap.servers": "b"}, environ={})


@pytest.mark.parametrize("variable", ["FANFOLD_KAFKA_MAX_IN_FLIGHT", "FANFOLD_KAFKA_MAX_BYTES"])
@pytest.mark.parametrize("text", ["many", "0", "-1"])
def test_a_bound_is_a_number_of_at_least_one(variable, text):
    with pytest.raises(ConfigurationError, match=r"number|at least one"):
        resolve({}, code=MINIMUM, environ={variable: text})


def test_an_order_that_isnt_one_names_those_that_are():
    with pytest.raises(ConfigurationError, match="order 'keys': write none, key, partition"):
        resolve({}, code=MINIMUM, environ={"FANFOLD_KAFKA_ORDER": "keys"})


def test_a_properties_file_is_read_as_kafkas_tools_read_it(tmp_path):
    file = tmp_path / "client.properties"
    file.write_text("# the cluster\n\nsecurity.protocol = SASL_SSL\nsasl.password=a=b#c\n  # more\nssl.ca.location=\n")
    assert read_properties(file) == {
        "security.protocol": "SASL_SSL",
        "sasl.password": "a=b#c",
        "ssl.ca.location": "",
    }


def test_a_line_that_says_nothing_is_named(tmp_path):
    file = tmp_path / "client.properties"
    file.write_text("a=b\nsecurity.protocol\n")
    with pytest.raises(ConfigurationError, match="line 2: write name=value"):
        read_properties(file)


def test_a_file_that_cant_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"missing\.properties"):
        read_properties(tmp_path / "missing.properties")


@pytest.fixture
def events():
    app = Fanfold()
    for name in ("documents", "orders"):
        app.event(name)(lambda event: event)
    return app.events


def names(found):
    return {topic: event.name for topic, event in found.items()}


def test_all_declared_events_are_read_from_topics_of_their_names(events):
    assert names(topics(events, ())) == {"documents": "documents", "orders": "orders"}


def test_an_event_may_come_from_a_topic_of_another_name_or_from_several(events):
    wanted = ["documents=prod.documents", "documents=eu.documents", "orders"]
    assert names(topics(events, wanted)) == {
        "prod.documents": "documents",
        "eu.documents": "documents",
        "orders": "orders",
    }


def test_an_event_that_isnt_declared_is_named_with_those_that_are(events):
    with pytest.raises(ConfigurationError, match="event 'document' isn't declared; there are documents, orders"):
        topics(events, ["document"])


def test_a_topic_has_one_planner(events):
    with pytest.raises(ConfigurationError, match="topic 'orders' is given to two events"):
        topics(events, ["documents=orders", "orders"])


def test_an_application_without_events_is_told_how_to_declare_one():
    with pytest.raises(ConfigurationError, match=r"@app\.event"):
        topics(Fanfold().events, ())


def test_a_consumer_reads_from_the_beginning_and_cooperates_unless_told_otherwise():
    assert consumer_config(MINIMUM)["auto.offset.reset"] == "earliest"
    assert consumer_config(MINIMUM)["partition.assignment.strategy"] == "cooperative-sticky"
    assert consumer_config({**MINIMUM, "auto.offset.reset": "latest"})["auto.offset.reset"] == "latest"


def test_a_consumer_never_commits_by_itself():
    found = consumer_config({**MINIMUM, "enable.auto.commit": "False"})
    assert (found["enable.auto.commit"], found["enable.auto.offset.store"]) == (False, False)


@pytest.mark.parametrize("option", ["enable.auto.commit", "enable.auto.offset.store", "enable.partition.eof"])
@pytest.mark.parametrize("value", [True, "true"])
def test_what_would_commit_events_that_arent_enqueued_is_refused(option, value):
    with pytest.raises(ConfigurationError, match=f"{option}=.*the source commits itself"):
        consumer_config({**MINIMUM, option: value})


def test_where_the_cluster_assigns_it_isnt_told_how():
    assert "partition.assignment.strategy" not in consumer_config({**MINIMUM, "group.protocol": "consumer"})


def test_each_side_gets_its_own_options_and_both_get_those_of_the_connection():
    client = {
        **MINIMUM,
        "sasl.mechanism": "PLAIN",
        "compression.type": "lz4",
        "max.poll.interval.ms": 1,
        "transactional.id": "t",
        "acks": "all",
    }
    consumer, producer = consumer_config(client), producer_config(client)
    assert {"sasl.mechanism", "max.poll.interval.ms", "group.id"} <= consumer.keys()
    assert not {"compression.type", "transactional.id", "acks"} & consumer.keys()
    assert {"sasl.mechanism", "compression.type", "acks"} <= producer.keys()
    assert not {"group.id", "max.poll.interval.ms", "transactional.id"} & producer.keys()
    assert producer["enable.idempotence"] is True
