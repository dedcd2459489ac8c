from __future__ import annotations

import pytest

from fanfold import Fanfold
from fanfold.errors import ConfigurationError
from fanfold.settings import VARIABLES, Settings, resolve

PAIRS = [
    ("queue_url", "FANFOLD_QUEUE_URL", "SQS_TASK_QUEUE_URL"),
    ("dlq_url", "FANFOLD_DLQ_URL", "SQS_DLQ_URL"),
    ("region", "FANFOLD_REGION", "AWS_DEFAULT_REGION"),
]
NUMBERS = ["FANFOLD_CONCURRENCY", "FANFOLD_LEASE", "FANFOLD_MAX_ATTEMPTS", "FANFOLD_GRACE"]


@pytest.mark.parametrize(("name", "own", "aws"), PAIRS)
def test_an_argument_wins_over_every_variable(name, own, aws):
    assert getattr(resolve({name: "argument"}, {own: "own", aws: "aws"}), name) == "argument"


@pytest.mark.parametrize(("name", "own", "aws"), PAIRS)
def test_our_own_variable_wins_over_the_aws_style_one(name, own, aws):
    assert getattr(resolve({name: None}, {aws: "aws", own: "own"}), name) == "own"


@pytest.mark.parametrize(("name", "own", "aws"), PAIRS)
def test_the_aws_style_variable_wins_over_the_default(name, own, aws):
    assert getattr(resolve({}, {aws: "aws", own: ""}), name) == "aws"


def test_with_nothing_said_the_defaults_hold():
    assert resolve({}, {}) == Settings(
        queue_url="sqlite:///fanfold.db",
        dlq_url=None,
        ledger=None,
        region=None,
        concurrency=10,
        lease=60.0,
        max_attempts=5,
        grace=30.0,
    )


def test_every_setting_has_its_variable():
    numbers = {"concurrency": 3, "lease": 45.5, "max_attempts": 7, "grace": 12.25}
    texts = {"queue_url": "q", "dlq_url": "d", "ledger": "l", "region": "r"}
    wanted = numbers | texts
    assert resolve({}, {VARIABLES[name][0]: str(value) for name, value in wanted.items()}) == Settings(**wanted)


def test_an_argument_of_zero_is_given():
    assert resolve({"grace": 0.0}, {"FANFOLD_GRACE": "9"}).grace == 0.0


@pytest.mark.parametrize("variable", NUMBERS)
@pytest.mark.parametrize("text", ["many", "1,5", "0x10", " "])
def test_a_number_that_isnt_one_names_its_variable(variable, text):
    with pytest.raises(ConfigurationError) as refused:
        resolve({}, {variable: text})
    assert f"{variable}={text!r}: it must be a number" in str(refused.value)


@pytest.mark.parametrize("variable", ["FANFOLD_LEASE", "FANFOLD_GRACE"])
@pytest.mark.parametrize("text", ["nan", "inf"])
def test_seconds_are_finite(variable, text):
    with pytest.raises(ConfigurationError, match=variable):
        resolve({}, {variable: text})


@pytest.mark.parametrize("variable", ["FANFOLD_CONCURRENCY", "FANFOLD_MAX_ATTEMPTS"])
def test_a_count_is_whole(variable):
    with pytest.raises(ConfigurationError, match=variable):
        resolve({}, {variable: "1.5"})


def test_a_variable_that_an_argument_overrides_may_be_wrong():
    assert resolve({"lease": 45.0}, {"FANFOLD_LEASE": "long"}).lease == 45.0


@pytest.mark.parametrize("attempts", [0, -1])
def test_a_task_is_tried_at_least_once(attempts):
    with pytest.raises(ConfigurationError, match=f"max_attempts={attempts}"):
        resolve({"max_attempts": attempts}, {})


def test_an_application_reads_the_environment_at_its_use(monkeypatch):
    app = Fanfold(concurrency=3)
    monkeypatch.setenv("FANFOLD_QUEUE_URL", "sqlite:///later.db")
    monkeypatch.setenv("FANFOLD_CONCURRENCY", "7")
    assert (app.settings.queue_url, app.settings.concurrency) == ("sqlite:///later.db", 3)


def test_a_command_line_option_wins_over_an_argument_in_code():
    app = Fanfold(concurrency=3, lease=45.0)
    app.configure(concurrency=8, lease=None)
    assert (app.settings.concurrency, app.settings.lease) == (8, 45.0)
