"""What queues say of themselves through the API: attributes, policies, permissions, tags."""

from __future__ import annotations

import json

import pytest

from sqs_api import ARN, Api, redrive

DEFAULTS = {
    "ApproximateNumberOfMessages": "0",
    "ApproximateNumberOfMessagesDelayed": "0",
    "ApproximateNumberOfMessagesNotVisible": "0",
    "CreatedTimestamp": "1800000000",
    "DelaySeconds": "0",
    "LastModifiedTimestamp": "1800000000",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "QueueArn": f"{ARN}orders",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "30",
}
OF_FIFO = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}
BAD_ALLOW = (
    "Invalid value for the parameter RedriveAllowPolicy. Reason: Amazon SQS can't create the redrive allow policy, as "
    "it\N{RIGHT SINGLE QUOTATION MARK}s in an unsupported format."
)
SSE = "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE."
BY_QUEUE = "When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values."
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*"}]})


@pytest.fixture
async def api(tmp_path):
    async with Api(tmp_path / "queues.db") as api:
        await api.create("orders")
        await api.create("orders.fifo")
        yield api


def set_attributes(api, queue, **attributes):
    return api("SetQueueAttributes", queue, Attributes=attributes)


def refused(api, queue, **attributes):
    return api.refused("SetQueueAttributes", queue, Attributes=attributes)


class TestTelling:
    async def test_a_standard_queue_tells_its_defaults(self, api):
        assert await api.attributes("orders") == DEFAULTS

    async def test_a_fifo_queue_tells_more(self, api):
        assert await api.attributes("orders.fifo") == {**DEFAULTS, **OF_FIFO, "QueueArn": f"{ARN}orders.fifo"}

    async def test_only_what_is_asked_for_is_told(self, api):
        assert await api.attributes("orders", "QueueArn", "VisibilityTimeout", "Policy") == {
            "QueueArn": f"{ARN}orders",
            "VisibilityTimeout": "30",
        }

    async def test_where_nothing_is_asked_for_nothing_is_told(self, api):
        assert await api("GetQueueAttributes", "orders") == {}
        assert await api("GetQueueAttributes", "orders", AttributeNames=["Policy"]) == {}

    @pytest.mark.parametrize("name", ["Foobar", "", "visibilitytimeout"])
    async def test_an_attribute_that_nobody_knows_is_refused(self, api, name):
        assert await api.refused("GetQueueAttributes", "orders", AttributeNames=["QueueArn", name]) == (
            "InvalidAttributeName",
            f"Unknown Attribute {name}.",
        )

    async def test_a_change_moves_its_own_timestamp(self, api):
        api.clock.advance(10)
        await set_attributes(api, "orders", DelaySeconds="1")
        told = await api.attributes("orders", "CreatedTimestamp", "LastModifiedTimestamp")
        assert told == {"CreatedTimestamp": "1800000000", "LastModifiedTimestamp": "1800000010"}


