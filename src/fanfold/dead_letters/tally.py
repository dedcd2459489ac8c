"""How far work on dead letters has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fanfold.model import EntryError


@dataclass(slots=True)
class Tally:
    """What became of the chosen letters so far; it stays readable where the work was interrupted.

    `found`: chosen by the look. `done`: sent back, dropped or put. `leftovers`: only removed, since their tasks were
    sent back or done before; or there already. `failed`: still there. `hidden`: letters that somebody else holds just
    now, or that stand behind others of their group.
    """

    done: int = 0
    leftovers: int = 0
    failed: int = 0
    hidden: int = 0
    found: int = field(default=0, compare=False)
    errors: list[str] = field(default_factory=list)

    @property
    def chosen(self) -> int:
        """All that was met."""
        return self.done + self.leftovers + self.failed

    def fail(self, reason: str) -> None:
        """Count one that stays where it is."""
        self.failed += 1
        self.complain(reason)

    def complain(self, text: str) -> None:
        """Note an error, once."""
        if text not in self.errors:
            self.errors.append(text)


Told = Callable[[Tally], None]
"""Hears of progress, after each piece of the work."""


def text_of(error: EntryError) -> str:
    """An entry's error as one text."""
    return f"{error.code}: {error.text}"
