"""Costs and fits: the formulas by hand, and the commands that show them."""

from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner

from fanfold.cli import main
from fanfold.deploy.cost import bill, company, naive, received_together, requests
from fanfold.deploy.fit import fit
from fanfold.deploy.load import MONTH, Load, table
from fanfold.deploy.prices import prices_of
from fanfold.errors import ConfigurationError

US = prices_of("us-east-1")
LOAD = Load(entities=100_000, tasks=42, seconds=3, workers=10)
ARGUMENTS = ["--entities", "100000", "--tasks", "42", "--seconds", "3", "--workers", "10"]


def load(**fields):
    return Load(**{"entities": 1_000, "tasks": 10, "seconds": 1.0} | fields)


def run(*arguments):
    return CliRunner().invoke(main, arguments)


def test_a_fan_out_is_sent_in_tens_and_its_completion_alone():
    assert requests(LOAD).send == 100_000 * 6
    assert naive(LOAD).send == 100_000 * 42


@pytest.mark.parametrize(
    ("size", "sends"), [(1_000, 1), (6_553, 1), (6_554, 2), (100_000, 16), (200_000, 32), (1_048_576, 160)]
)
def test_each_64_kb_of_a_request_count_as_one_and_a_request_has_a_mebibyte_at_most(size, sends):
    assert requests(load(bytes=size)).send == 1_000 * (sends + 1)


def test_what_ends_alone_is_settled_alone_and_a_busy_worker_settles_tens():
    assert requests(load(entities=1)).delete == pytest.approx(11, rel=0.01)
    busy = load(entities=100_000_000, seconds=0.01, concurrency=100)
    assert requests(busy).delete == pytest.approx(busy.messages / 10 + busy.entities / 10, rel=0.2)


def test_company_is_who_comes_within_a_fiftieth_of_a_second_up_to_ten():
    assert [company(rate) for rate in (0.0, 50.0, 10_000.0)] == [1.0, 2.0, 10.0]


@pytest.mark.parametrize(("concurrency", "together"), [(1, 1.0), (10, 10 / 1.9), (100, 10 / 1.9)])
def test_an_idle_workers_first_receive_brings_one_and_the_next_what_it_has_slots_for(concurrency, together):
    assert received_together(load(entities=1, concurrency=concurrency, seconds=60.0)) == pytest.approx(
        together, rel=0.01
    )


def test_an_idle_worker_polls_three_times_a_minute_and_each_loop_of_the_naive_way_twelve_times():
    quiet = load(entities=1, tasks=1, workers=3)
    assert requests(quiet).empty == pytest.approx(3 * MONTH / 20, rel=0.01)
    assert naive(quiet).empty == pytest.approx(30 * MONTH / 5, rel=0.01)
    assert requests(load(entities=1, tasks=1, active=0.5)).empty == pytest.approx(MONTH / 20, rel=0.01)


def test_workers_that_always_find_something_have_no_empty_receives():
    assert requests(load(entities=10_000_000)).empty == 0


def test_long_tasks_are_extended_and_failed_ones_come_back():
    assert requests(load(seconds=10.0)).change == 0
    assert requests(load(seconds=250.0)).change == pytest.approx(10_000 * 10, rel=0.2)
    assert requests(load(failures=0.5)).change == pytest.approx(10_000, rel=0.01)


def test_the_first_million_requests_are_free_and_each_further_one_has_its_price():
    assert bill(requests(load(active=0.01)), load(active=0.01), US).sqs == 0
    made = requests(LOAD)
    assert bill(made, LOAD, US).sqs == pytest.approx((made.total - 1_000_000) / 2_000_000)


def test_a_ledger_on_dynamodb_costs_units_for_each_run():
    paid = bill(requests(LOAD), LOAD, US, ledger=True)
    assert paid.write_units == pytest.approx(LOAD.messages * table()["ledger"]["write_units_a_task"])
    assert bill(requests(LOAD), load(failures=0.5), US, ledger=True).write_units == pytest.approx(10_000 * (5.9 + 3))
    assert paid.ledger == pytest.approx((paid.write_units * 0.625 + paid.read_units * 0.125) / 1_000_000)
    assert bill(requests(LOAD), LOAD, US).ledger == 0


def test_littles_law_says_how_many_workers_a_load_needs():
    busy = LOAD.messages * 3 / MONTH
    assert fit(LOAD).utilization == pytest.approx(busy / 100)
    assert fit(LOAD).slots_needed == math.ceil(busy / 0.8)
    assert fit(LOAD, times=100).workers_needed == math.ceil(math.ceil(100 * busy / 0.8) / 10)
    assert fit(LOAD).drain_seconds == LOAD.messages * 3 / 100


def test_the_busiest_hour_is_that_of_the_pattern_and_of_its_peak():
    base = fit(load()).utilization
    assert fit(load(pattern="daily", peak=3.0)).utilization == pytest.approx(6 * base)


def test_quotas_are_those_of_the_region_and_of_the_mode():
    assert fit(LOAD, region="eu-west-1").quota == 70_000
    assert fit(LOAD, region="nowhere-1").quota == table()["quotas"]["least"]
    assert fit(LOAD, high_throughput=False).quota == 300
    assert fit(LOAD, times=10_000).partitions > 1