class TestSetting:
    async def test_what_is_set_is_told_and_the_rest_stays(self, api):
        await set_attributes(api, "orders", VisibilityTimeout="69", DelaySeconds="420")
        await set_attributes(api, "orders", MaximumMessageSize="2048", DelaySeconds="421")
        told = await api.attributes("orders", "VisibilityTimeout", "DelaySeconds", "MaximumMessageSize")
        assert told == {"VisibilityTimeout": "69", "DelaySeconds": "421", "MaximumMessageSize": "2048"}

    @pytest.mark.parametrize(
        ("name", "least", "most"),
        [
            ("VisibilityTimeout", 0, 43_200),
            ("DelaySeconds", 0, 900),
            ("MaximumMessageSize", 1_024, 1_048_576),
            ("MessageRetentionPeriod", 60, 1_209_600),
            ("ReceiveMessageWaitTimeSeconds", 0, 20),
            ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
        ],
    )
    async def test_numbers_have_bounds(self, api, name, least, most):
        for value in (least, most):
            await set_attributes(api, "orders", **{name: str(value)})
        for value in (least - 1, most + 1, "", " 60", "60.5", "1e2", "true", "\u0666\u0660", "9" * 5000):
            assert await refused(api, "orders", **{name: str(value)}) == (
                "InvalidAttributeValue",
                f"Invalid value for the parameter {name}.",
            )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ContentBasedDeduplication", "yes"),
            ("DeduplicationScope", "everywhere"),
            ("DeduplicationScope", ""),
            ("FifoThroughputLimit", "none"),
            ("SqsManagedSseEnabled", "1"),
            ("Policy", "badjson"),
            ("Policy", "[]"),
            ("Policy", "4"),
            ("Policy", "{}"),
            ("Policy", '{"Statement": [], "Version": "2012-10-17"}'),
            ("Policy", '{"Statement": ["x"]}'),
            ("Policy", POLICY.replace('"Version"', '"Other"')),
            ("Policy", POLICY.replace("2012-10-17", "2012-10-18")),
            ("Policy", POLICY.replace('"Version": "2012-10-17"', '"Id": "\ud800"')),
            ("Policy", POLICY.replace("Allow", "Maybe")),
            ("Policy", POLICY.replace('"Principal": "*", ', "")),
            ("Policy", POLICY.replace(', "Action": "*"', "")),
            ("Policy", "[" * 100_000),
            ("KmsMasterKeyId", "\ud800"),
        ],
    )
    async def test_other_values_have_their_forms(self, api, name, value):
        assert await refused(api, "orders.fifo", **{name: value}) == (
            "InvalidAttributeValue",
            f"Invalid value for the parameter {name}.",
        )

    async def test_something_has_to_be_set(self, api):
        assert await api.refused("SetQueueAttributes", "orders", Attributes={}) == (
            "MissingRequiredParameterException",
            "The request must contain the parameter Attribute.Name.",
        )

    @pytest.mark.parametrize("name", ["QueueArn", "ApproximateNumberOfMessages", "CreatedTimestamp", "Colour", "All"])
    async def test_what_is_computed_or_unknown_cant_be_set(self, api, name):
        assert await refused(api, "orders", **{name: "1"}) == ("InvalidAttributeName", f"Unknown Attribute {name}.")

    async def test_one_bad_value_leaves_the_others_unset(self, api):
        await refused(api, "orders", DelaySeconds="5", VisibilityTimeout="-1")
        assert await api.attributes("orders") == DEFAULTS

    async def test_what_is_empty_can_be_removed(self, api):
        given = {"Policy": POLICY, "RedrivePolicy": redrive("orders"), "KmsMasterKeyId": "key"}
        given["RedriveAllowPolicy"] = '{"redrivePermission":"allowAll"}'
        await set_attributes(api, "orders", **given)
        assert (await api.attributes("orders", *given)).keys() == given.keys()
        await set_attributes(api, "orders", **dict.fromkeys(given, ""))
        assert await api.attributes("orders", *given) == {}


class TestFifoAttributes:
    @pytest.mark.parametrize("name", ["FifoQueue", "ContentBasedDeduplication"])
    @pytest.mark.parametrize("value", ["true", "false"])
    async def test_a_standard_queue_doesnt_know_them(self, api, name, value):
        unknown = ("InvalidAttributeName", f"Unknown Attribute {name}.")
        assert await refused(api, "orders", **{name: value}) == unknown
        if (name, value) != ("FifoQueue", "true"):
            assert await api.refused("CreateQueue", QueueName="new", Attributes={name: value}) == unknown

    @pytest.mark.parametrize(("name", "value"), [("DeduplicationScope", "queue"), ("FifoThroughputLimit", "perQueue")])
    async def test_a_standard_queue_is_told_where_they_belong(self, api, name, value):
        told = ("InvalidAttributeName", f"You can specify the {name} only when FifoQueue is set to true.")
        assert await refused(api, "orders", **{name: value}) == told
        assert await api.refused("CreateQueue", QueueName="new", Attributes={name: value}) == told

    async def test_a_fifo_queue_stays_one(self, api):
        await set_attributes(api, "orders.fifo", FifoQueue="True")
        assert await refused(api, "orders.fifo", FifoQueue="false") == (
            "InvalidAttributeValue",
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
        )

    async def test_high_throughput_needs_the_scope_of_a_group(self, api):
        told = "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup"
        assert await refused(api, "orders.fifo", FifoThroughputLimit="perMessageGroupId") == (
            "InvalidAttributeValue",
            told,
        )
        high = {"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"}
        await set_attributes(api, "orders.fifo", **high)
        assert (await api.attributes("orders.fifo", *high)) == high
        assert (await refused(api, "orders.fifo", DeduplicationScope="queue"))[1] == told
        await set_attributes(api, "orders.fifo", DeduplicationScope="queue", FifoThroughputLimit="perQueue")


