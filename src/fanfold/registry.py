"""What an application declares: its tasks and its completion, checked when they are declared."""

from __future__ import annotations

import difflib
import inspect
import keyword
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, TypeVar

import msgspec

from fanfold import limits
from fanfold.errors import ConfigurationError, DeclarationError, InvalidInputError, UnknownTaskError
from fanfold.fold import FAN_OUT, Step, alone, followed_in_thread, followed_on_loop
from fanfold.model import FOLD_NAME, Json
from fanfold.retry import Backoff

F = TypeVar("F", bound=Callable[..., Any])

TASK_PARAMETERS: Final = ("entity_id", "task_name", "task_config", "metadata", "context")
FOLD_PARAMETERS: Final = ("fan_out", "entity_id", "metadata", "context")
DEAD_PARAMETERS: Final = (
    "entity_id", "task_name", "task_config", "metadata", "fan_out_id", "failure", "attempts"
)  # fmt: skip

DEFAULT_TIMEOUT: Final = 900.0
"""Seconds: what a task gets that declares no timeout of its own."""


class Runs(Enum):
    """Where a task's function runs."""

    ON_LOOP = "async"
    IN_THREAD = "thread"
    IN_PROCESS = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One declared task. `parameters` maps the function's parameter names to the values that they ask for."""

    name: str
    function: Callable[..., Any]
    runs: Runs
    timeout: float
    max_attempts: int | None = None
    backoff: Backoff = field(default_factory=Backoff)
    parameters: Mapping[str, str]
    config_type: Any = None

    def config(self, raw: Mapping[str, Json]) -> Any:
        """The task's configuration as its function wants it.

        Raises:
            InvalidInputError: it doesn't fit the declared type; the text says where.
        """
        if self.config_type is None:
            return raw
        try:
            if hasattr(self.config_type, "model_validate"):  # pydantic
                return self.config_type.model_validate(raw)
            return msgspec.convert(raw, self.config_type)
        except ValueError as error:  # both libraries' validation errors are ValueErrors
            wanted = getattr(self.config_type, "__name__", self.config_type)
            raise InvalidInputError(f"config of task {self.name!r} is not a {wanted}: {error}") from error


