"""The Kafka example as its README says it is run: a producer, the source, two workers, and the completions."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from commands import environment, started
from fanfold import Fanfold

EXAMPLE = Path(__file__).parents[2] / "examples/kafka_fields"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
TOPICS = ["documents", "documents.fields", "documents.dead"]
PARTITIONS = 3
FIELDS = 3


@pytest.fixture
def here(tmp_path):
    return Path(shutil.copytree(EXAMPLE, tmp_path / "kafka_fields"))


@contextlib.contextmanager
def python(script, *arguments, cwd, broker):
    """A script that goes on."""
    command = [sys.executable, script, *arguments]
    environ = environment(FANFOLD_KAFKA_BROKERS=broker)
    with subprocess.Popen(command, cwd=cwd, env=environ, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        try:
            yield process
        finally:
            process.kill()


def produce(*arguments, cwd, broker):
    with python("produce.py", *arguments, cwd=cwd, broker=broker) as producer:
        assert producer.wait(60) == 0


def stop(process):
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


async def test_documents_come_in_from_kafka_and_go_back_as_one_record_each(here, kafka):
    for topic in TOPICS:
        kafka.make_topic(topic, PARTITIONS)
    blocks = dict(BLOCKS)
    variable, source, worker, second_worker, follow, first = blocks["sh"].splitlines()
    assert variable.startswith("export FANFOLD_KAFKA_BROKERS=")
    assert worker == second_worker
    place = {"cwd": here, "broker": kafka.address}
    # The broker of the tests lets a group that forms wait for half of a member's session.
    (here / "client.properties").write_text("session.timeout.ms=6000\n")
    command = {"cwd": here, "FANFOLD_KAFKA_BROKERS": kafka.address, "FANFOLD_KAFKA_CONFIG_FILE": "client.properties"}
    with (
        started(*source.split()[1:], **command) as reading,
        started(*worker.split()[1:], **command) as working,
        started(*worker.split()[1:], **command) as working_too,
        python(*follow.split()[1:], **place) as following,
    ):
        produce(*shlex.split(first)[2:], **place)
        expected = [json.loads(line) for line in blocks["json"].splitlines()]
        found = [json.loads(following.stdout.readline()) for _ in expected]
        assert sorted(found, key=lambda shown: shown["doc_id"]) == expected

        produce("removed", "README.md", **place)  # means no tasks
        produce("eaten", "README.md", **place)
        [dead] = kafka.records("documents.dead", 1, PARTITIONS)
        assert dict(dead.headers())["fanfold.error.stage"] == b"planning"
        assert b"nobody knows what that means" in dict(dead.headers())["fanfold.error.message"]

        said = [stop(reading), stop(working), stop(working_too)]
    assert sum(kafka.committed("fields", "documents", PARTITIONS)) == len(expected) + 2
    starts = Counter(re.findall(r"task\.(?:completed|dead) .*?doc_id=(\S+) field_name=(\S+)", "".join(said)))
    assert len(starts) == len(expected) * (FIELDS + 1)  # with the folds
    assert set(starts.values()) == {1}
    async with Fanfold(f"sqlite:///{here}/kafka_fields.db") as app:
        fan_outs = await app.fan_outs_async()
        assert sorted(fan_out.entity_id for fan_out in fan_outs) == ["README.md", "fields.py"]
        assert all(fan_out.metadata == {"tenant": "acme"} for fan_out in fan_outs)
        assert (await app.status_async()).messages_available == 0
