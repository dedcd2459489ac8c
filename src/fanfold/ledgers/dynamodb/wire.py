"""Values to and from DynamoDB's attributes. boto3's own serializer refuses floats, which all of our times are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Item = Mapping[str, Any]
Attributes = dict[str, dict[str, Any]]


def to_wire(item: Item) -> Attributes:
    """An item as DynamoDB takes it; what is None is left out."""
    return {name: _attribute(value) for name, value in item.items() if value is not None}


def from_wire(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An item as DynamoDB gives it."""
    return {name: _value(*attribute.popitem()) for name, attribute in ((n, dict(a)) for n, a in attributes.items())}


def _attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float):
        return {"N": repr(value)}
    return {"SS": sorted(value)}


def _value(kind: str, value: Any) -> Any:
    if kind == "N":
        return int(value) if value.lstrip("-").isdigit() else float(value)
    return frozenset(value) if kind == "SS" else value
