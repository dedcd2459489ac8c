"""The query protocol's other answers: JSON, for a request that says `Accept: application/json`. Pure functions.

Recorded of SQS (LocalStack's suite), and shown where API Gateway passes its answers on: members that aren't there are
null, maps are lists of names and values, and two lists begin with a small letter. No SDK asks for it; scripts do.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from fanfold.endpoint import query_protocol
from fanfold.endpoint.exchange import Response
from fanfold.endpoint.faults import NO_ACTION, code_of, fault_of
from fanfold.endpoint.model import Shape, element, entry_names, members, sqs_model
from fanfold.engine.errors import SqsError

CONTENT_TYPE: Final = "application/json"
_SMALL: Final = {"Messages": "messages", "QueueUrls": "queueUrls"}

parse = query_protocol.parse


def answer(action: str, result: Mapping[str, Any], request_id: str) -> Response:
    """A success."""
    output = sqs_model().actions[action].output
    wrapped = {} if output is None else {f"{action}Result": _structure(output, result)}
    return _response(200, {f"{action}Response": {**wrapped, "ResponseMetadata": {"RequestId": request_id}}})


def failure(error: SqsError, request_id: str) -> Response:
    """An error; one that says that this is no request at all is in XML all the same, as on AWS."""
    if error.shape == NO_ACTION:
        return query_protocol.failure(error, request_id)
    text = error.query_message or error.message
    described = {"Type": fault_of(error), "Code": code_of(error), "Message": text, "Detail": None}
    return _response(error.status, {"Error": described, "RequestId": request_id})


def _structure(shape: Shape, values: Mapping[str, Any]) -> dict[str, Any]:
    return {_SMALL.get(name, name): _value(member, values.get(name)) for name, member in members(shape).items()}


def _list(shape: Shape, values: list[Any]) -> list[Any]:
    return [_value(element(shape), value) for value in values]


def _map(shape: Shape, values: Mapping[str, Any]) -> list[Any]:
    key_name, value_name = entry_names(shape)
    return [{key_name: key, value_name: _value(element(shape), value)} for key, value in values.items()]


def _blob(_: Shape, value: bytes) -> str:
    return base64.b64encode(value).decode()


_WRITERS: Final[Mapping[str, Callable[[Shape, Any], Any]]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "blob": _blob,
}


def _value(shape: Shape, value: Any) -> Any:
    write = _WRITERS.get(shape.type_name)
    return value if value is None or write is None else write(shape, value)


def _response(status: int, document: Mapping[str, Any]) -> Response:
    return Response(status, msgspec.json.encode(document), {"content-type": CONTENT_TYPE})
