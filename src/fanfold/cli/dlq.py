"""`fanfold dlq`: dead letters that explain themselves."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Sequence
from typing import IO, Any, Final

import click

from fanfold.app import Fanfold
from fanfold.cli import editing, letters, working
from fanfold.cli.choosing import choosing, selection
from fanfold.cli.common import addresses, app_option, as_json, load, print_table, require_file, to_scripts
from fanfold.dead_letters import lines
from fanfold.dead_letters.desk import Check, DeadLetters
from fanfold.dead_letters.redriven import Edit
from fanfold.dead_letters.selection import Selection, check_grouping, count_by
from fanfold.dead_letters.tally import Tally, Told
from fanfold.errors import InvalidInputError
from fanfold.model import DeadLetter
from fanfold.urls import is_sqlite

yes: Final = click.option("--yes", "-y", is_flag=True, help="Don't ask.")
dry_run: Final = click.option("--dry-run", is_flag=True, help="Say what would be chosen, and change nothing.")
_NAMED: Final = 5
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
    found = working.run(app, lambda desk: desk.find(chosen))
    if as_json:
        to_scripts([letters.record(letter) for letter in found.letters])
        return
    if found.letters:
        print_table(letters.table(app, found.letters))
    else:
        click.echo("No dead letters" + ("." if chosen.everything else " of that kind."))
    working.say_hidden(found.hidden)


def _written(_: click.Context, __: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("give an id, or its beginning; `fanfold dlq list` shows them")
    return value


@dlq.command()
@click.argument("message_id", callback=_written)
@app_option
@addresses
@as_json
def show(message_id: str, target: str | None, *, as_json: bool, **overrides: Any) -> None:
    """Show one dead letter: task, reason, traceback.

    \b
      fanfold dlq show 3f2a
    """
    app, chosen = _looked_into(target, overrides), Selection(id_prefixes=[message_id])
    found = working.some(working.run(app, lambda desk: desk.find(chosen)), chosen)
    if len(found) > 1:
        raise InvalidInputError(
            f"{len(found):,} dead letters' ids begin with {message_id!r}; give more of it: "
            f"{', '.join(letter.message_id for letter in found[:_NAMED])}{', …' if len(found) > _NAMED else ''}"
        )
    if as_json:
        to_scripts(letters.record(found[0]))
    else:
        letters.show(app, found[0])


@dlq.command()
@click.option(
    "--by", default="error", show_default=True, metavar="TRAIT", help="error, task, entity, tenant or metadata.KEY."
)
@app_option
@addresses
@choosing
@as_json
def group(by: str, target: str | None, *, as_json: bool, **options: Any) -> None:
    """Count dead letters by error, task, or metadata.

    \b
      fanfold dlq group --by tenant
    """
    check_grouping(by)  # before anything is asked
    app, chosen = _opened(target, options)
    found = working.run(app, lambda desk: desk.find(chosen))
    counts = count_by(found.letters, by)
    if as_json:
        to_scripts(dict(counts))
        return
    for value, times in counts:
        click.echo(f"{times:>8,}  {value}")
    click.echo(f"{len(found.letters):>8,}  in all")
    working.say_hidden(found.hidden)


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
    working.refuse_unchosen(chosen, everything=everything)
    change = editing.values(settings)
    movable = chosen.everything and change is None and not edit and working.run(app, _moves)
    if yes and not (dry_run or edit or movable):
        check = _checked(app, change)
        working.work_at_once(app, chosen, _sending_back(change), "sent back", as_json=as_json, check=check)
    seen = working.run(app, lambda desk: desk.find(chosen))
    found = working.some(seen, chosen)
    change = editing.change(app, found, settings, edit=edit)
    question = f"Send {len(found):,} dead letter(s) back?"
    if not working.agreed(app, found, question, dry_run=dry_run, yes=yes, as_json=as_json):
        return
    if movable and working.run(app, lambda desk: desk.move(seen)):
        working.report_moving(len(found), as_json=as_json)
    else:
        working.work_on(app, found, _sending_back(change), "sent back", as_json=as_json)


async def _moves(desk: DeadLetters) -> bool:
    return desk.moves


def _sending_back(change: Edit | None) -> working.Work:
    def work(desk: DeadLetters, these: Selection, tally: Tally, told: Told, check: Check) -> Awaitable[Tally]:
        return desk.redrive(these, edit=change, check=check, tally=tally, told=told)

    return work


def _checked(app: Fanfold, change: Edit | None) -> Check:
    def check(found: Sequence[DeadLetter]) -> None:
        editing.check(app, found, change)
        working.say_kinds(found)

    return check


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
    working.refuse_unchosen(chosen, everything=everything)
    _drop(app, chosen, "Delete {:,} dead letter(s) for good?", dry_run=dry_run, yes=yes, as_json=as_json)


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
    _drop(app, Selection(), "Delete all {:,} dead letter(s) for good?", dry_run=dry_run, yes=yes, as_json=as_json)


def _drop(app: Fanfold, chosen: Selection, question: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    if yes and not dry_run:
        working.work_at_once(app, chosen, working.drop, "dropped", as_json=as_json)
    found = working.some(working.run(app, lambda desk: desk.find(chosen)), chosen)
    if working.agreed(app, found, question.format(len(found)), dry_run=dry_run, yes=yes, as_json=as_json):
        working.work_on(app, found, working.drop, "dropped", as_json=as_json)


@dlq.command()
@click.option(
    "--output",
    type=click.File("w", encoding="utf-8", atomic=True),
    default="-",
    help="A file, replaced once all is read. [default: standard output]",
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
    found = working.run(app, lambda desk: desk.find(chosen))
    output.write("".join(f"{lines.write(letter)}\n" for letter in found.letters))
    click.echo(f"{len(found.letters):,} dead letter(s) written to {_named(output)}", err=True)
    working.say_hidden(found.hidden)


def _named(output: IO[str]) -> str:
    return "standard output" if output is sys.stdout or output.name in ("-", "<stdout>") else output.name


@dlq.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@yes
@app_option
@addresses
@as_json
def import_(file: IO[str], target: str | None, *, yes: bool, as_json: bool, **overrides: Any) -> None:
    """Put exported dead letters back.

    They go into the dead letter queue; those that are there already aren't doubled.

    \b
      fanfold dlq import letters.jsonl
    """
    exported = lines.read_all(file)
    if not exported:
        raise InvalidInputError(f"{file.name} holds no dead letters")
    working.ask(f"Put {len(exported):,} dead letter(s) into the dead letter queue?", yes=yes)
    app = load(target, **overrides)
    working.put(app, exported, as_json=as_json)


def _opened(target: str | None, options: dict[str, Any]) -> tuple[Fanfold, Selection]:
    names = ("tasks", "errors", "entity", "since", "tenant", "metadata", "ids", "limit")
    chosen = selection(**{name: options.pop(name) for name in names})
    return _looked_into(target, options), chosen


def _looked_into(target: str | None, overrides: dict[str, Any]) -> Fanfold:
    app = load(target, **overrides)
    require_file(app)
    if app.settings.dlq_url is not None and not is_sqlite(app.settings.queue_url):
        from fanfold.deploy.description import check_dlq_url  # noqa: PLC0415 - boto3 only where it is used

        check_dlq_url(app.settings.queue_url, app.settings.dlq_url)
    return app
