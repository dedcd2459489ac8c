"""Which dead letters are meant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from fanfold.errors import InvalidInputError
from fanfold.model import DeadLetter, Json

METADATA: Final = "metadata."
GROUPINGS: Final = ("error", "task", "entity", "tenant", "metadata.KEY")
"""`tenant` is short for `metadata.tenant`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Dead letters by what is known of them; what isn't given isn't asked. All that is given must hold.

    `tasks`, `errors` (error types) and `entity` are patterns with `*` and `?`. `since` is seconds since the epoch: set
    aside then or later. `metadata` maps keys (with dots for nested ones) to values as text. `ids` are MessageIds (a
    set, where there are many), `id_prefixes` beginnings of them, for people who type. `limit` is how many at most.
    """

    tasks: Collection[str] = ()
    errors: Collection[str] = ()
    entity: str | None = None
    since: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    ids: Collection[str] = ()
    id_prefixes: Collection[str] = ()
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InvalidInputError(f"limit={self.limit}: choose at least 1 dead letter, or leave the limit out")

    @property
    def everything(self) -> bool:
        """Whether nothing is asked of a letter."""
        return self == Selection()

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant; one whose body can't be read has neither task, entity nor metadata."""
        return (
            (not self.ids or letter.message_id in self.ids)
            and (not self.id_prefixes or letter.message_id.startswith(tuple(self.id_prefixes)))
            and (not self.tasks or _any(self.tasks, letter.task.task_name if letter.task else None))
            and (not self.errors or _any(self.errors, letter.error_type))
            and (self.entity is None or _any([self.entity], letter.task.entity_id if letter.task else None))
            and (self.since is None or (letter.set_aside_at is not None and letter.set_aside_at >= self.since))
            and all(_text(metadata_value(letter, key)) == value for key, value in self.metadata.items())
        )


def check_grouping(by: str) -> None:
    """Raises InvalidInputError where `by` is none of `error`, `task`, `entity`, `tenant`, `metadata.KEY`."""
    if by not in GROUPINGS[:-1] and not (by.startswith(METADATA) and by != METADATA):
        raise InvalidInputError(f"group by {by!r}: choose one of {', '.join(GROUPINGS)}")


def count_by(letters: Iterable[DeadLetter], by: str) -> list[tuple[str, int]]:
    """How many letters there are of each error type, task, entity or value of a metadata key, most first.

    Raises:
        InvalidInputError: `by` is none of `error`, `task`, `entity`, `tenant`, `metadata.KEY`.
    """
    check_grouping(by)
    counts = Counter(_group(letter, by) for letter in letters)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def metadata_value(letter: DeadLetter, key: str) -> Json:
    """A value of a letter's metadata; dots lead into nested ones. None where there is none."""
    value: Json = letter.task.metadata if letter.task else {}
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _group(letter: DeadLetter, by: str) -> str:
    if by == "error":
        return letter.error_type or "moved by the queue"
    if letter.task is None:
        return "unreadable"
    if by == "tenant" or by.startswith(METADATA):
        return _text(metadata_value(letter, by.removeprefix(METADATA))) or "none"
    return letter.task.task_name if by == "task" else letter.task.entity_id


def _any(patterns: Collection[str], value: str | None) -> bool:
    return value is not None and any(fnmatchcase(value, pattern) for pattern in patterns)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
