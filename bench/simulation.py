"""How long the simulation of a queue takes. `python bench/simulation.py --tasks 1000000`."""

from __future__ import annotations

import argparse
import time

from fanfold.deploy.load import Load
from fanfold.deploy.scenario import scenarios
from fanfold.deploy.simulation import simulate

LOAD = Load(entities=100_000, tasks=42, seconds=3, workers=10)


def main() -> None:
    """Run each course of `fanfold plan --simulate`, and print its seconds: by the clock, and of CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--courses", type=int, default=5, help="so many of the five")
    options = parser.parse_args()
    for name, scenario in list(scenarios(LOAD, options.tasks).items())[: options.courses]:
        started, cpu = time.perf_counter(), time.process_time()
        course = simulate(scenario)
        took, used = time.perf_counter() - started, time.process_time() - cpu
        print(f"{name}: {course.done + course.dead:,} tasks, {course.runs:,} runs in {took:.1f} s, {used:.1f} s of CPU")


if __name__ == "__main__":
    main()
