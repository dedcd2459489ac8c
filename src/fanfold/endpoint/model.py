"""The SQS API as botocore's service model has it: actions, shapes, and their names in the query protocol.

botocore's model describes the JSON protocol only since 2023, so what the query protocol calls lists and maps is said
here. Source of those names: the Amazon SQS API reference, actions' "Examples".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

__all__ = ["VERSION", "Action", "Model", "Shape", "element", "entry_names", "members", "query_name", "sqs_model"]

VERSION: Final = "2012-11-05"

_MAPS: Final = {
    "QueueAttributeMap": ("Attribute", "Name", "Value"),
    "MessageSystemAttributeMap": ("Attribute", "Name", "Value"),
    "MessageBodyAttributeMap": ("MessageAttribute", "Name", "Value"),
    "MessageBodySystemAttributeMap": ("MessageSystemAttribute", "Name", "Value"),
    "TagMap": ("Tag", "Key", "Value"),
}
"""Each map's name in the query protocol, and those of its keys and values: `Tag.1.Key=team&Tag.1.Value=roofs`."""

_LISTS: Final = {
    "MessageSystemAttributeList": "MessageSystemAttributeName",
    "StringList": "StringListValue",
    "BinaryList": "BinaryListValue",
}
"""Lists that the query protocol doesn't call like their shape less "List", as it does the others."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action of the API. `input` is a structure; so is `output`, which is None for actions that answer nothing."""

    name: str
    input: Shape
    output: Shape | None


@dataclass(frozen=True, slots=True)
class Model:
    """The API: its actions by name, and the names of the errors that it lists."""

    actions: Mapping[str, Action]
    errors: frozenset[str]


@cache
def sqs_model() -> Model:
    """The model, read once: it is a file of some hundred kilobytes."""
    loaded: Any = Loader().load_service_model("sqs", "service-2", api_version=VERSION)
    service: Any = ServiceModel(loaded, "sqs")
    operations = {name: service.operation_model(name) for name in service.operation_names}
    actions = {name: Action(name, model.input_shape, model.output_shape) for name, model in operations.items()}
    return Model(actions=actions, errors=frozenset(shape.name for shape in service.error_shapes))


def members(structure: Shape) -> Mapping[str, Shape]:
    """A structure's members, in the model's order."""
    found: Mapping[str, Shape] = structure.members  # type: ignore[attr-defined] # of structures, says shape.type_name
    return found


def element(shape: Shape) -> Shape:
    """What a list holds, or a map's values are."""
    return shape.member if shape.type_name == "list" else shape.value  # type: ignore[attr-defined,no-any-return]


def query_name(member: str, shape: Shape) -> str:
    """What the query protocol calls a structure's member."""
    if shape.type_name == "list":
        return _LISTS.get(shape.name) or shape.name.removesuffix("List")
    return _MAPS[shape.name][0] if shape.type_name == "map" else member


def entry_names(shape: Shape) -> tuple[str, str]:
    """What the query protocol calls a map's key and value."""
    return _MAPS[shape.name][1:]
