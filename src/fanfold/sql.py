"""SQL lives in `.sql` files: named statements, each with a description, read once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(package: str, file: str) -> Mapping[str, str]:
    """The statements of one file by name. A name stands in a line `-- name: send`, the statement below it."""
    text = (files(package) / "sql" / file).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
