"""`fanfold demo`: the main job on real input."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from fanfold.cli.common import addresses, as_json, beside, to_people, to_scripts
from fanfold.model import FanOut
from fanfold.urls import is_sqlite


@click.command(short_help="The main job on real input: describe what is installed here.")
@addresses
@click.option("--documents", type=click.IntRange(1), help="Describe at most so many distributions. [default: all]")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-run"),
    show_default=True,
    help="Where the queue, the ledger, logs and results are kept; delete it to start afresh.",
)
@as_json
def demo(
    *,
    queue_url: str | None,
    dlq_url: str | None,
    ledger: str | None,
    region: str | None,
    documents: int | None,
    workers: int,
    folder: Path,
    as_json: bool,
) -> None:
    """Describe the Python distributions installed here: each is an event, and its fields are tasks.

    \b
      fanfold demo
      fanfold demo --workers 4 --documents 20
      fanfold demo --queue-url https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo

    Everything is real: files are read, hashes computed, sources parsed. A field that a distribution doesn't have ends
    as a dead letter that says so. Run it again: the events are the same, so nothing is enqueued twice.
    """
    from fanfold.demo import run as demo_run  # noqa: PLC0415 - the other commands needn't load the demo
    from fanfold.demo.app import app  # noqa: PLC0415 - as above

    folder.mkdir(parents=True, exist_ok=True)
    address = queue_url or f"sqlite:///{folder.resolve()}/tasks.db"
    in_file = address if is_sqlite(address) else f"sqlite:///{folder.resolve()}/ledger.db"
    place = demo_run.Place(folder=folder, queue_url=address, ledger=ledger or in_file, region=region)
    app.configure(queue_url=place.queue_url, dlq_url=dlq_url, ledger=place.ledger, region=region)
    try:
        report = demo_run.run(app, place, documents=documents, workers=workers, console=beside())
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; what is done is kept. Run the demo again to go on.") from None
    target = folder / "results.json"
    demo_run.write_results(report, target)
    if as_json:
        to_scripts(_as_record(report, target))
    else:
        _show(report, target)


def _as_record(report: Any, target: Path) -> dict[str, Any]:
    return {
        "distributions": len(report.fan_outs),
        "tasks_enqueued": report.fresh,
        "events": [dataclasses.asdict(done) for done in report.enqueued],
        "set_aside": report.set_aside,
        "retried": report.retried,
        "results": str(target),
    }


def _show(report: Any, target: Path) -> None:
    console = to_people()
    console.print(_table(report.fan_outs))
    _show_set_aside(report)
    for entity_id, name, attempts in report.retried:
        console.print(f"retried: {name} of {entity_id}, {attempts} attempts")
    total = sum(done.total_tasks for done in report.enqueued)
    if report.fresh:
        console.print(f"{report.fresh} of {total} tasks enqueued, {total - report.fresh} done in an earlier run.")
    else:
        console.print(f"Nothing enqueued: all {total} tasks of these {len(report.enqueued)} events were done before.")
    console.print(f"Results: {target}")


def _table(fan_outs: list[FanOut]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("distribution", no_wrap=True)
    table.add_column("licence", max_width=24, no_wrap=True)
    for heading in ("lines of code", "bytes", "fields", "set aside"):
        table.add_column(heading, justify="right", no_wrap=True)
    for fan_out in fan_outs:
        results = fan_out.results
        table.add_row(
            fan_out.entity_id,
            _shown(results.get("licence")),
            _shown(results.get("lines_of_code")),
            _shown(results.get("size_on_disk")),
            str(fan_out.progress.succeeded),
            str(fan_out.progress.dead),
        )
    return table


def _show_set_aside(report: Any) -> None:
    if not report.set_aside:
        return
    counts = Counter(name for _, name, _ in report.set_aside)
    first = {name: reason for _, name, reason in reversed(report.set_aside)}
    table = Table(box=None, pad_edge=False, title="Set aside, with the first reason", title_justify="left")
    table.add_column("field", no_wrap=True)
    table.add_column("times", justify="right")
    table.add_column("for example")
    for name, times in counts.most_common():
        table.add_row(name, str(times), first[name].replace("[", r"\["))
    to_people().print(table)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = next(iter(value.values()), "")
    return f"{value:,}" if isinstance(value, int) else str(value if value is not None else "")
