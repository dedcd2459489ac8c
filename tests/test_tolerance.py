from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.errors import InvalidInputError
from fanfold.model import FanOutOptions
from fanfold.tolerance import Tolerance, tolerance


@pytest.mark.parametrize(
    ("options", "total", "counts"),
    [
        ({}, 42, (None, None)),
        ({"min_succeeded": 40}, 42, (40, None)),
        ({"min_succeeded": "90%"}, 42, (38, None)),
        ({"tolerated_failures": "10%"}, 42, (None, 4)),
        ({"tolerated_failures": 0}, 42, (None, 0)),
        ({"min_succeeded": "7%"}, 100, (7, None)),
        ({"min_succeeded": "0.1%"}, 42, (1, None)),
        ({"tolerated_failures": "100 %"}, 3, (None, 3)),
    ],
)
def test_options_become_counts_that_ask_for_more_and_tolerate_less(options, total, counts):
    enough, tolerated = counts
    wanted = Tolerance(min_succeeded=enough, tolerated_failures=tolerated)
    assert tolerance(FanOutOptions(**options), total) == wanted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_succeeded": 43}, "min_succeeded=43 can't be met: that is 43 of 42 tasks; it must be from 1 to 42"),
        ({"min_succeeded": "101%"}, "min_succeeded='101%' can't be met"),
        ({"min_succeeded": 0}, "from 1 to 42"),
        ({"tolerated_failures": -1}, "from 0 to 42"),
        ({"tolerated_failures": "many"}, "a share like '90%'"),
        ({"tolerated_failures": 0.1}, "a share like '90%'"),
        ({"min_succeeded": True}, "a share like '90%'"),
        ({"rest": "drop"}, "rest='drop'"),
        ({"order_by": "tenant"}, "order_by='tenant'"),
        ({"deadline": 0}, "deadline=0: it must be a number of seconds above 0"),
        ({"deadline": math.inf}, "deadline=inf"),
        ({"keep": "a day"}, "keep='a day'"),
    ],
)
def test_an_option_that_cant_work_is_refused_with_its_rule(options, said):
    with pytest.raises(InvalidInputError, match=said):
        tolerance(FanOutOptions(**options), 42)


@given(st.integers(1, 10_000), st.integers(0, 100))
def test_a_share_of_successes_and_the_rest_of_failures_leave_no_gap(total, percent):
    enough = tolerance(FanOutOptions(min_succeeded=f"{percent}%"), total).min_succeeded if percent else 1
    tolerated = tolerance(FanOutOptions(tolerated_failures=f"{100 - percent}%"), total).tolerated_failures
    assert enough + tolerated in (total, total + 1)
    assert (enough - 1) * 100 < percent * total or enough == 1
