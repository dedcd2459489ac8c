"""The query protocol's requests: a flat form, `Tag.1.Key=team&Tag.1.Value=roofs`, into nested values. Pure."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from fanfold.endpoint.faults import malformed
from fanfold.endpoint.model import Shape, element, entry_names, members, query_name

_MOST_FIELDS: Final = 4_000
"""Ten messages with ten attributes are some 400; this bounds the work for whoever sends more."""
_DEEPEST: Final = 10
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_INDEX: Final = re.compile(r"[0-9]{1,9}", re.ASCII)

Form = Mapping[str, str]
Node = dict[str, Any]
"""A level of the form's names: what stands under each, and under "" the value of the name itself."""


def fields(*encoded: str) -> Form:
    """The fields of a query string and of a body, later ones before earlier ones.

    Raises:
        SqsError: too many, or escapes that aren't UTF-8.
    """
    found: dict[str, str] = {}
    for text in encoded:
        try:
            found.update(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"))
        except ValueError:
            raise malformed(f"The form has more than {_MOST_FIELDS} fields, or escapes that are not UTF-8") from None
    return found


def bind(shape: Shape, form: Form) -> dict[str, Any]:
    """A request of this shape from its form; names that the model doesn't know are dropped.

    Raises:
        SqsError: a number, a list's index or base64 that isn't one.
    """
    root: Node = {}
    for name, value in form.items():
        _plant(root, name, value)
    bound: dict[str, Any] = _structure(shape, root, "")
    return bound


def _plant(root: Node, name: str, value: str) -> None:
    parts = name.split(".", _DEEPEST)
    if "" in parts or len(parts) > _DEEPEST:
        return
    node = root
    for part in parts:
        node = node.setdefault(part, {})
    node[""] = value


def _value(shape: Shape, node: Node, name: str) -> Any:
    if shape.type_name in _NESTED:
        return _NESTED[shape.type_name](shape, node, name)
    if "" not in node:
        raise malformed(f"Start of structure or map found where not expected: {name}")
    return _SCALARS[shape.type_name](node[""], name)


def _structure(shape: Shape, node: Node, name: str) -> dict[str, Any]:
    found = ((member, inner, query_name(member, inner)) for member, inner in members(shape).items())
    return {
        member: _value(inner, node[wire], f"{name}.{wire}" if name else wire)
        for member, inner, wire in found
        if wire in node
    }


def _list(shape: Shape, node: Node, name: str) -> list[Any]:
    return [_value(element(shape), inner, path) for inner, path in _entries(node, name)]


def _map(shape: Shape, node: Node, name: str) -> dict[str, Any]:
    key_name, value_name = entry_names(shape)
    found = {}
    for inner, path in _entries(node, name):
        if key_name not in inner or value_name not in inner:
            raise malformed(f"{path} needs both a {key_name} and a {value_name}")
        key = _text(inner[key_name].get("", ""), path)
        found[key] = _value(element(shape), inner[value_name], f"{path}.{value_name}")
    return found


def _entries(node: Node, name: str) -> Iterator[tuple[Node, str]]:
    """What stands under a list's indexes, in their order; without one, its only entry, as in AWS's own examples."""
    indexes = [index for index in node if index]
    numbers = [index for index in indexes if _INDEX.fullmatch(index)]
    if not numbers and (indexes or node.get("")):
        return iter([(node, name)])
    if len(numbers) < len(indexes) or node.get(""):
        raise malformed(f"{name} is a list; number its entries from 1: {name}.1")
    return ((node[index], f"{name}.{index}") for index in sorted(numbers, key=int))


def _text(text: str, _name: str) -> str:
    return text


def _integer(text: str, name: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise malformed(f"{text!r} can not be converted to an Integer: {name}")
    return int(text)


def _boolean(text: str, name: str) -> bool:
    if text not in ("true", "false"):
        raise malformed(f"{text!r} can not be converted to a Boolean: {name}")
    return text == "true"


def _blob(text: str, name: str) -> bytes:
    try:
        # A form turns a plus sign that wasn't escaped into a space.
        return binascii.a2b_base64(text.replace(" ", "+"), strict_mode=True)
    except ValueError:
        raise malformed(f"{name} is not base64") from None


_NESTED: Final = {"structure": _structure, "list": _list, "map": _map}
_SCALARS: Final = {"string": _text, "integer": _integer, "long": _integer, "boolean": _boolean, "blob": _blob}
