"""`fanfold demo`: the main job on real input."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from rich.table import Table

from fanfold.cli.common import INTERRUPTED, as_json, beside, one_line, print_table, to_scripts
from fanfold.errors import ConfigurationError
from fanfold.model import FanOut
from fanfold.urls import is_sqlite

if TYPE_CHECKING:
    from fanfold.demo.run import Place, Report


@click.command(short_help="The main job on real input: describe what is installed here.")
@click.option(
    "--queue-url",
    metavar="URL",
    help="An SQS FIFO queue, or a sqlite: URL. The environment's is not used: it may do real work. [default: a file in "
    "the folder]",
)
@click.option("--dlq-url", metavar="URL", help="The dead letter queue on SQS. [default: as the redrive policy says]")
@click.option("--ledger", metavar="URL", help="The ledger. [default: a file in the folder]")
@click.option(
    "--region", metavar="NAME", help="The queue's AWS region. [else: FANFOLD_REGION, AWS_DEFAULT_REGION, the URL's]"
)
@click.option(
    "--path",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    help="Describe what is installed in this folder (a site-packages). [default: in the running Python's]",
)
@click.option(
    "--documents", type=click.IntRange(1), metavar="N", help="Describe at most N distributions. [default: all]"
)
@click.option("--workers", type=click.IntRange(1), metavar="N", default=2, show_default=True, help="Worker processes.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-run"),
    show_default=True,
    help="Where the queue, the ledger, logs and results are kept; delete it to start afresh.",
)
@as_json
def demo(*, path: str | None, documents: int | None, workers: int, folder: Path, as_json: bool, **given: Any) -> None:
    """Describe the Python distributions installed here: each is an event, and its fields are tasks.

    \b
      fanfold demo
      fanfold demo --workers 4 --documents 20
      fanfold demo --queue-url https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo

    Everything is real: files are read, hashes computed, sources parsed. A field that a distribution doesn't have ends
    as a dead letter that says so. Run it again: the events are the same, so nothing is enqueued twice. Ctrl-C stops it
    in order (exit code 130), and the next run goes on.
    """
    from fanfold.demo import environment, run  # noqa: PLC0415 - the other commands needn't load the demo
    from fanfold.demo.app import app  # noqa: PLC0415 - as above

    surveyed = environment.survey(path)
    found = surveyed.installed[:documents]
    if not found:
        raise ConfigurationError(f"--path {path}: no distribution is installed there; name a site-packages folder")
    beside().print(f"{len(found)} distributions, {workers} worker processes; their logs are in {folder}", markup=False)
    try:
        report = run.run(app, _place(folder, **given), found, processes=workers, console=beside())
    except KeyboardInterrupt:
        click.echo("\nInterrupted; what is done is kept. Run the demo again to go on.", err=True)
        sys.exit(INTERRUPTED)
    if as_json:
        to_scripts(_as_record(report, folder) | {"left_out": surveyed.left_out})
    else:
        _show(report, folder, left_out=surveyed.left_out)


def _place(
    folder: Path, *, queue_url: str | None, dlq_url: str | None, ledger: str | None, region: str | None
) -> Place:
    from fanfold.demo.run import Place  # noqa: PLC0415 - as above

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--folder {folder}: {error.strerror}; name one that can be made") from error
    inside = f"sqlite:///{quote(str(folder.resolve()))}"
    address = queue_url or f"{inside}/tasks.db"
    file = address if is_sqlite(address) else f"{inside}/ledger.db"
    return Place(folder=folder, queue_url=address, dlq_url=dlq_url, ledger=ledger or file, region=region)


def _as_record(report: Report, folder: Path) -> dict[str, Any]:
    return {
        "distributions": len(report.fan_outs),
        "tasks": report.total,
        "tasks_enqueued": report.fresh,
        "events": [dataclasses.asdict(done) for done in report.enqueued],
        "set_aside": report.set_aside,
        "retried": report.retried,
        "results": str(folder / "results.json"),
    }


def _show(report: Report, folder: Path, *, left_out: int) -> None:
    print_table(_table(report.fan_outs))
    if report.set_aside:
        print_table(_set_aside(report.set_aside))
    for entity_id, name, attempts in report.retried:
        click.echo(f"retried: {name} of {entity_id}, {attempts} attempts")
    if left_out:
        click.echo(f"left out: {left_out} folder(s) whose METADATA states no name and version")
    click.echo(_said(report))
    click.echo(f"Results: {folder / 'results.json'}")


def _said(report: Report) -> str:
    settled, known = (sum(getattr(done, name) for done in report.enqueued) for name in ("settled", "duplicates"))
    if not report.fresh and not known:
        return f"Nothing enqueued: all {report.total} tasks of these {len(report.enqueued)} events were done before."
    earlier = f"; of an earlier run {settled} were done and {known} in the queue" if settled or known else ""
    return f"{report.fresh} of {report.total} tasks enqueued{earlier}."


def _table(fan_outs: Sequence[FanOut]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("distribution", no_wrap=True)
    table.add_column("licence")
    for heading in ("lines of code", "bytes", "fields", "set aside"):
        table.add_column(heading, justify="right", no_wrap=True)
    for fan_out in fan_outs:
        measured = (fan_out.results.get(name) for name in ("licence", "lines_of_code", "size_on_disk"))
        licence, lines, size = (next(iter(value.values())) if value else "" for value in measured)
        table.add_row(
            one_line(fan_out.entity_id),
            one_line(licence, length=24),
            *(f"{number:,}" if number != "" else "" for number in (lines, size)),
            str(fan_out.progress.succeeded),
            str(fan_out.progress.dead),
        )
    return table


def _set_aside(set_aside: Sequence[tuple[str, str, str]]) -> Table:
    counts = Counter(name for _, name, _ in set_aside)
    first = {name: reason for _, name, reason in reversed(set_aside)}
    table = Table(box=None, pad_edge=False, title="Set aside, with the first reason", title_justify="left")
    table.add_column("field", no_wrap=True)
    table.add_column("times", justify="right")
    table.add_column("for example")
    for name, times in counts.most_common():
        table.add_row(name, str(times), one_line(first[name]))
    return table
