"""What the benchmarks compute, without measuring anything."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from contest import Peer, Round, Step, ratio, standing
from everything import broken, requests
from over_sqs import HAND, OURS, RIVAL, Entry, against, ranking, targets
from page import Section, between_marks, figure, table
from proxy import Requests


def step(rate: float, cpu: float = 100e-6) -> Step:
    return Step(tasks=100, seconds=100 / rate, cpu_seconds=100 * cpu, max_rss_mib=50, settings="", versions={})


def entry(name: str, *rates: float, cpu: float = 100e-6, requests: int = 30) -> Entry:
    rounds = [Round(enqueue=step(rate, cpu), drain=step(rate, cpu)) for rate in rates]
    peer = Peer(name=name, environment="any", script="any")
    return Entry(peer, rounds, Counter(DeleteMessageBatch=requests, GetQueueUrl=7), 100)


def test_a_ratio_is_that_of_rounds_beside_each_other():
    assert ratio([10, 20, 90], [5, 10, 30]) == 2


def test_a_standing_is_the_median_of_rates_and_of_cpu_a_task():
    stands = standing(entry("any", 1_000, 3_000, 2_000, cpu=50e-6).rounds)
    assert (stands.enqueue, stands.drain) == (pytest.approx(2_000), pytest.approx(2_000))
    assert stands.drain_cpu == pytest.approx(50)


def test_requests_a_task_leave_out_what_is_asked_once():
    assert entry("any", 1.0, requests=31).per_task == pytest.approx(0.31)


def test_a_slow_peer_gets_its_share_of_the_tasks_and_at_least_one():
    peer = Peer(name="slow", environment="any", script="any", share=0.2)
    assert (peer.tasks(5_040), peer.tasks(2)) == (1_008, 1)


def test_targets_compare_with_whom_was_measured():
    found = targets([entry(HAND, 100), entry(RIVAL, 2_000), entry(OURS, 3_000, cpu=50e-6)])
    measured = {what: round(value, 2) for what, value, _, _ in found}
    assert measured == {
        "requests a task": 0.3,
        f"drain, x {RIVAL}": 1.5,
        f"drain, x {HAND}": 30,
        f"enqueue, x {RIVAL}": 1.5,
        f"worker's CPU a task, x {RIVAL}": 0.5,
    }


def test_a_target_says_whether_it_is_reached_in_either_direction():
    rows = against([("a", 2.0, "≥", 1.4), ("b", 0.5, "≤", 0.6), ("c", 1.0, "≥", 1.4), ("d", 1.0, "≤", 0.6)])
    assert [row.split(" | ")[-1] for row in rows[2:]] == ["yes |", "yes |", "no |", "no |"]


def test_a_ranking_has_the_slowest_first_and_leaves_out_who_has_no_rounds():
    lines = ranking([entry(RIVAL, 2_000), entry("none"), entry(HAND, 100)])
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {HAND}", f"| {RIVAL}"]


def test_figures_have_three_digits_or_no_fraction():
    assert [figure(value) for value in (0.32049, 12.345, 99.96, 12_345.6)] == ["0.32", "12.3", "100", "12,346"]


def test_a_section_replaces_what_is_between_its_marks_and_nothing_else():
    page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nz"
    assert between_marks(page, Section(name="x", lines=table(["h"], [["1"]]))) == (
        "a\n<!-- x: begin -->\n| h |\n| --- |\n| 1 |\n<!-- x: end -->\nz"
    )


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="x: begin"):
        between_marks("nothing", Section(name="x", lines=[]))


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_requests_are_counted_however_their_bytes_are_cut(size):
    counts = Counter()
    requests = Requests(counts)
    json = b"POST / HTTP/1.1\r\nX-Amz-Target: AmazonSQS.SendMessageBatch\r\nContent-Length: 3\r\n\r\n{ }"
    form = b"POST / HTTP/1.1\r\ncontent-length: 21\r\n\r\nAction=ReceiveMessage"
    data = json + form + json
    for first in range(0, len(data), size):
        requests.feed(data[first : first + size])
    assert counts == {"SendMessageBatch": 2, "ReceiveMessage": 1}


def test_quick_checks_count_sends_to_the_very_number():
    exact = Entry(Peer(name=OURS, environment="any", script="any"), [], Counter(SendMessageBatch=250), 2_100)
    exact.requests |= Counter(ReceiveMessage=213, DeleteMessageBatch=210)
    assert broken(requests(exact)) == []
    exact.requests["SendMessageBatch"] += 1
    assert broken(requests(exact)) == ["sends: 251, and it should be 250 … 250"]
