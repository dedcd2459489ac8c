from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fanfold import Backoff, Fanfold, Reject
from fanfold.errors import ConfigurationError, DeclarationError
from fanfold.model import FOLD_NAME, TaskState
from fanfold.registry import Runs
from fanfold.sources.completions import PATIENCE
from fanfold.testing import drain_async, embedded
from kafka_mock import INVALID_RECORD, MSG_SIZE_TOO_LARGE, PRODUCE

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def cluster(kafka_mock):
    return kafka_mock


@pytest.fixture
def app(cluster):
    made = Fanfold(kafka={"bootstrap.servers": cluster.address, "log_level": 0}, max_attempts=2)

    @made.task("good", backoff=Backoff(base=1))
    async def good():
        return {"found": 1}

    @made.task("bad")
    def bad():
        raise Reject("there is none")

    with embedded(made):
        yield made


async def work_off(app, metadata=None):
    await app.enqueue_async("doc-1", ["good", "bad"], metadata=metadata, event_id="documents:3:1042")
    [fan_out] = await drain_async(app)
    return fan_out


async def test_a_fold_becomes_a_record_with_results_and_failures(app, cluster):
    topic = cluster.topic()
    app.publish_completions(topic)
    fan_out = await work_off(app, {"tenant": "acme", "traceparent": TRACE})
    assert fan_out.fold_state is TaskState.SUCCEEDED
    [record] = cluster.records(topic, 1)
    assert record.key() == b"doc-1"
    assert json.loads(record.value()) == {
        "entity_id": "doc-1",
        "fan_out_id": fan_out.fan_out_id,
        "event_id": "documents:3:1042",
        "generation": 0,
        "metadata": {"tenant": "acme", "traceparent": TRACE},
        "completed_at": fan_out.completed_at,
        "total_tasks": 2,
        "succeeded": False,
        "results": {"good": {"found": 1}},
        "failures": {"bad": {"type": "Reject", "message": "there is none"}},
    }
    assert dict(record.headers()) == {
        "fan_out_id": fan_out.fan_out_id.encode(),
        "generation": b"0",
        "event_id": b"documents:3:1042",
        "traceparent": TRACE.encode(),
    }


@pytest.mark.parametrize(
    ("answer", "found"), [({"n": 1}, b'{"n":1}'), (b"\x00avro", b"\x00avro")], ids=["JSON", "bytes"]
)
async def test_the_value_may_be_ones_own(app, cluster, answer, found):
    topic = cluster.topic()
    app.publish_completions(topic, value=lambda fan_out: answer if fan_out.results else None)
    await work_off(app)
    [record] = cluster.records(topic, 1)
    assert record.value() == found


async def test_the_completion_of_a_failed_fan_out_is_a_record_behind_on_failure(app, cluster):
    topic, seen = cluster.topic(), []
    app.publish_completions(topic)
    app.on_complete(lambda: seen.append("complete"))
    app.on_failure(lambda fan_out: seen.append(fan_out.succeeded))
    fan_out = await work_off(app)
    assert (seen, fan_out.fold_state) == ([False], TaskState.SUCCEEDED)
    [record] = cluster.records(topic, 1)
    assert json.loads(record.value())["succeeded"] is False


async def test_a_re_run_publishes_a_completion_of_its_own(app, cluster):
    topic = cluster.topic()
    app.publish_completions(topic)
    fan_out = await work_off(app)
    await app.fan_out(fan_out.fan_out_id).rerun_async()
    await drain_async(app)
    assert [dict(record.headers())["generation"] for record in cluster.records(topic, 2)] == [b"0", b"1"]


@pytest.mark.parametrize("first", ["on_complete", "publish_completions"])
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_declared_on_complete_runs_before_the_record_in_whatever_order_they_stand(app, cluster, first, kind):
    topic, seen = cluster.topic(), []

    async def on_loop(entity_id):
        seen.append((entity_id, len(cluster.records(topic, 0))))

    def in_thread(fan_out):
        seen.append((fan_out.entity_id, 0))

    if first == "publish_completions":
        app.publish_completions(topic)
    app.on_complete(on_loop if kind == "async" else in_thread)
    if first == "on_complete":
        app.publish_completions(topic)
    fan_out = await work_off(app)
    assert (seen, fan_out.fold_state) == ([("doc-1", 0)], TaskState.SUCCEEDED)
    assert len(cluster.records(topic, 1)) == 1


