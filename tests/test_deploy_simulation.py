"""The simulation against what theory says, the formulas against the simulation, and what goes wrong."""

from __future__ import annotations

import math

import pytest

from fanfold.deploy.cost import company, requests
from fanfold.deploy.fit import expected_wait, fit
from fanfold.deploy.load import MONTH, Load
from fanfold.deploy.scenario import Scenario, scenarios
from fanfold.deploy.simulation import simulate
from fanfold.errors import ConfigurationError

AT_ONCE = {"linger": 0.0, "round_trip": 0.0}
"""A queue that answers at once, as theory has it."""
CALM = Scenario(tasks=20_000, seconds=1.0, concurrency=10, workers=2, rate=10)


def test_the_simulation_drains_as_the_formula_says():
    load = Load(entities=1_000, tasks=50, seconds=2, workers=5)
    course = simulate(Scenario(tasks=load.messages, seconds=2, workers=5, concurrency=10, **AT_ONCE))
    assert course.done == 50_000
    assert course.seconds == pytest.approx(fit(load).drain_seconds, rel=0.03)


@pytest.mark.parametrize("busy", [0.5, 0.8, 0.9])
def test_the_simulation_waits_as_erlang_says(busy):
    rate = busy * 10
    course = simulate(Scenario(tasks=50_000, seconds=1.0, concurrency=10, rate=rate, **AT_ONCE))
    assert course.mean_wait == pytest.approx(expected_wait(rate, 1.0, 10), rel=0.15)
    assert course.utilization(10) == pytest.approx(busy, rel=0.02)


def test_erlangs_formula_agrees_with_the_closed_form_for_one_slot():
    # M/M/1: the wait is rho / (1 - rho) service times.
    assert expected_wait(0.8, 1.0, 1) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("seconds", "workers", "concurrency", "busy"),
    [
        (3.0, 4, 10, 0.45),
        (3.0, 4, 10, 0.1),
        (3.0, 4, 10, 0.8),
        (3.0, 4, 100, 0.5),
        (0.5, 2, 50, 0.7),
        (30.0, 10, 10, 0.3),
    ],
)
def test_requests_are_those_that_the_formulas_reckon(seconds, workers, concurrency, busy):
    entities = round(busy * workers * concurrency * MONTH / 42 / seconds)
    load = Load(entities=entities, tasks=42, seconds=seconds, workers=workers, concurrency=concurrency)
    course = simulate(scenarios(load, 21_000)["as planned"])
    reckoned = requests(load)
    simulated = course.receives + course.empty + course.deletes
    month = load.messages / course.done
    assert reckoned.receive + reckoned.empty + reckoned.delete == pytest.approx(simulated * month, rel=0.15)


def test_a_full_worker_settles_as_many_together_as_end_while_one_waits():
    course = simulate(Scenario(tasks=20_000, seconds=3.0, concurrency=100))
    assert course.done / course.deletes == pytest.approx(company(100 / 3), rel=0.05)
    assert course.done / course.receives == pytest.approx(company(100 / 3), rel=0.05)


def test_a_task_that_comes_to_waiting_workers_begins_at_once_however_many_polls_have_ended_empty_before():
    course = simulate(Scenario(tasks=500, seconds=1.0, concurrency=10, workers=5, rate=0.02))
    assert course.empty > 500
    assert course.longest_wait < 1


def test_more_than_can_be_done_waits_for_ever_and_the_formula_says_so():
    assert expected_wait(11, 1.0, 10) == math.inf
    course = simulate(Scenario(tasks=20_000, seconds=1.0, concurrency=10, rate=100))
    assert course.longest_wait == pytest.approx(20_000 / 10 - 20_000 / 100, rel=0.1)


def test_after_an_outage_the_backlog_is_worked_off_and_nothing_is_lost():
    away = simulate(Scenario(tasks=20_000, seconds=1.0, concurrency=10, workers=2, rate=10, outage=(400, 600)))
    assert (away.done, away.dead, away.runs) == (20_000, 0, 20_000)
    assert away.longest_wait == pytest.approx(200, rel=0.1)
    assert away.most_waiting > 10 * simulate(CALM).most_waiting


def test_a_poisoned_deployment_is_survived_by_backoff_or_kills_what_it_outlasts():
    short = simulate(Scenario(tasks=5_000, seconds=1.0, concurrency=50, rate=10, poisoned=(100, 115)))
    long = simulate(Scenario(tasks=5_000, seconds=1.0, concurrency=50, rate=10, poisoned=(0, math.inf)))
    assert (short.done, short.dead) == (5_000, 0)
    assert short.runs > 5_000
    assert (long.done, long.dead, long.runs) == (0, 5_000, 25_000)


def test_tasks_that_wait_for_their_next_attempt_are_in_flight_and_can_stop_a_queue():
    poisoned = {"tasks": 5_000, "seconds": 1.0, "concurrency": 50, "rate": 40, "poisoned": (0, 60)}
    free = simulate(Scenario(**poisoned))
    stopped = simulate(Scenario(**poisoned, in_flight_limit=200))
    assert free.most_in_flight > 400
    assert stopped.most_in_flight == 200
    assert stopped.done + stopped.dead == 5_000
    assert stopped.mean_wait > free.mean_wait


def test_a_day_has_its_noon():
    even = simulate(Scenario(tasks=10_000, seconds=60.0, concurrency=10, rate=10_000 / 86_400))
    daily = simulate(Scenario(tasks=10_000, seconds=60.0, concurrency=10, rate=10_000 / 86_400, daily=True))
    assert daily.seconds == pytest.approx(86_400, rel=0.1)
    assert daily.longest_wait > 10 * even.longest_wait


def test_the_same_seed_is_the_same_course():
    assert simulate(CALM) == simulate(CALM)


@pytest.mark.parametrize(
    "wrong", [{"tasks": 0}, {"seconds": 0.0}, {"seconds": math.nan}, {"rate": -1.0}, {"failures": 2.0}, {"fan_out": 0}]
)
def test_a_scenario_that_cant_be_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        Scenario(**{"tasks": 1, "seconds": 1.0} | wrong)
