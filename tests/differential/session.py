"""One endpoint during one sequence: it fills in what is its own, and answers in terms that two endpoints share."""

from __future__ import annotations

import re
from typing import Any

from botocore.exceptions import ClientError

from differential.requests import Handle

NEVER = "never-made.fifo"
_OWN_TIMES = ("SentTimestamp", "ApproximateFirstReceiveTimestamp", "SenderId")
_METHOD = re.compile(r"(?<!^)(?=[A-Z])")


class Session:
    def __init__(self, client, queue, attributes):
        self._client = client
        self._url = client.create_queue(QueueName=queue, Attributes=attributes)["QueueUrl"]
        self._handles: list[str] = []
        self._names: dict[str, str] = {}

    def ask(self, request):
        """The answer, or the error as its code and text, with ids replaced by the order in which they turned up."""
        url = self._url.rsplit("/", 1)[0] + "/" + NEVER if request.elsewhere else self._url
        parameters = {"QueueUrl": url, **self._filled(request.parameters)}
        try:
            answer = getattr(self._client, _METHOD.sub("_", request.action).lower())(**parameters)
        except ClientError as error:
            return {"error": error.response["Error"]["Code"], "text": self._common(error.response["Error"]["Message"])}
        answer.pop("ResponseMetadata")
        return self._answered(answer)

    def close(self):
        self._client.delete_queue(QueueUrl=self._url)

    def _filled(self, value):
        if isinstance(value, Handle):
            # Before anything was received there is no handle: then it is one of nobody's.
            return self._handles[-1 - value.back % len(self._handles)] if self._handles else "no handle yet"
        if isinstance(value, dict):
            return {key: self._filled(inner) for key, inner in value.items()}
        return [self._filled(inner) for inner in value] if isinstance(value, list) else value

    def _answered(self, answer):
        messages = answer.get("Messages", [])
        messages.sort(key=lambda message: int(message["Attributes"].get("SequenceNumber", 0)) or message["Body"])
        self._handles += [message.pop("ReceiptHandle") for message in messages]
        for message in messages:
            for name in _OWN_TIMES:
                message["Attributes"][name] = message["Attributes"][name][:0]
        for part in ("Successful", "Failed"):
            if part in answer:
                answer[part].sort(key=lambda entry: entry["Id"])
        return self._common(answer)

    def _common(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._named(key, inner) for key, inner in sorted(value.items())}
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