class Registry:
    """The declared tasks by name, and the fold's handler. Filled while the application is imported, then only read.

    `entity` and `task` are the team's own words for `entity_id` and `task_name`; a ConfigurationError is raised where
    one can't be a parameter's name or is another's.
    """

    def __init__(self, *, entity: str = "entity_id", task: str = "task_name") -> None:
        self._words = _checked_words(entity, task)
        self._tasks: dict[str, Definition] = {}
        self.fold: Definition | None = None
        self.failed_fold: Definition | None = None
        self._step: Step | None = None
        self._step_alone: Definition | None = None
        self.on_dead: Definition | None = None

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[Definition]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, name: str) -> Definition | None:
        """The task of that name (under its reserved one, whatever handles a fold), or None."""
        if name == FOLD_NAME:
            return self.fold_for(failed=False) or self.failed_fold
        return self._tasks.get(name)

    def fold_for(self, *, failed: bool) -> Definition | None:
        """What handles the completion of a fan-out that failed, or that didn't, and its step; None: nothing does."""
        handler = (self.failed_fold if failed else None) or self.fold
        if handler is None or self._step is None:
            return handler or self._step_alone
        compose = followed_on_loop if handler.runs is Runs.ON_LOOP else followed_in_thread
        both = compose(handler.function, self._step)
        return replace(handler, function=both, parameters={**handler.parameters, FAN_OUT: "fan_out"})

    @property
    def folds(self) -> bool:
        """Whether any completion is handled."""
        return self.get(FOLD_NAME) is not None

    def require(self, name: str) -> Definition:
        """The task of that name.

        Raises:
            UnknownTaskError: it isn't declared here; the text offers the nearest names.
        """
        if name in self._tasks:
            return self._tasks[name]
        near = difflib.get_close_matches(name, self._tasks, n=3) or sorted(self._tasks)[:10]
        raise UnknownTaskError(f"task {name!r} isn't declared in this application; there are {', '.join(near)}")

    def add(self, function: F, name: str | None = None, *, process: bool = False, **options: Any) -> F:
        """Declare a task; answers the function unchanged, so that it can still be called and pickled.

        Raises:
            DeclarationError: a name, a parameter or an option that can't work.
        """
        name = name if name is not None else getattr(function, "__name__", "")
        _check_name(name)
        if name in self._tasks:
            raise DeclarationError(f"task {name!r} is declared twice; names are unique in an application")
        self._tasks[name] = self._define(name, function, TASK_PARAMETERS, process=process, **options)
        return function

    def add_fold(self, function: F, **options: Any) -> F:
        """Declare what runs when a fan-out is complete.

        Raises:
            DeclarationError: there is one already, or a parameter or an option can't work.
        """
        self.fold = self._hook("on_complete", self.fold, function, FOLD_PARAMETERS, **options)
        return function

    def add_failed_fold(self, function: F, **options: Any) -> F:
        """Declare what runs, instead, when a fan-out has failed. Raises DeclarationError as above."""
        self.failed_fold = self._hook("on_failure", self.failed_fold, function, FOLD_PARAMETERS, **options)
        return function

    def follow_fold(self, step: Step, **options: Any) -> None:
        """Let `step` run behind the fold's handler, whichever that is, or alone where there is none, in the same task.

        The handler goes first: whoever is told by the step that a fan-out is complete finds the handler's work done.
        `options` (timeout, max_attempts, backoff) hold where there is no handler; its own ones count for both.

        Raises:
            DeclarationError: there is one already, or an option can't work.
        """
        if self._step is not None:
            raise DeclarationError("publish_completions is declared twice; a fold has one record")
        name = "fanfold.publish_completions"
        self._step_alone = Definition(
            name=name,
            function=alone(step),
            runs=Runs.ON_LOOP,
            parameters={FAN_OUT: "fan_out"},
            **_checked(name, **options),
        )
        self._step = step

    def add_on_dead(self, function: F, *, timeout: float = 60.0) -> F:
        """Declare what is told of each task that is set aside. Raises DeclarationError as above."""
        self.on_dead = self._hook("on_task_dead", self.on_dead, function, DEAD_PARAMETERS, timeout=timeout)
        return function

    def _hook(
        self,
        name: str,
        known: Definition | None,
        function: Callable[..., Any],
        parameters: Sequence[str],
        **options: Any,
    ) -> Definition:
        if known is not None:
            raise DeclarationError(f"{name} is declared twice; call the second function from the first")
        if "process" in options:
            raise DeclarationError(f"{name} has no option 'process': it runs on the loop, a plain one in a thread")
        return self._define(f"fanfold.{name}", function, parameters, process=False, **options)

    def _define(
        self, name: str, function: Callable[..., Any], known: Collection[str], *, process: bool, **options: Any
    ) -> Definition:
        parameters = parameters_of(f"task {name!r}", function, known, self._words)
        runs = _where(name, function, parameters, process=process)
        return Definition(
            name=name,
            function=function,
            runs=runs,
            parameters=parameters,
            config_type=_config_type(name, function, parameters),
            **_checked(name, **options),
        )


def parameters_of(
    what: str, function: Callable[..., Any], known: Collection[str], words: Mapping[str, str]
) -> dict[str, str]:
    """What a function asks for by parameter name: its parameters and the values of `known` that they mean.

    `words` are the team's own for some of the values. `**keywords` get all that is left.

    Raises:
        DeclarationError: it asks for something that nobody knows; the text begins with `what`.
    """
    meanings = {words.get(value, value): value for value in known} | {value: value for value in known}
    found: dict[str, str] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= {words.get(value, value): value for value in known if value not in found.values()}
        elif parameter.name not in meanings or parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise DeclarationError(
                f"{what} asks for {str(parameter)!r}; it can ask, by keyword, for {', '.join(meanings)}"
            )
        else:
            found[parameter.name] = meanings[parameter.name]
    return found


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine: an async function, or an object whose `__call__` is one."""
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def check_text(what: str, value: object) -> str:
    """An entity id or a task name as it may be.

    Raises:
        InvalidInputError: not a non-empty string of at most 256 characters that SQS can carry.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{what} {value!r}: it must be a non-empty string")
    if len(value) > limits.MAX_NAME_LENGTH:
        raise InvalidInputError(
            f"{what} {value[:40] + '…'!r} has {len(value)} characters; at most {limits.MAX_NAME_LENGTH} are allowed"
        )
    if (bad := limits.unrepresentable(value)) is not None:
        raise InvalidInputError(f"{what} {value!r} contains {bad!r}, which SQS refuses; remove it")
    return value


