"""The demo's tasks: facts about one installed distribution."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fanfold.demo import measured, shipped, stated
from fanfold.model import Timeout


@dataclass(frozen=True, slots=True)
class Field:
    """One fact: the function that finds it, and whether that reads so much that it runs in a process of its own."""

    function: Callable[..., Any]
    heavy: bool = False

    @property
    def name(self) -> str:
        """The task's name."""
        return self.function.__name__

    @property
    def timeout(self) -> float:
        """Seconds that it may take."""
        return Timeout.DATABASE if self.heavy else Timeout.FAST_API


FIELDS: Final = (
    Field(stated.name_and_version),
    Field(stated.summary),
    Field(stated.readme),
    Field(stated.licence),
    Field(stated.supported_pythons),
    Field(stated.development_status),
    Field(stated.keywords),
    Field(stated.authors),
    Field(stated.project_urls),
    Field(stated.dependency_count),
    Field(stated.missing_dependencies),
    Field(stated.dependents),
    Field(stated.extras),
    Field(stated.entry_points),
    Field(stated.commands),
    Field(stated.installer),
    Field(stated.wheel_tags),
    Field(shipped.top_level_modules),
    Field(shipped.typed),
    Field(shipped.native_code),
    Field(shipped.file_types),
    Field(shipped.size_on_disk),
    Field(shipped.largest_file),
    Field(measured.record_hashes),
    Field(measured.lines_of_code),
    Field(measured.longest_file),
    Field(measured.longest_function, heavy=True),
    Field(measured.docstrings, heavy=True),
    Field(measured.type_annotations, heavy=True),
    Field(measured.most_imported, heavy=True),
)

EDITION: Final = hashlib.sha256(" ".join(field.name for field in FIELDS).encode()).hexdigest()[:8]
"""Part of the demo's event ids: a fan-out's names are sealed, so other fields make other events."""
