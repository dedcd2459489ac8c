"""What the `dlq` commands share: looking, being asked, working, reporting."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import click
from rich.progress import Progress

from fanfold.app import Fanfold
from fanfold.cli import letters
from fanfold.cli.common import INTERRUPTED, beside, one_line, to_scripts
from fanfold.dead_letters.desk import DeadLetters, Found
from fanfold.dead_letters.selection import Selection, count_by
from fanfold.dead_letters.tally import Tally, Told
from fanfold.errors import InvalidInputError
from fanfold.model import DeadLetter

Work = Callable[[DeadLetters, Selection, Tally, Told], Awaitable[Tally]]
"""Does something with the chosen letters, counting in the tally, which others are told of."""


_LOOKED: Final = "interrupted; nothing was changed, and what was looked at is given back"
PUT: Final = "interrupted; run it again for the rest: nothing is doubled"


def run(app: Fanfold, ask: Callable[[DeadLetters], Awaitable[Any]], *, interrupted: str = _LOOKED) -> Any:
    """Ask the application's dead letters something, in a loop that Ctrl-C ends in order, with these words."""

    async def asked() -> Any:
        async with app:
            return await ask(await app.dead_letters.opened_async())

    try:
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
        what = "there are no dead letters" if chosen.everything else "no dead letter is of that kind"
        also = (
            f"; {found.hidden:,} can't be seen just now"
            if found.hidden
            else "; `fanfold dlq group` shows what is there"
        )
        raise InvalidInputError(what + also)
    return found.letters


def agreed(app: Fanfold, chosen: Sequence[DeadLetter], question: str, *, dry_run: bool, yes: bool) -> bool:
    """Say how many letters of which errors are chosen, and ask; whether to go on.

    Raises:
        click.UsageError: there is nobody to ask.
        click.Abort: the answer was no.
    """
    console = beside()
    for value, times in count_by(chosen, "error"):
        console.print(f"{times:>8,} ", one_line(value))
    if dry_run:
        console.print(letters.table(app, chosen))
        console.print(f"{len(chosen):,} dead letter(s) chosen; nothing was changed")
        return False
    ask(question, yes=yes)
    return True


def ask(question: str, *, yes: bool) -> None:
    """Ask, unless that was answered before. Raises click.UsageError or click.Abort, as above."""
    if not yes:
        if not _somebody_there():
            raise click.UsageError("there is nobody to ask here: give --yes to do it")
        click.confirm(question, abort=True, err=True)


def _somebody_there() -> bool:
    return sys.stdin.isatty()


async def drop(desk: DeadLetters, these: Selection, tally: Tally, told: Told) -> Tally:
    """Drop the chosen letters, as `work` wants it."""
    return await desk.drop(these, tally=tally, told=told)


def work(app: Fanfold, chosen: Sequence[DeadLetter], work: Work, done: str, *, as_json: bool) -> None:
    """Do something with the letters that were counted, under a progress bar, and report; ends the command."""
    # Those that were counted, and no others that may have come since.
    these = Selection(ids={letter.message_id for letter in chosen})
    tally, console = Tally(), beside()

    async def worked() -> None:
        with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
            row = progress.add_task(done, total=len(chosen))
            async with app:
                desk = await app.dead_letters.opened_async()
                await work(desk, these, tally, lambda so_far: progress.update(row, completed=so_far.chosen))

    try:
        asyncio.run(worked())
    except KeyboardInterrupt:
        console.print(f"interrupted: {tally.chosen:,} of {len(chosen):,} done; run it again for the rest")
        sys.exit(INTERRUPTED)
    report(tally, done, missed=len(chosen) - tally.chosen, as_json=as_json)


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
