"""What is kept of names that clients choose."""

from __future__ import annotations

import pytest

from fanfold.endpoint.header_names import HeaderNames


@pytest.fixture
def names():
    return HeaderNames()


def test_a_name_is_in_lower_case_and_known_the_next_time(names):
    assert [names[b"X-Amz-Target"] for _ in range(2)] == ["x-amz-target"] * 2
    assert dict(names) == {b"X-Amz-Target": "x-amz-target"}


def test_a_name_may_be_no_ascii(names):
    assert names[b"X-\xc9"] == "x-\xe9"


def test_long_names_are_not_kept(names):
    assert names[b"X" * 100_000] == "x" * 100_000
    assert not names


def test_few_names_are_kept_and_the_others_are_lowered_all_the_same(names):
    lowered = [names[b"X-%d" % n] for n in range(10_000)]
    assert lowered == [f"x-{n}" for n in range(10_000)]
    assert len(names) < 1_000
