"""Errors of the client: why there is no prediction."""

from __future__ import annotations

from handler.values.errors import VeaError


class Refused(VeaError):
    """The service refuses this image; repeating the request does not help.

    Attributes:
        status: HTTP status, 4xx.
        reason: Explanation in one line.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)  # all of them, so that it can be pickled
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} (status {self.status})"


class EndpointError(VeaError):
    """The endpoint cannot be used as configured: wrong address, model, key or server.

    Repeating the request does not help; the message says what to change.

    Attributes:
        message: Explanation in one line.
        status: HTTP status of the answer; 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


class Unavailable(VeaError):
    """No answer within the allowed time or number of tries; a later call may succeed.

    Attributes:
        where: Address of the service.
        reason: Outcome of the last try, in one line.
        tries: Number of requests sent.
        server_error: Whether the service failed on this very request at every try, so that the
            request may be the cause; otherwise the service was busy or absent.
    """

    def __init__(self, where: str, reason: str, tries: int, server_error: bool = False) -> None:
        super().__init__(where, reason, tries, server_error)
        self.where = where
        self.reason = reason
        self.tries = tries
        self.server_error = server_error

    def __str__(self) -> str:
        times = "1 try" if self.tries == 1 else f"{self.tries} tries"
        return f"no answer from {self.where} after {times}: {self.reason}"
