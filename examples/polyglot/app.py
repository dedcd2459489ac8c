"""Polyglot: one fan-out whose tasks are done in Python and in Node.js, begun by a shell script.

1. `produce.sh` sends one message for each document, with nothing but the AWS command line: the task `arrived`.
2. `arrived` opens the fan-out: four tasks for each document, sealed in the ledger.
3. `words` and `initials` run here. `slug` and `graphemes` ask the Node worker over a queue of its own, and go to sleep;
   its answer is the same task again, with the result in it, and that is what the ledger records.
4. When all four are over, whoever did them, `publish` runs once.

README.md beside this file says how to start it.
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3

from fanfold import Context, Fanfold, FanOut, Reject, Retry, TaskSpec

ENDPOINT = os.environ.setdefault("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9324")
os.environ.setdefault("AWS_ACCESS_KEY_ID", "local")  # on loopback the endpoint takes any credentials
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "local")
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

HERE = ("words", "initials")
IN_NODE = ("slug", "graphemes")
ASK_AGAIN = 310.0
"""Seconds. SQS forgets a deduplication id after 300: the same request sent earlier would be dropped as a duplicate."""

sqs = boto3.client("sqs")
app = Fanfold(f"{ENDPOINT}/000000000000/tasks.fifo", ledger="sqlite:///ledger.db", entity="document")


@app.task("arrived")
async def arrived(document: str, task_config: dict[str, str], metadata: dict[str, str]) -> int:
    """Open the document's fan-out. The same event again opens the same one, and sends only what isn't over."""
    tasks = [TaskSpec(name, {"text": task_config["text"]}) for name in (*HERE, *IN_NODE)]
    enqueued = await app.enqueue_async(document, tasks, event_id=metadata["event"])
    return enqueued.sent


@app.task("words")
def words(task_config: dict[str, str]) -> int:
    """Words, as white space parts them."""
    return len(task_config["text"].split())


@app.task("initials")
def initials(task_config: dict[str, str]) -> str:
    """The words' first letters."""
    return "".join(word[0] for word in task_config["text"].split()).upper()


@app.task("slug", max_attempts=10)
@app.task("graphemes", max_attempts=10)
def in_node(document: str, task_name: str, task_config: dict[str, Any], context: Context) -> Any:
    """Ask the Node worker, or, where this is its answer, record it.

    The request is a task in its own right, so asking costs no waiting thread: this attempt ends, and another comes
    with the answer, or in five minutes without one. Whichever message is late finds the task over in the ledger.
    """
    answer = task_config.get("answer")
    if answer is None:
        ask_node(document, task_name, task_config, context)
        raise Retry("asked the Node worker", delay=ASK_AGAIN)
    if "error" in answer:
        raise Reject(answer["error"])
    return answer["result"]


def ask_node(document: str, task_name: str, task_config: dict[str, Any], context: Context) -> None:
    """Send the task to the Node worker's queue. Asked twice (a crash, a redelivery), it is asked once."""
    body = {
        "entity_id": document,
        "task_name": task_name,
        "task_config": task_config,
        "metadata": {},
        "fan_out_id": context.fan_out_id,
    }
    sqs.send_message(
        QueueUrl=f"{ENDPOINT}/000000000000/node.fifo",
        MessageBody=json.dumps(body),
        MessageGroupId=f"{document}-{task_name}",
        MessageDeduplicationId=f"{document}-{task_name}-{context.fan_out_id}",
    )


@app.on_complete
async def publish(fan_out: FanOut) -> None:
    """Print the document's record: by then Python and Node have both done their part."""
    failures = {name: failure.message for name, failure in fan_out.failures.items()}
    print(json.dumps({"document": fan_out.entity_id, **fan_out.results, **failures}, ensure_ascii=False), flush=True)
