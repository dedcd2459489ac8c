"""The query protocol's answers: values of the model's shapes as XML. Nothing here reads XML."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from fanfold.endpoint.model import Shape, element, entry_names, members, query_name

NAMESPACE: Final = "http://queue.amazonaws.com/doc/2012-11-05/"

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may hold, escaped or not. Bodies never do; an error's text may quote it."""
_ESCAPES: Final = {'"': "&quot;", "\r": "&#13;"}
"""A reader would turn a bare carriage return into a line feed, and the body would no longer be what was sent."""


def text(value: str) -> str:
    """Character data."""
    return escape(_FORBIDDEN.sub("\ufffd", value), _ESCAPES)


def structure(shape: Shape, values: Mapping[str, Any]) -> Iterator[str]:
    """The elements of a structure's members, in the model's order."""
    for name, member in members(shape).items():
        if name in values:
            yield from _WRITERS[member.type_name](query_name(name, member), member, values[name])


def _structure(name: str, shape: Shape, value: Mapping[str, Any]) -> Iterator[str]:
    yield f"<{name}>"
    yield from structure(shape, value)
    yield f"</{name}>"


def _list(name: str, shape: Shape, values: list[Any]) -> Iterator[str]:
    inner = element(shape)
    for value in values:
        yield from _WRITERS[inner.type_name](name, inner, value)


def _map(name: str, shape: Shape, values: Mapping[str, Any]) -> Iterator[str]:
    key_name, value_name = entry_names(shape)
    inner = element(shape)
    for key, value in values.items():
        yield f"<{name}><{key_name}>{text(key)}</{key_name}>"
        yield from _WRITERS[inner.type_name](value_name, inner, value)
        yield f"</{name}>"


def _plain(name: str, _shape: Shape, value: Any) -> Iterator[str]:
    yield f"<{name}>{text(str(value))}</{name}>"


def _boolean(name: str, _shape: Shape, value: bool) -> Iterator[str]:  # noqa: FBT001 - a writer's shape
    yield f"<{name}>{'true' if value else 'false'}</{name}>"


def _blob(name: str, _shape: Shape, value: bytes) -> Iterator[str]:
    yield f"<{name}>{base64.b64encode(value).decode()}</{name}>"


_WRITERS: Final[Mapping[str, Callable[[str, Shape, Any], Iterator[str]]]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _plain,
    "integer": _plain,
    "long": _plain,
    "boolean": _boolean,
    "blob": _blob,
}
