"""The demo's tasks: facts about one installed distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fanfold.demo import measured, stated
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
    Field(stated.licence),
    Field(stated.supported_pythons),
    Field(stated.dependency_count),
    Field(stated.missing_dependencies),
    Field(stated.extras),
    Field(stated.entry_points),
    Field(stated.authors),
    Field(stated.project_urls),
    Field(stated.installer),
    Field(stated.wheel_tags),
    Field(stated.top_level_modules),
    Field(stated.typed),
    Field(stated.native_code),
    Field(measured.size_on_disk),
    Field(measured.record_hashes),
    Field(measured.lines_of_code),
    Field(measured.longest_file),
    Field(measured.longest_function, heavy=True),
    Field(measured.docstrings, heavy=True),
    Field(measured.most_imported, heavy=True),
)
