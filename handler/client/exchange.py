"""One image -> one answer: the address, the key, what is sent again and what an answer means.

Predictions change nothing at the server, so whatever may have been lost is sent again. What the
service says about the image itself is final.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from handler.client.errors import EndpointError, Refused, Unavailable
from handler.client.keys import CredentialsUnavailable, Keys
from handler.client.retry import RetryPolicy, retry_after
from handler.client.steps import Ask, Pause, Reply, Steps, send

Answer = dict[str, Any]

_ABOUT_THE_IMAGE = {400, 413, 414, 415, 422}
_BUSY = {0, 408, 425, 429, 502, 503}
_BROKE = {500, 504, 507}
_REFUSALS_OF_KEYS = 3  # another process may renew the key between our reading and our sending


class Exchange:
    """The logic that `Client` and `AsyncClient` share.

    Args:
        url: of the service, without a path of its model.
        model: the model's name there.
        version: one of its versions; the default one if None.
        keys: where the key comes from.
        timeout: seconds for one try.
        policy: how patient to be.
        clock: seconds, monotonic.

    Raises:
        EndpointError: ``url`` is no http(s) address.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(
                f"{url!r} is no endpoint; expected something like http://127.0.0.1:8080"
            )
        if parts.query or parts.fragment or parts.username or parts.password:
            raise EndpointError(
                f"an endpoint is an address and a path alone, not {parts.scheme}://"
                f"{parts.hostname}... with a user, a query or a fragment; keys are given apart"
            )
        self.url = url.rstrip("/")
        name = quote(model, safe="")
        self._target = name if version is None else f"{name}/{quote(version, safe='')}"
        self._keys = keys
        self._timeout = timeout
        self._policy = policy
        self._clock = clock

    @property
    def where(self) -> str:
        """Address for people."""
        return f"{self.url}/predictions/{self._target}"

    def predict(self, image: bytes, *, explain: bool) -> Steps[Answer]:
        """The answer to one image; raises what `Client.predict` raises."""
        kind = "explanations" if explain else "predictions"
        url = f"{self.url}/{kind}/{self._target}"
        until = self._clock() + self._policy.deadline
        tries = breakdowns = 0
        said = ""
        while True:
            left = max(0.001, until - self._clock())
            reply, tried = yield from self._once(url, image, min(self._timeout, left))
            tries += tried
            if not is_passing(reply):
                return self._final(reply, image)
            if reply.timed_out and left < self._timeout:
                # It was cut short by the deadline: that says nothing, so let those before speak.
                broke = 0 < breakdowns == tries - 1
                raise Unavailable(self.where, said or describe(reply), tries, broke=broke)
            said = describe(reply)
            breakdowns += is_breakdown(reply)
            if breakdowns >= self._policy.breakdowns:
                raise Unavailable(self.where, said, tries, broke=True)
            wait = self._policy.wait(max(tries, 1), retry_after(reply.headers.get("retry-after")))
            if self._clock() + wait >= until:
                raise Unavailable(self.where, said, tries, broke=0 < breakdowns == tries)
            yield Pause(wait)

    def _once(self, url: str, image: bytes, timeout: float) -> Steps[tuple[Reply, int]]:
        """One try, with another key if the first is refused: the answer, and requests sent."""
        headers = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
        sent = 0
        try:
            key = yield from self._keys.current()
            while True:
                bearer = {} if key is None else {"Authorization": f"Bearer {key}"}
                reply = yield from send(Ask("POST", url, timeout, {**headers, **bearer}, image))
                sent += 1
                if not is_about_the_key(reply):
                    return reply, sent
                refused, key = key, (yield from self._keys.after_refusal(key))
                if key == refused or sent == _REFUSALS_OF_KEYS:
                    raise EndpointError(
                        f"{self.url} does not take the key ({describe(reply)}); give a valid one",
                        reply.status,
                    )
        except CredentialsUnavailable as away:
            return Reply(0, failure=str(away)), sent

    def ready(self, probe: bytes) -> Steps[bool]:
        """Whether ``probe``, an image, is answered at once; raises as `predict`."""
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
                f"{self.where} answers, but not with predictions of a vea model", reply.status
            )
        if reply.status == 413 and not reply.body:
            # TorchServe, and proxies, say nothing more.
            raise Refused(413, f"the image has {len(image)} bytes, more than the service takes")
        if reply.status in _ABOUT_THE_IMAGE:
            raise Refused(reply.status, describe(reply))
        raise EndpointError(f"{self.where} answers: {describe(reply)}", reply.status)


def is_about_the_key(reply: Reply) -> bool:
    """Whether the request was turned away for its key. TorchServe says 400 for that."""
    return reply.status in (401, 403) or (
        reply.status == 400 and kind_of(reply) == "InvalidKeyException"
    )


def is_passing(reply: Reply) -> bool:
    """Whether the same request may be answered when it is sent again."""
    return reply.status in _BUSY or reply.status in _BROKE


def is_breakdown(reply: Reply) -> bool:
    """Whether the service broke down on the request, rather than being busy or away."""
    if reply.status == 503:
        # TorchServe says the same for a full queue and for a handler that raised; the type differs.
        return kind_of(reply) == "InternalServerException"
    return reply.status in _BROKE or reply.timed_out


def kind_of(reply: Reply) -> str | None:
    """The type of an error of TorchServe's own, ``ModelNotFoundException`` for one."""
    document = reply.document()
    return document.get("type") if isinstance(document, dict) else None


def describe(reply: Reply) -> str:
    """What an answer that is no prediction says, one line."""
    if reply.status == 0:
        return reply.failure
    document = reply.document()
    said: Any = document
    if isinstance(document, dict):
        error = document.get("error")
        said = error.get("reason") if isinstance(error, dict) else error
        said = said or document.get("message") or document.get("detail")
    if isinstance(said, str) and said.strip():
        return " ".join(said.split())
    return f"status {reply.status}, without a reason"