class TestEncryption:
    async def test_a_kms_key_takes_the_place_of_the_managed_one(self, api):
        await set_attributes(api, "orders", KmsMasterKeyId="key")
        kms = ("KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled")
        assert await api.attributes("orders", *kms) == {
            "KmsMasterKeyId": "key",
            "KmsDataKeyReusePeriodSeconds": "300",
            "SqsManagedSseEnabled": "false",
        }
        await set_attributes(api, "orders", SqsManagedSseEnabled="true")
        assert await api.attributes("orders", *kms) == {"SqsManagedSseEnabled": "true"}

    async def test_both_at_once_are_refused(self, api):
        assert await refused(api, "orders", KmsMasterKeyId="key", SqsManagedSseEnabled="true") == (
            "InvalidAttributeName",
            SSE,
        )


class TestRedrivePolicies:
    async def test_one_is_told_in_its_canonical_form(self, api):
        given = json.dumps({"maxReceiveCount": "7", "deadLetterTargetArn": f"{ARN}dead"})
        await api.create("dead")
        await set_attributes(api, "orders", RedrivePolicy=given)
        assert await api.attributes("orders", "RedrivePolicy") == {
            "RedrivePolicy": f'{{"deadLetterTargetArn":"{ARN}dead","maxReceiveCount":7}}'
        }

    @pytest.mark.parametrize("policy", [" ", "4", "[]", "null", '"x"', "{", "[" * 100_000])
    async def test_one_is_a_json_map(self, api, policy):
        assert await refused(api, "orders", RedrivePolicy=policy) == (
            "InvalidAttributeValue",
            "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is not a valid JSON map.",
        )

    @pytest.mark.parametrize(
        ("policy", "reason"),
        [
            ({}, "Redrive policy does not contain mandatory attribute: maxReceiveCount."),
            ({"maxReceiveCount": 5}, "Redrive policy does not contain mandatory attribute: deadLetterTargetArn."),
            (
                {"deadLetterTargetArn": f"{ARN}orders", "maxReceiveCount": 5, "more": 1},
                "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn].",
            ),
            *(
                (
                    {"deadLetterTargetArn": f"{ARN}orders", "maxReceiveCount": count},
                    f"Invalid value for maxReceiveCount: {count}, valid values are from 1 to 1000 both inclusive.",
                )
                for count in (0, -36, 1001, "x", 1.5)
            ),
            (
                {"deadLetterTargetArn": "arn:aws:sns:us-east-1:1:topic", "maxReceiveCount": 5},
                "Only SQS queues are valid resources for deadLetterTargetArn.",
            ),
            (
                {"deadLetterTargetArn": "dummy", "maxReceiveCount": 5},
                "Only SQS queues are valid resources for deadLetterTargetArn.",
            ),
            (
                {"deadLetterTargetArn": f"{ARN}orders.fifo", "maxReceiveCount": 5},
                "Dead-letter queue must be same type of queue as the source..",
            ),
            ({"deadLetterTargetArn": f"{ARN}nowhere", "maxReceiveCount": 5}, "Dead letter target does not exist."),
            ({"deadLetterTargetArn": f"{ARN}\ud800", "maxReceiveCount": 5}, "Dead letter target does not exist."),
        ],
    )
    async def test_one_leads_to_a_queue_of_the_same_type(self, api, policy, reason):
        text = json.dumps(policy)
        told = (
            "InvalidParameterValueException",
            f"Value {text} for parameter RedrivePolicy is invalid. Reason: {reason}",
        )
        assert await refused(api, "orders", RedrivePolicy=text) == told
        assert await api.refused("CreateQueue", QueueName="new", Attributes={"RedrivePolicy": text}) == told

    async def test_a_queue_may_be_its_own_dead_letter_queue_and_keeps_its_messages(self, api):
        await set_attributes(api, "orders", RedrivePolicy=redrive("orders"))
        await api.send("orders")
        for _ in range(3):
            assert await api.bodies("orders", VisibilityTimeout=0) == ["body"]


