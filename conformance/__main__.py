"""Run the suites and say what they say: `python -m conformance --help`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from conformance.environments import CACHE, UnavailableError
from conformance.outcomes import Verdict, judge, read_exceptions
from conformance.peers import PEERS, Endpoint, fanfold
from conformance.suites import FOREIGN, Suite, run_differential

DIFFERENTIAL: Final = "differential"
NAMES: Final = (*(suite.name for suite in FOREIGN), DIFFERENTIAL)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--suite", "wanted", multiple=True, type=click.Choice(NAMES), help="Only this one; may be repeated.")
@click.option("--endpoint", help="Ask this URL, or one of moto, localstack, ministack, fauxqs, instead of our own.")
@click.option("--peer", default="localstack", show_default=True, help="The other side of the comparison.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def main(wanted: Sequence[str], endpoint: str | None, peer: str, pytest_arguments: Sequence[str]) -> None:
    """Ask others' suites what they think of `fanfold serve`.

    Further arguments go to pytest: `-k move_task`. The exit code is 1 if a case fails that `exceptions.toml` doesn't
    list, or one passes that it lists. With --endpoint it is a comparison, and the exit code says nothing.
    """
    CACHE.mkdir(exist_ok=True)
    verdicts: dict[str, Verdict] = {}
    for name in wanted or NAMES:
        try:
            verdicts[name] = _ask(name, endpoint, peer, pytest_arguments)
        except UnavailableError as reason:
            print(f"{name}: skipped, {reason}", flush=True)
    Console().print(_table(verdicts))
    for name, verdict in verdicts.items():
        _tell(name, verdict)
    passed, failed = (sum(map(of, verdicts.values())) for of in (_passed, _failed))
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed and endpoint is None else 0)


def _ask(name: str, endpoint: str | None, peer: str, arguments: Sequence[str]) -> Verdict:
    suite = next((suite for suite in FOREIGN if suite.name == name), None)
    with _endpoint(endpoint, suite) as ours:
        print(f"{name}: asking {ours.name} at {ours.url} ...", flush=True)
        if suite is not None:
            run = suite.run(ours.url, arguments)
        else:
            with _endpoint(peer, None) as other:
                run = run_differential(ours.url, other.url, arguments)
    return judge(run, read_exceptions(name))


@contextmanager
def _endpoint(wanted: str | None, suite: Suite | None) -> Iterator[Endpoint]:
    if wanted is None:
        with fanfold(*(suite.serve if suite else ())) as started:
            yield started
    elif wanted in PEERS:
        with PEERS[wanted]() as started:
            yield started
    else:
        yield Endpoint(name="the endpoint", url=wanted)


def _table(verdicts: dict[str, Verdict]) -> Table:
    table = Table("suite", "passed", "failed", "known exceptions", "passed though listed", "skipped", "second try")
    for name, verdict in verdicts.items():
        parts = (
            verdict.passed,
            verdict.unknown,
            verdict.known,
            verdict.recovered,
            verdict.skipped,
            verdict.second_try,
        )
        table.add_row(name, *(str(len(part)) for part in parts))
    return table


def _tell(name: str, verdict: Verdict) -> None:
    categories = Counter(group.category for group in verdict.known.values())
    for category, count in categories.items():
        print(f"{name}: {count} known: {category}")
    for case in verdict.unknown:
        print(f"{name}: FAILED {case}")
    for case in verdict.recovered:
        print(f"{name}: PASSED, though listed as an exception: {case}")
    for case in verdict.second_try:
        print(f"{name}: passed at the second try: {case}")


def _passed(verdict: Verdict) -> int:
    return len(verdict.passed) - len(verdict.recovered)


def _failed(verdict: Verdict) -> int:
    return verdict.failures


if __name__ == "__main__":
    main()
