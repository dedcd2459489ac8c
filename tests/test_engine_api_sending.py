"""Sending through the API: what a message may be, what the answer says, and what is sent once."""

from __future__ import annotations

import hashlib

import pytest

from fanfold.engine.service import CallContext
from sqs_api import BY_CONTENT, Api, binary, text

ALLOWED = "#x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]."
INVALID = "InvalidParameterValueException"
MISSING = "MissingRequiredParameterException"
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
TOO_MANY = "Number of message attributes [11] exceeds the allowed maximum [10]."
SHORTER = "One or more parameters cannot be validated. Reason: Message must be shorter than 1024 bytes."
EMPTY = "Message (user) attribute 'a' must contain a non-empty value of type"
OTHER_TYPE = "The request include parameter that is not valid for this queue type."
NO_DEDUPLICATION = (
    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
)


@pytest.fixture
async def api(tmp_path):
    async with Api(tmp_path / "queues.db") as api:
        await api.create("orders")
        await api.create("orders.fifo")
        await api.create("content.fifo", BY_CONTENT)
        yield api


def bad_id(value, parameter):
    reason = f"{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
    return (INVALID, f"Value {value} for parameter {parameter} is invalid. Reason: {reason}")


def entry(number, body="body", **more):
    return {"Id": f"id-{number}", "MessageBody": body, **more}


def of_fifo(number, body="body", **more):
    return entry(number, body, **{"MessageGroupId": "g", "MessageDeduplicationId": f"d{number}", **more})


class TestAnswers:
    async def test_a_send_tells_the_id_and_the_md5_and_so_does_the_receive(self, api):
        sent = await api.send("orders", "message")
        assert sent == {"MessageId": sent["MessageId"], "MD5OfMessageBody": "78e731027d8fd50ed642340b7c9a63b3"}
        [received] = await api.receive("orders")
        assert received == {
            "MessageId": sent["MessageId"],
            "ReceiptHandle": received["ReceiptHandle"],
            "MD5OfBody": "78e731027d8fd50ed642340b7c9a63b3",
            "Body": "message",
        }

    async def test_md5s_of_attributes_are_those_that_amazon_computes(self, api):
        sent = await api.send(
            "orders",
            MessageAttributes={"timestamp": text("1493147359900", "Number")},
            MessageSystemAttributes={"AWSTraceHeader": text(TRACE)},
        )
        assert sent["MD5OfMessageSystemAttributes"] == "5ae4d5d7636402d80f4eb6d213245a88"
        assert sent["MD5OfMessageAttributes"] == "235c5c510d26fb653d073faed50ae77c"
        several = {"Help.Me": text("Me"), "Hello": text("There"), "General": text("Kenobi")}
        assert (await api.send("orders", MessageAttributes=several))["MD5OfMessageAttributes"] == (
            "4c360f3fdafd970e05fae2f149d997f5"
        )
        raw = {"attr1": binary(b"traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01")}
        assert (await api.send("orders", MessageAttributes=raw))["MD5OfMessageAttributes"] == (
            "8cbe4db156db8a94db8b801b7addb984"
        )

    async def test_sequence_numbers_have_20_digits_and_grow(self, api):
        sent = [await api.send("content.fifo", str(n), "g") for n in range(12)]
        numbers = [one["SequenceNumber"] for one in sent]
        assert {len(number) for number in numbers} == {20}
        assert [int(number) for number in numbers] == sorted({int(number) for number in numbers})
        received = await api.receive("content.fifo", AttributeNames=["SequenceNumber"])
        assert [one["Attributes"]["SequenceNumber"] for one in received] == numbers[:10]


