"""What a client tells its caller when there is no prediction."""

from __future__ import annotations

from handler.values.errors import VeaError


class Refused(VeaError):
    """The service will not score this image, however often it is sent.

    Attributes:
        status: HTTP status, 4xx.
        reason: one line.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)  # all of them, so that it can be pickled
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} (status {self.status})"


class EndpointError(VeaError):
    """Nothing can be asked of this endpoint as it is: wrong address, model, key or server.

    Sending again does not help; the message says what to change.

    Attributes:
        status: HTTP status of the answer; 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


class Unavailable(VeaError):
    """No answer in the time or the number of tries allowed; later there may be one.

    Attributes:
        where: the address that was asked.
        reason: what the last try came to, one line.
        tries: requests sent.
        broke: whether the service broke down on this very request every time, so that the request
            may be the cause; else it was busy or away.
    """

    def __init__(self, where: str, reason: str, tries: int, broke: bool = False) -> None:
        super().__init__(where, reason, tries, broke)
        self.where = where
        self.reason = reason
        self.tries = tries
        self.broke = broke

    def __str__(self) -> str:
        times = "once" if self.tries == 1 else f"{self.tries} times"
        return f"no answer from {self.where}, asked {times}: {self.reason}"
