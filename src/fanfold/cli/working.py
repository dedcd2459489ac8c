"""What the `dlq` commands share: looking, being asked, working, reporting."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final

import click
from rich.progress import Progress

from fanfold.app import Fanfold
from fanfold.cli import letters
from fanfold.cli.common import INTERRUPTED, beside, one_line, print_table, to_scripts
from fanfold.dead_letters.desk import Check, DeadLetters, Found
from fanfold.dead_letters.selection import Selection, count_by
from fanfold.dead_letters.tally import Tally, Told
from fanfold.errors import InvalidInputError
from fanfold.model import DeadLetter

Work = Callable[[DeadLetters, Selection, Tally, Told, Check], Awaitable[Tally]]
"""Does something with the chosen letters once they are checked, counting in the tally, which others are told of."""


_LOOKED: Final = "interrupted; nothing was changed, and what was looked at is given back"
_PUT: Final = "interrupted; run it again for the rest: nothing is doubled"


def run(app: Fanfold, ask: Callable[[DeadLetters], Awaitable[Any]], *, interrupted: str = _LOOKED) -> Any:
    """Ask the application's dead letters something, in a loop that Ctrl-C ends in order, with these words."""

    async def asked() -> Any:
        async with app:
            return await ask(await app.dead_letters.opened_async())

    console = beside()
    waiting = console.status("looking …") if console.is_terminal and interrupted == _LOOKED else nullcontext()
    try:
        with waiting:
            return asyncio.run(asked())
    except KeyboardInterrupt:
        beside().print(interrupted)
        sys.exit(INTERRUPTED)


def refuse_unchosen(chosen: Selection, *, everything: bool) -> None:
    """Refuse to work on all letters where nobody said so. Raises click.UsageError."""
    if chosen.everything and not everything:
        raise click.UsageError("choose some (--task, --error, --entity, --since, --id, …), or --all of them")


def some(found: Found, chosen: Selection) -> Sequence[DeadLetter]:
    """The letters that were found. Raises InvalidInputError where there are none."""
    if not found.letters:
        raise _none(chosen, found.hidden)
    return found.letters


def _none(chosen: Selection, hidden: int) -> InvalidInputError:
    if chosen.everything:
        what, cure = "the dead letter queue is empty", "nothing is to be done"
    elif chosen.id_prefixes and chosen == Selection(id_prefixes=chosen.id_prefixes):
        what = f"no dead letter's id begins with {' or '.join(map(repr, chosen.id_prefixes))}"
        cure = "`fanfold dlq list` shows the ids"
    else:
        what, cure = "no dead letter is of that kind", "`fanfold dlq group` shows what is there"
    return InvalidInputError(f"{what}; {f'{hidden:,} can not be seen just now' if hidden else cure}")


def agreed(
    app: Fanfold, chosen: Sequence[DeadLetter], question: str, *, dry_run: bool, yes: bool, as_json: bool
) -> bool:
    """Say how many letters of which errors are chosen, and ask; whether to go on. A dry run lists them instead.

    Raises:
        click.UsageError: there is nobody to ask.
        click.Abort: the answer was no.
    """
    say_kinds(chosen)
    if not dry_run:
        ask(question, yes=yes)
        return True
    if as_json:
        to_scripts([letters.record(letter) for letter in chosen])
    else:
        print_table(letters.table(app, chosen))
    beside().print(f"{len(chosen):,} dead letter(s) chosen; nothing was changed")
    return False


def say_kinds(chosen: Sequence[DeadLetter]) -> None:
    """Say how many letters of which errors are chosen."""
    for value, times in count_by(chosen, "error"):
        beside().print(f"{times:>8,} ", one_line(value))


def ask(question: str, *, yes: bool) -> None:
    """Ask, unless that was answered before. Raises click.UsageError or click.Abort, as above."""
    if not yes:
        if not _somebody_there():
            raise click.UsageError("there is nobody to ask here: give --yes to do it")
        click.confirm(question, abort=True, err=True)


