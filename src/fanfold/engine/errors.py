"""What SQS answers where it refuses a request."""

from __future__ import annotations


class SqsError(Exception):
    """An error as the SQS API has it: the model's name for it, its text, and what HTTP makes of it."""

    def __init__(
        self,
        shape: str,
        message: str,
        *,
        status: int = 400,
        sender_fault: bool = True,
        query_message: str | None = None,
    ) -> None:
        super().__init__(message)
        self.shape = shape
        self.message = message
        self.status = status
        self.sender_fault = sender_fault
        self.query_message = query_message
