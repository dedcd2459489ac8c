from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fanfold import ids, limits

# Few characters and the separator among them: names that look alike are what could collide.
lookalikes = st.text("-1aé ", min_size=1, max_size=6)
awkward = st.text(st.characters(exclude_categories=()), max_size=200)
names = lookalikes | awkward | st.text("ab", min_size=80, max_size=90)
# Two for their characters and one for its length: none is found by trying, of which Hypothesis tires.
refused = st.builds(str.__add__, st.sampled_from([" ", "é", "a" * (limits.MAX_ID_LENGTH + 1)]), names)
generations = st.integers(0, 3)
plain = st.text("abcXYZ019_.:/", min_size=1, max_size=40)
moments = st.floats(0, 4e9)
randomness = st.integers(0, (1 << 74) - 1)


def sent(entity_id, task_name, event_id, generation=0):
    fan_out_id = ids.derived_fan_out_id(entity_id, event_id)
    return ids.deduplication_id(entity_id, task_name, fan_out_id, generation)


@given(names, names, names, generations)
@example("e" * 256, "t" * 256, "", 0)
@example("", "\ud800", "\n", 10**6)
def test_sqs_takes_every_id(entity_id, task_name, event_id, generation):
    assert limits.is_sqs_id(sent(entity_id, task_name, event_id, generation))
    assert limits.is_sqs_id(ids.group_id(entity_id, task_name))
    assert limits.is_sqs_id(ids.group_id(entity_id, task_name, ids.group_per_entity))


@given(*[st.tuples(names, names, names, generations)] * 2)
@example(("a-b", "c", "e", 0), ("a", "b-c", "e", 0))
@example(("a", "t-1", "e", 0), ("a", "t", "e", 1))
@example(("a b", "c", "e", 0), ("a_b", "c", "e", 0))
@example(("é" * 50, "x" * 90, "e", 0), ("é" * 50, "x" * 90, "e", 1))
@example(("a", "bc", "e", 0), ("ab", "c", "e", 0))
def test_what_differs_in_entity_task_event_or_generation_never_shares_a_deduplication_id(one, other):
    assume(one != other)
    assert sent(*one) != sent(*other)


@given(names, names, generations, st.lists(st.tuples(moments, randomness), min_size=2, max_size=2, unique=True))
def test_two_new_fan_outs_never_share_a_deduplication_id(entity_id, task_name, generation, made):
    one, other = (ids.new_fan_out_id(now, bits) for now, bits in made)
    assume(one != other)
    assert ids.deduplication_id(entity_id, task_name, one, generation) != ids.deduplication_id(
        entity_id, task_name, other, generation
    )


@given(names, names)
def test_an_event_that_comes_again_gives_the_same_fan_out(entity_id, event_id):
    found = ids.derived_fan_out_id(entity_id, event_id)
    assert found == ids.derived_fan_out_id(entity_id, event_id)
    assert re.fullmatch("[0-9a-f]{32}", found)


def test_a_derived_id_never_changes_between_versions():
    assert ids.derived_fan_out_id("doc-123", "documents:3:1042") == "39c96393ad2d9c2a9737515618e0282d"


@given(plain, plain, plain)
def test_a_deduplication_id_that_fits_is_readable(entity_id, task_name, event_id):
    fan_out_id = ids.derived_fan_out_id(entity_id, event_id)
    assert ids.deduplication_id(entity_id, task_name, fan_out_id) == f"{entity_id}-{task_name}-{fan_out_id}"


def test_a_redriven_tasks_deduplication_id_ends_in_its_generation():
    assert ids.deduplication_id("doc-1", "words", "f" * 32, 2) == f"doc-1-words-{'f' * 32}-2"


def test_exactly_128_characters_are_readable_and_one_more_is_digested():
    longest = "e" * (128 - len(f"-t-{'f' * 32}"))
    assert ids.deduplication_id(longest, "t", "f" * 32) == f"{longest}-t-{'f' * 32}"
    digested = ids.deduplication_id(longest + "e", "t", "f" * 32)
    assert re.fullmatch(r"e{87}-[0-9a-f]{40}", digested)


def test_a_digested_id_keeps_its_readable_beginning():
    assert ids.deduplication_id("Straße 1", "roof type", "f" * 32).startswith("Stra_e_1-roof_type-")
    assert ids.group_id("Straße 1", "roof type").startswith("Stra_e_1-roof_type-")


def test_each_task_is_a_group_of_its_own():
    assert ids.group_id("doc-1", "words") == "doc-1-words"


def test_an_entity_can_be_one_group():
    assert ids.group_id("doc-1", "words", ids.group_per_entity) == "doc-1"


def test_a_group_strategy_may_be_any_function():
    assert ids.group_id("doc-1", "words", lambda entity, task: f"{task}/{entity[:3]}") == "words/doc"


@given(*[refused] * 2)
def test_two_groups_that_must_be_digested_stay_two(one, other):
    assume(one != other)
    assert not limits.is_sqs_id(one)
    assert ids.group_id(one, "", ids.group_per_entity) != ids.group_id(other, "", ids.group_per_entity)


@given(moments, randomness)
def test_a_new_fan_out_id_is_a_uuid_of_version_7(now, bits):
    made = ids.new_fan_out_id(now, bits)
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert uuid.UUID(made).version == 7
    assert uuid.UUID(made).variant == uuid.RFC_4122
    assert int(made[:12], 16) == int(now * 1000)


@given(moments, moments, randomness, randomness)
def test_new_fan_out_ids_sort_by_the_millisecond(earlier, later, bits, other_bits):
    assume(int(earlier * 1000) < int(later * 1000))
    assert ids.new_fan_out_id(earlier, bits) < ids.new_fan_out_id(later, other_bits)


@given(moments, randomness, randomness)
def test_every_random_bit_counts(now, bits, other_bits):
    assume(bits != other_bits)
    assert ids.new_fan_out_id(now, bits) != ids.new_fan_out_id(now, other_bits)


@pytest.mark.parametrize("new_id", [ids.random_uuid, ids.numbered_uuids()], ids=["random", "numbered"])
def test_a_random_uuid_is_one_of_version_4(new_id):
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    for one in made:
        parsed = uuid.UUID(one)
        assert (str(parsed), parsed.version, parsed.variant) == (one, 4, uuid.RFC_4122)


def test_two_who_number_their_uuids_share_none():
    one, other = ids.numbered_uuids(), ids.numbered_uuids()
    assert {one() for _ in range(1000)}.isdisjoint(other() for _ in range(1000))
