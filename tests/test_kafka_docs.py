"""What docs/kafka.md tells its reader to write or to run is run here, and what it lists is all there is."""

from __future__ import annotations

import ast
import re
import shlex
import signal
import sys
import types
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from commands import started
from fanfold.cli.kafka import kafka as command
from fanfold.sources import Record, settings
from fanfold.sources.client import consumer_config, producer_config
from fanfold.sources.planning import Planned, plan
from fanfold.sources.settings import read_properties

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/kafka.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```\n", PAGE, re.DOTALL))


def run(name):
    """Run a block of Python as a module; answers its application."""
    module = types.ModuleType(name.removesuffix(".py"))
    sys.modules[module.__name__] = module  # where annotations are looked up
    try:
        exec(compile(BLOCKS[name], name, "exec"), vars(module))  # noqa: S102 - it is our own page
    finally:
        del sys.modules[module.__name__]
    return module.app


def decided(app, topic, **record):
    return plan(app.events.get(topic), Record(topic=topic, partition=3, offset=1042, **record))


def test_there_is_no_example_that_nothing_here_runs():
    assert BLOCKS.keys() == {"app.py", "session", "options.py", "avro.py", "client.properties", "msk.py"}


async def test_the_first_application_does_what_the_session_says(tmp_path, kafka_mock):
    (tmp_path / "app.py").write_text(BLOCKS["app.py"])
    variable, source, worker = map(shlex.split, BLOCKS["session"].splitlines())
    assert variable[1].startswith("FANFOLD_KAFKA_BROKERS=")
    for topic in ("documents", "documents.fields", "documents.dead"):
        kafka_mock.make_topic(topic, 1)
    kafka_mock.produce("documents", [b'{"what": "arrived"}', b"none"], key=b"doc-1")
    place = {"cwd": tmp_path, "FANFOLD_KAFKA_BROKERS": kafka_mock.address}
    with started(*source[1:], **place) as reading, started(*worker[1:], **place) as working:
        [completion] = kafka_mock.records("documents.fields", 1)
        [dead] = kafka_mock.records("documents.dead", 1)
        for process in (reading, working):
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=300)
    assert (reading.returncode, working.returncode) == (0, 0)
    assert b'"results":{"title":"Doc-1","language":"en"}' in completion.value()
    assert dead.value() == b"none"
    assert kafka_mock.committed("fields", "documents") == [2]


def test_options_say_entity_event_id_and_metadata():
    value = b'{"number": 7, "customer": "acme", "lines": ["pen"]}'
    planned = decided(run("options.py"), "orders", value=value, headers=[("version", b"2")])
    assert isinstance(planned, Planned), planned
    assert (planned.entity_id, planned.event_id, planned.metadata) == ("order-7", "7@2", {"customer": "acme"})
    assert [task.name for task in planned.tasks] == ["reserve-pen"]


def test_the_avro_example_declares_an_event_with_a_decoder():
    assert run("avro.py").events.get("documents").decoder is not None


def test_the_msk_example_hands_its_token_to_source_and_sink(monkeypatch):
    signer = types.ModuleType("aws_msk_iam_sasl_signer")
    signer.MSKAuthTokenProvider = types.SimpleNamespace(generate_auth_token=lambda region: (region, 1_795_526_931_500))
    monkeypatch.setitem(sys.modules, signer.__name__, signer)
    client = run("msk.py").kafka | {"group.id": "g"}
    assert client["oauth_cb"]("") == ("eu-west-1", 1_795_526_931.5)
    for config in (consumer_config(client), producer_config(client)):
        assert config["oauth_cb"] is client["oauth_cb"]
        assert config["sasl.mechanism"] == "OAUTHBEARER"


def test_librdkafka_knows_the_options_of_the_properties_file(tmp_path):
    (tmp_path / "client.properties").write_text(BLOCKS["client.properties"])
    client = read_properties(tmp_path / "client.properties") | {"group.id": "g", "log_level": 0}
    Consumer(consumer_config(client)).close()
    Producer(producer_config(client))


def test_every_option_and_variable_is_in_the_table():
    variables = [*settings.CLIENT_VARIABLES.values(), settings.CONFIG_FILE_VARIABLE]
    variables += [name for names in settings.VARIABLES.values() for name in names]
    assert [name for name in variables if f"`{name}`" not in PAGE] == []
    own = [option for option in command.params if "KAFKA" in (option.help or "")] if command.params else []
    assert own
    assert [option.opts[0] for option in own if f"| `{option.opts[0]}" not in PAGE] == []


def test_every_event_that_the_source_emits_is_told_of():
    emitted = set()
    for path in (ROOT / "src/fanfold/sources").glob("*.py"):
        texts = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        emitted |= {text for text in texts if isinstance(text, str) and re.fullmatch(r"kafka\.[a-z_]+", text)}
    assert len(emitted) > 10
    assert {name for name in emitted if f"`{name}`" not in PAGE} == set()


@pytest.mark.parametrize("name", ["stage", "type", "message"])
def test_the_headers_of_a_poison_event_are_listed(name):
    assert f"`fanfold.error.{name}`" in PAGE
