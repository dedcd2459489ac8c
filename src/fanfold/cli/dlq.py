"""`fanfold dlq`: dead letters that explain themselves."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import IO, Any, Final

import click
from rich.progress import Progress

from fanfold.app import Fanfold
from fanfold.cli import editing, letters
from fanfold.cli.choosing import choosing, selection
from fanfold.cli.common import (
    INTERRUPTED,
    addresses,
    app_option,
    as_json,
    beside,
    load,
    print_table,
    require_file,
    to_scripts,
)
from fanfold.dead_letters import lines
from fanfold.dead_letters.desk import DeadLetters, Found
from fanfold.dead_letters.selection import Selection, check_grouping, count_by
from fanfold.dead_letters.tally import Tally, Told
from fanfold.errors import InvalidInputError
from fanfold.model import DeadLetter

Work = Callable[[DeadLetters, Selection, Tally, Told], Awaitable[Tally]]

yes: Final = click.option("--yes", "-y", is_flag=True, help="Don't ask.")
dry_run: Final = click.option("--dry-run", is_flag=True, help="Say what would be chosen, and change nothing.")
everything: Final = click.option("--all", "everything", is_flag=True, help="All of them: without it, choose some.")


@click.group()
def dlq() -> None:
    """Look at dead letters, send them back, or drop them.

    \b
      fanfold dlq list --since 2h
      fanfold dlq group --by error
      fanfold dlq redrive --task roofType --error 'Timeout*' --entity 'doc-12*' --limit 100
      fanfold dlq redrive --id 3f2a… --set task_config.model=small

    Looking takes nothing away. Whatever changes something says first how many letters it is about, asks, can be
    interrupted with Ctrl-C, and can be repeated: nothing is lost by it and nothing sent twice.
    """


@dlq.command("list")
@app_option
@addresses
@choosing
@as_json
def list_(target: str | None, *, as_json: bool, **options: Any) -> None:
    """List dead letters.

    \b
      fanfold dlq list --app app:app --task roofType
    """
    app, chosen = _opened(target, options)
    found = _run(app, lambda desk: desk.find(chosen))
    if as_json:
        to_scripts([letters.record(letter) for letter in found.letters])
        return
    if found.letters:
        print_table(letters.table(app, found.letters))
    else:
        click.echo("No dead letters" + ("." if chosen.everything else " of that kind."))
    _say_hidden(found.hidden)


@dlq.command()
@click.argument("message_id")
@app_option
@addresses
@as_json
def show(message_id: str, target: str | None, *, as_json: bool, **overrides: Any) -> None:
    """Show one dead letter: task, reason, traceback.

    \b
      fanfold dlq show 3f2a
    """
    app = _looked_into(target, overrides)
    found = _run(app, lambda desk: desk.find(Selection(id_prefixes=[message_id])))
    for letter in _some(found, Selection(id_prefixes=[message_id])):
        if as_json:
            to_scripts(letters.record(letter))
        else:
            letters.show(app, letter)


@dlq.command()
@click.option("--by", default="error", show_default=True, metavar="TRAIT", help="error, task, entity or metadata.KEY.")
@app_option
@addresses
@choosing
@as_json
def group(by: str, target: str | None, *, as_json: bool, **options: Any) -> None:
    """Count dead letters by error, task, or metadata.

    \b
      fanfold dlq group --by metadata.tenant
    """
    check_grouping(by)  # before anything is asked
    app, chosen = _opened(target, options)
    found = _run(app, lambda desk: desk.find(chosen))
    counts = count_by(found.letters, by)
    if as_json:
        to_scripts(dict(counts))
        return
    for value, times in counts:
        click.echo(f"{times:>8,}  {value}")
    click.echo(f"{len(found.letters):>8,}  in all")
    _say_hidden(found.hidden)


@dlq.command()
@everything
@click.option("--set", "settings", multiple=True, metavar="task_config.KEY=VALUE", help="Change it before; repeatable.")
@click.option("--edit", is_flag=True, help="Change the one chosen letter's task_config and metadata in $EDITOR.")
@dry_run
@yes
@app_option
@addresses
@choosing
@as_json
def redrive(
    target: str | None, *, everything: bool, settings: Sequence[str], edit: bool, dry_run: bool, yes: bool,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Send dead letters back, with attempts anew.

    \b
      fanfold dlq redrive --task roofType --error 'Timeout*' --dry-run
      fanfold dlq redrive --id 3f2a --set task_config.pages=10

    Only the chosen go back. Their fan-outs are open again, and fold again when they are complete. A letter that an
    interrupted redrive left behind is recognised, and only removed. Exit code 1 when some couldn't be sent.
    """
    app, chosen = _opened(target, options)
    _refuse_unchosen(chosen, everything=everything)
    found = _some(_run(app, lambda desk: desk.find(chosen)), chosen)
    change = editing.change(app, found, settings, edit=edit)

    def work(desk: DeadLetters, these: Selection, tally: Tally, told: Told) -> Awaitable[Tally]:
        return desk.redrive(these, edit=change, tally=tally, told=told)

    if _agreed(app, found, f"Send {len(found):,} dead letter(s) back?", dry_run=dry_run, yes=yes):
        _work(app, found, work, "sent back", as_json=as_json)