async def test_where_on_complete_fails_nothing_is_published(app, cluster):
    topic, attempts = cluster.topic(), []
    app.publish_completions(topic)

    @app.on_complete(max_attempts=2)
    def broken(fan_out):
        attempts.append(fan_out.entity_id)
        raise ValueError("odd")

    fan_out = await work_off(app)
    assert (len(attempts), fan_out.fold_state) == (2, TaskState.DEAD)
    cluster.produce(topic, [b"the only one"])
    assert [record.value() for record in cluster.records(topic, 1)] == [b"the only one"]


async def test_a_record_that_isnt_acknowledged_lets_the_fold_be_tried_again(app, cluster):
    topic, runs = cluster.topic(), []
    app.publish_completions(topic)

    @app.on_complete
    async def count(context):
        runs.append(context.attempt)

    cluster.answer(PRODUCE, INVALID_RECORD)
    fan_out = await work_off(app)
    assert (runs, fan_out.fold_state) == ([1, 2], TaskState.SUCCEEDED)
    assert len(cluster.records(topic, 1)) == 1


async def test_a_completion_that_can_never_be_accepted_is_a_dead_fold_with_its_reason(app, cluster):
    topic = cluster.topic()
    app.publish_completions(topic)
    cluster.answer(PRODUCE, MSG_SIZE_TOO_LARGE)
    fan_out = await work_off(app)
    assert fan_out.fold_state is TaskState.DEAD
    [fold] = [letter for letter in await (await app.broker()).dead_letters(10) if letter.task.task_name == FOLD_NAME]
    assert "message.max.bytes" in fold.reason


def test_a_fold_that_only_publishes_is_patient_and_a_declared_ones_options_win(app):
    app.publish_completions("t")
    alone = app.registry.get(FOLD_NAME)
    assert (alone.max_attempts, alone.runs) == (PATIENCE["max_attempts"], Runs.ON_LOOP)
    app.on_complete(max_attempts=7)(lambda fan_out: fan_out)
    both = app.registry.get(FOLD_NAME)
    assert (both.max_attempts, both.runs) == (7, Runs.IN_THREAD)


def test_completions_are_declared_once_and_with_known_options(app):
    with pytest.raises(DeclarationError, match="unknown option 'retries'"):
        app.publish_completions("t", retries=3)
    app.publish_completions("t")
    with pytest.raises(DeclarationError, match="publish_completions is declared twice"):
        app.publish_completions("t")


async def test_a_worker_without_the_address_of_a_broker_doesnt_start(monkeypatch, tmp_path):
    monkeypatch.delenv("FANFOLD_KAFKA_BROKERS", raising=False)
    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db") as app:
        app.task("a")(lambda: None)
        app.publish_completions("t")
        with pytest.raises(ConfigurationError, match="no Kafka brokers"):
            await app.worker()


def test_without_the_library_a_worker_says_how_to_install_it_and_declarations_still_work(tmp_path):
    (tmp_path / "app.py").write_text(
        "from fanfold import Fanfold\n"
        "app = Fanfold('sqlite:///t.db', kafka={'bootstrap.servers': 'b:9092'})\n"
        "app.task('a')(lambda: None)\n"
        "app.event('documents')(lambda event: ['a'])\n"
        "app.publish_completions('done')\n"
    )
    for command in (["worker", "app:app"], ["kafka", "app:app", "--group", "g"]):
        code = f"import sys; sys.modules['confluent_kafka'] = None; from fanfold.cli import main; main({command})"
        ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        assert "pip install 'fanfold[kafka]'" in ran.stderr
        assert ran.stderr.count("\n") == 1
