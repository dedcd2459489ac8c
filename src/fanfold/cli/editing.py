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
from fanfold.model import DeadLetter, Task

_EDITED: Final = ("task_config", "metadata")


def change(app: Fanfold, letters: Sequence[DeadLetter], settings: Sequence[str], *, edit: bool) -> Edit | None:
    """The edit that is asked for, tried on every letter before anything is sent; None for none.

    Raises:
        InvalidInputError: it can't be read, or a letter's new configuration isn't what its task declares.
    """
    if edit and (settings or len(letters) != 1):
        raise InvalidInputError(f"--edit changes one letter, without --set; {len(letters):,} are chosen. Give its --id")
    if not edit and not settings:
        return None
    made = _edited(letters[0]) if edit else redriven.with_values(settings)
    for letter in letters:
        redriven.message(letter, made)
        _check(app, letter.task, made)
    return made


def _check(app: Fanfold, task: Task | None, made: Edit) -> None:
    definition = app.registry.get(task.task_name) if task is not None else None
    if task is not None and definition is not None:
        definition.config(made(task).task_config)


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