class TestRedriveAllowPolicies:
    @pytest.mark.parametrize(
        "policy",
        [
            "444",
            "false",
            "badjson",
            "[]",
            "{}",
            '{"redrivePermission":"dummy"}',
            '{"redrivePermission":"allowAll","dummy":"value"}',
            '{"redrivePermission":"byQueue","sourceQueueArns":"arn:aws:sqs"}',
            '{"redrivePermission":"byQueue","sourceQueueArns":[{}]}',
        ],
    )
    async def test_one_has_its_form(self, api, policy):
        assert await refused(api, "orders", RedriveAllowPolicy=policy) == ("InvalidAttributeValue", BAD_ALLOW)

    @pytest.mark.parametrize(
        ("permission", "sources", "reason"),
        [
            ("byQueue", [], BY_QUEUE),
            ("byQueue", range(11), "The maximum number of source queue ARNs you can specify is 10."),
            ("denyAll", [1], "To specify one or more source queue ARNs, you must set redrivePermission to byQueue."),
        ],
    )
    async def test_one_agrees_with_itself(self, api, permission, sources, reason):
        text = json.dumps({"redrivePermission": permission, "sourceQueueArns": [f"{ARN}x{n}" for n in sources]})
        said = f"Value {text} for parameter RedriveAllowPolicy is invalid. Reason:"
        assert await refused(api, "orders", RedriveAllowPolicy=text) == (
            "InvalidParameterValueException",
            f"{said} Amazon SQS can't create the redrive allow policy. {reason}",
        )

    @pytest.mark.parametrize(
        ("policy", "allowed"),
        [
            ({"redrivePermission": "allowAll"}, True),
            ({"redrivePermission": "denyAll"}, False),
            ({"redrivePermission": "byQueue", "sourceQueueArns": [f"{ARN}other", f"{ARN}orders"]}, True),
            ({"redrivePermission": "byQueue", "sourceQueueArns": [f"{ARN}other"]}, False),
        ],
    )
    async def test_it_says_whose_dead_letter_queue_it_is(self, api, policy, allowed):
        await api.create("dead", {"RedriveAllowPolicy": json.dumps(policy)})
        assert await api.attributes("dead", "RedriveAllowPolicy") == {"RedriveAllowPolicy": json.dumps(policy)}
        if allowed:
            await set_attributes(api, "orders", RedrivePolicy=redrive("dead"))
        else:
            assert (await refused(api, "orders", RedrivePolicy=redrive("dead")))[0] == "InvalidParameterValueException"


def permission(label, account, actions):
    return {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": actions,
        "Resource": f"{ARN}orders",
    }


