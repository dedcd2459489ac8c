"""SQL lives in `.sql` files: named statements, each with a description, read once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

import msgspec

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(package: str, file: str) -> Mapping[str, str]:
    """The statements of one file by name. A name stands in a line `-- name: send`, the statement below it."""
    text = (files(package) / "sql" / file).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def listed(values: Sequence[str] | Sequence[int] | Mapping[str, int]) -> str:
    """A list, or numbers by name, as a statement takes it: one parameter, for `json_each`."""
    return msgspec.json.encode(values).decode()
