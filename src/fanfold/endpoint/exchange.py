"""One request and its answer, as values: what the protocols, the signatures and the log work on."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

Headers = Mapping[str, str]


class Request(Struct, frozen=True, kw_only=True):
    """An HTTP request: its head, and its body once that was read.

    `path` is as the client sent it, percent-encoded; so is `query`. Header names are lower case; a header that came
    several times has its values joined by commas, as signatures have it. `client` is its address, for the log.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = b""
    scheme: str = "http"
    client: str = ""

    @property
    def on_queue(self) -> bool:
        """Whether it was sent to a queue's own URL."""
        return self.path not in ("", "/")

    @property
    def base_url(self) -> str:
        """What the client calls this server: queue URLs begin with it."""
        return f"{self.scheme}://{self.headers.get('host', '')}"


class Response(Struct, frozen=True):
    """What goes back. `last` ends the connection; `headers` are those that aren't said otherwise."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    request_id: str = ""
    last: bool = False