class TestBodies:
    @pytest.mark.parametrize("body", ["x", "\t\n\r", "{\r\n", '"&quot;&quot;\r', "\U0001f600", "\ue000\ufffd", "<a>&b"])
    async def test_a_body_comes_as_it_was_sent(self, api, body):
        sent = await api.send("orders", body)
        assert sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()  # noqa: S324 - SQS computes MD5s
        assert await api.bodies("orders") == [body]

    @pytest.mark.parametrize(
        ("body", "shown"), [("\x00", "0"), ("a\x08b", "8"), ("\uffff", "FFFF"), ("\ud800", "D800"), ("\x1b", "1B")]
    )
    async def test_characters_that_xml_cant_carry_are_refused(self, api, body, shown):
        said = f"Invalid binary character '#x{shown}' was found in the message body, the set of allowed characters is"
        assert await api.refused("SendMessage", "orders", MessageBody=body) == (
            "InvalidMessageContents",
            f"{said} {ALLOWED}",
        )

    @pytest.mark.parametrize("request_", [{}, {"MessageBody": ""}])
    async def test_a_body_is_required(self, api, request_):
        told = (MISSING, "The request must contain the parameter MessageBody.")
        assert await api.refused("SendMessage", "orders", **request_) == told

    async def test_a_message_is_at_most_1_mebibyte_with_its_attributes(self, api):
        attributes = {"k": text("x")}
        most = 1_048_576 - len("kStringx")
        assert await api.send("orders", "a" * most, MessageAttributes=attributes)
        told = "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes."
        assert await api.refused(
            "SendMessage", "orders", MessageBody="a" * (most + 1), MessageAttributes=attributes
        ) == (INVALID, told)

    async def test_bytes_are_counted_and_not_characters(self, api):
        await api("SetQueueAttributes", "orders", Attributes={"MaximumMessageSize": "1024"})
        await api.send("orders", "\u00e4" * 512)
        assert await api.refused("SendMessage", "orders", MessageBody="\u00e4" * 512 + "a") == (
            INVALID,
            "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes.",
        )


