"""What an application declares about its events: `@app.event`, checked when it is declared."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from fanfold.errors import DeclarationError
from fanfold.registry import is_async, parameters_of
from fanfold.sources.record import Record

F = TypeVar("F", bound=Callable[..., Any])
Decoder = Callable[[Record], Any]

PLANNER_PARAMETERS: Final = ("event", "entity_id", "key", "record")
EVENT_PARAMETERS: Final = ("event", "key", "record")


@dataclass(frozen=True, slots=True)
class Asking:
    """A function that is called with what its parameters ask for."""

    function: Callable[..., Any]
    parameters: Mapping[str, str]

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Call it with its share of `values`."""
        return self.function(**{parameter: values[value] for parameter, value in self.parameters.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDeclaration:
    """One declared event. `event_type` is what the planner's annotation wants (None: whatever was decoded)."""

    name: str
    planner: Asking
    asynchronous: bool
    event_type: Any = None
    decoder: Decoder | None = None
    entity: Asking | None = None
    event_id: Asking | None = None
    metadata: Asking | None = None


class Events:
    """The declared events by name. Filled while the application is imported, then only read.

    `words` are the team's own for `entity_id` and `task_name`.
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words
        self._events: dict[str, EventDeclaration] = {}

    def __iter__(self) -> Iterator[EventDeclaration]:
        return iter(self._events.values())

    def __len__(self) -> int:
        return len(self._events)

    def get(self, name: str) -> EventDeclaration | None:
        """The event of that name, or None."""
        return self._events.get(name)

    def add(self, function: F, name: str, *, decoder: Decoder | None = None, **functions: Any) -> F:
        """Declare an event; answers the planner unchanged.

        Raises:
            DeclarationError: a name twice, or a parameter, an annotation or an option that can't work.
        """
        what = f"the planner of event {name!r}"
        if not isinstance(name, str) or not name:
            raise DeclarationError(f"event {name!r}: write the name of its topic, @app.event('documents')")
        if name in self._events:
            raise DeclarationError(f"event {name!r} is declared twice; call the second planner from the first")
        if unknown := sorted(functions.keys() - {"entity", "event_id", "metadata"}):
            raise DeclarationError(
                f"event {name!r}: unknown option {unknown[0]!r}; there are decoder, entity, event_id and metadata"
            )
        if decoder is not None and not callable(decoder):
            raise DeclarationError(f"event {name!r}: decoder={decoder!r}; it must be a function of a Record")
        planner = Asking(function, parameters_of(what, function, PLANNER_PARAMETERS, self._words))
        self._events[name] = EventDeclaration(
            name=name,
            planner=planner,
            asynchronous=is_async(function),
            event_type=_event_type(what, planner),
            decoder=decoder,
            **{option: self._asking(name, option, value) for option, value in functions.items()},
        )
        return function

    def _asking(self, name: str, option: str, function: Any) -> Asking | None:
        if function is None:
            return None
        what = f"{option} of event {name!r}"
        if not callable(function) or is_async(function):
            raise DeclarationError(f"{what} is {function!r}; it must be a plain function, like lambda event: event.id")
        return Asking(function, parameters_of(what, function, EVENT_PARAMETERS, {}))


def _event_type(what: str, planner: Asking) -> Any:
    asked = next((parameter for parameter, value in planner.parameters.items() if value == "event"), None)
    if asked is None or asked not in inspect.signature(planner.function).parameters:
        return None
    try:
        wanted = typing.get_type_hints(planner.function).get(asked, Any)
    except (NameError, TypeError) as error:
        raise DeclarationError(f"{what}: its annotations can't be read: {error}") from error
    if wanted is Any:
        return None
    if not hasattr(wanted, "model_validate"):
        _check_decodable(what, wanted)
    return wanted


def _check_decodable(what: str, wanted: Any) -> None:
    try:
        msgspec.json.Decoder(wanted)
    except TypeError as error:
        raise DeclarationError(f"{what}: its event can't be validated as {wanted}: {error}") from error