@dlq.command()
@everything
@dry_run
@yes
@app_option
@addresses
@choosing
@as_json
def drop(target: str | None, *, everything: bool, dry_run: bool, yes: bool, as_json: bool, **options: Any) -> None:
    """Delete dead letters for good.

    Their tasks stay dead. `export` keeps a copy.

    \b
      fanfold dlq drop --error MalformedMessage
    """
    app, chosen = _opened(target, options)
    _refuse_unchosen(chosen, everything=everything)
    found = _some(_run(app, lambda desk: desk.find(chosen)), chosen)
    if _agreed(app, found, f"Delete {len(found):,} dead letter(s) for good?", dry_run=dry_run, yes=yes):
        _work(app, found, _drop, "dropped", as_json=as_json)


@dlq.command()
@dry_run
@yes
@app_option
@addresses
@as_json
def purge(target: str | None, *, dry_run: bool, yes: bool, as_json: bool, **overrides: Any) -> None:
    """Delete all dead letters that are there now.

    Those that come meanwhile stay.

    \b
      fanfold dlq purge --dry-run
    """
    app = _looked_into(target, overrides)
    found = _some(_run(app, lambda desk: desk.find()), Selection())
    if _agreed(app, found, f"Delete all {len(found):,} dead letter(s) for good?", dry_run=dry_run, yes=yes):
        _work(app, found, _drop, "dropped", as_json=as_json)


@dlq.command()
@click.option(
    "--output", type=click.File("w", encoding="utf-8"), default="-", help="A file. [default: standard output]"
)
@app_option
@addresses
@choosing
def export(output: IO[str], target: str | None, **options: Any) -> None:
    """Write dead letters as JSON Lines.

    They stay in the queue.

    \b
      fanfold dlq export --output letters.jsonl
    """
    app, chosen = _opened(target, options)
    found = _run(app, lambda desk: desk.find(chosen))
    output.writelines(f"{lines.write(letter)}\n" for letter in found.letters)
    _say_hidden(found.hidden)


@dlq.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@yes
@app_option
@addresses
def import_(file: IO[str], target: str | None, *, yes: bool, **overrides: Any) -> None:
    """Put exported dead letters back.

    They go into the dead letter queue; those that are there already aren't doubled.

    \b
      fanfold dlq import letters.jsonl
    """
    exported = lines.read_all(file)
    if not exported:
        raise InvalidInputError(f"{file.name} holds no dead letters")
    _ask(f"Put {len(exported):,} dead letter(s) into the dead letter queue?", yes=yes)
    tally = _run(load(target, **overrides), lambda desk: desk.put(exported))
    _report(tally, "put back", as_json=False)


def _opened(target: str | None, options: dict[str, Any]) -> tuple[Fanfold, Selection]:
    names = ("tasks", "errors", "entity", "since", "tenant", "metadata", "ids", "limit")
    chosen = selection(**{name: options.pop(name) for name in names})
    return _looked_into(target, options), chosen


def _looked_into(target: str | None, overrides: dict[str, Any]) -> Fanfold:
    app = load(target, **overrides)
    require_file(app)
    return app


def _run(app: Fanfold, ask: Callable[[DeadLetters], Awaitable[Any]]) -> Any:
    """Ask the application's dead letters something, in a loop that Ctrl-C ends in order."""

    async def asked() -> Any:
        async with app:
            return await ask(await app.dead_letters.opened_async())

    try:
        return asyncio.run(asked())
    except KeyboardInterrupt:
        beside().print("interrupted; nothing was changed, and what was looked at is given back")
        sys.exit(INTERRUPTED)


def _refuse_unchosen(chosen: Selection, *, everything: bool) -> None:
    if chosen.everything and not everything:
        raise click.UsageError("choose some (--task, --error, --entity, --since, --id, …), or --all of them")


def _some(found: Found, chosen: Selection) -> Sequence[DeadLetter]:
    if not found.letters:
        what = "there are no dead letters" if chosen.everything else "no dead letter is of that kind"
        also = (
            f"; {found.hidden:,} can't be seen just now"
            if found.hidden
            else "; `fanfold dlq group` shows what is there"
        )
        raise InvalidInputError(what + also)
    return found.letters


def _agreed(app: Fanfold, chosen: Sequence[DeadLetter], question: str, *, dry_run: bool, yes: bool) -> bool:
    console = beside()
    for value, times in count_by(chosen, "error"):
        console.print(f"{times:>8,}  {value}", markup=False)
    if dry_run:
        console.print(letters.table(app, chosen))
        console.print(f"{len(chosen):,} dead letter(s) chosen; nothing was changed")
        return False
    _ask(question, yes=yes)
    return True


def _ask(question: str, *, yes: bool) -> None:
    if not yes:
        if not _somebody_there():
            raise click.UsageError("there is nobody to ask here: give --yes to do it, or --dry-run to see what it'd be")
        click.confirm(question, abort=True, err=True)


def _somebody_there() -> bool:
    return sys.stdin.isatty()


async def _drop(desk: DeadLetters, these: Selection, tally: Tally, told: Told) -> Tally:
    return await desk.drop(these, tally=tally, told=told)


def _work(app: Fanfold, chosen: Sequence[DeadLetter], work: Work, done: str, *, as_json: bool) -> None:
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
    _report(tally, done, missed=len(chosen) - tally.chosen, as_json=as_json)


def _report(tally: Tally, done: str, *, as_json: bool, missed: int = 0) -> None:
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


def _say_hidden(hidden: int) -> None:
    if hidden:
        beside().print(f"{hidden:,} more can't be seen just now: somebody holds them, or others of their group")
