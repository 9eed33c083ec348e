"""Access control for every path, and the headers of every response.

Without API keys the gateway serves programs on this machine and its own page only. A browser also
sends it requests on behalf of any web page, so requests caused by another site are refused, and so
are host names that someone else pointed at this machine (DNS rebinding).
"""

from __future__ import annotations

import logging
import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vea.web.errors import GatewayError
from vea.web.gateway_metrics import GatewayMetrics
from vea.web.keys import KeyRing

OPEN_TO_ALL = ("/healthz", "/readyz", "/openapi.json")
_FOR_KEYS = ("/predictions/", "/explanations/", "/models", "/metrics")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
# Every path here is made of these; what is encoded could be read in two ways.
_PLAIN = re.compile(rb"/(?!/)[A-Za-z0-9._~/-]*")
_TRICKS = re.compile(rb"//|/\.\.?(/|$)")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
}
_log = logging.getLogger("vea.web")
_access = logging.getLogger("vea.web.access")


class AccessControlMiddleware:
    """ASGI middleware: API keys, same-site checks, security headers, metrics and the access log.

    Args:
        app: Application that handles the admitted requests.
        keys: Accepted API keys; None for a gateway on the loopback interface, which needs none.
        metrics: Receives the status and duration of each response.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing | None, metrics: GatewayMetrics) -> None:
        self.app = app
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status, begun_answer = 500, False

        async def answer(message: Message) -> None:
            nonlocal status, begun_answer
            if message["type"] == "http.response.start":
                status, begun_answer = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        owner = "-"
        try:
            owner = self._admit(scope)
            await self.app(scope, receive, answer)
        except GatewayError as error:
            await error.response()(scope, receive, answer)
        except Exception:
            _log.exception("a request failed in the gateway")
            if begun_answer:
                raise  # uvicorn ends the connection
            failure = GatewayError(500, "the gateway failed; its log says why")
            await failure.response()(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - begun
            path = scope.get("raw_path", b"").decode("ascii", "backslashreplace")
            known = "endpoint" in scope
            self._metrics.answered(f"/{path.split('/')[1]}" if known else "other", status, seconds)
            _access.info("%s %s %d %.3f s %s", scope["method"], path[:200], status, seconds, owner)

    def _admit(self, scope: Scope) -> str:
        """The owner of the request's key; raises the error if the request is refused."""
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        if not _PLAIN.fullmatch(path) or _TRICKS.search(path):
            raise GatewayError(404, "there is no such path; /openapi.json lists those there are")
        headers = Headers(scope=scope)
        if self._keys is not None:
            return self._owner(scope["path"], headers)
        self._same_site(scope["method"], headers)
        return "-"

    def _owner(self, path: str, headers: Headers) -> str:
        if not path.startswith(_FOR_KEYS):
            return "-"
        assert self._keys is not None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        owner = self._keys.owner(key.strip()) if scheme.lower() == "bearer" else None
        if owner is None:
            what = "this key is not valid" if key else "an API key is needed"
            raise GatewayError(
                401,
                f"{what}: send one as Authorization: Bearer KEY",
                {"WWW-Authenticate": 'Bearer realm="vea"'},
            )
        return owner

    def _same_site(self, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        name = re.sub(r":\d+$", "", host).lower()
        if name not in _LOOPBACK:
            raise GatewayError(
                421, "this gateway answers to 127.0.0.1 and localhost only; others need API keys"
            )
        if method in ("GET", "HEAD"):
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if (site is not None and site not in ("same-origin", "none")) or (
            origin is not None and origin.lower() != f"http://{host.lower()}"
        ):
            raise GatewayError(403, "another web page caused this request; it may not")
