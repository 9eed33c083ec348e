"""What S3 errors mean: the failure of one object, or the end of the job.

What concerns a single object (missing, forbidden, too large, unreachable after all retries) is
`ObjectUnavailable` and becomes a row of the result. What would concern every further object too
(wrong credentials) is `StorageError` and stops the job with one line, because a million rows that
all say "wrong password" help nobody. Servers answer 403 in both cases; the error code tells them
apart.
"""

from __future__ import annotations

from http.client import responses

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from handler.values.errors import VeaError
from jobs.storage.rate_limit import Closed
from jobs.storage.retry import RetriesExhausted, TransientError

_CREDENTIAL_CODES = frozenset(
    {
        "AccountProblem",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "NotSignedUp",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_CREDENTIAL_ERRORS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)


class StorageError(VeaError):
    """The job cannot go on; the message is one line for people."""


class ObjectUnavailable(Exception):
    """One object cannot be fetched; the others may be fine.

    Attributes:
        kind: ``missing``, ``no-bucket``, ``forbidden``, ``archived``, ``too-large``,
            ``unreachable``, ``bad-location`` or ``refused``.
        reason: Reason in one line, for people.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class NotModified(Exception):
    """An object still has the ETag that the caller knows, so its content was not sent."""


def stopped(refused: ObjectUnavailable, location: object, verb: str) -> StorageError:
    """The error of a job that cannot go on without the object at a location.

    Args:
        refused: Failure of the request.
        location: Location that the request was about.
        verb: Verb that says what the request was to do, such as ``read``.
    """
    return StorageError(f"cannot {verb} {location}: {refused.reason}")


def classify_error(
    error: Exception, *, bucket: str, key: str, endpoint: str
) -> StorageError | ObjectUnavailable:
    """What a failed request for ``key`` in ``bucket`` means.

    Args:
        error: Exception of botocore, or `RetriesExhausted` or `Closed` of the retries.
        bucket: Bucket of the request.
        key: Key of the request, or a prefix.
        endpoint: URL of the server, for people.
    """
    said = one_line(_said(error))
    if isinstance(error, RetriesExhausted):
        said = one_line(_said(error.cause))
        return ObjectUnavailable("unreachable", f"S3 fails after {error.attempts} attempts: {said}")
    if isinstance(error, Closed):
        # Not a failure of the object: a row that says so would count as done later.
        return StorageError("the job is being stopped")
    if isinstance(error, _CREDENTIAL_ERRORS):
        return StorageError(
            f"there are no usable AWS credentials ({said}): set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, ParamValidationError):
        return ObjectUnavailable(
            "bad-location", f"'s3://{bucket}/{key}' is not a valid S3 location"
        )
    if isinstance(error, ClientError):
        return _sort_answer(error, said, bucket, endpoint)
    return ObjectUnavailable("refused", said)


def _sort_answer(
    error: ClientError, said: str, bucket: str, endpoint: str
) -> StorageError | ObjectUnavailable:
    if code_of(error) in _CREDENTIAL_CODES:
        return StorageError(
            f"S3 refuses the credentials ({said}): check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, the region and the clock"
        )
    if code_of(error) == "NoSuchBucket":
        return ObjectUnavailable(
            "no-bucket",
            f"the bucket '{bucket}' does not exist at {endpoint}: check its name, or create it",
        )
    if code_of(error) == "InvalidObjectState":
        return ObjectUnavailable(
            "archived", f"the object is archived and has to be restored first ({said})"
        )
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if status == 404:
        return ObjectUnavailable("missing", "there is no such object")
    if status == 403:
        return ObjectUnavailable("forbidden", f"S3 denies access ({said})")
    return ObjectUnavailable("refused", f"S3 answers {said}")


def code_of(error: ClientError) -> str:
    """The error code of an answer, such as ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _said(error: Exception) -> str:
    if isinstance(error, ClientError):
        return _said_by_server(error)
    return str(error) if isinstance(error, TransientError) else f"{type(error).__name__}: {error}"


def _said_by_server(error: ClientError) -> str:
    """Code and message of an answer; its HTTP status where it has none, such as a proxy's page."""
    message = error.response.get("Error", {}).get("Message") or ""
    if code := code_of(error):
        return f"{code}: {message}" if message else code
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return f"{status}: {message or responses.get(status, '')}"


def one_line(text: str) -> str:
    """The text without line breaks and control characters, cut to fit a message."""
    words = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(words.split())[:200].rstrip(" .:")
