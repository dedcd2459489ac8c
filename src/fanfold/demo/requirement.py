"""Requirements as METADATA writes them (`Requires-Dist`), as far as the demo asks: the name, and when it is wanted.

The grammar is the packaging specification's "Dependency specifiers". Markers are not evaluated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_REQUIREMENT: Final = re.compile(
    r"\s*(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"\s*(?:\[[^\]]*\])?"  # extras
    r"\s*(?:@\s*\S+(?:\s+|$)|[^;@]*)"  # an address, which a space ends, or versions
    r"(?:;\s*(?P<marker>\S.*))?",
    re.DOTALL,
)
_STRING: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_EXTRA: Final = re.compile(r"\bextras?\b")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement: the name of what is required, normalised, and the marker that says when ("": always)."""

    key: str
    marker: str

    @property
    def optional(self) -> bool:
        """Whether an extra asks for it: its marker speaks of `extra`, and not only inside a string."""
        return _EXTRA.search(_STRING.sub("", self.marker)) is not None


def parse(text: str) -> Requirement:
    """Read one requirement.

    Raises:
        ValueError: it is none.
    """
    found = _REQUIREMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a requirement")
    return Requirement(canonical(found["name"]), (found["marker"] or "").strip())


def canonical(name: str) -> str:
    """A name as the packaging specification normalises it: lower case, and one hyphen for any run of `-`, `_`, `.`."""
    return re.sub(r"[-_.]+", "-", name).lower()
