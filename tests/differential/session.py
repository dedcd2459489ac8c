"""One endpoint during one sequence: it fills in what is its own, and answers in terms that two endpoints share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from differential.requests import Handle

NEVER = "never-made.fifo"
_OWN_TIMES = ("SentTimestamp", "ApproximateFirstReceiveTimestamp", "SenderId")
_NO_ATTRIBUTES = ("MD5OfMessageAttributes", "d41d8cd98f00b204e9800998ecf8427e")
"""The digest of nothing, which some send and some leave out."""
_METHOD = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True)
class Refusal:
    """An error. Two are the same by their code: its text is compared with AWS's own by the recorded suites."""

    code: str
    text: str = field(compare=False)


class Session:
    def __init__(self, client, queue, attributes):
        self._client = client
        self._url = client.create_queue(QueueName=queue, Attributes=attributes)["QueueUrl"]
        self._handles: list[str] = []
        self._names: dict[str, str] = {}

    def ask(self, request):
        """The answer, or the error, with ids replaced by the order in which they turned up."""
        url = self._url.rsplit("/", 1)[0] + "/" + NEVER if request.elsewhere else self._url
        parameters = {"QueueUrl": url, **self._filled(request.parameters)}
        try:
            answer = getattr(self._client, _METHOD.sub("_", request.action).lower())(**parameters)
        except ClientError as error:
            return Refusal(error.response["Error"]["Code"], error.response["Error"]["Message"])
        answer.pop("ResponseMetadata")
        return self._answered(answer)

    def meant(self, value):
        """A request's parameters with its handles counted round: of two that came, the third is the first."""
        if isinstance(value, Handle):
            return Handle(value.back % max(1, len(self._handles)))
        if isinstance(value, dict):
            return {key: self.meant(inner) for key, inner in value.items()}
        return [self.meant(inner) for inner in value] if isinstance(value, list) else value

    def close(self):
        self._client.delete_queue(QueueUrl=self._url)

    def _filled(self, value):
        if isinstance(value, Handle):
            # Before anything was received there is no handle: then it is one of nobody's.
            return self._handles[-1 - value.back] if self._handles else "no handle yet"
        if isinstance(value, dict):
            return {key: self._filled(inner) for key, inner in value.items()}
        return [self._filled(inner) for inner in value] if isinstance(value, list) else value

    def _answered(self, answer):
        messages = answer.get("Messages", [])
        messages.sort(key=lambda message: int(message["Attributes"].get("SequenceNumber", 0)) or message["Body"])
        self._handles += [message.pop("ReceiptHandle") for message in messages]
        for message in messages:
            if not message.get("MessageAttributes"):
                message.pop("MessageAttributes", None)
            for name in _OWN_TIMES:
                message["Attributes"][name] = message["Attributes"][name][:0]
        for part in ("Successful", "Failed"):
            answer.get(part, []).sort(key=lambda entry: entry["Id"])
        for failed in answer.get("Failed", ()):
            del failed["SenderFault"], failed["Message"]  # not the same in any two implementations
            failed["Code"] = failed["Code"].removesuffix("Exception")  # LocalStack's is the name of a Python class
        for sent in (answer, *answer.get("Successful", ())):
            sent.pop("SequenceNumber", None)  # LocalStack gives a duplicate a new one; what is received is compared
        return self._common({part: value for part, value in answer.items() if value != []})

    def _common(self, value: Any) -> Any:
        if isinstance(value, dict):
            named = ((key, self._named(key, inner)) for key, inner in sorted(value.items()))
            return {key: inner for key, inner in named if (key, inner) != _NO_ATTRIBUTES}
        if isinstance(value, list):
            return [self._common(inner) for inner in value]
        if isinstance(value, str):
            for handle in self._handles:
                value = value.replace(handle, "<handle>")
        return value

    def _named(self, key, value):
        if key in ("MessageId", "SequenceNumber"):
            return self._names.setdefault(value, f"{key} {len(self._names)}")
        return self._common(value)
