"""All of `make bench`, section by section, and `make bench-quick`, which only checks what noise allows."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Final

import distance
import embedded
import one_file
import over_sqs
import slow_tasks
from over_sqs import OURS, Entry
from page import Section, show

QUICK_TASKS: Final = 2_100
_TASKS_OF_A_FAN_OUT: Final = 42
_SENDS: Final = 5

SECTIONS: Final[dict[str, Callable[[], Section]]] = {
    "over SQS": lambda: over_sqs.measure(over_sqs.ON_EACH, 5_040, 3)[0],
    "embedded": lambda: embedded.measure(5_040, 3)[0],
    "distance": lambda: distance.measure()[0],
    "slow tasks": slow_tasks.measure,
    "processes": one_file.measure,
}
Check = tuple[str, float, float, float]
"""What it is, what was measured, and the least and the most that it may be."""


def requests(entry: Entry) -> list[Check]:
    """A saturated worker's requests: sends to the very number; the rest with a few polls that found nothing."""
    tasks = entry.counted
    sends, least = tasks // _TASKS_OF_A_FAN_OUT * _SENDS, tasks / 10
    counts = entry.requests
    return [
        ("sends", counts["SendMessageBatch"], sends, sends),
        ("deletes", counts["DeleteMessageBatch"], least, least * 1.02),
        ("receives", counts["ReceiveMessage"], least, least * 1.05),
        ("single sends and deletes", counts["SendMessage"] + counts["DeleteMessage"], 0, 0),
    ]


def quick() -> list[Check]:
    """A minute: requests a task over SQS, and ratios with margins of a factor of two or more."""
    any_number = float("inf")
    _, found = over_sqs.measure({"fauxqs": (over_sqs.HAND, OURS)}, QUICK_TASKS, 1)
    _, files = embedded.measure(QUICK_TASKS, 1, ["huey, FULL", "Fanfold, FULL"])
    checks: list[Check] = []
    for entry in (one for entries in found.values() for one in entries if one.peer.name == OURS and one.rounds):
        checks += requests(entry)
    wanted = {f"drain, x {over_sqs.HAND}": 5.0}
    measured = [target for entries in found.values() for target in over_sqs.targets(entries)]
    checks += [(what, value, wanted[what], any_number) for what, value, _, _ in measured if what in wanted]
    least = {"Fanfold, FULL: enqueue, x huey, FULL, pops": 1.0, "Fanfold, FULL: drain, x huey, FULL, pops": 0.6}
    found_there = embedded.targets(files)
    return checks + [(what, value, least[what], any_number) for what, value, _, _ in found_there if what in least]


def broken(checks: Sequence[Check]) -> list[str]:
    """The checks that failed, in words."""
    return [
        f"{what}: {value:g}, and it should be {least:g} … {most:g}"
        for what, value, least, most in checks
        if not least <= value <= most
    ]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="check requests and coarse ratios, in about a minute")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, of: %(default)s")
    parser.add_argument("--write", action="store_true", help="write tables and charts into docs/performance.md too")
    options = parser.parse_args()
    if options.quick:
        checks = quick()
        for what, value, least, most in checks:
            print(f"{what}: {value:g} ({least:g} … {most:g})")
        if not checks or broken(checks):
            raise SystemExit("\n".join(broken(checks)) or "nothing could be measured here; see above")
        return
    for name in options.only.split(","):
        began = time.perf_counter()
        show(SECTIONS[name](), to_page=options.write)
        print(f"({name}: {time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
