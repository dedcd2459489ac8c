"""What changes a fan-out and its tasks in SQLite, as operations on a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fanfold import sql
from fanfold.ledgers import endings, rows
from fanfold.ledgers.protocol import Cancelled, Claim, Claimed, Finish, Recorded, Unsent
from fanfold.ledgers.rows import SQL
from fanfold.model import FOLD_NAME, Ended, TaskState

_APPLIED: Final = Recorded(applied=True)
_TOO_LATE: Final = Recorded(applied=False)


def claim(connection: sqlite3.Connection, claims: Sequence[Claim], now: float) -> list[Claimed | None]:
    """Start attempts. What is asked for twice starts twice, one attempt after the other."""
    if len({(one.fan_out_id, one.task_name) for one in claims}) < len(claims):
        return [answer for one in claims for answer in claim(connection, [one], now)]
    alike: dict[tuple[str, int, str], list[str]] = {}
    for one in claims:
        if one.task_name == FOLD_NAME:
            _begin_fold(connection, one, now)
        alike.setdefault((one.fan_out_id, one.generation, one.worker), []).append(one.task_name)
    started = {
        (of[0], name): _started(*rest)
        for of, names in alike.items()
        for name, *rest in _start(connection, of, names, now)
    }
    return [started.get((one.fan_out_id, one.task_name)) or _refusal(connection, one, now) for one in claims]


def finish(connection: sqlite3.Connection, finishes: Sequence[Finish], now: float) -> list[Recorded]:
    """End attempts, and the fan-outs that they complete."""
    numbers = {fan_out_id: _number(connection, fan_out_id) for fan_out_id in {f.fan_out_id for f in finishes}}
    applied = _end(connection, [(numbers[finish.fan_out_id], finish) for finish in finishes], now)
    due = {
        fan_out_id: _concluded(connection, numbers[fan_out_id], now)
        for fan_out_id in {finish.fan_out_id for finish in finishes if finish.task_name != FOLD_NAME}
    }
    return [_recorded(finish, done, due) for finish, done in zip(finishes, applied, strict=True)]


def cancel(
    connection: sqlite3.Connection, fan_out_id: str, task_names: Iterable[str] | None, ended: Ended, now: float
) -> Cancelled | None:
    """Cancel what isn't terminal of some tasks, or of all."""
    number = _number(connection, fan_out_id)
    if number is None:
        return None
    values = {"number": number, "failure": endings.CANCELLED_BY[ended], "now": now}
    if task_names is None:
        names = [name for (name,) in connection.execute(SQL["cancel_rest"], values).fetchall()]
        connection.execute(SQL["complete"], {"number": number, "ended": ended, "now": now})
    else:
        chosen = [values | {"task_name": name} for name in task_names]
        names = [name for v in chosen for (name,) in connection.execute(SQL["cancel_task"], v).fetchall()]
        _concluded(connection, number, now)
    due = _fold_due(connection, number)
    return Cancelled(task_names=names, fold_due=due is not None, generation=due or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a re-run lets begin anew: names (None: all), only what failed, and new configurations as JSON, by name."""

    names: Iterable[str] | None
    failed_only: bool
    configs: Mapping[str, str]


def rerun(connection: sqlite3.Connection, fan_out_id: str, chosen: Chosen, now: float) -> Unsent | None:
    """Let terminal tasks start anew, in the fan-out's next generation."""
    number = _number(connection, fan_out_id)
    if number is None:
        return None
    names = _terminal(connection, number) if chosen.names is None else list(chosen.names)
    common = {"number": number, "failed_only": chosen.failed_only, "now": now}
    values = [common | {"task_name": name, "task_config": chosen.configs.get(name)} for name in names]
    if connection.executemany(SQL["rerun_task"], values).rowcount > 0:
        connection.execute(SQL["reopen"], {"number": number, "now": now})
        connection.execute(SQL["forget_fold"], (number, FOLD_NAME))
    elif FOLD_NAME in names and connection.execute(SQL["refold"], common | {"fold": FOLD_NAME}).rowcount:
        connection.execute(SQL["forget_fold"], (number, FOLD_NAME))
    return rows.unsent_of(connection, fan_out_id)


def purge(connection: sqlite3.Connection, values: Mapping[str, Any]) -> int:
    """Forget fan-outs that are kept no longer, by the values of `expired`; answers how many."""
    numbers = connection.execute(SQL["expired"], values).fetchall()
    connection.executemany(SQL["forget_tasks"], numbers)
    connection.executemany(SQL["forget_fan_out"], numbers)
    return len(numbers)


def _begin_fold(connection: sqlite3.Connection, claim: Claim, now: float) -> None:
    values = {
        "fan_out_id": claim.fan_out_id,
        "task_name": claim.task_name,
        "generation": claim.generation,
        "now": now,
    }
    connection.execute(SQL["begin_fold"], values)
    connection.execute(SQL["note_fold"], values)


def _start(connection: sqlite3.Connection, alike: tuple[str, int, str], names: Sequence[str], now: float) -> list[Any]:
    fan_out_id, generation, worker = alike
    values = {
        "fan_out_id": fan_out_id,
        "generation": generation,
        "worker": worker,
        "task_names": sql.listed(names),
        "now": now,
    }
    return connection.execute(SQL["claim"], values).fetchall()


def _started(attempt: int, failure: str | None, deadline_at: float | None) -> Claimed:
    return Claimed(state=TaskState.RUNNING, attempt=attempt, failure=rows.failure(failure), deadline_at=deadline_at)


def _refusal(connection: sqlite3.Connection, claim: Claim, now: float) -> Claimed | None:
    keys = {"fan_out_id": claim.fan_out_id, "task_name": claim.task_name, "fold": FOLD_NAME, "now": now}
    row = connection.execute(SQL["standing"], keys).fetchone()
    if row is not None and row[6]:
        cancel(connection, claim.fan_out_id, None, Ended.DEADLINE, now)
        row = connection.execute(SQL["standing"], keys).fetchone()
    if row is None:
        return None
    state, attempts, generation, failure, complete, fold_state, _, current = row
    if claim.task_name == FOLD_NAME:
        return _fold_refusal(state, attempts, generation, failure, claim)
    if state is None:
        return None
    superseded = generation > claim.generation
    due = bool(complete) and not TaskState(fold_state or TaskState.PENDING).terminal
    return Claimed(
        state=TaskState.CANCELLED if superseded else TaskState(state),
        attempt=attempts,
        fold_due=due,
        generation=current if due else 0,
        failure=rows.failure(failure),
    )


def _fold_refusal(
    state: str | None, attempts: int | None, generation: int | None, failure: str | None, claim: Claim
) -> Claimed:
    # No row, or another generation's: the fan-out was opened again since this fold was sent; that one sends its own.
    if state is None or generation != claim.generation:
        return Claimed(state=TaskState.CANCELLED, attempt=0)
    return Claimed(state=TaskState(state), attempt=attempts or 0, failure=rows.failure(failure))


def _end(connection: sqlite3.Connection, ends: Sequence[tuple[int | None, Finish]], now: float) -> list[bool]:
    if any(finish.attempt is None for _, finish in ends):  # nobody could tell afterwards whether it was this write
        return [_ended(connection, [end], now) > 0 or _stands(connection, *end) for end in ends]
    if _ended(connection, ends, now) == len(ends):
        return [True] * len(ends)
    return [_stands(connection, *end) for end in ends]


def _ended(connection: sqlite3.Connection, ends: Sequence[tuple[int | None, Finish]], now: float) -> int:
    """Write ends, those of a fan-out that are alike together; answers how many tasks have changed."""
    if len(ends) > 1 and len({(number, finish.task_name) for number, finish in ends}) < len(ends):
        return sum(_ended(connection, [end], now) for end in ends)  # of two ends of one task the first must stand
    alike: dict[tuple[Any, ...], list[str]] = {}
    for number, finish in ends:
        how = number, finish.state, finish.result, endings.failure(finish), finish.generation, finish.attempt
        alike.setdefault(how, []).append(finish.task_name)
    single, several = [], []
    for (number, state, result, failure, generation, attempt), names in alike.items():
        ended = state.value if state.terminal else None, result, failure, now, number
        if len(names) == 1:
            single.append((*ended, names[0], generation, attempt))
        else:
            several.append((*ended, sql.listed(names), generation, attempt))
    changed = connection.executemany(SQL["finish"], single).rowcount if single else 0
    return changed + (connection.executemany(SQL["finish_alike"], several).rowcount if several else 0)


def _stands(connection: sqlite3.Connection, number: int | None, finish: Finish) -> bool:
    values = {
        "number": number,
        "task_name": finish.task_name,
        "state": finish.state,
        "generation": finish.generation,
        "attempt": finish.attempt,
    }
    return connection.execute(SQL["finished_so"], values).fetchone() is not None


def _concluded(connection: sqlite3.Connection, number: int | None, now: float) -> int | None:
    """End a fan-out if it is open and it is time; answers as `_fold_due` does."""
    row = connection.execute(SQL["touch"], {"number": number, "now": now}).fetchone()
    if row is None:
        return _fold_due(connection, number)
    early, enough, tolerated, cancel_rest, left = row
    ended = Ended.COMPLETE if not left else _early_end(connection, number, enough, tolerated) if early else None
    if ended is None:
        return None
    connection.execute(SQL["complete"], {"number": number, "ended": ended, "now": now})
    if left and cancel_rest:
        connection.execute(
            SQL["cancel_rest"], {"number": number, "failure": endings.CANCELLED_BY[ended], "now": now}
        ).fetchall()
    return _fold_due(connection, number)


def _early_end(
    connection: sqlite3.Connection, number: int | None, enough: int | None, tolerated: int | None
) -> Ended | None:
    def reached(count: int, *states: TaskState) -> bool:
        found = (connection.execute(SQL["at_least"], (number, state, count)).fetchone()[0] for state in states)
        return bool(sum(found) >= count)

    if enough is not None and reached(enough, TaskState.SUCCEEDED):
        return Ended.ENOUGH
    if tolerated is not None and reached(tolerated + 1, TaskState.DEAD, TaskState.CANCELLED):
        return Ended.FAILED
    return None


def _fold_due(connection: sqlite3.Connection, number: int | None) -> int | None:
    """The generation whose fold is due, or None."""
    row = connection.execute(SQL["fold_due"], {"number": number, "fold": FOLD_NAME}).fetchone()
    return row[0] if row is not None else None


def _recorded(finish: Finish, applied: bool, due: Mapping[str, int | None]) -> Recorded:  # noqa: FBT001 - one of two words
    generation = due.get(finish.fan_out_id)
    if generation is None or finish.task_name == FOLD_NAME or not finish.state.terminal:
        return _APPLIED if applied else _TOO_LATE
    return Recorded(applied=applied, fold_due=True, generation=generation)


def _number(connection: sqlite3.Connection, fan_out_id: str) -> int | None:
    row = connection.execute(SQL["number"], (fan_out_id,)).fetchone()
    return row[0] if row is not None else None


def _terminal(connection: sqlite3.Connection, number: int) -> list[str]:
    states: tuple[Any, ...] = (TaskState.DEAD, TaskState.CANCELLED, TaskState.SUCCEEDED)
    return [name for state in states for (name,) in connection.execute(SQL["terminal_names"], (number, state))]
