"""What a suite's run came to, beside what is known of it: `exceptions.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

EXCEPTIONS: Final = Path(__file__).with_name("exceptions.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How each case of one suite ended: its id, from the file's name on, to "passed", "failed" or "skipped"."""

    outcomes: Mapping[str, str]
    second_try: Sequence[str] = ()
    """Cases that failed once and passed when they were run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure:
    """Cases of a suite that fail for a reason that is known. An id without brackets: all parameters of that case."""

    suite: str
    category: str
    reason: str
    tests: Sequence[str]

    def covers(self, case: str) -> bool:
        """Whether a case is one of these."""
        return case in self.tests or case.partition("[")[0] in self.tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One suite's run, sorted."""

    passed: Sequence[str]
    known: Mapping[str, KnownFailure]
    """Cases that failed as `exceptions.toml` says."""
    unknown: Sequence[str]
    """Cases that failed and aren't in there."""
    recovered: Sequence[str]
    """Cases that are in there and passed."""
    skipped: Sequence[str]
    second_try: Sequence[str]

    @property
    def failures(self) -> int:
        """Surprises of both kinds."""
        return len(self.unknown) + len(self.recovered)


class _Line(msgspec.Struct, kw_only=True):
    """A line of pytest-reportlog, as far as we read it."""

    report_type: str = msgspec.field(name="$report_type")
    nodeid: str = ""
    when: str = ""
    outcome: str = ""


def read_run(report_log: Path) -> Run:
    """The run that pytest-reportlog wrote down."""
    with report_log.open("rb") as file:
        lines = [msgspec.json.decode(line, type=_Line) for line in file]
    outcomes: dict[str, str] = {}
    retried = set()
    for line in lines:
        if line.report_type != "TestReport":
            continue
        case = _short(line.nodeid)
        if line.outcome == "rerun":
            retried.add(case)
            outcomes.pop(case, None)
        elif line.when == "call" or line.outcome != "passed":
            outcomes[case] = line.outcome if outcomes.get(case) != "failed" else "failed"
    return Run(outcomes=outcomes, second_try=sorted(case for case in retried if outcomes.get(case) == "passed"))


def _short(node_id: str) -> str:
    # A parameter may hold a slash: only what comes before the first "::" is a path.
    path, separator, rest = node_id.partition("::")
    return path.rpartition("/")[2] + separator + rest


def read_exceptions(suite: str, file: Path = EXCEPTIONS) -> list[KnownFailure]:
    """What is known of a suite."""
    groups = tomllib.loads(file.read_text(encoding="utf-8")).get("exception", [])
    return [KnownFailure(**group) for group in groups if group["suite"] == suite]


def judge(run: Run, exceptions: Sequence[KnownFailure]) -> Verdict:
    """Sort a run by what is known."""
    failed = _those(run, "failed")
    known = {case: group for case in failed if (group := _group_of(case, exceptions)) is not None}
    passed = _those(run, "passed")
    return Verdict(
        passed=passed,
        known=known,
        unknown=[case for case in failed if case not in known],
        recovered=[case for case in passed if _group_of(case, exceptions) is not None],
        skipped=_those(run, "skipped"),
        second_try=run.second_try,
    )


def _those(run: Run, outcome: str) -> list[str]:
    return [case for case, ended in run.outcomes.items() if ended == outcome]


def _group_of(case: str, exceptions: Iterable[KnownFailure]) -> KnownFailure | None:
    return next((group for group in exceptions if group.covers(case)), None)