def _checked_words(entity: str, task: str) -> dict[str, str]:
    words = {"entity_id": entity, "task_name": task}
    for meaning, word in words.items():
        if not word.isidentifier() or keyword.iskeyword(word):
            raise ConfigurationError(f"{word!r} can't stand for {meaning}: a word is the name of a parameter")
        if word in {*TASK_PARAMETERS, *FOLD_PARAMETERS} - {meaning} or entity == task:
            raise ConfigurationError(f"{word!r} can't stand for {meaning}: it means something else already")
    return words


def _check_name(name: str) -> None:
    try:
        check_text("task name", name)
    except InvalidInputError as error:
        raise DeclarationError(str(error)) from error
    if name.startswith("fanfold."):
        raise DeclarationError(f"task name {name!r}: names that begin with 'fanfold.' are reserved")


def _where(name: str, function: Callable[..., Any], parameters: Mapping[str, str], *, process: bool) -> Runs:
    asynchronous = is_async(function)
    if not process:
        return Runs.ON_LOOP if asynchronous else Runs.IN_THREAD
    if asynchronous:
        raise DeclarationError(f"task {name!r}: process=True takes a plain function, this one is async")
    if "context" in parameters.values():
        raise DeclarationError(f"task {name!r}: a context can't cross into another process; drop the parameter")
    if "<" in getattr(function, "__qualname__", "<"):
        raise DeclarationError(
            f"task {name!r}: process=True takes a function of a module (no lambda, no inner function)"
        )
    return Runs.IN_PROCESS


def _config_type(name: str, function: Callable[..., Any], parameters: Mapping[str, str]) -> Any:
    asked = next((parameter for parameter, value in parameters.items() if value == "task_config"), None)
    if asked is None or asked not in inspect.signature(function).parameters:
        return None
    try:
        wanted = typing.get_type_hints(function).get(asked, Any)
    except (NameError, TypeError) as error:
        raise DeclarationError(f"task {name!r}: its annotations can't be read: {error}") from error
    origin = typing.get_origin(wanted) or wanted
    if wanted is Any or (origin in (dict, Mapping) and not typing.get_args(wanted)):
        return None
    if not hasattr(wanted, "model_validate"):
        try:
            msgspec.json.Decoder(wanted)
        except TypeError as error:
            raise DeclarationError(f"task {name!r}: task_config can't be validated as {wanted}: {error}") from error
    return wanted


def _checked(
    name: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    max_attempts: int | None = None,
    backoff: Backoff | None = None,
    **unknown: Any,
) -> dict[str, Any]:
    if unknown:
        raise DeclarationError(
            f"task {name!r}: unknown option {min(unknown)!r}; there are timeout, max_attempts, backoff and process"
        )
    if not (isinstance(timeout, int | float) and 0 < timeout <= limits.MAX_VISIBILITY):
        raise DeclarationError(
            f"task {name!r}: timeout={timeout!r} s; it must be above 0 and at most {limits.MAX_VISIBILITY:,} "
            "(12 hours, the longest that SQS lets a message be held)"
        )
    if max_attempts is not None and not (isinstance(max_attempts, int) and max_attempts >= 1):
        raise DeclarationError(f"task {name!r}: max_attempts={max_attempts!r}; it must be a whole number, at least 1")
    if backoff is not None and not isinstance(backoff, Backoff):
        raise DeclarationError(f"task {name!r}: backoff={backoff!r}; it must be a Backoff(base=…, factor=…, cap=…)")
    return {"timeout": float(timeout), "max_attempts": max_attempts, "backoff": backoff or Backoff()}
