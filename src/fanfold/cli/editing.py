"""Changing dead letters before they are sent back: by `--set`, or in an editor."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final

import click

from fanfold.app import Fanfold
from fanfold.dead_letters import redriven
from fanfold.dead_letters.redriven import Edit
from fanfold.errors import InvalidInputError
from fanfold.model import DeadLetter

_EDITED: Final = ("task_config", "metadata")


def change(app: Fanfold, letters: Sequence[DeadLetter], settings: Sequence[str], *, edit: bool) -> Edit | None:
    """The edit that is asked for, tried on every letter before anything is sent; None for none.

    Raises:
        InvalidInputError: it can't be read, or a letter's new configuration isn't what its task declares.
    """
    if edit and (settings or len(letters) != 1):
        raise InvalidInputError(f"--edit changes one letter, without --set; {len(letters):,} are chosen. Give its --id")
    made = _edited(letters[0]) if edit else values(settings)
    check(app, letters, made)
    return made


def values(settings: Sequence[str]) -> Edit | None:
    """The edit that `--set` asks for; None for none. Raises InvalidInputError where it can't be read."""
    return redriven.with_values(settings) if settings else None


def check(app: Fanfold, letters: Sequence[DeadLetter], made: Edit | None) -> None:
    """Try an edit on letters. Raises InvalidInputError where one can't be changed so."""
    for letter in letters if made is not None else ():
        redriven.message(letter, made)
        definition = app.registry.get(letter.task.task_name) if letter.task is not None else None
        if letter.task is not None and definition is not None and made is not None:
            definition.config(made(letter.task).task_config)


def _edited(letter: DeadLetter) -> Edit:
    if letter.task is None:
        raise InvalidInputError(f"dead letter {letter.message_id} can't be edited: its body is not a task")
    before = {name: dict(getattr(letter.task, name)) for name in _EDITED}
    text = click.edit(json.dumps(before, indent=2, ensure_ascii=False), extension=".json")
    if text is None:
        raise InvalidInputError("nothing was changed in the editor, so nothing is sent; leave --edit out for that")
    after = _read(text)
    return lambda task: dataclasses.replace(task, **after)


def _read(text: str) -> dict[str, Any]:
    try:
        after = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"what the editor left isn't JSON: {error}; nothing was sent") from error
    if isinstance(after, dict) and after.keys() == set(_EDITED) and all(isinstance(v, dict) for v in after.values()):
        return after
    raise InvalidInputError("what the editor left must be an object with task_config and metadata, both objects")
