"""What the gateway refuses, as one exception and one form of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response


class GatewayError(Exception):
    """A request that gets no answer from a model.

    Attributes:
        code: HTTP status.
        reason: One line for the client.
        headers: Additional headers of the response.
    """

    def __init__(self, code: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The error document, in the form that the model's own refusals have."""
        return json_response(
            {"error": {"code": self.code, "reason": self.reason}}, self.code, self.headers
        )


def busy(reason: str, seconds: int = 1) -> GatewayError:
    """A 503 that says when to come again."""
    return GatewayError(503, reason, {"Retry-After": str(seconds)})


def json_response(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """``document`` as JSON."""
    text = json.dumps(document, ensure_ascii=False)
    return Response(text.encode(), status, dict(headers or {}), media_type="application/json")
