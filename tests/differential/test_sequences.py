from __future__ import annotations

import itertools
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from differential.known import reason_for, same_state_after
from differential.requests import sequences
from differential.session import Session

_NUMBERS = itertools.count()
_EXAMPLES = settings(
    max_examples=int(os.environ.get("FANFOLD_DIFFERENTIAL_EXAMPLES", "150")),
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _compare(clients, requests, name, attributes):
    ours, other = (Session(client, name, attributes) for client in clients)
    try:
        for place, asked in enumerate(requests):
            request = replace(asked, parameters=ours.meant(asked.parameters))
            answers = ours.ask(request), other.ask(request)
            note(f"{place}: {request}\n   ours: {answers[0]}\n  other: {answers[1]}")
            if answers[0] != answers[1]:
                assert reason_for(request, *answers)
                if not same_state_after(*answers):
                    return
    finally:
        ours.close()
        other.close()


@_EXAMPLES
@given(sequences(fifo=True), st.sampled_from([{}, {"ContentBasedDeduplication": "true"}]))
@pytest.mark.timeout(1800)
def test_a_fifo_queue_answers_as_the_other_one_does(clients, requests, options):
    name = f"differential-{os.getpid()}-{next(_NUMBERS)}.fifo"
    _compare(clients, requests, name, {"FifoQueue": "true", **options})


@_EXAMPLES
@given(sequences(fifo=False))
@pytest.mark.timeout(1800)
def test_a_standard_queue_answers_as_the_other_one_does(clients, requests):
    _compare(clients, requests, f"differential-{os.getpid()}-{next(_NUMBERS)}", {})
