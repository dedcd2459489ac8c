"""AWS's JSON 1.0 protocol: `X-Amz-Target: AmazonSQS.SendMessage` and a JSON object. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Final, TypedDict

import msgspec

from fanfold.endpoint.exchange import Request, Response
from fanfold.endpoint.faults import code_of, fault_of, malformed, type_of
from fanfold.endpoint.model import Shape, element, members, sqs_model
from fanfold.engine.errors import SqsError, invalid_action

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
_HEADERS: Final = {"content-type": CONTENT_TYPE}
_TARGET_PREFIX: Final = "AmazonSQS."

_SCALARS: Final[Mapping[str, Any]] = {
    "string": str,
    "boolean": bool,
    "blob": bytes,
    "integer": Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)],
    "long": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
}

_MISMATCH: Final = re.compile(r"Expected `(?P<expected>[a-z]+)[^`]*`, got `(?P<got>[a-z]+)`")
_TOKENS: Final = {"str": "STRING_VALUE", "int": "NUMBER_VALUE", "float": "NUMBER_VALUE", "bool": "BOOLEAN_VALUE"}
_WANTED: Final = {"int": "an Integer", "str": "a String", "bytes": "a Blob", "bool": "a Boolean"}

_encode: Final = msgspec.json.Encoder().encode


def parse(request: Request) -> tuple[str, dict[str, Any]]:
    """The action and its request, its values of the model's types; what the model doesn't know is dropped.

    Raises:
        SqsError: an unknown action, not a JSON object, or a value of another type than the model's.
    """
    action, decode = _known(request.headers.get("x-amz-target", ""))
    body = request.body
    try:
        found: dict[str, Any] = decode(body or b"{}")
    except msgspec.ValidationError as error:
        raise malformed(_mismatch(str(error))) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise malformed("The request's body is not a JSON object in UTF-8") from None
    # Message bodies are often JSON themselves, so this may look for nothing; it costs little.
    return action, _without_nulls(found) if b"null" in body else found


def answer(_action: str, result: Mapping[str, Any], _request_id: str) -> Response:
    """A success."""
    return Response(200, _encode(result), _HEADERS)


def failure(error: SqsError, _request_id: str) -> Response:
    """An error."""
    body = _encode({"__type": type_of(error), "message": error.message})
    headers = {**_HEADERS, "x-amzn-query-error": f"{code_of(error)};{fault_of(error)}"}
    return Response(error.status, body, headers)


@cache
def _known(target: str) -> tuple[str, Callable[[bytes], Any]]:
    """The action of a target, and what decodes its requests. Raises SqsError; only what is there is kept."""
    action = target.removeprefix(_TARGET_PREFIX)
    if action not in sqs_model().actions or not target.startswith(_TARGET_PREFIX):
        raise invalid_action(target)
    return action, msgspec.json.Decoder(_type(sqs_model().actions[action].input)).decode


@cache
def _type(shape: Shape) -> Any:
    """The type that msgspec checks a value of this shape against while it decodes it. Null stands for no value."""
    if shape.type_name == "structure":
        fields = {name: _type(member) | None for name, member in members(shape).items()}
        return TypedDict(shape.name, fields, total=False)  # type: ignore[operator] # made at run time, from the model
    if shape.type_name == "list":
        return list[_type(element(shape))]  # type: ignore[misc] # as above
    if shape.type_name == "map":
        return dict[str, _type(element(shape))]  # type: ignore[misc] # as above
    return _SCALARS[shape.type_name]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _mismatch(text: str) -> str:
    """AWS's text for a value of the wrong type, from msgspec's."""
    found = _MISMATCH.match(text)
    if found is None:
        return text
    if found["got"] == "object":
        return "Start of structure or map found where not expected."
    if found["got"] == "array":
        return "Start of list found where not expected."
    wanted = _WANTED.get(found["expected"])
    return (
        f"{_TOKENS.get(found['got'], 'NULL')} can not be converted to {wanted}" if wanted else "Expected list or null"
    )
