"""The protocol of one request: address, key, retries and the meaning of each answer.

A prediction changes nothing on the server, so a request that may have been lost is repeated. An
answer about the image itself is final.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from handler.client.errors import EndpointError, Refused, Unavailable
from handler.client.flow import Flow, Reply, Request, Sleep, send
from handler.client.keys import CredentialsUnavailable, Keys
from handler.client.retry import RetryPolicy, retry_after
from handler.telemetry.traceparent import current_traceparent, valid_traceparent

Answer = dict[str, Any]

_IMAGE_ERRORS = {400, 413, 414, 415, 422}
_BUSY = {0, 408, 425, 429, 502, 503}
_SERVER_ERRORS = {500, 504, 507}
_MAX_KEY_ERRORS = 3  # another process may renew the key after this one has read it


class Exchange:
    """The logic that `Client` and `AsyncClient` share.

    Args:
        url: Address of the service, without the path of a model.
        model: Name of the model on the service.
        version: Version of the model; None for its default version.
        keys: Source of the access key.
        timeout: Seconds allowed for one try.
        policy: Limits on retries.
        traceparent: Trace context of requests where no span surrounds the call.
        clock: Function that returns monotonic seconds.

    Raises:
        EndpointError: ``url`` is not an http(s) address.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        version: str | None,
        keys: Keys,
        timeout: float,
        policy: RetryPolicy,
        traceparent: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(
                f"{url!r} is not an endpoint; expected an address such as http://127.0.0.1:8080"
            )
        if parts.query or parts.fragment or parts.username or parts.password:
            raise EndpointError(
                f"the endpoint {parts.scheme}://{parts.hostname}... must not contain a user, a "
                "query or a fragment; pass the key separately"
            )
        self.url = url.rstrip("/")
        name = quote(model, safe="")
        self._target = name if version is None else f"{name}/{quote(version, safe='')}"
        self._keys = keys
        self._timeout = timeout
        self._policy = policy
        self._traceparent = valid_traceparent(traceparent)
        self._clock = clock

    @property
    def where(self) -> str:
        """Address of the predictions, for messages."""
        return f"{self.url}/predictions/{self._target}"

    def predict(self, image: bytes, *, explain: bool) -> Flow[Answer]:
        """The answer to one image; raises the errors of `Client.predict`."""
        kind = "explanations" if explain else "predictions"
        url = f"{self.url}/{kind}/{self._target}"
        until = self._clock() + self._policy.deadline
        tries = server_errors = 0
        last = ""
        while True:
            left = max(0.001, until - self._clock())
            reply, tried = yield from self._once(url, image, min(self._timeout, left))
            tries += tried
            if not is_transient(reply):
                return self._final(reply, image)
            if reply.timed_out and left < self._timeout:
                # The deadline cut this try short, so only the earlier ones count.
                failed = 0 < server_errors == tries - 1
                raise Unavailable(self.where, last or describe(reply), tries, server_error=failed)
            last = describe(reply)
            server_errors += is_server_error(reply)
            if server_errors >= self._policy.max_server_errors:
                raise Unavailable(self.where, last, tries, server_error=True)
            wait = self._policy.wait(max(tries, 1), retry_after(reply.headers.get("retry-after")))
            if self._clock() + wait >= until:
                failed = 0 < server_errors == tries
                raise Unavailable(self.where, last, tries, server_error=failed)
            yield Sleep(wait)

    def _once(self, url: str, image: bytes, timeout: float) -> Flow[tuple[Reply, int]]:
        """One try, with another key if the first is refused: the reply and the requests sent."""
        headers = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
        if traceparent := current_traceparent() or self._traceparent:
            headers["traceparent"] = traceparent
        sent = 0
        try:
            key = yield from self._keys.current()
            while True:
                bearer = {} if key is None else {"Authorization": f"Bearer {key}"}
                reply = yield from send(Request("POST", url, timeout, {**headers, **bearer}, image))
                sent += 1
                if not is_key_error(reply):
                    return reply, sent
                refused, key = key, (yield from self._keys.after_refusal(key))
                if key == refused or sent == _MAX_KEY_ERRORS:
                    raise EndpointError(
                        f"{self.url} does not accept the key ({describe(reply)}); pass a valid key",
                        reply.status,
                    )
        except CredentialsUnavailable as error:
            return Reply(0, failure=str(error)), sent

    def ready(self, probe: bytes) -> Flow[bool]:
        """Whether the encoded image ``probe`` is scored at the first try.

        Raises:
            EndpointError: There is no valid key.
        """
        reply, _ = yield from self._once(self.where, probe, self._timeout)
        return reply.status == 200

    def _final(self, reply: Reply, image: bytes) -> Answer:
        if reply.status == 200:
            document = reply.document()
            if isinstance(document, dict) and {"name", "version", "digest"} <= set(
                document.get("model") or ()
            ):
                return document
            raise EndpointError(
                f"{self.where} answers, but not with a prediction of a vea model", reply.status
            )
        if reply.status == 413 and not reply.body:
            # TorchServe and proxies give no reason.
            raise Refused(413, f"the image has {len(image)} bytes, more than the service accepts")
        if reply.status in _IMAGE_ERRORS:
            raise Refused(reply.status, describe(reply))
        raise EndpointError(f"{self.where} answers: {describe(reply)}", reply.status)


def is_key_error(reply: Reply) -> bool:
    """Whether the request was refused because of its key; TorchServe answers 400 then."""
    return reply.status in (401, 403) or (
        reply.status == 400 and kind_of(reply) == "InvalidKeyException"
    )


def is_transient(reply: Reply) -> bool:
    """Whether the same request may succeed when it is repeated."""
    return reply.status in _BUSY or reply.status in _SERVER_ERRORS


def is_server_error(reply: Reply) -> bool:
    """Whether the service failed on the request, rather than being busy or absent."""
    if reply.status == 503:
        # TorchServe answers 503 for a full queue and for a handler that raised; the type differs.
        return kind_of(reply) == "InternalServerException"
    return reply.status in _SERVER_ERRORS or reply.timed_out


def kind_of(reply: Reply) -> str | None:
    """The type of an error that TorchServe itself reports, such as ``ModelNotFoundException``."""
    document = reply.document()
    return document.get("type") if isinstance(document, dict) else None


def describe(reply: Reply) -> str:
    """The message of a reply without a prediction, in one line."""
    if reply.status == 0:
        return reply.failure
    document = reply.document()
    message: Any = document
    if isinstance(document, dict):
        error = document.get("error")
        message = error.get("reason") if isinstance(error, dict) else error
        message = message or document.get("message") or document.get("detail")
    if isinstance(message, str) and message.strip():
        return " ".join(message.split())
    return f"status {reply.status}, without a reason"
