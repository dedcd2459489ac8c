"""Fan one event out into N tasks on an SQS FIFO queue, work on them in parallel, fold them into one completion."""

from fanfold.app import Fanfold
from fanfold.context import Context
from fanfold.errors import FanfoldError
from fanfold.fan_outs import FanOutHandle
from fanfold.handler import TaskQueueHandler
from fanfold.model import (
    Ended,
    Enqueued,
    Failure,
    FanOut,
    FanOutOptions,
    Progress,
    QueueStatus,
    TaskRecord,
    TaskSpec,
    TaskState,
    Timeout,
)
from fanfold.outcome import Completed, Outcome, Reject, Retry
from fanfold.retry import Backoff
from fanfold.telemetry import Event

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "Completed",
    "Context",
    "Ended",
    "Enqueued",
    "Event",
    "Failure",
    "FanOut",
    "FanOutHandle",
    "FanOutOptions",
    "Fanfold",
    "FanfoldError",
    "Outcome",
    "Progress",
    "QueueStatus",
    "Reject",
    "Retry",
    "TaskQueueHandler",
    "TaskRecord",
    "TaskSpec",
    "TaskState",
    "Timeout",
]
