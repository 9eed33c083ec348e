"""What errors of obstore mean: a repetition, the failure of one object, or the end of the job.

obstore has few kinds of errors; what the server answered is in their text. It is taken apart here,
so that objects of all stores fail for the same reasons (see `jobs.storage.errors`).
"""

from __future__ import annotations

import html
import re

from jobs.storage.errors import ObjectUnavailable, StorageError, one_line
from jobs.storage.obstore_connection import CREDENTIALS
from jobs.storage.rate_limit import Closed
from jobs.storage.retry import (
    RetriesExhausted,
    TransientError,
    is_throttling_status,
    is_transient_status,
)
from jobs.values.locations import STORES, ObjectLocation

_DEBUG = "\n\nDebug source"
_ANSWER = re.compile(r" - Server returned non-2xx status code: (\d{3})[^:]*:(?: (.*))?", re.DOTALL)
_TOKEN = "Error performing token request"
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
# Answers that look temporary by their status, and are not.
_FINAL = frozenset({"BlobArchived", "BlobAlreadyExists", "PublicAccessNotPermitted"})
# Azure says so of a wrong key; the code is one of several.
_WRONG_KEY = "failed to authenticate the request"
_UNKNOWN, _MISSING, _DENIED = 401, 404, (401, 403)
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_REFUSED_CREDENTIALS = frozenset(
    {
        "AuthenticationFailed",
        "InvalidAuthenticationInfo",
        "InvalidSecurity",
        "NoAuthenticationInformation",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)


class StoreAnswer(Exception):
    """The server has answered a request with an error that will not go away by itself.

    Attributes:
        status: HTTP status.
        code: Error code, such as ``BlobNotFound``; empty if the answer has none.
        message: Text of the server; empty if the answer has none.
    """

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(f"{code or status}: {message}" if message else code or f"{status}")
        self.status = status
        self.code = code
        self.message = message


class NoToken(Exception):
    """There is no token that requests could carry."""


def answer_in(error: Exception) -> tuple[int, str] | None:
    """Status and body of the server's answer that an error of obstore tells of, if it does."""
    found = _ANSWER.search(said_by(error))
    return (int(found[1]), found[2] or "") if found else None


def said_by(error: Exception) -> str:
    """The text of an error of obstore, without its internals."""
    return str(error).partition(_DEBUG)[0]


def translate(error: Exception) -> Exception:
    """What an error of obstore says: `StoreAnswer`, `NoToken` or `TransientError`."""
    said = said_by(error)
    answer = answer_in(error)
    if _TOKEN in said and not (answer and is_transient_status(answer[0])):
        return NoToken(one_line(said.partition(f"{_TOKEN}: ")[2]))
    if answer:
        return of_answer(*answer)
    if "HTTP error: " in said:
        return TransientError(f"{type(error).__name__}: {said.rpartition(' - ')[2]}")
    if isinstance(error, FileNotFoundError):  # the stores of obstore that are no servers
        return StoreAnswer(404)
    return StoreAnswer(0, type(error).__name__, said.partition("\n")[0])


def of_answer(status: int, body: str, code: str = "") -> Exception:
    """What an answer with an error means.

    Args:
        status: HTTP status.
        body: Body of the answer: XML of the store, or anything else.
        code: Error code, if a header has it.
    """
    code = code or _in(_CODE, body)
    answer = StoreAnswer(status, code, _in(_MESSAGE, body) or body[:200])
    if is_transient_status(status) and code not in _FINAL:
        return TransientError(str(answer), throttled=is_throttling_status(status))
    return answer


def classify_answer(
    error: Exception, location: ObjectLocation, endpoint: str
) -> StorageError | ObjectUnavailable:
    """What a failed request means for its object, or for all.

    Args:
        error: `StoreAnswer`, `NoToken`, or `RetriesExhausted` or `Closed` of the retries.
        location: Location that the request was about.
        endpoint: URL of the server, for people.
    """
    store = STORES[location.scheme]
    if isinstance(error, RetriesExhausted):
        said = one_line(str(error.cause))
        return ObjectUnavailable(
            "unreachable", f"{store} fails after {error.attempts} attempts: {said}"
        )
    if isinstance(error, Closed):
        return StorageError("the job is being stopped")
    if isinstance(error, StoreAnswer):
        return _sort_answer(error, location, endpoint)
    return StorageError(
        f"there are no usable credentials for {store} ({one_line(str(error))}): set "
        f"{CREDENTIALS[location.scheme]}"
    )


def _sort_answer(
    error: StoreAnswer, location: ObjectLocation, endpoint: str
) -> StorageError | ObjectUnavailable:
    store, said = STORES[location.scheme], one_line(str(error))
    # An anonymous request is told so; that is a matter of rights, not of a wrong key.
    unknown = error.status == _UNKNOWN and "nonymous" not in error.message
    if error.code in _REFUSED_CREDENTIALS or unknown or _WRONG_KEY in error.message:
        return StorageError(
            f"{store} refuses the credentials ({said}): check {CREDENTIALS[location.scheme]}, and "
            "the clock"
        )
    if error.code in _NO_BUCKET:
        name = "container" if location.scheme == "az" else "bucket"
        return ObjectUnavailable(
            "no-bucket",
            f"the {name} '{location.bucket}' does not exist at {endpoint}: check its name, or "
            "create it",
        )
    kind, reason = "refused", f"{store} answers {said}"
    if error.code == "BlobArchived":
        kind, reason = "archived", f"the object is archived and has to be restored first ({said})"
    elif error.status == _MISSING:
        kind, reason = "missing", "there is no such object"
    elif error.status in _DENIED or error.code == "PublicAccessNotPermitted":
        kind, reason = "forbidden", f"{store} denies access ({said})"
    return ObjectUnavailable(kind, reason)


def _in(pattern: re.Pattern[str], body: str) -> str:
    found = pattern.search(body)
    return html.unescape(found[1]) if found else ""
