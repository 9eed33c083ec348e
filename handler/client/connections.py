"""How both drivers use httpx2: client options, requests, and the meaning of its errors."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2

from handler.client.flow import Reply, Request


def client_kwargs(max_connections: int | None) -> dict[str, Any]:
    """Keyword arguments for `httpx2.Client` and `httpx2.AsyncClient`.

    Args:
        max_connections: Number of connections that may be open at a time and are kept for later
            requests; None for any number, none of which is kept.
    """
    return {
        # A proxy out of the environment must not see the keys, nor .netrc replace them.
        "trust_env": False,
        "follow_redirects": False,
        # A cookie of one answer must not go out with the request of another caller.
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        "limits": httpx2.Limits(
            max_connections=max_connections, max_keepalive_connections=max_connections or 0
        ),
    }


def request_kwargs(request: Request) -> dict[str, Any]:
    """Keyword arguments for the method ``request`` of an httpx2 client."""
    return {
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
        "content": request.body,
        "timeout": request.timeout,
    }


def reply_of(response: httpx2.Response) -> Reply:
    """The reply in a complete response."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.content)


def failure_of(error: httpx2.TransportError) -> Reply:
    """The reply that stands for a failed request.

    Messages of httpx2 contain no headers, hence no keys.
    """
    slow = isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout)
    if slow:
        return Reply(0, failure="the service did not answer in time", timed_out=True)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Reply(0, failure=f"no connection to the service ({error or 'timeout'})")
    return Reply(0, failure=f"the connection was lost ({error or type(error).__name__})")