def test_what_does_not_fit_is_said_with_what_would():
    assert fit(LOAD).problems == []
    [piled] = fit(LOAD, times=100).problems
    assert piled.startswith("work piles up: ")
    assert f"{fit(LOAD, times=100).workers_needed} workers" in piled
    many = Load(entities=10_000_000, tasks=42, seconds=900, workers=20_000)
    assert any("120,000 of a queue" in problem for problem in fit(many, high_throughput=False).problems)
    assert any("the quota is 300" in problem for problem in fit(many, high_throughput=False, times=10).problems)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"entities": 0}, "entities=0: at least 1"),
        ({"failures": 1.0}, "failures=1.0: from 0 to below 1"),
        ({"active": 0.0}, "active=0.0: above 0"),
        ({"seconds": -1.0}, "seconds=-1.0: above 0"),
        ({"seconds": math.nan}, "seconds=nan"),
        ({"peak": 0.5}, "peak=0.5: at least 1"),
        ({"pattern": "weekly"}, "pattern=weekly: steady or daily"),
        ({"bytes": 1_048_577}, "SQS takes 1,048,576"),
        ({"seconds": 43_201}, r"seconds=43201: above 0.*12 hours"),
        ({"lease": 43_201.0}, "lease=43201"),
        ({"workers": 10_000_000}, "100,000,000 slots: at most 1,000,000"),
        ({"entities": 10**30}, r"e\+31 tasks a month: at most"),
    ],
)
def test_a_load_that_cant_be_is_refused(wrong, said):
    with pytest.raises(ConfigurationError, match=said):
        load(**wrong)


def test_the_table_says_when_and_where_it_was_read():
    assert table()["read"].startswith("20")
    assert all(table()[part]["source"] for part in ("prices", "quotas", "ledger"))


def test_cost_shows_both_ways_to_people_and_to_scripts():
    shown = run("cost", *ARGUMENTS, "--dynamodb", "--region", "eu-west-1")
    assert shown.exit_code == 0
    for said in (
        "one by one",
        "dollars for SQS",
        "DynamoDB write units",
        "Prices of eu-west-1: $0.5 for a million requests; from AWS's",
        "No price of a million write units in eu-west-1 is in the table: reckoned with us-east-1's $0.625",
        "give it by --write-price",
    ):
        assert said in shown.stdout
    told = json.loads(run("cost", *ARGUMENTS, "--json").stdout)
    assert (told["fanfold"]["send"], told["one by one"]["send"]) == (600_000, 4_200_000)
    assert told["fanfold"]["bill"]["sqs"] < told["one by one"]["bill"]["sqs"]


def test_prices_that_are_given_count_and_those_that_are_not_known_are_said_to_be_anothers():
    assert prices_of("us-east-1").assumed == []
    assert prices_of("sa-east-1").assumed == ["fifo", "dynamodb_write", "dynamodb_read"]
    given = prices_of("sa-east-1", fifo=0.7, dynamodb_write=1, dynamodb_read=0)
    assert (given.fifo, given.dynamodb_read, given.assumed) == (0.7, 0, [])
    double = json.loads(run("cost", *ARGUMENTS, "--region", "sa-east-1", "--price-per-million", "1", "--json").stdout)
    plain = json.loads(run("cost", *ARGUMENTS, "--json").stdout)
    assert double["fanfold"]["bill"]["sqs"] == pytest.approx(2 * plain["fanfold"]["bill"]["sqs"])
    assert double["prices"]["assumed"] == ["dynamodb_write", "dynamodb_read"]
    assert "Prices of sa-east-1: $0.7 for" in run("cost", *ARGUMENTS, "--region", "sa-east-1",
                                                  "--price-per-million", "0.7").stdout  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--region", "mars"], "region 'mars': write it as eu-west-1"),
        (["--price-per-million", "-1"], "fifo=-1.0: dollars for a million"),
        (["--price-per-million", "nan"], "fifo=nan: dollars for a million"),
    ],
)
def test_a_price_or_a_region_that_cant_be_is_refused(options, said):
    refused = run("cost", *ARGUMENTS, *options)
    assert (refused.exit_code, said in refused.stderr) == (1, True)


def test_each_region_of_the_table_says_where_its_prices_are_from_and_when_they_were_read():
    for region, prices in table()["prices"]["regions"].items():
        assert prices["source"], region
        assert prices["read"] <= table()["read"]


def test_cost_says_when_the_workers_are_too_few():
    assert "More comes in" not in run("cost", *ARGUMENTS).stdout
    crowded = run("cost", "--entities", "1000000", "--tasks", "42", "--seconds", "30")
    assert "More comes in than these workers can do" in crowded.stdout


def test_plan_shows_ten_and_a_hundred_times_the_load_and_what_goes_wrong():
    shown = run("plan", *ARGUMENTS, "--simulate", "500")
    assert shown.exit_code == 0
    for said in ("100 x", "At 100 times the load: work piles up", "every run fails", "the region is away", "for ever"):
        assert said in shown.stdout
    told = json.loads(run("plan", *ARGUMENTS, "--json").stdout)
    assert (told["fits"]["1"]["quota"], told["fits"]["100"]["wait_seconds"]) == (70_000, None)


def test_a_load_that_cant_be_is_a_clear_error():
    ran = run("plan", "--entities", "0", "--tasks", "1", "--seconds", "1")
    assert (ran.exit_code, ran.stderr) == (1, "Error: entities=0: at least 1\n")
