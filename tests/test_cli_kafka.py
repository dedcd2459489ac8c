from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from fanfold import Fanfold
from sourcing import value

APP = """
import asyncio, sys, threading
from fanfold import Fanfold
app = Fanfold("sqlite:///tasks.db", grace=3600)

@app.event("events", entity=lambda event: event["id"])
async def plan(event):
    print("planning", event["id"], file=sys.stderr)
    if event["id"] == "stuck":
        await asyncio.Event().wait()
    while event["id"] == "swallows its cancellation":
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
    return ["a", "b"]

@app.event("blocking events", entity=lambda event: event["id"])
def plan_in_a_thread(event):
    print("planning", event["id"], file=sys.stderr)
    while event["id"] == "blocks its thread":
        threading.Event().wait()
    return ["a"]
"""
EXITS_WITHIN = 90
"""Seconds in which a process that has nothing left to do has exited on the busiest machine."""


class Command:
    """`fanfold kafka app:app` in a folder of its own."""

    def __init__(self, folder, *options, **environ):
        (folder / "app.py").write_text(APP)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fanfold", "kafka", "app:app", *options],
            cwd=folder,
            env={name: text for name, text in os.environ.items() if not name.startswith("FANFOLD_")} | environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def until_said(self, *words):
        """Return when a line with all these words was written to standard error."""
        line = ""
        while not all(word in line for word in words):
            line = self._process.stderr.readline()
            assert line, f"it ended without a word of {words}:\n{self.said}"
            self.said += line

    def signal(self, number):
        self._process.send_signal(number)

    def exit_code(self):
        self.said += self._process.communicate(timeout=EXITS_WITHIN)[1]
        return self._process.returncode

    def end(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def command(tmp_path):
    made = []

    def make(*options, **environ):
        made.append(Command(tmp_path, *options, **environ))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def cluster(kafka_mock):
    return kafka_mock


def entities(folder):
    with Fanfold(f"sqlite:///{folder}/tasks.db") as app:
        return sorted(fan_out.entity_id for fan_out in app.fan_outs())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_it_enqueues_until_it_is_told_to_stop_and_commits(command, cluster, tmp_path, number):
    topic, group = cluster.topic(), cluster.group()
    cluster.produce(topic, [value("a"), value("b")])
    source = command("--brokers", cluster.address, "--group", group, "--topic", f"events={topic}")
    source.until_said("fan_out.enqueued", "entity_id=b")
    source.signal(number)
    assert source.exit_code() == 0
    assert "kafka.progress read=2 enqueued=2" in source.said
    assert cluster.committed(group, topic) == [2]
    assert entities(tmp_path) == ["a", "b"]


def test_the_environment_and_a_file_say_what_the_command_line_doesnt(command, cluster, tmp_path):
    topic, dead = cluster.topic(), cluster.topic()
    (tmp_path / "client.properties").write_text(f"# ours\nbootstrap.servers={cluster.address}\nclient.id=tested\n")
    cluster.produce(topic, [b"{not json", value("b")])
    source = command(
        "--log-format",
        "json",
        FANFOLD_KAFKA_CONFIG_FILE="client.properties",
        FANFOLD_KAFKA_GROUP=cluster.group(),
        FANFOLD_KAFKA_TOPICS=f"events={topic}",
        FANFOLD_KAFKA_DEAD_LETTER_TOPIC=dead,
        FANFOLD_KAFKA_ORDER="partition",
    )
    source.until_said('"kafka.poison"', '"stage": "decoding"')
    source.until_said('"fan_out.enqueued"')
    source.signal(signal.SIGTERM)
    assert source.exit_code() == 0
    assert len(cluster.records(dead, 1)) == 1


def test_at_a_poison_event_it_stops_with_a_code_of_its_own(command, cluster):
    topic, group = cluster.topic(), cluster.group()
    cluster.produce(topic, [value("a"), b"{not json"])
    source = command("--brokers", cluster.address, "--group", group, "--topic", f"events={topic}")
    assert source.exit_code() == 3
    assert f"Error: {topic}:0:1 can't be enqueued: decoding it failed" in source.said
    assert "Traceback" not in source.said
    assert cluster.committed(group, topic) == [1]


def test_at_a_poison_event_it_stops_although_a_planner_cant_be_ended(command, cluster):
    topic, group = cluster.topic(), cluster.group()
    cluster.produce(topic, [value("swallows its cancellation"), b"{not json"])
    address = ("--brokers", cluster.address, "--group", group)
    source = command(*address, "--topic", f"events={topic}", "--grace", "2")
    assert source.exit_code() == 3
    assert "Error: " in source.said
    assert cluster.committed(group, topic) == [0]


@pytest.mark.parametrize(
    ("event", "stuck"),
    [("events", "stuck"), ("events", "swallows its cancellation"), ("blocking events", "blocks its thread")],
    ids=["waits", "swallows its cancellation", "blocks its thread"],
)
def test_a_second_signal_stops_it_at_once_and_what_wasnt_finished_stays_uncommitted(command, cluster, event, stuck):
    topic, group = cluster.topic(), cluster.group()
    cluster.produce(topic, [value("a")])
    source = command("--brokers", cluster.address, "--group", group, "--topic", f"{event}={topic}")
    source.until_said("fan_out.enqueued")
    cluster.produce(topic, [value(stuck)])
    source.until_said("planning", stuck)
    source.signal(signal.SIGTERM)
    source.until_said("kafka.stopping")
    source.signal(signal.SIGTERM)
    assert source.exit_code() == 0
    assert cluster.committed(group, topic)[0] <= 1


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--group", "g"], 1, "no Kafka brokers"),
        (["--brokers", "b:9092"], 1, "no consumer group"),
        (["--brokers", "b:9092", "--group", "g", "--topic", "document"], 1, "there are events"),
        (["--brokers", "b:9092", "--group", "g", "-X", "nonsense"], 2, "write NAME=VALUE"),
        (["--brokers", "b:9092", "--group", "g", "-X", "no.such.option=1"], 1, "no.such.option"),
        (["--brokers", "b:9092", "--group", "g", "-X", "enable.auto.commit=true"], 1, "the source commits itself"),
        (["--order", "keys"], 2, "'keys' is not one of"),
        (["--config-file", "missing.properties"], 2, "does not exist"),
    ],
)
def test_what_cant_work_is_said_in_one_line(command, options, code, text):
    source = command(*options)
    assert source.exit_code() == code
    assert text in source.said
    assert "Traceback" not in source.said
