"""The engine's API. Taken over from its own branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CallContext:
    base_url: str
    trace_header: str | None = None
    rights: Any = None
