"""SQS actions on message move tasks: start, list, cancel."""

from __future__ import annotations

import base64
import binascii
import json
import sqlite3
from typing import Any, Final

from fanfold import limits
from fanfold.engine import errors, moves, queues
from fanfold.engine.desk import Answer, CallContext, Desk, Request, required, storable
from fanfold.engine.moves import Order, Task
from fanfold.engine.policies import queue_of_arn
from fanfold.engine.queues import Queue

_MOST_RESULTS: Final = 10
_ALREADY: Final = (
    "There is already a task running. Only one active task is allowed for a source queue arn at a given time."
)
_ARN_FORM: Final = "arn:<partition>:<service>:<region>:<account-id>:<resource-id>"


async def start_message_move_task(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """StartMessageMoveTask."""
    source, destination = _named(request, "SourceArn"), None
    if request.get("DestinationArn") is not None:
        destination = _named(request, "DestinationArn")
    rate: int | None = request.get("MaxNumberOfMessagesPerSecond")
    most = limits.MAX_MOVES_PER_SECOND
    if rate is not None and not 1 <= rate <= most:
        reason = f"You must enter a number that's between 1 and {most}."
        raise errors.invalid(f"Value for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: {reason}")
    order = Order(id=desk.new_id(), destination=destination, rate=rate)

    def start(connection: sqlite3.Connection) -> None:
        queue = _source(connection, source)
        _check_destination(connection, source, destination)
        if any(task.status == moves.RUNNING for task in moves.of_source(connection, source, 1)):
            raise errors.invalid(_ALREADY)
        moves.start(connection, queue, order, desk.now())

    await desk.write(start)
    desk.wake_mover()
    return {"TaskHandle": _handle(order.id, desk.arn(source))}


async def cancel_message_move_task(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """CancelMessageMoveTask: what has been moved stays moved."""
    task_id, source = _read_handle(required(request, "TaskHandle"))

    def cancel(connection: sqlite3.Connection) -> Task:
        _existing(connection, source, "SourceArn")
        task = moves.find(connection, task_id)
        if task is None:
            raise errors.not_found("Task does not exist.")
        if task.status != moves.RUNNING:
            raise errors.invalid("Only a task whose status is RUNNING can be cancelled.")
        moves.cancel(connection, task)
        return task

    task = await desk.write(cancel)
    return {"ApproximateNumberOfMessagesMoved": task.moved}


async def list_message_move_tasks(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """ListMessageMoveTasks: the newest first."""
    source, most = _named(request, "SourceArn"), request.get("MaxResults")
    if most is not None and not 1 <= most <= _MOST_RESULTS:
        reason = f"You must enter a number that's between 1 and {_MOST_RESULTS}."
        raise errors.invalid(f"Value for parameter MaxResults is invalid. Reason: {reason}")

    def listed(connection: sqlite3.Connection) -> list[Task]:
        _existing(connection, source, "SourceArn")
        return moves.of_source(connection, source, most or 1)

    tasks = await desk.read(listed)
    return {"Results": [_told(desk, task) for task in tasks]} if tasks else {}


def _named(request: Request, parameter: str) -> str:
    if request.get(parameter) is None:
        raise errors.missing(parameter)
    name = queue_of_arn(request[parameter])
    if name is None:
        raise errors.invalid(f"You must use this format to specify the {parameter}: {_ARN_FORM}")
    return name


def _existing(connection: sqlite3.Connection, name: str, parameter: str) -> Queue:
    queue = queues.find(connection, name)
    if queue is None:
        raise errors.not_found(f"The resource that you specified for the {parameter} parameter doesn't exist.")
    return queue


def _source(connection: sqlite3.Connection, name: str) -> Queue:
    queue = _existing(connection, name, "SourceArn")
    if not queues.is_target(connection, name):
        raise errors.invalid("Source queue must be configured as a Dead Letter Queue.")
    return queue


def _check_destination(connection: sqlite3.Connection, source: str, destination: str | None) -> None:
    if destination is None:
        return
    if destination == source:
        raise errors.invalid("Source queue arn and destination queue arn cannot be the same.")
    if _existing(connection, destination, "DestinationArn").fifo != queues.is_fifo(source):
        raise errors.invalid("The source queue and destination queue must be of the same queue type.")


def _handle(task_id: str, source_arn: str) -> str:
    said = json.dumps({"taskId": task_id, "sourceArn": source_arn}, separators=(",", ":"))
    return base64.b64encode(said.encode()).decode()


def _read_handle(handle: str) -> tuple[str, str]:
    try:
        said = json.loads(base64.b64decode(handle.encode(), validate=True))
        task_id, source = said["taskId"], queue_of_arn(said["sourceArn"])
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        task_id, source = None, None
    if source is None or not isinstance(task_id, str) or not storable(task_id):
        raise errors.invalid("Value for parameter TaskHandle is invalid.")
    return task_id, source


def _told(desk: Desk, task: Task) -> Answer:
    told: dict[str, Any] = {
        "TaskHandle": _handle(task.id, desk.arn(task.source)) if task.status == moves.RUNNING else None,
        "Status": task.status,
        "SourceArn": desk.arn(task.source),
        "DestinationArn": None if task.destination is None else desk.arn(task.destination),
        "MaxNumberOfMessagesPerSecond": task.rate,
        "ApproximateNumberOfMessagesMoved": task.moved,
        "ApproximateNumberOfMessagesToMove": task.to_move,
        "FailureReason": task.failure,
        "StartedTimestamp": task.started_at,
    }
    return {name: value for name, value in told.items() if value is not None}