class TestPermissions:
    @pytest.fixture
    def add(self, api):
        def add(label="one", accounts=("111111111111",), actions=("ReceiveMessage",)):
            return api("AddPermission", "orders", Label=label, AWSAccountIds=list(accounts), Actions=list(actions))

        return add

    async def policy(self, api):
        told = await api.attributes("orders", "Policy")
        return json.loads(told["Policy"]) if told else None

    async def test_they_are_statements_of_the_policy(self, api, add):
        assert await add() == {}
        await add("two", ("222222222222",), ("SendMessage", "PurgeQueue"))
        assert await self.policy(api) == {
            "Version": "2008-10-17",
            "Id": f"{ARN}orders/SQSDefaultPolicy",
            "Statement": [
                permission("one", "111111111111", "SQS:ReceiveMessage"),
                permission("two", "222222222222", ["SQS:SendMessage", "SQS:PurgeQueue"]),
            ],
        }
        assert await api("RemovePermission", "orders", Label="one") == {}
        assert [one["Sid"] for one in (await self.policy(api))["Statement"]] == ["two"]
        await api("RemovePermission", "orders", Label="two")
        assert await self.policy(api) is None

    async def test_several_accounts_share_a_statement(self, api, add):
        await add(accounts=("111111111111", "222222222222"))
        assert (await self.policy(api))["Statement"][0]["Principal"] == {
            "AWS": ["arn:aws:iam::111111111111:root", "arn:aws:iam::222222222222:root"]
        }

    async def test_one_joins_a_policy_that_was_set(self, api, add):
        own = {"Sid": "own", "Effect": "Deny", "NotPrincipal": {"AWS": "*"}, "NotAction": "sqs:SendMessage"}
        await set_attributes(api, "orders", Policy=json.dumps({"Statement": own, "Version": "2012-10-17"}))
        await add()
        policy = await self.policy(api)
        assert [one["Sid"] for one in policy["Statement"]] == ["own", "one"]
        assert policy["Version"] == "2012-10-17"

    async def test_the_same_again_changes_nothing(self, api, add):
        await add()
        await add()
        assert len((await self.policy(api))["Statement"]) == 1

    @pytest.mark.parametrize(
        ("asked", "refusal"),
        [
            ({"Label": "one"}, "Value one for parameter Label is invalid. Reason: {taken}"),
            ({"Label": "t o"}, "Value t o for parameter Label is invalid. Reason: {name}"),
            ({"Actions": ["SendMessageBatch"]}, "Value SQS:SendMessageBatch {action} {wsdl}"),
            ({"Actions": ["RemovePermission"]}, "Value SQS:RemovePermission {action} {owner}"),
            ({"AWSAccountIds": []}, "Value [] for parameter PrincipalId is invalid. Reason: Unable to verify."),
            ({"AWSAccountIds": ["1"]}, "Value [1] for parameter PrincipalId is invalid. Reason: Unable to verify."),
        ],
    )
    async def test_what_cant_be_meant_is_refused(self, api, add, asked, refusal):
        await add()
        request = {"Label": "two", "AWSAccountIds": ["222222222222"], "Actions": ["SendMessage"], **asked}
        told = refusal.format(
            taken="Already exists.",
            name="Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            action="for parameter ActionName is invalid. Reason:",
            wsdl="Please refer to the appropriate WSDL for a list of valid actions.",
            owner="Only the queue owner is allowed to invoke this action.",
        )
        assert await api.refused("AddPermission", "orders", **request) == ("InvalidParameterValueException", told)

    async def test_quotas(self, api, add):
        actions = ["SendMessage", "ReceiveMessage", "DeleteMessage", "PurgeQueue", "GetQueueUrl", "*"]
        actions += ["ChangeMessageVisibility", "GetQueueAttributes"]
        request = {"Label": "x", "AWSAccountIds": ["111111111111"], "Actions": actions}
        assert await api.refused("AddPermission", "orders", **request) == (
            "OverLimit",
            "8 Actions were found, maximum allowed is 7.",
        )
        for number in range(20):
            await add(f"label{number}")
        request["Actions"] = ["SendMessage"]
        assert await api.refused("AddPermission", "orders", **request) == (
            "OverLimit",
            "21 Statements were found, maximum allowed is 20.",
        )
        actions = json.dumps([f"sqs:{n}" for n in range(10)])
        assert await refused(api, "orders", Policy=POLICY.replace('"Action": "*"', f'"Action": {actions}')) == (
            "OverLimit",
            "10 actions were found in a statement from the submitted policy, max allowed is 7",
        )
        many = json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": str(n)} for n in range(22)]})
        assert await refused(api, "orders", Policy=many) == (
            "OverLimit",
            "22 statements were found in the submitted policy, max allowed is 20",
        )

    async def test_a_label_that_isnt_there_cant_be_removed(self, api, add):
        assert await api.refused("RemovePermission", "orders", Label="one") == (
            "InvalidParameterValueException",
            "Value one for parameter Label is invalid. Reason: can't find label.",
        )
        await add("other")
        refusal = await api.refused("RemovePermission", "orders", Label="one")
        assert refusal[1] == "Value one for parameter Label is invalid. Reason: can't find label on existing policy."

    @pytest.mark.parametrize("missing", ["Label", "Actions"])
    async def test_label_and_actions_are_required(self, api, missing):
        request = {"Label": "x", "AWSAccountIds": ["111111111111"], "Actions": ["SendMessage"], missing: None}
        assert await api.refused("AddPermission", "orders", **request) == (
            "MissingRequiredParameterException",
            f"The request must contain the parameter {missing}.",
        )