class TestAttributes:
    @pytest.mark.parametrize(
        "attributes",
        [
            {"attr.1\u00f8\u00df\u00e4": text("Valid")},
            {"a" * 256: text("x")},
            {"a-b_c.d": text("x", "String.custom")},
            {"n": text("1614717034367", "Number"), "m": text("-1.5E+10", "Number.float"), "o": text(".5", "Number")},
            {"big": text("12345678901234567890123456789012345678", "Number")},
            {"b": binary(b"\x00\xff"), "c": binary(b"x", "Binary.gif")},
            {str(n): text("x") for n in range(10)},
        ],
    )
    async def test_they_come_as_they_were_sent(self, api, attributes):
        sent = await api.send("orders", MessageAttributes=attributes)
        [received] = await api.receive("orders", MessageAttributeNames=["All"])
        assert received["MessageAttributes"] == attributes
        assert received["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]

    @pytest.mark.parametrize("name", ["aWs.x", "AMAZON.x", "aws.", "amazon.y.z"])
    async def test_some_names_are_reserved(self, api, name):
        told = (
            "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These strings are reserved for "
            "internal use."
        )
        assert await api.refused("SendMessage", "orders", MessageBody="b", MessageAttributes={name: text("x")}) == (
            INVALID,
            told,
        )

    @pytest.mark.parametrize("name", [".x", "x.", "x..y", "a!", 'a"', "a\u00a7", "a(", "a?", "a b", "\ud800"])
    async def test_names_have_letters_digits_and_a_few_signs(self, api, name):
        shape, told = await api.refused("SendMessage", "orders", MessageBody="b", MessageAttributes={name: text("x")})
        assert shape == INVALID
        assert "Attribute name can contain" in told

    @pytest.mark.parametrize(
        ("attributes", "told"),
        [
            ({"": text("x")}, "The request must contain non-empty message (user) attribute names."),
            ({"L" * 257: text("x")}, "Message (user) attribute name must be shorter than 256 bytes."),
            (
                dict.fromkeys("abcdefghijk", text("x")),
                "Number of message attributes [11] exceeds the allowed maximum [10].",
            ),
            ({"a": text("")}, f"{EMPTY} 'String'."),
            ({"a": {"DataType": "Number"}}, f"{EMPTY} 'String'."),
            ({"a": binary(b"")}, f"{EMPTY} 'Binary'."),
            ({"a": text("x", "Binary")}, f"{EMPTY} 'Binary'."),
            ({"a": text("world", "Number")}, "Can't cast the value of message (user) attribute 'a' to a number."),
            ({"a": text("1" * 39, "Number")}, "Can't cast the value of message (user) attribute 'a' to a number."),
            ({"a": text("1.1e126", "Number")}, "Can't cast the value of message (user) attribute 'a' to a number."),
            ({"a": text("-9e-129", "Number")}, "Can't cast the value of message (user) attribute 'a' to a number."),
            ({"a": {"StringValue": "x"}}, "The message attribute 'a' must contain non-empty message attribute type."),
            ({"a": text("x", "Number." + "L" * 250)}, "Message (user) attribute type must be shorter than 256 bytes."),
        ],
    )
    async def test_what_breaks_a_rule_is_named(self, api, attributes, told):
        assert await api.refused("SendMessage", "orders", MessageBody="b", MessageAttributes=attributes) == (
            INVALID,
            told,
        )

    @pytest.mark.parametrize("kind", ["Invalid", "string", "Strings", "StringList", "Number!x", "Binary.\ud800"])
    async def test_types_are_string_number_and_binary_with_a_suffix(self, api, kind):
        shape, told = await api.refused(
            "SendMessage", "orders", MessageBody="b", MessageAttributes={"a": {**text("1", kind)}}
        )
        assert (shape, "supported type prefixes: Binary, Number, String." in told) == (INVALID, True)

    @pytest.mark.parametrize("lists", [{"StringListValues": ["x"]}, {"BinaryListValues": [b"x"]}])
    async def test_lists_are_not_supported(self, api, lists):
        attributes = {"a": {"DataType": "String", **lists}}
        assert await api.refused("SendMessage", "orders", MessageBody="b", MessageAttributes=attributes) == (
            INVALID,
            "Message attribute list values in SendMessage operation are not supported.",
        )

    async def test_their_values_have_the_characters_of_a_body(self, api):
        attributes = {"a": text("Invalid-\x08,\x0b")}
        shape, told = await api.refused("SendMessage", "orders", MessageBody="b", MessageAttributes=attributes)
        assert (shape, "'#x8' was found" in told) == (INVALID, True)

    @pytest.mark.parametrize(
        ("system", "told"),
        [
            ({"Hello": text("x")}, "Message system attribute name 'Hello' is invalid."),
            (
                {"AWSTraceHeader": text("1", "Number")},
                "The type of message system attribute 'AWSTraceHeader' is invalid. It must be String.",
            ),
            (
                {"AWSTraceHeader": text("")},
                "Message (user) attribute 'AWSTraceHeader' must contain a non-empty value of type 'String'.",
            ),
        ],
    )
    async def test_the_trace_header_is_the_only_system_attribute(self, api, system, told):
        assert await api.refused("SendMessage", "orders", MessageBody="b", MessageSystemAttributes=system) == (
            INVALID,
            told,
        )


class TestTraces:
    async def trace(self, api):
        [received] = await api.receive("orders", AttributeNames=["AWSTraceHeader"])
        return received.get("Attributes")

    async def test_a_trace_is_told_on_receive(self, api):
        await api.send("orders", MessageSystemAttributes={"AWSTraceHeader": text(TRACE)})
        assert await self.trace(api) == {"AWSTraceHeader": TRACE}

    async def test_a_requests_own_header_is_one(self, api):
        context = CallContext("http://sqs.test", "Root=1")
        sent = await api.engine.call("SendMessage", {"QueueUrl": "orders", "MessageBody": "b"}, context)
        assert "MD5OfMessageSystemAttributes" not in sent
        assert await self.trace(api) == {"AWSTraceHeader": "Root=1"}

    async def test_what_a_message_says_itself_comes_first(self, api):
        request = {"QueueUrl": "orders", "MessageBody": "b"}
        request["MessageSystemAttributes"] = {"AWSTraceHeader": text("own")}
        await api.engine.call("SendMessage", request, CallContext("http://sqs.test", "Root=1"))
        assert await self.trace(api) == {"AWSTraceHeader": "own"}

    async def test_a_header_that_cant_be_told_is_dropped(self, api):
        context = CallContext("http://sqs.test", "\x00")
        await api.engine.call("SendMessage", {"QueueUrl": "orders", "MessageBody": "b"}, context)
        assert await self.trace(api) is None


class TestFifoParameters:
    async def test_a_group_is_required(self, api):
        told = (MISSING, "The request must contain the parameter MessageGroupId.")
        assert await api.refused("SendMessage", "orders.fifo", MessageBody="b", MessageDeduplicationId="d") == told

    async def test_a_deduplication_id_is_required_or_the_contents(self, api):
        assert await api.refused("SendMessage", "orders.fifo", MessageBody="b", MessageGroupId="g") == (
            INVALID,
            NO_DEDUPLICATION,
        )
        assert await api.send("content.fifo", "b", "g")

    @pytest.mark.parametrize("value", ["", "a" * 129, "a b", "\u00e4", "\x08", "\ud800"])
    @pytest.mark.parametrize("parameter", ["MessageGroupId", "MessageDeduplicationId"])
    async def test_ids_have_1_to_128_letters_digits_and_punctuation(self, api, parameter, value):
        ids = {"MessageGroupId": "g", "MessageDeduplicationId": "d", parameter: value}
        shown = "\\ud800" if value == "\ud800" else value
        assert await api.refused("SendMessage", "orders.fifo", MessageBody="b", **ids) == bad_id(shown, parameter)

    async def test_ids_may_be_as_long_as_they_can_be_and_have_all_punctuation(self, api):
        everything = "".join(chr(code) for code in range(0x21, 0x7F))
        await api.send("orders.fifo", "b", everything, "a" * 128)
        [received] = await api.receive("orders.fifo", AttributeNames=["MessageGroupId", "MessageDeduplicationId"])
        assert received["Attributes"] == {"MessageGroupId": everything, "MessageDeduplicationId": "a" * 128}

    async def test_a_delay_of_its_own_is_refused(self, api):
        ids = {"MessageGroupId": "g", "MessageDeduplicationId": "d"}
        assert await api.refused("SendMessage", "orders.fifo", MessageBody="b", DelaySeconds=2, **ids) == (
            INVALID,
            f"Value 2 for parameter DelaySeconds is invalid. Reason: {OTHER_TYPE}",
        )
        await api("SetQueueAttributes", "orders.fifo", Attributes={"DelaySeconds": "5"})
        await api.send("orders.fifo", "b", "g", "d", DelaySeconds=0)
        assert await api.counts("orders.fifo") == (0, 0, 1)


class TestStandardParameters:
    async def test_a_deduplication_id_is_refused(self, api):
        assert await api.refused("SendMessage", "orders", MessageBody="b", MessageDeduplicationId="d") == (
            INVALID,
            f"Value d for parameter MessageDeduplicationId is invalid. Reason: {OTHER_TYPE}",
        )

    async def test_a_group_is_kept_and_locks_nothing(self, api):
        for body in "ab":
            await api.send("orders", body, "tenant")
        assert await api.bodies("orders", 1) == ["a"]
        [second] = await api.receive("orders", 1, AttributeNames=["All"])
        assert (second["Body"], second["Attributes"]["MessageGroupId"]) == ("b", "tenant")
        assert await api.refused("SendMessage", "orders", MessageBody="b", MessageGroupId="a b") == bad_id(
            "a b", "MessageGroupId"
        )

    @pytest.mark.parametrize("delay", [-1, 901])
    async def test_a_delay_is_15_minutes_at_most(self, api, delay):
        assert await api.refused("SendMessage", "orders", MessageBody="b", DelaySeconds=delay) == (
            INVALID,
            f"Value {delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900.",
        )

    async def test_a_delay_of_its_own_goes_before_the_queues(self, api):
        await api("SetQueueAttributes", "orders", Attributes={"DelaySeconds": "10"})
        await api.send("orders", "as the queue")
        await api.send("orders", "at once", DelaySeconds=0)
        await api.send("orders", "later", DelaySeconds=20)
        assert await api.bodies("orders") == ["at once"]
        api.clock.advance(10)
        assert await api.bodies("orders") == ["as the queue"]
        api.clock.advance(10)
        assert await api.bodies("orders") == ["later"]

    async def test_nothing_is_sent_only_once(self, api):
        first, second = [await api.send("orders", "same") for _ in range(2)]
        assert first["MessageId"] != second["MessageId"]
        assert "SequenceNumber" not in first
        assert await api.bodies("orders") == ["same", "same"]


class TestDeduplication:
    async def test_a_duplicate_is_answered_as_the_first_and_not_delivered(self, api):
        first = await api.send("orders.fifo", "a", "g", "same")
        second = await api.send("orders.fifo", "b", "h", "same")
        assert (second["MessageId"], second["SequenceNumber"]) == (first["MessageId"], first["SequenceNumber"])
        assert await api.bodies("orders.fifo") == ["a"]

    async def test_contents_are_bodies_and_not_attributes(self, api):
        await api.send("content.fifo", "same", "g", MessageAttributes={"a": text("1")})
        await api.send("content.fifo", "same", "h", MessageAttributes={"a": text("2")})
        await api.send("content.fifo", "other", "g")
        received = await api.receive("content.fifo", AttributeNames=["MessageDeduplicationId"])
        assert [one["Attributes"]["MessageDeduplicationId"] for one in received] == [
            hashlib.sha256(body).hexdigest() for body in (b"same", b"other")
        ]

    async def test_an_id_of_its_own_goes_before_the_contents(self, api):
        await api.send("content.fifo", "same", "g", "one")
        await api.send("content.fifo", "same", "g", "two")
        assert await api.bodies("content.fifo") == ["same", "same"]

    async def test_it_ends_after_five_minutes_whatever_became_of_the_message(self, api):
        await api.send("content.fifo", "same", "g")
        await api.delete("content.fifo", *await api.receive("content.fifo"))
        api.clock.advance(299.999)
        await api.send("content.fifo", "same", "g")
        assert await api.receive("content.fifo") == []
        api.clock.advance(0.001)
        await api.send("content.fifo", "same", "g")
        assert await api.bodies("content.fifo") == ["same"]

    @pytest.mark.parametrize("more", [{}, {"FifoThroughputLimit": "perMessageGroupId"}])
    async def test_its_scope_can_be_the_group(self, api, more):
        await api.create("scoped.fifo", {"DeduplicationScope": "messageGroup", **more})
        for group in ("g", "h", "g"):
            await api.send("scoped.fifo", group, group, "same")
        assert await api.bodies("scoped.fifo") == ["g", "h"]

    @pytest.mark.parametrize(("scope", "then", "sent"), [("queue", "messageGroup", 1), ("messageGroup", "queue", 2)])
    async def test_the_scope_at_creation_stays_in_force(self, api, scope, then, sent):
        await api.create("scoped.fifo", {"DeduplicationScope": scope})
        await api("SetQueueAttributes", "scoped.fifo", Attributes={"DeduplicationScope": then})
        assert await api.attributes("scoped.fifo", "DeduplicationScope") == {"DeduplicationScope": then}
        for group in ("g", "h"):
            await api.send("scoped.fifo", group, group, "same")
        assert len(await api.bodies("scoped.fifo")) == sent

    async def test_turning_the_contents_off_asks_for_ids_again(self, api):
        await api("SetQueueAttributes", "content.fifo", Attributes={"ContentBasedDeduplication": "false"})
        assert (await api.refused("SendMessage", "content.fifo", MessageBody="b", MessageGroupId="g"))[1] == (
            NO_DEDUPLICATION
        )


class TestBatches:
    async def test_each_entry_has_its_answer(self, api):
        attributes = {"k": text("x")}
        answer = await api(
            "SendMessageBatch", "orders", Entries=[entry(1, "a"), entry(2, "b", MessageAttributes=attributes)]
        )
        assert [one["Id"] for one in answer["Successful"]] == ["id-1", "id-2"]
        assert answer["Successful"][1]["MD5OfMessageAttributes"] == "a45daa70926828a2f0a1db3418e6feb4"
        assert "Failed" not in answer
        assert await api.bodies("orders") == ["a", "b"]

    async def test_a_standard_queue_refuses_bad_entries_alone(self, api):
        entries = [entry(n, str(n)) for n in range(7)]
        entries[1]["MessageBody"] = "\x01"
        entries[2] |= {"DelaySeconds": 901}
        entries[3]["MessageBody"] = ""
        entries[4] |= {"MessageAttributes": {"a": text("")}}
        entries[5] |= {"MessageDeduplicationId": "d"}
        answer = await api("SendMessageBatch", "orders", Entries=entries)
        assert [one["Id"] for one in answer["Successful"]] == ["id-0", "id-6"]
        assert [(one["Id"], one["Code"], one["SenderFault"]) for one in answer["Failed"]] == [
            ("id-1", "InvalidMessageContents", True),
            ("id-2", "InvalidParameterValue", True),
            ("id-3", "EmptyValue", True),
            ("id-4", "InvalidParameterValue", True),
            ("id-5", "InvalidParameterValue", True),
        ]
        assert answer["Failed"][2]["Message"] == (
            "The request must contain the parameter SendMessageBatchRequestEntry.4.MessageBody."
        )
        assert await api.bodies("orders") == ["0", "6"]

    async def test_the_queues_own_size_is_each_entrys(self, api):
        await api("SetQueueAttributes", "orders", Attributes={"MaximumMessageSize": "1024"})
        answer = await api("SendMessageBatch", "orders", Entries=[entry(1, "a" * 1024), entry(2, "a" * 1025)])
        assert [one["Id"] for one in answer["Successful"]] == ["id-1"]
        assert answer["Failed"] == [
            {
                "Id": "id-2",
                "SenderFault": True,
                "Code": "InvalidParameterValue",
                "Message": SHORTER,
            }
        ]

    async def test_a_fifo_queue_numbers_and_deduplicates_them(self, api):
        entries = [of_fifo(1, "a"), of_fifo(2, "b"), of_fifo(3, "c", MessageDeduplicationId="d1")]
        answer = await api("SendMessageBatch", "orders.fifo", Entries=entries)
        numbers = [int(one["SequenceNumber"]) for one in answer["Successful"]]
        assert numbers[0] < numbers[1]
        assert numbers[2] == numbers[0]
        assert await api.bodies("orders.fifo") == ["a", "b"]

    @pytest.mark.parametrize(
        ("bad", "refusal"),
        [
            ({"MessageGroupId": None}, (INVALID, "The request must contain the parameter MessageGroupId.")),
            ({"MessageDeduplicationId": None}, (INVALID, NO_DEDUPLICATION)),
            ({"MessageGroupId": ""}, bad_id("", "MessageGroupId")),
            (
                {"DelaySeconds": 3},
                (INVALID, f"Value 3 for parameter DelaySeconds is invalid. Reason: {OTHER_TYPE}"),
            ),
            (
                {"MessageBody": None},
                (MISSING, "The request must contain the parameter SendMessageBatchRequestEntry.2.MessageBody."),
            ),
        ],
    )
    async def test_a_fifo_queue_refuses_the_whole_for_one_bad_entry(self, api, bad, refusal):
        entries = [of_fifo(1), of_fifo(2, **bad) if "MessageBody" not in bad else {**of_fifo(2), **bad}]
        assert await api.refused("SendMessageBatch", "orders.fifo", Entries=entries) == refusal
        assert await api.counts("orders.fifo") == (0, 0, 0)

    async def test_a_batch_is_at_most_1_mebibyte(self, api):
        attributes = {"k": text("x")}
        entries = [entry(1, "a" * 524_288), entry(2, "a" * (524_288 - len("kStringx")), MessageAttributes=attributes)]
        assert len((await api("SendMessageBatch", "orders", Entries=entries))["Successful"]) == 2
        entries[0]["MessageBody"] += "a"
        assert await api.refused("SendMessageBatch", "orders", Entries=entries) == (
            "BatchRequestTooLong",
            "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.",
        )

    async def test_its_size_is_told_whatever_else_is_wrong(self, api):
        wild = {"a": {"BinaryValue": b"x" * 100}, "\ud800": {}}
        entries = [entry(1, "\ud800" * 400_000, MessageAttributes=wild)]
        assert (await api.refused("SendMessageBatch", "orders", Entries=entries))[0] == "BatchRequestTooLong"
