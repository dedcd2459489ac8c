"""What an application declares, as decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from fanfold.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


class Declarations:
    """The decorators of an application: its tasks, and who is told of completions and deaths.

    Each checks what it is given at once, and leaves the function as it is.
    """

    def __init__(self, *, entity: str = "entity_id", task: str = "task_name") -> None:
        self.registry = Registry(entity=entity, task=task)

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