def _somebody_there() -> bool:
    return sys.stdin.isatty()


async def drop(desk: DeadLetters, these: Selection, tally: Tally, told: Told, check: Check) -> Tally:
    """Drop the chosen letters, as `work` wants it."""
    return await desk.drop(these, check=check, tally=tally, told=told)


def work_on(app: Fanfold, counted: Sequence[DeadLetter], work: Work, done: str, *, as_json: bool) -> None:
    """Do something with the letters that were counted, and no others that may have come since; ends the command."""
    tally = _worked(app, Selection(ids={letter.message_id for letter in counted}), work, done, lambda _: None)
    report(tally, done, missed=len(counted) - tally.chosen, as_json=as_json)


def work_at_once(
    app: Fanfold, chosen: Selection, work: Work, done: str, *, as_json: bool, check: Check = say_kinds
) -> None:
    """Do something with what one look chooses, since nobody wants to be asked; ends the command.

    Args:
        app: the application.
        chosen: the choice.
        work: what to do.
        done: what it is called, once it is done.
        as_json: report to a script.
        check: sees the letters before anything is done with them, and may refuse them.

    Raises:
        InvalidInputError: there are none.
    """
    tally = _worked(app, chosen, work, done, check)
    if not tally.found:
        raise _none(chosen, tally.hidden)
    report(tally, done, as_json=as_json)


def put(app: Fanfold, exported: Sequence[DeadLetter], *, as_json: bool) -> None:
    """Put exported letters back, under a progress bar, and report; ends the command."""
    tally = Tally()
    run(app, lambda desk: _progressing("put back", lambda told: desk.put(exported, tally=tally, told=told)),
        interrupted=_PUT)  # fmt: skip
    report(tally, "put back", as_json=as_json)


def _worked(app: Fanfold, chosen: Selection, work: Work, done: str, check: Check) -> Tally:
    tally = Tally()

    async def worked() -> None:
        async with app:
            desk = await app.dead_letters.opened_async()
            await _progressing(done, lambda told: work(desk, chosen, tally, told, check))

    try:
        asyncio.run(worked())
    except KeyboardInterrupt:
        done_so_far = f"interrupted: {tally.chosen:,} of {tally.found:,} done; run it again for the rest"
        beside().print(done_so_far if tally.found else _LOOKED)
        sys.exit(INTERRUPTED)
    return tally


async def _progressing(done: str, work: Callable[[Told], Awaitable[Tally]]) -> None:
    """Show how work goes on: a bar that has no end until a look has said how much there is."""
    console = beside()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        row = progress.add_task(done, total=None)
        await work(lambda tally: progress.update(row, total=tally.found, completed=tally.chosen))


def report(tally: Tally, done: str, *, as_json: bool, missed: int = 0) -> None:
    """Say what became of the letters; ends the command, with 1 where some of them failed."""
    if as_json:
        to_scripts(dataclasses.asdict(tally) | {"missed": missed})
    else:
        parts = [f"{tally.done:,} {done}"]
        parts += [f"{tally.leftovers:,} needed nothing more"] if tally.leftovers else []
        parts += [f"{missed:,} were gone or held by somebody else"] if missed else []
        parts += [f"{tally.failed:,} failed and are still there"] if tally.failed else []
        click.echo("; ".join(parts))
    say_hidden(tally.hidden)
    for error in tally.errors:
        beside().print(error, style="red", markup=False)
    sys.exit(1 if tally.failed or tally.errors else 0)


def report_moving(count: int, *, as_json: bool) -> None:
    """Say that the queue itself moves the letters."""
    if as_json:
        to_scripts({"moving": count})
    else:
        requests = 3 * -(-count // 10)
        click.echo(
            f"The queue itself moves all {count:,} back: one request, instead of about {requests:,} to send them."
        )


def say_hidden(hidden: int) -> None:
    """Say how many letters could not be looked at."""
    if hidden:
        beside().print(f"{hidden:,} more can't be seen just now: somebody holds them, or others of their group")
