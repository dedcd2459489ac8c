"""What an application declares, as decorators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from fanfold.model import FanOut, Json
from fanfold.registry import Registry
from fanfold.sources.completions import PATIENCE, Completions
from fanfold.sources.declaration import Decoder, Events

F = TypeVar("F", bound=Callable[..., Any])


class Declarations:
    """The decorators of an application: its tasks, its events, and who is told of completions and deaths.

    Each checks what it is given at once, and leaves the function as it is.
    """

    def __init__(
        self, *, entity: str = "entity_id", task: str = "task_name", kafka: Mapping[str, Any] | None = None
    ) -> None:
        self.words: Mapping[str, str] = {"entity_id": entity, "task_name": task}
        self.registry = Registry(entity=entity, task=task)
        self.events = Events(self.words)
        self.kafka: Mapping[str, Any] = kafka or {}
        self.completions: Completions | None = None

    @overload
    def task(self, name: F) -> F: ...
    @overload
    def task(
        self,
        name: str | None = None,
        *,
        timeout: float = ...,
        max_attempts: int | None = ...,
        backoff: Any = ...,
        process: bool = ...,
    ) -> Callable[[F], F]: ...
    def task(self, name: Any = None, **options: Any) -> Any:
        """Declare a task. The function asks for what it wants by parameter name.

        It may take `entity_id`, `task_name`, `task_config` (a typed one is validated before the run), `metadata` and
        `context`. An async function runs on the loop, a plain one in a thread, with `process=True` in a process, where
        a timeout really ends it. What it returns must be JSON.

        Args:
            name: the task's name; None: the function's.
            options: `timeout` in seconds (900; `Timeout` has named ones), `max_attempts` (the application's),
                `backoff` (a `Backoff`), `process`.

        Raises:
            DeclarationError: an unknown parameter or option, a name twice, a value that can't work.
        """
        if callable(name):
            return self.registry.add(name)
        return lambda function: self.registry.add(function, name, **options)

    @overload
    def on_complete(self, function: F) -> F: ...
    @overload
    def on_complete(self, *, timeout: float = ..., max_attempts: int | None = ...) -> Callable[[F], F]: ...
    def on_complete(self, function: Any = None, **options: Any) -> Any:
        """Declare what runs once when all tasks of a fan-out are terminal: itself a task, retried like any other.

        The function may take `fan_out` (a `FanOut` with `results` and `failures`), `entity_id`, `metadata`, `context`.
        """
        if function is not None:
            return self.registry.add_fold(function)
        return lambda function: self.registry.add_fold(function, **options)

    @overload
    def on_failure(self, function: F) -> F: ...
    @overload
    def on_failure(self, *, timeout: float = ..., max_attempts: int | None = ...) -> Callable[[F], F]: ...
    def on_failure(self, function: Any = None, **options: Any) -> Any:
        """Declare what runs, instead of `on_complete`, for a fan-out that failed: more failures than are tolerated."""
        if function is not None:
            return self.registry.add_failed_fold(function)
        return lambda function: self.registry.add_failed_fold(function, **options)

    @overload
    def on_task_dead(self, function: F) -> F: ...
    @overload
    def on_task_dead(self, *, timeout: float = ...) -> Callable[[F], F]: ...
    def on_task_dead(self, function: Any = None, **options: Any) -> Any:
        """Declare what is told of each task that is set aside, before it is: at least once, and its errors are logged.

        The function may take `entity_id`, `task_name`, `task_config`, `metadata`, `fan_out_id`, `failure` (a `Failure`)
        and `attempts`.
        """
        if function is not None:
            return self.registry.add_on_dead(function)
        return lambda function: self.registry.add_on_dead(function, **options)

    def event(
        self,
        name: str,
        *,
        decoder: Decoder | None = None,
        entity: Callable[..., str] | None = None,
        event_id: Callable[..., str] | None = None,
        metadata: Callable[..., Mapping[str, Json]] | None = None,
    ) -> Callable[[F], F]:
        """Declare an event: what a record of the topic `name` means. `fanfold kafka` reads it.

        The function is the planner: it answers task names, `{"name": …, "config": {…}}` dicts or `TaskSpec`s, or None
        where there is nothing to do. It may take `event` (JSON, validated where it is annotated with a type),
        `entity_id`, `key` (as text) and `record` (a `sources.Record`). A plain one runs in a thread. It may raise
        `Retry` where it can't say yet, and `Reject` where the event can never be enqueued.

        Args:
            name: the topic's name; the command line can read it from another one.
            decoder: a function of a `Record` that answers the event; None: JSON.
            entity: a plain function of `event`, `key` or `record` that answers the entity id; None: the key.
            event_id: the same for the event's id; None: topic, partition and offset.
            metadata: the same for the JSON that all tasks share; None: nothing.

        Raises:
            DeclarationError: an unknown parameter or option, a name twice, a type that can't be validated.
        """
        functions = {"entity": entity, "event_id": event_id, "metadata": metadata}
        return lambda function: self.events.add(function, name, decoder=decoder, **functions)

    def publish_completions(
        self, topic: str, *, value: Callable[[FanOut], Json | bytes] | None = None, **options: Any
    ) -> None:
        """Publish each complete fan-out as a Kafka record, acknowledged before its fold counts as done.

        The record has the entity id as its key, results and failures as JSON, and the headers `fan_out_id`,
        `generation`, `event_id` and, where the event had one, `traceparent`. A declared `on_complete` (or `on_failure`)
        runs first, in the same task: whoever reads the record finds its work done. If publishing fails, both are tried
        again, so a record may come twice.

        Args:
            topic: where the records go.
            value: a function of the `FanOut` that answers another value, JSON or bytes.
            options: `timeout`, `max_attempts` (1,000) and `backoff`; those of `on_complete`, where there is one, win.

        Raises:
            DeclarationError: declared twice, or an option that can't work.
        """
        self.completions = Completions(topic, config=self.kafka, value=value)
        self.registry.follow_fold(self.completions, **{**PATIENCE, **options})
