"""What the three batch actions refuse as a whole."""

from __future__ import annotations

import pytest

from sqs_api import Api

KINDS = {
    "SendMessageBatch": ("SendMessageBatchRequestEntry", {"MessageBody": "b"}),
    "DeleteMessageBatch": ("DeleteMessageBatchRequestEntry", {"ReceiptHandle": "x"}),
    "ChangeMessageVisibilityBatch": (
        "ChangeMessageVisibilityBatchRequestEntry",
        {"ReceiptHandle": "x", "VisibilityTimeout": 1},
    ),
}
BAD_ID = (
    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters "
    "long."
)


@pytest.fixture
async def api(tmp_path):
    async with Api(tmp_path / "queues.db") as api:
        await api.create("orders")
        yield api


@pytest.fixture(params=KINDS)
def action(request):
    return request.param


def entries(action, *ids):
    return [{"Id": entry_id, **KINDS[action][1]} for entry_id in ids]


@pytest.mark.parametrize("request_", [{}, {"Entries": []}])
async def test_there_must_be_an_entry(api, action, request_):
    told = f"There should be at least one {KINDS[action][0]} in the request."
    assert await api.refused(action, "orders", **request_) == ("EmptyBatchRequest", told)


async def test_there_are_ten_at_most(api, action):
    eleven = entries(action, *map(str, range(11)))
    assert await api.refused(action, "orders", Entries=eleven) == (
        "TooManyEntriesInBatchRequest",
        "Maximum number of entries per request are 10. You have sent 11.",
    )
    answer = await api(action, "orders", Entries=eleven[:10])
    assert len(answer.get("Successful", []) + answer.get("Failed", [])) == 10


@pytest.mark.parametrize("entry_id", ["", "i" * 81, "a:b", "a b", "\u00e4", "\ud800", "x\n"])
async def test_an_id_has_1_to_80_letters_digits_hyphens_underscores(api, action, entry_id):
    assert await api.refused(action, "orders", Entries=entries(action, "ok", entry_id)) == (
        "InvalidBatchEntryId",
        BAD_ID,
    )


async def test_an_id_may_be_as_long_as_it_can_be(api, action):
    answer = await api(action, "orders", Entries=entries(action, "Aa0_-" + "x" * 75))
    assert len(answer) == 1


async def test_ids_are_distinct_and_the_first_repeated_is_named(api, action):
    assert await api.refused(action, "orders", Entries=entries(action, "1", "2", "2", "1")) == (
        "BatchEntryIdsNotDistinct",
        "Id 2 repeated.",
    )


async def test_an_id_is_required(api, action):
    given = entries(action, "1", None)
    assert await api.refused(action, "orders", Entries=given) == (
        "MissingRequiredParameterException",
        f"The request must contain the parameter {KINDS[action][0]}.2.Id.",
    )


async def test_a_queue_that_isnt_there_says_so(api, action):
    refusal = await api.refused(action, "nowhere", Entries=entries(action, "1"))
    assert refusal == ("QueueDoesNotExist", "The specified queue does not exist.")
