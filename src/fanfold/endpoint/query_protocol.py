"""AWS's query protocol: a form with an `Action`, and XML back. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fanfold.endpoint import forms, xml
from fanfold.endpoint.exchange import Request, Response
from fanfold.endpoint.faults import NO_ACTION, code_of, fault_of, malformed, no_action
from fanfold.endpoint.model import sqs_model
from fanfold.engine.errors import SqsError, invalid_action

CONTENT_TYPE: Final = "text/xml"
_HEAD: Final = '<?xml version="1.0"?>'
_NOT_ON_QUEUES: Final = frozenset({"CreateQueue", "ListQueues"})
"""Actions that a queue's own URL refuses (recorded of SQS)."""


def parse(request: Request) -> tuple[str, dict[str, Any]]:
    """The action and its request, its values of the model's types; what the model doesn't know is dropped.

    Raises:
        SqsError: no action or an unknown one, a form that can't be read, or a value that isn't of its type.
    """
    try:
        form = forms.fields(request.query, request.body.decode())
    except UnicodeDecodeError:
        raise malformed("The form is not UTF-8") from None
    if "Action" not in form:
        raise no_action()
    action = form["Action"]
    known = sqs_model().actions.get(action)
    if known is None or (request.on_queue and action in _NOT_ON_QUEUES):
        raise invalid_action(action)
    return action, forms.bind(known.input, form)


def answer(action: str, result: Mapping[str, Any], request_id: str) -> Response:
    """A success."""
    output = sqs_model().actions[action].output
    inner = "".join(xml.structure(output, result)) if output is not None else ""
    wrapped = (f"<{action}Result>{inner}</{action}Result>" if inner else f"<{action}Result/>") if output else ""
    metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    return _response(200, f'<{action}Response xmlns="{xml.NAMESPACE}">{wrapped}{metadata}</{action}Response>')


def failure(error: SqsError, request_id: str) -> Response:
    """An error."""
    if error.shape == NO_ACTION:
        return _response(error.status, "<UnknownOperationException/>")
    message = xml.text(error.query_message or error.message)
    described = f"<Type>{fault_of(error)}</Type><Code>{xml.text(code_of(error))}</Code><Message>{message}</Message>"
    inner = f"<Error>{described}<Detail/></Error><RequestId>{request_id}</RequestId>"
    return _response(error.status, f'<ErrorResponse xmlns="{xml.NAMESPACE}">{inner}</ErrorResponse>')


def _response(status: int, document: str) -> Response:
    return Response(status, (_HEAD + document).encode(), {"content-type": CONTENT_TYPE})
