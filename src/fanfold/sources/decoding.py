"""A record's value → the event that a planner gets: JSON unless the declaration says otherwise, typed by annotation."""

from __future__ import annotations

from typing import Any

import msgspec

from fanfold.sources.declaration import EventDeclaration
from fanfold.sources.record import Record


def decode(declaration: EventDeclaration, record: Record) -> Any:
    """The event. A tombstone is None, for a planner whose annotation allows that.

    Raises:
        Exception: whatever the decoder raises; a ValueError where JSON or the event's type doesn't fit.
    """
    if declaration.decoder is not None:
        return _as_type(declaration.decoder(record), declaration.event_type)
    if record.value is None:
        return _as_type(None, declaration.event_type)
    return _json(record.value, declaration.event_type)


def _json(value: bytes, wanted: Any) -> Any:
    if wanted is None:
        return msgspec.json.decode(value)
    if hasattr(wanted, "model_validate_json"):  # pydantic
        return wanted.model_validate_json(value)
    return msgspec.json.decode(value, type=wanted)


def _as_type(value: Any, wanted: Any) -> Any:
    if wanted is None or (isinstance(wanted, type) and isinstance(value, wanted)):
        return value
    if hasattr(wanted, "model_validate"):
        return wanted.model_validate(value)
    return msgspec.convert(value, wanted)