class TestTags:
    async def test_tags_are_added_overwritten_and_removed(self, api):
        assert await api("ListQueueTags", "orders") == {}
        await api("TagQueue", "orders", Tags={"Tag": "1", "tag": "2", "empty": ""})
        await api("TagQueue", "orders", Tags={"tag": "3"})
        assert await api("ListQueueTags", "orders") == {"Tags": {"Tag": "1", "tag": "3", "empty": ""}}
        await api("UntagQueue", "orders", TagKeys=["tag", "nothing"])
        assert await api("ListQueueTags", "orders") == {"Tags": {"Tag": "1", "empty": ""}}

    async def test_a_queue_can_be_created_with_tags(self, api):
        await api.create("tagged", tags={"a": "b"})
        assert await api("ListQueueTags", "tagged") == {"Tags": {"a": "b"}}

    @pytest.mark.parametrize(
        ("tags", "text"),
        [
            ({str(n): "" for n in range(51)}, "Too many tags added for queue orders."),
            ({"": "x"}, "Tag keys must be between 1 and 128 characters in length."),
            ({"k" * 129: "x"}, "Tag keys must be between 1 and 128 characters in length."),
            ({"\ud800": "x"}, "Tag keys must be between 1 and 128 characters in length."),
            ({"k": "v" * 257}, "Tag values must be between 0 and 256 characters in length."),
            ({"k": "\ud800"}, "Tag values must be between 0 and 256 characters in length."),
            ({"aws:k": "x"}, "Tag key aws:k is invalid. Keys that begin with aws: are reserved."),
        ],
    )
    async def test_tags_have_bounds(self, api, tags, text):
        assert await api.refused("TagQueue", "orders", Tags=tags) == ("InvalidParameterValueException", text)
        assert await api("ListQueueTags", "orders") == {}

    async def test_the_bounds_hold_for_all_tags_together(self, api):
        await api("TagQueue", "orders", Tags={str(n): "" for n in range(50)})
        await api("TagQueue", "orders", Tags={"0": "again"})
        refusal = await api.refused("TagQueue", "orders", Tags={"more": ""})
        assert refusal[1] == "Too many tags added for queue orders."
        new = await api.refused("CreateQueue", QueueName="new", tags={str(n): "" for n in range(51)})
        assert new[1] == "Too many tags added for queue new."

    async def test_something_has_to_be_asked_for(self, api):
        assert (await api.refused("TagQueue", "orders", Tags={}))[1] == "The request must contain the parameter Tags."
        assert (await api.refused("UntagQueue", "orders", TagKeys=[]))[1] == (
            "Tag keys must be between 1 and 128 characters in length."
        )
